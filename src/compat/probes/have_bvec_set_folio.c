// SPDX-License-Identifier: GPL-2.0-only
/*
 * bvec_set_folio(): points a bio_vec at a part of a folio.
 *
 * Since:  6.12 or before, commit unknown ("block: add a bvec_set_folio helper")
 * Names:  bvec_set_folio
 * Delete: when the oldest supported kernel is 6.12 or newer
 */
#include <linux/bvec.h>

static inline void probe(struct bio_vec *bvec, struct folio *folio)
{
	bvec_set_folio(bvec, folio, 1, 0);
}
