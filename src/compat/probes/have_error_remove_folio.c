// SPDX-License-Identifier: GPL-2.0-only
/*
 * address_space_operations.error_remove_folio, earlier error_remove_page.
 * Two members of two types: no fallback can give the old one the new name, hence the macros.
 *
 * Since:  6.8, af7628d6ec19 ("fs: convert error_remove_page to error_remove_folio")
 * Names:  GMEMFD_AOP_ERROR_REMOVE GMEMFD_DEFINE_ERROR_REMOVE
 * Delete: when the oldest supported kernel is 6.8 or newer
 */
#include <linux/fs.h>

#ifndef GMEMFD_AOP_ERROR_REMOVE
#define GMEMFD_DEFINE_ERROR_REMOVE(fn)
#define GMEMFD_AOP_ERROR_REMOVE(fn) .error_remove_folio = fn
#endif

static inline int probe(struct address_space *mapping, struct folio *folio)
{
	return 0;
}

GMEMFD_DEFINE_ERROR_REMOVE(probe)

static const struct address_space_operations probe_aops __maybe_unused = {
	GMEMFD_AOP_ERROR_REMOVE(probe),
};
