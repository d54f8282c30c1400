// SPDX-License-Identifier: GPL-2.0-only
/*
 * UFFDIO_CONTINUE_MODE_WP in the header of userfaultfd(2).
 *
 * Since:  6.4 (area: mm, userfaultfd)
 * Names:  UFFDIO_CONTINUE_MODE_WP
 * Delete: when the oldest supported kernel is 6.4 or newer
 */
#include <linux/userfaultfd.h>

static inline __u64 probe(void)
{
	return UFFDIO_CONTINUE_MODE_WP;
}
