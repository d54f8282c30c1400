// SPDX-License-Identifier: GPL-2.0-only
/*
 * The range operations on files with a granule of 2 MiB: ranges are whole granules, and a granule is provided as a
 * whole or not at all.
 */
#include "gmem.h"

#include <sys/stat.h>

#define G HPAGE_SIZE

static unsigned char *map_all(int fd, size_t granules)
{
	return xmmap(NULL, granules * G, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

TEST(parts_of_granules_are_refused)
{
	size_t ps = page_size();
	int fd = xgmem_huge(2 * G), file = REQUIRE_FD(open("/tmp/granule", O_RDWR | O_CREAT, 0600));
	int context = xgmem_context();
	unsigned char *src = xmmap_anon(G);
	static const struct { uint64_t at, len; } bad[] = {
		{ 0, 4096 }, { 4096, HPAGE_SIZE }, { 0, HPAGE_SIZE + 4096 }, { HPAGE_SIZE / 2, HPAGE_SIZE },
		{ HPAGE_SIZE, 2 * HPAGE_SIZE }, { 0, 0 }, { 2 * HPAGE_SIZE, HPAGE_SIZE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK_REFUSED(gmem_copy(fd, bad[i].at, bad[i].len, src, 0), EINVAL);
		CHECK_REFUSED(gmem_zero(fd, bad[i].at, bad[i].len, 0), EINVAL);
		CHECK_REFUSED(gmem_fill(fd, bad[i].at, bad[i].len, file, 0, 0), EINVAL);
		CHECK_REFUSED(gmem_poison(fd, bad[i].at, bad[i].len, 0), EINVAL);
		CHECK_REFUSED(gmem_continue(fd, bad[i].at, bad[i].len, 0), EINVAL);
		CHECK_REFUSED(gmem_wake(fd, bad[i].at, bad[i].len), EINVAL);
		CHECK_REFUSED(gmem_unwatch(fd, bad[i].at, bad[i].len), EINVAL);
		CHECK_ERRNO(gmem_watch(fd, context, bad[i].at, bad[i].len, GMEMFD_MODE_ALL, 0, 0), EINVAL);
	}
	CHECK_ERRNO(pwrite(fd, src, ps, 0), EINVAL);
	CHECK_ERRNO(pwrite(fd, src, G, ps), EINVAL);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK_EQ(xgmem_stats(fd).watches, 0);
}

static const struct way_row {
	const char *label;
	char way;
} ways[] = {
	{ "copy", 'c' }, { "zero", 'z' }, { "fill", 'f' }, { "write", 'w' }, { "touch", 't' }, { "fallocate", 'a' },
};

TEST_EACH(provides_a_granule, struct way_row, ways)
{
	int fd = xgmem_huge(4 * G), file = REQUIRE_FD(open("/tmp/granule", O_RDWR | O_CREAT | O_TRUNC, 0600));
	unsigned char *src = xmmap_anon(G + 8), *map = map_all(fd, 4);
	struct gmemfd_stats stats;
	bool zeros = false;

	pattern_fill(src + 3, G, 1);
	switch (row->way) {
	case 'c':
		CHECK_DONE(gmem_copy(fd, G, G, src + 3, 0), G);
		break;
	case 'f':
		REQUIRE_EQ(pwrite(file, src + 3, G, 5), G);
		CHECK_DONE(gmem_fill(fd, G, G, file, 5, 0), G);
		break;
	case 'w':
		CHECK_EQ(pwrite(fd, src + 3, G, G), G);
		break;
	case 'z':
		CHECK_DONE(gmem_zero(fd, G, G, 0), G);
		zeros = true;
		break;
	case 't':
		CHECK_EQ(TOUCH_READ(map + G + 12345), 0);
		zeros = true;
		break;
	case 'a':
		CHECK_OK(fallocate(fd, 0, G + 12345, 1));
		zeros = true;
		break;
	}
	stats = xgmem_stats(fd);
	CHECK_EQ(stats.allocated, G);
	CHECK_EQ(stats.huge, 1);
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), G);
	CHECK_EQ(lseek(fd, G, SEEK_HOLE), 2 * G);
	CHECK(zeros ? all_bytes_are(map + G, G, 0) : pattern_is(map + G, G, 1));
	CHECK_REFUSED(gmem_zero(fd, G, G, 0), EEXIST);
	CHECK_PARTLY(gmem_zero(fd, 0, 4 * G, 0), G);
}

TEST(whole_or_nothing)
{
	int fd = xgmem_huge(4 * G), file = REQUIRE_FD(open("/tmp/granule", O_RDWR | O_CREAT | O_TRUNC, 0600));
	int bad = xgmem(4 * G);
	unsigned char *src = xmmap_anon(3 * G), *map = map_all(fd, 4);

	pattern_fill(src, 3 * G, 2);
	/* The source breaks off in the second granule: at its last page. */
	REQUIRE_EQ(pwrite(file, src, 2 * G - 1, 0), 2 * G - 1);
	REQUIRE_OK(gmem_copy(bad, 0, G, src, 0));
	REQUIRE_OK(gmem_poison(bad, 2 * G - page_size(), page_size(), 0));
	REQUIRE_OK(munmap(src + 2 * G - page_size(), page_size()));

	CHECK_PARTLY(gmem_copy(fd, 0, 3 * G, src, 0), G);
	CHECK_EQ(xgmem_stats(fd).allocated, G);
	CHECK_REFUSED(gmem_copy(fd, G, G, src + G, 0), EFAULT);
	CHECK_OK(gmem_punch(fd, 0, 4 * G));
	CHECK_PARTLY(gmem_fill(fd, 0, 3 * G, file, 0, 0), G);
	CHECK_REFUSED(gmem_fill(fd, G, G, file, G, 0), ENODATA);
	CHECK_EQ(xgmem_stats(fd).allocated, G);
	CHECK_OK(gmem_punch(fd, 0, 4 * G));
	CHECK_PARTLY(gmem_fill(fd, 0, 3 * G, bad, 0, 0), G);
	CHECK_REFUSED(gmem_fill(fd, G, G, bad, G, 0), EIO);
	CHECK_OK(gmem_punch(fd, 0, 4 * G));
	CHECK_EQ(pwrite(fd, src, 3 * G, 0), G);
	CHECK_ERRNO(pwrite(fd, src + G, G, G), EFAULT);
	CHECK_EQ(xgmem_stats(fd).allocated, G);
	CHECK(pattern_is(map, G, 2));
}

TEST(poison_a_granule)
{
	size_t ps = page_size();
	int fd = xgmem_huge(4 * G);
	unsigned char *map = map_all(fd, 4);
	char byte;

	CHECK_OK(gmem_zero(fd, 2 * G, G, 0));
	CHECK_PARTLY(gmem_poison(fd, 0, 4 * G, 0), 2 * G);
	CHECK_REFUSED(gmem_poison(fd, G, G, 0), EEXIST);
	CHECK_REFUSED(gmem_poison(fd, 2 * G, G, 0), EEXIST);
	CHECK_EQ(xgmem_stats(fd).poisoned, 2 * G);
	for (size_t i = 0; i < 2 * G; i += 97 * ps) {
		CHECK_EQ(TOUCH_READ(map + i), SIGBUS);
		CHECK_EQ(touch_last.code, BUS_MCEERR_AR);
	}
	CHECK_ERRNO(pread(fd, &byte, 1, 2 * G - 1), EIO);
	CHECK_EQ(TOUCH_READ(map + 2 * G), 0);
	/* A hole smaller than the granule takes nothing away. */
	CHECK_OK(gmem_punch(fd, ps, G - ps));
	CHECK_EQ(TOUCH_READ(map + ps), SIGBUS);
	CHECK_OK(gmem_punch(fd, 0, G));
	CHECK_EQ(TOUCH_READ(map + ps), 0);
	CHECK_EQ(TOUCH_READ(map + G), SIGBUS);
	CHECK_DONE(gmem_zero(fd, G, G, 0), G);
	CHECK_EQ(TOUCH_READ(map + G), 0);
	CHECK_EQ(TOUCH_READ(map + 2 * G - 1), 0);
}

TEST(traps_and_opens_by_granules)
{
	size_t ps = page_size();
	int fd = xgmem_huge(2 * G), context = xgmem_context();
	unsigned char *src = xmmap_anon(G), *map = map_all(fd, 2);
	struct gmem_toucher a = { .addr = map + G + 3 * ps }, b = { .addr = map + 2 * G - 1 };
	struct gmemfd_event event;

	pattern_fill(src, G, 3);
	REQUIRE_OK(gmem_watch(fd, context, 0, 2 * G, GMEMFD_MODE_ALL, 0, 0));
	gmem_toucher_start(&a);
	gmem_toucher_start(&b);
	REQUIRE(gmem_waiters(fd, 2, 10));
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.offset, G);
	CHECK_EQ(event.len, G);
	/* Different pages of it are one fault. */
	CHECK_EQ(xgmem_stats(fd).events, 1);
	CHECK_DONE(gmem_copy(fd, G, G, src, GMEMFD_RANGE_CLOSED), G);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR);
	CHECK_EQ(event.offset, G);
	CHECK(gmem_waiters(fd, 2, 10));
	CHECK_REFUSED(gmem_continue(fd, 0, 2 * G, 0), EFAULT);
	CHECK_DONE(gmem_continue(fd, G, G, 0), G);
	CHECK_EQ(gmem_toucher_join(&a), src[3 * ps]);
	CHECK_EQ(gmem_toucher_join(&b), src[G - 1]);
	CHECK_REFUSED(gmem_continue(fd, G, G, 0), EEXIST);
	CHECK(pattern_is(map + G, G, 3));
}

/* A cgroup with a limit that the calling process enters; ends the case if there is no memory controller. */
static void enter_cgroup(const char *name, const char *max)
{
	char path[128];

	if (write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		SKIP("no memory controller in cgroup2");
	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", name);
	if (mkdir(path, 0755))
		REQUIRE_EQ(errno, EEXIST);
	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/memory.max", name);
	REQUIRE_OK(write_file(path, "%s", max));
	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/cgroup.procs", name);
	REQUIRE_OK(write_file(path, "%d", getpid()));
}

/*
 * A limit that leaves no room for the granule, neither as one folio nor in the small ones that are tried then: some of
 * those go in before the limit is met, and have to come out again. The source is not charged to it.
 */
TEST(no_room_for_the_granule)
{
	unsigned char *src = xmmap_anon(2 * G), *map;
	int fd, status;
	pid_t pid;

	pattern_fill(src, 2 * G, 4);
	gmem_dev();
	pid = REQUIRE_OK(fork());
	if (!pid) {
		enter_cgroup("granule", "1M");
		fd = xgmem_huge(4 * G);
		CHECK_OK(write_file("/sys/fs/cgroup/cgroup.procs", "%d", getpid()));
		for (int i = 0; i < 3; i++) {
			CHECK_REFUSED(gmem_copy(fd, G, G, src, 0), ENOMEM);
			CHECK_EQ(xgmem_stats(fd).allocated, 0);
			CHECK_REFUSED(gmem_zero(fd, 0, 4 * G, 0), ENOMEM);
			CHECK_ERRNO(pwrite(fd, src, 2 * G, 0), ENOMEM);
			CHECK_EQ(xgmem_stats(fd).allocated, 0);
			CHECK_ERRNO(lseek(fd, 0, SEEK_DATA), ENXIO);
		}
		/* Three granules and a half: what was done is told. */
		CHECK_OK(write_file("/sys/fs/cgroup/granule/memory.max", "7M"));
		CHECK_PARTLY(gmem_zero(fd, 0, 4 * G, 0), 3 * G);
		CHECK_EQ(xgmem_stats(fd).allocated, 3 * G);
		CHECK_OK(gmem_punch(fd, 0, 4 * G));
		CHECK_DONE(gmem_copy(fd, G, 2 * G, src, 0), 2 * G);
		map = map_all(fd, 4);
		CHECK(pattern_is(map + G, 2 * G, 4));
		_exit(0);
	}
	status = child_wait(pid, 25);
	CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(wait_for(!rmdir("/sys/fs/cgroup/granule") || errno == ENOENT, 10));
}
