// SPDX-License-Identifier: GPL-2.0-only
/*
 * vma_start_write(): waits for the faults that are under way under a VMA's own lock.
 *
 * Since:  6.4 (per-VMA locks)
 * Names:  vma_start_write
 * Delete: when the oldest supported kernel is 6.4 or newer
 */
#include <linux/mm.h>

static inline void probe(struct vm_area_struct *vma)
{
	vma_start_write(vma);
}
