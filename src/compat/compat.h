/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Owns every difference between kernels: the module is written for the newest one, and this file
 * gives older ones its names and signatures. It stands in front of every object (Kbuild). Each
 * block belongs to the probe of the same name in probes/, and goes when that probe goes.
 */
#ifndef GMEMFD_COMPAT_H
#define GMEMFD_COMPAT_H

#ifndef COMPAT_PROBE_NATIVE

#include <linux/version.h>

#if KERNEL_VERSION(6, 1, 0) > LINUX_VERSION_CODE
#error "gmemfd needs Linux 6.1 or newer"
#endif

#ifndef CONFIG_64BIT
#error "gmemfd needs a 64-bit kernel"
#endif

#include "compat-probes.h"

#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#ifndef COMPAT_HAVE_FAULT_FLAG_VMA_LOCK
/* No fault ever comes under a per-VMA lock, so the flag is one that is never set. */
#define FAULT_FLAG_VMA_LOCK 0
#endif

#ifndef COMPAT_HAVE_FOLL_INTERRUPTIBLE
/* Nobody can ask get_user_pages() for it, so the flag is one that nobody gives, nor does KVM. */
#define FOLL_INTERRUPTIBLE 0
#endif

#ifndef COMPAT_HAVE_RELEASE_FAULT_LOCK
/*
 * Without the helper there are two cases: kernels without per-VMA locks, and kernels (6.4, 6.5)
 * that take them for anonymous memory alone and never call a file's fault handler under one. Both
 * times the lock is the mmap lock.
 */
static inline void release_fault_lock(struct vm_fault *vmf)
{
	mmap_read_unlock(vmf->vma->vm_mm);
}
#endif

#ifndef COMPAT_HAVE_PMD_ORDER
/* What the name stands for. */
#define PMD_ORDER (PMD_SHIFT - PAGE_SHIFT)
#endif

#ifndef COMPAT_HAVE_FGF_T
/*
 * NULL says 'nothing there', or, when the folio was to be created, 'no memory'; the newer form
 * says the same with an errno. An ERR_PTR (6.4, 6.5) goes through untouched, for it is not NULL.
 */
#define fgf_t int

static inline struct folio *compat_filemap_get_folio(struct address_space *mapping, pgoff_t index,
						     fgf_t flags, gfp_t gfp)
{
	struct folio *folio = __filemap_get_folio(mapping, index, flags, gfp);

	if (folio)
		return folio;
	return ERR_PTR(flags & FGP_CREAT ? -ENOMEM : -ENOENT);
}

#define __filemap_get_folio(mapping, index, flags, gfp)	\
	compat_filemap_get_folio(mapping, index, flags, gfp)
#define filemap_get_folio(mapping, index)		\
	compat_filemap_get_folio(mapping, index, 0, 0)
#define filemap_lock_folio(mapping, index)		\
	compat_filemap_get_folio(mapping, index, FGP_LOCK, 0)
#endif

/*
 * The handler of poisoned memory. Written once, for folios; GMEMFD_DEFINE_ERROR_REMOVE() follows
 * its definition and GMEMFD_AOP_ERROR_REMOVE() stands in the table.
 */
#ifdef COMPAT_HAVE_ERROR_REMOVE_FOLIO
#define GMEMFD_DEFINE_ERROR_REMOVE(fn)
#define GMEMFD_AOP_ERROR_REMOVE(fn) .error_remove_folio = fn
#else
/* The page is any page of the folio that memory-failure isolated; the handler wants all of it. */
#define GMEMFD_DEFINE_ERROR_REMOVE(fn)						\
static int fn##_page(struct address_space *mapping, struct page *page)		\
{										\
	return fn(mapping, page_folio(page));					\
}

#define GMEMFD_AOP_ERROR_REMOVE(fn) .error_remove_page = fn##_page
#endif

#ifndef COMPAT_HAVE_GENERIC_ERROR_REMOVE_FOLIO
/* It drops the whole folio that the page belongs to. */
static inline int generic_error_remove_folio(struct address_space *mapping, struct folio *folio)
{
	return generic_error_remove_page(mapping, folio_page(folio, 0));
}
#endif

#ifndef COMPAT_HAVE_MNT_IDMAP
/*
 * A mount's map was the user namespace it was taken from. Our files live on a mount nobody can
 * map, so the value is only handed on, and the two types differ in nothing but the name.
 */
#define mnt_idmap user_namespace
#define nop_mnt_idmap init_user_ns
#endif

#ifndef COMPAT_HAVE_GENERIC_FILLATTR_MASK
/*
 * The mask only saves work on file systems that keep change cookies; all basic attributes are
 * filled.
 */
static inline void compat_generic_fillattr(struct mnt_idmap *idmap, u32 request_mask,
					   struct inode *inode, struct kstat *stat)
{
	generic_fillattr(idmap, inode, stat);
}

#define generic_fillattr(idmap, request_mask, inode, stat)	\
	compat_generic_fillattr(idmap, request_mask, inode, stat)
#endif

#ifndef COMPAT_HAVE_INODE_SET_MTIME_TO_TS
/* Plain members there, written under the same lock of the inode. */
static inline struct timespec64 inode_get_mtime(const struct inode *inode)
{
	return inode->i_mtime;
}

static inline struct timespec64 inode_set_mtime_to_ts(struct inode *inode, struct timespec64 ts)
{
	inode->i_mtime = ts;
	return ts;
}

static inline struct timespec64 inode_get_atime(const struct inode *inode)
{
	return inode->i_atime;
}

static inline struct timespec64 inode_set_atime_to_ts(struct inode *inode, struct timespec64 ts)
{
	inode->i_atime = ts;
	return ts;
}
#endif

#ifndef COMPAT_HAVE_INODE_JUST_DROP
/* The same function under the name it had before. */
#define inode_just_drop generic_delete_inode
#endif

#ifndef COMPAT_HAVE_COPY_SPLICE_READ
/* A read_iter that copies has its data copied into pages of the pipe there too. */
#define copy_splice_read generic_file_splice_read
#endif

#ifndef COMPAT_HAVE_IMPORT_UBUF
/* iov_iter_ubuf() is there; the checks around it are what importing means. */
static inline int import_ubuf(int rw, void __user *buf, size_t len, struct iov_iter *iter)
{
	len = min_t(size_t, len, MAX_RW_COUNT);
	if (!access_ok(buf, len))
		return -EFAULT;
	iov_iter_ubuf(iter, rw, buf, len);
	return 0;
}
#endif

#ifndef COMPAT_HAVE_BVEC_SET_FOLIO
/* The pages of a folio lie one after the other, and a bio_vec may reach beyond its first page. */
static inline void bvec_set_folio(struct bio_vec *bvec, struct folio *folio, size_t len,
				  size_t offset)
{
	bvec->bv_page = folio_page(folio, offset / PAGE_SIZE);
	bvec->bv_len = len;
	bvec->bv_offset = offset_in_page(offset);
}
#endif

#ifndef COMPAT_HAVE_COPY_FOLIO_FROM_ITER
/* copy_page_from_iter() walks on into the following pages of a compound page by itself. */
static inline size_t copy_folio_from_iter(struct folio *folio, size_t offset, size_t bytes,
					  struct iov_iter *iter)
{
	return copy_page_from_iter(folio_page(folio, 0), offset, bytes, iter);
}
#endif

#ifndef COMPAT_HAVE_COPY_FOLIO_FROM_ITER_ATOMIC
/*
 * The form for pages maps one page at a time, so the folio is walked here; a short copy ends the
 * walk.
 */
static inline size_t copy_folio_from_iter_atomic(struct folio *folio, size_t offset, size_t bytes,
						 struct iov_iter *iter)
{
	size_t done = 0;

	while (done < bytes) {
		size_t at = offset + done;
		size_t want = min_t(size_t, bytes - done, PAGE_SIZE - offset_in_page(at));
		size_t got = copy_page_from_iter_atomic(folio_page(folio, at / PAGE_SIZE),
							offset_in_page(at), want, iter);

		done += got;
		if (got < want)
			break;
	}
	return done;
}
#endif

#ifndef COMPAT_HAVE_KZALLOC_OBJ
/* sizeof and the checked arithmetic of kcalloc() and struct_size() are what the type stands for. */
#define compat_second(none, second, ...) (none second)
#define compat_gfp(...) compat_second(, ##__VA_ARGS__, GFP_KERNEL)

#define compat_typed(what, allocation)						\
({										\
	typeof(what) *compat_object = (allocation);				\
	compat_object;								\
})

#define kmalloc_obj(what, ...)							\
	compat_typed(what, kmalloc(sizeof(typeof(what)), compat_gfp(__VA_ARGS__)))
#define kmalloc_objs(what, count, ...)						\
	compat_typed(what, kmalloc_array(count, sizeof(typeof(what)), compat_gfp(__VA_ARGS__)))
#define kzalloc_obj(what, ...)							\
	compat_typed(what, kzalloc(sizeof(typeof(what)), compat_gfp(__VA_ARGS__)))
#define kzalloc_objs(what, count, ...)						\
	compat_typed(what, kcalloc(count, sizeof(typeof(what)), compat_gfp(__VA_ARGS__)))
#define kzalloc_flex(what, member, count, ...)					\
	compat_typed(what, kzalloc(struct_size((typeof(what) *)NULL, member, count), \
				   compat_gfp(__VA_ARGS__)))
#endif

#ifndef COMPAT_HAVE_FD_FILE
/* Two members instead of one word. */
static inline struct file *fd_file(struct fd f)
{
	return f.file;
}

static inline bool fd_empty(struct fd f)
{
	return !f.file;
}
#endif

#ifndef COMPAT_HAVE_VMA_START_WRITE
/* Without locks of their own there are no faults that mmap_lock does not keep out. */
static inline void vma_start_write(struct vm_area_struct *vma)
{
	mmap_assert_write_locked(vma->vm_mm);
}
#endif

#ifdef COMPAT_HAVE_PTE_IS_MARKER
#include <linux/leafops.h>
#else
#include <linux/swap.h>
#include <linux/swapops.h>
/* The same question under the name it had before. */
#define pte_is_marker is_pte_marker
#endif

#ifndef COMPAT_HAVE_UFFDIO_CONTINUE_MODE_WP
/* The same bit as in the newest header; what is asked of it is refused anyway. */
#define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1)
#endif

#ifndef COMPAT_HAVE_UFFDIO_POISON
#include <linux/ioctl.h>
#include <linux/userfaultfd.h>

/* The ABI is the same on all kernels: what a header does not know yet is told here. */
#define UFFD_FEATURE_POISON BIT(14)
#define _UFFDIO_POISON (0x08)
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)

struct uffdio_poison {
	struct uffdio_range range;
#define UFFDIO_POISON_MODE_DONTWAKE ((__u64)1 << 0)
	__u64 mode;
	__s64 updated;
};
#endif

#endif /* !COMPAT_PROBE_NATIVE */
#endif /* GMEMFD_COMPAT_H */
