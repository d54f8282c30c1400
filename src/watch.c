// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the watches: which ranges of which file trap, in which modes, to which
 * context, and what becomes of them when the context or the file goes.
 *
 * Watches change seldom. One mutex for all of them makes the cross references
 * between files and contexts simple; faults never take it, since a watch also
 * changes only under its file's invalidate_lock, exclusive.
 */
#include <linux/file.h>
#include <linux/interval_tree_generic.h>
#include <linux/slab.h>
#include <linux/userfaultfd.h>

#include "gmemfd.h"
#include "trace.h"

/* Outermost of our locks; see gmemfd.h. */
DEFINE_MUTEX(gmem_watch_mutex);

#define GMEM_WATCH_FIRST(watch)	((watch)->first)
#define GMEM_WATCH_LAST(watch)	((watch)->last)

INTERVAL_TREE_DEFINE(struct gmem_watch, rb, pgoff_t, subtree_last,
		     GMEM_WATCH_FIRST, GMEM_WATCH_LAST,
		     static inline, gmem_tree)

static void gmem_assert_watches_stable(struct gmem *gmem)
{
	lockdep_assert(lockdep_is_held(&gmem_watch_mutex) ||
		       lockdep_is_held(&gmem->inode.i_mapping->invalidate_lock));
}

/**
 * gmem_watch_first - the first watch that touches a range
 * @gmem: the file
 * @first: first page
 * @last: last page
 *
 * The caller holds gmem_watch_mutex or the file's invalidate_lock, and may use
 * what it gets for as long.
 *
 * Return: the watch, or NULL.
 */
struct gmem_watch *gmem_watch_first(struct gmem *gmem, pgoff_t first,
				    pgoff_t last)
{
	gmem_assert_watches_stable(gmem);
	return gmem_tree_iter_first(&gmem->watches, first, last);
}

/**
 * gmem_watch_find - the watch that covers a page
 * @gmem: the file
 * @index: the page
 *
 * As gmem_watch_first().
 *
 * Return: the watch, or NULL.
 */
struct gmem_watch *gmem_watch_find(struct gmem *gmem, pgoff_t index)
{
	return gmem_watch_first(gmem, index, index);
}

/* Both locks that a change of watches takes, in their order. */
static int gmem_watch_lock(struct gmem *gmem)
{
	if (mutex_lock_killable(&gmem_watch_mutex))
		return -EINTR;
	if (down_write_killable(&gmem->inode.i_mapping->invalidate_lock)) {
		mutex_unlock(&gmem_watch_mutex);
		return -EINTR;
	}
	return 0;
}

static void gmem_watch_unlock(struct gmem *gmem)
{
	filemap_invalidate_unlock(gmem->inode.i_mapping);
	mutex_unlock(&gmem_watch_mutex);
}

static void gmem_assert_watches_mine(struct gmem *gmem)
{
	lockdep_assert_held(&gmem_watch_mutex);
	lockdep_assert_held_write(&gmem->inode.i_mapping->invalidate_lock);
}

static struct rb_root_cached *gmem_watch_tree(struct gmem_watch *watch)
{
	return watch->map ? &watch->map->watches : &watch->gmem->watches;
}

/**
 * gmem_watch_link - let a watch trap
 * @watch: the watch; both locks of a change are held
 */
void gmem_watch_link(struct gmem_watch *watch)
{
	struct gmem *gmem = watch->gmem;

	gmem_assert_watches_mine(gmem);
	gmem_tree_insert(watch, gmem_watch_tree(watch));
	gmem->nr_watches++;
	if (watch->context)
		list_add_tail(&watch->context_node, &watch->context->watches);
	else
		gmem->nr_orphans++;
}

static void gmem_watch_unlink(struct gmem_watch *watch)
{
	struct gmem *gmem = watch->gmem;

	gmem_tree_remove(watch, gmem_watch_tree(watch));
	gmem->nr_watches--;
	if (watch->context)
		list_del(&watch->context_node);
	else
		gmem->nr_orphans--;
}

/**
 * gmem_watch_add - begin to watch a range
 * @gmem: the file
 * @args: from user space; its size has been dealt with
 *
 * Return: 0 or -errno, as told at struct gmemfd_watch.
 */
int gmem_watch_add(struct gmem *gmem, const struct gmemfd_watch *args)
{
	struct gmem_context *context;
	struct gmem_watch *watch;
	int err;

	if (args->flags & ~gmem_kvm_watch_flags() || args->pad || !args->modes ||
	    args->modes & ~GMEMFD_MODE_ALL || args->policy > GMEMFD_POLICY_HOLD)
		return -EINVAL;
	err = gmem_range_check(gmem, args->offset, args->len);
	if (err)
		return err;

	CLASS(fd, f)(args->context);
	if (fd_empty(f))
		return -EBADF;
	/* One of mapping scope has other records to read. */
	context = gmem_context_from_file(fd_file(f));
	if (!context || context->mm)
		return -EBADF;

	watch = kzalloc_obj(*watch, GFP_KERNEL_ACCOUNT);
	if (!watch)
		return -ENOMEM;
	watch->gmem = gmem;
	watch->context = context;
	watch->first = args->offset >> PAGE_SHIFT;
	watch->last = (args->offset + args->len - 1) >> PAGE_SHIFT;
	watch->index = watch->first;
	watch->modes = args->modes;
	watch->cookie = args->cookie;
	watch->policy = args->policy ?: gmem->policy;
	watch->exits = args->flags & GMEMFD_WATCH_VCPU_EXIT;

	err = gmem_watch_lock(gmem);
	if (err)
		goto out_free;
	if (gmem_watch_first(gmem, watch->first, watch->last)) {
		gmem_watch_unlock(gmem);
		err = -EBUSY;
		goto out_free;
	}
	gmem_watch_link(watch);
	trace_gmem_watch(watch, true);
	gmem_watch_unlock(gmem);
	return 0;

out_free:
	kfree(watch);
	return err;
}

/* The last page of the file that a watch is about. */
static pgoff_t gmem_watch_last_index(const struct gmem_watch *watch)
{
	return watch->index + (watch->last - watch->first);
}

/* Opens what the watch kept closed and ends it. Its waiters look again. */
static void gmem_watch_end(struct gmem_watch *watch)
{
	struct gmem *gmem = watch->gmem;
	pgoff_t index = watch->first;
	pgoff_t done;

	gmem_assert_watches_mine(gmem);
	gmem_watch_unlink(watch);
	trace_gmem_watch(watch, false);
	/* A closed page is closed for the file, so mapping scope has none. */
	if (!watch->map && watch->modes & GMEMFD_MODE_MINOR) {
		/* Skips what is absent or open. */
		while (index <= watch->last) {
			index = gmem_store_data(gmem, index);
			if (index > watch->last)
				break;
			if (gmem_store_open(gmem, index, watch->last, &done))
				done = index + 1;
			index = done;
			cond_resched();
		}
	}
	gmem_trap_wake_watch(watch, watch->index, gmem_watch_last_index(watch));
	kfree(watch);
}

/* Makes two of a watch, so that the second begins at the boundary. */
static int gmem_watch_cut(struct gmem_watch *watch, pgoff_t boundary, gfp_t gfp)
{
	struct gmem_watch *tail;
	int err;

	if (!watch || watch->first == boundary)
		return 0;
	gmem_assert_watches_mine(watch->gmem);
	/* A closed folio opens as one, so it must not lie in two watches. */
	if (!watch->map &&
	    gmem_store_state(watch->gmem, boundary) == GMEM_CLOSED) {
		err = gmem_store_split(watch->gmem, boundary);
		if (err)
			return err;
	}
	tail = kmemdup(watch, sizeof(*watch), gfp);
	if (!tail)
		return -ENOMEM;

	gmem_watch_unlink(watch);
	tail->first = boundary;
	tail->index += boundary - watch->first;
	watch->last = boundary - 1;
	gmem_watch_link(watch);
	gmem_watch_link(tail);
	gmem_trap_hand_over(watch, tail);
	return 0;
}

/* The first from @watch on that lies in the range as a whole. */
static struct gmem_watch *gmem_watch_whole(struct gmem_watch *watch,
					   pgoff_t first, pgoff_t last)
{
	while (watch && (watch->first < first || watch->last > last))
		watch = gmem_tree_iter_next(watch, first, last);
	return watch;
}

static struct gmem_watch *gmem_watch_first_whole(struct gmem *gmem,
						 pgoff_t first, pgoff_t last)
{
	return gmem_watch_whole(gmem_watch_first(gmem, first, last), first,
				last);
}

static struct gmem_watch *gmem_watch_next_whole(struct gmem_watch *watch,
						pgoff_t first, pgoff_t last)
{
	return gmem_watch_whole(gmem_tree_iter_next(watch, first, last), first,
				last);
}

/**
 * gmem_watch_remove - end the watches of a range
 * @gmem: the file
 * @first: first page
 * @last: last page
 *
 * Return: 0, -EINTR, -ENOMEM, or -EBUSY for a closed huge page on the edge that somebody
 * uses at the moment. On an error all of the range is watched as before.
 */
int gmem_watch_remove(struct gmem *gmem, pgoff_t first, pgoff_t last)
{
	struct gmem_watch *watch;
	unsigned int tries = 0;
	int err;

	do {
		err = gmem_watch_lock(gmem);
		if (err)
			return err;
		err = gmem_watch_cut(gmem_watch_find(gmem, first), first,
				     GFP_KERNEL_ACCOUNT);
		if (!err)
			err = gmem_watch_cut(gmem_watch_find(gmem, last + 1),
					     last + 1, GFP_KERNEL_ACCOUNT);
		if (err)
			gmem_watch_unlock(gmem);
	} while (gmem_store_busy(err, &tries));
	if (err)
		return err;
	/*
	 * Nothing can fail any more, so others need not wait until all have ended.
	 * What they make meanwhile is none of this, but if it lies behind.
	 */
	while (first <= last) {
		watch = gmem_watch_first_whole(gmem, first, last);
		if (!watch)
			break;
		first = watch->last + 1;
		gmem_watch_end(watch);
		gmem_watch_unlock(gmem);
		cond_resched();
		mutex_lock(&gmem_watch_mutex);
		filemap_invalidate_lock(gmem->inode.i_mapping);
	}
	gmem_watch_unlock(gmem);
	return 0;
}

/* Takes a watch away from a context that is gone. */
static void gmem_watch_orphan(struct gmem_watch *watch)
{
	gmem_assert_watches_mine(watch->gmem);
	gmem_trap_orphan(watch);
	list_del(&watch->context_node);
	watch->context = NULL;
	watch->gmem->nr_orphans++;
}

/* An orphan does what its policy says. May free it. */
static void gmem_watch_obey(struct gmem_watch *watch)
{
	switch (watch->policy) {
	case GMEMFD_POLICY_RELEASE:
		gmem_watch_end(watch);
		break;
	case GMEMFD_POLICY_POISON:
		gmem_trap_wake_watch(watch, watch->first, watch->last);
		break;
	case GMEMFD_POLICY_HOLD:
		break;
	}
}

/**
 * gmem_watch_attach - give orphans of a range to a context
 * @gmem: the file
 * @args: from user space; its size has been dealt with
 *
 * Return: 0 or -errno, as told at struct gmemfd_attach.
 */
int gmem_watch_attach(struct gmem *gmem, const struct gmemfd_attach *args)
{
	pgoff_t first = args->offset >> PAGE_SHIFT;
	pgoff_t last = (args->offset + args->len - 1) >> PAGE_SHIFT;
	struct gmem_watch *watch;
	struct gmem_context *context;
	int err;

	if (args->flags)
		return -EINVAL;
	err = gmem_range_check(gmem, args->offset, args->len);
	if (err)
		return err;

	CLASS(fd, f)(args->context);
	if (fd_empty(f))
		return -EBADF;
	/* One of mapping scope has other records to read. */
	context = gmem_context_from_file(fd_file(f));
	if (!context || context->mm)
		return -EBADF;

	err = gmem_watch_lock(gmem);
	if (err)
		return err;
	err = -ENOENT;
	watch = gmem_watch_first_whole(gmem, first, last);
	for (; watch; watch = gmem_watch_next_whole(watch, first, last)) {
		/* As if its context were through with its end. */
		if (watch->context && watch->context->gone &&
		    watch->policy != GMEMFD_POLICY_RELEASE)
			gmem_watch_orphan(watch);
		if (watch->context)
			continue;
		watch->context = context;
		list_add_tail(&watch->context_node, &context->watches);
		gmem->nr_orphans--;
		gmem_trap_adopt(watch);
		cond_resched();
		err = 0;
	}
	gmem_watch_unlock(gmem);
	return err;
}

/**
 * gmem_watch_set_policy - change what becomes of watches without a context
 * @gmem: the file
 * @args: from user space; its size has been dealt with
 *
 * Return: 0 or -errno, as told at struct gmemfd_policy.
 */
int gmem_watch_set_policy(struct gmem *gmem, const struct gmemfd_policy *args)
{
	pgoff_t first = args->offset >> PAGE_SHIFT;
	pgoff_t last = (args->offset + args->len - 1) >> PAGE_SHIFT;
	struct gmem_watch *watch, *next;
	int err;

	if (args->flags || args->policy == GMEMFD_POLICY_DEFAULT ||
	    args->policy > GMEMFD_POLICY_HOLD)
		return -EINVAL;
	err = gmem_range_check(gmem, args->offset, args->len);
	if (err)
		return err;

	err = gmem_watch_lock(gmem);
	if (err)
		return err;
	err = -ENOENT;
	watch = gmem_watch_first_whole(gmem, first, last);
	for (; watch; watch = next) {
		next = gmem_watch_next_whole(watch, first, last);
		watch->policy = args->policy;
		if (!watch->context)
			gmem_watch_obey(watch);
		cond_resched();
		err = 0;
	}
	gmem_watch_unlock(gmem);
	return err;
}

/**
 * gmem_watch_context_gone - nobody reads from a context any more
 * @context: on return nothing points at it any more
 *
 * One watch at a time, for there may be many, and this mutex is everybody's. Who
 * attaches meanwhile takes also those whose turn has not come: it is not to find
 * half of them. A file cannot go away under the mutex, which it would need first.
 */
void gmem_watch_context_gone(struct gmem_context *context)
{
	struct gmem_watch *watch;
	struct gmem *gmem;

	mutex_lock(&gmem_watch_mutex);
	context->gone = true;
	while (!list_empty(&context->watches)) {
		watch = list_first_entry(&context->watches, struct gmem_watch,
					 context_node);
		gmem = watch->gmem;
		filemap_invalidate_lock(gmem->inode.i_mapping);
		gmem_watch_orphan(watch);
		gmem_watch_obey(watch);
		filemap_invalidate_unlock(gmem->inode.i_mapping);
		mutex_unlock(&gmem_watch_mutex);
		cond_resched();
		mutex_lock(&gmem_watch_mutex);
	}
	mutex_unlock(&gmem_watch_mutex);
}

/**
 * gmem_watch_file_gone - a file is being evicted
 * @gmem: the file; nobody maps it, has it open, or waits for it
 */
void gmem_watch_file_gone(struct gmem *gmem)
{
	struct gmem_watch *watch;

	mutex_lock(&gmem_watch_mutex);
	while ((watch = gmem_watch_first(gmem, 0, ULONG_MAX))) {
		gmem_watch_unlink(watch);
		trace_gmem_watch(watch, false);
		kfree(watch);
	}
	mutex_unlock(&gmem_watch_mutex);
}

/**
 * gmem_watch_mapped - the first watch of mapping scope that touches a range
 * @map: the mappings
 * @first: first page, by address
 * @last: last page, by address
 *
 * As gmem_watch_first().
 *
 * Return: the watch, or NULL.
 */
struct gmem_watch *gmem_watch_mapped(struct gmem_map *map, pgoff_t first,
				     pgoff_t last)
{
	gmem_assert_watches_stable(map->gmem);
	return gmem_tree_iter_first(&map->watches, first, last);
}

/**
 * gmem_watch_minor - whether pages that are present trap somewhere in a range
 * @map: the mappings
 * @first: first page, by address
 * @last: last page, by address
 *
 * As gmem_watch_first().
 *
 * Return: as said.
 */
bool gmem_watch_minor(struct gmem_map *map, pgoff_t first, pgoff_t last)
{
	struct gmem_watch *watch = gmem_watch_mapped(map, first, last);

	while (watch && !(watch->modes & GMEMFD_MODE_MINOR))
		watch = gmem_tree_iter_next(watch, first, last);
	return watch;
}

/* Lets no watch of a range reach over its edges, but those with all of @spare. */
static int gmem_watch_cut_edges(struct gmem_map *map, pgoff_t first,
				pgoff_t last, u64 spare, gfp_t gfp)
{
	pgoff_t edges[] = { first, last + 1 };
	struct gmem_watch *watch;
	int i, err;

	for (i = 0; i < ARRAY_SIZE(edges); i++) {
		watch = gmem_watch_mapped(map, edges[i], edges[i]);
		if (watch && spare && (watch->modes & spare) == spare)
			continue;
		err = gmem_watch_cut(watch, edges[i], gfp);
		if (err)
			return err;
	}
	return 0;
}

/* Ends the watches of a range and, where told to, says so to their handlers. */
static int gmem_watch_end_mapped(struct gmem_map *map, pgoff_t first,
				 pgoff_t last, bool unmapped)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | (unmapped ? __GFP_NOFAIL : 0);
	struct gmem_watch *watch;
	int err;

	err = gmem_watch_cut_edges(map, first, last, 0, gfp);
	while (!err) {
		watch = gmem_watch_mapped(map, first, last);
		if (!watch)
			break;
		/* Nobody is told of the end of the process by its pieces. */
		if (unmapped && atomic_read(&map->mm->mm_users) &&
		    watch->context->features & UFFD_FEATURE_EVENT_UNMAP)
			gmem_context_notify(watch->context, UFFD_EVENT_UNMAP,
					    watch->first << PAGE_SHIFT,
					    (watch->last + 1) << PAGE_SHIFT,
					    gfp);
		gmem_watch_end(watch);
		cond_resched();
	}
	return err;
}

/* Begins to watch a range of mappings that nobody watches. */
static int gmem_watch_begin_mapped(struct gmem_map *map, pgoff_t first,
				   pgoff_t last, pgoff_t index,
				   struct gmem_context *context, u64 modes)
{
	struct gmem_watch *watch = kzalloc_obj(*watch, GFP_KERNEL_ACCOUNT);

	if (!watch)
		return -ENOMEM;
	watch->gmem = map->gmem;
	watch->map = map;
	watch->context = context;
	watch->first = first;
	watch->last = last;
	watch->index = index;
	watch->modes = modes;
	watch->policy = GMEMFD_POLICY_RELEASE;
	if (context->features & UFFD_FEATURE_EVENT_FORK)
		map->heritable = true;
	gmem_watch_link(watch);
	trace_gmem_watch(watch, true);
	return 0;
}

/*
 * Gives a watch of mappings other modes. Who waits because of one that stays waits on:
 * its event says all that a new one would.
 */
static void gmem_watch_change_mapped(struct gmem_watch *watch, u64 modes)
{
	u64 gone = watch->modes & ~modes;

	watch->modes = modes;
	if (gone)
		gmem_trap_wake_modes(watch->gmem, watch->index,
				     gmem_watch_last_index(watch), watch, gone);
}

/**
 * gmem_watch_register - begin to watch a range of mappings
 * @map: the mappings; their mmap_lock is held for writing
 * @first: first page, by address
 * @last: last page, by address
 * @index: the page of the file that @first maps
 * @context: the handler; what is watched already is its
 * @modes: GMEMFD_MODE_*; they take the place of those it had, but where it had all of
 *         them and more
 *
 * Return: 0, -EINTR, -ENOMEM. On an error some of the range may be watched as it was
 * before.
 */
int gmem_watch_register(struct gmem_map *map, pgoff_t first, pgoff_t last,
			pgoff_t index, struct gmem_context *context, u64 modes)
{
	pgoff_t shift = index - first;
	struct gmem_watch *old;
	pgoff_t stop;
	int err;

	err = gmem_watch_lock(map->gmem);
	if (err)
		return err;
	err = gmem_watch_cut_edges(map, first, last, modes, GFP_KERNEL_ACCOUNT);
	while (!err && first <= last) {
		old = gmem_watch_mapped(map, first, last);
		if (old && old->first <= first) {
			/* As the kernel has it: registering less changes nothing. */
			if ((old->modes & modes) != modes)
				gmem_watch_change_mapped(old, modes);
			stop = old->last;
		} else {
			stop = old ? old->first - 1 : last;
			err = gmem_watch_begin_mapped(map, first, stop,
						      first + shift, context,
						      modes);
		}
		first = stop + 1;
		cond_resched();
	}
	gmem_watch_unlock(map->gmem);
	return err;
}

/**
 * gmem_watch_unregister - end the watches of a range of mappings
 * @map: the mappings; their mmap_lock is held for writing
 * @first: first page, by address
 * @last: last page, by address
 *
 * Return: 0, -EINTR, -ENOMEM.
 */
int gmem_watch_unregister(struct gmem_map *map, pgoff_t first, pgoff_t last)
{
	int err = gmem_watch_lock(map->gmem);

	if (err)
		return err;
	err = gmem_watch_end_mapped(map, first, last, false);
	gmem_watch_unlock(map->gmem);
	return err;
}

/**
 * gmem_watch_unmapped - a range of mappings is gone
 * @map: the mappings
 * @first: first page, by address
 * @last: last page, by address
 *
 * Cannot fail: munmap(2) does not either. It takes memory only to cut a watch
 * in two, and to tell of it, a few bytes for what was registered before.
 */
void gmem_watch_unmapped(struct gmem_map *map, pgoff_t first, pgoff_t last)
{
	unsigned long i;
	void *entry;

	mutex_lock(&gmem_watch_mutex);
	filemap_invalidate_lock(map->gmem->inode.i_mapping);
	gmem_watch_end_mapped(map, first, last, true);
	xa_for_each_range(&map->poison, i, entry, first, last) {
		xa_erase(&map->poison, i);
		cond_resched();
	}
	filemap_invalidate_unlock(map->gmem->inode.i_mapping);
	mutex_unlock(&gmem_watch_mutex);
}

/* The part of a range of the file, by address, whose removal a handler is told. */
static bool gmem_watch_told(const struct gmem_watch *watch, pgoff_t *first,
			    pgoff_t *last)
{
	if (!(watch->context->features & UFFD_FEATURE_EVENT_REMOVE))
		return false;
	*first = max(*first, watch->index);
	*last = min(*last, gmem_watch_last_index(watch));
	if (*first > *last)
		return false;
	*first += watch->first - watch->index;
	*last += watch->first - watch->index;
	return true;
}

static int gmem_watch_punch_map(struct gmem_map *map, pgoff_t first,
				pgoff_t last, bool tell)
{
	struct gmem_watch *watch = gmem_watch_mapped(map, 0, ULONG_MAX);
	pgoff_t from, to;

	for (; watch; watch = gmem_tree_iter_next(watch, 0, ULONG_MAX)) {
		cond_resched();
		from = first;
		to = last;
		if (!gmem_watch_told(watch, &from, &to))
			continue;
		if (tell)
			gmem_context_notify(watch->context, UFFD_EVENT_REMOVE,
					    from << PAGE_SHIFT,
					    (to + 1) << PAGE_SHIFT,
					    GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
		else if (READ_ONCE(watch->context->nr_notices) >=
			 GMEM_MAX_NOTICES)
			return -EAGAIN;
	}
	return 0;
}

/**
 * gmem_watch_wants - whether mappings still want what is provided for them
 * @gmem: the file; its invalidate_lock is held
 * @source: with a context
 * @index: first page of the file
 * @last: last page
 *
 * The source was read without a lock. Whatever unmaps, moves or registers takes
 * invalidate_lock exclusive, so what is put in under the same hold of it comes
 * before any of these has returned, or not at all. So does UFFDIO_POISON, which refuses
 * what has content: what it was faster with is told in @source.
 *
 * Return: 0; -ENOENT where some of it is registered no longer; -EAGAIN where it is
 * another page or registered in another way by now, and for a notice that the
 * handler has not read.
 */
int gmem_watch_wants(struct gmem *gmem, struct gmem_source *source,
		     pgoff_t index, pgoff_t last)
{
	/* From a page of the file to one by address; may wrap, and back. */
	pgoff_t shift = (source->start >> PAGE_SHIFT) - source->index;
	struct gmem_map *each, *map = NULL;
	struct gmem_watch *watch;

	list_for_each_entry(each, &gmem->maps, node) {
		if (each->mm == source->context->mm)
			map = each;
	}
	if (!map)
		return -ENOENT;
	source->poison |= gmem_map_poisoned(map, index + shift, last + shift);
	while (index <= last) {
		watch = gmem_watch_mapped(map, index + shift, index + shift);
		if (!watch)
			return -ENOENT;
		if (watch->index - watch->first != -shift ||
		    watch->modes != source->modes)
			return -EAGAIN;
		index = gmem_watch_last_index(watch) + 1;
	}
	return gmem_context_changing(source->context, source->start,
				     source->end) ? -EAGAIN : 0;
}

/**
 * gmem_watch_punch - tell handlers that pages are about to go away
 * @gmem: the file; its invalidate_lock is held exclusive
 * @first: first page
 * @last: last page
 *
 * All of them or none: nobody is to hear of pages that stay. So first it is seen that
 * each has room for one, and then they are told without a limit, a notice for each
 * watch of the file at most.
 *
 * Return: 0; -EAGAIN when a handler does not read.
 */
int gmem_watch_punch(struct gmem *gmem, pgoff_t first, pgoff_t last)
{
	struct gmem_map *map;
	int err;

	lockdep_assert_held_write(&gmem->inode.i_mapping->invalidate_lock);
	list_for_each_entry(map, &gmem->maps, node) {
		err = gmem_watch_punch_map(map, first, last, false);
		if (err)
			return err;
	}
	list_for_each_entry(map, &gmem->maps, node)
		gmem_watch_punch_map(map, first, last, true);
	return 0;
}
