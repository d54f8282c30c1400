// SPDX-License-Identifier: GPL-2.0-only
/*
 * UFFDIO_POISON in the header of userfaultfd(2): its number, struct and feature bit.
 *
 * Since:  6.6 (area: mm, userfaultfd)
 * Names:  UFFDIO_POISON
 * Delete: when the oldest supported kernel is 6.6 or newer
 */
#include <linux/ioctl.h>
#include <linux/userfaultfd.h>

static inline __u64 probe(struct uffdio_poison *args)
{
	args->mode = UFFDIO_POISON_MODE_DONTWAKE;
	return UFFDIO_POISON + _UFFDIO_POISON + UFFD_FEATURE_POISON;
}
