// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns what becomes of mapping scope at fork(2): UFFD_FEATURE_EVENT_FORK.
 *
 * A child's mappings are copied one by one, under the mmap_lock of parent and
 * child, and each is told to us. Where a context asked for fork events, the child
 * gets watches of its own in the same ranges, and a context of its own for each such
 * context: the same features, another process. The child may run, trap and fork before
 * anybody knows of that context, so it collects events from the beginning, and belongs
 * to the parent's context: it is in its @forks and dies with it, as with the kernel's
 * own. Whoever reads the event gets a descriptor of it, which it belongs to from then on.
 *
 * Nobody tells us that a fork is over, nor that it failed. So the event is there to be
 * read from the first mapping on, and who reads it waits for the parent's mmap_lock.
 *
 * What is not read holds memory: GMEM_MAX_FORKS of them for a descriptor, with those of
 * children's children. Beyond that a child has nobody to ask, and its accesses
 * fail instead of trapping: it never sees zeros for it.
 */
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/userfaultfd.h>

#include "gmemfd.h"
#include "trace.h"

/*
 * Stands for the context of children that there was no room for, and of theirs: what
 * would trap fails.
 */
static struct gmem_context gmem_nobody = {
	.features = GMEM_UFFD_READY | UFFD_FEATURE_SIGBUS |
		    UFFD_FEATURE_EVENT_FORK,
	.watches = LIST_HEAD_INIT(gmem_nobody.watches),
	.forks = LIST_HEAD_INIT(gmem_nobody.forks),
	.lock = __SPIN_LOCK_UNLOCKED(gmem_nobody.lock),
	.pending = LIST_HEAD_INIT(gmem_nobody.pending),
	.seen = LIST_HEAD_INIT(gmem_nobody.seen),
	.notices = LIST_HEAD_INIT(gmem_nobody.notices),
	.wqh = __WAIT_QUEUE_HEAD_INITIALIZER(gmem_nobody.wqh),
};

static void gmem_fork_notify(struct gmem_context *parent,
			     struct gmem_context *child)
{
	struct gmem_notice *notice;

	notice = kzalloc_obj(*notice, GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
	notice->event = UFFD_EVENT_FORK;
	notice->child = child;
	spin_lock(&parent->lock);
	list_add_tail(&notice->node, &parent->notices);
	parent->nr_notices++;
	spin_unlock(&parent->lock);
	wake_up_poll(&parent->wqh, EPOLLIN | EPOLLRDNORM);
}

/* The context of the child that is being made, for what the parent's one handles. */
static struct gmem_context *gmem_fork_context(struct gmem_context *parent,
					      struct mm_struct *mm)
{
	struct gmem_context *child, *at = parent;

	lockdep_assert_held(&gmem_watch_mutex);
	if (parent == &gmem_nobody)
		return parent;
	/* Forks of a process come one after the other; its mmap_lock is held. */
	if (!list_empty(&parent->forks)) {
		child = list_last_entry(&parent->forks, struct gmem_context,
					fork_node);
		if (child->mm == mm)
			return child;
	}
	while (at->parent)
		at = at->parent;
	if (at->nr_forks >= GMEM_MAX_FORKS)
		return &gmem_nobody;

	child = gmem_context_alloc(mm, parent->user_only, parent->flags,
				   GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
	child->features = parent->features;
	child->parent = parent;
	list_add_tail(&child->fork_node, &parent->forks);
	for (at = parent; at; at = at->parent)
		at->nr_forks++;
	gmem_fork_notify(parent, child);
	return child;
}

/*
 * The first watch of a range whose context is told of forks. What one that is on its
 * way out still handles ends in a moment, and so would what a child got of it.
 */
static struct gmem_watch *gmem_fork_watch(struct gmem_map *map, pgoff_t first,
					  pgoff_t last)
{
	struct gmem_watch *watch;

	while ((watch = gmem_watch_mapped(map, first, last))) {
		if (watch->context->features & UFFD_FEATURE_EVENT_FORK &&
		    !watch->context->gone)
			break;
		if (watch->last >= last)
			return NULL;
		first = watch->last + 1;
	}
	return watch;
}

/*
 * Watches a range of a child's mappings as its parent's is: what the watch covers of
 * it. Cannot fail, since this part of fork(2) cannot; it takes a few bytes.
 */
static void gmem_fork_inherit(const struct gmem_watch *watch,
			      struct gmem_map *child, pgoff_t first,
			      pgoff_t last, struct gmem_context *context)
{
	struct gmem_watch *copy;

	copy = kmemdup(watch, sizeof(*watch), GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
	copy->first = first;
	copy->last = last;
	copy->index += first - watch->first;
	copy->map = child;
	copy->context = context;
	child->heritable = true;
	gmem_watch_link(copy);
	trace_gmem_watch(copy, true);
}

/*
 * What was lost stays lost for the child. Not what is there: either it is just being
 * provided anew, before its poison goes, or it traps in the child, which does not
 * map it.
 */
static void gmem_fork_poison(const struct gmem_watch *watch,
			     struct gmem_map *child, pgoff_t first,
			     pgoff_t last)
{
	unsigned long i;
	void *entry;

	xa_for_each_range(&watch->map->poison, i, entry, first, last) {
		if (gmem_store_state(watch->gmem, watch->index + i -
				     watch->first) != GMEM_PRESENT)
			xa_store(&child->poison, i, entry,
				 GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
		cond_resched();
	}
}

/**
 * gmem_fork_mapping - a mapping was given to a child
 * @map: what the parent has registered, which hangs on @vma as well
 * @vma: the child's mapping; the mmap_lock of both is held for writing, and no thread
 *       of the child runs yet
 *
 * The kernel holds nothing else here, and copies page tables, which takes memory, right
 * after. What contexts without UFFD_FEATURE_EVENT_FORK handle is not registered in the child.
 */
void gmem_fork_mapping(struct gmem_map *map, struct vm_area_struct *vma)
{
	struct address_space *mapping = map->gmem->inode.i_mapping;
	pgoff_t first = vma->vm_start >> PAGE_SHIFT;
	pgoff_t end = vma->vm_end >> PAGE_SHIFT;
	struct gmem_watch *watch;
	struct gmem_map *child;
	pgoff_t from, to;

	if (!map->heritable) {
		vma->vm_private_data = NULL;
		return;
	}
	mutex_lock(&gmem_watch_mutex);
	filemap_invalidate_lock(mapping);
	/* Also for a mapping without such a watch: another one may have it. */
	child = gmem_map_inherit(map->gmem, vma);
	while (first < end) {
		watch = gmem_fork_watch(map, first, end - 1);
		if (!watch)
			break;
		from = max(first, watch->first);
		to = min(end - 1, watch->last);
		gmem_fork_inherit(watch, child, from, to,
				  gmem_fork_context(watch->context, vma->vm_mm));
		gmem_fork_poison(watch, child, from, to);
		first = to + 1;
		cond_resched();
	}
	filemap_invalidate_unlock(mapping);
	mutex_unlock(&gmem_watch_mutex);
}

/*
 * Waits until no fork of a process is under way that was when this began: whoever forks
 * holds its mmap_lock until all is copied, or has failed. Not for the child's, which
 * the child could hold against the reader.
 */
static int gmem_fork_wait(struct mm_struct *mm)
{
	int err;

	/* Whoever forks has it. */
	if (!mmget_not_zero(mm))
		return 0;
	err = mmap_read_lock_killable(mm);
	if (!err)
		mmap_read_unlock(mm);
	mmput(mm);
	return err;
}

/*
 * Whether a fork failed that is over. Nobody may look into memory that was copied in
 * part, as ioctls of its context would: from 6.8 on such a child has the parent's own
 * mappings in its tree, behind a zero entry. From 6.14 on, and where that was ported
 * back, the fork says so before it drops the parent's mmap_lock. A child that was
 * killed for want of memory says the same; it has run, and may have forked.
 *
 * Without a word the tree is looked at, if the lock is to be had: where not,
 * somebody is in there who runs. 6.1 has a tree of what was copied, and tells its own
 * handlers of such a fork as well.
 */
static bool gmem_fork_failed(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	bool failed = false;

	VMA_ITERATOR(vmi, mm, 0);

	if (check_stable_address_space(mm))
		return true;
	if (!mmget_not_zero(mm))
		return false;
	if (mmap_read_trylock(mm)) {
		for_each_vma(vmi, vma) {
			failed = xa_is_zero(vma);
			if (failed)
				break;
			cond_resched();
		}
		mmap_read_unlock(mm);
	}
	mmput(mm);
	return failed;
}

/* A context comes to stand by itself. */
static void gmem_fork_detach(struct gmem_context *child)
{
	struct gmem_context *at;

	lockdep_assert_held(&gmem_watch_mutex);
	list_del(&child->fork_node);
	for (at = child->parent; at; at = at->parent)
		at->nr_forks -= 1 + child->nr_forks;
	child->parent = NULL;
}

/*
 * Gives up a child that nobody can be told of, unless it has children itself. What is
 * still registered, until it has been torn down, fails instead of trapping, as zeros
 * would be the file's.
 */
static bool gmem_fork_abandon(struct gmem_context *child)
{
	struct gmem_watch *watch;
	struct gmem *gmem;

	mutex_lock(&gmem_watch_mutex);
	if (child->nr_forks) {
		mutex_unlock(&gmem_watch_mutex);
		return false;
	}
	child->gone = true;
	gmem_fork_detach(child);
	while (!list_empty(&child->watches)) {
		watch = list_first_entry(&child->watches, struct gmem_watch,
					 context_node);
		gmem = watch->gmem;
		filemap_invalidate_lock(gmem->inode.i_mapping);
		gmem_trap_orphan(watch);
		watch->context = &gmem_nobody;
		list_move_tail(&watch->context_node, &gmem_nobody.watches);
		gmem_trap_wake_watch(watch, watch->index,
				     watch->index + (watch->last - watch->first));
		filemap_invalidate_unlock(gmem->inode.i_mapping);
		mutex_unlock(&gmem_watch_mutex);
		cond_resched();
		mutex_lock(&gmem_watch_mutex);
	}
	mutex_unlock(&gmem_watch_mutex);
	gmem_context_free(child);
	return true;
}

/* Makes the descriptor and tells of it; of both or of neither. */
static int gmem_fork_open(struct gmem_context *child, struct iov_iter *to)
{
	struct uffd_msg msg;
	struct file *file;
	size_t copied;
	int fd;

	fd = get_unused_fd_flags(child->flags);
	if (fd < 0)
		return fd;
	memset(&msg, 0, sizeof(msg));
	msg.event = UFFD_EVENT_FORK;
	msg.arg.fork.ufd = fd;
	/* What it is copied to may trap, and wait for another reader. */
	pagefault_disable();
	copied = copy_to_iter(&msg, sizeof(msg), to);
	pagefault_enable();
	file = copied == sizeof(msg) ? gmem_context_open(child) :
				       ERR_PTR(-EFAULT);
	if (IS_ERR(file)) {
		iov_iter_revert(to, copied);
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	/* Before anybody can close it. */
	mutex_lock(&gmem_watch_mutex);
	gmem_fork_detach(child);
	mutex_unlock(&gmem_watch_mutex);
	fd_install(fd, file);
	return 1;
}

/**
 * gmem_fork_tell - read a fork event
 * @context: the parent's, from which the caller reads, so it does not go
 * @notice: the event, taken out of the list of notices; this frees it or puts it back
 * @to: where to copy the message to
 *
 * Return: 1 when it was read; 0 when there was no fork after all; -EFAULT when @to is
 * not there at the moment; -EINTR; -EMFILE and others when there is no descriptor to be
 * had.
 */
int gmem_fork_tell(struct gmem_context *context, struct gmem_notice *notice,
		   struct iov_iter *to)
{
	struct gmem_context *child = notice->child;
	int ret = gmem_fork_wait(context->mm);

	if (!ret && !(gmem_fork_failed(child->mm) && gmem_fork_abandon(child)))
		ret = gmem_fork_open(child, to);
	if (ret < 0) {
		spin_lock(&context->lock);
		list_add(&notice->node, &context->notices);
		context->nr_notices++;
		spin_unlock(&context->lock);
		return ret;
	}
	kfree(notice);
	return ret;
}

/**
 * gmem_fork_release - the last descriptor of a context has closed
 * @context: the context, which goes; with it go those of children that nobody has read
 *           of, and theirs
 *
 * All are marked in one hold of the mutex, so that no child that forks meanwhile adds to
 * what goes.
 */
void gmem_fork_release(struct gmem_context *context)
{
	struct gmem_context *each, *next;
	LIST_HEAD(gone);

	mutex_lock(&gmem_watch_mutex);
	list_add(&context->fork_node, &gone);
	/* Any depth, without recursion: the list grows as it is walked. */
	list_for_each_entry(each, &gone, fork_node) {
		each->gone = true;
		list_splice_tail_init(&each->forks, &gone);
	}
	mutex_unlock(&gmem_watch_mutex);
	list_for_each_entry_safe(each, next, &gone, fork_node) {
		gmem_watch_context_gone(each);
		gmem_context_free(each);
	}
}
