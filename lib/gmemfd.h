/* SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT) */
/*
 * libgmemfd: the interface of the gmemfd kernel module as C functions. This header is all of the library's interface;
 * types, flags and events are those of <linux/gmemfd.h>, which it includes. libgmemfd(3) is the overview.
 */
#ifndef GMEMFD_H
#define GMEMFD_H

#include <stddef.h>
#include <stdint.h>

#include <linux/gmemfd.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/**
 * DOC: what is common to all functions
 *
 * Every object is a plain descriptor, made close-on-exec: the device, a gmem file, a context. The caller polls it,
 * sends it over a socket, and closes it with close(2). The library keeps nothing beside, so every function may be
 * called from any thread, in a forked child, and on descriptors that somebody else has made.
 *
 * Functions return 0, or a descriptor or a count where they say so, and a negative errno when they fail. What errno
 * means for all commands is told in <linux/gmemfd.h>; here is what each function adds. What the variable errno holds
 * afterwards is not told. A call that a signal interrupts returns -EINTR and is not repeated. Nothing is printed, and
 * no signal is handled.
 *
 * Unless it is said otherwise, offsets and lengths are bytes of the gmem file and multiples of its granule: the page
 * size, or GMEMFD_HUGE_SIZE for a file made with GMEMFD_CREATE_HUGE. A range that is empty, or that goes past the end,
 * is -EINVAL.
 */

/**
 * DOC: structs that may grow
 *
 * An options struct begins with its own size: the caller sets @sz to the sizeof() it was compiled with, and all it does
 * not use to zero. NULL stands for all zero where a function says so. @sz too small for the first version is -EINVAL; a
 * byte set in what this library does not know is -E2BIG. In C::
 *
 *	struct gmemfd_watch_opts opts = { .sz = sizeof(opts), .cookie = 7 };
 *
 * Structs of the ABI that are filled for the caller are passed with their sizeof() and may grow alike: what the module
 * does not tell is zero.
 */

/**
 * gmemfd_lib_version - the version of this library
 *
 * Return: a string that stays, such as "1.2.3".
 */
const char *gmemfd_lib_version(void);

/* --- The device --------------------------------------------------------------------------------------------------- */

#define GMEMFD_DEVICE "/dev/gmemfd"

/**
 * gmemfd_open - open the device
 * @path: the device node; NULL is GMEMFD_DEVICE
 *
 * Makes sure that it is a gmemfd device, and of an ABI that this library knows.
 *
 * Return: a descriptor. -ENOENT: the module is not loaded. -EACCES: no right to open it. -ENOTTY: not a gmemfd device.
 * -EPROTONOSUPPORT: the module's ABI is not the library's; one of both is too old.
 */
int gmemfd_open(const char *path);

/**
 * gmemfd_info - what the module can do
 * @dev: the device
 * @info: filled
 * @size: sizeof(*info)
 *
 * Return: 0 or -errno.
 */
int gmemfd_info(int dev, struct gmemfd_info *info, size_t size);

/* --- gmem files --------------------------------------------------------------------------------------------------- */

/**
 * struct gmemfd_create_opts - options of gmemfd_create()
 * @sz: sizeof(struct gmemfd_create_opts)
 * @flags: GMEMFD_CREATE_*
 * @policy: GMEMFD_POLICY_* for watches that do not name their own; DEFAULT is POISON
 * @node: with GMEMFD_CREATE_NODE: the NUMA node to take memory from; else 0
 */
struct gmemfd_create_opts {
	size_t sz;
	uint64_t flags;
	uint32_t policy;
	uint32_t node;
};

/**
 * gmemfd_create - make a gmem file
 * @dev: the device
 * @bytes: its size, which never changes
 * @opts: NULL: a file of small pages, policy POISON
 *
 * Memory is taken when pages are provided, and charged to the memory cgroup of the caller.
 *
 * Return: a descriptor, open for reading and writing, or -errno.
 */
int gmemfd_create(int dev, uint64_t bytes, const struct gmemfd_create_opts *opts);

/* Writes stay with the mapping: a clone of the file. Else the mapping is shared. */
#define GMEMFD_MAP_PRIVATE	(1U << 0)
/* The mapping is not writable; a descriptor open for reading is enough. */
#define GMEMFD_MAP_READ_ONLY	(1U << 1)
/* At the address given; -EEXIST where something is mapped there already. */
#define GMEMFD_MAP_AT		(1U << 2)
/* With GMEMFD_MAP_AT: over what is mapped there, such as address space that was reserved. */
#define GMEMFD_MAP_REPLACE	(1U << 3)

/**
 * gmemfd_map - map a range of a gmem file
 * @fd: the file
 * @offset: first byte, a multiple of the page size
 * @len: bytes
 * @flags: GMEMFD_MAP_*
 * @address: where it is; with GMEMFD_MAP_AT, where it shall be
 *
 * No page is touched. The mapping is placed so that huge pages can be used; it is undone by munmap(2). Memory that a
 * private mapping may come to need is not reserved.
 *
 * Return: 0 or -errno; @address is changed on success only.
 */
int gmemfd_map(int fd, uint64_t offset, size_t len, uint32_t flags, void **address);

/**
 * gmemfd_punch - give pages back
 * @fd: the file
 * @offset: first byte
 * @len: bytes
 *
 * The pages are absent afterwards: their memory is free, poison is gone, and a watch traps on them again. As with any
 * hole, what lies past the end is passed over, and edges inside a granule are zeroed. All or nothing.
 *
 * Return: 0 or -errno. -EBUSY: a part of a huge page that a device or direct I/O is using; try again later.
 */
int gmemfd_punch(int fd, uint64_t offset, uint64_t len);

/**
 * gmemfd_stats - the counters of a gmem file
 * @fd: the file
 * @stats: filled
 * @size: sizeof(*stats)
 *
 * Return: 0 or -errno.
 */
int gmemfd_stats(int fd, struct gmemfd_stats *stats, size_t size);

/* --- Contexts and watches ----------------------------------------------------------------------------------------- */

/**
 * gmemfd_context - make a context
 * @dev: the device
 * @flags: 0 or O_NONBLOCK; O_CLOEXEC is understood
 *
 * Return: a descriptor to be polled for POLLIN and read with gmemfd_read_events(), or -errno. When the last duplicate
 * of it is closed, the policy of each of its watches decides.
 */
int gmemfd_context(int dev, int flags);

/**
 * gmemfd_userfaultfd - make a context with the ABI of userfaultfd(2)
 * @dev: the device
 * @flags: O_NONBLOCK and UFFD_USER_MODE_ONLY, as for userfaultfd(2); O_CLOEXEC is understood
 *
 * It serves mappings of gmem files. Everything else is done with the ioctls of <linux/userfaultfd.h>, beginning with
 * UFFDIO_API; no other function here takes this descriptor.
 *
 * Return: a descriptor or -errno.
 */
int gmemfd_userfaultfd(int dev, int flags);

/**
 * struct gmemfd_watch_opts - options of gmemfd_watch()
 * @sz: sizeof(struct gmemfd_watch_opts)
 * @flags: GMEMFD_WATCH_*
 * @modes: GMEMFD_MODE_*; 0 is GMEMFD_MODE_MISSING
 * @cookie: any value; comes back in each event
 * @policy: GMEMFD_POLICY_*; DEFAULT is the file's
 * @reserved: 0
 */
struct gmemfd_watch_opts {
	size_t sz;
	uint64_t flags;
	uint64_t modes;
	uint64_t cookie;
	uint32_t policy;
	uint32_t reserved;
};

/**
 * gmemfd_watch - have a range trap to a context
 * @fd: the file
 * @context: the context
 * @offset: first byte
 * @len: bytes
 * @opts: NULL: absent pages trap, cookie 0, policy of the file
 *
 * Return: 0 or -errno. -EBUSY: a part of the range is watched already.
 */
int gmemfd_watch(int fd, int context, uint64_t offset, uint64_t len, const struct gmemfd_watch_opts *opts);

/**
 * gmemfd_unwatch - end the watches of a range
 * @fd: the file
 * @offset: first byte
 * @len: bytes
 *
 * Of a watch that goes beyond the range, the part inside ends. Closed pages open, and waiters look again. Nothing
 * watched is no error.
 *
 * Return: 0 or -errno.
 */
int gmemfd_unwatch(int fd, uint64_t offset, uint64_t len);

/**
 * gmemfd_attach - take over watches that have lost their context
 * @fd: the file
 * @context: who takes them
 * @offset: first byte
 * @len: bytes
 *
 * Those that lie in the range as a whole. All their unresolved faults are reported to @context, also those that the
 * lost one had read.
 *
 * Return: 0 or -errno. -ENOENT: there is none; nothing was changed.
 */
int gmemfd_attach(int fd, int context, uint64_t offset, uint64_t len);

/**
 * gmemfd_set_policy - change what becomes of watches without a context
 * @fd: the file
 * @offset: first byte
 * @len: bytes
 * @policy: GMEMFD_POLICY_*, not DEFAULT
 *
 * For the watches that lie in the range as a whole. One that has lost its context follows it at once.
 *
 * Return: 0 or -errno. -ENOENT: there is no watch; nothing was changed.
 */
int gmemfd_set_policy(int fd, uint64_t offset, uint64_t len, uint32_t policy);

/**
 * gmemfd_read_events - read what has come
 * @context: the context
 * @events: room for them
 * @nr: how many there is room for
 *
 * Waits for the first unless the context is O_NONBLOCK. An event of a type that the caller does not know is to be
 * skipped.
 *
 * Return: how many, 1 or more, or -errno. -EAGAIN: there is none, and it is O_NONBLOCK. -EPROTO: it is no context.
 */
int gmemfd_read_events(int context, struct gmemfd_event *events, unsigned int nr);

/* --- Providing pages ---------------------------------------------------------------------------------------------- */

/**
 * DOC: operations on a range
 *
 * Who waits for a page is woken as soon as it is there. An operation goes on, page after page, to the end of the
 * range or to a page that it cannot do, and the return value says why it stopped there. @done, which may be NULL, is
 * always set: to the bytes, from @offset on, that were done. -EEXIST on the way of a prefetch says that a granule has
 * content already: go on behind it.
 *
 * @flags are GMEMFD_RANGE_* bits: DONTWAKE for all but gmemfd_wake(), CLOSED for those that provide content.
 */

/**
 * gmemfd_copy - provide absent pages from memory
 * @fd: the file, open for writing as for all of these
 * @offset: first byte
 * @src: the content, at any alignment
 * @len: bytes
 * @flags: GMEMFD_RANGE_*
 * @done: set to the bytes done; may be NULL
 *
 * Return: 0 or -errno. -EEXIST: a page has content already. -EFAULT: @src cannot be read.
 */
int gmemfd_copy(int fd, uint64_t offset, const void *src, uint64_t len, uint64_t flags, uint64_t *done);

/**
 * gmemfd_fill - provide absent pages from a file
 * @fd: the file
 * @offset: first byte
 * @src_fd: a regular file or a block device, open for reading
 * @src_offset: where the content is in it
 * @len: bytes
 * @flags: GMEMFD_RANGE_*
 * @done: set to the bytes done; may be NULL
 *
 * The content goes through the page cache of the source, or around it where @src_fd is O_DIRECT.
 *
 * Return: 0 or -errno. -EEXIST: a page has content already. -ENODATA: the source ended. What reading the source says
 * otherwise, such as -EIO.
 */
int gmemfd_fill(int fd, uint64_t offset, int src_fd, uint64_t src_offset, uint64_t len, uint64_t flags, uint64_t *done);

/**
 * gmemfd_zero - provide absent pages as zeros
 * @fd: the file
 * @offset: first byte
 * @len: bytes
 * @flags: GMEMFD_RANGE_*
 * @done: set to the bytes done; may be NULL
 *
 * Return: 0 or -errno. -EEXIST: a page has content already.
 */
int gmemfd_zero(int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done);

/**
 * gmemfd_continue - open closed pages
 * @fd: the file
 * @offset: first byte
 * @len: bytes
 * @flags: 0 or GMEMFD_RANGE_DONTWAKE
 * @done: set to the bytes done; may be NULL
 *
 * Return: 0 or -errno. -EFAULT: a page is absent. -EEXIST: a page is open already. -EBUSY: a part of a huge page that
 * is in use; try again.
 */
int gmemfd_continue(int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done);

/**
 * gmemfd_poison - have absent pages answer with SIGBUS
 * @fd: the file
 * @offset: first byte
 * @len: bytes
 * @flags: 0 or GMEMFD_RANGE_DONTWAKE
 * @done: set to the bytes done; may be NULL
 *
 * Return: 0 or -errno. -EEXIST: a page has content, or is poisoned already.
 */
int gmemfd_poison(int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done);

/**
 * gmemfd_wake - make those who wait for a range look again
 * @fd: the file
 * @offset: first byte
 * @len: bytes
 *
 * Wanted after GMEMFD_RANGE_DONTWAKE only.
 *
 * Return: 0 or -errno.
 */
int gmemfd_wake(int fd, uint64_t offset, uint64_t len);

/**
 * gmemfd_resolve - carry out many operations in one call
 * @fd: the file
 * @ops: the operations, as made by gmemfd_prep_copy() and its kin; each one's result is left in its @done
 * @nr: how many; at most @max_ops of struct gmemfd_info
 * @flags: GMEMFD_RESOLVE_*
 * @tried: set to how many were carried out or tried; may be NULL
 *
 * In their order. Stops after the first that does not do all of its range, unless @flags say GMEMFD_RESOLVE_KEEP_GOING.
 * A result is told as the kernel tells it: @len, fewer bytes where something stopped it, or a negative errno for none.
 *
 * Return: how many of them did not do all of their range, 0 where all is done; or -errno.
 */
int gmemfd_resolve(int fd, struct gmemfd_range *ops, unsigned int nr, uint64_t flags, unsigned int *tried);

/* What the gmemfd_prep_*() functions have in common. Here, so that @size is the caller's. */
static inline void gmemfd_prep(struct gmemfd_range *op, uint32_t code, uint64_t offset, uint64_t len, uint64_t flags)
{
	op->size = sizeof(*op);
	op->op = code;
	op->flags = flags;
	op->offset = offset;
	op->len = len;
	op->src = 0;
	op->src_fd = 0;
	op->pad = 0;
	op->done = 0;
}

/**
 * gmemfd_prep_copy - make an entry that does what gmemfd_copy() does
 * @op: the entry
 * @offset: first byte
 * @src: the content
 * @len: bytes
 * @flags: GMEMFD_RANGE_*
 */
static inline void gmemfd_prep_copy(struct gmemfd_range *op, uint64_t offset, const void *src, uint64_t len,
				    uint64_t flags)
{
	gmemfd_prep(op, GMEMFD_OP_COPY, offset, len, flags);
	op->src = (uintptr_t)src;
}

/**
 * gmemfd_prep_fill - make an entry that does what gmemfd_fill() does
 * @op: the entry
 * @offset: first byte
 * @src_fd: the source
 * @src_offset: where the content is in it
 * @len: bytes
 * @flags: GMEMFD_RANGE_*
 */
static inline void gmemfd_prep_fill(struct gmemfd_range *op, uint64_t offset, int src_fd, uint64_t src_offset,
				    uint64_t len, uint64_t flags)
{
	gmemfd_prep(op, GMEMFD_OP_FILL, offset, len, flags);
	op->src = src_offset;
	op->src_fd = src_fd;
}

/**
 * gmemfd_prep_zero - make an entry that does what gmemfd_zero() does
 * @op: the entry
 * @offset: first byte
 * @len: bytes
 * @flags: GMEMFD_RANGE_*
 */
static inline void gmemfd_prep_zero(struct gmemfd_range *op, uint64_t offset, uint64_t len, uint64_t flags)
{
	gmemfd_prep(op, GMEMFD_OP_ZERO, offset, len, flags);
}

/**
 * gmemfd_prep_continue - make an entry that does what gmemfd_continue() does
 * @op: the entry
 * @offset: first byte
 * @len: bytes
 * @flags: 0 or GMEMFD_RANGE_DONTWAKE
 */
static inline void gmemfd_prep_continue(struct gmemfd_range *op, uint64_t offset, uint64_t len, uint64_t flags)
{
	gmemfd_prep(op, GMEMFD_OP_CONTINUE, offset, len, flags);
}

/**
 * gmemfd_prep_poison - make an entry that does what gmemfd_poison() does
 * @op: the entry
 * @offset: first byte
 * @len: bytes
 * @flags: 0 or GMEMFD_RANGE_DONTWAKE
 */
static inline void gmemfd_prep_poison(struct gmemfd_range *op, uint64_t offset, uint64_t len, uint64_t flags)
{
	gmemfd_prep(op, GMEMFD_OP_POISON, offset, len, flags);
}

/**
 * gmemfd_prep_wake - make an entry that does what gmemfd_wake() does
 * @op: the entry
 * @offset: first byte
 * @len: bytes
 */
static inline void gmemfd_prep_wake(struct gmemfd_range *op, uint64_t offset, uint64_t len)
{
	gmemfd_prep(op, GMEMFD_OP_WAKE, offset, len, 0);
}

/* --- KVM ---------------------------------------------------------------------------------------------------------- */

/**
 * struct gmemfd_memslot - a memslot that gmemfd_bind() binds
 * @sz: sizeof(struct gmemfd_memslot)
 * @flags: GMEMFD_BIND_*
 * @vm: any value; comes back in each event
 * @slot: the memslot's number, as KVM_SET_USER_MEMORY_REGION has it
 * @slot_flags: with GMEMFD_BIND_SET: KVM_MEM_* flags of the memslot; else 0
 * @gpa: guest physical address
 * @offset: first byte in the gmem file, a multiple of the page size
 * @len: bytes of the memslot
 */
struct gmemfd_memslot {
	size_t sz;
	uint64_t flags;
	uint64_t vm;
	uint32_t slot;
	uint32_t slot_flags;
	uint64_t gpa;
	uint64_t offset;
	uint64_t len;
};

/**
 * gmemfd_bind - tie a memslot of a VM to a range of a gmem file
 * @fd: the file
 * @vm_fd: the VM, of the caller's process
 * @memslot: what is bound
 * @address: set to where it is mapped; may be NULL
 *
 * Events then say where in the guest the fault was, and which vCPU took it. The memslot must be there, and be as told.
 * With GMEMFD_BIND_SET it is made: the range is mapped, and given to the VM; what fails leaves neither.
 *
 * Return: 0 or -errno. -EBADF: @vm_fd is no VM. -EPERM: it is another process's. -ENOENT: there is no such memslot.
 * -EEXIST: it is bound already; with GMEMFD_BIND_SET: it is there already. -EINVAL: it is not as told. -EOPNOTSUPP:
 * there is no KVM that modules may use. With GMEMFD_BIND_SET also what mmap(2) and KVM_SET_USER_MEMORY_REGION say.
 */
int gmemfd_bind(int fd, int vm_fd, const struct gmemfd_memslot *memslot, void **address);

/**
 * gmemfd_unbind - end a binding
 * @fd: the file
 * @vm_fd: the VM
 * @slot: the memslot's number
 * @flags: 0; or GMEMFD_BIND_SET, for a binding made with it: the memslot is deleted and the range unmapped too
 *
 * Return: 0 or -errno. -ENOENT: the memslot is not bound to this file.
 */
int gmemfd_unbind(int fd, int vm_fd, uint32_t slot, uint64_t flags);

/**
 * gmemfd_bindings - list the bindings of a gmem file
 * @fd: the file
 * @after: 0, or the @id of the last one that was listed, to go on behind it
 * @entries: room for them
 * @nr: how many there is room for
 * @size: sizeof(*entries)
 *
 * Return: how many, fewer than @nr only at the end; or -errno.
 */
int gmemfd_bindings(int fd, uint64_t after, struct gmemfd_binding *entries, unsigned int nr, size_t size);

/**
 * gmemfd_vcpu_fault - what made KVM_RUN fail
 * @context: of a watch with GMEMFD_WATCH_VCPU_EXIT
 * @vcpu_fd: the vCPU
 * @event: filled
 *
 * To be asked when KVM_RUN has failed with EFAULT or EINTR. The page is to be provided, and the vCPU to be run again.
 *
 * Return: 0 or -errno. -ENOENT: it was no page that still traps; run again. -EBADF: @vcpu_fd is no vCPU.
 */
int gmemfd_vcpu_fault(int context, int vcpu_fd, struct gmemfd_event *event);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
