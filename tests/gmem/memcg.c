// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory cgroups: pages are charged to the group of the file's creator whoever provides or touches them, a group at its
 * limit makes operations fail and kills nobody, and the group goes when the file is gone.
 */
#include "trap.h"

#include <sys/socket.h>
#include <sys/stat.h>

#define ROOT "/sys/fs/cgroup"
#define MIB ((size_t)1 << 20)

struct group {
	char path[128];
};

static struct group group(const char *name)
{
	struct group g;

	if (write_file(ROOT "/cgroup.subtree_control", "+memory"))
		SKIP("no memory cgroups: %s", strerror(errno));
	snprintf(g.path, sizeof(g.path), ROOT "/gmem-%d-%s", getpid(), name);
	REQUIRE_OK(mkdir(g.path, 0755));
	return g;
}

static char *file_of(const struct group *g, const char *name)
{
	static char path[192];

	snprintf(path, sizeof(path), "%s/%s", g->path, name);
	return path;
}

static void set_max(const struct group *g, size_t bytes)
{
	REQUIRE_OK(write_file(file_of(g, "memory.max"), "%zu", bytes));
}

static long long current(const struct group *g)
{
	return read_number(file_of(g, "memory.current"));
}

static long long charged_pages(const struct group *g)
{
	return read_field(file_of(g, "memory.stat"), "unevictable ");
}

static bool nobody_was_killed(const struct group *g)
{
	return read_field(file_of(g, "memory.events"), "oom_kill ") == 0;
}

static void enter(const struct group *g)
{
	if (write_file(file_of(g, "cgroup.procs"), "0"))
		_exit(99);
}

/* A gmem file whose creator was in the group; it has left since. */
static int file_from(const struct group *g, uint64_t bytes, uint64_t flags)
{
	int socks[2], fd;
	pid_t pid;

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		enter(g);
		trap_send_fd(socks[1], REQUIRE_FD(gmem_create(bytes, flags, 0)));
		_exit(0);
	}
	fd = trap_receive_fd(socks[0]);
	CHECK_EQ(child_wait(pid, 10), 0);
	close(socks[0]);
	close(socks[1]);
	return fd;
}

static void remove_group(const struct group *g)
{
	CHECK(wait_for(!rmdir(g->path), 10));
}

TEST(charged_to_the_creator)
{
	struct group owner = group("owner"), other = group("other");
	int fd = file_from(&owner, 32 * MIB, 0);
	unsigned char *buf = xmmap_anon(8 * MIB);
	pid_t pid;

	/* Filled from here, outside both. */
	pattern_fill(buf, 8 * MIB, 1);
	CHECK_OK(gmem_copy(fd, 0, 8 * MIB, buf, 0));
	CHECK_OK(gmem_zero(fd, 8 * MIB, 2 * MIB, 0));
	/* Written to, filled and touched by a process of the other one. */
	pid = REQUIRE_OK(fork());
	if (!pid) {
		unsigned char *map;

		enter(&other);
		map = xmmap(NULL, 32 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		for (size_t at = 16 * MIB; at < 20 * MIB; at += page_size())
			map[at] = 1;
		_exit(pwrite(fd, map, 4 * MIB, 24 * MIB) != (ssize_t)(4 * MIB) ||
		      gmem_copy(fd, 28 * MIB, 4 * MIB, map, 0));
	}
	CHECK_EQ(child_wait(pid, 20), 0);
	CHECK_EQ(xgmem_stats(fd).allocated, 22 * MIB);
	CHECK(wait_for(charged_pages(&owner) == (long long)(22 * MIB), 10));
	CHECK(current(&owner) >= (long long)(22 * MIB));
	CHECK(current(&owner) < (long long)(24 * MIB));
	CHECK_EQ(charged_pages(&other), 0);
	CHECK(current(&other) < (long long)(3 * MIB));
	/* Given back page by page, and at the end. */
	CHECK_OK(gmem_punch(fd, 0, 10 * MIB));
	CHECK(wait_for(charged_pages(&owner) == (long long)(12 * MIB), 10));
	close(fd);
	CHECK(wait_for(charged_pages(&owner) == 0, 10));
	CHECK(wait_for(current(&owner) < (long long)MIB, 10));
	remove_group(&owner);
	remove_group(&other);
}

/* All ways to provide, in a group that has room for a part of it. */
static const struct way {
	const char *label;
	int how;
} ways[] = { { "copy", 0 }, { "zero", 1 }, { "write", 2 }, { "fill", 3 }, { "fallocate", 4 } };

static ssize_t provide(int how, int fd, uint64_t offset, size_t len, unsigned char *buf, int source)
{
	int ret = 0;

	switch (how) {
	case 0:
		ret = gmem_copy(fd, offset, len, buf + offset, 0);
		break;
	case 1:
		ret = gmem_zero(fd, offset, len, 0);
		break;
	case 2:
		return pwrite(fd, buf + offset, len, offset);
	case 3:
		ret = gmem_fill(fd, offset, len, source, offset, 0);
		break;
	case 4:
		ret = fallocate(fd, 0, offset, len);
		return ret ? -1 : (ssize_t)len;
	}
	if (ret && errno == EAGAIN)
		return gmem_done;
	if (ret)
		CHECK_EQ(gmem_done, -errno);
	return ret ? -1 : gmem_done;
}

TEST_EACH(limit, struct way, ways)
{
	struct group g = group("limit");
	size_t len = 16 * MIB, max = 8 * MIB, done = 0, ps = page_size();
	unsigned char *buf = xmmap_anon(len), *got = xmmap_anon(len);
	int source = REQUIRE_FD(memfd_create("source", MFD_CLOEXEC)), fd;
	ssize_t n;

	pattern_fill(buf, len, 1);
	REQUIRE_EQ(write(source, buf, len), len);
	set_max(&g, max);
	fd = file_from(&g, len, 0);
	/* Partial results first, then none. */
	for (;;) {
		errno = 0;
		n = provide(row->how, fd, done, len - done, buf, source);
		if (n <= 0)
			break;
		CHECK_EQ(n % ps, 0);
		done += n;
		CHECK_EQ(xgmem_stats(fd).allocated, done);
		REQUIRE(done < len);
	}
	CHECK_EQ(n, -1);
	CHECK_EQ(errno, ENOMEM);
	if (row->how == 4)
		done = xgmem_stats(fd).allocated;
	CHECK_EQ(xgmem_stats(fd).allocated, done);
	CHECK(done > max / 2);
	CHECK(done <= max);
	CHECK_EQ(lseek(fd, 0, SEEK_HOLE), (off_t)done);
	CHECK_EQ(pread(fd, got, len, 0), len);
	if (row->how == 1 || row->how == 4)
		CHECK(all_bytes_are(got, done, 0));
	else
		CHECK(!memcmp(got, buf, done));
	CHECK(all_bytes_are(got + done, len - done, 0));
	CHECK(nobody_was_killed(&g));
	/* With room again it goes on where it was. */
	set_max(&g, 4 * len);
	CHECK_EQ(provide(row->how, fd, done, len - done, buf, source), len - done);
	CHECK_EQ(xgmem_stats(fd).allocated, len);
	close(fd);
	remove_group(&g);
}

/* A granule of a huge file is whole or not there. */
TEST(limit_of_a_huge_file)
{
	struct group g = group("huge");
	size_t len = 8 * MIB;
	unsigned char *buf = xmmap_anon(len);
	int fd;

	set_max(&g, 5 * MIB);
	fd = file_from(&g, len, GMEMFD_CREATE_HUGE);
	pattern_fill(buf, len, 1);
	CHECK_ERRNO(gmem_copy(fd, 0, len, buf, 0), EAGAIN);
	CHECK_EQ(gmem_done, 2 * HPAGE_SIZE);
	CHECK_ERRNO(gmem_copy(fd, 2 * HPAGE_SIZE, HPAGE_SIZE, buf, 0), ENOMEM);
	CHECK_ERRNO(pwrite(fd, buf, HPAGE_SIZE, 2 * HPAGE_SIZE), ENOMEM);
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * HPAGE_SIZE);
	CHECK_ERRNO(lseek(fd, 2 * HPAGE_SIZE, SEEK_DATA), ENXIO);
	CHECK(pattern_is(xmmap(NULL, 2 * HPAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0), 2 * HPAGE_SIZE, 1));
	CHECK(nobody_was_killed(&g));
	close(fd);
}

/* Who only touches is told by SIGBUS, if the group is not its own: whom could the OOM killer take there? */
static const struct toucher {
	const char *label;
	uint64_t flags;
} touchers[] = { { "pages", 0 }, { "granules", GMEMFD_CREATE_HUGE } };

TEST_EACH(limit_met_by_touching, struct toucher, touchers)
{
	struct group g = group("touched");
	size_t len = 16 * MIB, max = 8 * MIB, step = row->flags ? HPAGE_SIZE : page_size(), done = 0;
	int fds[2], fd;
	ssize_t n;
	unsigned char *map;

	set_max(&g, max);
	fd = file_from(&g, len, row->flags);
	map = xmmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	while (done < len && !TOUCH_WRITE(map + done, 1))
		done += step;
	CHECK_EQ(touch_last.sig, SIGBUS);
	CHECK_EQ(touch_last.code, BUS_ADRERR);
	CHECK(done >= max / 2);
	CHECK(done <= max);
	CHECK_EQ(xgmem_stats(fd).allocated, done);
	/* What the kernel itself gives back late makes room for a page now and then. */
	while (done < max && !TOUCH_READ(map + done))
		done += step;
	CHECK_EQ(touch_last.sig, SIGBUS);
	/* The kernel that touches it for somebody says so. */
	REQUIRE_OK(pipe2(fds, O_CLOEXEC));
	REQUIRE_EQ(write(fds[1], "xxxxxxxx", 8), 8);
	while ((n = read(fds[0], map + done, 1)) == 1 && done < max)
		done += step;
	CHECK_EQ(n == -1 ? errno : 0, EFAULT);
	CHECK(nobody_was_killed(&g));
	CHECK_EQ(read_field(file_of(&g, "memory.events"), "oom "), 0);
	/* With room again it goes on. */
	set_max(&g, 4 * len);
	CHECK_EQ(TOUCH_WRITE(map + done, 2), 0);
	CHECK_EQ(map[done], 2);
	munmap(map, len);
	close(fd);
	remove_group(&g);
}

/* Splitting a large page in a group at its limit needs no more than it gives back. */
TEST(punch_at_the_limit)
{
	struct group g = group("punch");
	size_t ps = page_size();
	unsigned char *buf = xmmap_anon(8 * MIB), *got = xmmap_anon(8 * MIB);
	size_t done;
	int fd;

	set_max(&g, 4 * MIB + 512 * 1024);
	fd = file_from(&g, 8 * MIB, 0);
	pattern_fill(buf, 8 * MIB, 1);
	CHECK_ERRNO(gmem_copy(fd, 0, 8 * MIB, buf, 0), EAGAIN);
	done = gmem_done;
	CHECK(done >= 2 * HPAGE_SIZE);
	CHECK_EQ(xgmem_stats(fd).huge, 2);
	memset(buf + 5 * ps, 0, ps);
	CHECK_OK(gmem_punch(fd, 5 * ps, ps));
	CHECK_EQ(xgmem_stats(fd).allocated, done - ps);
	CHECK_EQ(pread(fd, got, done, 0), done);
	CHECK(!memcmp(got, buf, done));
	CHECK(nobody_was_killed(&g));
	close(fd);
	remove_group(&g);
}

/* A group that was removed still owns the file it made. */
TEST(group_removed_before_the_file)
{
	struct group g = group("removed");
	unsigned char *buf = xmmap_anon(8 * MIB);
	int fd = file_from(&g, 8 * MIB, 0);

	pattern_fill(buf, 8 * MIB, 1);
	CHECK_OK(gmem_copy(fd, 0, 2 * MIB, buf, 0));
	remove_group(&g);
	CHECK_OK(gmem_copy(fd, 2 * MIB, 2 * MIB, buf, 0));
	CHECK_EQ(TOUCH_WRITE(xmmap(NULL, MIB, PROT_WRITE, MAP_SHARED, fd, 6 * MIB), 1), 0);
	CHECK(pattern_is(xmmap(NULL, 2 * MIB, PROT_READ, MAP_SHARED, fd, 2 * MIB), 2 * MIB, 1));
	CHECK_OK(gmem_punch(fd, 0, 8 * MIB));
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	close(fd);
}
