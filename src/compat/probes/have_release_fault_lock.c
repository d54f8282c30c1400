// SPDX-License-Identifier: GPL-2.0-only
/*
 * release_fault_lock(): drops whichever lock a fault came with.
 *
 * Since:  6.6, commit unknown ("mm: handle userfaults under VMA lock")
 * Names:  release_fault_lock
 * Delete: when the oldest supported kernel is 6.6 or newer
 */
#include <linux/mm.h>

static inline void probe(struct vm_fault *vmf)
{
	release_fault_lock(vmf);
}
