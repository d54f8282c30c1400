// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the pages of gmem files: looking up, taking memory, putting it in,
 * taking it out, and the state of each page. Knows nothing of watches and waiters.
 *
 * The page cache keeps the state: no folio is absent, a folio that is not
 * up to date is closed, one that is up to date is present. So nothing that maps
 * pages, in the kernel or here, can map a closed one by mistake. Poison, rare,
 * has an xarray of its own, since values in the page cache would be taken for
 * shadows of evicted folios.
 *
 * All folios are dirty from the beginning: there is nowhere to write them to, and
 * whatever drops clean pages (posix_fadvise(2), drop_caches) must leave these.
 */
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "gmemfd.h"

static void gmem_assert_stable(struct gmem *gmem)
{
	lockdep_assert_held(&gmem->inode.i_mapping->invalidate_lock);
}

static void gmem_assert_exclusive(struct gmem *gmem)
{
	lockdep_assert_held_write(&gmem->inode.i_mapping->invalidate_lock);
}

/**
 * gmem_store_poisoned - whether a page of a range is poisoned
 * @gmem: the file
 * @first: first page
 * @last: last page
 *
 * Return: as said.
 */
bool gmem_store_poisoned(struct gmem *gmem, pgoff_t first, pgoff_t last)
{
	return !xa_empty(&gmem->poison) &&
	       xa_find(&gmem->poison, &first, last, XA_PRESENT);
}

/**
 * gmem_store_state - the state of a page
 * @gmem: the file
 * @index: the page
 *
 * Under invalidate_lock it stays, but for absent pages that get content and closed ones
 * that open. Without, it is a hint.
 *
 * Return: the state.
 */
enum gmem_state gmem_store_state(struct gmem *gmem, pgoff_t index)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	struct folio *folio;
	bool uptodate, mine;

	do {
		folio = filemap_get_folio(mapping, index);
		if (IS_ERR(folio))
			return gmem_store_poisoned(gmem, index, index) ?
			       GMEM_POISONED : GMEM_ABSENT;
		mine = true;
		uptodate = folio_test_uptodate(folio);
		if (!uptodate) {
			/*
			 * One that migration has put in place a moment ago has
			 * its content, and is up to date, before it is
			 * unlocked.
			 */
			folio_lock(folio);
			mine = folio->mapping == mapping;
			uptodate = folio_test_uptodate(folio);
			folio_unlock(folio);
		}
		folio_put(folio);
	} while (!mine);
	return uptodate ? GMEM_PRESENT : GMEM_CLOSED;
}

/**
 * gmem_store_present - whether a page seems to be present
 * @gmem: the file
 * @index: the page
 *
 * A hint that never sleeps: one that is being migrated seems not to be.
 *
 * Return: as said.
 */
bool gmem_store_present(struct gmem *gmem, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(gmem->inode.i_mapping, index);
	bool present;

	if (IS_ERR(folio))
		return false;
	present = folio_test_uptodate(folio);
	folio_put(folio);
	return present;
}

/**
 * gmem_store_broken - whether the hardware lost some of a folio
 * @folio: with a reference
 *
 * Return: as said. Nobody may look into it then.
 */
bool gmem_store_broken(struct folio *folio)
{
	return folio_test_hwpoison(folio) ||
	       (folio_test_large(folio) && folio_test_has_hwpoisoned(folio));
}

/**
 * gmem_store_lock - the folio of a page, locked
 * @gmem: the file
 * @index: the page
 * @closed: whether a closed one will do
 *
 * Not killable, as it waits for kernel code alone, never for a handler.
 *
 * Return: the folio with a reference and locked; NULL where there is none, or
 * none open.
 */
struct folio *gmem_store_lock(struct gmem *gmem, pgoff_t index, bool closed)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	struct folio *folio;

	for (;;) {
		folio = filemap_get_folio(mapping, index);
		if (IS_ERR(folio))
			return NULL;
		if (!closed && !folio_test_uptodate(folio)) {
			folio_put(folio);
			return NULL;
		}
		folio_lock(folio);
		/* It may have been punched, or migrated, before it was locked. */
		if (folio->mapping == mapping &&
		    (closed || folio_test_uptodate(folio)))
			return folio;
		folio_unlock(folio);
		folio_put(folio);
	}
}

/*
 * What is provided on request fails with ENOMEM where memory is out. A mere
 * access is like any other access to memory: the OOM killer may free some.
 */
static gfp_t gmem_gfp(unsigned int order, bool fault)
{
	gfp_t gfp = GFP_HIGHUSER_MOVABLE;

	if (order)
		return gfp | __GFP_NORETRY | __GFP_NOWARN;
	return fault ? gfp : gfp | __GFP_RETRY_MAYFAIL | __GFP_NOWARN;
}

/**
 * gmem_store_foreign - whether the pages are charged to others than who makes them
 * @gmem: the file
 *
 * Then a limit that is met there must not call the OOM killer: it would find only
 * those who did nothing, or nobody, and the access would be tried again for ever.
 *
 * Return: whether the current thread's memory cgroup is not the file's.
 */
bool gmem_store_foreign(const struct gmem *gmem)
{
	struct mem_cgroup *mine = get_mem_cgroup_from_mm(current->mm);
	bool foreign = mine != gmem->memcg;

	mem_cgroup_put(mine);
	return foreign;
}

/**
 * gmem_store_alloc - take memory for a file
 * @gmem: the file
 * @order: of the folio
 * @fault: whether this is for a mere access
 *
 * Return: a folio with content undefined, not charged yet; NULL for none.
 */
struct folio *gmem_store_alloc(struct gmem *gmem, unsigned int order, bool fault)
{
	gfp_t gfp = gmem_gfp(order, fault);

	if (gmem->node != NUMA_NO_NODE)
		return __folio_alloc_node(gfp, order, gmem->node);
	return folio_alloc(gfp, order);
}

/* Takes the poison of a range away; its pages have content, or are punched. */
static void gmem_store_cure(struct gmem *gmem, pgoff_t first, pgoff_t last)
{
	unsigned long i;
	void *entry;

	if (xa_empty(&gmem->poison))
		return;
	xa_for_each_range(&gmem->poison, i, entry, first, last) {
		xa_erase(&gmem->poison, i);
		cond_resched();
	}
}

/**
 * gmem_store_end - take all poison away; the pages have gone
 * @gmem: the file, being evicted
 *
 * One by one: xa_destroy() would walk through all of it, which is as much as
 * somebody cared to poison, with interrupts disabled.
 */
void gmem_store_end(struct gmem *gmem)
{
	gmem_store_cure(gmem, 0, ULONG_MAX);
	xa_destroy(&gmem->poison);
}

static int gmem_store_add(struct gmem *gmem, struct folio *folio, pgoff_t index,
			  bool closed, bool cure, gfp_t gfp)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	struct mem_cgroup *old;
	int err;

	gmem_assert_stable(gmem);
	/* Content first, then the flag, then the page cache's own barrier. */
	if (!closed)
		__folio_mark_uptodate(folio);
	old = set_active_memcg(gmem->memcg);
	err = filemap_add_folio(mapping, folio, index, gfp);
	set_active_memcg(old);
	if (err) {
		folio_clear_uptodate(folio);
		return err;
	}
	/* Still locked, so nobody has taken it for clean. */
	folio_set_dirty(folio);
	/* Still locked, so the memory has not broken meanwhile. */
	if (cure)
		gmem_store_cure(gmem, index, folio_next_index(folio) - 1);
	folio_unlock(folio);
	return 0;
}

/**
 * gmem_store_insert - give absent pages their content
 * @gmem: the file; its invalidate_lock is held
 * @folio: from gmem_store_alloc(), with all its content
 * @index: first page, aligned to the folio's size
 * @closed: whether they are closed first
 * @fault: as with gmem_store_alloc()
 *
 * Takes poison away. The caller keeps its reference to @folio.
 *
 * Return: 0, -EEXIST when one of the pages has content, -ENOMEM.
 */
int gmem_store_insert(struct gmem *gmem, struct folio *folio, pgoff_t index,
		      bool closed, bool fault)
{
	fault = fault && !gmem_store_foreign(gmem);
	return gmem_store_add(gmem, folio, index, closed, true,
			      gmem_gfp(folio_order(folio), fault));
}

/**
 * gmem_store_insert_granule - give an absent huge granule its content in small folios
 * @gmem: the file; its invalidate_lock is held exclusive
 * @folios: as many small folios as the granule has pages, with their content
 * @index: first page of the granule
 * @closed: whether it is closed first
 * @fault: as with gmem_store_alloc()
 *
 * All or nothing, so that a granule never has content in some of its pages
 * only: no resolve by whole granules could mend that. The caller keeps its references.
 *
 * Return: 0, -EEXIST when one of the pages has content, -ENOMEM.
 */
int gmem_store_insert_granule(struct gmem *gmem, struct folio **folios,
			      pgoff_t index, bool closed, bool fault)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	pgoff_t nr = gmem_granule_pages(gmem);
	pgoff_t i;
	int err;

	gmem_assert_exclusive(gmem);
	fault = fault && !gmem_store_foreign(gmem);
	/* Closed until all are in: no lock keeps readers from present pages. */
	for (i = 0; i < nr; i++) {
		err = gmem_store_add(gmem, folios[i], index + i, true, false,
				     gmem_gfp(0, fault));
		if (err)
			goto out_remove;
	}
	for (i = 0; i < nr; i++) {
		folio_lock(folios[i]);
		/* Not one whose memory broke in this moment. */
		if (folios[i]->mapping == mapping) {
			gmem_store_cure(gmem, index + i, index + i);
			if (!closed)
				folio_mark_uptodate(folios[i]);
		}
		folio_unlock(folios[i]);
	}
	return 0;

out_remove:
	if (i)
		truncate_inode_pages_range(mapping, (loff_t)index << PAGE_SHIFT,
					   ((loff_t)(index + i) << PAGE_SHIFT) - 1);
	return err;
}

/**
 * gmem_store_open - open a closed page, and all of its folio
 * @gmem: the file; its invalidate_lock is held
 * @index: the page
 * @last: the last page that may be opened
 * @next: where to put the first page behind the folio, on success
 *
 * Return: 0; -EFAULT for an absent page; -EEXIST for one that is open;
 * -EAGAIN when the folio begins before @index or ends after @last:
 * gmem_store_split() helps.
 */
int gmem_store_open(struct gmem *gmem, pgoff_t index, pgoff_t last,
		    pgoff_t *next)
{
	struct folio *folio;
	int err = 0;

	gmem_assert_stable(gmem);
	folio = gmem_store_lock(gmem, index, true);
	if (!folio)
		return -EFAULT;
	if (folio_test_uptodate(folio))
		err = -EEXIST;
	else if (folio->index != index || folio_next_index(folio) - 1 > last)
		err = -EAGAIN;
	else
		folio_mark_uptodate(folio);
	if (!err)
		*next = folio_next_index(folio);
	folio_unlock(folio);
	folio_put(folio);
	return err;
}

/**
 * gmem_store_poison - poison an absent page
 * @gmem: the file; its invalidate_lock is held exclusive
 * @index: the page
 *
 * Return: 0, -EEXIST when it has content or is poisoned, -ENOMEM.
 */
int gmem_store_poison(struct gmem *gmem, pgoff_t index)
{
	struct mem_cgroup *old;
	int err;

	gmem_assert_exclusive(gmem);
	if (gmem_store_state(gmem, index) != GMEM_ABSENT)
		return -EEXIST;
	old = set_active_memcg(gmem->memcg);
	err = xa_err(xa_store(&gmem->poison, index, xa_mk_value(1),
			      GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN));
	set_active_memcg(old);
	return err;
}

static void gmem_put_folios(struct folio **folios, unsigned long nr)
{
	while (nr--)
		if (folios[nr])
			folio_put(folios[nr]);
	kvfree(folios);
}

/**
 * gmem_store_alloc_granule - take memory for a range in small folios
 * @gmem: the file
 * @nr: how many
 * @fault: as with gmem_store_alloc()
 *
 * Return: an array of @nr folios, for gmem_store_put_granule(); NULL for none.
 */
struct folio **gmem_store_alloc_granule(struct gmem *gmem, unsigned long nr,
					bool fault)
{
	struct folio **folios = kvcalloc(nr, sizeof(*folios), GFP_KERNEL);
	unsigned long i;

	for (i = 0; folios && i < nr; i++) {
		folios[i] = gmem_store_alloc(gmem, 0, fault);
		if (!folios[i]) {
			gmem_put_folios(folios, i);
			return NULL;
		}
	}
	return folios;
}

/**
 * gmem_store_put_granule - drop what gmem_store_alloc_granule() returned
 * @folios: the array
 * @nr: its length
 */
void gmem_store_put_granule(struct folio **folios, unsigned long nr)
{
	gmem_put_folios(folios, nr);
}

/*
 * How often, a tick apart, to look for the last user of a folio to go: with the lock
 * held and the folio unmapped, so that it gets no new ones; and after others have
 * had the lock.
 */
#define GMEM_SPLIT_TRIES	2
#define GMEM_BUSY_TRIES		12

/*
 * Makes sure that nobody but the page cache and the caller uses @folio and
 * nobody maps it. Returns 0 with the folio locked, not up to date, and @closed
 * telling what it was; or an errno with nothing changed but mappings, which come
 * back by themselves.
 */
static int gmem_store_isolate(struct gmem *gmem, struct folio *folio,
			      bool *closed)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	unsigned long nr = folio_nr_pages(folio);
	int try = 0, err;

	folio_lock(folio);
	*closed = !folio_test_uptodate(folio);
	for (;;) {
		err = -EAGAIN;
		if (folio->mapping != mapping)
			break;
		err = -EIO;
		if (gmem_store_broken(folio))
			break;
		/*
		 * Not up to date, so that a fault or a read that finds it
		 * without a lock goes on to wait for invalidate_lock, and does
		 * neither map it again nor keep it. The caller's reference keeps
		 * migration away, which would put another in its place.
		 */
		folio_clear_uptodate(folio);
		unmap_mapping_pages(mapping, folio->index, nr, false);
		if (folio_ref_freeze(folio, nr + 1)) {
			folio_ref_unfreeze(folio, nr + 1);
			return 0;
		}
		err = -EBUSY;
		if (try++ == GMEM_SPLIT_TRIES || folio_maybe_dma_pinned(folio))
			break;
		err = -EINTR;
		if (fatal_signal_pending(current))
			break;
		/* Some who have a reference wait for the lock. */
		folio_unlock(folio);
		schedule_timeout_killable(1);
		folio_lock(folio);
	}
	if (!*closed && folio->mapping == mapping)
		folio_mark_uptodate(folio);
	folio_unlock(folio);
	return err;
}

/* Consumes the reference. -EAGAIN: it was not the file's any more. */
static int gmem_store_split_folio(struct gmem *gmem, struct folio *folio)
{
	/*
	 * As much was given back a moment ago: this is not the time to kill
	 * anybody for being over a limit, nor to fail.
	 */
	gfp_t gfp = GFP_KERNEL | __GFP_NOFAIL | __GFP_RETRY_MAYFAIL;
	struct address_space *mapping = gmem->inode.i_mapping;
	unsigned long i, nr = folio_nr_pages(folio);
	pgoff_t first = folio->index;
	struct folio **small;
	bool closed;
	int err;

	/*
	 * A device may have it for as long as its driver likes: that is not waited
	 * for, nor is the folio unmapped for nothing. A pin that comes after this
	 * look is a reference too many.
	 */
	if (folio_maybe_dma_pinned(folio)) {
		folio_put(folio);
		return -EBUSY;
	}
	small = gmem_store_alloc_granule(gmem, nr, false);
	if (!small) {
		folio_put(folio);
		return -ENOMEM;
	}
	err = gmem_store_isolate(gmem, folio, &closed);
	if (err) {
		folio_put(folio);
		goto out;
	}
	for (i = 0; i < nr; i++)
		copy_highpage(folio_page(small[i], 0), folio_page(folio, i));
	folio_unlock(folio);
	folio_put(folio);

	truncate_inode_pages_range(mapping, (loff_t)first << PAGE_SHIFT,
				   ((loff_t)(first + nr) << PAGE_SHIFT) - 1);
	for (i = 0; i < nr; i++) {
		err = gmem_store_add(gmem, small[i], first + i, closed, false,
				     gfp);
		if (WARN_ON_ONCE(err))
			break;
	}
out:
	gmem_store_put_granule(small, nr);
	return err;
}

/**
 * gmem_store_split - make no folio reach over a boundary
 * @gmem: the file; its invalidate_lock is held exclusive
 * @boundary: no folio shall hold this page and the one before
 *
 * The kernel's own splitting is not to be had by modules but as a part of
 * truncation, which zeroes first what it then fails to split: pages that must
 * trap would read as zeros. Here the content is copied into small folios, and
 * only when nobody uses the large one, so nobody is left with a stale page.
 *
 * Return: 0; -EBUSY when somebody uses the folio (a device, direct I/O);
 * -ENOMEM; -EIO when the hardware lost some of it; -EINTR when the thread is
 * being killed. Nothing has changed then.
 */
int gmem_store_split(struct gmem *gmem, pgoff_t boundary)
{
	struct folio *folio;
	int err;

	gmem_assert_exclusive(gmem);
	do {
		folio = filemap_get_folio(gmem->inode.i_mapping, boundary);
		if (IS_ERR(folio))
			return 0;
		if (folio->index == boundary) {
			folio_put(folio);
			return 0;
		}
		/* Moved means migrated: the next look finds the new one. */
		err = gmem_store_split_folio(gmem, folio);
	} while (err == -EAGAIN);
	return err;
}

/**
 * gmem_store_busy - let whoever uses a folio that is to be split come to an end
 * @err: what gmem_store_split() said
 * @tries: how often; 0 at first
 *
 * The caller holds no invalidate_lock, so that nobody who has to do with other
 * pages waits along.
 *
 * Return: whether to try again.
 */
bool gmem_store_busy(int err, unsigned int *tries)
{
	if (err != -EBUSY || (*tries)++ == GMEM_BUSY_TRIES)
		return false;
	schedule_timeout_killable(1);
	return !fatal_signal_pending(current);
}

/**
 * gmem_store_remove - take content and poison away
 * @gmem: the file; its invalidate_lock is held exclusive
 * @first: first page; gmem_store_split() has been there
 * @last: last page; gmem_store_split() has been behind it
 */
void gmem_store_remove(struct gmem *gmem, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	unsigned long before = mapping->nrpages;

	gmem_assert_exclusive(gmem);
	unmap_mapping_pages(mapping, first, last - first + 1, false);
	truncate_inode_pages_range(mapping, (loff_t)first << PAGE_SHIFT,
				   ((loff_t)(last + 1) << PAGE_SHIFT) - 1);
	gmem_store_cure(gmem, first, last);
	gmem_count(gmem, GMEM_STAT_PUNCHED,
		   (u64)(before - mapping->nrpages) << PAGE_SHIFT);
}

/**
 * gmem_store_data - the next page with content
 * @gmem: the file; its invalidate_lock is held, for a folio that is being split is
 *        not in the page cache for a moment
 * @index: where to begin
 *
 * Return: its index; the first behind the file for none.
 */
pgoff_t gmem_store_data(struct gmem *gmem, pgoff_t index)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	pgoff_t end = i_size_read(&gmem->inode) >> PAGE_SHIFT;

	gmem_assert_stable(gmem);
	return xa_find(&mapping->i_pages, &index, end, XA_PRESENT) ? index : end;
}

/* Pages to look at without letting others have the lock. */
#define GMEM_HOLE_BATCH	1024

/**
 * gmem_store_hole - the next page without content
 * @gmem: the file; its invalidate_lock is not held
 * @index: where to begin
 *
 * Takes the lock by itself, for the reason that gmem_store_data() has, and lets it
 * go again and again, for there may be much content.
 *
 * Return: its index; the first behind the file for none; or a page where the
 * search stopped because the thread is being killed.
 */
pgoff_t gmem_store_hole(struct gmem *gmem, pgoff_t index)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	pgoff_t end = i_size_read(&gmem->inode) >> PAGE_SHIFT;
	pgoff_t stop;

	/* page_cache_next_miss() takes page 0 for missing, always. */
	do {
		stop = min(end, index + GMEM_HOLE_BATCH);
		if (fatal_signal_pending(current) ||
		    down_read_killable(&mapping->invalidate_lock))
			break;
		while (index < stop && xa_load(&mapping->i_pages, index))
			index++;
		up_read(&mapping->invalidate_lock);
		cond_resched();
	} while (index == stop && index < end);
	return min(index, end);
}

/**
 * gmem_store_lose - the memory under a page broke, and the kernel takes it away
 * @gmem: the file
 * @folio: the page, locked
 *
 * What was in it is lost: the page becomes poisoned, and whoever can may provide
 * it anew. Poison comes before the folio goes, so that the page is never absent.
 *
 * Return: 0 or -errno, with the page as it was.
 */
int gmem_store_lose(struct gmem *gmem, struct folio *folio)
{
	int err;

	err = xa_err(xa_store(&gmem->poison, folio->index, xa_mk_value(1),
			      GFP_KERNEL));
	if (err)
		return err;
	gmem_count(gmem, GMEM_STAT_POISONED, PAGE_SIZE);
	return generic_error_remove_folio(folio->mapping, folio);
}
