// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: takes two locks in one order and then in the other.
 */
#include <linux/module.h>
#include <linux/mutex.h>

static DEFINE_MUTEX(one);
static DEFINE_MUTEX(two);

static int __init locks_twice_init(void)
{
	mutex_lock(&one);
	mutex_lock(&two);
	mutex_unlock(&two);
	mutex_unlock(&one);

	mutex_lock(&two);
	mutex_lock(&one);
	mutex_unlock(&one);
	mutex_unlock(&two);
	return 0;
}

static void __exit locks_twice_exit(void)
{
}

module_init(locks_twice_init);
module_exit(locks_twice_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
