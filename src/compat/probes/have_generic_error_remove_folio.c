// SPDX-License-Identifier: GPL-2.0-only
/*
 * generic_error_remove_folio(): drops a folio whose memory has failed, earlier
 * generic_error_remove_page().
 *
 * Since:  6.8, af7628d6ec19 ("fs: convert error_remove_page to error_remove_folio")
 * Names:  generic_error_remove_folio
 * Delete: when the oldest supported kernel is 6.8 or newer
 */
#include <linux/mm.h>

static inline int probe(struct address_space *mapping, struct folio *folio)
{
	return generic_error_remove_folio(mapping, folio);
}
