// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings of a gmem file that nobody watches: shared and of any part, from several places and processes, past the end,
 * with what mprotect, mremap, madvise and mlock do to them. Private mappings are gmem/clone.c's.
 */
#include "gmem.h"

#define PAGES 32
#define RW (PROT_READ | PROT_WRITE)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static int filled(size_t pages)
{
	size_t ps = page_size();
	int fd = xgmem(pages * ps);
	unsigned char *buf = xmmap_anon(ps);

	for (size_t i = 0; i < pages; i++) {
		pattern_fill(buf, ps, i);
		REQUIRE_OK(gmem_copy(fd, i * ps, ps, buf, 0));
	}
	munmap(buf, ps);
	return fd;
}

static bool is_filled(const unsigned char *map, size_t first, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		if (!pattern_is(map + i * page_size(), page_size(), first + i))
			return false;
	return true;
}

TEST(any_offset_and_length)
{
	size_t ps = page_size();
	int fd = filled(PAGES);

	for (size_t first = 0; first < PAGES; first += 5)
		for (size_t n = 1; first + n <= PAGES; n += 7) {
			unsigned char *map = xmmap(NULL, n * ps, PROT_READ, MAP_SHARED, fd, first * ps);

			CHECK(is_filled(map, first, n));
			munmap(map, n * ps);
		}
	CHECK_ERRNO(mmap(NULL, ps, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED ? -1 : 0, EINVAL);
}

TEST(several_mappings_are_one_memory)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	unsigned char *a = xmmap(NULL, PAGES * ps, RW, MAP_SHARED, fd, 0);
	unsigned char *b = xmmap(NULL, 4 * ps, RW, MAP_SHARED, fd, 8 * ps);
	unsigned char *c = xmmap(NULL, PAGES * ps, PROT_READ, MAP_SHARED, fd, 0);

	pattern_fill(a + 9 * ps, ps, 3);
	CHECK(pattern_is(b + ps, ps, 3));
	CHECK(pattern_is(c + 9 * ps, ps, 3));
	b[ps] ^= 0xff;
	CHECK_EQ(a[9 * ps], b[ps]);
	CHECK_EQ(c[9 * ps], b[ps]);
	CHECK_EQ(xgmem_stats(fd).allocated, ps);
	CHECK_EQ(xgmem_stats(fd).faults_zero, 1);
	REQUIRE_OK(munmap(a, PAGES * ps));
	close(fd);
	CHECK_EQ(c[9 * ps], b[ps]);
}

TEST(several_processes)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	unsigned char *map = xmmap(NULL, PAGES * ps, RW, MAP_SHARED, fd, 0);
	pid_t pids[4];

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = REQUIRE_OK(fork());
		if (!pids[i]) {
			/* Half through the inherited mapping, half through a new one. */
			unsigned char *own = xmmap(NULL, PAGES * ps, RW, MAP_SHARED, fd, 0);

			pattern_fill(map + 2 * i * ps, ps, 2 * i);
			pattern_fill(own + (2 * i + 1) * ps, ps, 2 * i + 1);
			_exit(0);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		CHECK_EQ(child_wait(pids[i], 10), 0);
	CHECK(is_filled(map, 0, 2 * ARRAY_SIZE(pids)));
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * ARRAY_SIZE(pids) * ps);
}

TEST(past_the_end)
{
	size_t ps = page_size();
	int fd = xgmem(2 * ps);
	unsigned char *map = xmmap(NULL, 4 * ps, RW, MAP_SHARED, fd, 0);
	unsigned char *far = xmmap(NULL, ps, RW, MAP_SHARED, fd, 1ull << 40);

	CHECK_EQ(TOUCH_READ(map + 2 * ps - 1), 0);
	CHECK_EQ(TOUCH_READ(map + 2 * ps), SIGBUS);
	CHECK_EQ(touch_last.code, BUS_ADRERR);
	CHECK_EQ(TOUCH_WRITE(map + 3 * ps, 1), SIGBUS);
	CHECK_EQ(TOUCH_READ(far), SIGBUS);
	CHECK_ERRNO(write(xgmem(ps), map + 2 * ps, ps), EFAULT);
	CHECK_EQ(xgmem_stats(fd).faults_sigbus >= 3, 1);
	CHECK_EQ(xgmem_stats(fd).allocated, ps);
}

/* Guest memory is no program. */
TEST(not_executable)
{
	size_t ps = page_size();
	int fd = xgmem(ps);
	void *map = xmmap(NULL, ps, RW, MAP_SHARED, fd, 0);

	CHECK_ERRNO(mmap(NULL, ps, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, EPERM);
	CHECK_ERRNO(mmap(NULL, ps, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0, EPERM);
	CHECK_ERRNO(mprotect(map, ps, PROT_READ | PROT_EXEC), EACCES);
}

TEST(read_only_descriptor)
{
	size_t ps = page_size();
	int fd = filled(2), ro;
	unsigned char *map;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC));
	CHECK_ERRNO(mmap(NULL, ps, RW, MAP_SHARED, ro, 0) == MAP_FAILED ? -1 : 0, EACCES);
	map = xmmap(NULL, 2 * ps, PROT_READ, MAP_SHARED, ro, 0);
	CHECK(is_filled(map, 0, 2));
	CHECK_ERRNO(mprotect(map, 2 * ps, RW), EACCES);
	CHECK_EQ(TOUCH_WRITE(map, 1), SIGSEGV);
	CHECK_ERRNO(madvise(map, ps, MADV_REMOVE), EACCES);
	/* What is written to a private mapping stays there. */
	map = xmmap(NULL, 2 * ps, RW, MAP_PRIVATE, ro, 0);
	map[0] ^= 0xff;
	CHECK(pattern_is(map + ps, ps, 1));
	map = xmmap(NULL, 2 * ps, PROT_READ, MAP_SHARED, ro, 0);
	CHECK(is_filled(map, 0, 2));
}

TEST(protection)
{
	size_t ps = page_size();
	int fd = filled(4);
	unsigned char *map = xmmap(NULL, 4 * ps, RW, MAP_SHARED, fd, 0);

	CHECK(is_filled(map, 0, 4));
	REQUIRE_OK(mprotect(map + ps, ps, PROT_READ));
	CHECK_EQ(TOUCH_WRITE(map + ps, 1), SIGSEGV);
	CHECK(is_filled(map, 0, 4));
	REQUIRE_OK(mprotect(map + ps, ps, PROT_NONE));
	CHECK_EQ(TOUCH_READ(map + ps), SIGSEGV);
	REQUIRE_OK(mprotect(map, 4 * ps, RW));
	CHECK(is_filled(map, 0, 4));
	CHECK_EQ(TOUCH_WRITE(map + ps, map[ps]), 0);
}

TEST(moved_and_resized)
{
	size_t ps = page_size();
	int fd = filled(8);
	unsigned char *map = xmmap(NULL, 4 * ps, RW, MAP_SHARED, fd, 0), *to, *twin;

	CHECK(is_filled(map, 0, 2));
	to = xmmap_anon(16 * ps);
	to = mremap(map, 4 * ps, 8 * ps, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	REQUIRE(to != MAP_FAILED);
	CHECK(is_filled(to, 0, 8));
	CHECK_EQ(TOUCH_READ(map), SIGSEGV);
	twin = mremap(to, 0, 4 * ps, MREMAP_MAYMOVE);
	REQUIRE(twin != MAP_FAILED);
	CHECK(is_filled(twin, 0, 4));
	pattern_fill(twin, ps, 77);
	CHECK(pattern_is(to, ps, 77));
	to = mremap(to, 8 * ps, 2 * ps, 0);
	REQUIRE(to != MAP_FAILED);
	CHECK_EQ(TOUCH_READ(to + ps), 0);
	CHECK_EQ(xgmem_stats(fd).allocated, 8 * ps);
	/* A mapping that grows beyond the file has nothing there. */
	to = mremap(to, 2 * ps, 10 * ps, MREMAP_MAYMOVE);
	REQUIRE(to != MAP_FAILED);
	CHECK_EQ(TOUCH_READ(to + 8 * ps), SIGBUS);
	CHECK(is_filled(to + 7 * ps, 7, 1));
}

/* Advice that may drop pages of other memory: content stays. */
static const struct advice {
	const char *label;
	int advice;
} kinds_of_advice[] = {
	{ "dontneed", MADV_DONTNEED }, { "cold", MADV_COLD }, { "pageout", MADV_PAGEOUT }, { "random", MADV_RANDOM },
	{ "willneed", MADV_WILLNEED }, { "hugepage", MADV_HUGEPAGE }, { "nohugepage", MADV_NOHUGEPAGE },
	{ "mergeable", MADV_MERGEABLE }, { "free", MADV_FREE }, { "collapse", 25 },
};

TEST_EACH(advice, struct advice, kinds_of_advice)
{
	size_t ps = page_size(), pages = 128;
	int fd = filled(pages);
	unsigned char *map = xmmap(NULL, pages * ps, RW, MAP_SHARED, fd, 0);
	int ret;

	CHECK(is_filled(map, 0, pages));
	ret = madvise(map, pages * ps, row->advice);
	/* What the kernel has not got, or refuses for files, it refuses. */
	CHECK(!ret || errno == EINVAL || errno == EAGAIN || errno == EBUSY || errno == ENOMEM);
	if (row->advice == MADV_FREE)
		CHECK(ret);
	if (row->advice == MADV_DONTNEED || row->advice == MADV_COLD || row->advice == MADV_PAGEOUT)
		CHECK(!ret);
	CHECK(is_filled(map, 0, pages));
	CHECK_EQ(xgmem_stats(fd).allocated, pages * ps);
	CHECK_EQ(xgmem_stats(fd).faults_zero, 0);
}

TEST(advice_remove_punches)
{
	size_t ps = page_size();
	int fd = filled(8);
	unsigned char *map = xmmap(NULL, 8 * ps, RW, MAP_SHARED, fd, 0);

	CHECK(is_filled(map, 0, 8));
	CHECK_OK(madvise(map + 2 * ps, 3 * ps, MADV_REMOVE));
	CHECK_EQ(xgmem_stats(fd).punched, 3 * ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 5 * ps);
	CHECK_EQ(lseek(fd, 0, SEEK_HOLE), (off_t)(2 * ps));
	CHECK(all_bytes_are(map + 2 * ps, 3 * ps, 0));
	CHECK(is_filled(map, 0, 2));
	CHECK(is_filled(map + 5 * ps, 5, 3));
}

TEST(populate)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	unsigned char *map = xmmap(NULL, PAGES * ps, RW, MAP_SHARED, fd, 0), in_core[PAGES];
	size_t n = 0;

	CHECK_OK(madvise(map, 4 * ps, MADV_POPULATE_READ));
	CHECK_EQ(xgmem_stats(fd).allocated, 4 * ps);
	CHECK_OK(madvise(map + 4 * ps, 4 * ps, MADV_POPULATE_WRITE));
	CHECK_EQ(xgmem_stats(fd).allocated, 8 * ps);
	xmmap(NULL, 4 * ps, RW, MAP_SHARED | MAP_POPULATE, fd, 8 * ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 12 * ps);
	CHECK_OK(mlock(map + 12 * ps, 4 * ps));
	CHECK_EQ(xgmem_stats(fd).allocated, 16 * ps);
	CHECK_EQ(xgmem_stats(fd).faults_zero, 16);
	REQUIRE_OK(mincore(map, PAGES * ps, in_core));
	for (size_t i = 0; i < PAGES; i++)
		n += in_core[i] & 1;
	CHECK_EQ(n, 16);
	CHECK(all_bytes_are(map, 16 * ps, 0));
	CHECK_OK(munlock(map + 12 * ps, 4 * ps));
	/* Locked pages can be punched like any. */
	CHECK_OK(mlock(map, 4 * ps));
	CHECK_OK(gmem_punch(fd, 0, 4 * ps));
	CHECK_EQ(xgmem_stats(fd).allocated, 12 * ps);
	map = xmmap(NULL, 2 * ps, RW, MAP_SHARED, fd, (PAGES - 1) * ps);
	CHECK_ERRNO(madvise(map, 2 * ps, MADV_POPULATE_READ), EFAULT);
}

TEST(fork_keeps_mappings)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps);
	unsigned char *map = xmmap(NULL, 4 * ps, RW, MAP_SHARED, fd, 0);
	pid_t pid;

	map[0] = 1;
	pid = REQUIRE_OK(fork());
	if (!pid) {
		bool ok = map[0] == 1;

		map[0] = 2;
		map[ps] = 3;
		_exit(!ok);
	}
	CHECK_EQ(child_wait(pid, 10), 0);
	CHECK_EQ(map[0], 2);
	CHECK_EQ(map[ps], 3);
	REQUIRE_OK(madvise(map, 4 * ps, MADV_DONTFORK));
	pid = REQUIRE_OK(fork());
	if (!pid)
		_exit(TOUCH_READ(map) != SIGSEGV);
	CHECK_EQ(child_wait(pid, 10), 0);
}
