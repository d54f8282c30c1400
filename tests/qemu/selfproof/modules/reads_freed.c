// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: reads memory that it has freed.
 */
#include <linux/module.h>
#include <linux/slab.h>

static char *volatile freed;

static int __init reads_freed_init(void)
{
	freed = kmalloc(100, GFP_KERNEL);
	if (!freed)
		return -ENOMEM;
	kfree(freed);
	pr_info("%d\n", freed[10]);
	return 0;
}

static void __exit reads_freed_exit(void)
{
}

module_init(reads_freed_init);
module_exit(reads_freed_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
