// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who traps: every way in which a user or the kernel gets at a page that has not been provided. Each row is one
 * access; it must make an event with the right flags, wait for the content, and see all of it. What cannot wait in the
 * kernel must be refused, and never be answered with something else.
 */
#include "peer.h"
#include "trap.h"
#include "uring.h"

#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGES 8
#define TRAPPED 3
#define WRITE GMEMFD_FAULT_WRITE
#define KERNEL GMEMFD_FAULT_KERNEL
#define PATTERN_BYTES 64	/* what writers write */

struct access {
	struct trap_rig rig;
	size_t ps;
	uint64_t offset;	/* of the trapped page */
	unsigned char *page;	/* in the mapping that the row uses */
	unsigned char *buf;	/* a page of ordinary memory */
	int fds[2];
	pid_t child;
	struct uring uring;
};

/* All as provided, but for the first n bytes, which are TRAP_WRITTEN. */
static long is_right(const struct access *a, const unsigned char *page, size_t n)
{
	unsigned char *copy = malloc(a->ps);
	bool right;

	REQUIRE(copy);
	memcpy(copy, page, a->ps);
	right = all_bytes_are(copy, n, TRAP_WRITTEN);
	if (n) {
		unsigned char *want = malloc(a->ps);

		REQUIRE(want);
		pattern_fill(want, a->ps, a->offset);
		memcpy(copy, want, n);
		free(want);
	}
	right = right && pattern_is(copy, a->ps, a->offset);
	free(copy);
	if (!right)
		errno = EILSEQ;
	return right ? 0 : -1;
}

/* A system call that moves a page is to move all of it. */
static long whole(const struct access *a, ssize_t n)
{
	if (n >= 0 && (size_t)n != a->ps) {
		tap_diag("%zd bytes instead of %zu", n, a->ps);
		errno = EMSGSIZE;
		return -1;
	}
	return n < 0 ? -1 : 0;
}

static void use_pipe(struct access *a)
{
	REQUIRE_OK(pipe(a->fds));
	/* Room for a page at any offset. */
	REQUIRE_OK(fcntl(a->fds[1], F_SETPIPE_SZ, 4 * a->ps));
}

static void use_full_pipe(struct access *a)
{
	use_pipe(a);
	memset(a->buf, TRAP_WRITTEN, PATTERN_BYTES);
	REQUIRE_EQ(write(a->fds[1], a->buf, PATTERN_BYTES), PATTERN_BYTES);
}

static void use_file(struct access *a)
{
	a->fds[0] = REQUIRE_FD(memfd_create("trap-who", MFD_CLOEXEC));
	memset(a->buf, TRAP_WRITTEN, PATTERN_BYTES);
	REQUIRE_EQ(pwrite(a->fds[0], a->buf, PATTERN_BYTES, 0), PATTERN_BYTES);
}

static void use_child(struct access *a)
{
	a->child = REQUIRE_OK(fork());
	if (!a->child)
		for (;;)
			pause();
}

static void use_traced_child(struct access *a)
{
	int status;

	use_child(a);
	REQUIRE_OK(ptrace(PTRACE_SEIZE, a->child, NULL, NULL));
	REQUIRE_OK(ptrace(PTRACE_INTERRUPT, a->child, NULL, NULL));
	REQUIRE_EQ(waitpid(a->child, &status, __WALL), a->child);
}

static void use_private_map(struct access *a)
{
	a->page = (unsigned char *)xmmap(NULL, a->rig.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, a->rig.fd, 0) +
		  a->offset;
}

static void use_partial_map(struct access *a)
{
	a->page = xmmap(NULL, a->ps, PROT_READ, MAP_SHARED, a->rig.fd, a->offset);
}

static void use_uring(struct access *a)
{
	uring_init(&a->uring);
}

/* --- The accesses ------------------------------------------------------------------------------------ */

static long user_read(struct access *a)
{
	return is_right(a, a->page, 0);
}

static long user_write(struct access *a)
{
	*(volatile unsigned char *)a->page = TRAP_WRITTEN;
	return is_right(a, a->page, 1) ?: is_right(a, a->rig.map + a->offset, 1);
}

static long private_write(struct access *a)
{
	*(volatile unsigned char *)a->page = TRAP_WRITTEN;
	/* The template is as it was provided. */
	return is_right(a, a->page, 1) ?: is_right(a, a->rig.map + a->offset, 0);
}

static long vm_read(struct access *a)
{
	struct iovec local = { a->buf, a->ps }, remote = { a->page, a->ps };

	return whole(a, process_vm_readv(a->child, &local, 1, &remote, 1, 0)) ?: is_right(a, a->buf, 0);
}

static long vm_write(struct access *a)
{
	struct iovec local = { a->buf, PATTERN_BYTES }, remote = { a->page, PATTERN_BYTES };

	memset(a->buf, TRAP_WRITTEN, PATTERN_BYTES);
	if (process_vm_writev(a->child, &local, 1, &remote, 1, 0) != PATTERN_BYTES)
		return -1;
	return is_right(a, a->page, PATTERN_BYTES);
}

static long write_to_pipe(struct access *a)
{
	return whole(a, write(a->fds[1], a->page, a->ps)) ?: whole(a, read(a->fds[0], a->buf, a->ps)) ?:
	       is_right(a, a->buf, 0);
}

static long write_to_file(struct access *a)
{
	return whole(a, pwrite(a->fds[0], a->page, a->ps, 0)) ?: whole(a, pread(a->fds[0], a->buf, a->ps, 0)) ?:
	       is_right(a, a->buf, 0);
}

static long read_from_either(struct access *a)
{
	if (read(a->fds[0], a->page, PATTERN_BYTES) != PATTERN_BYTES)
		return -1;
	return is_right(a, a->page, PATTERN_BYTES);
}

static long read_from_file(struct access *a)
{
	REQUIRE_OK(lseek(a->fds[0], 0, SEEK_SET));
	return read_from_either(a);
}

static void use_disk(struct access *a)
{
	a->fds[0] = ram_disk(O_RDWR | O_DIRECT);
	memset(a->buf, TRAP_WRITTEN, a->ps);
	REQUIRE_EQ(pwrite(a->fds[0], a->buf, a->ps, 0), a->ps);
}

static long disk_reads_page(struct access *a)
{
	return whole(a, pwrite(a->fds[0], a->page, a->ps, 0)) ?: whole(a, pread(a->fds[0], a->buf, a->ps, 0)) ?:
	       is_right(a, a->buf, 0);
}

static long disk_writes_page(struct access *a)
{
	return whole(a, pread(a->fds[0], a->page, a->ps, 0)) ?: is_right(a, a->page, a->ps);
}

static long from_pipe(struct access *a)
{
	return whole(a, read(a->fds[0], a->buf, a->ps)) ?: is_right(a, a->buf, 0);
}

static long pipe_by_vmsplice(struct access *a)
{
	struct iovec iov = { a->page, a->ps };

	return whole(a, vmsplice(a->fds[1], &iov, 1, 0)) ?: from_pipe(a);
}

static long pipe_by_splice(struct access *a)
{
	off_t at = a->offset;

	return whole(a, splice(a->rig.fd, &at, a->fds[1], NULL, a->ps, 0)) ?: from_pipe(a);
}

static long file_by_sendfile(struct access *a)
{
	off_t at = a->offset;

	REQUIRE_OK(lseek(a->fds[0], 0, SEEK_SET));
	return whole(a, sendfile(a->fds[0], a->rig.fd, &at, a->ps)) ?:
	       whole(a, pread(a->fds[0], a->buf, a->ps, 0)) ?: is_right(a, a->buf, 0);
}

static long by_pread(struct access *a)
{
	return whole(a, pread(a->rig.fd, a->buf, a->ps, a->offset)) ?: is_right(a, a->buf, 0);
}

/* The first of the two pages is there. */
static long by_preadv(struct access *a)
{
	unsigned char *before = malloc(a->ps);
	struct iovec iov[] = { { before, a->ps }, { a->buf, a->ps } };
	long ret = -1;

	REQUIRE(before);
	if (preadv(a->rig.fd, iov, 2, a->offset - a->ps) == (ssize_t)(2 * a->ps))
		ret = pattern_is(before, a->ps, a->offset - a->ps) ? is_right(a, a->buf, 0) : -1;
	free(before);
	return ret;
}

static long futex_wake(struct access *a)
{
	return syscall(SYS_futex, a->page, FUTEX_WAKE, 1, NULL, NULL, 0) ?: is_right(a, a->page, 0);
}

/* It waits for the word to change from what it is not. */
static long futex_wait_for(struct access *a, int op)
{
	uint64_t first;

	pattern_fill(&first, sizeof(first), a->offset);
	if (syscall(SYS_futex, a->page, op, ~(uint32_t)first, NULL, NULL, 0) != -1 || errno != EAGAIN)
		return -1;
	return is_right(a, a->page, 0);
}

static long futex_wait(struct access *a)
{
	return futex_wait_for(a, FUTEX_WAIT);
}

static long futex_wait_private(struct access *a)
{
	return futex_wait_for(a, FUTEX_WAIT_PRIVATE);
}

static long register_buffer(struct access *a)
{
	int res;

	if (uring_register_buffer(&a->uring, a->page, a->ps))
		return -1;
	/* What was pinned is the page that was provided. */
	a->fds[0] = REQUIRE_FD(memfd_create("trap-who", MFD_CLOEXEC));
	uring_submit(&a->uring, IORING_OP_WRITE_FIXED, a->fds[0], a->page, a->ps, 0);
	REQUIRE(uring_result(&a->uring, &res, 10));
	return whole(a, res) ?: whole(a, pread(a->fds[0], a->buf, a->ps, 0)) ?: is_right(a, a->buf, 0);
}

static long uring_reads_file(struct access *a)
{
	int res;

	uring_submit(&a->uring, IORING_OP_READ, a->rig.fd, a->buf, a->ps, a->offset);
	REQUIRE(uring_result(&a->uring, &res, 10));
	return whole(a, res) ?: is_right(a, a->buf, 0);
}

static long map_populate(struct access *a)
{
	unsigned char *map = mmap(NULL, a->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, a->rig.fd,
				  a->offset);
	unsigned char in_core = 0;

	if (map == MAP_FAILED)
		return -1;
	REQUIRE_OK(mincore(map, a->ps, &in_core));
	CHECK_EQ(in_core & 1, 1);
	return is_right(a, map, 0);
}

static long populate_read(struct access *a)
{
	return madvise(a->page, a->ps, MADV_POPULATE_READ) ?: is_right(a, a->page, 0);
}

static long populate_write(struct access *a)
{
	return madvise(a->page, a->ps, MADV_POPULATE_WRITE) ?: is_right(a, a->page, 0);
}

static long by_mlock(struct access *a)
{
	return mlock(a->page, a->ps) ?: is_right(a, a->page, 0);
}

static long by_peek(struct access *a)
{
	errno = 0;
	/* The tracer is the thread that called PTRACE_SEIZE: this row does all of it by itself. */
	use_traced_child(a);
	return ptrace(PTRACE_PEEKDATA, a->child, a->page, NULL) == -1 && errno ? -1 : 0;
}

static long by_proc_mem(struct access *a)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", a->child);
	fd = REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC));
	return whole(a, pread(fd, a->buf, a->ps, (uintptr_t)a->page));
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	signals++;
}

/* The kernel writes the frame of the signal to the top of this stack. */
static long signal_frame(struct access *a)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_sp = a->rig.map, .ss_size = (TRAPPED + 1) * a->ps };

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	REQUIRE_OK(sigaltstack(&stack, NULL));
	pthread_kill(pthread_self(), SIGUSR1);
	return signals == 1 ? 0 : -1;
}

enum outcome {
	WAITS,
	/* Some kernels do this without ever waiting for a page: as with memfd and userfaultfd. */
	AS_PEER,
	IS_REFUSED,
};

static const struct access_row {
	const char *label;
	long (*run)(struct access *a);
	void (*prepare)(struct access *a);
	uint32_t flags;
	enum outcome outcome;
	int refusal;
	bool other_thread;	/* the kernel has it done by a thread of its own */
} accesses[] = {
	{ "read", user_read, .flags = 0 },
	{ "write", user_write, .flags = WRITE },
	{ "read_partial_map", user_read, use_partial_map, .flags = 0 },
	{ "read_private", user_read, use_private_map, .flags = 0 },
	{ "write_private", private_write, use_private_map, .flags = WRITE },
	{ "process_vm_readv", vm_read, use_child, .flags = KERNEL },
	{ "process_vm_writev", vm_write, use_child, .flags = KERNEL | WRITE },
	{ "write_to_pipe", write_to_pipe, use_pipe, .flags = KERNEL },
	{ "write_to_file", write_to_file, use_file, .flags = KERNEL },
	{ "read_from_pipe", read_from_either, use_full_pipe, .flags = KERNEL | WRITE },
	{ "read_from_file", read_from_file, use_file, .flags = KERNEL | WRITE },
	{ "vmsplice", pipe_by_vmsplice, use_pipe, .flags = KERNEL },
	{ "splice", pipe_by_splice, use_pipe, .flags = KERNEL },
	{ "sendfile", file_by_sendfile, use_file, .flags = KERNEL },
	{ "pread", by_pread, .flags = KERNEL },
	{ "preadv", by_preadv, .flags = KERNEL },
	{ "futex", futex_wake, .flags = KERNEL | WRITE },
	{ "futex_wait", futex_wait, .flags = KERNEL | WRITE },
	{ "futex_wait_private", futex_wait_private, .flags = KERNEL },
	{ "direct_write", disk_reads_page, use_disk, .flags = KERNEL },
	{ "direct_read", disk_writes_page, use_disk, .flags = KERNEL | WRITE },
	{ "uring_register", register_buffer, use_uring, .flags = KERNEL | WRITE,
	  .outcome = AS_PEER, .refusal = EFAULT },
	{ "uring_read", uring_reads_file, use_uring, .flags = KERNEL, .other_thread = true },
	{ "map_populate", map_populate, .flags = KERNEL },
	{ "populate_read", populate_read, .flags = KERNEL },
	{ "populate_write", populate_write, .flags = KERNEL | WRITE },
	{ "mlock", by_mlock, .flags = KERNEL },
	{ "signal_frame", signal_frame, .flags = KERNEL | WRITE },
	{ "ptrace_peek", by_peek, .outcome = IS_REFUSED, .refusal = EIO },
	{ "proc_mem", by_proc_mem, use_child, .outcome = IS_REFUSED, .refusal = EIO },
};

static long run_row(void *arg)
{
	const void **args = arg;
	const struct access_row *row = args[0];

	return row->run((struct access *)args[1]);
}

/* Whether the access waits for a page of a memfd that userfaultfd is to provide. */
static bool peer_waits(const struct access_row *row)
{
	struct access a = { .ps = page_size(), .fds = { -1, -1 } };
	const void *args[] = { row, &a };
	struct uffd_msg msg;
	struct trap_task task;
	bool waits;
	int uffd = xuffd(UFFD_FEATURE_MISSING_SHMEM);

	a.rig.fd = xmemfd(PAGES * a.ps);
	a.rig.map = xmmap(NULL, PAGES * a.ps, PROT_READ | PROT_WRITE, MAP_SHARED, a.rig.fd, 0);
	a.offset = TRAPPED * a.ps;
	a.page = a.rig.map + a.offset;
	a.buf = xmmap_anon(a.ps);
	xuffd_register(uffd, a.page, a.ps, UFFDIO_REGISTER_MODE_MISSING);
	REQUIRE_OK(fcntl(uffd, F_SETFL, O_NONBLOCK));
	if (row->prepare)
		row->prepare(&a);
	pattern_fill(a.buf, a.ps, a.offset);
	trap_start(&task, run_row, args);
	REQUIRE(wait_for((waits = read(uffd, &msg, sizeof(msg)) == sizeof(msg)) || trap_done(&task, 0), 10));
	if (waits)
		REQUIRE_OK(uffd_copy(uffd, a.page, a.buf, a.ps, 0));
	REQUIRE_EQ(trap_result(&task), waits ? 0 : -1);
	if (!waits)
		REQUIRE_EQ(task.err, row->refusal);
	return waits;
}

TEST_EACH(access_waits, struct access_row, accesses)
{
	struct access a = { .ps = page_size(), .fds = { -1, -1 } };
	const void *args[] = { row, &a };
	struct gmemfd_event event;
	struct trap_task task;
	bool waits;

	a.rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	a.offset = TRAPPED * a.ps;
	a.page = a.rig.map + a.offset;
	a.buf = xmmap_anon(a.ps);
	/* Neighbours are there: fault-around must not bring the trapped one in. */
	REQUIRE_OK(trap_copy(a.rig.fd, 0, a.ps, 0));
	REQUIRE_OK(trap_copy(a.rig.fd, a.ps, a.ps, 0));
	REQUIRE_OK(trap_copy(a.rig.fd, 2 * a.ps, a.ps, 0));
	REQUIRE_OK(trap_copy(a.rig.fd, 4 * a.ps, 4 * a.ps, 0));
	CHECK_EQ(TOUCH_READ(a.rig.map + 4 * a.ps), 0);
	if (row->prepare)
		row->prepare(&a);

	trap_start(&task, run_row, args);
	REQUIRE(wait_for((waits = gmem_event(a.rig.context, &event, 0)) || trap_done(&task, 0), 10));
	if (!waits) {
		CHECK(row->outcome == IS_REFUSED || (row->outcome == AS_PEER && !peer_waits(row)));
		CHECK_EQ(task.ret, -1);
		CHECK_EQ(task.err, row->refusal);
		CHECK_EQ(gmem_has_content(a.rig.fd, a.offset), false);
		CHECK_EQ(xgmem_stats(a.rig.fd).faults_missing, 0);
	} else {
		CHECK(row->outcome == WAITS || (row->outcome == AS_PEER && peer_waits(row)));
		CHECK_EQ(event.offset, a.offset);
		CHECK_EQ(event.flags, row->flags);
		CHECK_EQ(event.cookie, TRAP_COOKIE);
		CHECK((event.tid == (uint32_t)task.tid) != row->other_thread);
		CHECK(!trap_done(&task, 0));
		CHECK(trap_quiet(a.rig.context));
		CHECK_OK(trap_copy(a.rig.fd, a.offset, a.ps, 0));
		if (trap_result(&task))
			tap_diag("%s came to %ld, %s", row->label, task.ret, strerror(task.err));
		CHECK_EQ(task.ret, 0);
		CHECK_EQ(xgmem_stats(a.rig.fd).waiters, 0);
		CHECK_EQ(xgmem_stats(a.rig.fd).events, 1);
	}
	if (a.child) {
		kill(a.child, SIGKILL);
		CHECK(child_wait(a.child, 10) != -1);
	}
}
