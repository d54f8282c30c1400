// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the inode of a gmem file: its pseudo file system, its making, its
 * attributes and counters, and its end.
 */
#include <linux/file.h>
#include <linux/huge_mm.h>
#include <linux/memcontrol.h>
#include <linux/migrate.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/nodemask.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "gmemfd.h"

#define GMEM_MAGIC	0x676d656d	/* "gmem" */

static struct kmem_cache *gmem_cache;
/*
 * There is a mount as long as there is a file: so the last use of a file, in the
 * kernel's own code, is what lets the module go, and not a moment before.
 */
static struct vfsmount *gmem_mnt;
static int gmem_mnt_count;

static struct inode *gmem_alloc_inode(struct super_block *sb)
{
	struct gmem *gmem = alloc_inode_sb(sb, gmem_cache, GFP_KERNEL);

	if (!gmem)
		return NULL;
	gmem->granule_order = 0;
	gmem->node = NUMA_NO_NODE;
	gmem->policy = GMEMFD_POLICY_POISON;
	gmem->memcg = NULL;
	gmem->watches = RB_ROOT_CACHED;
	xa_init_flags(&gmem->poison, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&gmem->maps);
	gmem->bindings = RB_ROOT;
	gmem->nr_bindings = 0;
	atomic_set(&gmem->nr_waiters, 0);
	atomic_set(&gmem->nr_standing, 0);
	gmem->nr_watches = 0;
	gmem->nr_orphans = 0;
	memset(gmem->stats, 0, sizeof(gmem->stats));
	memset(gmem->wait_log2, 0, sizeof(gmem->wait_log2));
	return &gmem->inode;
}

static void gmem_free_inode(struct inode *inode)
{
	kmem_cache_free(gmem_cache, gmem_of(inode));
}

static void gmem_evict_inode(struct inode *inode)
{
	struct gmem *gmem = gmem_of(inode);

	gmem_watch_file_gone(gmem);
	gmem_kvm_file_gone(gmem);
	truncate_inode_pages_final(inode->i_mapping);
	clear_inode(inode);
	WARN_ON_ONCE(atomic_read(&gmem->nr_waiters));
	WARN_ON_ONCE(atomic_read(&gmem->nr_standing));
	gmem_store_end(gmem);
	mem_cgroup_put(gmem->memcg);
}

static const struct super_operations gmem_super_ops = {
	.alloc_inode = gmem_alloc_inode,
	.free_inode = gmem_free_inode,
	.evict_inode = gmem_evict_inode,
	.drop_inode = inode_just_drop,
	.statfs = simple_statfs,
};

static int gmem_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, GMEM_MAGIC);

	if (!ctx)
		return -ENOMEM;
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	ctx->ops = &gmem_super_ops;
	return 0;
}

static struct file_system_type gmem_fs = {
	.owner = THIS_MODULE,
	.name = "gmemfd",
	.init_fs_context = gmem_init_fs_context,
	.kill_sb = kill_anon_super,
};

/* Blocks are the pages that have content. */
static int gmem_getattr(struct mnt_idmap *idmap, const struct path *path,
			struct kstat *stat, u32 request_mask,
			unsigned int query_flags)
{
	struct inode *inode = d_inode(path->dentry);

	generic_fillattr(idmap, request_mask, inode, stat);
	stat->blocks = (u64)inode->i_mapping->nrpages << (PAGE_SHIFT - 9);
	stat->blksize = gmem_granule_pages(gmem_of(inode)) << PAGE_SHIFT;
	return 0;
}

/*
 * The size is fixed; setting it to what it is may stand, for VMMs that do so
 * with every file that they are given. Owner and mode decide who may open the file
 * through /proc/PID/fd.
 */
static int gmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;
	if (attr->ia_valid & ATTR_SIZE && attr->ia_size != i_size_read(inode))
		return -EINVAL;
	setattr_copy(idmap, inode, attr);
	return 0;
}

static int gmem_error_remove_folio(struct address_space *mapping,
				   struct folio *folio)
{
	struct gmem *gmem = gmem_of(mapping->host);
	pgoff_t index = folio->index;
	int err = gmem_store_lose(gmem, folio);

	/* Who waited for it to open waits no longer. */
	if (!err)
		gmem_trap_wake(gmem, index, index);
	return err;
}

GMEMFD_DEFINE_ERROR_REMOVE(gmem_error_remove_folio)

static const struct address_space_operations gmem_aops = {
	.dirty_folio = noop_dirty_folio,
	.migrate_folio = migrate_folio,
	GMEMFD_AOP_ERROR_REMOVE(gmem_error_remove_folio),
};

static const struct inode_operations gmem_inode_ops = {
	.getattr = gmem_getattr,
	.setattr = gmem_setattr,
};

/**
 * gmem_huge_possible - whether this kernel maps pages of 2 MiB
 *
 * Return: as said.
 */
bool gmem_huge_possible(void)
{
	return IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) &&
	       has_transparent_hugepage();
}

/**
 * gmem_max_bytes - the size that a file can have
 *
 * Return: bytes, a multiple of the page size.
 */
u64 gmem_max_bytes(void)
{
	return round_down((u64)MAX_LFS_FILESIZE, PAGE_SIZE);
}

static struct file *gmem_file(const struct gmemfd_create *args)
{
	struct inode *inode;
	struct file *file;
	struct gmem *gmem;

	inode = alloc_anon_inode(gmem_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	gmem = gmem_of(inode);
	if (args->flags & GMEMFD_CREATE_HUGE)
		gmem->granule_order = PMD_ORDER;
	if (args->flags & GMEMFD_CREATE_NODE)
		gmem->node = args->node;
	if (args->policy)
		gmem->policy = args->policy;
	gmem->memcg = get_mem_cgroup_from_mm(current->mm);

	inode->i_mode = S_IFREG | 0600;
	/* As with a device: who touches memory sets no time. */
	inode->i_flags |= S_NOATIME | S_NOCMTIME;
	/*
	 * Open for writing, as open() would have it: of files that are not kernels
	 * collapse small folios, whatever their state. Newer ones do so with all
	 * files, but leave alone inodes that alloc_anon_inode() has made.
	 */
	atomic_inc(&inode->i_writecount);
	inode->i_op = &gmem_inode_ops;
	inode->i_fop = &gmem_fops;
	inode->i_mapping->a_ops = &gmem_aops;
	mapping_set_gfp_mask(inode->i_mapping, GFP_HIGHUSER_MOVABLE);
	mapping_set_unevictable(inode->i_mapping);
	mapping_set_large_folios(inode->i_mapping);
	i_size_write(inode, args->bytes);

	/*
	 * alloc_file_pseudo() takes no reference for what fput() will drop. The
	 * descriptor of /dev/gmemfd holds one at the moment.
	 */
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(inode, gmem_mnt, "gmemfd",
				 O_RDWR | O_LARGEFILE, &gmem_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
		return file;
	}
	/* open() sets these, but nobody opened it. */
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE | FMODE_NOWAIT;
	return file;
}

/**
 * gmem_create - make a gmem file
 * @args: from user space; its size has been dealt with
 *
 * Return: its descriptor, or -errno as told at struct gmemfd_create.
 */
int gmem_create(const struct gmemfd_create *args)
{
	u64 granule = PAGE_SIZE;
	struct file *file;
	int err;
	int fd;

	if (args->flags & ~GMEMFD_CREATE_ALL || args->pad ||
	    args->policy > GMEMFD_POLICY_HOLD)
		return -EINVAL;
	if (args->flags & GMEMFD_CREATE_HUGE) {
		if (!gmem_huge_possible())
			return -EINVAL;
		granule = PMD_SIZE;
	}
	if (args->flags & GMEMFD_CREATE_NODE) {
		if (args->node >= MAX_NUMNODES || !node_online(args->node))
			return -EINVAL;
	} else if (args->node) {
		return -EINVAL;
	}
	if (!args->bytes || args->bytes & (granule - 1) ||
	    args->bytes > gmem_max_bytes())
		return -EINVAL;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	err = simple_pin_fs(&gmem_fs, &gmem_mnt, &gmem_mnt_count);
	if (err) {
		put_unused_fd(fd);
		return err;
	}
	file = gmem_file(args);
	/* The file has a reference of its own. */
	simple_release_fs(&gmem_mnt, &gmem_mnt_count);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}

/**
 * gmem_from_file - the gmem file behind a file
 * @file: any file
 *
 * Return: it, alive while the caller holds @file; NULL where @file is none.
 */
struct gmem *gmem_from_file(struct file *file)
{
	return file->f_op == &gmem_fops ? gmem_of(file_inode(file)) : NULL;
}

static u64 gmem_stat(struct gmem *gmem, enum gmem_stat stat)
{
	return atomic64_read(&gmem->stats[stat]);
}

/**
 * gmem_stats - the counters of a file
 * @gmem: the file
 * @stats: filled, but for size, pad and flags
 */
void gmem_stats(struct gmem *gmem, struct gmemfd_stats *stats)
{
	unsigned int i;

	stats->bytes = i_size_read(&gmem->inode);
	stats->allocated = (u64)gmem->inode.i_mapping->nrpages << PAGE_SHIFT;
	stats->waiters = atomic_read(&gmem->nr_standing);
	stats->watches = READ_ONCE(gmem->nr_watches);
	stats->orphans = READ_ONCE(gmem->nr_orphans);
	stats->bindings = READ_ONCE(gmem->nr_bindings);
	stats->poisoned = gmem_stat(gmem, GMEM_STAT_POISONED);
	stats->punched = gmem_stat(gmem, GMEM_STAT_PUNCHED);
	stats->faults_zero = gmem_stat(gmem, GMEM_STAT_FAULTS_ZERO);
	stats->faults_missing = gmem_stat(gmem, GMEM_STAT_FAULTS_MISSING);
	stats->faults_minor = gmem_stat(gmem, GMEM_STAT_FAULTS_MINOR);
	stats->faults_sigbus = gmem_stat(gmem, GMEM_STAT_FAULTS_SIGBUS);
	stats->vcpu_exits = gmem_stat(gmem, GMEM_STAT_VCPU_EXITS);
	stats->events = gmem_stat(gmem, GMEM_STAT_EVENTS);
	stats->copied = gmem_stat(gmem, GMEM_STAT_COPIED);
	stats->zeroed = gmem_stat(gmem, GMEM_STAT_ZEROED);
	stats->filled = gmem_stat(gmem, GMEM_STAT_FILLED);
	stats->written = gmem_stat(gmem, GMEM_STAT_WRITTEN);
	stats->continued = gmem_stat(gmem, GMEM_STAT_CONTINUED);
	stats->huge = gmem_stat(gmem, GMEM_STAT_HUGE);
	stats->wakes = gmem_stat(gmem, GMEM_STAT_WAKES);
	stats->wait_ns = gmem_stat(gmem, GMEM_STAT_WAIT_NS);
	for (i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		stats->wait_log2[i] = atomic64_read(&gmem->wait_log2[i]);
}

static void gmem_init_once(void *object)
{
	struct gmem *gmem = object;

	inode_init_once(&gmem->inode);
}

/**
 * gmem_init - make what files are allocated from
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_init(void)
{
	gmem_cache = kmem_cache_create("gmemfd_inode", sizeof(struct gmem), 0,
				       SLAB_ACCOUNT, gmem_init_once);
	return gmem_cache ? 0 : -ENOMEM;
}

/**
 * gmem_exit - undo gmem_init(); no file is left
 */
void gmem_exit(void)
{
	/* Inodes are freed after a grace period, by code of this module. */
	rcu_barrier();
	kmem_cache_destroy(gmem_cache);
}
