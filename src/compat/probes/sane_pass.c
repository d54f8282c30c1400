// SPDX-License-Identifier: GPL-2.0-only
/*
 * Must compile on every kernel that there is: what it uses is older than the oldest we support.
 * When it does not, the compiler or the headers are broken, and every other 'no' means nothing.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>

static inline void probe(struct folio *folio)
{
	if (!folio_test_uptodate(folio))
		folio_mark_uptodate(folio);
	folio_put(folio);
}
