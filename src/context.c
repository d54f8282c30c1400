// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the descriptor of a handler: reading events, poll, and its end.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/userfaultfd.h>

#include "gmemfd.h"
#include "trace.h"

static bool gmem_context_ready(struct gmem_context *context)
{
	return !list_empty_careful(&context->pending) ||
	       !list_empty_careful(&context->notices);
}

/* A record: what read() gives, by the kind of context. */
union gmem_record {
	struct gmemfd_event event;
	struct uffd_msg msg;
};

static size_t gmem_record_size(const struct gmem_context *context)
{
	return context->mm ? sizeof(struct uffd_msg) :
			     sizeof(struct gmemfd_event);
}

static void gmem_record_fault(union gmem_record *record,
			      const struct gmem_context *context,
			      const struct gmem_waiter *waiter)
{
	struct gmemfd_event *event = &record->event;
	struct uffd_msg *msg = &record->msg;

	memset(record, 0, sizeof(*record));
	if (!context->mm) {
		event->type = GMEMFD_EVENT_FAULT;
		event->flags = waiter->flags | waiter->where.flags;
		event->offset = (u64)waiter->granule << PAGE_SHIFT;
		event->len = gmem_granule_pages(waiter->gmem) << PAGE_SHIFT;
		event->cookie = waiter->cookie;
		event->tid = waiter->tid;
		event->slot = waiter->where.slot;
		event->gpa = waiter->where.gpa;
		event->vm = waiter->where.vm;
		event->vcpu = waiter->where.vcpu;
		return;
	}
	msg->event = UFFD_EVENT_PAGEFAULT;
	msg->arg.pagefault.address = waiter->address;
	if (!(context->features & UFFD_FEATURE_EXACT_ADDRESS))
		msg->arg.pagefault.address &= PAGE_MASK;
	if (waiter->flags & GMEMFD_FAULT_WRITE)
		msg->arg.pagefault.flags |= UFFD_PAGEFAULT_FLAG_WRITE;
	if (waiter->flags & GMEMFD_FAULT_MINOR)
		msg->arg.pagefault.flags |= UFFD_PAGEFAULT_FLAG_MINOR;
	if (context->features & UFFD_FEATURE_THREAD_ID)
		msg->arg.pagefault.feat.ptid = waiter->tid;
}

static void gmem_record_notice(union gmem_record *record,
			       const struct gmem_notice *notice)
{
	memset(record, 0, sizeof(*record));
	record->msg.event = notice->event;
	record->msg.arg.remove.start = notice->start;
	record->msg.arg.remove.end = notice->end;
}

/*
 * Copies one record out, and only then counts it as read: a fault in the
 * reader's buffer loses nothing. The copy is made under the spinlock, since the
 * waiter is on the stack of a thread that may leave at any moment, and therefore
 * with page faults disabled.
 *
 * Notices come first, so that a handler learns that a page was removed before
 * it is asked for the page again. But where a child's context can be given no
 * descriptor, those who wait do not wait for that too.
 *
 * Return: 1 for one record, 0 for none pending, -EFAULT for a buffer that is
 * not there at the moment; -EINTR, or why there is no descriptor.
 */
static int gmem_context_take(struct gmem_context *context, struct iov_iter *to)
{
	size_t size = gmem_record_size(context);
	struct gmem_notice *notice;
	struct gmem_waiter *waiter;
	union gmem_record record;
	size_t copied;
	int ret = 0;

again:
	spin_lock(&context->lock);
	notice = ret ? NULL : list_first_entry_or_null(&context->notices,
						       struct gmem_notice,
						       node);
	if (notice && notice->event == UFFD_EVENT_FORK) {
		/* Nobody else's as long as it is in no list. */
		list_del(&notice->node);
		context->nr_notices--;
		spin_unlock(&context->lock);
		ret = gmem_fork_tell(context, notice, to);
		if (ret > 0 || ret == -EFAULT || ret == -EINTR)
			return ret;
		goto again;
	}
	waiter = list_first_entry_or_null(&context->pending, struct gmem_waiter,
					  event);
	if (notice)
		gmem_record_notice(&record, notice);
	else if (waiter)
		gmem_record_fault(&record, context, waiter);
	else
		goto out;

	pagefault_disable();
	copied = copy_to_iter(&record, size, to);
	pagefault_enable();
	if (copied != size) {
		iov_iter_revert(to, copied);
		notice = NULL;
		ret = -EFAULT;
		goto out;
	}
	ret = 1;
	if (notice) {
		list_del(&notice->node);
		context->nr_notices--;
	} else {
		list_move_tail(&waiter->event, &context->seen);
		trace_gmem_event(waiter);
	}
out:
	spin_unlock(&context->lock);
	kfree(notice);
	return ret;
}

static ssize_t gmem_context_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct gmem_context *context = iocb->ki_filp->private_data;
	bool nowait = (iocb->ki_filp->f_flags & O_NONBLOCK) ||
		      (iocb->ki_flags & IOCB_NOWAIT);
	size_t size = gmem_record_size(context);
	ssize_t done = 0;
	int ret = 0;

	if (context->mm && !(READ_ONCE(context->features) & GMEM_UFFD_READY))
		return -EINVAL;
	if (iov_iter_count(to) < size)
		return -EINVAL;

	for (;;) {
		if (iov_iter_count(to) < size)
			break;
		ret = gmem_context_take(context, to);
		if (ret > 0) {
			done += size;
			continue;
		}
		if (ret == -EFAULT && !fault_in_iov_iter_writeable(to, size))
			continue;
		if (done || ret)
			break;
		if (nowait)
			return -EAGAIN;
		/* Exclusive: each event wakes one reader. */
		ret = wait_event_interruptible_exclusive(context->wqh,
							 gmem_context_ready(context));
		if (ret)
			return ret;
	}
	/*
	 * This reader was woken for an event and may leave it, because its
	 * buffer is full or bad: then it is another's.
	 */
	if (gmem_context_ready(context))
		wake_up_interruptible(&context->wqh);
	return done ?: ret;
}

static __poll_t gmem_context_poll(struct file *file, poll_table *wait)
{
	struct gmem_context *context = file->private_data;

	poll_wait(file, &context->wqh, wait);
	/* As userfaultfd has it: poll() and a blocking read() do not mix. */
	if (context->mm && (!(READ_ONCE(context->features) & GMEM_UFFD_READY) ||
			    !(file->f_flags & O_NONBLOCK)))
		return EPOLLERR;
	/* Pairs with the queueing of an event, which the lock of wqh follows. */
	smp_mb();
	if (!gmem_context_ready(context))
		return 0;
	return context->mm ? EPOLLIN : EPOLLIN | EPOLLRDNORM;
}

static int gmem_context_release(struct inode *inode, struct file *file)
{
	gmem_fork_release(file->private_data);
	return 0;
}

#ifdef CONFIG_PROC_FS
static void gmem_context_count(struct gmem_context *context,
			       unsigned long *pending, unsigned long *seen)
{
	struct gmem_waiter *waiter;

	*pending = 0;
	*seen = 0;
	spin_lock(&context->lock);
	list_for_each_entry(waiter, &context->pending, event)
		(*pending)++;
	list_for_each_entry(waiter, &context->seen, event)
		(*seen)++;
	spin_unlock(&context->lock);
}

static void gmem_context_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct gmem_context *context = file->private_data;
	unsigned long pending, seen, watches = 0;
	struct gmem_watch *watch;
	u64 features;

	gmem_context_count(context, &pending, &seen);
	if (context->mm) {
		seq_printf(m, "pending:\t%lu\ntotal:\t%lu\n", pending,
			   pending + seen);
		features = READ_ONCE(context->features);
		/* The kernel's own keeps the end of the handshake in bit 31. */
		seq_printf(m, "API:\t%llx:%x:%llx\n", UFFD_API, (u32)features |
			   (features & GMEM_UFFD_READY ? 1U << 31 : 0),
			   gmem_uffd_ioctls());
		return;
	}
	mutex_lock(&gmem_watch_mutex);
	list_for_each_entry(watch, &context->watches, context_node)
		watches++;
	mutex_unlock(&gmem_watch_mutex);
	seq_printf(m, "gmemfd-watches:\t%lu\n", watches);
	seq_printf(m, "gmemfd-pending:\t%lu\n", pending);
	seq_printf(m, "gmemfd-seen:\t%lu\n", seen);
}
#endif

static const struct file_operations gmem_context_fops = {
	.owner = THIS_MODULE,
	.read_iter = gmem_context_read_iter,
	.poll = gmem_context_poll,
	.unlocked_ioctl = gmem_context_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = gmem_context_release,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = gmem_context_show_fdinfo,
#endif
	.llseek = noop_llseek,
};

/* A context of mapping scope. */
static const struct file_operations gmem_uffd_fops = {
	.owner = THIS_MODULE,
	.read_iter = gmem_context_read_iter,
	.poll = gmem_context_poll,
	.unlocked_ioctl = gmem_uffd_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = gmem_context_release,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = gmem_context_show_fdinfo,
#endif
	.llseek = noop_llseek,
};

/**
 * gmem_context_alloc - make a context
 * @mm: for mapping scope: whose mappings; NULL for file scope
 * @user_only: for mapping scope: the kernel's own accesses fail
 * @flags: O_* for its descriptor
 * @gfp: how to take memory
 *
 * Return: it, without a descriptor, or NULL.
 */
struct gmem_context *gmem_context_alloc(struct mm_struct *mm, bool user_only,
					unsigned int flags, gfp_t gfp)
{
	struct gmem_context *context = kzalloc_obj(*context, gfp);

	if (!context)
		return NULL;
	context->mm = mm;
	context->user_only = user_only;
	context->flags = flags;
	INIT_LIST_HEAD(&context->watches);
	INIT_LIST_HEAD(&context->forks);
	spin_lock_init(&context->lock);
	INIT_LIST_HEAD(&context->pending);
	INIT_LIST_HEAD(&context->seen);
	INIT_LIST_HEAD(&context->notices);
	init_waitqueue_head(&context->wqh);
	if (mm)
		mmgrab(mm);
	return context;
}

/**
 * gmem_context_free - free a context
 * @context: nothing points at it any more
 */
void gmem_context_free(struct gmem_context *context)
{
	struct gmem_notice *notice, *next;

	WARN_ON_ONCE(!list_empty(&context->watches));
	WARN_ON_ONCE(!list_empty(&context->forks));
	WARN_ON_ONCE(!list_empty(&context->pending));
	WARN_ON_ONCE(!list_empty(&context->seen));
	list_for_each_entry_safe(notice, next, &context->notices, node) {
		kfree(notice);
		cond_resched();
	}
	if (context->mm)
		mmdrop(context->mm);
	kfree(context);
}

/**
 * gmem_context_open - make the file description of a context
 * @context: without one; goes with it from now on
 *
 * Return: it, or an ERR_PTR(), and @context is as before.
 */
struct file *gmem_context_open(struct gmem_context *context)
{
	struct file *file;

	file = anon_inode_getfile(context->mm ? "[userfaultfd]" :
						"[gmemfd-context]",
				  context->mm ? &gmem_uffd_fops :
						&gmem_context_fops,
				  context, context->flags);
	/* read() can be told not to wait. */
	if (!IS_ERR(file))
		file->f_mode |= FMODE_NOWAIT;
	return file;
}

static int gmem_context_make(struct mm_struct *mm, bool user_only,
			     unsigned int flags)
{
	struct gmem_context *context;
	struct file *file;
	int fd;

	context = gmem_context_alloc(mm, user_only, flags, GFP_KERNEL_ACCOUNT);
	if (!context)
		return -ENOMEM;
	fd = get_unused_fd_flags(flags);
	if (fd < 0)
		goto out_free;
	file = gmem_context_open(context);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto out_free;
	}
	fd_install(fd, file);
	return fd;

out_free:
	gmem_context_free(context);
	return fd;
}

/**
 * gmem_context_create - make a context of file scope
 *
 * Return: its descriptor, or -errno.
 */
int gmem_context_create(void)
{
	return gmem_context_make(NULL, false, O_RDWR | O_CLOEXEC);
}

/**
 * gmem_context_create_uffd - make a context of mapping scope for the caller
 * @flags: as with USERFAULTFD_IOC_NEW
 *
 * Return: its descriptor, or -errno: EINVAL for unknown flags.
 */
int gmem_context_create_uffd(unsigned long flags)
{
	if (flags & ~(unsigned long)(O_CLOEXEC | O_NONBLOCK |
				     UFFD_USER_MODE_ONLY))
		return -EINVAL;
	return gmem_context_make(current->mm, flags & UFFD_USER_MODE_ONLY,
				 O_RDONLY | (flags & (O_CLOEXEC | O_NONBLOCK)));
}

/**
 * gmem_context_notify - tell a handler of a change
 * @context: whose
 * @event: UFFD_EVENT_*
 * @start: first address
 * @end: the address behind the last
 * @gfp: how to take memory
 *
 * Who makes the change does not wait for the handler, unlike with userfaultfd:
 * a handler that reads can therefore always go on. gmem_context_changing() keeps it
 * from providing old content before it has read.
 *
 * Return: 0, -ENOMEM, -EAGAIN when too many are unread.
 */
int gmem_context_notify(struct gmem_context *context, u8 event,
			unsigned long start, unsigned long end, gfp_t gfp)
{
	struct gmem_notice *notice = kmalloc_obj(*notice, gfp);
	struct gmem_notice *last;
	bool joined, room;

	if (!notice)
		return -ENOMEM;
	notice->event = event;
	notice->start = start;
	notice->end = end;
	spin_lock(&context->lock);
	/* What goes on where the last one ended is one with it. */
	last = list_last_entry(&context->notices, struct gmem_notice, node);
	joined = context->nr_notices && last->event == event &&
		 (last->end == start || end == last->start);
	room = context->nr_notices < GMEM_MAX_NOTICES || gfp & __GFP_NOFAIL;
	if (joined) {
		last->start = min(last->start, start);
		last->end = max(last->end, end);
	} else if (room) {
		list_add_tail(&notice->node, &context->notices);
		context->nr_notices++;
	}
	spin_unlock(&context->lock);
	if (joined || !room)
		kfree(notice);
	if (!joined && !room)
		return -EAGAIN;
	wake_up_poll(&context->wqh, EPOLLIN | EPOLLRDNORM);
	return 0;
}

/**
 * gmem_context_changing - whether a range has notices that nobody has read
 * @context: whose
 * @start: first address
 * @end: the address behind the last
 *
 * A fork is about all of them, as with the kernel: what the child got is what there
 * was before.
 *
 * Under the file's invalidate_lock the answer holds for removals, and for forks that
 * have come to a mapping of this file; under mmap_lock for forks.
 *
 * Return: as said.
 */
bool gmem_context_changing(struct gmem_context *context, unsigned long start,
			   unsigned long end)
{
	struct gmem_notice *notice;
	bool changing = false;

	/* Also one that is being read. */
	if (!list_empty_careful(&context->forks))
		return true;
	if (list_empty_careful(&context->notices))
		return false;
	spin_lock(&context->lock);
	list_for_each_entry(notice, &context->notices, node) {
		if (notice->start < end && start < notice->end) {
			changing = true;
			break;
		}
	}
	spin_unlock(&context->lock);
	return changing;
}

/**
 * gmem_context_from_file - the context behind a file
 * @file: any file
 *
 * Return: the context, alive while the caller holds @file; NULL where @file is none.
 */
struct gmem_context *gmem_context_from_file(struct file *file)
{
	return file->f_op == &gmem_context_fops ||
	       file->f_op == &gmem_uffd_fops ? file->private_data : NULL;
}
