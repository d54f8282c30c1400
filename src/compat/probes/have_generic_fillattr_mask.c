// SPDX-License-Identifier: GPL-2.0-only
/*
 * generic_fillattr() is told which attributes were asked for.
 *
 * Since:  6.6, 0d72b92883c6 ("fs: pass the request_mask to generic_fillattr")
 * Names:  generic_fillattr
 * Delete: when the oldest supported kernel is 6.6 or newer
 */
#include <linux/fs.h>

static inline void probe(struct mnt_idmap *idmap, struct inode *inode, struct kstat *stat)
{
	generic_fillattr(idmap, STATX_BASIC_STATS, inode, stat);
}
