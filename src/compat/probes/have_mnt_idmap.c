// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inode operations get a struct mnt_idmap where they got a struct user_namespace.
 *
 * Since:  6.3, c1632a0f1120 ("fs: port ->setattr() to pass mnt_idmap")
 * Names:  mnt_idmap nop_mnt_idmap
 * Delete: when the oldest supported kernel is 6.3 or newer
 */
#include <linux/fs.h>

static inline int probe(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	if (!idmap)
		idmap = &nop_mnt_idmap;
	return setattr_prepare(idmap, dentry, attr);
}

static const struct inode_operations probe_iops __maybe_unused = {
	.setattr = probe,
};
