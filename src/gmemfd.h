/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The private types of the module, its lock order and its lifetimes.
 *
 * Lock order, outermost first
 * ---------------------------
 *
 *	mmap_lock or a VMA lock (the kernel's, around a fault)
 *	gmem_watch_mutex	all watches of all files, and who handles them
 *	mapping->invalidate_lock of a gmem file
 *	folio lock
 *	i_mmap_rwsem, page table locks (the kernel's, when unmapping)
 *	gmem_bucket.lock	waiters of some pages
 *	gmem_context.lock	events of one context
 *
 * gmem_kvm_mutex, of all bindings, is taken inside any of them but the folio lock
 * and those below it, and takes none of them inside.
 *
 * Mappings that come and go, and registrations, take gmem_watch_mutex inside
 * mmap_lock, fork(2) inside those of parent and child; mmap_lock is never taken
 * inside it. Who reads of a fork takes the parent's with nothing of ours held.
 * gmem_map.lock is a leaf.
 *
 * No lock is held while user memory is read or written, nor while a trapped
 * thread sleeps: whoever traps drops everything first, so that a handler can
 * always get at all of it.
 *
 * invalidate_lock
 *	Shared: a page may change from absent to content, from closed to open.
 *	Exclusive: content or poison goes away or comes, watches change. So whoever
 *	holds it shared sees stable watches and no page vanishing.
 *	A present and open page needs no lock beyond the folio's.
 *
 * Lifetimes
 * ---------
 * struct gmem		lives in its inode, from create to evict.
 * struct gmem_watch	from gmem_watch_add() until it is removed; its file's tree and
 *			its context's list point at it, and waiters do. All three
 *			are cleared before it is freed. It pins neither file nor
 *			context: each, when it dies, takes its watches along or
 *			orphans them, under gmem_watch_mutex.
 * struct gmem_context	lives as long as its file description. Watches and
 *			waiters that point at it are cleared in its release.
 *			A child's that has no descriptor yet is its parent's, and
 *			goes with it; see fork.c.
 * struct gmem_map	as long as a mapping of its file in its process is; holds
 *			neither.
 * struct gmem_binding	until it is unbound, or its file, its VM's process, or its
 *			memslot is found gone; readers see it in RCU sections.
 * struct gmem_vm	as long as it has bindings; holds the VM, but not its process.
 * struct gmem_waiter	on the stack of the thread that waits, hashed while it
 *			may be woken. Only reached under its bucket's lock, which
 *			its owner takes once more before the stack goes.
 */
#ifndef GMEMFD_H
#define GMEMFD_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/gmemfd.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/xarray.h>

struct gmem_source;
struct kvm_vcpu;
struct mem_cgroup;
struct seq_file;

/*
 * stats - what is counted for each file; the order is that of the out fields
 * of struct gmemfd_stats from faults_zero on.
 */
enum gmem_stat {
	GMEM_STAT_FAULTS_ZERO,
	GMEM_STAT_FAULTS_MISSING,
	GMEM_STAT_FAULTS_MINOR,
	GMEM_STAT_FAULTS_SIGBUS,
	GMEM_STAT_VCPU_EXITS,
	GMEM_STAT_EVENTS,
	GMEM_STAT_COPIED,
	GMEM_STAT_ZEROED,
	GMEM_STAT_FILLED,
	GMEM_STAT_WRITTEN,
	GMEM_STAT_CONTINUED,
	GMEM_STAT_HUGE,
	GMEM_STAT_WAKES,
	GMEM_STAT_WAIT_NS,
	GMEM_STAT_POISONED,
	GMEM_STAT_PUNCHED,
	GMEM_STAT_NR
};

/**
 * struct gmem - a gmem file
 * @inode: its inode; i_mapping holds the pages
 * @granule_order: order of a granule: 0, or PMD_ORDER
 * @node: NUMA node to take memory from, or NUMA_NO_NODE for the toucher's policy
 * @policy: of watches that name none; never GMEMFD_POLICY_DEFAULT
 * @memcg: whom pages are charged to; may be NULL; a reference is held
 * @watches: tree of struct gmem_watch, disjoint ranges. Changed under
 *           gmem_watch_mutex and invalidate_lock; read under either
 * @poison: a value entry for each poisoned page. Changed under invalidate_lock,
 *          or, when memory breaks, under the folio's lock alone
 * @maps: list of struct gmem_map; locked as @watches
 * @bindings: tree of struct gmem_binding by id, under gmem_kvm_mutex
 * @nr_bindings: entries of @bindings
 * @nr_waiters: threads hashed for this file
 * @nr_standing: those of them whose second look is over: who waits, as users see it
 * @nr_watches: entries of @watches
 * @nr_orphans: those without a context
 * @stats: indexed by enum gmem_stat
 * @wait_log2: waits by length
 */
struct gmem {
	struct inode inode;
	unsigned int granule_order;
	int node;
	u32 policy;
	struct mem_cgroup *memcg;
	struct rb_root_cached watches;
	struct xarray poison;
	struct list_head maps;
	struct rb_root bindings;
	unsigned int nr_bindings;
	atomic_t nr_waiters;
	atomic_t nr_standing;
	unsigned int nr_watches;
	unsigned int nr_orphans;
	atomic64_t stats[GMEM_STAT_NR];
	atomic64_t wait_log2[GMEMFD_WAIT_BUCKETS];
};

static inline struct gmem *gmem_of(struct inode *inode)
{
	return container_of(inode, struct gmem, inode);
}

static inline pgoff_t gmem_granule_pages(const struct gmem *gmem)
{
	return 1UL << gmem->granule_order;
}

static inline void gmem_count(struct gmem *gmem, enum gmem_stat stat, u64 n)
{
	atomic64_add(n, &gmem->stats[stat]);
}

/**
 * struct gmem_map - what mappings of a file in one process have registered
 *
 * Hangs on vm_private_data of all mappings of the file in the process, from the
 * first registration on; a child gets one of its own, or none: see fork.c. Mapping
 * scope is in here.
 *
 * @refs: mappings that point here
 * @gmem: the file
 * @mm: the process; only compared, alive as long as a mapping is
 * @node: in @gmem->maps
 * @watches: tree of struct gmem_watch by address; locked as @gmem->watches
 * @poison: a value entry for each page that UFFDIO_POISON poisoned, by address; locked
 *          as @gmem->poison
 * @heritable: a context that is told of forks has registered something here once;
 *             under mmap_lock
 * @lock: protects @resolvers
 * @resolvers: those who map pages that trap others
 */
struct gmem_map {
	refcount_t refs;
	struct gmem *gmem;
	struct mm_struct *mm;
	struct list_head node;
	struct rb_root_cached watches;
	struct xarray poison;
	bool heritable;
	spinlock_t lock; /* a leaf */
	struct list_head resolvers;
};

/**
 * struct gmem_resolver - lets the faults of one thread through a trap
 *
 * On the stack of a thread that opens pages for a mapping by faulting on them
 * itself. A range, so that one fault may map what is around it.
 *
 * @node: in gmem_map.resolvers
 * @task: the thread
 * @first: first page, by address
 * @last: last page, by address
 * @busy: a folio would have had to be split, but somebody uses it
 */
struct gmem_resolver {
	struct list_head node;
	struct task_struct *task;
	pgoff_t first;
	pgoff_t last;
	bool busy;
};

/**
 * struct gmem_watch - a range that traps
 *
 * Of a file, whoever maps it; or of the mappings of it in one process.
 *
 * @rb: in @gmem->watches or @map->watches
 * @subtree_last: for the interval tree
 * @first: first page, of the file or, with @map, by address
 * @last: last page
 * @map: mapping scope: the mappings; file scope: NULL
 * @index: mapping scope: the page of the file that @first maps
 * @gmem: the file
 * @context: who handles it; NULL: the handler is gone (an orphan); with @map
 *           never NULL
 * @context_node: in @context->watches
 * @modes: GMEMFD_MODE_*
 * @cookie: the handler's
 * @policy: what becomes of it when the handler goes; never DEFAULT, never
 *          RELEASE for an orphan
 * @exits: a guest's access makes KVM_RUN fail instead of waiting
 */
struct gmem_watch {
	struct rb_node rb;
	pgoff_t subtree_last;
	pgoff_t first;
	pgoff_t last;
	struct gmem_map *map;
	pgoff_t index;
	struct gmem *gmem;
	struct gmem_context *context;
	struct list_head context_node;
	u64 modes;
	u64 cookie;
	u32 policy;
	bool exits;
};

/**
 * struct gmem_notice - a change of mappings or of content that a handler is told
 * @node: in gmem_context.notices; of a fork, nowhere while it is being read
 * @event: UFFD_EVENT_*
 * @start: first address; 0 for a fork
 * @end: the address behind the last; 0 for a fork
 * @child: of a fork: the child's context, in gmem_context.forks
 */
struct gmem_notice {
	struct list_head node;
	u8 event;
	unsigned long start;
	unsigned long end;
	struct gmem_context *child;
};

/* Unread notices of a context; who makes more is refused what makes them. */
#define GMEM_MAX_NOTICES	4096

/* Children whose contexts wait to be read, theirs included: each holds an mm_struct. */
#define GMEM_MAX_FORKS		1024

/**
 * struct gmem_context - where a handler reads its faults
 * @mm: for mapping scope: whose mappings; a reference to the struct is held. NULL
 *      for file scope
 * @features: for mapping scope: UFFD_FEATURE_* that were asked for, or'ed with
 *            GMEM_UFFD_READY once UFFDIO_API was done
 * @user_only: for mapping scope: the kernel's own accesses fail
 * @flags: O_* that its descriptor was made with, or is to be
 * @watches: what it handles, under gmem_watch_mutex
 * @gone: its last descriptor has closed, or its parent's has, and its watches are
 *        being made orphans; under gmem_watch_mutex
 * @parent: of a context without a descriptor: in whose @forks it is; else NULL. This
 *          and the next three are for mapping scope, under gmem_watch_mutex
 * @forks: contexts of children of which nobody has read here, oldest first; whether there
 *         are any is also looked at without the lock
 * @fork_node: in @parent->forks; among those that go, when they do
 * @nr_forks: entries of @forks, of theirs, and so on
 * @lock: protects what follows
 * @pending: events that nobody has read, oldest first
 * @seen: events that were read
 * @notices: struct gmem_notice that nobody has read, oldest first
 * @nr_notices: their number
 * @wqh: readers and pollers
 */
struct gmem_context {
	struct mm_struct *mm;
	u64 features;
	bool user_only;
	unsigned int flags;
	struct list_head watches;
	bool gone;
	struct gmem_context *parent;
	struct list_head forks;
	struct list_head fork_node;
	unsigned int nr_forks;
	spinlock_t lock; /* innermost: see the top */
	struct list_head pending;
	struct list_head seen;
	struct list_head notices;
	unsigned int nr_notices;
	wait_queue_head_t wqh;
};

/* Not a UFFD_FEATURE_*: the handshake is over. */
#define GMEM_UFFD_READY		BIT_ULL(63)

/**
 * struct gmem_where - what an access was in a VM
 * @flags: GMEMFD_FAULT_VM, _VCPU, _GUEST
 * @slot: the memslot, as in struct gmemfd_event
 * @vcpu: the vCPU's id
 * @gpa: guest physical address of the page
 * @vm: the VM's cookie
 */
struct gmem_where {
	u32 flags;
	u32 slot;
	u32 vcpu;
	u64 gpa;
	u64 vm;
};

/**
 * struct gmem_waiter - a thread that waits for a page
 * @hash: in its bucket; unhashed when woken
 * @event: in @context->pending or @seen, when it stands for its granule
 * @gmem: the file
 * @granule: first page of the granule it waits for
 * @watch: the watch that made it wait
 * @context: whose lists @event is in; NULL for none. Under the bucket's lock
 * @task: the thread
 * @flags: GMEMFD_FAULT_*
 * @address: where the access was
 * @where: what it was in a VM
 * @cookie: of @watch
 * @tid: the thread, in its own PID namespace
 * @woken: set once it is unhashed by somebody else
 * @stands: it is past its second look. Under the bucket's lock
 * @start: ktime when it began, in ns
 */
struct gmem_waiter {
	struct hlist_node hash;
	struct list_head event;
	struct gmem *gmem;
	pgoff_t granule;
	struct gmem_watch *watch;
	struct gmem_context *context;
	struct task_struct *task;
	u32 flags;
	unsigned long address;
	struct gmem_where where;
	u64 cookie;
	pid_t tid;
	bool woken;
	bool stands;
	u64 start;
};

/* gmem.c: the inode */
int gmem_create(const struct gmemfd_create *args);
struct gmem *gmem_from_file(struct file *file);
u64 gmem_max_bytes(void);
bool gmem_huge_possible(void);
void gmem_stats(struct gmem *gmem, struct gmemfd_stats *stats);
int gmem_init(void);
void gmem_exit(void);

/* store.c: pages and their state */
enum gmem_state {
	GMEM_ABSENT,
	GMEM_CLOSED,
	GMEM_PRESENT,
	GMEM_POISONED,
};

/*
 * The largest folio. Kernels without huge pages, among them those with
 * PREEMPT_RT, have a page cache of single pages.
 */
#define GMEM_MAX_ORDER	(IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) ? PMD_ORDER : 0)

enum gmem_state gmem_store_state(struct gmem *gmem, pgoff_t index);
struct folio *gmem_store_lock(struct gmem *gmem, pgoff_t index, bool closed);
bool gmem_store_foreign(const struct gmem *gmem);
struct folio *gmem_store_alloc(struct gmem *gmem, unsigned int order, bool fault);
struct folio **gmem_store_alloc_granule(struct gmem *gmem, unsigned long nr,
					bool fault);
void gmem_store_put_granule(struct folio **folios, unsigned long nr);
int gmem_store_insert(struct gmem *gmem, struct folio *folio, pgoff_t index,
		      bool closed, bool fault);
int gmem_store_insert_granule(struct gmem *gmem, struct folio **folios,
			      pgoff_t index, bool closed, bool fault);
int gmem_store_open(struct gmem *gmem, pgoff_t index, pgoff_t last,
		    pgoff_t *next);
int gmem_store_poison(struct gmem *gmem, pgoff_t index);
bool gmem_store_present(struct gmem *gmem, pgoff_t index);
bool gmem_store_broken(struct folio *folio);
bool gmem_store_poisoned(struct gmem *gmem, pgoff_t first, pgoff_t last);
int gmem_store_split(struct gmem *gmem, pgoff_t boundary);
bool gmem_store_busy(int err, unsigned int *tries);
void gmem_store_remove(struct gmem *gmem, pgoff_t first, pgoff_t last);
int gmem_store_lose(struct gmem *gmem, struct folio *folio);
void gmem_store_end(struct gmem *gmem);
pgoff_t gmem_store_data(struct gmem *gmem, pgoff_t index);
pgoff_t gmem_store_hole(struct gmem *gmem, pgoff_t index);

/* file.c: read, write and the like */
extern const struct file_operations gmem_fops;

/* fault.c: faults in mappings */
vm_fault_t gmem_fault(struct vm_fault *vmf);
vm_fault_t gmem_map_pages(struct vm_fault *vmf, pgoff_t start, pgoff_t end);
bool gmem_map_present(struct mm_struct *mm, unsigned long address);
long gmem_map_open(struct vm_area_struct *vma, unsigned long start,
		   unsigned long end, unsigned long *reached);

/* map.c: mappings, and what they have registered */
int gmem_mmap(struct file *file, struct vm_area_struct *vma);
struct gmem_map *gmem_map_of(struct vm_area_struct *vma);
int gmem_map_make(struct vm_area_struct *vma);
struct gmem_map *gmem_map_inherit(struct gmem *gmem, struct vm_area_struct *vma);
bool gmem_is_mapping(struct vm_area_struct *vma);
bool gmem_map_poisoned(struct gmem_map *map, pgoff_t first, pgoff_t last);
int gmem_map_poison(struct vm_area_struct *vma, unsigned long address);
void gmem_map_cure(struct gmem_map *map, pgoff_t first, pgoff_t last);
bool gmem_map_covers(struct gmem *gmem, unsigned long address,
		     unsigned long len, pgoff_t index);

/* fork.c: what a child has of its parent's registrations */
void gmem_fork_mapping(struct gmem_map *map, struct vm_area_struct *vma);
int gmem_fork_tell(struct gmem_context *context, struct gmem_notice *notice,
		   struct iov_iter *to);
void gmem_fork_release(struct gmem_context *context);

/* uffd.c: the UFFDIO_* ioctls */
u64 gmem_uffd_ioctls(void);
long gmem_uffd_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* watch.c: who traps what */
extern struct mutex gmem_watch_mutex;

struct gmem_watch *gmem_watch_find(struct gmem *gmem, pgoff_t index);
struct gmem_watch *gmem_watch_first(struct gmem *gmem, pgoff_t first,
				    pgoff_t last);
struct gmem_watch *gmem_watch_mapped(struct gmem_map *map, pgoff_t first,
				     pgoff_t last);
bool gmem_watch_minor(struct gmem_map *map, pgoff_t first, pgoff_t last);
void gmem_watch_link(struct gmem_watch *watch);
int gmem_watch_register(struct gmem_map *map, pgoff_t first, pgoff_t last,
			pgoff_t index, struct gmem_context *context, u64 modes);
int gmem_watch_unregister(struct gmem_map *map, pgoff_t first, pgoff_t last);
void gmem_watch_unmapped(struct gmem_map *map, pgoff_t first, pgoff_t last);
int gmem_watch_wants(struct gmem *gmem, struct gmem_source *source,
		     pgoff_t index, pgoff_t last);
int gmem_watch_punch(struct gmem *gmem, pgoff_t first, pgoff_t last);
int gmem_watch_add(struct gmem *gmem, const struct gmemfd_watch *args);
int gmem_watch_remove(struct gmem *gmem, pgoff_t first, pgoff_t last);
int gmem_watch_attach(struct gmem *gmem, const struct gmemfd_attach *args);
int gmem_watch_set_policy(struct gmem *gmem, const struct gmemfd_policy *args);
void gmem_watch_context_gone(struct gmem_context *context);
void gmem_watch_file_gone(struct gmem *gmem);

/*
 * access.c: what an access meets that finds no page it may have: one by now; one that
 * is mapped by now; a hole that nobody watches; poison; a watch whose handler is gone
 * for good, or does not want to know; a trap; a trap that is not to be waited for, but
 * told the vCPU's thread.
 */
enum gmem_access {
	GMEM_ACCESS_AGAIN,
	GMEM_ACCESS_MAPPED,
	GMEM_ACCESS_HOLE,
	GMEM_ACCESS_POISON,
	GMEM_ACCESS_NO_HANDLER,
	GMEM_ACCESS_TRAP,
	GMEM_ACCESS_EXIT,
};

/**
 * struct gmem_touch - an access that found no page it may have
 * @gmem: the file
 * @index: the page
 * @flags: GMEMFD_FAULT_*, without MINOR
 * @map: what the mapping has registered; NULL for nothing, and for no mapping
 * @address: of a mapping: where the access was, in bytes
 * @where: what it was in a VM
 * @vcpu: the vCPU that the thread runs; NULL for none
 * @exits: it is the guest's access, and KVM_RUN can be made to fail
 * @mapped: with @map: whether the page is in the page table by now
 */
struct gmem_touch {
	struct gmem *gmem;
	pgoff_t index;
	u32 flags;
	struct gmem_map *map;
	unsigned long address;
	struct gmem_where where;
	struct kvm_vcpu *vcpu;
	bool exits;
	bool (*mapped)(struct gmem_touch *touch);
};

struct gmem_resolver *gmem_watch_resolver(struct gmem_map *map);
enum gmem_access gmem_watch_access(struct gmem_touch *touch,
				   struct gmem_waiter *waiter);
bool gmem_watch_pending(struct gmem *gmem, pgoff_t index,
			const struct gmem_context *context,
			struct gmemfd_event *event);

/* trap.c: waiters and their events */
void gmem_trap_enter(struct gmem_waiter *waiter, struct gmem_watch *watch,
		     const struct gmem_touch *touch, u32 flags);
bool gmem_trap_stand(struct gmem_waiter *waiter);
void gmem_trap_announce(struct gmem_waiter *waiter);
int gmem_trap_sleep(struct gmem_waiter *waiter, unsigned int state,
		    bool (*give_up)(const void *arg), const void *arg);
void gmem_trap_leave(struct gmem_waiter *waiter);
void gmem_trap_wake(struct gmem *gmem, pgoff_t first, pgoff_t last);
void gmem_trap_wake_watch(struct gmem_watch *watch, pgoff_t first, pgoff_t last);
void gmem_trap_wake_modes(struct gmem *gmem, pgoff_t first, pgoff_t last,
			  struct gmem_watch *watch, u64 modes);
void gmem_trap_orphan(struct gmem_watch *watch);
void gmem_trap_hand_over(struct gmem_watch *watch, struct gmem_watch *tail);
void gmem_trap_adopt(struct gmem_watch *watch);
int gmem_trap_init(void);
void gmem_trap_exit(void);

/* context.c: the descriptor of a handler */
struct gmem_context *gmem_context_alloc(struct mm_struct *mm, bool user_only,
					unsigned int flags, gfp_t gfp);
void gmem_context_free(struct gmem_context *context);
struct file *gmem_context_open(struct gmem_context *context);
int gmem_context_create(void);
int gmem_context_create_uffd(unsigned long flags);
int gmem_context_notify(struct gmem_context *context, u8 event,
			unsigned long start, unsigned long end, gfp_t gfp);
bool gmem_context_changing(struct gmem_context *context, unsigned long start,
			   unsigned long end);
struct gmem_context *gmem_context_from_file(struct file *file);

/*
 * resolve.c: providing pages
 *
 * How they are published: open; closed, where a watch will open them; as
 * write(2) does it, closed where a watch opens them; as fallocate(2) does it, the same
 * but never over poison; as a mere access does it, open, where nothing traps
 * and nothing is poisoned.
 */
enum gmem_publish {
	GMEM_PUBLISH_OPEN,
	GMEM_PUBLISH_CLOSED,
	GMEM_PUBLISH_BY_WATCH,
	GMEM_PUBLISH_ALLOCATE,
	GMEM_PUBLISH_ACCESS,
};

/**
 * struct gmem_source - where content comes from
 * @iter: memory, or
 * @file: a file, or, with neither, zeros
 * @pos: where in @file
 * @context: where set, it is for mappings of this context's process, and nothing is
 *           put in where they have changed, nor over a notice that is not read yet
 * @start: with @context: first address of what is provided
 * @end: with @context: the address behind the last
 * @index: with @context: the page of the file that @start maps
 * @modes: with @context: GMEMFD_MODE_* that all of it is registered for
 * @poison: with @context: set where UFFDIO_POISON has been before
 * @itself: with @context: what is provided is also read, through the same mapping
 */
struct gmem_source {
	struct iov_iter *iter;
	struct file *file;
	loff_t pos;
	struct gmem_context *context;
	unsigned long start;
	unsigned long end;
	pgoff_t index;
	u64 modes;
	bool poison;
	bool itself;
};

/* Operations in one GMEMFD_RESOLVE. */
#define GMEM_MAX_OPS	1024

int gmem_range_check(const struct gmem *gmem, u64 offset, u64 len);
long gmem_provide(struct gmem *gmem, pgoff_t index, pgoff_t last,
		  struct gmem_source *source, enum gmem_publish publish);
long gmem_provide_all(struct gmem *gmem, pgoff_t first, pgoff_t last,
		      struct gmem_source *source, u64 flags,
		      enum gmem_stat stat);
long gmem_resolve(struct gmem *gmem, u32 op, struct gmemfd_range *range);
long gmem_resolve_many(struct gmem *gmem, struct gmemfd_resolve *args);

/* kvm.c, vcpu.c: bindings of memslots, and vCPUs. The only files that know KVM */
#if IS_ENABLED(CONFIG_KVM)
u64 gmem_kvm_watch_flags(void);
void gmem_kvm_locate(struct gmem_touch *touch, struct mm_struct *mm,
		     unsigned int flags);
void gmem_kvm_probed(struct gmem_touch *touch, bool exits);
void gmem_kvm_leave(struct gmem_touch *touch);
long gmem_kvm_bind(struct file *file, struct gmemfd_bind *args,
		   struct gmemfd_bind __user *uargs);
long gmem_kvm_unbind(struct file *file, struct gmemfd_bind *args,
		     struct gmemfd_bind __user *uargs);
long gmem_kvm_bindings(struct gmem *gmem, struct gmemfd_bindings *args);
long gmem_kvm_vcpu_fault(struct gmem_context *context,
			 struct gmemfd_vcpu_fault *args);
void gmem_kvm_file_gone(struct gmem *gmem);
int gmem_kvm_init(void);
void gmem_kvm_exit(void);
#else
static inline u64 gmem_kvm_watch_flags(void)
{
	return 0;
}

static inline void gmem_kvm_locate(struct gmem_touch *touch,
				   struct mm_struct *mm, unsigned int flags)
{
}

static inline void gmem_kvm_probed(struct gmem_touch *touch, bool exits)
{
}

static inline void gmem_kvm_leave(struct gmem_touch *touch)
{
}

static inline long gmem_kvm_bind(struct file *file, struct gmemfd_bind *args,
				 struct gmemfd_bind __user *uargs)
{
	return -EOPNOTSUPP;
}

static inline long gmem_kvm_unbind(struct file *file, struct gmemfd_bind *args,
				   struct gmemfd_bind __user *uargs)
{
	return -EOPNOTSUPP;
}

static inline long gmem_kvm_bindings(struct gmem *gmem,
				     struct gmemfd_bindings *args)
{
	return -EOPNOTSUPP;
}

static inline long gmem_kvm_vcpu_fault(struct gmem_context *context,
				       struct gmemfd_vcpu_fault *args)
{
	return -EOPNOTSUPP;
}

static inline void gmem_kvm_file_gone(struct gmem *gmem)
{
}

static inline int gmem_kvm_init(void)
{
	return 0;
}

static inline void gmem_kvm_exit(void)
{
}
#endif

/* dev.c: /dev/gmemfd and all ioctls */
long gmem_file_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
long gmem_context_ioctl(struct file *file, unsigned int cmd,
			unsigned long arg);
int gmem_dev_init(void);
void gmem_dev_exit(void);

#endif /* GMEMFD_H */
