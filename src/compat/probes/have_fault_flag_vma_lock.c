// SPDX-License-Identifier: GPL-2.0-only
/*
 * FAULT_FLAG_VMA_LOCK: tells a fault under the per-VMA lock from one under the mmap lock.
 *
 * Since:  6.4, commit unknown (per-VMA locks)
 * Names:  FAULT_FLAG_VMA_LOCK
 * Delete: when the oldest supported kernel is 6.4 or newer
 */
#include <linux/mm.h>

static inline bool probe(struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_VMA_LOCK;
}
