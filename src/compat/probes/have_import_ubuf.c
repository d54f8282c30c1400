// SPDX-License-Identifier: GPL-2.0-only
/*
 * import_ubuf(): an iterator over one buffer of user space, its length and address checked.
 *
 * Since:  6.3, 2ad9bd8332ac ("iov: add import_ubuf()")
 * Names:  import_ubuf
 * Delete: when the oldest supported kernel is 6.3 or newer
 */
#include <linux/uio.h>

static inline int probe(void __user *buf, struct iov_iter *iter)
{
	return import_ubuf(ITER_SOURCE, buf, 1, iter);
}
