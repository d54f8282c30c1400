// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the threads that wait for pages: how they are found, how their faults
 * become events of a context, and how they are woken. Knows nothing of ioctls
 * nor of mappings.
 *
 * Waiters are hashed by file and granule, so that waking those of a page costs
 * the same however many wait for others. The first waiter of a granule stands
 * for all of them in its context's lists; when it leaves early, another takes
 * its place there, so no event is ever lost with a thread.
 *
 * No wake-up is lost because of this order. A waiter hashes itself,
 * counts itself in gmem->nr_waiters, and only then looks once more whether the
 * page still traps (the caller does, between gmem_trap_enter() and
 * gmem_trap_stand()). Who provides a page changes its state first, and looks
 * for waiters then. Each side writes before it reads, with a full barrier in
 * between, so at least one of them sees the other.
 *
 * Only after its second look can a waiter be seen, in the statistics and by its
 * event: from there on it sleeps until somebody wakes it, and nothing else
 * becomes of it that would depend on who was faster.
 */
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/userfaultfd.h>

#include "gmemfd.h"
#include "trace.h"

struct gmem_bucket {
	spinlock_t lock; /* of the list and of who is in it */
	struct hlist_head waiters;
} ____cacheline_aligned_in_smp;

static struct gmem_bucket *gmem_buckets;
static unsigned int gmem_bucket_bits;

static inline unsigned long gmem_nr_buckets(void)
{
	return 1UL << gmem_bucket_bits;
}

static struct gmem_bucket *gmem_bucket(const struct gmem *gmem, pgoff_t granule)
{
	u64 key = (unsigned long)gmem + (granule >> gmem->granule_order) *
		  GOLDEN_RATIO_64;

	return &gmem_buckets[hash_64(key, gmem_bucket_bits)];
}

static bool gmem_same_fault(const struct gmem_waiter *a,
			    const struct gmem_waiter *b)
{
	return a->gmem == b->gmem && a->granule == b->granule &&
	       a->watch == b->watch &&
	       !((a->flags ^ b->flags) & GMEMFD_FAULT_MINOR);
}

/* Who stands for the fault of @waiter in a context, if anybody does. */
static struct gmem_waiter *gmem_leader(struct gmem_bucket *bucket,
				       const struct gmem_waiter *waiter)
{
	struct gmem_waiter *other;

	lockdep_assert_held(&bucket->lock);
	hlist_for_each_entry(other, &bucket->waiters, hash) {
		if (other->context && gmem_same_fault(other, waiter))
			return other;
	}
	return NULL;
}

/* Whether each thread is to have an event of its own. */
static bool gmem_trap_alone(const struct gmem_context *context)
{
	return context->features & UFFD_FEATURE_THREAD_ID;
}

/* The caller holds the lock of the context. */
static void gmem_queue_event(struct gmem_waiter *waiter,
			     struct gmem_context *context)
{
	lockdep_assert_held(&context->lock);
	waiter->context = context;
	list_add_tail(&waiter->event, &context->pending);
	gmem_count(waiter->gmem, GMEM_STAT_EVENTS, 1);
}

static void gmem_unqueue_event(struct gmem_bucket *bucket,
			       struct gmem_waiter *waiter)
{
	struct gmem_context *context = waiter->context;

	lockdep_assert_held(&bucket->lock);
	if (!context)
		return;
	spin_lock(&context->lock);
	list_del(&waiter->event);
	spin_unlock(&context->lock);
	waiter->context = NULL;
}

/**
 * gmem_trap_enter - make the current thread a waiter
 * @waiter: on the caller's stack; gmem_trap_leave() must follow
 * @watch: the watch that covers @index; not an orphan with policy POISON
 * @touch: the access
 * @flags: GMEMFD_FAULT_*
 *
 * The caller holds the file's invalidate_lock, so that @watch stays, and looks
 * at the page's state once more after this: gmem_trap_stand() follows where it
 * still traps.
 */
void gmem_trap_enter(struct gmem_waiter *waiter, struct gmem_watch *watch,
		     const struct gmem_touch *touch, u32 flags)
{
	struct gmem *gmem = watch->gmem;
	struct gmem_bucket *bucket;

	lockdep_assert_held(&gmem->inode.i_mapping->invalidate_lock);

	waiter->gmem = gmem;
	waiter->granule = round_down(touch->index, gmem_granule_pages(gmem));
	waiter->watch = watch;
	waiter->context = NULL;
	waiter->task = current;
	waiter->flags = flags;
	waiter->address = touch->address;
	waiter->where = touch->where;
	waiter->cookie = watch->cookie;
	waiter->tid = task_pid_vnr(current);
	waiter->woken = false;
	waiter->stands = false;
	waiter->start = ktime_get_ns();

	bucket = gmem_bucket(gmem, waiter->granule);
	spin_lock(&bucket->lock);
	hlist_add_head(&waiter->hash, &bucket->waiters);
	atomic_inc(&gmem->nr_waiters);
	spin_unlock(&bucket->lock);

	/* Pairs with the barrier in gmem_trap_wake(): see the top. */
	smp_mb();
}

/**
 * gmem_trap_stand - let a waiter be seen, whose page still traps
 * @waiter: entered; gmem_trap_sleep() must follow
 *
 * The caller holds the file's invalidate_lock since gmem_trap_enter().
 *
 * Return: whether this is a new event, for gmem_trap_announce().
 */
bool gmem_trap_stand(struct gmem_waiter *waiter)
{
	struct gmem_context *context = waiter->watch->context;
	struct gmem *gmem = waiter->gmem;
	struct gmem_bucket *bucket = gmem_bucket(gmem, waiter->granule);
	bool fresh;

	lockdep_assert_held(&gmem->inode.i_mapping->invalidate_lock);

	gmem_count(gmem, waiter->flags & GMEMFD_FAULT_MINOR ?
			 GMEM_STAT_FAULTS_MINOR : GMEM_STAT_FAULTS_MISSING, 1);
	spin_lock(&bucket->lock);
	waiter->stands = true;
	/* Not for one that was woken since. */
	fresh = context && !hlist_unhashed(&waiter->hash) &&
		(gmem_trap_alone(context) || !gmem_leader(bucket, waiter));
	/*
	 * Who has read the event finds the waiter counted, and who finds it
	 * counted can read the event: both are one step.
	 */
	if (fresh) {
		spin_lock(&context->lock);
		gmem_queue_event(waiter, context);
		atomic_inc(&gmem->nr_standing);
		spin_unlock(&context->lock);
	} else {
		atomic_inc(&gmem->nr_standing);
	}
	spin_unlock(&bucket->lock);
	return fresh;
}

/**
 * gmem_trap_announce - tell the readers that there is an event
 * @waiter: for which gmem_trap_stand() returned true
 *
 * Before gmem_trap_leave(): the event may be another's by then. The caller holds the
 * file's invalidate_lock.
 */
void gmem_trap_announce(struct gmem_waiter *waiter)
{
	struct gmem_context *context = waiter->watch->context;

	lockdep_assert_held(&waiter->gmem->inode.i_mapping->invalidate_lock);
	if (wq_has_sleeper(&context->wqh))
		wake_up_poll(&context->wqh, EPOLLIN | EPOLLRDNORM);
}

/**
 * gmem_trap_sleep - wait until somebody wakes the current thread
 * @waiter: gmem_trap_stand() was called for it
 * @state: TASK_INTERRUPTIBLE or TASK_KILLABLE
 * @give_up: asked after each second whether to wait no longer; NULL for as long as
 *           it takes
 * @arg: for @give_up
 *
 * The caller holds no lock of any kind.
 *
 * Return: 0 when woken, -EINTR for a signal that @state listens to, and when it gave
 * up.
 */
int gmem_trap_sleep(struct gmem_waiter *waiter, unsigned int state,
		    bool (*give_up)(const void *arg), const void *arg)
{
	int err = 0;
	u64 ns;

	might_sleep();
	for (;;) {
		set_current_state(state);
		/* Pairs with the release in gmem_wake_waiter(). */
		if (smp_load_acquire(&waiter->woken))
			break;
		if (signal_pending_state(state, current)) {
			err = -EINTR;
			break;
		}
		if (!give_up) {
			schedule();
		} else if (!schedule_timeout(HZ) && give_up(arg)) {
			err = -EINTR;
			break;
		}
	}
	__set_current_state(TASK_RUNNING);

	ns = ktime_get_ns() - waiter->start;
	gmem_count(waiter->gmem, GMEM_STAT_WAIT_NS, ns);
	atomic64_inc(&waiter->gmem->wait_log2[min_t(int, ns ? ilog2(ns) : 0,
						    GMEMFD_WAIT_BUCKETS - 1)]);
	return err;
}

/**
 * gmem_trap_leave - the current thread waits no longer
 * @waiter: entered; may be gone once this returns
 *
 * Where the thread stood for others that go on waiting, one of them takes its
 * place in the context's lists, read or not as it was.
 */
void gmem_trap_leave(struct gmem_waiter *waiter)
{
	struct gmem *gmem = waiter->gmem;
	struct gmem_bucket *bucket = gmem_bucket(gmem, waiter->granule);
	struct gmem_waiter *heir;

	/*
	 * Taken also by one that was woken: whoever woke it may still be about
	 * to use @waiter, under this lock.
	 */
	spin_lock(&bucket->lock);
	if (!hlist_unhashed(&waiter->hash)) {
		hlist_del_init(&waiter->hash);
		if (waiter->context) {
			hlist_for_each_entry(heir, &bucket->waiters, hash) {
				/*
				 * One with an event of its own needs no other,
				 * and one that does not stand yet has its own to
				 * come.
				 */
				if (heir->context || !heir->stands ||
				    !gmem_same_fault(heir, waiter))
					continue;
				heir->context = waiter->context;
				spin_lock(&heir->context->lock);
				list_replace(&waiter->event, &heir->event);
				spin_unlock(&heir->context->lock);
				waiter->context = NULL;
				break;
			}
		}
		gmem_unqueue_event(bucket, waiter);
	}
	spin_unlock(&bucket->lock);

	if (waiter->stands)
		atomic_dec(&gmem->nr_standing);
	/* The last use of @gmem by a waiter that no mapping may pin any more. */
	atomic_dec(&gmem->nr_waiters);
}

static void gmem_wake_waiter(struct gmem_bucket *bucket,
			     struct gmem_waiter *waiter)
{
	gmem_unqueue_event(bucket, waiter);
	hlist_del_init(&waiter->hash);
	/* Pairs with the acquire in gmem_trap_sleep(). */
	smp_store_release(&waiter->woken, true);
	wake_up_process(waiter->task);
}

/* GMEMFD_MODE_* that made it wait. */
static u64 gmem_waiter_mode(const struct gmem_waiter *waiter)
{
	return waiter->flags & GMEMFD_FAULT_MINOR ? GMEMFD_MODE_MINOR :
						    GMEMFD_MODE_MISSING;
}

static unsigned int gmem_wake_bucket(struct gmem_bucket *bucket,
				     struct gmem *gmem, pgoff_t first,
				     pgoff_t last, struct gmem_watch *watch,
				     u64 modes)
{
	pgoff_t granule = gmem_granule_pages(gmem);
	struct gmem_waiter *waiter;
	struct hlist_node *next;
	unsigned int woken = 0;

	/* What is added after this look has its own second look to come. */
	if (hlist_empty(&bucket->waiters))
		return 0;
	spin_lock(&bucket->lock);
	hlist_for_each_entry_safe(waiter, next, &bucket->waiters, hash) {
		if (waiter->gmem != gmem || waiter->granule > last ||
		    waiter->granule + granule - 1 < first ||
		    (watch && waiter->watch != watch) ||
		    !(gmem_waiter_mode(waiter) & modes))
			continue;
		gmem_wake_waiter(bucket, waiter);
		woken++;
	}
	spin_unlock(&bucket->lock);
	return woken;
}

static void gmem_wake(struct gmem *gmem, pgoff_t first, pgoff_t last,
		      struct gmem_watch *watch, u64 modes)
{
	pgoff_t granule = gmem_granule_pages(gmem);
	unsigned int woken = 0;
	unsigned long i;
	pgoff_t index;

	/* Pairs with the barrier in gmem_trap_enter(): see the top. */
	smp_mb();
	if (!atomic_read(&gmem->nr_waiters))
		return;

	first = round_down(first, granule);
	if ((last - first) >> gmem->granule_order < gmem_nr_buckets()) {
		for (index = first; index <= last; index += granule)
			woken += gmem_wake_bucket(gmem_bucket(gmem, index),
						  gmem, first, last, watch,
						  modes);
	} else {
		for (i = 0; i < gmem_nr_buckets(); i++) {
			woken += gmem_wake_bucket(&gmem_buckets[i], gmem,
						  first, last, watch, modes);
			cond_resched();
		}
	}
	gmem_count(gmem, GMEM_STAT_WAKES, woken);
	trace_gmem_wake(gmem, first, last, woken);
}

/**
 * gmem_trap_wake - make those who wait for a range look again
 * @gmem: the file
 * @first: first page
 * @last: last page
 *
 * Its cost is bounded by the size of the table, however long the range.
 */
void gmem_trap_wake(struct gmem *gmem, pgoff_t first, pgoff_t last)
{
	gmem_wake(gmem, first, last, NULL, GMEMFD_MODE_ALL);
}

/**
 * gmem_trap_wake_watch - make those who wait because of one watch look again
 * @watch: the watch
 * @first: first page of the file
 * @last: last page of the file
 *
 * For a page that is there for the mappings of this watch only.
 */
void gmem_trap_wake_watch(struct gmem_watch *watch, pgoff_t first, pgoff_t last)
{
	gmem_wake(watch->gmem, first, last, watch, GMEMFD_MODE_ALL);
}

/**
 * gmem_trap_wake_modes - make those who wait because of one mode look again
 * @gmem: the file
 * @first: first page
 * @last: last page
 * @watch: only those of this watch; NULL for all
 * @modes: GMEMFD_MODE_* that made them wait
 *
 * For a change after which all the others would wait for the same thing once more,
 * with another event.
 */
void gmem_trap_wake_modes(struct gmem *gmem, pgoff_t first, pgoff_t last,
			  struct gmem_watch *watch, u64 modes)
{
	gmem_wake(gmem, first, last, watch, modes);
}

typedef void (*gmem_waiter_fn)(struct gmem_bucket *bucket,
			       struct gmem_waiter *waiter,
			       struct gmem_watch *tail);

static void gmem_trap_each_in(struct gmem_bucket *bucket,
			      struct gmem_watch *watch, pgoff_t first,
			      pgoff_t last, gmem_waiter_fn fn,
			      struct gmem_watch *tail)
{
	struct gmem_waiter *waiter;

	if (hlist_empty(&bucket->waiters))
		return;
	spin_lock(&bucket->lock);
	hlist_for_each_entry(waiter, &bucket->waiters, hash) {
		if (waiter->watch == watch && waiter->granule >= first &&
		    waiter->granule <= last)
			fn(bucket, waiter, tail);
	}
	spin_unlock(&bucket->lock);
}

/*
 * Calls @fn once for each waiter of a watch in the range that @part watches, under
 * its bucket's lock. The caller holds invalidate_lock exclusive, so none is added.
 * As with gmem_wake() the shorter way is taken: through the range or the table.
 */
static void gmem_trap_each(struct gmem_watch *watch,
			   const struct gmem_watch *part, gmem_waiter_fn fn,
			   struct gmem_watch *tail)
{
	struct gmem *gmem = watch->gmem;
	pgoff_t granule = gmem_granule_pages(gmem);
	pgoff_t first = round_down(part->index, granule);
	pgoff_t last = part->index + (part->last - part->first);
	unsigned long i;
	pgoff_t index;

	lockdep_assert_held_write(&gmem->inode.i_mapping->invalidate_lock);
	if (!atomic_read(&gmem->nr_waiters))
		return;
	if ((last - first) >> gmem->granule_order < gmem_nr_buckets()) {
		for (index = first; index <= last; index += granule)
			gmem_trap_each_in(gmem_bucket(gmem, index), watch,
					  index, index, fn, tail);
	} else {
		for (i = 0; i < gmem_nr_buckets(); i++) {
			gmem_trap_each_in(&gmem_buckets[i], watch, first, last,
					  fn, tail);
			cond_resched();
		}
	}
}

static void gmem_waiter_orphan(struct gmem_bucket *bucket,
			       struct gmem_waiter *waiter,
			       struct gmem_watch *tail)
{
	gmem_unqueue_event(bucket, waiter);
}

static void gmem_waiter_hand_over(struct gmem_bucket *bucket,
				  struct gmem_waiter *waiter,
				  struct gmem_watch *tail)
{
	waiter->watch = tail;
}

static void gmem_waiter_adopt(struct gmem_bucket *bucket,
			      struct gmem_waiter *waiter,
			      struct gmem_watch *tail)
{
	struct gmem_context *context = waiter->watch->context;

	if (!gmem_trap_alone(context) && gmem_leader(bucket, waiter))
		return;
	spin_lock(&context->lock);
	gmem_queue_event(waiter, context);
	spin_unlock(&context->lock);
}

/**
 * gmem_trap_orphan - the context of a watch goes away, its waiters stay
 * @watch: the watch; its context is about to be cleared
 *
 * Takes the events of the watch out of the context, also those that were
 * read. The caller holds invalidate_lock exclusive.
 */
void gmem_trap_orphan(struct gmem_watch *watch)
{
	gmem_trap_each(watch, watch, gmem_waiter_orphan, NULL);
}

/**
 * gmem_trap_hand_over - a watch has lost its tail to another
 * @watch: the watch
 * @tail: what it lost; with the same context
 *
 * Nobody is woken. The caller holds invalidate_lock exclusive.
 */
void gmem_trap_hand_over(struct gmem_watch *watch, struct gmem_watch *tail)
{
	gmem_trap_each(watch, tail, gmem_waiter_hand_over, tail);
}

/**
 * gmem_trap_adopt - report all the waiters of a watch to its new context
 * @watch: the watch, with its new context set
 *
 * The caller holds invalidate_lock exclusive.
 */
void gmem_trap_adopt(struct gmem_watch *watch)
{
	gmem_trap_each(watch, watch, gmem_waiter_adopt, NULL);
	wake_up_all(&watch->context->wqh);
}

/**
 * gmem_trap_init - make the table of waiters
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_trap_init(void)
{
	unsigned long i;

	/* As the kernel sizes its futex table: waiters are threads. */
	gmem_bucket_bits = ilog2(roundup_pow_of_two(256 * num_possible_cpus()));
	gmem_bucket_bits = min(gmem_bucket_bits, 14U);
	gmem_buckets = kvmalloc_array(gmem_nr_buckets(), sizeof(*gmem_buckets),
				      GFP_KERNEL);
	if (!gmem_buckets)
		return -ENOMEM;
	for (i = 0; i < gmem_nr_buckets(); i++) {
		spin_lock_init(&gmem_buckets[i].lock);
		INIT_HLIST_HEAD(&gmem_buckets[i].waiters);
	}
	return 0;
}

/**
 * gmem_trap_exit - free the table; nobody waits any more
 */
void gmem_trap_exit(void)
{
	kvfree(gmem_buckets);
}
