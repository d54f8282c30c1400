// SPDX-License-Identifier: GPL-2.0-only
/*
 * Accessors of an inode's mtime and atime.
 *
 * Since:  6.7, commit unknown ("fs: new accessor methods for atime and mtime")
 * Names:  inode_set_mtime_to_ts inode_get_mtime inode_set_atime_to_ts inode_get_atime
 * Delete: when the oldest supported kernel is 6.7 or newer
 */
#include <linux/fs.h>

static inline void probe(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, inode_get_mtime(inode));
	inode_set_atime_to_ts(inode, inode_get_atime(inode));
}
