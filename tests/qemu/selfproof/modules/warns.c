// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: warns while it is loaded.
 */
#include <linux/module.h>

static int __init warns_init(void)
{
	WARN(1, "on purpose\n");
	return 0;
}

static void __exit warns_exit(void)
{
}

module_init(warns_init);
module_exit(warns_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
