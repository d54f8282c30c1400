// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: forgets memory that it allocated.
 */
#include <linux/module.h>
#include <linux/slab.h>

/*
 * Many, for the allocator keeps stale pointers to what it handed out last (per-CPU sheaves), and those count as
 * references: a leak of a few objects may go unseen.
 */
#define OBJECTS 1000

static void *volatile forgotten;

static int __init leaks_memory_init(void)
{
	for (int i = 0; i < OBJECTS; i++) {
		forgotten = kmalloc(1000, GFP_KERNEL);
		if (!forgotten)
			return -ENOMEM;
	}
	forgotten = NULL;
	return 0;
}

static void __exit leaks_memory_exit(void)
{
}

module_init(leaks_memory_init);
module_exit(leaks_memory_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
