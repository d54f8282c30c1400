// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the answer to an access that found no page it may have: what it meets,
 * by the page's state and by the watches of file and mapping.
 */
#include <linux/userfaultfd.h>

#include "gmemfd.h"
#include "trace.h"

/**
 * gmem_watch_resolver - what the current thread may map although it traps others
 * @map: the mappings
 *
 * Return: the range, which is the thread's own; NULL for none.
 */
struct gmem_resolver *gmem_watch_resolver(struct gmem_map *map)
{
	struct gmem_resolver *resolver, *found = NULL;

	if (list_empty_careful(&map->resolvers))
		return NULL;
	spin_lock(&map->lock);
	list_for_each_entry(resolver, &map->resolvers, node) {
		if (resolver->task == current)
			found = resolver;
	}
	spin_unlock(&map->lock);
	return found;
}

/* Whether the mapping has poison there; opening the page takes it away. */
static bool gmem_watch_poisoned(struct gmem_touch *touch)
{
	pgoff_t page = touch->address >> PAGE_SHIFT;
	struct gmem_resolver *resolver;

	if (!gmem_map_poisoned(touch->map, page, page))
		return false;
	resolver = gmem_watch_resolver(touch->map);
	return !resolver || page < resolver->first || page > resolver->last;
}

/* What the mapping has to say. Sets @minor where a page that is there traps. */
static struct gmem_watch *gmem_watch_touched(struct gmem_touch *touch,
					     enum gmem_state state, bool *minor)
{
	pgoff_t page = touch->address >> PAGE_SHIFT;
	struct gmem_resolver *resolver;
	struct gmem_watch *watch;

	*minor = false;
	watch = gmem_watch_mapped(touch->map, page, page);
	if (!watch)
		return NULL;
	/* Whoever opens pages does not make any: one may just have been punched. */
	if (state == GMEM_ABSENT)
		return watch->modes & GMEMFD_MODE_MISSING ? watch : NULL;
	resolver = gmem_watch_resolver(touch->map);
	if (resolver && resolver->first <= page && page <= resolver->last)
		return NULL;
	*minor = state == GMEM_PRESENT && watch->modes & GMEMFD_MODE_MINOR;
	return *minor ? watch : NULL;
}

/**
 * gmem_watch_access - what an access meets that found no page it may have
 * @touch: the access
 * @waiter: on the caller's stack; NULL when it cannot wait
 *
 * GMEM_ACCESS_EXIT comes only for a @touch that can exit.
 *
 * For GMEM_ACCESS_TRAP with a @waiter the handler has been told: the caller drops its
 * locks, sleeps with gmem_trap_sleep(), calls gmem_trap_leave(), and looks again.
 *
 * Return: what it meets. Any but TRAP may have changed when this returns.
 */
enum gmem_access gmem_watch_access(struct gmem_touch *touch,
				   struct gmem_waiter *waiter)
{
	struct address_space *mapping = touch->gmem->inode.i_mapping;
	struct gmem *gmem = touch->gmem;
	struct gmem_watch *watch;
	enum gmem_access access;
	enum gmem_state state;
	bool minor;
	u32 flags;

	filemap_invalidate_lock_shared(mapping);
look:
	access = GMEM_ACCESS_TRAP;
	watch = NULL;
	flags = touch->flags;
	minor = false;
	state = gmem_store_state(gmem, touch->index);
	if (touch->map && gmem_watch_poisoned(touch))
		state = GMEM_POISONED;
	if (touch->map)
		watch = gmem_watch_touched(touch, state, &minor);
	if (watch) {
		if (watch->context->features & UFFD_FEATURE_SIGBUS ||
		    (watch->context->user_only &&
		     touch->flags & GMEMFD_FAULT_KERNEL)) {
			access = GMEM_ACCESS_NO_HANDLER;
			goto out;
		}
		goto trap;
	}

	watch = gmem_watch_find(gmem, touch->index);
	switch (state) {
	case GMEM_PRESENT:
		access = GMEM_ACCESS_AGAIN;
		goto out;
	case GMEM_POISONED:
		access = GMEM_ACCESS_POISON;
		goto out;
	case GMEM_ABSENT:
		if (watch && watch->modes & GMEMFD_MODE_MISSING)
			break;
		access = GMEM_ACCESS_HOLE;
		goto out;
	case GMEM_CLOSED:
		/* The end of a watch opens what it kept closed. */
		if (WARN_ON_ONCE(!watch)) {
			access = GMEM_ACCESS_NO_HANDLER;
			goto out;
		}
		minor = true;
		break;
	}
	if (!watch->context && watch->policy == GMEMFD_POLICY_POISON) {
		access = GMEM_ACCESS_NO_HANDLER;
		goto out;
	}
	if (watch->exits && watch->context && touch->exits) {
		access = GMEM_ACCESS_EXIT;
		goto out;
	}
trap:
	if (!waiter)
		goto out;
	if (minor)
		flags |= GMEMFD_FAULT_MINOR;

	gmem_trap_enter(waiter, watch, touch, flags);
	/*
	 * The second look: see the top of trap.c. For a page that traps though it
	 * is present, the page table tells.
	 */
	if (state == GMEM_PRESENT && touch->mapped(touch)) {
		access = GMEM_ACCESS_MAPPED;
		goto leave;
	}
	/* Present by now, it may trap for that: the caller would take it for had. */
	if (gmem_store_state(gmem, touch->index) != state) {
		access = GMEM_ACCESS_AGAIN;
		goto leave;
	}
	trace_gmem_fault(waiter, touch->index);
	if (gmem_trap_stand(waiter))
		gmem_trap_announce(waiter);
	goto out;

leave:
	gmem_trap_leave(waiter);
	if (access == GMEM_ACCESS_AGAIN)
		goto look;
out:
	filemap_invalidate_unlock_shared(mapping);
	return access;
}

/**
 * gmem_watch_pending - whether a page still traps to a context
 * @gmem: the file
 * @index: the page
 * @context: the context
 * @event: where so, the page, its cookie and GMEMFD_FAULT_MINOR are added
 *
 * Return: as said.
 */
bool gmem_watch_pending(struct gmem *gmem, pgoff_t index,
			const struct gmem_context *context,
			struct gmemfd_event *event)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	struct gmem_watch *watch;
	enum gmem_state state;
	bool pending;

	filemap_invalidate_lock_shared(mapping);
	watch = gmem_watch_find(gmem, index);
	state = gmem_store_state(gmem, index);
	pending = watch && watch->context == context && watch->exits &&
		  (state == GMEM_CLOSED ||
		   (state == GMEM_ABSENT && watch->modes & GMEMFD_MODE_MISSING));
	if (pending) {
		event->offset = (u64)round_down(index, gmem_granule_pages(gmem))
				<< PAGE_SHIFT;
		event->len = gmem_granule_pages(gmem) << PAGE_SHIFT;
		event->cookie = watch->cookie;
		if (state == GMEM_CLOSED)
			event->flags |= GMEMFD_FAULT_MINOR;
	}
	filemap_invalidate_unlock_shared(mapping);
	return pending;
}
