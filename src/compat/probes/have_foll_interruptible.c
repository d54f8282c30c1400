// SPDX-License-Identifier: GPL-2.0-only
/*
 * FOLL_INTERRUPTIBLE: get_user_pages() breaks off for any signal. It came together with KVM's use
 * of it.
 *
 * Since:  6.2, commit 93c5c61d9e58 ("mm/gup: Add FOLL_INTERRUPTIBLE")
 * Names:  FOLL_INTERRUPTIBLE
 * Delete: when the oldest supported kernel is 6.2 or newer
 */
#include <linux/mm.h>

static inline unsigned int probe(unsigned int flags)
{
	return flags | FOLL_INTERRUPTIBLE;
}
