// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken on purpose: leaves a directory in debugfs behind, and its slab cache.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/slab.h>

static struct kmem_cache *cache;

static int __init leaks_cache_init(void)
{
	cache = kmem_cache_create("leaks_cache", 123, 0, SLAB_ACCOUNT, NULL);
	if (!cache)
		return -ENOMEM;
	debugfs_create_dir("leaks_cache", NULL);
	return 0;
}

static void __exit leaks_cache_exit(void)
{
}

module_init(leaks_cache_init);
module_exit(leaks_cache_exit);

MODULE_DESCRIPTION("Broken on purpose, for the self-proof of the test bench");
MODULE_LICENSE("GPL");
