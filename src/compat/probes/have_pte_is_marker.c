// SPDX-License-Identifier: GPL-2.0-only
/*
 * pte_is_marker(): whether a page table entry stands for no page, but says something about it.
 *
 * Since:  6.19 or thereabouts, with <linux/leafops.h> (release not certain)
 * Names:  pte_is_marker
 * Delete: when the oldest supported kernel has <linux/leafops.h>
 */
#include <linux/mm.h>
#if __has_include("linux/leafops.h")
#include <linux/leafops.h>
#endif

static inline bool probe(pte_t pte)
{
	return pte_is_marker(pte);
}
