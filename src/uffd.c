// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the UFFDIO_* ioctls of a context of mapping scope: the ABI of
 * userfaultfd(2), word for word, for mappings of gmem files of one process.
 *
 * Semantics, the order of checks and errnos are those of mm/userfaultfd.c of Linux
 * 7.3, with these differences, all of which make things work that do not there:
 * - who unmaps, punches or forks does not wait for the handler to read of it, and only
 *   what overlaps a notice that is not read yet gets EAGAIN (with a fork's: all);
 * - content is provided to the file, so for all mappings of it, private ones too.
 */
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/userfaultfd.h>

#include "gmemfd.h"
#include "trace.h"

#define GMEM_UFFD_FEATURES						\
	(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |	\
	 UFFD_FEATURE_SIGBUS | UFFD_FEATURE_THREAD_ID |			\
	 UFFD_FEATURE_EXACT_ADDRESS | UFFD_FEATURE_POISON |		\
	 UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |		\
	 UFFD_FEATURE_EVENT_FORK)

#define GMEM_UFFD_API_IOCTLS						\
	(BIT_ULL(_UFFDIO_API) | BIT_ULL(_UFFDIO_REGISTER) |		\
	 BIT_ULL(_UFFDIO_UNREGISTER))

#define GMEM_UFFD_RANGE_IOCTLS						\
	(BIT_ULL(_UFFDIO_WAKE) | BIT_ULL(_UFFDIO_COPY) |		\
	 BIT_ULL(_UFFDIO_ZEROPAGE) | BIT_ULL(_UFFDIO_CONTINUE) |	\
	 BIT_ULL(_UFFDIO_POISON))

/**
 * gmem_uffd_ioctls - what a context of mapping scope can do
 *
 * Return: bits as in the ioctls field of struct uffdio_api and of struct uffdio_register.
 */
u64 gmem_uffd_ioctls(void)
{
	return GMEM_UFFD_API_IOCTLS | GMEM_UFFD_RANGE_IOCTLS;
}

/* Whether a range could be one of user memory. */
static int gmem_uffd_check(struct mm_struct *mm, u64 start, u64 len)
{
	if (!len || start + len <= start || start + len > mm->task_size)
		return -EINVAL;
	return 0;
}

/* The same for one of whole pages. */
static int gmem_uffd_check_pages(struct mm_struct *mm, u64 start, u64 len)
{
	if ((start | len) & ~PAGE_MASK)
		return -EINVAL;
	return gmem_uffd_check(mm, start, len);
}

static long gmem_uffd_api(struct gmem_context *context, void __user *uargs)
{
	struct uffdio_api api;
	u64 features;
	long err;

	if (copy_from_user(&api, uargs, sizeof(api)))
		return -EFAULT;
	features = api.features;
	err = -EINVAL;
	if (api.api != UFFD_API)
		goto out_zero;
	err = -EPERM;
	if (features & UFFD_FEATURE_EVENT_FORK && !capable(CAP_SYS_PTRACE))
		goto out_zero;
	err = -EINVAL;
	if (features & ~GMEM_UFFD_FEATURES)
		goto out_zero;

	/* All that is there is told, but only what was asked for is on. */
	api.features = GMEM_UFFD_FEATURES;
	api.ioctls = GMEM_UFFD_API_IOCTLS;
	if (copy_to_user(uargs, &api, sizeof(api)))
		return -EFAULT;
	if (cmpxchg64(&context->features, 0, features | GMEM_UFFD_READY))
		goto out_zero;
	return 0;

out_zero:
	memset(&api, 0, sizeof(api));
	return copy_to_user(uargs, &api, sizeof(api)) ? -EFAULT : err;
}

/* The part of a range that lies in a mapping, by pages. */
static void gmem_uffd_clip(struct vm_area_struct *vma, unsigned long start,
			   unsigned long end, pgoff_t *first, pgoff_t *last)
{
	*first = max(start, vma->vm_start) >> PAGE_SHIFT;
	*last = (min(end, vma->vm_end) - 1) >> PAGE_SHIFT;
}

static pgoff_t gmem_uffd_index(struct vm_area_struct *vma, pgoff_t page)
{
	return linear_page_index(vma, page << PAGE_SHIFT);
}

/* Whether another context handles some of the range. */
static bool gmem_uffd_foreign(struct vm_area_struct *vma, pgoff_t first,
			      pgoff_t last, struct gmem_context *context)
{
	struct gmem_map *map = gmem_map_of(vma);
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct gmem_watch *watch = NULL;
	bool foreign = false;

	if (!map)
		return false;
	filemap_invalidate_lock_shared(mapping);
	while (!foreign && first <= last) {
		watch = gmem_watch_mapped(map, first, last);
		if (!watch)
			break;
		foreign = watch->context != context;
		first = watch->last + 1;
	}
	filemap_invalidate_unlock_shared(mapping);
	return foreign;
}

/* Whether the ends of the range are aligned as the file of a mapping wants it. */
static bool gmem_uffd_aligned(struct vm_area_struct *vma, unsigned long start,
			      unsigned long end)
{
	struct gmem *gmem = gmem_of(file_inode(vma->vm_file));
	pgoff_t first, last;

	gmem_uffd_clip(vma, start, end, &first, &last);
	return IS_ALIGNED(gmem_uffd_index(vma, first), gmem_granule_pages(gmem)) &&
	       IS_ALIGNED(gmem_uffd_index(vma, last) + 1,
			  gmem_granule_pages(gmem));
}

static int gmem_uffd_register_locked(struct gmem_context *context,
				     unsigned long start, unsigned long end,
				     u64 modes)
{
	struct mm_struct *mm = context->mm;
	struct vm_area_struct *vma;
	pgoff_t first, last;
	bool found = false;
	int err;

	VMA_ITERATOR(check, mm, start);
	for_each_vma_range(check, vma, end) {
		if (!gmem_is_mapping(vma) || !gmem_uffd_aligned(vma, start, end))
			return -EINVAL;
		if (!(vma->vm_flags & VM_MAYWRITE))
			return -EPERM;
		gmem_uffd_clip(vma, start, end, &first, &last);
		if (gmem_uffd_foreign(vma, first, last, context))
			return -EBUSY;
		found = true;
	}
	if (!found)
		return -EINVAL;
	/* Each range can become a notice when it is unmapped. */
	if (READ_ONCE(context->nr_notices) >= GMEM_MAX_NOTICES)
		return -ENOMEM;

	VMA_ITERATOR(vmi, mm, start);
	for_each_vma_range(vmi, vma, end) {
		/* No fault that began before is under way any more after this. */
		vma_start_write(vma);
		err = gmem_map_make(vma);
		if (err)
			return err;
		gmem_uffd_clip(vma, start, end, &first, &last);
		err = gmem_watch_register(gmem_map_of(vma), first, last,
					  gmem_uffd_index(vma, first), context,
					  modes);
		if (err)
			return err;
	}
	return 0;
}

static long gmem_uffd_register(struct gmem_context *context, void __user *uargs)
{
	struct uffdio_register __user *user = uargs;
	struct mm_struct *mm = context->mm;
	struct uffdio_register args;
	u64 ioctls = GMEM_UFFD_RANGE_IOCTLS;
	u64 modes = 0;
	long err;

	if (copy_from_user(&args, uargs, sizeof(args) - sizeof(args.ioctls)))
		return -EFAULT;
	if (!args.mode || args.mode & ~(UFFDIO_REGISTER_MODE_MISSING |
					UFFDIO_REGISTER_MODE_MINOR))
		return -EINVAL;
	if (args.mode & UFFDIO_REGISTER_MODE_MISSING)
		modes |= GMEMFD_MODE_MISSING;
	if (args.mode & UFFDIO_REGISTER_MODE_MINOR)
		modes |= GMEMFD_MODE_MINOR;
	else
		ioctls &= ~BIT_ULL(_UFFDIO_CONTINUE);
	err = gmem_uffd_check_pages(mm, args.range.start, args.range.len);
	if (err)
		return err;

	if (!mmget_not_zero(mm))
		return -ENOMEM;
	err = mmap_write_lock_killable(mm);
	if (!err) {
		err = gmem_uffd_register_locked(context, args.range.start,
						args.range.start +
						args.range.len, modes);
		mmap_write_unlock(mm);
	}
	mmput(mm);
	if (!err && put_user(ioctls, &user->ioctls))
		err = -EFAULT;
	return err;
}

static int gmem_uffd_unregister_locked(struct gmem_context *context,
				       unsigned long start, unsigned long end)
{
	struct mm_struct *mm = context->mm;
	struct vm_area_struct *vma;
	pgoff_t first, last;
	bool found = false;
	int err;

	VMA_ITERATOR(check, mm, start);
	for_each_vma_range(check, vma, end) {
		if (!gmem_is_mapping(vma) || !gmem_uffd_aligned(vma, start, end))
			return -EINVAL;
		gmem_uffd_clip(vma, start, end, &first, &last);
		if (gmem_uffd_foreign(vma, first, last, context))
			return -EINVAL;
		found = true;
	}
	if (!found)
		return -EINVAL;

	VMA_ITERATOR(vmi, mm, start);
	for_each_vma_range(vmi, vma, end) {
		if (!gmem_map_of(vma))
			continue;
		vma_start_write(vma);
		gmem_uffd_clip(vma, start, end, &first, &last);
		err = gmem_watch_unregister(gmem_map_of(vma), first, last);
		if (err)
			return err;
	}
	return 0;
}

static long gmem_uffd_unregister(struct gmem_context *context,
				 void __user *uargs)
{
	struct mm_struct *mm = context->mm;
	struct uffdio_range range;
	long err;

	if (copy_from_user(&range, uargs, sizeof(range)))
		return -EFAULT;
	err = gmem_uffd_check_pages(mm, range.start, range.len);
	if (err)
		return err;
	if (!mmget_not_zero(mm))
		return -ENOMEM;
	err = mmap_write_lock_killable(mm);
	if (!err) {
		err = gmem_uffd_unregister_locked(context, range.start,
						  range.start + range.len);
		mmap_write_unlock(mm);
	}
	mmput(mm);
	return err;
}

/* Wakes those who wait in a part of one mapping because of this context. */
static void gmem_uffd_wake_vma(struct gmem_context *context,
			       struct vm_area_struct *vma, pgoff_t first,
			       pgoff_t last)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct gmem_map *map = gmem_map_of(vma);
	struct gmem_watch *watch;
	pgoff_t stop;

	if (!map)
		return;
	filemap_invalidate_lock_shared(mapping);
	while (first <= last) {
		watch = gmem_watch_mapped(map, first, last);
		if (!watch)
			break;
		first = max(first, watch->first);
		stop = min(last, watch->last);
		if (watch->context == context)
			gmem_trap_wake_watch(watch,
					     gmem_uffd_index(vma, first),
					     gmem_uffd_index(vma, stop));
		first = stop + 1;
	}
	filemap_invalidate_unlock_shared(mapping);
}

static long gmem_uffd_wake(struct gmem_context *context, void __user *uargs)
{
	struct mm_struct *mm = context->mm;
	struct vm_area_struct *vma;
	struct uffdio_range range;
	pgoff_t first, last;
	unsigned long end;
	long err;

	if (copy_from_user(&range, uargs, sizeof(range)))
		return -EFAULT;
	err = gmem_uffd_check_pages(mm, range.start, range.len);
	if (err)
		return err;
	/* Whoever waited in a process that is gone waits no more. */
	if (!mmget_not_zero(mm))
		return 0;
	end = range.start + range.len;
	err = mmap_read_lock_killable(mm);
	if (!err) {
		VMA_ITERATOR(vmi, mm, range.start);
		for_each_vma_range(vmi, vma, end) {
			if (!gmem_is_mapping(vma))
				continue;
			gmem_uffd_clip(vma, range.start, end, &first, &last);
			gmem_uffd_wake_vma(context, vma, first, last);
		}
		mmap_read_unlock(mm);
	}
	mmput(mm);
	return err;
}

/* What all of a range that COPY and its kin take has in common. */
struct gmem_uffd_kind {
	const struct gmem_context *context;
	u64 modes;
};

/*
 * Whether all of a range within one mapping is watched, by one context in the same
 * modes. @kind: what it has to be, or zeros, which it is set for then.
 */
static bool gmem_uffd_covers(struct vm_area_struct *vma, pgoff_t first,
			     pgoff_t last, struct gmem_uffd_kind *kind)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct gmem_map *map = gmem_map_of(vma);
	struct gmem_watch *watch;

	if (!map)
		return false;
	filemap_invalidate_lock_shared(mapping);
	while (first <= last) {
		watch = gmem_watch_mapped(map, first, first);
		if (!watch || (kind->context &&
			       (watch->context != kind->context ||
				watch->modes != kind->modes)))
			break;
		kind->context = watch->context;
		kind->modes = watch->modes;
		first = watch->last + 1;
	}
	filemap_invalidate_unlock_shared(mapping);
	return first > last;
}

/*
 * The mapping that a range begins in, if all of the range is watched, by whatever
 * context, in the @modes that this sets; mmap_lock is held. ERR_PTR(-ENOENT) where
 * not, -EINVAL where the range is not one of granules.
 *
 * The range may go on in the next mapping where the kernel would have made one of the two,
 * as it does for memory of its own, but not where a mapping has a ->close. It does not
 * make one of mappings with different contexts or modes.
 */
static struct vm_area_struct *gmem_uffd_find(struct gmem_context *context,
					     unsigned long start,
					     unsigned long end, u64 *modes)
{
	struct vm_area_struct *first = vma_lookup(context->mm, start);
	struct vm_area_struct *vma = first, *prev = NULL;
	struct gmem_uffd_kind kind = {};
	pgoff_t from, to;

	for (;;) {
		if (!vma || !gmem_is_mapping(vma) ||
		    (prev && (vma->vm_start != prev->vm_end ||
			      vma->vm_flags != prev->vm_flags ||
			      vma->vm_file != prev->vm_file ||
			      vma->vm_pgoff != prev->vm_pgoff + vma_pages(prev))))
			return ERR_PTR(-ENOENT);
		gmem_uffd_clip(vma, start, end, &from, &to);
		if (!gmem_uffd_covers(vma, from, to, &kind))
			return ERR_PTR(-ENOENT);
		if (!gmem_uffd_aligned(vma, start, end))
			return ERR_PTR(-EINVAL);
		*modes = kind.modes;
		if (end <= vma->vm_end)
			return first;
		prev = vma;
		vma = find_vma(context->mm, prev->vm_end);
	}
}

/*
 * Takes poison away from what was provided, and maps it where it would trap again,
 * present as it is. What cannot be mapped now, because the mapping has changed, traps
 * or does not by itself; one that has come to the same place is no concern of it.
 */
static void gmem_uffd_provided(const struct gmem_source *source,
			       struct gmem *gmem, pgoff_t index, long nr)
{
	unsigned long start = source->start +
			      ((index - source->index) << PAGE_SHIFT);
	unsigned long end = start + (nr << PAGE_SHIFT);
	struct gmem_context *context = source->context;
	struct mm_struct *mm = context->mm;
	struct vm_area_struct *vma;
	pgoff_t first, last;
	unsigned long reached;
	u64 modes;
	long done;

	if (mmap_read_lock_killable(mm))
		return;
	vma = gmem_uffd_find(context, start, end, &modes);
	if (!IS_ERR(vma) && (file_inode(vma->vm_file) != &gmem->inode ||
			     linear_page_index(vma, start) != index))
		vma = NULL;
	while (!IS_ERR_OR_NULL(vma) && start < end) {
		gmem_uffd_clip(vma, start, end, &first, &last);
		gmem_map_cure(gmem_map_of(vma), first, last);
		done = min(end, vma->vm_end) - start;
		if (modes & GMEMFD_MODE_MINOR)
			done = gmem_map_open(vma, start, start + done,
					     &reached);
		if (done < 0 && done != -EEXIST)
			break;
		start += done == -EEXIST ? PAGE_SIZE : done;
		vma = vma_lookup(mm, start);
	}
	mmap_read_unlock(mm);
}

/* Return: pages done, or -errno for none. */
static long gmem_uffd_provide_part(struct gmem *gmem, pgoff_t index,
				   pgoff_t last, struct gmem_source *source,
				   bool wake, enum gmem_stat stat)
{
	/* Those who wait are woken when they can have it, or they would trap at once. */
	bool later = source->modes & GMEMFD_MODE_MINOR || source->poison;
	long done;

	done = gmem_provide_all(gmem, index, last, source,
				later || !wake ? GMEMFD_RANGE_DONTWAKE : 0,
				stat);
	/* POISON may have been there first, although it came after the look. */
	if (done > 0 && (later || source->poison)) {
		gmem_uffd_provided(source, gmem, index, done);
		if (wake)
			gmem_trap_wake(gmem, index, index + done - 1);
	}
	return done;
}

/*
 * COPY and ZEROPAGE. @mode: UFFDIO_COPY_MODE_*; the others have the same bits.
 * Return: bytes done, or -errno for none.
 */
static long gmem_uffd_provide(struct gmem_context *context, unsigned long start,
			      unsigned long len, struct gmem_source *source,
			      u64 mode, enum gmem_stat stat)
{
	bool wake = !(mode & UFFDIO_COPY_MODE_DONTWAKE);
	struct mm_struct *mm = context->mm;
	struct vm_area_struct *vma;
	pgoff_t index, last, end, at;
	unsigned long address;
	struct gmem *gmem;
	struct file *file;
	long done, step;
	u64 modes;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	vma = gmem_uffd_find(context, start, start + len, &modes);
	/* Nothing is registered for it. */
	if (!IS_ERR(vma) && mode & UFFDIO_COPY_MODE_WP)
		vma = ERR_PTR(-EINVAL);
	if (IS_ERR(vma)) {
		mmap_read_unlock(mm);
		return PTR_ERR(vma);
	}
	file = get_file(vma->vm_file);
	index = linear_page_index(vma, start);
	last = index + (len >> PAGE_SHIFT) - 1;
	for (address = start; address < start + len; address = vma->vm_end) {
		vma = vma_lookup(mm, address);
		source->poison |= gmem_map_poisoned(gmem_map_of(vma),
						    address >> PAGE_SHIFT,
						    (start + len - 1) >> PAGE_SHIFT);
	}
	/*
	 * The source may trap, or lie in what the handler unmaps. What becomes of
	 * the destination meanwhile is seen by gmem_watch_wants().
	 */
	mmap_read_unlock(mm);

	gmem = gmem_of(file_inode(file));
	end = i_size_read(&gmem->inode) >> PAGE_SHIFT;
	source->context = context;
	source->start = start;
	source->end = start + len;
	source->index = index;
	source->modes = modes;
	last = min(last, end - 1);
	/* Each of them may be the source of the next. */
	step = source->itself ? gmem_granule_pages(gmem) : last - index + 1;
	at = index;
	done = -EFAULT;
	while (at < end && at <= last) {
		done = gmem_uffd_provide_part(gmem, at,
					      min(last, at + step - 1), source,
					      wake, stat);
		at += max(done, 0L);
		if (done < step)
			break;
	}
	fput(file);
	return at > index ? (at - index) << PAGE_SHIFT : done;
}

/* How an operation of which @done bytes, or an errno, came ends. */
static long gmem_uffd_result(s64 done, u64 len, s64 __user *result)
{
	if (put_user(done, result))
		return -EFAULT;
	if (done < 0)
		return done;
	return done == len ? 0 : -EAGAIN;
}

static_assert(UFFDIO_ZEROPAGE_MODE_DONTWAKE == UFFDIO_COPY_MODE_DONTWAKE);

static long gmem_uffd_copy(struct gmem_context *context, void __user *uargs)
{
	struct uffdio_copy __user *user = uargs;
	struct gmem_source source = {};
	struct uffdio_copy args;
	struct iov_iter iter;
	long done;

	if (copy_from_user(&args, uargs, sizeof(args) - sizeof(args.copy)))
		return -EFAULT;
	if (gmem_uffd_check(context->mm, args.src, args.len) ||
	    gmem_uffd_check_pages(context->mm, args.dst, args.len) ||
	    args.mode & ~(UFFDIO_COPY_MODE_DONTWAKE | UFFDIO_COPY_MODE_WP))
		return -EINVAL;
	done = -EAGAIN;
	if (gmem_context_changing(context, args.dst, args.dst + args.len))
		goto out;
	/* An iterator takes no more than this; the caller comes again. */
	done = import_ubuf(ITER_SOURCE, u64_to_user_ptr(args.src),
			   min_t(u64, args.len, SZ_1G), &iter);
	if (done)
		goto out;
	if (!mmget_not_zero(context->mm))
		return -ESRCH;
	source.iter = &iter;
	source.itself = current->mm == context->mm &&
			args.src < args.dst + args.len &&
			args.dst < args.src + args.len;
	done = gmem_uffd_provide(context, args.dst, iov_iter_count(&iter),
				 &source, args.mode, GMEM_STAT_COPIED);
	mmput(context->mm);
out:
	return gmem_uffd_result(done, args.len, &user->copy);
}

static long gmem_uffd_zeropage(struct gmem_context *context, void __user *uargs)
{
	struct uffdio_zeropage __user *user = uargs;
	struct gmem_source zeros = {};
	struct uffdio_zeropage args;
	long done;

	if (copy_from_user(&args, uargs, sizeof(args) - sizeof(args.zeropage)))
		return -EFAULT;
	if (gmem_uffd_check_pages(context->mm, args.range.start,
				  args.range.len) ||
	    args.mode & ~UFFDIO_ZEROPAGE_MODE_DONTWAKE)
		return -EINVAL;
	done = -EAGAIN;
	if (gmem_context_changing(context, args.range.start,
				  args.range.start + args.range.len))
		goto out;
	if (!mmget_not_zero(context->mm))
		return -ESRCH;
	done = gmem_uffd_provide(context, args.range.start, args.range.len,
				 &zeros, args.mode, GMEM_STAT_ZEROED);
	mmput(context->mm);
out:
	return gmem_uffd_result(done, args.range.len, &user->zeropage);
}

/* CONTINUE. @mode: UFFDIO_CONTINUE_MODE_*. Return: bytes done, or -errno for none. */
static long gmem_uffd_open(struct gmem_context *context, unsigned long start,
			   unsigned long end, u64 mode)
{
	bool wake = !(mode & UFFDIO_CONTINUE_MODE_DONTWAKE);
	struct mm_struct *mm = context->mm;
	struct vm_area_struct *vma;
	unsigned long stop, reached;
	unsigned long at = start;
	u64 modes;
	long done;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	vma = gmem_uffd_find(context, start, end, &modes);
	done = PTR_ERR_OR_ZERO(vma);
	/* Nothing is registered for it. */
	if (!done && mode & UFFDIO_CONTINUE_MODE_WP)
		done = -EINVAL;
	/* No fork comes now, but one may have come just before. */
	if (!done && gmem_context_changing(context, start, end))
		done = -EAGAIN;
	while (!done && at < end) {
		vma = vma_lookup(mm, at);
		stop = min(end, vma->vm_end);
		done = gmem_map_open(vma, at, stop, &reached);
		if (wake && reached > at)
			gmem_uffd_wake_vma(context, vma, at >> PAGE_SHIFT,
					   (reached - 1) >> PAGE_SHIFT);
		if (done < 0)
			break;
		gmem_count(gmem_map_of(vma)->gmem, GMEM_STAT_CONTINUED, done);
		at += done;
		/* Whole: on to the next mapping. */
		done = at == stop ? 0 : -EAGAIN;
	}
	mmap_read_unlock(mm);
	return at > start ? at - start : done;
}

static long gmem_uffd_continue(struct gmem_context *context, void __user *uargs)
{
	struct uffdio_continue __user *user = uargs;
	struct uffdio_continue args;
	long done;

	if (copy_from_user(&args, uargs, sizeof(args) - sizeof(args.mapped)))
		return -EFAULT;
	if (gmem_uffd_check_pages(context->mm, args.range.start,
				  args.range.len) ||
	    args.mode & ~(UFFDIO_CONTINUE_MODE_DONTWAKE |
			  UFFDIO_CONTINUE_MODE_WP))
		return -EINVAL;
	done = -EAGAIN;
	if (gmem_context_changing(context, args.range.start,
				  args.range.start + args.range.len))
		goto out;
	if (!mmget_not_zero(context->mm))
		return -ESRCH;
	done = gmem_uffd_open(context, args.range.start,
			      args.range.start + args.range.len, args.mode);
	mmput(context->mm);
out:
	return gmem_uffd_result(done, args.range.len, &user->mapped);
}

static long gmem_uffd_poison_range(struct gmem_context *context,
				   unsigned long start, unsigned long end,
				   bool wake)
{
	struct mm_struct *mm = context->mm;
	struct vm_area_struct *vma;
	unsigned long at = start;
	u64 modes;
	long err;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	vma = gmem_uffd_find(context, start, end, &modes);
	err = PTR_ERR_OR_ZERO(vma);
	/* A fork comes before this as a whole, or after: what its child has is known. */
	if (!err && gmem_context_changing(context, start, end))
		err = -EAGAIN;
	while (!err && at < end) {
		vma = vma_lookup(mm, at);
		err = fatal_signal_pending(current) ?
		      -EINTR : gmem_map_poison(vma, at);
		if (err)
			break;
		if (wake)
			gmem_uffd_wake_vma(context, vma, at >> PAGE_SHIFT,
					   at >> PAGE_SHIFT);
		at += PAGE_SIZE;
		cond_resched();
	}
	mmap_read_unlock(mm);
	return at > start ? at - start : err;
}

static long gmem_uffd_poison(struct gmem_context *context, void __user *uargs)
{
	struct uffdio_poison __user *user = uargs;
	struct uffdio_poison args;
	long done;

	if (copy_from_user(&args, uargs, sizeof(args) - sizeof(args.updated)))
		return -EFAULT;
	if (gmem_uffd_check_pages(context->mm, args.range.start,
				  args.range.len) ||
	    args.mode & ~UFFDIO_POISON_MODE_DONTWAKE)
		return -EINVAL;
	done = -EAGAIN;
	if (gmem_context_changing(context, args.range.start,
				  args.range.start + args.range.len))
		goto out;
	if (!mmget_not_zero(context->mm))
		return -ESRCH;
	done = gmem_uffd_poison_range(context, args.range.start,
				      args.range.start + args.range.len,
				      !(args.mode & UFFDIO_POISON_MODE_DONTWAKE));
	mmput(context->mm);
out:
	return gmem_uffd_result(done, args.range.len, &user->updated);
}

/**
 * gmem_uffd_ioctl - the ioctls of a context of mapping scope
 * @file: the context
 * @cmd: UFFDIO_*
 * @arg: address of the struct
 *
 * What the kernel has and this has not (WRITEPROTECT, MOVE, ...) is refused as a
 * kernel refuses it that has not got it either.
 *
 * Return: 0 or -errno, as told in ioctl_userfaultfd(2).
 */
long gmem_uffd_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct gmem_context *context = gmem_context_from_file(file);
	void __user *uargs = (void __user *)arg;

	if (cmd != UFFDIO_API &&
	    !(READ_ONCE(context->features) & GMEM_UFFD_READY))
		return -EINVAL;

	switch (cmd) {
	case UFFDIO_API:
		return gmem_uffd_api(context, uargs);
	case UFFDIO_REGISTER:
		return gmem_uffd_register(context, uargs);
	case UFFDIO_UNREGISTER:
		return gmem_uffd_unregister(context, uargs);
	case UFFDIO_WAKE:
		return gmem_uffd_wake(context, uargs);
	case UFFDIO_COPY:
		return gmem_uffd_copy(context, uargs);
	case UFFDIO_ZEROPAGE:
		return gmem_uffd_zeropage(context, uargs);
	case UFFDIO_CONTINUE:
		return gmem_uffd_continue(context, uargs);
	case UFFDIO_POISON:
		return gmem_uffd_poison(context, uargs);
	default:
		return -EINVAL;
	}
}
