// SPDX-License-Identifier: GPL-2.0-only
/*
 * copy_splice_read(): splices by way of read_iter into fresh pages.
 *
 * Since:  6.5, commit unknown
 * Names:  copy_splice_read
 * Delete: when the oldest supported kernel is 6.5 or newer
 */
#include <linux/fs.h>

static const struct file_operations probe __maybe_unused = {
	.splice_read = copy_splice_read,
};
