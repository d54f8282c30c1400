// SPDX-License-Identifier: GPL-2.0-only
/*
 * A gmem file's attributes, its size that never changes, reopening through /proc, who may do so, passing it on,
 * and what fdinfo says.
 */
#include "trap.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define RW (PROT_READ | PROT_WRITE)

static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

TEST(stat_counts_blocks)
{
	size_t ps = page_size();
	int fd = xgmem(16 * ps), huge = xgmem_huge(HPAGE_SIZE);
	struct stat st;

	REQUIRE_OK(gmem_zero(fd, 3 * ps, 5 * ps, 0));
	REQUIRE_OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 16 * ps);
	CHECK_EQ(st.st_blocks * 512, 5 * ps);
	CHECK_EQ(st.st_blksize, ps);
	CHECK_EQ(st.st_nlink == 0 || st.st_nlink == 1, 1);
	REQUIRE_OK(gmem_punch(fd, 3 * ps, ps));
	REQUIRE_OK(fstat(fd, &st));
	CHECK_EQ(st.st_blocks * 512, 4 * ps);
	REQUIRE_OK(gmem_zero(huge, 0, HPAGE_SIZE, 0));
	REQUIRE_OK(fstat(huge, &st));
	CHECK_EQ(st.st_blksize, HPAGE_SIZE);
	CHECK_EQ(st.st_blocks * 512, HPAGE_SIZE);
	CHECK_EQ(xgmem_stats(huge).allocated, HPAGE_SIZE);
}

TEST(size_is_fixed)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps);
	static const long long other[] = { 0, 1, 4096, 3 * 4096, 4 * 4096 - 1, 4 * 4096 + 1, 5 * 4096, 1ll << 40 };
	unsigned char *buf = xmmap_anon(4 * ps), *got = xmmap_anon(4 * ps);
	char path[64];
	struct stat st;

	pattern_fill(buf, 4 * ps, 1);
	REQUIRE_OK(gmem_copy(fd, 0, 4 * ps, buf, 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		CHECK_ERRNO(ftruncate(fd, other[i]), EINVAL);
		CHECK_ERRNO(truncate(path, other[i]), EINVAL);
	}
	CHECK_OK(ftruncate(fd, 4 * ps));
	CHECK_OK(truncate(path, 4 * ps));
	CHECK_ERRNO(reopen(fd, O_RDWR | O_TRUNC), EINVAL);
	CHECK_ERRNO(reopen(fd, O_WRONLY | O_TRUNC), EINVAL);
	REQUIRE_OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 4 * ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 4 * ps);
	CHECK_EQ(pread(fd, got, 4 * ps, 0), 4 * ps);
	CHECK(!memcmp(got, buf, 4 * ps));
}

TEST(times)
{
	size_t ps = page_size();
	int fd = xgmem(ps);
	struct stat before, after;
	char *buf = xmmap_anon(ps);

	REQUIRE_OK(futimens(fd, (struct timespec[2]) { { 1000, 0 }, { 2000, 0 } }));
	REQUIRE_OK(fstat(fd, &before));
	CHECK_EQ(before.st_atime, 1000);
	CHECK_EQ(before.st_mtime, 2000);
	REQUIRE_EQ(pwrite(fd, buf, ps, 0), ps);
	REQUIRE_OK(fstat(fd, &after));
	CHECK(after.st_mtime != 2000);
	REQUIRE_OK(futimens(fd, (struct timespec[2]) { { 1000, 0 }, { 2000, 0 } }));
	REQUIRE_OK(gmem_punch(fd, 0, ps));
	REQUIRE_OK(fstat(fd, &after));
	CHECK(after.st_mtime != 2000);
	/* A punch that is refused changes nothing. */
	REQUIRE_OK(futimens(fd, (struct timespec[2]) { { 1000, 0 }, { 2000, 0 } }));
	CHECK_ERRNO(fallocate(fd, 0, 0, 2 * ps), ENOSPC);
	REQUIRE_OK(fstat(fd, &after));
	CHECK_EQ(after.st_mtime, 2000);
}

TEST(reopened)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), again = REQUIRE_FD(reopen(fd, O_RDWR)), ro = REQUIRE_FD(reopen(fd, O_RDONLY));
	struct stat a, b;
	char *buf = xmmap_anon(ps);
	unsigned char *map;

	REQUIRE_OK(fstat(fd, &a));
	REQUIRE_OK(fstat(again, &b));
	CHECK_EQ(a.st_ino, b.st_ino);
	CHECK_OK(gmem_zero(again, 0, ps, 0));
	CHECK_EQ(xgmem_stats(fd).allocated, ps);
	CHECK_EQ(xgmem_stats(ro).allocated, ps);
	CHECK_ERRNO(gmem_zero(ro, ps, ps, 0), EBADF);
	CHECK_ERRNO(pwrite(ro, buf, ps, 0), EBADF);
	CHECK_ERRNO(ftruncate(ro, 4 * ps), EINVAL);
	/* The file lives as long as any of them. */
	close(fd);
	close(ro);
	map = xmmap(NULL, 4 * ps, RW, MAP_SHARED, again, 0);
	map[ps] = 8;
	close(again);
	CHECK_EQ(map[ps], 8);
}

static bool open_as(int fd, uid_t uid, int flags)
{
	pid_t pid = REQUIRE_OK(fork());

	if (!pid) {
		if (setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
			_exit(2);
		_exit(reopen(fd, flags) < 0 ? errno == EACCES ? 1 : 3 : 0);
	}
	pid = child_wait(pid, 10);
	CHECK(WIFEXITED(pid) && WEXITSTATUS(pid) <= 1);
	return pid == 0;
}

TEST(owner_and_mode_decide_who_reopens)
{
	int fd = xgmem(page_size());
	struct stat st;
	pid_t pid;

	CHECK(open_as(fd, 0, O_RDWR));
	CHECK(!open_as(fd, 1000, O_RDWR));
	CHECK(!open_as(fd, 1000, O_RDONLY));
	CHECK_OK(fchmod(fd, 0644));
	CHECK(open_as(fd, 1000, O_RDONLY));
	CHECK(!open_as(fd, 1000, O_RDWR));
	CHECK(!open_as(fd, 1000, O_WRONLY));
	CHECK_OK(fchmod(fd, 0600));
	CHECK_OK(fchown(fd, 1000, 1000));
	REQUIRE_OK(fstat(fd, &st));
	CHECK_EQ(st.st_uid, 1000);
	CHECK_EQ(st.st_gid, 1000);
	CHECK_EQ(st.st_mode & 07777, 0600);
	CHECK(open_as(fd, 1000, O_RDWR));
	CHECK(!open_as(fd, 1001, O_RDONLY));
	/* Only the owner changes that. */
	pid = REQUIRE_OK(fork());
	if (!pid) {
		bool ok = !setresuid(1001, 1001, 1001) && fchmod(fd, 0666) == -1 && errno == EPERM &&
			  fchown(fd, 1001, -1) == -1 && errno == EPERM;

		_exit(!ok);
	}
	CHECK_EQ(child_wait(pid, 10), 0);
}

/* A file that another process made, filled and left. */
TEST(outlives_its_creator)
{
	size_t ps = page_size();
	int socks[2], fd;
	unsigned char *map;
	pid_t pid;

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		unsigned char *own;

		fd = xgmem(4 * ps);
		own = xmmap(NULL, 4 * ps, RW, MAP_SHARED, fd, 0);
		pattern_fill(own, ps, 5);
		trap_send_fd(socks[1], fd);
		_exit(0);
	}
	fd = trap_receive_fd(socks[0]);
	CHECK_EQ(child_wait(pid, 10), 0);
	map = xmmap(NULL, 4 * ps, RW, MAP_SHARED, fd, 0);
	CHECK(pattern_is(map, ps, 5));
	pattern_fill(map + ps, ps, 6);
	CHECK_OK(gmem_zero(fd, 2 * ps, ps, 0));
	CHECK_EQ(xgmem_stats(fd).allocated, 3 * ps);
}

TEST(fdinfo_agrees_with_stats)
{
	size_t ps = page_size();
	int fd = xgmem(16 * ps), context = xgmem_context(), lost = xgmem_context();
	unsigned char *map = xmmap(NULL, 16 * ps, RW, MAP_SHARED, fd, 0), *buf = xmmap_anon(16 * ps);
	struct gmemfd_stats s;
	struct trap_task task;
	char path[64], *text, *at;
	uint64_t sum = 0;

	REQUIRE_OK(gmem_watch(fd, context, 0, 8 * ps, GMEMFD_MODE_ALL, 0, 0));
	REQUIRE_OK(gmem_watch(fd, lost, 12 * ps, ps, GMEMFD_MODE_ALL, 0, GMEMFD_POLICY_POISON));
	close(lost);
	REQUIRE_OK(gmem_copy(fd, 0, 2 * ps, buf, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(gmem_continue(fd, 0, ps, 0));
	REQUIRE_OK(gmem_zero(fd, 9 * ps, ps, 0));
	REQUIRE_OK(gmem_poison(fd, 10 * ps, ps, 0));
	REQUIRE_EQ(pwrite(fd, buf, ps, 11 * ps), ps);
	REQUIRE_OK(gmem_punch(fd, 11 * ps, ps));
	CHECK_EQ(TOUCH_READ(map + 10 * ps), SIGBUS);
	CHECK_EQ(TOUCH_READ(map + 12 * ps), SIGBUS);
	CHECK_EQ(TOUCH_READ(map + 13 * ps), 0);
	trap_read(&task, map + 3 * ps);
	trap_event(context);
	CHECK_EQ(gmem_fdinfo(fd, "waiters"), 1);
	REQUIRE_OK(trap_copy(fd, 3 * ps, ps, 0));
	trap_result(&task);
	trap_read(&task, map + ps);
	trap_event(context);
	REQUIRE(trap_waiters(fd, 1));

	s = xgmem_stats(fd);
	CHECK_EQ(s.waiters, 1);
	CHECK_EQ(gmem_fdinfo(fd, "granule"), ps);
#define AGREE(name, field, value) do {			\
	CHECK_EQ(gmem_fdinfo(fd, name), s.field);		\
	CHECK_EQ(s.field, value);			\
} while (0)
	AGREE("bytes", bytes, 16 * ps);
	AGREE("allocated", allocated, 5 * ps);
	AGREE("poisoned", poisoned, ps);
	AGREE("punched", punched, ps);
	AGREE("waiters", waiters, 1);
	AGREE("watches", watches, 2);
	AGREE("orphans", orphans, 1);
	AGREE("faults-zero", faults_zero, 1);
	AGREE("faults-missing", faults_missing, 1);
	AGREE("faults-minor", faults_minor, 1);
	AGREE("faults-sigbus", faults_sigbus, 2);
	AGREE("events", events, 2);
	AGREE("copied", copied, 3 * ps);
	AGREE("zeroed", zeroed, ps);
	AGREE("filled", filled, 0);
	AGREE("written", written, ps);
	AGREE("continued", continued, ps);
	AGREE("huge", huge, 0);
	AGREE("wakes", wakes, 1);
	CHECK_EQ(gmem_fdinfo(fd, "wait-ns"), s.wait_ns);
	CHECK(s.wait_ns > 0);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	text = read_file(path);
	REQUIRE(text);
	at = strstr(text, "gmemfd-wait-log2:");
	REQUIRE(at);
	at += strlen("gmemfd-wait-log2:");
	for (size_t i = 0; i < GMEMFD_WAIT_BUCKETS; i++) {
		uint64_t n = strtoull(at, &at, 10);

		CHECK_EQ(n, s.wait_log2[i]);
		sum += n;
	}
	CHECK_EQ(sum, 1);
	REQUIRE_OK(gmem_continue(fd, ps, ps, 0));
	trap_result(&task);
	/* Reading fdinfo and STATS counts for nothing. */
	CHECK_EQ(xgmem_stats(fd).faults_minor, s.faults_minor);
}
