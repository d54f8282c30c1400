// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: reads through a bad pointer while it is unloaded.
 */
#include <linux/module.h>

static int *volatile bad = (int *)16;

static int __init oopses_init(void)
{
	return 0;
}

static void __exit oopses_exit(void)
{
	pr_info("%d\n", *bad);
}

module_init(oopses_init);
module_exit(oopses_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
