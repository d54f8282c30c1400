// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the ways to provide pages: one implementation for all that asks for
 * it, the ioctls, write(2), fallocate(2), and the first access to a page that
 * nobody watches. Knows neither mappings nor how waiters are kept.
 *
 * Pages are provided by units: a folio, as large as the range and memory allow, or a
 * granule. The content goes into a folio that nobody sees, without any lock,
 * since reading its source may fault, even trap. Then it is put in under
 * invalidate_lock, and those who wait are woken.
 *
 * Results follow mm/userfaultfd.c: see struct gmemfd_range.
 */
#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/log2.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "gmemfd.h"
#include "trace.h"

/**
 * gmem_range_check - whether a range is one of granules of a file
 * @gmem: the file
 * @offset: first byte
 * @len: bytes
 *
 * Return: 0 or -EINVAL.
 */
int gmem_range_check(const struct gmem *gmem, u64 offset, u64 len)
{
	u64 mask = (gmem_granule_pages(gmem) << PAGE_SHIFT) - 1;
	u64 size = i_size_read(&gmem->inode);

	if (!len || (offset | len) & mask || offset >= size ||
	    len > size - offset)
		return -EINVAL;
	return 0;
}

/* Puts the next bytes of the source into a folio: all of it, or -errno. */
static int gmem_source_read(struct gmem_source *source, struct folio *folio)
{
	size_t size = folio_size(folio);
	struct iov_iter iter;
	struct bio_vec bvec;
	ssize_t got;

	if (source->iter)
		return copy_folio_from_iter(folio, 0, size, source->iter) ==
		       size ? 0 : -EFAULT;
	if (!source->file) {
		folio_zero_range(folio, 0, size);
		return 0;
	}
	bvec_set_folio(&bvec, folio, size, 0);
	iov_iter_bvec(&iter, ITER_DEST, &bvec, 1, size);
	while (iov_iter_count(&iter)) {
		got = vfs_iter_read(source->file, &iter, &source->pos, 0);
		/* The call is not restarted: a part of it may be done. */
		if (got == -ERESTARTSYS)
			got = -EINTR;
		if (got <= 0)
			return got ?: -ENODATA;
	}
	return 0;
}

/* Where the source stands, and back to there. */
static u64 gmem_source_tell(const struct gmem_source *source)
{
	return source->iter ? iov_iter_count(source->iter) : source->pos;
}

static void gmem_source_back(struct gmem_source *source, u64 tell)
{
	if (source->iter)
		iov_iter_revert(source->iter,
				tell - iov_iter_count(source->iter));
	else
		source->pos = tell;
}

/* Whether pages are still to be provided, now that the source has been read. */
static int gmem_source_wanted(struct gmem *gmem, struct gmem_source *source,
			      pgoff_t index, pgoff_t last)
{
	return source->context ?
	       gmem_watch_wants(gmem, source, index, last) : 0;
}

/*
 * Whether pages [index, last] are to be closed: 0 or 1, -EINVAL where they
 * cannot be, -EEXIST where they trap an access, -EIO where they are poisoned. A
 * unit that lies in several watches, or partly in one, is told to be smaller by
 * -EAGAIN.
 */
static int gmem_publish_closed(struct gmem *gmem, enum gmem_publish publish,
			       pgoff_t index, pgoff_t last)
{
	struct gmem_watch *watch;

	if (publish == GMEM_PUBLISH_OPEN)
		return 0;
	watch = gmem_watch_first(gmem, index, last);
	if (watch && (watch->first > index || watch->last < last))
		return -EAGAIN;
	switch (publish) {
	case GMEM_PUBLISH_CLOSED:
		return watch && watch->modes & GMEMFD_MODE_MINOR ? 1 : -EINVAL;
	case GMEM_PUBLISH_ALLOCATE:
		if (gmem_store_poisoned(gmem, index, last))
			return -EIO;
		fallthrough;
	case GMEM_PUBLISH_BY_WATCH:
		return watch && watch->modes & GMEMFD_MODE_MINOR;
	default: /* GMEM_PUBLISH_ACCESS */
		if (gmem_store_poisoned(gmem, index, last))
			return -EIO;
		return watch && watch->modes & GMEMFD_MODE_MISSING ? -EEXIST : 0;
	}
}

/* One folio of the given order. Return: pages done, or -errno. */
static long gmem_provide_folio(struct gmem *gmem, pgoff_t index,
			       unsigned int order, struct gmem_source *source,
			       enum gmem_publish publish)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	bool fault = publish == GMEM_PUBLISH_ACCESS;
	u64 tell = gmem_source_tell(source);
	pgoff_t nr = 1UL << order;
	struct folio *folio;
	int err;

	folio = gmem_store_alloc(gmem, order, fault);
	if (!folio)
		return -ENOMEM;
	err = gmem_source_read(source, folio);
	if (err)
		goto out_back;

	filemap_invalidate_lock_shared(mapping);
	err = gmem_source_wanted(gmem, source, index, index + nr - 1);
	if (!err)
		err = gmem_publish_closed(gmem, publish, index, index + nr - 1);
	if (err >= 0)
		err = gmem_store_insert(gmem, folio, index, err, fault);
	filemap_invalidate_unlock_shared(mapping);
	if (err)
		goto out_back;
	if (order == PMD_ORDER)
		gmem_count(gmem, GMEM_STAT_HUGE, 1);
	folio_put(folio);
	return nr;

out_back:
	gmem_source_back(source, tell);
	folio_put(folio);
	return err;
}

/* A granule of a huge file where no folio of its size is to be had. */
static long gmem_provide_granule(struct gmem *gmem, pgoff_t index,
				 struct gmem_source *source,
				 enum gmem_publish publish)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	bool fault = publish == GMEM_PUBLISH_ACCESS;
	u64 tell = gmem_source_tell(source);
	pgoff_t i, nr = gmem_granule_pages(gmem);
	struct folio **folios;
	int err = 0;

	folios = gmem_store_alloc_granule(gmem, nr, fault);
	if (!folios)
		return -ENOMEM;
	for (i = 0; i < nr && !err; i++)
		err = gmem_source_read(source, folios[i]);
	if (err)
		goto out;

	filemap_invalidate_lock(mapping);
	err = gmem_source_wanted(gmem, source, index, index + nr - 1);
	if (!err)
		err = gmem_publish_closed(gmem, publish, index, index + nr - 1);
	if (err >= 0)
		err = gmem_store_insert_granule(gmem, folios, index, err, fault);
	filemap_invalidate_unlock(mapping);
out:
	if (err)
		gmem_source_back(source, tell);
	gmem_store_put_granule(folios, nr);
	return err ?: nr;
}

/* The largest order with which a folio at @index ends by @last. */
static unsigned int gmem_order(pgoff_t index, pgoff_t last)
{
	unsigned int order = min_t(unsigned int, ilog2(last - index + 1),
				   GMEM_MAX_ORDER);

	if (index)
		order = min_t(unsigned int, order, __ffs(index));
	/* The page cache of older kernels has no folios of two pages. */
	return order < 2 ? 0 : order;
}

/*
 * Orders that are tried before single pages where memory is fragmented: the whole,
 * 64 KiB, none between, since each failure costs.
 */
static unsigned int gmem_lower_order(unsigned int order)
{
	return order > 4 ? 4 : 0;
}

/**
 * gmem_provide - give absent pages content
 * @gmem: the file
 * @index: first page, in a huge file of a granule
 * @last: last page, in a huge file of a granule
 * @source: where the content comes from; left behind what was done
 * @publish: how they are published
 *
 * Wakes nobody. Waits, killably, only where the source does.
 *
 * Return: pages done, 1 or more; -EEXIST when the first has content already,
 * and for GMEM_PUBLISH_ACCESS when it traps; -EIO when it is poisoned and how they
 * are published respects that; -EINVAL for GMEM_PUBLISH_CLOSED where
 * nothing would open it; -ENOENT, -EAGAIN where @source->context wants it no longer;
 * -ENOMEM; -EINTR; or what the source says.
 */
long gmem_provide(struct gmem *gmem, pgoff_t index, pgoff_t last,
		  struct gmem_source *source, enum gmem_publish publish)
{
	unsigned int order = gmem->granule_order ?: gmem_order(index, last);
	long done;

	for (;;) {
		/*
		 * A mere access goes on: kernel code that makes it would come
		 * back for ever, and it is one unit.
		 */
		if (publish != GMEM_PUBLISH_ACCESS &&
		    fatal_signal_pending(current))
			return -EINTR;
		done = gmem_provide_folio(gmem, index, order, source, publish);
		if (done > 0 || order == 0)
			break;
		if (gmem->granule_order) {
			if (done != -ENOMEM)
				break;
			return gmem_provide_granule(gmem, index, source,
						    publish);
		}
		/*
		 * A smaller unit finds out how far the range is good: where
		 * memory or the source ends, where content is already.
		 */
		order = done == -ENOMEM ? gmem_lower_order(order) : 0;
	}
	return done;
}

/**
 * gmem_provide_all - give absent pages content, and wake who waits for them
 * @gmem: the file
 * @first: first page, in a huge file of a granule
 * @last: last page, in a huge file of a granule
 * @source: as with gmem_provide()
 * @flags: GMEMFD_RANGE_*
 * @stat: where they are counted
 *
 * Return: pages done, 1 or more, less than the range where something stopped it;
 * or -errno for none, as with gmem_provide().
 */
long gmem_provide_all(struct gmem *gmem, pgoff_t first, pgoff_t last,
		      struct gmem_source *source, u64 flags,
		      enum gmem_stat stat)
{
	enum gmem_publish publish = flags & GMEMFD_RANGE_CLOSED ?
				    GMEM_PUBLISH_CLOSED : GMEM_PUBLISH_OPEN;
	pgoff_t index = first;
	long done = 0;

	while (index <= last) {
		done = gmem_provide(gmem, index, last, source, publish);
		if (done < 0)
			break;
		gmem_count(gmem, stat, (u64)done << PAGE_SHIFT);
		if (!(flags & GMEMFD_RANGE_DONTWAKE))
			gmem_trap_wake(gmem, index, index + done - 1);
		index += done;
		cond_resched();
	}
	return index > first ? index - first : done;
}

static long gmem_resolve_continue(struct gmem *gmem, pgoff_t first,
				  pgoff_t last, u64 flags)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	unsigned int tries = 0;
	pgoff_t index = first;
	int err = 0;

	while (index <= last && !err) {
		if (fatal_signal_pending(current)) {
			err = -EINTR;
			break;
		}
		filemap_invalidate_lock_shared(mapping);
		err = gmem_store_open(gmem, index, last, &index);
		filemap_invalidate_unlock_shared(mapping);
		if (err == -EAGAIN) {
			filemap_invalidate_lock(mapping);
			err = gmem_store_split(gmem, index);
			if (!err)
				err = gmem_store_split(gmem, last + 1);
			filemap_invalidate_unlock(mapping);
			if (gmem_store_busy(err, &tries))
				err = 0;
		}
		cond_resched();
	}
	if (index == first)
		return err;
	gmem_count(gmem, GMEM_STAT_CONTINUED, (u64)(index - first) << PAGE_SHIFT);
	if (!(flags & GMEMFD_RANGE_DONTWAKE))
		gmem_trap_wake(gmem, first, index - 1);
	return index - first;
}

static long gmem_resolve_poison(struct gmem *gmem, pgoff_t first, pgoff_t last,
				u64 flags)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	pgoff_t granule = gmem_granule_pages(gmem);
	pgoff_t index = first, stop, i;
	int err = 0;

	while (index <= last && !err) {
		if (fatal_signal_pending(current)) {
			err = -EINTR;
			break;
		}
		/* By granules, so that no one of them is poisoned in part. */
		stop = index + granule;
		filemap_invalidate_lock(mapping);
		for (i = index; i < stop && !err; i++)
			err = gmem_store_poison(gmem, i);
		/* The last one tried is as it was. */
		for (i -= 1; err && i > index; i--)
			xa_erase(&gmem->poison, i - 1);
		filemap_invalidate_unlock(mapping);
		if (!err)
			index = stop;
		cond_resched();
	}
	if (index == first)
		return err;
	gmem_count(gmem, GMEM_STAT_POISONED, (u64)(index - first) << PAGE_SHIFT);
	if (!(flags & GMEMFD_RANGE_DONTWAKE))
		gmem_trap_wake(gmem, first, index - 1);
	return index - first;
}

static long gmem_resolve_copy(struct gmem *gmem, pgoff_t first, pgoff_t last,
			      const struct gmemfd_range *range)
{
	struct gmem_source source = {};
	struct iov_iter iter;
	pgoff_t index = first;
	long done = 0;
	int err;

	if (range->src + range->len < range->src)
		return -EINVAL;
	/* An iterator takes no more than MAX_RW_COUNT at a time. */
	while (index <= last) {
		u64 at = (u64)(index - first) << PAGE_SHIFT;
		size_t len = min_t(u64, range->len - at, SZ_1G);

		err = import_ubuf(ITER_SOURCE, u64_to_user_ptr(range->src + at),
				  len, &iter);
		if (err)
			return index > first ? index - first : err;
		source.iter = &iter;
		done = gmem_provide_all(gmem, index,
					index + (len >> PAGE_SHIFT) - 1,
					&source, range->flags,
					GMEM_STAT_COPIED);
		if (done > 0)
			index += done;
		if (done < 0 || done << PAGE_SHIFT != len)
			break;
	}
	return index > first ? index - first : done;
}

static long gmem_resolve_fill(struct gmem *gmem, pgoff_t first, pgoff_t last,
			      const struct gmemfd_range *range)
{
	struct gmem_source source = {};

	if (range->src > MAX_LFS_FILESIZE - range->len)
		return -EINVAL;

	CLASS(fd, f)(range->src_fd);
	if (fd_empty(f) || !(fd_file(f)->f_mode & FMODE_READ))
		return -EBADF;
	/* Of these alone a position and whole pages can be had. */
	if (!S_ISREG(file_inode(fd_file(f))->i_mode) &&
	    !S_ISBLK(file_inode(fd_file(f))->i_mode))
		return -EBADF;
	source.file = fd_file(f);
	source.pos = range->src;
	return gmem_provide_all(gmem, first, last, &source, range->flags,
				GMEM_STAT_FILLED);
}

static int gmem_resolve_check(struct gmem *gmem, u32 op,
			      const struct gmemfd_range *range)
{
	u64 flags = 0;

	switch (op) {
	case GMEMFD_OP_COPY:
	case GMEMFD_OP_ZERO:
	case GMEMFD_OP_FILL:
		flags = GMEMFD_RANGE_ALL;
		break;
	case GMEMFD_OP_CONTINUE:
	case GMEMFD_OP_POISON:
		flags = GMEMFD_RANGE_DONTWAKE;
		break;
	case GMEMFD_OP_WAKE:
		break;
	default:
		return -EINVAL;
	}
	if (range->flags & ~flags || range->pad ||
	    (range->src_fd && op != GMEMFD_OP_FILL) ||
	    (range->src && op != GMEMFD_OP_FILL && op != GMEMFD_OP_COPY))
		return -EINVAL;
	return gmem_range_check(gmem, range->offset, range->len);
}

/**
 * gmem_resolve - carry out an operation on a range
 * @gmem: the file, open for writing
 * @op: GMEMFD_OP_*
 * @range: from user space; its size and op have been dealt with
 *
 * Sets @range->done.
 *
 * Return: 0, or -errno as told at struct gmemfd_range.
 */
long gmem_resolve(struct gmem *gmem, u32 op, struct gmemfd_range *range)
{
	struct gmem_source zeros = {};
	pgoff_t first, last;
	long done;

	done = gmem_resolve_check(gmem, op, range);
	if (done)
		goto out;
	first = range->offset >> PAGE_SHIFT;
	last = (range->offset + range->len - 1) >> PAGE_SHIFT;

	switch (op) {
	case GMEMFD_OP_COPY:
		done = gmem_resolve_copy(gmem, first, last, range);
		break;
	case GMEMFD_OP_CONTINUE:
		done = gmem_resolve_continue(gmem, first, last, range->flags);
		break;
	case GMEMFD_OP_ZERO:
		done = gmem_provide_all(gmem, first, last, &zeros,
					range->flags, GMEM_STAT_ZEROED);
		break;
	case GMEMFD_OP_POISON:
		done = gmem_resolve_poison(gmem, first, last, range->flags);
		break;
	case GMEMFD_OP_WAKE:
		gmem_trap_wake(gmem, first, last);
		done = last - first + 1;
		break;
	case GMEMFD_OP_FILL:
		done = gmem_resolve_fill(gmem, first, last, range);
		break;
	}
out:
	range->done = done < 0 ? done : (s64)done << PAGE_SHIFT;
	trace_gmem_resolve(gmem, op, range->offset, range->len, range->done);
	if (done < 0)
		return done;
	return range->done == range->len ? 0 : -EAGAIN;
}

/**
 * gmem_resolve_many - carry out an array of operations
 * @gmem: the file, open for writing
 * @args: from user space; its size has been dealt with
 *
 * Sets @args->done and @args->failed.
 *
 * Return: 0 or -errno, as told at struct gmemfd_resolve.
 */
long gmem_resolve_many(struct gmem *gmem, struct gmemfd_resolve *args)
{
	struct gmemfd_range __user *entry = u64_to_user_ptr(args->ops);
	struct gmemfd_range range;
	u32 stride = 0;
	u32 nr = args->nr;
	u32 size;
	long err;

	args->done = 0;
	args->failed = 0;
	if (args->flags & ~GMEMFD_RESOLVE_ALL || !nr || nr > GMEM_MAX_OPS)
		return -EINVAL;

	while (args->done < nr) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (get_user(size, &entry->size))
			return -EFAULT;
		if (size < sizeof(range) || (stride && size != stride))
			return -EINVAL;
		if (size > PAGE_SIZE)
			return -E2BIG;
		stride = size;
		err = copy_struct_from_user(&range, sizeof(range), entry, size);
		if (err)
			return err;
		err = gmem_resolve(gmem, range.op, &range);
		args->done++;
		args->failed += !!err;
		if (put_user(range.done, &entry->done))
			return -EFAULT;
		if (err && !(args->flags & GMEMFD_RESOLVE_KEEP_GOING))
			break;
		entry = (void __user *)entry + stride;
		cond_resched();
	}
	return 0;
}
