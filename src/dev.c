// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns /dev/gmemfd, and the ioctl tables of all three kinds of descriptor: a
 * command is one row.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd.h>

#include "gmemfd.h"

/* What commands that are called often take, and all of them. */
union gmem_small_args {
	u32 size;
	struct gmemfd_create create;
	struct gmemfd_context context;
	struct gmemfd_watch watch;
	struct gmemfd_range range;
	struct gmemfd_attach attach;
	struct gmemfd_policy policy;
	struct gmemfd_resolve resolve;
	struct gmemfd_bind bind;
	struct gmemfd_bindings bindings;
	struct gmemfd_vcpu_fault vcpu_fault;
};

union gmem_args {
	union gmem_small_args small;
	struct gmemfd_info info;
	struct gmemfd_stats stats;
};

/**
 * struct gmem_cmd - a command
 * @cmd: the number, as in the uapi header; the size in it is the struct's first
 * @size: the struct's size today
 * @write: whether the descriptor must be open for writing
 * @fn: does it; gets the object of the descriptor and the struct. What it changes in
 *      a struct of a command that writes goes back to user space, also on errors
 * @fn_user: instead of @fn: gets the file, and where the struct is in user space, too
 */
struct gmem_cmd {
	unsigned int cmd;
	u32 size;
	bool write;
	long (*fn)(void *object, void *args);
	long (*fn_user)(struct file *file, void *args, void __user *uargs);
};

static long gmem_ioctl_info(void *object, void *args);

static long gmem_ioctl_create(void *object, void *args)
{
	return gmem_create(args);
}

static long gmem_ioctl_context(void *object, void *args)
{
	const struct gmemfd_context *context = args;

	if (context->flags || context->pad)
		return -EINVAL;
	return gmem_context_create();
}

static long gmem_ioctl_watch(void *object, void *args)
{
	return gmem_watch_add(object, args);
}

static long gmem_ioctl_attach(void *object, void *args)
{
	return gmem_watch_attach(object, args);
}

static long gmem_ioctl_policy(void *object, void *args)
{
	return gmem_watch_set_policy(object, args);
}

static long gmem_ioctl_stats(void *object, void *args)
{
	struct gmemfd_stats *stats = args;

	if (stats->flags || stats->pad)
		return -EINVAL;
	gmem_stats(object, stats);
	return 0;
}

static long gmem_ioctl_unwatch(void *object, void *args)
{
	struct gmemfd_range *range = args;
	long err;

	if (range->op || range->flags || range->src || range->src_fd ||
	    range->pad)
		err = -EINVAL;
	else
		err = gmem_range_check(object, range->offset, range->len);
	if (!err)
		err = gmem_watch_remove(object, range->offset >> PAGE_SHIFT,
					(range->offset + range->len - 1) >>
					PAGE_SHIFT);
	range->done = err ?: range->len;
	return err;
}

static long gmem_ioctl_range(void *object, u32 op, struct gmemfd_range *range)
{
	if (range->op) {
		range->done = -EINVAL;
		return -EINVAL;
	}
	return gmem_resolve(object, op, range);
}

#define GMEM_RANGE_FN(name, op)						\
static long gmem_ioctl_##name(void *object, void *args)	\
{									\
	return gmem_ioctl_range(object, op, args);			\
}

GMEM_RANGE_FN(copy, GMEMFD_OP_COPY)
GMEM_RANGE_FN(continue, GMEMFD_OP_CONTINUE)
GMEM_RANGE_FN(zero, GMEMFD_OP_ZERO)
GMEM_RANGE_FN(poison, GMEMFD_OP_POISON)
GMEM_RANGE_FN(wake, GMEMFD_OP_WAKE)
GMEM_RANGE_FN(fill, GMEMFD_OP_FILL)

static long gmem_ioctl_resolve(void *object, void *args)
{
	return gmem_resolve_many(object, args);
}

static long gmem_ioctl_bind(struct file *file, void *args, void __user *uargs)
{
	return gmem_kvm_bind(file, args, uargs);
}

static long gmem_ioctl_unbind(struct file *file, void *args, void __user *uargs)
{
	return gmem_kvm_unbind(file, args, uargs);
}

static long gmem_ioctl_bindings(void *object, void *args)
{
	return gmem_kvm_bindings(object, args);
}

static long gmem_ioctl_vcpu_fault(void *object, void *args)
{
	return gmem_kvm_vcpu_fault(object, args);
}

#define GMEM_CMD(_cmd, _type, _write, _fn) \
	{ .cmd = _cmd, .size = sizeof(struct _type), .write = _write, .fn = _fn }
#define GMEM_CMD_USER(_cmd, _type, _write, _fn) \
	{ .cmd = _cmd, .size = sizeof(struct _type), .write = _write, \
	  .fn_user = _fn }

static const struct gmem_cmd gmem_dev_cmds[] = {
	GMEM_CMD(GMEMFD_INFO, gmemfd_info, false, gmem_ioctl_info),
	GMEM_CMD(GMEMFD_CREATE, gmemfd_create, false, gmem_ioctl_create),
	GMEM_CMD(GMEMFD_CONTEXT, gmemfd_context, false, gmem_ioctl_context),
};

static const struct gmem_cmd gmem_file_cmds[] = {
	/* What handlers call all the time comes first. */
	GMEM_CMD(GMEMFD_COPY, gmemfd_range, true, gmem_ioctl_copy),
	GMEM_CMD(GMEMFD_CONTINUE, gmemfd_range, true, gmem_ioctl_continue),
	GMEM_CMD(GMEMFD_WATCH, gmemfd_watch, true, gmem_ioctl_watch),
	GMEM_CMD(GMEMFD_UNWATCH, gmemfd_range, true, gmem_ioctl_unwatch),
	GMEM_CMD(GMEMFD_ATTACH, gmemfd_attach, true, gmem_ioctl_attach),
	GMEM_CMD(GMEMFD_POLICY, gmemfd_policy, true, gmem_ioctl_policy),
	GMEM_CMD(GMEMFD_STATS, gmemfd_stats, false, gmem_ioctl_stats),
	GMEM_CMD(GMEMFD_ZERO, gmemfd_range, true, gmem_ioctl_zero),
	GMEM_CMD(GMEMFD_POISON, gmemfd_range, true, gmem_ioctl_poison),
	GMEM_CMD(GMEMFD_WAKE, gmemfd_range, true, gmem_ioctl_wake),
	GMEM_CMD(GMEMFD_FILL, gmemfd_range, true, gmem_ioctl_fill),
	GMEM_CMD(GMEMFD_RESOLVE, gmemfd_resolve, true, gmem_ioctl_resolve),
	GMEM_CMD_USER(GMEMFD_BIND, gmemfd_bind, true, gmem_ioctl_bind),
	GMEM_CMD_USER(GMEMFD_UNBIND, gmemfd_bind, true, gmem_ioctl_unbind),
	GMEM_CMD(GMEMFD_BINDINGS, gmemfd_bindings, false, gmem_ioctl_bindings),
};

static const struct gmem_cmd gmem_context_cmds[] = {
	GMEM_CMD(GMEMFD_VCPU_FAULT, gmemfd_vcpu_fault, false,
		 gmem_ioctl_vcpu_fault),
};

static u64 gmem_cmd_mask(const struct gmem_cmd *cmds, size_t nr)
{
	u64 mask = 0;

	while (nr--)
		mask |= BIT_ULL(_IOC_NR(cmds[nr].cmd));
	return mask;
}

static long gmem_ioctl_info(void *object, void *args)
{
	struct gmemfd_info *info = args;

	if (info->flags)
		return -EINVAL;
	info->abi = GMEMFD_ABI_VERSION;
	info->features = (IS_ENABLED(CONFIG_MEMCG) ? GMEMFD_FEATURE_MEMCG : 0) |
			 (FAULT_FLAG_VMA_LOCK ? GMEMFD_FEATURE_VMA_LOCK : 0) |
			 GMEMFD_FEATURE_USERFAULTFD |
			 (IS_ENABLED(CONFIG_KVM) ? GMEMFD_FEATURE_KVM : 0);
	info->device_cmds = gmem_cmd_mask(gmem_dev_cmds,
					  ARRAY_SIZE(gmem_dev_cmds));
	info->file_cmds = gmem_cmd_mask(gmem_file_cmds,
					ARRAY_SIZE(gmem_file_cmds));
	info->context_cmds = gmem_cmd_mask(gmem_context_cmds,
					   ARRAY_SIZE(gmem_context_cmds));
	info->create_flags = GMEMFD_CREATE_ALL;
	info->watch_modes = GMEMFD_MODE_ALL;
	info->policies = BIT_ULL(GMEMFD_POLICY_DEFAULT) |
			 BIT_ULL(GMEMFD_POLICY_RELEASE) |
			 BIT_ULL(GMEMFD_POLICY_POISON) |
			 BIT_ULL(GMEMFD_POLICY_HOLD);
	info->watch_flags = gmem_kvm_watch_flags();
	info->bind_flags = IS_ENABLED(CONFIG_KVM) ? GMEMFD_BIND_ALL : 0;
	info->range_flags = GMEMFD_RANGE_ALL;
	info->max_bytes = gmem_max_bytes();
	info->huge_size = gmem_huge_possible() ? PMD_SIZE : 0;
	info->max_ops = GMEM_MAX_OPS;
	info->event_size = sizeof(struct gmemfd_event);
	strscpy_pad(info->version, GMEMFD_VERSION, sizeof(info->version));
	return 0;
}

/*
 * Brings the struct in and, for commands that answer in it, out again. No more
 * is written than the caller has room for.
 */
static __always_inline long gmem_ioctl_row(const struct gmem_cmd *row,
					   struct file *file, void *object,
					   void __user *uargs, void *args)
{
	u32 size;
	long ret;

	if (get_user(size, (u32 __user *)uargs))
		return -EFAULT;
	if (size < _IOC_SIZE(row->cmd))
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(args, row->size, uargs, size);
	if (ret)
		return ret;
	/* The caller may have changed it between the two reads. */
	*(u32 *)args = size;

	ret = row->fn ? row->fn(object, args) : row->fn_user(file, args, uargs);
	if (_IOC_DIR(row->cmd) & _IOC_READ &&
	    copy_to_user(uargs, args, min(size, row->size)))
		return -EFAULT;
	return ret;
}

/* Apart, since clearing a large struct costs each call of all commands. */
static noinline long gmem_ioctl_large(const struct gmem_cmd *row,
				      struct file *file, void *object,
				      void __user *uargs)
{
	union gmem_args args;

	return gmem_ioctl_row(row, file, object, uargs, &args);
}

static noinline long gmem_ioctl_small(const struct gmem_cmd *row,
				      struct file *file, void *object,
				      void __user *uargs)
{
	union gmem_small_args args;

	return gmem_ioctl_row(row, file, object, uargs, &args);
}

static long gmem_ioctl(const struct gmem_cmd *cmds, size_t nr, struct file *file,
		       void *object, unsigned int cmd, void __user *uargs)
{
	const struct gmem_cmd *row;

	for (row = cmds; row < cmds + nr; row++) {
		if (_IOC_TYPE(cmd) != _IOC_TYPE(row->cmd) ||
		    _IOC_NR(cmd) != _IOC_NR(row->cmd) ||
		    _IOC_DIR(cmd) != _IOC_DIR(row->cmd))
			continue;
		if (row->write && !(file->f_mode & FMODE_WRITE))
			return -EBADF;
		if (row->size > sizeof(union gmem_small_args))
			return gmem_ioctl_large(row, file, object, uargs);
		return gmem_ioctl_small(row, file, object, uargs);
	}
	return -ENOTTY;
}

static long gmem_dev_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	/* As /dev/userfaultfd has it: the argument is the flags. */
	if (cmd == USERFAULTFD_IOC_NEW)
		return gmem_context_create_uffd(arg);
	return gmem_ioctl(gmem_dev_cmds, ARRAY_SIZE(gmem_dev_cmds), file, NULL,
			  cmd, (void __user *)arg);
}

/**
 * gmem_file_ioctl - the ioctls of a gmem file
 * @file: the file
 * @cmd: GMEMFD_*
 * @arg: address of the struct
 *
 * Return: 0 or -errno, as told in the uapi header.
 */
long gmem_file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return gmem_ioctl(gmem_file_cmds, ARRAY_SIZE(gmem_file_cmds), file,
			  gmem_of(file_inode(file)), cmd, (void __user *)arg);
}

/**
 * gmem_context_ioctl - the ioctls of a context of file scope
 * @file: the context
 * @cmd: GMEMFD_*
 * @arg: address of the struct
 *
 * Return: 0 or -errno, as told in the uapi header.
 */
long gmem_context_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return gmem_ioctl(gmem_context_cmds, ARRAY_SIZE(gmem_context_cmds), file,
			  file->private_data, cmd, (void __user *)arg);
}

static const struct file_operations gmem_dev_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = gmem_dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice gmem_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gmemfd",
	.fops = &gmem_dev_fops,
	.mode = 0600,
};

/**
 * gmem_dev_init - make /dev/gmemfd
 *
 * Return: 0 or -errno.
 */
int gmem_dev_init(void)
{
	BUILD_BUG_ON(sizeof(struct gmemfd_event) != 64);
	BUILD_BUG_ON(sizeof(union gmem_args) > PAGE_SIZE / 4);
	return misc_register(&gmem_dev);
}

/**
 * gmem_dev_exit - take /dev/gmemfd away
 */
void gmem_dev_exit(void)
{
	misc_deregister(&gmem_dev);
}
