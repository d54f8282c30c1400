// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: taints the kernel with its licence.
 */
#include <linux/module.h>

static int __init proprietary_init(void)
{
	return 0;
}

static void __exit proprietary_exit(void)
{
}

module_init(proprietary_init);
module_exit(proprietary_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("Proprietary");
