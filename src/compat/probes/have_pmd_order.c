// SPDX-License-Identifier: GPL-2.0-only
/*
 * PMD_ORDER: the order of a folio that one entry of a page middle directory maps.
 *
 * Since:  6.12 or before, commit unknown
 * Names:  PMD_ORDER
 * Delete: when the oldest supported kernel is 6.12 or newer
 */
#include <linux/pgtable.h>

static inline int probe(void)
{
	return PMD_ORDER;
}
