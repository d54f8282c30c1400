// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of 2 MiB: that they are mapped as such, that a part of one can be punched away, or not while somebody uses it,
 * and that a huge file knows nothing smaller.
 */
#include "trap.h"
#include "uring.h"

#include <sys/uio.h>

#define RW (PROT_READ | PROT_WRITE)

/* KiB that the mapping which holds this address maps by PMDs of a file. */
static long long pmd_mapped(const void *address)
{
	char *text = read_file("/proc/self/smaps"), *line, *save;
	long long n, sum = -1;

	REQUIRE(text);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			if (sum >= 0)
				break;
			if (start <= (unsigned long)address && (unsigned long)address < end)
				sum = 0;
		} else if (sum >= 0 && (sscanf(line, "FilePmdMapped: %lld", &n) == 1 ||
					sscanf(line, "ShmemPmdMapped: %lld", &n) == 1)) {
			sum += n;
		}
	}
	free(text);
	return sum;
}

struct file {
	int fd;
	size_t bytes;
	unsigned char *map;
	unsigned char *model;
};

static struct file file(bool huge, size_t granules)
{
	struct file f = { .bytes = granules * HPAGE_SIZE };

	f.fd = huge ? xgmem_huge(f.bytes) : xgmem(f.bytes);
	f.model = xmmap_anon(f.bytes);
	pattern_fill(f.model, f.bytes, 1);
	REQUIRE_OK(gmem_copy(f.fd, 0, f.bytes, f.model, 0));
	REQUIRE_EQ(xgmem_stats(f.fd).huge, granules);
	f.map = xmmap(NULL, f.bytes, RW, MAP_SHARED, f.fd, 0);
	CHECK_EQ((uintptr_t)f.map % HPAGE_SIZE, 0);
	return f;
}

static bool same(const struct file *f)
{
	unsigned char *buf = xmmap_anon(f->bytes);
	bool ok = pread(f->fd, buf, f->bytes, 0) == (ssize_t)f->bytes && !memcmp(buf, f->model, f->bytes) &&
		  !memcmp(f->map, f->model, f->bytes);

	munmap(buf, f->bytes);
	return ok;
}

static const struct kind {
	const char *label;
	bool huge;
} kinds[] = { { "ordinary file", false }, { "huge file", true } };

TEST_EACH(mapped_by_pmd, struct kind, kinds)
{
	struct file f = file(row->huge, 2);
	unsigned char *off = xmmap(NULL, HPAGE_SIZE, PROT_READ, MAP_SHARED, f.fd, page_size());

	CHECK_EQ(TOUCH_READ(f.map + 5), 0);
	CHECK_EQ(pmd_mapped(f.map), 2048);
	CHECK_EQ(TOUCH_WRITE(f.map + HPAGE_SIZE, f.map[HPAGE_SIZE]), 0);
	CHECK_EQ(pmd_mapped(f.map), 4096);
	CHECK(same(&f));
	/* A mapping that lies askew has the same content by small entries. */
	CHECK(!memcmp(off, f.model + page_size(), HPAGE_SIZE));
	CHECK_EQ(pmd_mapped(off), 0);
	CHECK_OK(madvise(f.map, f.bytes, MADV_DONTNEED));
	CHECK(same(&f));
	CHECK_OK(munmap(f.map + HPAGE_SIZE / 2, page_size()));
	CHECK(!memcmp(f.map, f.model, HPAGE_SIZE / 2));
}

TEST(first_touch_of_a_huge_file)
{
	int fd = xgmem_huge(2 * HPAGE_SIZE);
	unsigned char *map = xmmap(NULL, 2 * HPAGE_SIZE, RW, MAP_SHARED, fd, 0);

	map[HPAGE_SIZE + 12345] = 1;
	CHECK_EQ(xgmem_stats(fd).allocated, HPAGE_SIZE);
	CHECK_EQ(xgmem_stats(fd).faults_zero, 1);
	CHECK_EQ(xgmem_stats(fd).huge, 1);
	CHECK_EQ(pmd_mapped(map), 2048);
	CHECK_EQ(lseek(fd, HPAGE_SIZE + 1, SEEK_HOLE), 2 * (off_t)HPAGE_SIZE);
	CHECK(all_bytes_are(map + HPAGE_SIZE, 12345, 0));
}

TEST(event_of_a_huge_file)
{
	struct trap_rig rig = trap_rig(3, GMEMFD_MODE_MISSING, GMEMFD_CREATE_HUGE);
	unsigned char *buf = xmmap_anon(HPAGE_SIZE);
	struct gmemfd_event event;
	struct trap_task task, twin;

	trap_read(&task, rig.map + HPAGE_SIZE + 1234567);
	event = trap_event(rig.context);
	CHECK_EQ(event.offset, HPAGE_SIZE);
	CHECK_EQ(event.len, HPAGE_SIZE);
	/* Another place in it is the same fault. */
	trap_read(&twin, rig.map + HPAGE_SIZE);
	REQUIRE(wait_for(xgmem_stats(rig.fd).waiters == 2, 10));
	CHECK(trap_quiet(rig.context));
	pattern_fill(buf, HPAGE_SIZE, 4);
	CHECK_OK(gmem_copy(rig.fd, event.offset, event.len, buf, 0));
	CHECK_EQ(trap_result(&task), buf[1234567]);
	CHECK_EQ(trap_result(&twin), buf[0]);
	CHECK_EQ(xgmem_stats(rig.fd).allocated, HPAGE_SIZE);
}

/* In pages of a folio of 512, the second of three. */
static const struct hole {
	const char *label;
	size_t first, pages;
	size_t split;	/* folios that are cut */
} holes[] = {
	{ "one page", 512 + 100, 1, 1 }, { "first page", 512, 1, 1 }, { "last page", 1023, 1, 1 },
	{ "all but the first", 513, 511, 1 }, { "all but the last", 512, 511, 1 }, { "over a boundary", 500, 24, 2 },
	{ "one and parts of two", 400, 700, 2 }, { "exactly one", 512, 512, 0 }, { "middle half", 640, 256, 1 },
};

TEST_EACH(punched_within, struct hole, holes)
{
	size_t ps = page_size(), at = row->first * ps, len = row->pages * ps;
	struct file f = file(false, 3);

	CHECK(same(&f));
	CHECK_EQ(pmd_mapped(f.map), 3 * 2048);
	memset(f.model + at, 0, len);
	CHECK_OK(gmem_punch(f.fd, at, len));
	CHECK_EQ(xgmem_stats(f.fd).allocated, f.bytes - len);
	CHECK_EQ(xgmem_stats(f.fd).punched, len);
	CHECK_EQ(lseek(f.fd, 0, SEEK_HOLE), (off_t)at);
	CHECK_EQ(lseek(f.fd, at, SEEK_DATA), (off_t)(at + len));
	CHECK_EQ(lseek(f.fd, at + len, SEEK_HOLE), (off_t)f.bytes);
	CHECK(same(&f));
	CHECK_EQ(xgmem_stats(f.fd).faults_zero, row->pages);
	/* What was written through the mapping after the split is there for all. */
	f.map[at - 1] ^= 0xff;
	f.model[at - 1] ^= 0xff;
	CHECK(same(&f));
}

/* Unaligned: the edges are zeroed in place, a hole of less than a page splits nothing. */
TEST(punched_within_a_page)
{
	struct file f = file(false, 1);

	CHECK(same(&f));
	memset(f.model + 10000, 0, 100);
	CHECK_OK(gmem_punch(f.fd, 10000, 100));
	CHECK(same(&f));
	CHECK_EQ(pmd_mapped(f.map), 2048);
	memset(f.model + 10000, 0, 10000);
	CHECK_OK(gmem_punch(f.fd, 10000, 10000));
	CHECK_EQ(xgmem_stats(f.fd).punched, 4096);
	CHECK(same(&f));
}

static void check_busy(struct file *f)
{
	size_t ps = page_size();
	struct gmemfd_stats before = xgmem_stats(f->fd), after;

	CHECK_ERRNO(gmem_punch(f->fd, 7 * ps, ps), EBUSY);
	CHECK_ERRNO(gmem_punch(f->fd, 10, HPAGE_SIZE - 20), EBUSY);
	after = xgmem_stats(f->fd);
	CHECK(!memcmp(&before, &after, sizeof(before)));
	CHECK(same(f));
	CHECK_EQ(lseek(f->fd, 0, SEEK_HOLE), (off_t)f->bytes);
}

/* Somebody holds one page of it. */
TEST(busy_while_in_a_pipe)
{
	size_t ps = page_size();
	struct file f = file(false, 2);
	struct iovec iov = { f.map + 9 * ps, ps };
	unsigned char *buf = xmmap_anon(ps);
	int pipes[2];

	REQUIRE_OK(pipe2(pipes, O_CLOEXEC));
	REQUIRE_EQ(vmsplice(pipes[1], &iov, 1, 0), ps);
	check_busy(&f);
	/* The holder and the file still share the page. */
	f.map[9 * ps] ^= 0xff;
	f.model[9 * ps] ^= 0xff;
	/* The neighbour is not concerned. */
	CHECK_OK(gmem_punch(f.fd, HPAGE_SIZE + ps, ps));
	memset(f.model + HPAGE_SIZE + ps, 0, ps);
	CHECK_EQ(read(pipes[0], buf, ps), ps);
	CHECK(!memcmp(buf, f.model + 9 * ps, ps));
	CHECK_OK(gmem_punch(f.fd, 7 * ps, ps));
	memset(f.model + 7 * ps, 0, ps);
	CHECK(same(&f));
}

/* All of it can go at any time. */
TEST(punched_as_a_whole_while_in_a_pipe)
{
	size_t ps = page_size();
	struct file f = file(false, 1);
	struct iovec iov = { f.map + 9 * ps, ps };
	unsigned char *buf = xmmap_anon(ps);
	int pipes[2];

	REQUIRE_OK(pipe2(pipes, O_CLOEXEC));
	REQUIRE_EQ(vmsplice(pipes[1], &iov, 1, 0), ps);
	CHECK_OK(gmem_punch(f.fd, 0, HPAGE_SIZE));
	CHECK_EQ(xgmem_stats(f.fd).allocated, 0);
	CHECK(all_bytes_are(f.map, 2 * ps, 0));
	CHECK_EQ(read(pipes[0], buf, ps), ps);
	CHECK(!memcmp(buf, f.model + 9 * ps, ps));
}

TEST(busy_while_a_fixed_buffer)
{
	size_t ps = page_size();
	struct file f = file(false, 1);
	int other = REQUIRE_FD(memfd_create("other", MFD_CLOEXEC)), res = 0;
	struct uring u;

	uring_init(&u);
	if (uring_register_buffer(&u, f.map + 64 * ps, 4 * ps)) {
		REQUIRE_EQ(errno, EOPNOTSUPP);
		SKIP("io_uring of this kernel refuses buffers in any file's memory");
	}
	check_busy(&f);
	REQUIRE_EQ(write(other, f.model, ps), ps);
	uring_submit(&u, IORING_OP_READ_FIXED, other, f.map + 65 * ps, ps, 0);
	REQUIRE(uring_result(&u, &res, 10));
	CHECK_EQ(res, ps);
	memcpy(f.model + 65 * ps, f.model, ps);
	CHECK(same(&f));
	REQUIRE_OK(uring_unregister_buffers(&u));
	uring_exit(&u);
	/* The kernel lets go of the pages in its own time. */
	CHECK(wait_for(!gmem_punch(f.fd, 7 * ps, ps), 10));
	memset(f.model + 7 * ps, 0, ps);
	CHECK(same(&f));
}

static bool stop_touching;
static unsigned int touched;	/* rounds */

static void *toucher(void *arg)
{
	struct file *f = arg;
	size_t ps = page_size();
	unsigned long bad = 0;

	for (; !__atomic_load_n(&stop_touching, __ATOMIC_RELAXED); __atomic_add_fetch(&touched, 1, __ATOMIC_RELEASE))
		for (size_t page = 0; page < 512; page += 37)
			bad += *(volatile uint64_t *)(f->map + page * ps) != *(uint64_t *)(f->model + page * ps);
	return (void *)bad;
}

/* Readers all the while: they see the right content, split or not. */
TEST(split_under_readers)
{
	size_t ps = page_size();
	struct file f = file(false, 1);
	unsigned int busy = 0, before;
	pthread_t thread;

	CHECK(same(&f));
	thread = thread_start(toucher, &f);
	for (size_t page = 100; page < 110; page++) {
		before = __atomic_load_n(&touched, __ATOMIC_ACQUIRE);
		/* All of a round before each hole, and after the last. */
		REQUIRE(wait_for(__atomic_load_n(&touched, __ATOMIC_ACQUIRE) > before + 1, 10));
		CHECK_OK(gmem_punch_soon(f.fd, page * ps, ps, &busy));
		memset(f.model + page * ps, 0, ps);
	}
	before = __atomic_load_n(&touched, __ATOMIC_ACQUIRE);
	REQUIRE(wait_for(__atomic_load_n(&touched, __ATOMIC_ACQUIRE) > before + 1, 10));
	__atomic_store_n(&stop_touching, true, __ATOMIC_RELAXED);
	CHECK_EQ((unsigned long)thread_join(thread), 0);
	CHECK(same(&f));
}
