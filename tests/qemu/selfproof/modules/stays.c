// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: holds a reference to itself and can never be unloaded.
 */
#include <linux/module.h>

static int __init stays_init(void)
{
	__module_get(THIS_MODULE);
	return 0;
}

static void __exit stays_exit(void)
{
}

module_init(stays_init);
module_exit(stays_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
