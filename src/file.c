// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns what a gmem file does as a file: read, write, splice, fallocate, lseek.
 *
 * Reading is an access like any other: what traps, traps. Writing provides: whole
 * absent granules at once, and bytes only where content is already.
 */
#include <linux/falloc.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/splice.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "gmemfd.h"
#include "trace.h"

/*
 * Copies out of one page, up to its end. Byte by byte also where the
 * destination is a pipe: a pipe of older kernels would keep the page itself, and see
 * what is written to it later. Without page faults, for the destination may trap, and
 * whoever resolves that may have to split the folio.
 */
static size_t gmem_copy_out(struct folio *folio, size_t off, size_t len,
			    struct iov_iter *to)
{
	char *from = kmap_local_folio(folio, off);
	size_t got;

	pagefault_disable();
	got = copy_to_iter(from, min(len, PAGE_SIZE - offset_in_page(off)), to);
	pagefault_enable();
	kunmap_local(from);
	return got;
}

/* Whether a destination that took nothing may take something at the next try. */
static bool gmem_read_fault_in(struct iov_iter *to, size_t len)
{
	return user_backed_iter(to) && fault_in_iov_iter_writeable(to, len) < len;
}

/*
 * Waits for what a read meets, where it may: io_uring asks without, and comes again
 * from a thread that may. Return: 0 to look again, 1 for a hole, -errno.
 */
static int gmem_read_wait(struct gmem *gmem, pgoff_t index, bool nowait)
{
	struct gmem_touch touch = {
		.gmem = gmem,
		.index = index,
		.flags = GMEMFD_FAULT_KERNEL,
	};
	/*
	 * A kernel thread (a loop device's) cannot be killed, and has no process
	 * here whose end it could go by.
	 */
	bool able = !nowait && !(current->flags & PF_KTHREAD);
	struct gmem_waiter waiter;
	int err;

	switch (gmem_watch_access(&touch, able ? &waiter : NULL)) {
	case GMEM_ACCESS_AGAIN:
	case GMEM_ACCESS_MAPPED:
		return 0;
	case GMEM_ACCESS_HOLE:
		return 1;
	case GMEM_ACCESS_POISON:
	case GMEM_ACCESS_NO_HANDLER:
		return -EIO;
	case GMEM_ACCESS_TRAP:
	/* Not without a vCPU. */
	case GMEM_ACCESS_EXIT:
		break;
	}
	if (!able)
		return nowait ? -EAGAIN : -EIO;
	err = gmem_trap_sleep(&waiter, TASK_INTERRUPTIBLE, NULL, NULL);
	gmem_trap_leave(&waiter);
	return err ? -ERESTARTSYS : 0;
}

static ssize_t gmem_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	struct address_space *mapping = inode->i_mapping;
	struct gmem *gmem = gmem_of(inode);
	loff_t size = i_size_read(inode);
	ssize_t done = 0;
	int err = 0;

	while (iov_iter_count(to) && iocb->ki_pos < size && !err) {
		pgoff_t index = iocb->ki_pos >> PAGE_SHIFT;
		size_t off = offset_in_page(iocb->ki_pos);
		size_t want = min3((loff_t)iov_iter_count(to),
				   size - iocb->ki_pos,
				   (loff_t)(PAGE_SIZE - off));
		struct folio *folio = filemap_get_folio(mapping, index);
		bool full = false;
		size_t got = 0;

		if (fatal_signal_pending(current)) {
			err = -EINTR;
		} else if (!IS_ERR(folio) && folio_test_uptodate(folio)) {
			off = iocb->ki_pos - folio_pos(folio);
			/* Migrated meanwhile: the next look finds the new one. */
			if (off < folio_size(folio) && folio->mapping == mapping) {
				if (PageHWPoison(folio_page(folio, off >> PAGE_SHIFT)))
					err = -EIO;
				else
					got = gmem_copy_out(folio, off, want, to);
				full = !err && !got;
			}
		} else {
			/* Who resolves this may have to split the folio. */
			if (!IS_ERR(folio))
				folio_put(folio);
			folio = ERR_PTR(-ENOENT);
			err = gmem_read_wait(gmem, index,
					     iocb->ki_flags & IOCB_NOWAIT);
			if (err > 0) {
				got = iov_iter_zero(want, to);
				err = got < want ? -EFAULT : 0;
			}
		}
		if (!IS_ERR(folio))
			folio_put(folio);
		if (full && !gmem_read_fault_in(to, want))
			err = -EFAULT;
		iocb->ki_pos += got;
		done += got;
		cond_resched();
	}
	return done ?: err;
}

/*
 * Writes over a page that has content, open or closed. Return: bytes, -ENOENT when it has none,
 * or another -errno.
 */
static ssize_t gmem_overwrite(struct gmem *gmem, loff_t pos, size_t len,
			      struct iov_iter *from)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	struct folio *folio;
	ssize_t got;
	size_t off;

	len = min(len, PAGE_SIZE - offset_in_page(pos));
	for (;;) {
		if (fatal_signal_pending(current))
			return -EINTR;
		/* Outside the locks: reading the source may trap. */
		if (fault_in_iov_iter_readable(from, len) == len)
			return -EFAULT;
		/* So that nobody is about to put a copy in the folio's place. */
		filemap_invalidate_lock_shared(mapping);
		folio = gmem_store_lock(gmem, pos >> PAGE_SHIFT, true);
		if (!folio) {
			got = -ENOENT;
		} else {
			got = -EIO;
			if (!gmem_store_broken(folio)) {
				off = pos - folio_pos(folio);
				got = copy_folio_from_iter_atomic(folio, off,
								  len, from);
				flush_dcache_folio(folio);
			}
			folio_unlock(folio);
			folio_put(folio);
		}
		filemap_invalidate_unlock_shared(mapping);
		if (got)
			return got;
		cond_resched();
	}
}

static bool gmem_has_content(struct gmem *gmem, pgoff_t index)
{
	enum gmem_state state = gmem_store_state(gmem, index);

	return state == GMEM_PRESENT || state == GMEM_CLOSED;
}

/* Whether a write would leave a part of an absent granule without content. */
static bool gmem_write_partial(struct gmem *gmem, loff_t pos, size_t len)
{
	loff_t mask = (gmem_granule_pages(gmem) << PAGE_SHIFT) - 1;
	loff_t end = pos + len;
	bool partial;

	filemap_invalidate_lock_shared(gmem->inode.i_mapping);
	partial = (pos & mask && !gmem_has_content(gmem, pos >> PAGE_SHIFT)) ||
		  (end & mask && !gmem_has_content(gmem, end >> PAGE_SHIFT));
	filemap_invalidate_unlock_shared(gmem->inode.i_mapping);
	return partial;
}

static ssize_t gmem_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	struct gmem *gmem = gmem_of(inode);
	u64 granule = (u64)gmem_granule_pages(gmem) << PAGE_SHIFT;
	struct gmem_source source = { .iter = from };
	ssize_t done = 0, ret;
	loff_t size;

	ret = generic_write_checks(iocb, from);
	if (ret <= 0)
		return ret;
	size = i_size_read(inode);
	if (iocb->ki_pos >= size)
		return -ENOSPC;
	iov_iter_truncate(from, size - iocb->ki_pos);
	if (gmem_write_partial(gmem, iocb->ki_pos, iov_iter_count(from)))
		return -EINVAL;

	while (iov_iter_count(from)) {
		loff_t pos = iocb->ki_pos;
		size_t len = iov_iter_count(from);
		pgoff_t index = pos >> PAGE_SHIFT;
		pgoff_t last = index + (round_down(len, granule) >> PAGE_SHIFT) - 1;

		ret = -EEXIST;
		if (IS_ALIGNED(pos, granule) && len >= granule &&
		    gmem_store_state(gmem, index) != GMEM_PRESENT)
			ret = gmem_provide(gmem, index, last, &source,
					   GMEM_PUBLISH_BY_WATCH);
		if (ret > 0) {
			gmem_trap_wake(gmem, index, index + ret - 1);
			ret <<= PAGE_SHIFT;
			gmem_count(gmem, GMEM_STAT_WRITTEN, ret);
		} else if (ret == -EEXIST) {
			ret = gmem_overwrite(gmem, pos, len, from);
			/*
			 * Punched in between: provide it again, if it is whole.
			 * But a huge granule that lost a page has content, and
			 * a page that has none.
			 */
			if (ret == -ENOENT && gmem->granule_order &&
			    gmem_store_poisoned(gmem, index, index))
				ret = -EIO;
			else if (ret == -ENOENT &&
				 gmem_write_partial(gmem, pos, min(len, granule)))
				ret = -EINVAL;
			else if (ret == -ENOENT)
				continue;
		}
		if (ret < 0)
			break;
		iocb->ki_pos += ret;
		done += ret;
		cond_resched();
	}
	if (done)
		inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
	return done ?: ret;
}

/* Zeroes [pos, end), less than a granule, where it has content. */
static void gmem_zero_edge(struct gmem *gmem, loff_t pos, loff_t end)
{
	filemap_invalidate_lock_shared(gmem->inode.i_mapping);
	while (pos < end) {
		size_t len = min_t(loff_t, end - pos,
				   PAGE_SIZE - offset_in_page(pos));
		struct folio *folio = gmem_store_lock(gmem, pos >> PAGE_SHIFT,
						      true);

		if (folio) {
			if (!gmem_store_broken(folio))
				folio_zero_range(folio, pos - folio_pos(folio),
						 len);
			folio_unlock(folio);
			folio_put(folio);
		}
		pos += len;
	}
	filemap_invalidate_unlock_shared(gmem->inode.i_mapping);
}

/* Whether somebody is to provide a page. */
static bool gmem_is_missed(struct gmem *gmem, pgoff_t index)
{
	struct gmem_watch *watch = gmem_watch_find(gmem, index);

	return watch && watch->modes & GMEMFD_MODE_MISSING &&
	       gmem_store_state(gmem, index) == GMEM_ABSENT;
}

/*
 * Whether a hole would cover a part of a granule that is yet to be provided. There
 * is nothing to zero in it, and nothing that would keep the bytes zero when it is.
 */
static bool gmem_punch_partial(struct gmem *gmem, loff_t pos, loff_t end)
{
	loff_t mask = (gmem_granule_pages(gmem) << PAGE_SHIFT) - 1;
	bool partial;

	filemap_invalidate_lock_shared(gmem->inode.i_mapping);
	partial = (pos & mask && gmem_is_missed(gmem, pos >> PAGE_SHIFT)) ||
		  (end & mask && gmem_is_missed(gmem, end >> PAGE_SHIFT));
	filemap_invalidate_unlock_shared(gmem->inode.i_mapping);
	return partial;
}

/* Takes whole granules away and zeroes the rest, as for any file. */
static int gmem_punch(struct gmem *gmem, loff_t pos, loff_t end)
{
	struct address_space *mapping = gmem->inode.i_mapping;
	loff_t granule = (loff_t)gmem_granule_pages(gmem) << PAGE_SHIFT;
	loff_t start = round_up(pos, granule);
	loff_t stop = round_down(end, granule);
	unsigned int tries = 0;
	pgoff_t first, last;
	int err;

	if (gmem_punch_partial(gmem, pos, end))
		return -EINVAL;
	if (start >= stop) {
		gmem_zero_edge(gmem, pos, end);
		return 0;
	}
	first = start >> PAGE_SHIFT;
	last = (stop >> PAGE_SHIFT) - 1;

	do {
		if (down_write_killable(&mapping->invalidate_lock))
			return -EINTR;
		err = gmem_store_split(gmem, first);
		if (!err)
			err = gmem_store_split(gmem, last + 1);
		/* Before the pages go, so that nobody traps on one unannounced. */
		if (!err)
			err = gmem_watch_punch(gmem, first, last);
		if (!err) {
			gmem_store_remove(gmem, first, last);
			/* Who waits for an absent page goes on; no page is closed now. */
			gmem_trap_wake_modes(gmem, first, last, NULL,
					     GMEMFD_MODE_MINOR);
			trace_gmem_punch(gmem, first, last);
		}
		filemap_invalidate_unlock(mapping);
	} while (gmem_store_busy(err, &tries));
	if (err)
		return err;
	gmem_zero_edge(gmem, pos, start);
	gmem_zero_edge(gmem, stop, end);
	return 0;
}

/* Gives absent pages zeros, closed ones where a watch is to open them. */
static int gmem_allocate(struct gmem *gmem, loff_t pos, loff_t end)
{
	loff_t granule = (loff_t)gmem_granule_pages(gmem) << PAGE_SHIFT;
	pgoff_t index = round_down(pos, granule) >> PAGE_SHIFT;
	pgoff_t last = (round_up(end, granule) >> PAGE_SHIFT) - 1;
	struct gmem_source zeros = {};
	pgoff_t next;
	long done;

	while (index <= last) {
		done = gmem_provide(gmem, index, last, &zeros,
				    GMEM_PUBLISH_ALLOCATE);
		if (done == -EEXIST) {
			next = gmem_store_hole(gmem, index);
			if (fatal_signal_pending(current))
				return -EINTR;
			index = round_down(next, gmem_granule_pages(gmem));
			continue;
		}
		if (done < 0)
			return done;
		gmem_count(gmem, GMEM_STAT_WRITTEN, (u64)done << PAGE_SHIFT);
		gmem_trap_wake(gmem, index, index + done - 1);
		index += done;
		cond_resched();
	}
	return 0;
}

static long gmem_fallocate(struct file *file, int mode, loff_t offset,
			   loff_t len)
{
	struct inode *inode = file_inode(file);
	struct gmem *gmem = gmem_of(inode);
	loff_t size = i_size_read(inode);
	loff_t end = offset + len;
	int err;

	switch (mode) {
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
		end = min(end, size);
		err = offset < end ? gmem_punch(gmem, offset, end) : 0;
		break;
	case 0:
	case FALLOC_FL_KEEP_SIZE:
		err = end > size ? -ENOSPC : gmem_allocate(gmem, offset, end);
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (!err)
		inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
	return err;
}

static loff_t gmem_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);
	struct gmem *gmem = gmem_of(inode);
	loff_t size = i_size_read(inode);
	pgoff_t index = offset >> PAGE_SHIFT;
	loff_t found;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return generic_file_llseek_size(file, offset, whence, size, size);
	if (offset < 0 || offset >= size)
		return -ENXIO;
	if (whence == SEEK_HOLE) {
		index = gmem_store_hole(gmem, index);
	} else {
		if (down_read_killable(&inode->i_mapping->invalidate_lock))
			return -EINTR;
		index = gmem_store_data(gmem, index);
		up_read(&inode->i_mapping->invalidate_lock);
	}
	if (fatal_signal_pending(current))
		return -EINTR;
	if (index >= size >> PAGE_SHIFT) {
		if (whence == SEEK_DATA)
			return -ENXIO;
		found = size;
	} else {
		found = max(offset, (loff_t)index << PAGE_SHIFT);
	}
	return vfs_setpos(file, found, size);
}

#ifdef CONFIG_PROC_FS
static void gmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct gmem *gmem = gmem_of(file_inode(file));
	struct gmemfd_stats stats = {};
	unsigned int i;

	gmem_stats(gmem, &stats);
	seq_printf(m, "gmemfd-granule:\t%lu\n",
		   gmem_granule_pages(gmem) << PAGE_SHIFT);
	seq_printf(m, "gmemfd-bytes:\t%llu\n", stats.bytes);
	seq_printf(m, "gmemfd-allocated:\t%llu\n", stats.allocated);
	seq_printf(m, "gmemfd-poisoned:\t%llu\n", stats.poisoned);
	seq_printf(m, "gmemfd-punched:\t%llu\n", stats.punched);
	seq_printf(m, "gmemfd-waiters:\t%llu\n", stats.waiters);
	seq_printf(m, "gmemfd-watches:\t%llu\n", stats.watches);
	seq_printf(m, "gmemfd-orphans:\t%llu\n", stats.orphans);
	seq_printf(m, "gmemfd-bindings:\t%llu\n", stats.bindings);
	seq_printf(m, "gmemfd-faults-zero:\t%llu\n", stats.faults_zero);
	seq_printf(m, "gmemfd-faults-missing:\t%llu\n", stats.faults_missing);
	seq_printf(m, "gmemfd-faults-minor:\t%llu\n", stats.faults_minor);
	seq_printf(m, "gmemfd-faults-sigbus:\t%llu\n", stats.faults_sigbus);
	seq_printf(m, "gmemfd-events:\t%llu\n", stats.events);
	seq_printf(m, "gmemfd-copied:\t%llu\n", stats.copied);
	seq_printf(m, "gmemfd-zeroed:\t%llu\n", stats.zeroed);
	seq_printf(m, "gmemfd-filled:\t%llu\n", stats.filled);
	seq_printf(m, "gmemfd-written:\t%llu\n", stats.written);
	seq_printf(m, "gmemfd-continued:\t%llu\n", stats.continued);
	seq_printf(m, "gmemfd-huge:\t%llu\n", stats.huge);
	seq_printf(m, "gmemfd-wakes:\t%llu\n", stats.wakes);
	seq_printf(m, "gmemfd-wait-ns:\t%llu\n", stats.wait_ns);
	seq_puts(m, "gmemfd-wait-log2:\t");
	for (i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		seq_printf(m, "%llu ", stats.wait_log2[i]);
	seq_putc(m, '\n');
}
#endif

/* Opened again, by its path in /proc. */
static int gmem_open(struct inode *inode, struct file *file)
{
	/* read() can be told not to wait. */
	file->f_mode |= FMODE_NOWAIT;
	return 0;
}

const struct file_operations gmem_fops = {
	.owner = THIS_MODULE,
	.open = gmem_open,
	.llseek = gmem_llseek,
	.read_iter = gmem_read_iter,
	.write_iter = gmem_write_iter,
	.splice_read = copy_splice_read,
	.splice_write = iter_file_splice_write,
	.mmap = gmem_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.fallocate = gmem_fallocate,
	.fsync = noop_fsync,
	.unlocked_ioctl = gmem_file_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = gmem_show_fdinfo,
#endif
};
