// SPDX-License-Identifier: GPL-2.0-only
/*
 * The flags of __filemap_get_folio() have a type of their own, fgf_t. It stands for what cannot be
 * seen in a declaration: a page that is not there is an ERR_PTR, not NULL (6.4, 66dabbb65d67, "mm:
 * return an ERR_PTR from __filemap_get_folio"). fgf_t changed the same lines two releases later,
 * so no kernel has it without the ERR_PTR; one with the ERR_PTR alone is served by the fallback as
 * well, for that passes an ERR_PTR through.
 *
 * Since:  6.6, commit unknown
 * Names:  fgf_t filemap_get_folio filemap_lock_folio __filemap_get_folio
 * Delete: when the oldest supported kernel is 6.6 or newer
 */
#include <linux/pagemap.h>

static inline struct folio *probe(struct address_space *mapping, fgf_t flags)
{
	if (flags & FGP_LOCK)
		return __filemap_get_folio(mapping, 0, flags, 0);
	if (flags)
		return filemap_lock_folio(mapping, 0);
	return filemap_get_folio(mapping, 0);
}
