// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not broken: with this the bench has to be green, or its being red would say nothing about the others.
 */
#include <linux/module.h>

static int __init fine_init(void)
{
	return 0;
}

static void __exit fine_exit(void)
{
}

module_init(fine_init);
module_exit(fine_exit);

MODULE_DESCRIPTION("Not broken, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
