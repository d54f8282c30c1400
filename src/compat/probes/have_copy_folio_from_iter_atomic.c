// SPDX-License-Identifier: GPL-2.0-only
/*
 * copy_folio_from_iter_atomic(): copies from an iterator into a folio of any size, never faulting.
 *
 * Since:  6.6, 1b0306981e0f ("iov_iter: Add copy_folio_from_iter_atomic()")
 * Names:  copy_folio_from_iter_atomic
 * Delete: when the oldest supported kernel is 6.6 or newer
 */
#include <linux/uio.h>

static inline size_t probe(struct folio *folio, struct iov_iter *iter)
{
	return copy_folio_from_iter_atomic(folio, 0, 1, iter);
}
