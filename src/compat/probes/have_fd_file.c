// SPDX-License-Identifier: GPL-2.0-only
/*
 * fd_file() and fd_empty(): struct fd keeps its pointer and its flags in one word.
 *
 * Since:  6.12, 1da91ea87aef ("introduce fd_file(), convert all accessors to it.")
 * Names:  fd_file fd_empty
 * Delete: when the oldest supported kernel is 6.12 or newer
 */
#include <linux/file.h>

static inline struct file *probe(struct fd f)
{
	return fd_empty(f) ? NULL : fd_file(f);
}
