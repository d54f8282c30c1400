// SPDX-License-Identifier: GPL-2.0-only
/*
 * inode_just_drop(): the drop_inode of a file system that keeps no unused inodes, earlier
 * generic_delete_inode().
 *
 * Since:  6.18, f99b3917789d ("fs: rename generic_delete_inode() and generic_drop_inode()")
 * Names:  inode_just_drop
 * Delete: when the oldest supported kernel is 6.18 or newer
 */
#include <linux/fs.h>

static const struct super_operations probe __maybe_unused = {
	.drop_inode = inode_just_drop,
};
