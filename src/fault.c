// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the faults in mappings, and the mapping of pages that are opened. The
 * only file that knows page tables, but for the walk in uffd.c.
 */
#include <linux/huge_mm.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/userfaultfd_k.h>

#include "gmemfd.h"

static u32 gmem_fault_flags(const struct vm_fault *vmf)
{
	return (vmf->flags & FAULT_FLAG_WRITE ? GMEMFD_FAULT_WRITE : 0) |
	       (vmf->flags & FAULT_FLAG_USER ? 0 : GMEMFD_FAULT_KERNEL);
}

/*
 * Whether a process is gone but for those who look into its memory, or is being
 * killed. A kernel thread among them (KVM's for asynchronous page faults, vhost's)
 * cannot be killed, and what is left of the process waits for it, uninterruptibly
 * where it closes a VM: it must not wait for a handler any more.
 */
static bool gmem_mm_deserted(const void *arg)
{
#ifdef CONFIG_MEMCG
	const struct mm_struct *mm = arg;
	struct task_struct *owner;
	bool deserted;

	rcu_read_lock();
	owner = rcu_dereference(mm->owner);
	deserted = !owner ||
		   READ_ONCE(owner->signal->flags) & SIGNAL_GROUP_EXIT;
	rcu_read_unlock();
	return deserted;
#else
	return false;
#endif
}

static bool gmem_look_again(const void *arg)
{
	return true;
}

static pmd_t *gmem_pmd(struct mm_struct *mm, unsigned long address)
{
	pgd_t *pgd = pgd_offset(mm, address);
	p4d_t *p4d;
	pud_t *pud;

	if (!pgd_present(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, address);
	if (!p4d_present(*p4d))
		return NULL;
	pud = pud_offset(p4d, address);
	return pud_present(*pud) ? pmd_offset(pud, address) : NULL;
}

static bool gmem_map_pmd_none(struct mm_struct *mm, unsigned long address)
{
	pmd_t *pmd = gmem_pmd(mm, address);

	return !pmd || pmd_none(READ_ONCE(*pmd));
}

/**
 * gmem_map_present - whether there is an entry for a page in the page table
 * @mm: the process
 * @address: in a mapping that cannot go, since mmap_lock or its VMA lock is held
 *
 * A look, as userfaultfd_must_wait() has it: what is there may be a migration entry, and
 * may be gone when this returns. The tables above stay with the mapping; the
 * lowest may be freed by the kernel, but not in an RCU section.
 *
 * Return: as said.
 */
bool gmem_map_present(struct mm_struct *mm, unsigned long address)
{
	pmd_t *pmdp = gmem_pmd(mm, address);
	bool present;
	pmd_t pmd;
	pte_t pte;

	if (!pmdp)
		return false;
	rcu_read_lock();
	pmd = READ_ONCE(*pmdp);
	if (pmd_none(pmd)) {
		present = false;
	} else if (!pmd_present(pmd) || pmd_leaf(pmd)) {
		present = true;
	} else {
		pte = ptep_get(pte_offset_kernel(&pmd, address));
		/* A marker, of write tracking, comes to ->fault like none. */
		present = !pte_none(pte) && !pte_is_marker(pte);
	}
	rcu_read_unlock();
	return present;
}

/* Up to where, at most @end, no page from @address on is mapped. */
static unsigned long gmem_map_clear(struct mm_struct *mm, unsigned long address,
				    unsigned long end)
{
	while (address < end && !gmem_map_present(mm, address)) {
		/* A page table that is not there has no pages. */
		if (gmem_map_pmd_none(mm, address))
			address = round_down(address, PMD_SIZE) + PMD_SIZE;
		else
			address += PAGE_SIZE;
	}
	return min(address, end);
}

static bool gmem_touch_mapped(struct gmem_touch *touch)
{
	return gmem_map_present(touch->map->mm, touch->address);
}

/* Whether a fault may drop its lock and come again: see gmem_fault_wait(). */
static bool gmem_fault_may_wait(const struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_ALLOW_RETRY &&
	       !(current->flags & (PF_EXITING | PF_DUMPCORE)) &&
	       !(current->flags & PF_KTHREAD &&
		 gmem_mm_deserted(vmf->vma->vm_mm));
}

/*
 * What a fault may do about a trap, by its flags, as in handle_userfault():
 * - without ALLOW_RETRY it may not drop its lock, so it cannot wait: SIGBUS.
 *   futex(2) does this, on a page that it has seen present a moment ago;
 * - a thread that exits or dumps core would wait for a handler that may wait
 *   for it: SIGBUS; so would a kernel thread for a process that is gone;
 * - with RETRY_NOWAIT it wants to know at once: RETRY, with its lock kept.
 * TRIED changes nothing: a fault that was woken for nothing waits again.
 */
static vm_fault_t gmem_fault_wait(struct gmem *gmem, struct gmem_map *map,
				  struct vm_fault *vmf)
{
	bool nowait = vmf->flags & FAULT_FLAG_RETRY_NOWAIT;
	const struct mm_struct *mm = vmf->vma->vm_mm;
	bool (*give_up)(const void *mm) = NULL;
	/* Before the event can be read, for whoever reads it may send one. */
	bool signalled = signal_pending(current);
	bool able = gmem_fault_may_wait(vmf);
	struct gmem_touch touch = {
		.gmem = gmem,
		.index = vmf->pgoff,
		.flags = gmem_fault_flags(vmf),
		.map = map,
		.address = vmf->real_address,
		.mapped = gmem_touch_mapped,
	};
	struct gmem_source zeros = {};
	enum gmem_access access;
	struct gmem_waiter waiter;
	struct file *file;
	unsigned int state;
	pgoff_t index;
	long err;

	if (READ_ONCE(gmem->nr_bindings))
		gmem_kvm_locate(&touch, vmf->vma->vm_mm, vmf->flags);
	access = gmem_watch_access(&touch, able && !nowait ? &waiter : NULL);
	/*
	 * Who opens a page that was punched meanwhile fills no holes, and it is
	 * nobody's access that fails.
	 */
	if (map && !able && gmem_watch_resolver(map) &&
	    access != GMEM_ACCESS_AGAIN && access != GMEM_ACCESS_MAPPED &&
	    access != GMEM_ACCESS_POISON)
		return VM_FAULT_SIGBUS;
	switch (access) {
	case GMEM_ACCESS_AGAIN:
		return 0;
	case GMEM_ACCESS_MAPPED:
		/* Kernel code comes back for ever; not if it is being killed. */
		if (!(vmf->flags & FAULT_FLAG_USER) &&
		    fatal_signal_pending(current))
			return VM_FAULT_SIGBUS;
		return VM_FAULT_NOPAGE;
	case GMEM_ACCESS_HOLE:
		index = round_down(vmf->pgoff, gmem_granule_pages(gmem));
		err = gmem_provide(gmem, index,
				   index + gmem_granule_pages(gmem) - 1, &zeros,
				   GMEM_PUBLISH_ACCESS);
		if (err > 0)
			gmem_count(gmem, GMEM_STAT_FAULTS_ZERO, 1);
		/* It may have become something else: look again. */
		if (err > 0 || err == -EEXIST || err == -EIO)
			return 0;
		if (err == -ENOMEM && !gmem_store_foreign(gmem))
			return VM_FAULT_OOM;
		gmem_count(gmem, GMEM_STAT_FAULTS_SIGBUS, 1);
		return VM_FAULT_SIGBUS;
	case GMEM_ACCESS_POISON:
		gmem_count(gmem, GMEM_STAT_FAULTS_SIGBUS, 1);
		return VM_FAULT_HWPOISON;
	case GMEM_ACCESS_NO_HANDLER:
		gmem_count(gmem, GMEM_STAT_FAULTS_SIGBUS, 1);
		return VM_FAULT_SIGBUS;
	case GMEM_ACCESS_EXIT:
		if (nowait)
			break;
		gmem_kvm_leave(&touch);
		return VM_FAULT_SIGBUS;
	case GMEM_ACCESS_TRAP:
		break;
	}
	if (!able) {
		gmem_count(gmem, GMEM_STAT_FAULTS_SIGBUS, 1);
		return VM_FAULT_SIGBUS;
	}
	if (nowait) {
		if (touch.where.flags & GMEMFD_FAULT_GUEST)
			gmem_kvm_probed(&touch, access == GMEM_ACCESS_EXIT);
		return VM_FAULT_RETRY;
	}

	/*
	 * Without the lock the VMA may go, and the last use of the file and of the
	 * module with it.
	 */
	file = get_file(vmf->vma->vm_file);
	if (current->flags & PF_KTHREAD)
		give_up = gmem_mm_deserted;
	/*
	 * An access by kernel code (copy_from_user) allows signals too, but is
	 * retried when one comes that does not kill: it would go round and
	 * round, with an event each time. Whoever breaks off for a signal, as
	 * get_user_pages() does, does not come back with it; but one may come just
	 * before this fault, which must not be lost: so who looks like the former
	 * comes round once a second.
	 */
	state = TASK_KILLABLE;
	if (vmf->flags & FAULT_FLAG_INTERRUPTIBLE) {
		if (vmf->flags & FAULT_FLAG_USER ||
		    !(vmf->flags & FAULT_FLAG_TRIED && signalled))
			state = TASK_INTERRUPTIBLE;
		else
			give_up = gmem_look_again;
	}
	release_fault_lock(vmf);
	/* A signal needs no word: whoever faulted sees it when it gets RETRY. */
	gmem_trap_sleep(&waiter, state, give_up, mm);
	gmem_trap_leave(&waiter);
	fput(file);
	/* It took a handler: major, which also makes the next try TRIED. */
	return VM_FAULT_RETRY | VM_FAULT_MAJOR;
}

/*
 * The pages by address that a folio may come to be mapped at when one of its pages
 * is: the kernel maps as much of it as lies in the mapping.
 */
static void gmem_folio_span(const struct vm_fault *vmf, pgoff_t index,
			    unsigned long nr, pgoff_t *first, pgoff_t *last)
{
	pgoff_t page = vmf->address >> PAGE_SHIFT;
	pgoff_t low = vmf->vma->vm_start >> PAGE_SHIFT;
	pgoff_t high = (vmf->vma->vm_end >> PAGE_SHIFT) - 1;
	pgoff_t before = vmf->pgoff - index;

	*first = max(low, page - min(page, before));
	*last = min(high, page + (nr - 1 - before));
}

/*
 * Whether mapping a page of a large folio would map pages that must trap: the kernel
 * maps the folio as a whole where it can. But not where some of it is mapped here:
 * pages that were opened would be closed, and the kernel maps a single page then.
 * (Should the rest be zapped just now, it maps all: they are seen without a word,
 * but whole.) The caller holds invalidate_lock.
 */
static bool gmem_folio_maps_traps(struct gmem_map *map,
				  const struct vm_fault *vmf,
				  struct folio *folio,
				  const struct gmem_resolver *resolver)
{
	unsigned long nr = folio_nr_pages(folio);
	pgoff_t first, last;

	if (nr == 1)
		return false;
	gmem_folio_span(vmf, folio->index, nr, &first, &last);
	/* Nor does the kernel where it reaches over an edge. */
	if (last - first + 1 != nr ||
	    round_down(first, PTRS_PER_PTE) != round_down(last, PTRS_PER_PTE))
		return false;
	if (!gmem_watch_minor(map, first, last) &&
	    !gmem_map_poisoned(map, first, last))
		return false;
	if (resolver && resolver->first <= first && last <= resolver->last)
		return false;
	return gmem_map_clear(vmf->vma->vm_mm, first << PAGE_SHIFT,
			      (last + 1) << PAGE_SHIFT) > last << PAGE_SHIFT;
}

/* Ticks between two looks at a folio that has to be split, and is in use. */
#define GMEM_FAULT_PAUSE	(HZ / 50 + 1)

/*
 * Makes sure that mapping a page that need not trap maps none that must.
 *
 * Returns 0, and in @seen the folio as it was looked at, with a reference, or an
 * ERR_PTR(); or a VM_FAULT_* code.
 */
static vm_fault_t gmem_fault_apart(struct gmem *gmem, struct gmem_map *map,
				   struct vm_fault *vmf, struct folio **seen)
{
	struct gmem_resolver *resolver = gmem_watch_resolver(map);
	struct address_space *mapping = gmem->inode.i_mapping;
	unsigned int tries = 0;
	struct folio *folio;
	struct file *file;
	pgoff_t boundary;
	bool apart;
	int err;

	/*
	 * The lock first: who splits the folio holds it, and waits for references
	 * to go, which one that waits for the lock would not.
	 */
	filemap_invalidate_lock_shared(mapping);
	folio = filemap_get_folio(mapping, vmf->pgoff);
	*seen = folio;
	apart = !IS_ERR(folio) &&
		gmem_folio_maps_traps(map, vmf, folio, resolver);
	filemap_invalidate_unlock_shared(mapping);
	if (!apart)
		return 0;

	boundary = vmf->pgoff == folio->index ? vmf->pgoff + 1 : vmf->pgoff;
	folio_put(folio);
	do {
		filemap_invalidate_lock(mapping);
		err = gmem_store_split(gmem, boundary);
		filemap_invalidate_unlock(mapping);
	} while (!gmem_fault_may_wait(vmf) && gmem_store_busy(err, &tries));
	switch (err) {
	case 0:
		return VM_FAULT_NOPAGE;
	case -EBUSY:
		/*
		 * Whoever uses it may be done when the fault comes again; which
		 * it does at once, and for as long as it takes.
		 */
		if (resolver)
			resolver->busy = true;
		if (!gmem_fault_may_wait(vmf))
			return VM_FAULT_SIGBUS;
		if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
			return VM_FAULT_RETRY;
		file = get_file(vmf->vma->vm_file);
		release_fault_lock(vmf);
		schedule_timeout_killable(GMEM_FAULT_PAUSE);
		fput(file);
		return VM_FAULT_RETRY;
	case -ENOMEM:
		return VM_FAULT_OOM;
	default:
		return VM_FAULT_SIGBUS;
	}
}

/* As much as the kernel maps around a read. */
#define GMEM_WRITE_AROUND	SZ_64K

/*
 * The kernel has the neighbours of a page mapped when it is read. Guest memory is
 * written first as often, so a write to a shared mapping maps them too, writable,
 * as the write itself would. Not after a trap, as in gmem_map_pages(); not where
 * writes are tracked; and not without a page table, which filemap_map_pages() wants:
 * the first fault makes it.
 */
static bool gmem_wants_write_around(const struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_WRITE &&
	       !(vmf->flags & FAULT_FLAG_TRIED) &&
	       vmf->vma->vm_flags & VM_SHARED && !userfaultfd_wp(vmf->vma) &&
	       !pmd_none(*vmf->pmd);
}

/* Whether the folio of a page comes to lie outside of what may be opened. */
static bool gmem_reaches_out(const struct vm_fault *vmf, pgoff_t index,
			     const struct gmem_resolver *resolver)
{
	struct folio *folio = filemap_get_folio(vmf->vma->vm_file->f_mapping,
						index);
	pgoff_t page = vmf->address >> PAGE_SHIFT;
	pgoff_t first, last;
	bool out = false;

	if (IS_ERR(folio))
		return false;
	if (folio_test_large(folio)) {
		/* By address; the file may begin before the mapping does. */
		first = folio->index - vmf->pgoff + page;
		last = first + folio_nr_pages(folio) - 1;
		first = max_t(long, first, vmf->vma->vm_start >> PAGE_SHIFT);
		last = min(last, (vmf->vma->vm_end >> PAGE_SHIFT) - 1);
		out = first < resolver->first || last > resolver->last;
	}
	folio_put(folio);
	return out;
}

/*
 * What may be mapped around a fault under mapping scope: nothing near pages that
 * trap although present, but for whoever resolves them, and then only these. The
 * caller holds invalidate_lock, so that no folio is replaced by a larger one.
 */
static bool gmem_map_clip(struct gmem_map *map, struct vm_fault *vmf,
			  pgoff_t *start, pgoff_t *end)
{
	pgoff_t page = vmf->address >> PAGE_SHIFT;
	pgoff_t first = round_down(page, PTRS_PER_PTE);
	pgoff_t last = first + PTRS_PER_PTE - 1;
	struct gmem_resolver *resolver;

	if (!xa_empty(&map->poison))
		return false;
	if (!gmem_watch_minor(map, first, last))
		return true;
	resolver = gmem_watch_resolver(map);
	if (!resolver || page < resolver->first || page > resolver->last)
		return false;
	*start = max(*start, vmf->pgoff - (page - resolver->first));
	*end = min(*end, vmf->pgoff + (resolver->last - page));
	/* A large folio is mapped as a whole, whatever was asked for. */
	if (gmem_reaches_out(vmf, vmf->pgoff, resolver))
		return false;
	if (gmem_reaches_out(vmf, *start, resolver))
		*start = vmf->pgoff;
	if (gmem_reaches_out(vmf, *end, resolver))
		*end = vmf->pgoff;
	return true;
}

/* Maps present pages of a range around a fault; in an RCU section. */
static vm_fault_t gmem_map_around(struct vm_fault *vmf, pgoff_t start,
				  pgoff_t end)
{
	struct address_space *mapping = vmf->vma->vm_file->f_mapping;
	struct gmem_map *map = gmem_map_of(vmf->vma);
	vm_fault_t ret = 0;

	if (!map)
		return filemap_map_pages(vmf, start, end);
	/* Nobody may sleep here, so the lock can only be tried. */
	if (!down_read_trylock(&mapping->invalidate_lock))
		return 0;
	if (gmem_map_clip(map, vmf, &start, &end))
		ret = filemap_map_pages(vmf, start, end);
	up_read(&mapping->invalidate_lock);
	return ret;
}

/* Return: whether the page itself is mapped now. */
static bool gmem_write_around(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long first = round_down(vmf->address, GMEM_WRITE_AROUND);
	unsigned long last = first + GMEM_WRITE_AROUND - PAGE_SIZE;
	vm_fault_t ret;

	first = max(first, vma->vm_start);
	last = min(last, vma->vm_end - PAGE_SIZE);
	rcu_read_lock();
	ret = gmem_map_around(vmf, linear_page_index(vma, first),
			      linear_page_index(vma, last));
	rcu_read_unlock();
	return ret & VM_FAULT_NOPAGE;
}

/* The page, locked: what the kernel is to map, or to copy. */
static vm_fault_t gmem_fault_have(struct vm_fault *vmf, struct folio *folio)
{
	vmf->page = folio_file_page(folio, vmf->pgoff);
	return VM_FAULT_LOCKED;
}

/*
 * Under mapping scope also a page that is present may trap, and a large folio may
 * have to be kept from being mapped as a whole; but not for a copy of one page.
 */
static vm_fault_t gmem_fault_mapped(struct gmem *gmem, struct gmem_map *map,
				    struct vm_fault *vmf)
{
	bool copy = vmf->flags & FAULT_FLAG_WRITE &&
		    !(vmf->vma->vm_flags & VM_SHARED);
	struct folio *folio, *seen;
	vm_fault_t ret;

	for (;;) {
		ret = gmem_fault_wait(gmem, map, vmf);
		if (ret)
			return ret;
		if (gmem_wants_write_around(vmf) && gmem_write_around(vmf))
			return VM_FAULT_NOPAGE;
		seen = NULL;
		if (!copy)
			ret = gmem_fault_apart(gmem, map, vmf, &seen);
		if (ret)
			return ret;
		folio = gmem_store_lock(gmem, vmf->pgoff, false);
		/* The reference kept it from being another one by now. */
		if (!IS_ERR_OR_NULL(seen))
			folio_put(seen);
		if (!folio)
			continue;
		if (copy || folio == seen || !folio_test_large(folio))
			return gmem_fault_have(vmf, folio);
		folio_unlock(folio);
		folio_put(folio);
	}
}

/**
 * gmem_fault - a page is wanted that is not in the page table
 * @vmf: the fault
 *
 * Return: VM_FAULT_* codes.
 */
vm_fault_t gmem_fault(struct vm_fault *vmf)
{
	struct gmem_map *map = gmem_map_of(vmf->vma);
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct gmem *gmem = gmem_of(inode);
	struct folio *folio;
	vm_fault_t ret;

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT) {
		gmem_count(gmem, GMEM_STAT_FAULTS_SIGBUS, 1);
		return VM_FAULT_SIGBUS;
	}
	if (map)
		return gmem_fault_mapped(gmem, map, vmf);

	while (!(folio = gmem_store_lock(gmem, vmf->pgoff, false))) {
		ret = gmem_fault_wait(gmem, NULL, vmf);
		if (ret)
			return ret;
	}
	if (gmem_wants_write_around(vmf)) {
		folio_unlock(folio);
		folio_put(folio);
		if (gmem_write_around(vmf))
			return VM_FAULT_NOPAGE;
		folio = gmem_store_lock(gmem, vmf->pgoff, false);
		/* Punched just now: as if it had not been there. */
		if (!folio)
			return VM_FAULT_NOPAGE;
	}
	return gmem_fault_have(vmf, folio);
}

/**
 * gmem_map_pages - map present pages around a fault, and only these: see store.c
 * @vmf: the fault
 * @start: first page of the file
 * @end: last page
 *
 * That it is there also tells the kernel that ->fault may be called under the
 * per-VMA lock.
 *
 * Not worth its while when the page itself is absent, for then ->fault is called
 * all the same; and after a trap, when the neighbours are most likely absent or
 * mapped, the page alone is.
 *
 * Return: VM_FAULT_* codes.
 */
vm_fault_t gmem_map_pages(struct vm_fault *vmf, pgoff_t start, pgoff_t end)
{
	struct address_space *mapping = vmf->vma->vm_file->f_mapping;

	if (vmf->flags & FAULT_FLAG_TRIED) {
		start = vmf->pgoff;
		end = vmf->pgoff;
	} else if (!gmem_store_present(gmem_of(mapping->host), vmf->pgoff)) {
		return 0;
	}
	return gmem_map_around(vmf, start, end);
}

/*
 * Up to where, at most @end, pages from @address on are there and not mapped: a fault
 * that opens them maps no page behind one that it cannot open. The page at
 * @address is one of them.
 */
static unsigned long gmem_map_ready(struct vm_area_struct *vma,
				    unsigned long address, unsigned long end)
{
	struct gmem *gmem = gmem_of(file_inode(vma->vm_file));

	end = gmem_map_clear(vma->vm_mm, address, end);
	for (address += PAGE_SIZE; address < end; address += PAGE_SIZE) {
		if (!gmem_store_present(gmem, linear_page_index(vma, address)))
			break;
	}
	return address;
}

/**
 * gmem_map_open - map pages that trap because they are not mapped
 * @vma: a mapping of a gmem file that has registered something; mmap_lock is held
 * @start: first address
 * @end: the address behind the last; in the mapping
 * @reached: set to the address behind the last page that may be mapped by this
 *
 * Faults on them itself, with a word that lets these faults through. One fault
 * maps what is around it, or a huge page. Where a page in the midst of that is punched
 * meanwhile, those behind it are mapped, although they do not count as done: who
 * waits for them has to be woken all the same, for nobody can open them once more.
 *
 * Return: bytes done, 1 page or more, less where something stopped it; or, for
 * none, -EFAULT where a page is absent, -EIO where its content is lost, -EEXIST where
 * it is mapped, -EBUSY where a huge page in use would have to be split, -ENOMEM, -EINTR.
 */
long gmem_map_open(struct vm_area_struct *vma, unsigned long start,
		   unsigned long end, unsigned long *reached)
{
	struct gmem *gmem = gmem_of(file_inode(vma->vm_file));
	struct gmem_resolver resolver = { .task = current };
	struct gmem_map *map = gmem_map_of(vma);
	unsigned long address = start, clear = start, stop;
	unsigned int tries = 0;
	enum gmem_state state;
	vm_fault_t fault;
	int err = 0;

	*reached = start;

	while (address < end) {
		if (fatal_signal_pending(current)) {
			err = -EINTR;
			break;
		}
		/*
		 * First of all, as mfill_atomic_pte_continue() does. Where a folio
		 * is being split there seems to be none without the lock.
		 */
		filemap_invalidate_lock_shared(vma->vm_file->f_mapping);
		state = gmem_store_state(gmem, linear_page_index(vma, address));
		filemap_invalidate_unlock_shared(vma->vm_file->f_mapping);
		if (state != GMEM_PRESENT) {
			err = state == GMEM_POISONED ? -EIO : -EFAULT;
			break;
		}
		if (gmem_map_present(vma->vm_mm, address)) {
			err = -EEXIST;
			break;
		}
		/* As far as possible, so that large folios fit in. */
		if (address >= clear)
			clear = gmem_map_ready(vma, address,
					       min(end, round_down(address, PMD_SIZE) +
							PMD_SIZE));
		*reached = clear;
		resolver.first = address >> PAGE_SHIFT;
		resolver.last = (clear - 1) >> PAGE_SHIFT;
		spin_lock(&map->lock);
		list_add(&resolver.node, &map->resolvers);
		spin_unlock(&map->lock);
		/* As if from elsewhere: no protection key of the thread counts. */
		fault = handle_mm_fault(vma, address, FAULT_FLAG_REMOTE, NULL);
		spin_lock(&map->lock);
		list_del(&resolver.node);
		spin_unlock(&map->lock);
		if (fault & VM_FAULT_ERROR) {
			err = resolver.busy ? -EBUSY : vm_fault_to_errno(fault, 0);
			break;
		}
		/* Nothing is mapped yet where a folio had to be split. */
		if (!gmem_map_present(vma->vm_mm, address)) {
			if (++tries < 3)
				continue;
			err = -EBUSY;
			break;
		}
		tries = 0;
		stop = address;
		while (stop < clear && gmem_map_present(vma->vm_mm, stop))
			stop += PAGE_SIZE;
		gmem_map_cure(map, address >> PAGE_SHIFT, (stop - 1) >> PAGE_SHIFT);
		address = stop;
		cond_resched();
	}
	return address > start ? address - start : err;
}
