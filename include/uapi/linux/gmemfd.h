/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note OR MIT) */
/*
 * The private ABI of gmemfd: what /dev/gmemfd, gmem files and contexts
 * understand beside the ordinary file operations.
 */
#ifndef _UAPI_LINUX_GMEMFD_H
#define _UAPI_LINUX_GMEMFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: objects
 *
 * ``/dev/gmemfd`` makes the two other objects and tells what this module
 * can do. A *gmem file* holds guest memory: it is mapped, read, written and
 * punched like any file in memory, its size is fixed, and its pages are
 * absent until somebody provides them. A *context* is where a handler reads
 * the faults of the ranges it watches.
 *
 * A *watch* says that a range of a gmem file traps: whoever touches a page
 * of it which has not been provided, through whatever mapping in whatever
 * process, also the kernel itself, waits until a handler has provided it.
 *
 * A page of a gmem file is in one of four states:
 *
 * - absent: no content. Traps under a watch with GMEMFD_MODE_MISSING; else
 *   the first access makes it a page of zeros.
 * - closed: it has content, but is not to be seen yet; only under a watch with
 *   GMEMFD_MODE_MINOR. Traps until GMEMFD_CONTINUE opens it.
 * - present: content that everybody sees.
 * - poisoned: whoever touches it gets SIGBUS (BUS_MCEERR_AR). A page whose memory
 *   broke is poisoned too; a mapping that had it mapped needs
 *   madvise(MADV_DONTNEED) after it was provided anew.
 *
 * Content is always published by whole pages: no access observes a part of a
 * page before all of it has been provided.
 */

/**
 * DOC: structs and errors
 *
 * Each command takes a struct that begins with its own size in bytes. A
 * struct may grow at its end in later versions. A caller sets @size to the
 * sizeof() that it was compiled with and all it does not use to zero.
 *
 * What errno means for every command:
 *
 * - ENOTTY: this object has no such command.
 * - EINVAL: the struct is shorter than its first version; a flag bit, mode or
 *   policy is not known; a field that must be zero is not; an offset or length is
 *   not a multiple of the file's granule, is empty, wraps, or goes past the
 *   end of the file.
 * - E2BIG: the struct is longer than the module knows and has a byte set there,
 *   or is longer than a page.
 * - EFAULT: the struct cannot be read or written. Where it can be read and not
 *   written, what the command did stays done.
 * - EBADF: a descriptor is not open, not of the right kind, or the gmem file
 *   is not open for writing.
 * - EINTR: a signal came while the command waited; nothing was changed.
 * - ENOMEM: no memory, or the memory cgroup of the file is at its limit.
 *
 * Flags, modes and policies are checked before anything is done.
 * Further meanings are told with each command.
 */

#define GMEMFD_ABI_VERSION	1

/**
 * DOC: granule
 *
 * Ranges are multiples of the granule of the file: the page size, or 2 MiB
 * with GMEMFD_CREATE_HUGE. Faults are reported by granules too.
 *
 * write(2) and fallocate(2) take any range, and do what they do with any file to
 * the bytes of granules that have content. But a part of a granule cannot be
 * written while it is absent, nor can it be punched while it is absent under a watch
 * with GMEMFD_MODE_MISSING: what the handler provides later would stand there. Both
 * fail with EINVAL, and a hole then changes nothing.
 */
#define GMEMFD_HUGE_SIZE	(1ULL << 21)

#define GMEMFD_IOC		0xBC

/**
 * struct gmemfd_info - ioctl(GMEMFD_INFO) on /dev/gmemfd
 * @size: sizeof(struct gmemfd_info)
 * @abi: out: GMEMFD_ABI_VERSION of the module
 * @flags: must be 0
 * @features: out: GMEMFD_FEATURE_* bits
 * @device_cmds: out: commands of /dev/gmemfd, bit N for command number N
 * @file_cmds: out: commands of a gmem file
 * @context_cmds: out: commands of a context
 * @create_flags: out: GMEMFD_CREATE_* bits that are understood
 * @watch_modes: out: GMEMFD_MODE_* bits that are understood
 * @policies: out: bit N for policy number N
 * @watch_flags: out: GMEMFD_WATCH_* bits that are understood and work here
 * @bind_flags: out: GMEMFD_BIND_* bits that are understood
 * @range_flags: out: GMEMFD_RANGE_* bits that are understood
 * @max_bytes: out: the largest gmem file, in bytes
 * @huge_size: out: bytes of a granule with GMEMFD_CREATE_HUGE; 0 where this
 *             kernel cannot map huge pages
 * @max_ops: out: most operations in one GMEMFD_RESOLVE
 * @event_size: out: bytes of one record read from a context
 * @version: out: version of the module, terminated by a zero byte
 *
 * Tells what the module can do. Has no side effect.
 */
struct gmemfd_info {
	__u32 size;
	__u32 abi;
	__aligned_u64 flags;
	__aligned_u64 features;
	__aligned_u64 device_cmds;
	__aligned_u64 file_cmds;
	__aligned_u64 context_cmds;
	__aligned_u64 create_flags;
	__aligned_u64 watch_modes;
	__aligned_u64 policies;
	__aligned_u64 watch_flags;
	__aligned_u64 bind_flags;
	__aligned_u64 range_flags;
	__aligned_u64 max_bytes;
	__aligned_u64 huge_size;
	__u32 max_ops;
	__u32 event_size;
	char version[32];
};

#define GMEMFD_INFO	_IOWR(GMEMFD_IOC, 0x00, struct gmemfd_info)

/*
 * Pages are charged to the memory cgroup of the file's creator. Where that is at its
 * limit, a process of another one that touches an absent page gets SIGBUS.
 */
#define GMEMFD_FEATURE_MEMCG		(1ULL << 0)
/* Faults on gmem mappings may run under the per-VMA lock. */
#define GMEMFD_FEATURE_VMA_LOCK		(1ULL << 1)

/*
 * USERFAULTFD_IOC_NEW on /dev/gmemfd makes a context with the ABI of userfaultfd(2)
 * for mappings of gmem files.
 */
#define GMEMFD_FEATURE_USERFAULTFD	(1ULL << 2)
/* Memslots of KVM can be bound: GMEMFD_BIND. */
#define GMEMFD_FEATURE_KVM		(1ULL << 3)

/*
 * What becomes of a watch when the last descriptor of its context closes.
 * RELEASE: the watch ends, closed pages open, absent ones read as zeros, as
 * with userfaultfd. POISON: whoever touches a page that still traps gets
 * SIGBUS (a system call EFAULT or EIO), until another handler attaches.
 * HOLD: faults go on waiting for another handler to attach.
 */
#define GMEMFD_POLICY_DEFAULT	0
#define GMEMFD_POLICY_RELEASE	1
#define GMEMFD_POLICY_POISON	2
#define GMEMFD_POLICY_HOLD	3

/**
 * struct gmemfd_create - ioctl(GMEMFD_CREATE) on /dev/gmemfd
 * @size: sizeof(struct gmemfd_create)
 * @policy: GMEMFD_POLICY_*, for watches that do not name their own; DEFAULT
 *          stands for POISON
 * @flags: GMEMFD_CREATE_* bits
 * @bytes: size of the file; a multiple of the granule, 1 granule at least, at
 *         most @max_bytes of struct gmemfd_info
 * @node: with GMEMFD_CREATE_NODE: the NUMA node to take memory from, where
 *        it has any left; else must be 0
 * @pad: must be 0
 *
 * Makes a gmem file. Memory is taken when pages are provided, not here, and
 * is charged to the memory cgroup of the caller.
 *
 * Return: a descriptor, open for reading and writing, close-on-exec.
 * Errors beside the common ones: EMFILE, ENFILE; EINVAL for a node that is
 * not online.
 */
struct gmemfd_create {
	__u32 size;
	__u32 policy;
	__aligned_u64 flags;
	__aligned_u64 bytes;
	__u32 node;
	__u32 pad;
};

#define GMEMFD_CREATE	_IOW(GMEMFD_IOC, 0x01, struct gmemfd_create)

/* The granule is 2 MiB. */
#define GMEMFD_CREATE_HUGE	(1ULL << 0)
/* @node is given. */
#define GMEMFD_CREATE_NODE	(1ULL << 1)
#define GMEMFD_CREATE_ALL	(GMEMFD_CREATE_HUGE | GMEMFD_CREATE_NODE)

/**
 * struct gmemfd_context - ioctl(GMEMFD_CONTEXT) on /dev/gmemfd
 * @size: sizeof(struct gmemfd_context)
 * @pad: must be 0
 * @flags: must be 0
 *
 * Makes a context. It is read for struct gmemfd_event records, as many as
 * fit; read() waits for the first unless the descriptor is O_NONBLOCK, and
 * fails with EINVAL when not even one fits. poll() says EPOLLIN when a record
 * can be read. Records of faults that are resolved before they are read
 * disappear. When the last descriptor closes, the policy of each of its
 * watches decides.
 *
 * Return: a descriptor, close-on-exec.
 */
struct gmemfd_context {
	__u32 size;
	__u32 pad;
	__aligned_u64 flags;
};

#define GMEMFD_CONTEXT	_IOW(GMEMFD_IOC, 0x02, struct gmemfd_context)

/**
 * struct gmemfd_event - a record read from a context
 * @type: GMEMFD_EVENT_FAULT; others may come later and are to be skipped
 * @flags: GMEMFD_FAULT_* bits
 * @offset: first byte of the granule, in the file
 * @len: bytes of the granule
 * @cookie: as given to GMEMFD_WATCH
 * @tid: the thread that faulted first, as numbered in its own PID namespace
 * @slot: with GMEMFD_FAULT_VM: the memslot, as in struct gmemfd_bind
 * @gpa: with GMEMFD_FAULT_VM: guest physical address of the page that was touched
 * @vm: with GMEMFD_FAULT_VM: the VM's cookie, as given to GMEMFD_BIND
 * @vcpu: with GMEMFD_FAULT_VCPU: the vCPU's id, as given to KVM_CREATE_VCPU
 * @reserved: 0
 *
 * One record stands for any number of threads that wait for a granule; it
 * describes the first. A fault that is woken without having been resolved is
 * reported again. What is not told by a flag is 0.
 */
struct gmemfd_event {
	__u32 type;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 len;
	__aligned_u64 cookie;
	__u32 tid;
	__u32 slot;
	__aligned_u64 gpa;
	__aligned_u64 vm;
	__u32 vcpu;
	__u32 reserved;
};

#define GMEMFD_EVENT_FAULT	0x21

/* The access was a write. */
#define GMEMFD_FAULT_WRITE	(1U << 0)
/* The page is closed, not absent: GMEMFD_CONTINUE is wanted. */
#define GMEMFD_FAULT_MINOR	(1U << 1)
/* The kernel made the access on somebody's behalf. */
#define GMEMFD_FAULT_KERNEL	(1U << 2)
/*
 * The access was to a bound memslot of a VM, by a thread of the VM's process or
 * by KVM for it: @slot, @gpa and @vm are told. Where the memory is in several memslots,
 * the one is told that was found first.
 */
#define GMEMFD_FAULT_VM		(1U << 3)
/* The access was made by, or for, a vCPU of that VM: @vcpu is told. */
#define GMEMFD_FAULT_VCPU	(1U << 4)
/*
 * The guest itself made the access. Without it and with GMEMFD_FAULT_VCPU KVM did,
 * on its own account: kvmclock, the walk of page tables, the emulation of an
 * instruction.
 */
#define GMEMFD_FAULT_GUEST	(1U << 5)

/**
 * struct gmemfd_watch - ioctl(GMEMFD_WATCH) on a gmem file
 * @size: sizeof(struct gmemfd_watch)
 * @context: descriptor of a context
 * @flags: GMEMFD_WATCH_* bits
 * @offset: first byte of the range
 * @len: bytes of the range
 * @modes: GMEMFD_MODE_* bits, one at least
 * @cookie: any value; comes back in each event
 * @policy: GMEMFD_POLICY_*; DEFAULT is the file's
 * @pad: must be 0
 *
 * From now on the range traps to the context. Pages that are present stay
 * present. Errors beside the common ones: EBUSY when a part of the range is watched
 * already.
 */
struct gmemfd_watch {
	__u32 size;
	__s32 context;
	__aligned_u64 flags;
	__aligned_u64 offset;
	__aligned_u64 len;
	__aligned_u64 modes;
	__aligned_u64 cookie;
	__u32 policy;
	__u32 pad;
};

#define GMEMFD_WATCH	_IOW(GMEMFD_IOC, 0x10, struct gmemfd_watch)

/* Absent pages trap. */
#define GMEMFD_MODE_MISSING	(1ULL << 0)
/*
 * Pages provided by write(2), by splice(2) or with GMEMFD_RANGE_CLOSED are closed
 * and trap until GMEMFD_CONTINUE. An absent page does not trap in this mode
 * alone.
 */
#define GMEMFD_MODE_MINOR	(1ULL << 1)
#define GMEMFD_MODE_ALL		(GMEMFD_MODE_MISSING | GMEMFD_MODE_MINOR)

/*
 * A guest's access by a vCPU of a bound VM does not wait, and makes no record:
 * KVM_RUN fails, and GMEMFD_VCPU_FAULT tells the fault. KVM_RUN fails with EFAULT or,
 * where KVM has given the access to a thread of its own meanwhile (asynchronous
 * page fault, with an interrupt controller in the kernel), with EINTR. The state of
 * the guest is as if it had not tried; it tries again with the next KVM_RUN. Accesses
 * of all others wait and make records as ever, those of KVM on its own account, and
 * of its thread, among them. Without a context, the watch's policy decides for vCPUs
 * too. KVM_PRE_FAULT_MEMORY fails in the same way as KVM_RUN.
 *
 * A vCPU that is run on with its fault unresolved may have to wait: then, as for all
 * who wait, somebody else must read the context.
 */
#define GMEMFD_WATCH_VCPU_EXIT	(1ULL << 0)

/**
 * struct gmemfd_range - ioctls on a range of a gmem file
 * @size: sizeof(struct gmemfd_range)
 * @op: in an array for GMEMFD_RESOLVE: GMEMFD_OP_*; else must be 0
 * @flags: GMEMFD_RANGE_* bits that the command takes
 * @offset: first byte of the range
 * @len: bytes of the range
 * @src: COPY: address of the content in the caller's memory, any alignment;
 *       FILL: offset of the content in the file @src_fd; else must be 0
 * @src_fd: FILL: descriptor, open for reading, of a regular file or a block
 *          device; else must be 0
 * @pad: must be 0
 * @done: out: bytes done, or a negative errno; what it holds before does not
 *        matter
 *
 * Results of COPY, CONTINUE, ZERO, POISON and FILL follow userfaultfd(2). All done:
 * @done is @len and the call returns 0. A part done: @done is the bytes done
 * from @offset on, and the call fails with EAGAIN. Nothing done: @done is the
 * negative errno, and the call fails with the same errno. Of what was done,
 * waiters are woken. UNWATCH and WAKE do all or nothing.
 *
 * Errors beside the common ones are told with each command. A descriptor of
 * the gmem file that is open for writing is all that is needed: no mapping.
 */
struct gmemfd_range {
	__u32 size;
	__u32 op;
	__aligned_u64 flags;
	__aligned_u64 offset;
	__aligned_u64 len;
	__aligned_u64 src;
	__s32 src_fd;
	__u32 pad;
	__s64 done;
};

/*
 * Ends the watches of the range, or the part of them inside it. Closed
 * pages open, waiters try again. Nothing watched is no error. EBUSY: a closed huge
 * page on the edge is in use.
 */
#define GMEMFD_UNWATCH	_IOWR(GMEMFD_IOC, 0x11, struct gmemfd_range)
/*
 * Provides pages from memory. EEXIST: a page has content already. EFAULT: the
 * source cannot be read. EINVAL: GMEMFD_RANGE_CLOSED where no watch with
 * GMEMFD_MODE_MINOR is. A poisoned page is replaced.
 */
#define GMEMFD_COPY	_IOWR(GMEMFD_IOC, 0x20, struct gmemfd_range)
/*
 * Opens closed pages. EFAULT: a page is absent. EEXIST: a page is open. EBUSY:
 * only a part of a huge page is to open, and it is in use.
 */
#define GMEMFD_CONTINUE	_IOWR(GMEMFD_IOC, 0x21, struct gmemfd_range)
/* Provides pages of zeros. Errors as for COPY. */
#define GMEMFD_ZERO	_IOWR(GMEMFD_IOC, 0x22, struct gmemfd_range)
/*
 * Poisons absent pages. EEXIST: a page has content, or is poisoned already. A
 * hole punched over it takes the poison away.
 */
#define GMEMFD_POISON	_IOWR(GMEMFD_IOC, 0x23, struct gmemfd_range)
/* Makes those who wait for the range look again. */
#define GMEMFD_WAKE	_IOWR(GMEMFD_IOC, 0x24, struct gmemfd_range)
/*
 * Provides pages read straight from another file, through its page cache or,
 * with O_DIRECT, around it. ENODATA: the source ended; what the source says
 * otherwise (EIO, ...) comes back. Errors else as for COPY.
 */
#define GMEMFD_FILL	_IOWR(GMEMFD_IOC, 0x25, struct gmemfd_range)

/* COPY, ZERO, FILL, CONTINUE, POISON: wake nobody. */
#define GMEMFD_RANGE_DONTWAKE	(1ULL << 0)
/* COPY, ZERO, FILL: provide, but leave closed for GMEMFD_CONTINUE. */
#define GMEMFD_RANGE_CLOSED	(1ULL << 1)
#define GMEMFD_RANGE_ALL	(GMEMFD_RANGE_DONTWAKE | GMEMFD_RANGE_CLOSED)

#define GMEMFD_OP_COPY		1
#define GMEMFD_OP_CONTINUE	2
#define GMEMFD_OP_ZERO		3
#define GMEMFD_OP_POISON	4
#define GMEMFD_OP_WAKE		5
#define GMEMFD_OP_FILL		6

/**
 * struct gmemfd_resolve - ioctl(GMEMFD_RESOLVE) on a gmem file
 * @size: sizeof(struct gmemfd_resolve)
 * @nr: entries in the array, 1 to @max_ops of struct gmemfd_info
 * @flags: GMEMFD_RESOLVE_* bits
 * @ops: address of an array of struct gmemfd_range; the first one's @size
 *       must stand in all and is the stride of the array
 * @done: out: entries that were carried out or tried
 * @failed: out: how many of them did not do all of their range
 *
 * Carries out many operations in one call, in their order, and writes each
 * one's result to its own @done. Stops after the first that does not do all
 * of its range, unless told to go on.
 *
 * Return: 0, also when an operation failed: look at @failed. EINTR, when a
 * signal that kills came, EFAULT, when the array cannot be read or written,
 * EINVAL and E2BIG, when the @size of an entry is not right: @done entries were
 * carried out.
 */
struct gmemfd_resolve {
	__u32 size;
	__u32 nr;
	__aligned_u64 flags;
	__aligned_u64 ops;
	__u32 done;
	__u32 failed;
};

#define GMEMFD_RESOLVE	_IOWR(GMEMFD_IOC, 0x26, struct gmemfd_resolve)

/* Go on after an operation that failed. */
#define GMEMFD_RESOLVE_KEEP_GOING	(1ULL << 0)
#define GMEMFD_RESOLVE_ALL		GMEMFD_RESOLVE_KEEP_GOING

/**
 * struct gmemfd_attach - ioctl(GMEMFD_ATTACH) on a gmem file
 * @size: sizeof(struct gmemfd_attach)
 * @context: descriptor of a context
 * @flags: must be 0
 * @offset: first byte of the range
 * @len: bytes of the range
 *
 * Gives the watches that have lost their context, and lie in the range as a
 * whole, to this one. All their unresolved faults are reported to it, also
 * those that the lost one had read. Errors beside the common ones: ENOENT when no
 * watch in the range is without a context; nothing was changed.
 */
struct gmemfd_attach {
	__u32 size;
	__s32 context;
	__aligned_u64 flags;
	__aligned_u64 offset;
	__aligned_u64 len;
};

#define GMEMFD_ATTACH	_IOW(GMEMFD_IOC, 0x12, struct gmemfd_attach)

/**
 * struct gmemfd_policy - ioctl(GMEMFD_POLICY) on a gmem file
 * @size: sizeof(struct gmemfd_policy)
 * @policy: GMEMFD_POLICY_*, not DEFAULT
 * @flags: must be 0
 * @offset: first byte of the range
 * @len: bytes of the range
 *
 * Changes the policy of the watches that lie in the range as a whole. One
 * that has lost its context follows the new policy at once. Errors beside the common
 * ones: ENOENT when the range has no watch; nothing was changed.
 */
struct gmemfd_policy {
	__u32 size;
	__u32 policy;
	__aligned_u64 flags;
	__aligned_u64 offset;
	__aligned_u64 len;
};

#define GMEMFD_POLICY	_IOW(GMEMFD_IOC, 0x13, struct gmemfd_policy)

#define GMEMFD_WAIT_BUCKETS	32

/**
 * struct gmemfd_stats - ioctl(GMEMFD_STATS) on a gmem file
 * @size: sizeof(struct gmemfd_stats)
 * @pad: must be 0
 * @flags: must be 0
 * @bytes: out: size of the file
 * @allocated: out: bytes of pages that have content
 * @poisoned: out: bytes of pages made poisoned since the file was made
 * @punched: out: bytes given back by punching holes
 * @waiters: out: threads that wait now
 * @watches: out: watches there are
 * @orphans: out: watches without a context
 * @bindings: out: memslots that are bound
 * @faults_zero: out: absent pages made zero by their first access
 * @faults_missing: out: waits for an absent page
 * @faults_minor: out: waits for a closed page
 * @faults_sigbus: out: accesses answered with SIGBUS; some kernels' KVM asks once more
 *                 after an exit of a vCPU, and is counted
 * @vcpu_exits: out: accesses of guests that made KVM_RUN fail for GMEMFD_VCPU_FAULT
 * @events: out: records made for contexts
 * @copied: out: bytes provided by COPY
 * @zeroed: out: bytes provided by ZERO
 * @filled: out: bytes provided by FILL
 * @written: out: bytes of absent pages provided by write(2) and splice(2)
 * @continued: out: bytes opened by CONTINUE
 * @huge: out: folios of 2 MiB provided
 * @wakes: out: waiters woken
 * @wait_ns: out: nanoseconds that all waits took together
 * @wait_log2: out: waits by their length; bucket N counts those of 2^N up to
 *             2^(N+1) nanoseconds, the last one all longer ones
 *
 * Counters since the file was made. Works on any descriptor of the file.
 */
struct gmemfd_stats {
	__u32 size;
	__u32 pad;
	__aligned_u64 flags;
	__aligned_u64 bytes;
	__aligned_u64 allocated;
	__aligned_u64 poisoned;
	__aligned_u64 punched;
	__aligned_u64 waiters;
	__aligned_u64 watches;
	__aligned_u64 orphans;
	__aligned_u64 bindings;
	__aligned_u64 faults_zero;
	__aligned_u64 faults_missing;
	__aligned_u64 faults_minor;
	__aligned_u64 faults_sigbus;
	__aligned_u64 vcpu_exits;
	__aligned_u64 events;
	__aligned_u64 copied;
	__aligned_u64 zeroed;
	__aligned_u64 filled;
	__aligned_u64 written;
	__aligned_u64 continued;
	__aligned_u64 huge;
	__aligned_u64 wakes;
	__aligned_u64 wait_ns;
	__aligned_u64 wait_log2[GMEMFD_WAIT_BUCKETS];
};

#define GMEMFD_STATS	_IOWR(GMEMFD_IOC, 0x14, struct gmemfd_stats)

/**
 * DOC: KVM
 *
 * A memslot whose memory is a mapping of a gmem file needs nothing else to be
 * demand-paged. *Binding* it to the file lets events say where in the guest
 * the fault was, and who took it, and is what GMEMFD_WATCH_VCPU_EXIT needs.
 *
 * A binding is one memslot. It ends with GMEMFD_UNBIND, with the file, with the
 * address space of the VM's process, and when the VM is found to have no
 * descriptor any more; also when its memslot is found deleted or not to map the file
 * as it did. A memslot that KVM has moved stays bound, at its new address. A VM
 * stays until its bindings have ended, though not longer than its process.
 *
 * Whoever reads the context must not be a thread that runs a vCPU, nor one that changes
 * memslots (GMEMFD_BIND_SET does): KVM waits there for vCPUs, which may be waiting for
 * a page.
 */

/**
 * struct gmemfd_bind - ioctl(GMEMFD_BIND) and ioctl(GMEMFD_UNBIND) on a gmem file
 * @size: sizeof(struct gmemfd_bind)
 * @vm_fd: descriptor of a VM of KVM that belongs to the caller's process
 * @flags: GMEMFD_BIND_* bits
 * @offset: first byte in the file; a multiple of the page size. UNBIND: must be 0
 * @vm: any value; comes back in each event as @vm. UNBIND: must be 0
 * @slot: the memslot, as in struct kvm_userspace_memory_region: its address space in
 *        bits 16 to 31
 * @slot_flags: BIND with GMEMFD_BIND_SET: KVM_MEM_* flags of the memslot; else must be 0
 * @gpa: guest physical address. UNBIND: must be 0
 * @len: bytes of the memslot. UNBIND: must be 0
 * @address: BIND, in: must be 0; out: where the memslot is mapped. UNBIND: must be 0
 *
 * BIND binds a memslot that is there: its address, its length and the mapping
 * under it must be as told. With GMEMFD_BIND_SET it makes both: it maps the range
 * for the caller and gives the mapping to the VM as a new memslot. What fails leaves
 * neither.
 *
 * A vCPU's access to a memslot that is not bound yet waits, also where it is to exit:
 * bind before vCPUs run, or have KVM set the memslot here.
 *
 * UNBIND ends a binding and leaves mapping and memslot alone. With
 * GMEMFD_BIND_SET, for a binding made with it, it deletes the memslot and
 * unmaps the range.
 *
 * The fields from @slot on are where the kernel keeps its struct
 * kvm_userspace_memory_region while it calls KVM for GMEMFD_BIND_SET; what they hold
 * after an error is not told.
 *
 * Errors beside the common ones: EBADF, @vm_fd is no VM; EPERM, the VM is another
 * process's; ENOENT, there is no such memslot, UNBIND: it is not bound to this
 * file; EEXIST, the memslot is bound already, with GMEMFD_BIND_SET: is there
 * already; EINVAL, the memslot is not as told; EOPNOTSUPP, this kernel has no
 * KVM or does not let modules near it. With GMEMFD_BIND_SET also what mmap(2) and
 * KVM_SET_USER_MEMORY_REGION say.
 */
struct gmemfd_bind {
	__u32 size;
	__s32 vm_fd;
	__aligned_u64 flags;
	__aligned_u64 offset;
	__aligned_u64 vm;
	__u32 slot;
	__u32 slot_flags;
	__aligned_u64 gpa;
	__aligned_u64 len;
	__aligned_u64 address;
};

#define GMEMFD_BIND	_IOWR(GMEMFD_IOC, 0x15, struct gmemfd_bind)
#define GMEMFD_UNBIND	_IOWR(GMEMFD_IOC, 0x16, struct gmemfd_bind)

/* Map the range and set the memslot; UNBIND: undo both. */
#define GMEMFD_BIND_SET		(1ULL << 0)
/* With GMEMFD_BIND_SET: the mapping is private, a clone that writes for itself. */
#define GMEMFD_BIND_PRIVATE	(1ULL << 1)
#define GMEMFD_BIND_ALL		(GMEMFD_BIND_SET | GMEMFD_BIND_PRIVATE)

/**
 * struct gmemfd_binding - an entry of the list that GMEMFD_BINDINGS makes
 * @id: of the binding; grows with each binding made
 * @flags: GMEMFD_BIND_* bits it was made with
 * @offset: first byte in the file
 * @len: bytes of the memslot
 * @vm: the VM's cookie
 * @gpa: guest physical address of the memslot
 * @address: where it is mapped in the process
 * @slot: the memslot
 * @pid: the process the VM belongs to, as the caller's PID namespace numbers it; 0 where
 *       it does not
 */
struct gmemfd_binding {
	__aligned_u64 id;
	__aligned_u64 flags;
	__aligned_u64 offset;
	__aligned_u64 len;
	__aligned_u64 vm;
	__aligned_u64 gpa;
	__aligned_u64 address;
	__u32 slot;
	__u32 pid;
};

/**
 * struct gmemfd_bindings - ioctl(GMEMFD_BINDINGS) on a gmem file
 * @size: sizeof(struct gmemfd_bindings)
 * @nr: in: entries that there is room for; out: entries written
 * @flags: must be 0
 * @after: in: list bindings with a greater id than this; 0 begins
 * @entries: address of an array of struct gmemfd_binding
 * @entry_size: sizeof(struct gmemfd_binding); the stride of the array
 * @pad: must be 0
 *
 * Lists the bindings of the file by their ids. @nr is less than there was room
 * for only at the end. Works on any descriptor of the file.
 */
struct gmemfd_bindings {
	__u32 size;
	__u32 nr;
	__aligned_u64 flags;
	__aligned_u64 after;
	__aligned_u64 entries;
	__u32 entry_size;
	__u32 pad;
};

#define GMEMFD_BINDINGS	_IOWR(GMEMFD_IOC, 0x17, struct gmemfd_bindings)

/**
 * struct gmemfd_vcpu_fault - ioctl(GMEMFD_VCPU_FAULT) on a context
 * @size: sizeof(struct gmemfd_vcpu_fault)
 * @vcpu_fd: descriptor of a vCPU
 * @flags: must be 0
 * @event: out: the fault
 *
 * Tells the access that made the last KVM_RUN of a vCPU fail, under a watch of this
 * context with GMEMFD_WATCH_VCPU_EXIT. Ask after EFAULT and after EINTR; provide the
 * page; run again. Errors beside the common ones: EBADF, @vcpu_fd is no vCPU;
 * ENOENT, no page that still traps made it fail: run again.
 */
struct gmemfd_vcpu_fault {
	__u32 size;
	__s32 vcpu_fd;
	__aligned_u64 flags;
	struct gmemfd_event event;
};

#define GMEMFD_VCPU_FAULT	_IOWR(GMEMFD_IOC, 0x30, struct gmemfd_vcpu_fault)

#endif /* _UAPI_LINUX_GMEMFD_H */
