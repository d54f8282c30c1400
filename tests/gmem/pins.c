// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmem memory as a buffer of the kernel: io_uring's fixed buffers, vmsplice, O_DIRECT, other processes' access,
 * futexes, and what becomes of a page that is punched while somebody holds it.
 */
#include "gmem.h"
#include "peer.h"
#include "uring.h"

#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGES 16
#define RW (PROT_READ | PROT_WRITE)

struct memory {
	int fd;
	size_t bytes;
	unsigned char *map;
	unsigned char *twin;	/* another mapping of it */
};

static struct memory memory(uint64_t seed)
{
	struct memory m = { .bytes = PAGES * page_size() };

	m.fd = xgmem(m.bytes);
	m.map = xmmap(NULL, m.bytes, RW, MAP_SHARED, m.fd, 0);
	m.twin = xmmap(NULL, m.bytes, RW, MAP_SHARED, m.fd, 0);
	if (seed)
		pattern_fill(m.map, m.bytes, seed);
	return m;
}

static void register_or_skip(struct uring *u, void *buf, size_t len)
{
	int ret = uring_register_buffer(u, buf, len);

	if (ret && errno == EOPNOTSUPP)
		SKIP("io_uring of this kernel refuses buffers in any file's memory");
	REQUIRE_OK(ret);
}

/* One fixed-buffer request: what it returns. */
static int fixed(struct uring *u, int opcode, int fd, void *buf, size_t len, uint64_t offset)
{
	int res = 0;

	uring_submit(u, opcode, fd, buf, len, offset);
	REQUIRE(uring_result(u, &res, 10));
	return res;
}

TEST(uring_fixed_buffer)
{
	size_t ps = page_size();
	struct memory m = memory(1);
	unsigned char *buf = xmmap_anon(m.bytes);
	int file = REQUIRE_FD(memfd_create("file", MFD_CLOEXEC));
	struct uring u;

	uring_init(&u);
	register_or_skip(&u, m.map, m.bytes);
	CHECK_EQ(fixed(&u, IORING_OP_WRITE_FIXED, file, m.map, m.bytes, 0), m.bytes);
	CHECK_EQ(pread(file, buf, m.bytes, 0), m.bytes);
	CHECK(!memcmp(buf, m.twin, m.bytes));
	pattern_fill(buf, m.bytes, 2);
	REQUIRE_EQ(pwrite(file, buf, m.bytes, 0), m.bytes);
	CHECK_EQ(fixed(&u, IORING_OP_READ_FIXED, file, m.map + ps, 5 * ps, ps), 5 * ps);
	CHECK(!memcmp(m.twin + ps, buf + ps, 5 * ps));
	CHECK(memcmp(m.twin + 6 * ps, buf + 6 * ps, ps));
	CHECK_OK(uring_unregister_buffers(&u));
	uring_exit(&u);
	CHECK_OK(gmem_punch(m.fd, 0, m.bytes));
	CHECK(all_bytes_are(m.map, m.bytes, 0));
}

/* Absent pages that nobody watches become zeros when a buffer is made of them. */
TEST(uring_fixed_buffer_of_holes)
{
	struct memory m = memory(0);
	int file = REQUIRE_FD(memfd_create("file", MFD_CLOEXEC));
	unsigned char *buf = xmmap_anon(m.bytes);
	struct uring u;

	uring_init(&u);
	register_or_skip(&u, m.map, m.bytes);
	CHECK_EQ(xgmem_stats(m.fd).allocated, m.bytes);
	pattern_fill(buf, m.bytes, 3);
	REQUIRE_EQ(pwrite(file, buf, m.bytes, 0), m.bytes);
	CHECK_EQ(fixed(&u, IORING_OP_READ_FIXED, file, m.map, m.bytes, 0), m.bytes);
	CHECK(!memcmp(m.twin, buf, m.bytes));
	CHECK_EQ(pread(m.fd, buf, m.bytes, 0), m.bytes);
	CHECK(!memcmp(m.twin, buf, m.bytes));
	uring_exit(&u);
}

/* A hole may be punched: the holder keeps the old page, the file has it no more. */
TEST(punched_while_pinned)
{
	size_t ps = page_size();
	struct memory m = memory(0);
	int file = REQUIRE_FD(memfd_create("file", MFD_CLOEXEC));
	unsigned char *buf = xmmap_anon(m.bytes);
	struct uring u;

	for (size_t i = 0; i < PAGES; i++)
		memset(m.map + i * ps, i + 1, ps);
	uring_init(&u);
	register_or_skip(&u, m.map, m.bytes);
	CHECK_OK(gmem_punch(m.fd, 3 * ps, 2 * ps));
	CHECK(all_bytes_are(m.map + 3 * ps, 2 * ps, 0));
	m.map[3 * ps] = 99;
	CHECK_EQ(fixed(&u, IORING_OP_WRITE_FIXED, file, m.map, m.bytes, 0), m.bytes);
	CHECK_EQ(pread(file, buf, m.bytes, 0), m.bytes);
	for (size_t i = 0; i < PAGES; i++)
		CHECK(all_bytes_are(buf + i * ps, ps, i + 1));
	/* And what is read into it does not come to the file. */
	CHECK_EQ(fixed(&u, IORING_OP_READ_FIXED, file, m.map + 3 * ps, ps, 0), ps);
	CHECK_EQ(m.map[3 * ps], 99);
	CHECK(all_bytes_are(m.map + 3 * ps + 1, ps - 1, 0));
	close(m.fd);
	munmap(m.map, m.bytes);
	munmap(m.twin, m.bytes);
	/* The pins are all that is left of the file. */
	CHECK_EQ(fixed(&u, IORING_OP_WRITE_FIXED, file, m.map + 5 * ps, ps, 0), ps);
	CHECK_EQ(pread(file, buf, ps, 0), ps);
	CHECK(all_bytes_are(buf, ps, 6));
	uring_exit(&u);
}

/* Makes the content of a file one large page, which may take memory that has to be put in order first. */
static void copy_large(int fd, const void *src)
{
	for (int i = 0; ; i++) {
		REQUIRE_OK(gmem_copy(fd, 0, HPAGE_SIZE, src, 0));
		if (xgmem_stats(fd).huge)
			return;
		REQUIRE(i < 5);
		REQUIRE_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HPAGE_SIZE));
		REQUIRE_OK(write_file("/proc/sys/vm/compact_memory", "1"));
	}
}

/* A mapping of a file of one large page, where it can be mapped as one. */
static unsigned char *map_large(int fd)
{
	unsigned char *at = xmmap(NULL, 2 * HPAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	at = (unsigned char *)(((uintptr_t)at + HPAGE_SIZE - 1) & ~(HPAGE_SIZE - 1));
	return xmmap(at, HPAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
}

static long minor_faults(void)
{
	struct rusage usage;

	REQUIRE_OK(getrusage(RUSAGE_SELF, &usage));
	return usage.ru_minflt;
}

/*
 * A process that traps on half of a large page, and touches the other half, needs it split. As long as a device has it
 * that process waits, but those who have it mapped are not disturbed.
 */
TEST(fault_that_has_to_split_what_is_pinned)
{
	size_t ps = page_size();
	int fd = xgmem(HPAGE_SIZE);
	unsigned char *src = xmmap_anon(HPAGE_SIZE), *map;
	struct uring u;
	long before;
	char state;
	pid_t pid;

	pattern_fill(src, HPAGE_SIZE, 6);
	copy_large(fd, src);
	map = map_large(fd);
	uring_init(&u);
	register_or_skip(&u, map + 5 * ps, ps);
	pid = REQUIRE_OK(fork());
	if (!pid) {
		unsigned char *mine = map_large(fd);

		xuffd_register(xuffd_gmem(0), mine + HPAGE_SIZE / 2, HPAGE_SIZE / 2, UFFDIO_REGISTER_MODE_MINOR);
		_exit(mine[3 * ps] != src[3 * ps]);
	}
	REQUIRE(wait_for(task_state(pid) == 'D', 10));
	for (size_t i = 0; i < HPAGE_SIZE; i += ps)
		CHECK_EQ(map[i], src[i]);
	/* Once before it counts: what the loop itself needs of the program may not be mapped yet. */
	before = 0;
	for (int i = -1; i < 30; i++) {
		CHECK_EQ(map[5 * ps], src[5 * ps]);
		sleep_seconds(0.01);
		if (i < 0)
			before = minor_faults();
	}
	CHECK_EQ(minor_faults(), before);
	state = task_state(pid);
	if (!CHECK(state == 'D' || state == 'R'))
		tap_diag("it does not wait: %c", state ?: '-');
	CHECK_OK(uring_unregister_buffers(&u));
	uring_exit(&u);
	CHECK_EQ(child_wait(pid, 10), 0);
}

TEST(vmsplice_shares_the_page)
{
	size_t ps = page_size();
	struct memory m = memory(0);
	struct iovec iov = { m.map + ps, 2 * ps };
	unsigned char *buf = xmmap_anon(2 * ps);
	int pipes[2];

	memset(m.map, 1, 3 * ps);
	REQUIRE_OK(pipe2(pipes, O_CLOEXEC));
	CHECK_EQ(vmsplice(pipes[1], &iov, 1, 0), 2 * ps);
	m.twin[ps] = 7;
	CHECK_OK(gmem_punch(m.fd, 2 * ps, ps));
	CHECK_EQ(read(pipes[0], buf, 2 * ps), 2 * ps);
	CHECK_EQ(buf[0], 7);
	CHECK(all_bytes_are(buf + 1, 2 * ps - 1, 1));
	CHECK(all_bytes_are(m.map + 2 * ps, ps, 0));
}

TEST(direct_io)
{
	size_t ps = page_size();
	struct memory m = memory(0);
	int dev = ram_disk(O_RDWR | O_DIRECT);

	pattern_fill(m.map, m.bytes, 5);
	CHECK_EQ(pwrite(dev, m.map, m.bytes, 0), m.bytes);
	CHECK_OK(gmem_punch(m.fd, 0, m.bytes));
	/* Into absent pages, in another order. */
	CHECK_EQ(pread(dev, m.map + 8 * ps, 8 * ps, 0), 8 * ps);
	CHECK_EQ(pread(dev, m.map, 8 * ps, 8 * ps), 8 * ps);
	CHECK_EQ(xgmem_stats(m.fd).allocated, m.bytes);
	CHECK(pattern_is(m.twin + 8 * ps, 8 * ps, 5));
	CHECK_EQ(pwrite(dev, m.map + 9 * ps, 2 * ps, ps), 2 * ps);
	CHECK_EQ(pread(dev, m.map, m.bytes, 0), m.bytes);
	CHECK(pattern_is(m.twin, m.bytes, 5));
}

/* --- Pins of a driver, by the kernel's own test of them ---------------------------------------------- */

#define GUP_TEST "/sys/kernel/debug/gup_test"

/* As in the kernel's mm/gup_test.h, which is not for user space. */
struct pin_longterm_test {
	uint64_t addr;
	uint64_t size;
	uint32_t flags;
};

#define PIN_WRITE 1
#define PIN_FAST 2
#define PIN_LONGTERM_TEST_START _IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP _IO('g', 8)
#define PIN_LONGTERM_TEST_READ _IOW('g', 9, uint64_t)

static const struct pin_row {
	const char *label;
	uint32_t flags;
} pins[] = {
	{ "read", 0 },
	{ "write", PIN_WRITE },
	{ "fast_read", PIN_FAST },
	{ "fast_write", PIN_FAST | PIN_WRITE },
};

static const struct pin_row *pin_row;

/* All of it, with a page in the middle that is not there yet. */
static void *pin(void *arg)
{
	struct memory *m = arg;
	struct pin_longterm_test args = { .addr = (uintptr_t)m->map, .size = m->bytes, .flags = pin_row->flags };

	return (void *)(long)ioctl(m->fd, PIN_LONGTERM_TEST_START, &args);
}

TEST_EACH(longterm_pin, struct pin_row, pins)
{
	size_t ps = page_size(), missing = PAGES / 2 * ps;
	int context = xgmem_context(), gup = open(GUP_TEST, O_RDWR | O_CLOEXEC);
	unsigned char *model, *buf;
	struct gmemfd_event event;
	struct memory m, pinned;
	uint64_t to;
	pthread_t thread;

	if (gup < 0)
		SKIP("this kernel has no gup_test");
	m = memory(0);
	model = xmmap_anon(m.bytes);
	buf = xmmap_anon(m.bytes);
	pattern_fill(model, m.bytes, 3);
	REQUIRE_OK(gmem_copy(m.fd, 0, missing, model, 0));
	REQUIRE_OK(gmem_copy(m.fd, missing + ps, m.bytes - missing - ps, model + missing + ps, 0));
	REQUIRE_OK(gmem_watch(m.fd, context, 0, m.bytes, GMEMFD_MODE_MISSING, 0, 0));
	pinned = m;
	pinned.fd = gup;
	pin_row = row;
	thread = thread_start(pin, &pinned);
	if (row->flags & PIN_FAST) {
		REQUIRE(gmem_event(context, &event, 10));
		CHECK_EQ(event.offset, missing);
		CHECK_EQ(!!(event.flags & GMEMFD_FAULT_WRITE), !!(row->flags & PIN_WRITE));
		CHECK_OK(gmem_copy(m.fd, missing, ps, model + missing, 0));
		CHECK_EQ((long)thread_join(thread), 0);
	} else {
		/* Under the mmap lock, which it is not to lose: it cannot wait, and gets nothing else either. */
		CHECK_EQ((long)thread_join(thread), -1);
		CHECK(!gmem_has_content(m.fd, missing));
		CHECK_OK(gmem_copy(m.fd, missing, ps, model + missing, 0));
		CHECK_EQ((long)pin(&pinned), 0);
	}
	/* What was pinned is the file's, and stays it. */
	m.twin[missing] ^= 0xff;
	model[missing] ^= 0xff;
	memset(buf, 0, m.bytes);
	to = (uintptr_t)buf;
	CHECK_OK(ioctl(gup, PIN_LONGTERM_TEST_READ, &to));
	CHECK(!memcmp(buf, model, m.bytes));
	/* A page that is punched away is nobody's but the driver's. */
	CHECK_OK(gmem_punch(m.fd, 0, m.bytes));
	CHECK_OK(ioctl(gup, PIN_LONGTERM_TEST_READ, &to));
	CHECK(!memcmp(buf, model, m.bytes));
	CHECK_OK(ioctl(gup, PIN_LONGTERM_TEST_STOP));
	CHECK_EQ(xgmem_stats(m.fd).allocated, 0);
	REQUIRE_OK(close(gup));
}

/* And a large folio is not split meanwhile. */
TEST(longterm_pin_of_a_large_folio)
{
	struct pin_longterm_test args = { .size = page_size(), .flags = PIN_WRITE };
	int fd = xgmem(HPAGE_SIZE), gup = open(GUP_TEST, O_RDWR | O_CLOEXEC);
	unsigned char *map = xmmap(NULL, HPAGE_SIZE, RW, MAP_SHARED, fd, 0);

	if (gup < 0)
		SKIP("this kernel has no gup_test");
	REQUIRE_OK(gmem_zero(fd, 0, HPAGE_SIZE, 0));
	REQUIRE_EQ(xgmem_stats(fd).huge, 1);
	args.addr = (uintptr_t)map + 9 * page_size();
	REQUIRE_OK(ioctl(gup, PIN_LONGTERM_TEST_START, &args));
	CHECK_ERRNO(gmem_punch(fd, 0, page_size()), EBUSY);
	REQUIRE_OK(ioctl(gup, PIN_LONGTERM_TEST_STOP));
	CHECK_OK(gmem_punch(fd, 0, page_size()));
	REQUIRE_OK(close(gup));
}

/* Runs fn(m) in a child until it is killed; returns it stopped at nothing. */
static pid_t child_with(struct memory *m)
{
	pid_t pid = REQUIRE_OK(fork());

	if (!pid)
		for (;;)
			pause();
	return pid;
}

static void end_child(pid_t pid)
{
	REQUIRE_OK(kill(pid, SIGKILL));
	CHECK_EQ(WTERMSIG(child_wait(pid, 10)), SIGKILL);
}

TEST(process_vm)
{
	size_t ps = page_size();
	struct memory m = memory(0);
	unsigned char *buf = xmmap_anon(4 * ps);
	pid_t pid = child_with(&m);
	struct iovec local = { buf, 4 * ps }, remote = { m.map + 2 * ps + 5, 4 * ps };

	pattern_fill(buf, 4 * ps, 8);
	CHECK_EQ(process_vm_writev(pid, &local, 1, &remote, 1, 0), 4 * ps);
	CHECK(pattern_is(m.twin + 2 * ps + 5, 4 * ps, 8));
	memset(buf, 0, 4 * ps);
	CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), 4 * ps);
	CHECK(pattern_is(buf, 4 * ps, 8));
	CHECK_EQ(xgmem_stats(m.fd).allocated, 5 * ps);
	end_child(pid);
}

TEST(ptrace_access)
{
	size_t ps = page_size();
	struct memory m = memory(0);
	pid_t pid = child_with(&m);
	int status;

	*(long *)(m.map + ps) = 0x1234567890;
	REQUIRE_OK(ptrace(PTRACE_ATTACH, pid, NULL, NULL));
	REQUIRE_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, m.map + ps, NULL), 0x1234567890);
	CHECK_OK(ptrace(PTRACE_POKEDATA, pid, m.map + 3 * ps, (void *)0x77));
	CHECK_EQ(*(long *)(m.twin + 3 * ps), 0x77);
	errno = 0;
	CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, m.map + 5 * ps, NULL), 0);
	CHECK_EQ(errno, 0);
	CHECK_OK(ptrace(PTRACE_DETACH, pid, NULL, NULL));
	end_child(pid);
}

static long futex(uint32_t *word, int op, uint32_t val)
{
	struct timespec timeout = { .tv_sec = 20 };

	return syscall(SYS_futex, word, op, val, op == FUTEX_WAIT ? &timeout : NULL, NULL, 0);
}

/* Waited for through one mapping in one process, woken through another in another. */
TEST(futex_between_processes)
{
	struct memory m = memory(0);
	uint32_t *word = (uint32_t *)(m.map + page_size() + 64), *twin = (uint32_t *)(m.twin + page_size() + 64);
	pid_t pid = REQUIRE_OK(fork());

	if (!pid) {
		while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0)
			if (futex(word, FUTEX_WAIT, 0) && errno != EAGAIN && errno != EINTR)
				_exit(1);
		_exit(__atomic_load_n(word, __ATOMIC_ACQUIRE) != 5);
	}
	/* It waits when somebody can be woken. */
	REQUIRE(wait_for(task_state(pid) == 'S', 10));
	__atomic_store_n(twin, 5, __ATOMIC_RELEASE);
	CHECK(wait_for(futex(twin, FUTEX_WAKE, 1) == 1 || task_state(pid) == 'Z', 10));
	CHECK_EQ(child_wait(pid, 10), 0);
}

/* A private futex key is the address, a shared one the page: both find their waiter after the page was given anew. */
TEST(futex_after_punch)
{
	struct memory m = memory(0);
	uint32_t *word = (uint32_t *)m.map;

	CHECK_ERRNO(futex(word, FUTEX_WAIT, 1), EAGAIN);
	CHECK_EQ(futex(word, FUTEX_WAKE, 1), 0);
	CHECK_OK(gmem_punch(m.fd, 0, m.bytes));
	CHECK_ERRNO(futex(word, FUTEX_WAIT, 1), EAGAIN);
	CHECK_EQ(futex(word, FUTEX_WAKE_PRIVATE, 1), 0);
	CHECK_EQ(xgmem_stats(m.fd).allocated, page_size());
}
