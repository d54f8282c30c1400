// SPDX-License-Identifier: GPL-2.0-only
/*
 * Must not compile: it passes a pointer of another type. When it does compile, an old signature
 * passes for the new one, and every other 'yes' means nothing.
 */
#include <linux/fs.h>
#include <linux/mm.h>

static inline void probe(struct inode *inode)
{
	folio_put(inode);
}
