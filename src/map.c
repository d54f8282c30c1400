// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns mappings: mmap, what they carry along for mapping scope when they are
 * split, moved and unmapped, and what is poisoned for them.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/userfaultfd.h>

#include "gmemfd.h"

/* A mapping was copied: split, moved, or given to a child. */
static void gmem_vma_open(struct vm_area_struct *vma)
{
	struct gmem_map *map = vma->vm_private_data;

	if (!map)
		return;
	if (map->mm == vma->vm_mm)
		refcount_inc(&map->refs);
	else
		gmem_fork_mapping(map, vma);
}

static void gmem_vma_close(struct vm_area_struct *vma)
{
	struct gmem_map *map = vma->vm_private_data;
	struct address_space *mapping;

	if (!map)
		return;
	/* They come under this mmap_lock, so none comes now. */
	if (!RB_EMPTY_ROOT(&map->watches.rb_root) || !xa_empty(&map->poison))
		gmem_watch_unmapped(map, vma->vm_start >> PAGE_SHIFT,
				    (vma->vm_end - 1) >> PAGE_SHIFT);
	if (!refcount_dec_and_test(&map->refs))
		return;
	mapping = map->gmem->inode.i_mapping;
	mutex_lock(&gmem_watch_mutex);
	filemap_invalidate_lock(mapping);
	WARN_ON_ONCE(gmem_watch_mapped(map, 0, ULONG_MAX));
	list_del(&map->node);
	filemap_invalidate_unlock(mapping);
	mutex_unlock(&gmem_watch_mutex);
	xa_destroy(&map->poison);
	kfree(map);
}

/* Whether the handler of a page, by address, can be told that it was unmapped. */
static bool gmem_map_has_room(struct gmem_map *map, pgoff_t page)
{
	struct gmem_watch *watch = gmem_watch_mapped(map, page, page);

	return !watch ||
	       !(watch->context->features & UFFD_FEATURE_EVENT_UNMAP) ||
	       READ_ONCE(watch->context->nr_notices) < GMEM_MAX_NOTICES;
}

/*
 * A granule that is registered is not to be cut: no resolve would fit a part. And
 * what is cut can be unmapped piece by piece, with a notice for each that cannot
 * fail any more: so not where the handler has left too many unread.
 */
static int gmem_vma_may_split(struct vm_area_struct *vma, unsigned long address)
{
	struct gmem *gmem = gmem_of(file_inode(vma->vm_file));
	struct gmem_map *map = gmem_map_of(vma);
	pgoff_t page = address >> PAGE_SHIFT;
	bool room;

	if (!map)
		return 0;
	if (!IS_ALIGNED(linear_page_index(vma, address),
			gmem_granule_pages(gmem)))
		return -EINVAL;
	filemap_invalidate_lock_shared(gmem->inode.i_mapping);
	room = gmem_map_has_room(map, page - 1) && gmem_map_has_room(map, page);
	filemap_invalidate_unlock_shared(gmem->inode.i_mapping);
	return room ? 0 : -ENOMEM;
}

/*
 * A part of a mapping was moved here. Nobody tells from where, nor how much where the
 * kernel made one with a neighbour of it, so poison cannot be taken along; and
 * without it pages would read as zeros that have none. So what may be poisoned
 * where it comes from is not moved: the kernel puts all of it back.
 */
static int gmem_vma_mremap(struct vm_area_struct *vma)
{
	struct gmem_map *map = vma->vm_private_data;
	struct vm_area_struct *other;
	unsigned long i, index;
	void *entry;

	if (!map)
		return 0;
	xa_for_each(&map->poison, i, entry) {
		other = vma_lookup(vma->vm_mm, i << PAGE_SHIFT);
		if (!other || other == vma || other->vm_private_data != map)
			continue;
		index = linear_page_index(other, i << PAGE_SHIFT);
		if (index >= vma->vm_pgoff &&
		    index - vma->vm_pgoff < vma_pages(vma))
			return -EINVAL;
		cond_resched();
	}
	return 0;
}

static const struct vm_operations_struct gmem_vm_ops = {
	.may_split = gmem_vma_may_split,
	.mremap = gmem_vma_mremap,
	.open = gmem_vma_open,
	.close = gmem_vma_close,
	.fault = gmem_fault,
	.map_pages = gmem_map_pages,
};

/**
 * gmem_is_mapping - whether a mapping is one of a gmem file
 * @vma: any mapping
 *
 * Return: as said.
 */
bool gmem_is_mapping(struct vm_area_struct *vma)
{
	return vma->vm_ops == &gmem_vm_ops;
}

/**
 * gmem_map_of - what a mapping has registered
 * @vma: a mapping of a gmem file; the caller keeps it from going
 *
 * Return: it, alive as long as @vma; NULL for nothing.
 */
struct gmem_map *gmem_map_of(struct vm_area_struct *vma)
{
	return READ_ONCE(vma->vm_private_data);
}

static void gmem_map_hang(struct gmem_map *map, struct vm_area_struct *vma)
{
	refcount_inc(&map->refs);
	/* Whole before it is seen: faults under the VMA's lock go on meanwhile. */
	smp_store_release(&vma->vm_private_data, map);
}

/* What this process has registered of a file; mmap_lock is held for writing. */
static struct gmem_map *gmem_map_find(struct gmem *gmem, struct mm_struct *mm)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	struct gmem_map *map, *found = NULL;

	mmap_assert_write_locked(mm);
	/* One of this process could not come or go now. */
	if (list_empty_careful(&gmem->maps))
		return NULL;
	filemap_invalidate_lock_shared(mapping);
	list_for_each_entry(map, &gmem->maps, node) {
		if (map->mm == mm)
			found = map;
	}
	filemap_invalidate_unlock_shared(mapping);
	return found;
}

static struct gmem_map *gmem_map_alloc(struct gmem *gmem, struct mm_struct *mm,
				       gfp_t gfp)
{
	struct gmem_map *map = kzalloc_obj(*map, gfp);

	if (!map)
		return NULL;
	refcount_set(&map->refs, 1);
	map->gmem = gmem;
	map->mm = mm;
	map->watches = RB_ROOT_CACHED;
	xa_init_flags(&map->poison, XA_FLAGS_ACCOUNT);
	spin_lock_init(&map->lock);
	INIT_LIST_HEAD(&map->resolvers);
	return map;
}

/**
 * gmem_map_inherit - let the mapping of a child have something registered
 * @gmem: the file; both locks of a change of watches are held
 * @vma: the mapping, new in the child; both processes' mmap_lock is held for writing
 *
 * A child's mappings come one by one; all get the same, as in gmem_map_make(). Cannot
 * fail, since this part of fork(2) cannot.
 *
 * Return: what hangs on @vma now.
 */
struct gmem_map *gmem_map_inherit(struct gmem *gmem, struct vm_area_struct *vma)
{
	struct gmem_map *map;

	/* The newest first, which it most likely is. */
	list_for_each_entry_reverse(map, &gmem->maps, node) {
		if (map->mm != vma->vm_mm)
			continue;
		refcount_inc(&map->refs);
		vma->vm_private_data = map;
		return map;
	}
	map = gmem_map_alloc(gmem, vma->vm_mm, GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
	list_add_tail(&map->node, &gmem->maps);
	vma->vm_private_data = map;
	return map;
}

/**
 * gmem_map_poisoned - whether a page of a range is poisoned for these mappings
 * @map: the mappings
 * @first: first page, by address
 * @last: last page, by address
 *
 * Return: as said.
 */
bool gmem_map_poisoned(struct gmem_map *map, pgoff_t first, pgoff_t last)
{
	return !xa_empty(&map->poison) &&
	       xa_find(&map->poison, &first, last, XA_PRESENT);
}

/**
 * gmem_map_poison - poison a page for the mappings that share what is registered
 * @vma: a mapping that has registered something; mmap_lock is held
 * @address: of the page, in the mapping
 *
 * Return: 0; -EEXIST for one that is there and does not trap, which counts as mapped, and
 * for one that is poisoned; -EFAULT beyond the end of the file; -ENOMEM.
 */
int gmem_map_poison(struct vm_area_struct *vma, unsigned long address)
{
	struct gmem_map *map = gmem_map_of(vma);
	struct gmem *gmem = map->gmem;
	pgoff_t index = linear_page_index(vma, address);
	pgoff_t page = address >> PAGE_SHIFT;
	int err;

	if (index >= i_size_read(&gmem->inode) >> PAGE_SHIFT)
		return -EFAULT;
	filemap_invalidate_lock(gmem->inode.i_mapping);
	if (gmem_map_present(vma->vm_mm, address) ||
	    xa_load(&map->poison, page) ||
	    (!gmem_watch_minor(map, page, page) &&
	     gmem_store_state(gmem, index) != GMEM_ABSENT))
		err = -EEXIST;
	else
		err = xa_err(xa_store(&map->poison, page, xa_mk_value(1),
				      GFP_KERNEL));
	filemap_invalidate_unlock(gmem->inode.i_mapping);
	return err;
}

/**
 * gmem_map_cure - take the poison of a range away
 * @map: the mappings
 * @first: first page, by address
 * @last: last page, by address
 */
void gmem_map_cure(struct gmem_map *map, pgoff_t first, pgoff_t last)
{
	unsigned long i;
	void *entry;

	if (!gmem_map_poisoned(map, first, last))
		return;
	filemap_invalidate_lock(map->gmem->inode.i_mapping);
	xa_for_each_range(&map->poison, i, entry, first, last) {
		xa_erase(&map->poison, i);
		cond_resched();
	}
	filemap_invalidate_unlock(map->gmem->inode.i_mapping);
}

/**
 * gmem_map_make - let the mappings of a file in a process register something
 * @vma: one of them; mmap_lock is held for writing
 *
 * All of them get the same, since the kernel may move the border between two that
 * lie side by side without a word to us.
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_map_make(struct vm_area_struct *vma)
{
	struct gmem *gmem = gmem_of(file_inode(vma->vm_file));
	struct mm_struct *mm = vma->vm_mm;
	struct vm_area_struct *each;
	struct gmem_map *map;

	VMA_ITERATOR(vmi, mm, 0);

	mmap_assert_write_locked(mm);
	if (vma->vm_private_data)
		return 0;
	map = gmem_map_alloc(gmem, mm, GFP_KERNEL_ACCOUNT);
	if (!map)
		return -ENOMEM;

	mutex_lock(&gmem_watch_mutex);
	filemap_invalidate_lock(gmem->inode.i_mapping);
	list_add_tail(&map->node, &gmem->maps);
	filemap_invalidate_unlock(gmem->inode.i_mapping);
	mutex_unlock(&gmem_watch_mutex);
	for_each_vma(vmi, each) {
		if (gmem_is_mapping(each) &&
		    file_inode(each->vm_file) == &gmem->inode)
			gmem_map_hang(map, each);
		cond_resched();
	}
	/* The one it was made with; @vma has its own by now. */
	refcount_dec(&map->refs);
	return 0;
}

/**
 * gmem_map_covers - whether the caller's process maps a range of a file
 * @gmem: the file
 * @address: first address, of a page
 * @len: bytes
 * @index: the page of the file that is to be at @address
 *
 * Return: as said, when it was looked at.
 */
bool gmem_map_covers(struct gmem *gmem, unsigned long address,
		     unsigned long len, pgoff_t index)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned long done = address;
	unsigned long end = address + len;

	VMA_ITERATOR(vmi, mm, address);

	if (mmap_read_lock_killable(mm))
		return false;
	for_each_vma_range(vmi, vma, end) {
		if (!gmem_is_mapping(vma) || vma->vm_start > done ||
		    file_inode(vma->vm_file) != &gmem->inode ||
		    linear_page_index(vma, done) !=
		    index + ((done - address) >> PAGE_SHIFT))
			break;
		done = min(vma->vm_end, end);
	}
	mmap_read_unlock(mm);
	return done == end;
}

/**
 * gmem_mmap - map a gmem file
 * @file: the file
 * @vma: the mapping, shared or private
 *
 * Return: 0.
 */
int gmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct gmem_map *map;

	vma->vm_ops = &gmem_vm_ops;
	map = gmem_map_find(gmem_of(file_inode(file)), vma->vm_mm);
	if (map)
		gmem_map_hang(map, vma);
	return 0;
}

