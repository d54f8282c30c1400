// SPDX-License-Identifier: GPL-2.0-only
/*
 * copy_folio_from_iter(): copies from an iterator into a folio of any size, faulting.
 *
 * Since:  6.12 or before, commit unknown
 * Names:  copy_folio_from_iter
 * Delete: when the oldest supported kernel is 6.12 or newer
 */
#include <linux/uio.h>

static inline size_t probe(struct folio *folio, struct iov_iter *iter)
{
	return copy_folio_from_iter(folio, 0, 1, iter);
}
