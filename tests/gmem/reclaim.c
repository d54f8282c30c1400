// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whatever drops or moves pages of other files must leave the content of a gmem file: advice, dropped caches, memory
 * pressure, compaction, migration.
 */
#include "gmem.h"

#include <linux/mempolicy.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define RW (PROT_READ | PROT_WRITE)
#define MIB ((size_t)1 << 20)

/* Small and large folios, open and closed pages, mapped and not. */
struct content {
	int fd;
	int context;
	size_t bytes;
	unsigned char *map;
};

#define SMALL (64 * page_size())
#define CLOSED_AT (6 * MIB)

static struct content content(void)
{
	struct content c = { .bytes = 8 * MIB };
	unsigned char *buf = xmmap_anon(c.bytes);

	c.fd = xgmem(c.bytes);
	c.context = xgmem_context();
	c.map = xmmap(NULL, c.bytes, RW, MAP_SHARED, c.fd, 0);
	pattern_fill(buf, c.bytes, 1);
	for (size_t at = 0; at < SMALL; at += page_size())
		REQUIRE_OK(gmem_copy(c.fd, at, page_size(), buf + at, 0));
	REQUIRE_OK(gmem_copy(c.fd, SMALL, CLOSED_AT - SMALL, buf + SMALL, 0));
	REQUIRE_OK(gmem_watch(c.fd, c.context, CLOSED_AT, 2 * MIB, GMEMFD_MODE_ALL, 0, 0));
	REQUIRE_OK(gmem_copy(c.fd, CLOSED_AT, 2 * MIB, buf + CLOSED_AT, GMEMFD_RANGE_CLOSED));
	CHECK(pattern_is(c.map, CLOSED_AT / 2, 1));
	munmap(buf, c.bytes);
	return c;
}

static void check_content(struct content *c)
{
	unsigned char *buf = xmmap_anon(c->bytes);
	struct gmemfd_stats stats = xgmem_stats(c->fd);

	CHECK_EQ(stats.allocated, c->bytes);
	CHECK_EQ(stats.faults_zero, 0);
	CHECK_EQ(stats.poisoned, 0);
	CHECK(pattern_is(c->map, CLOSED_AT, 1));
	CHECK_EQ(pread(c->fd, buf, CLOSED_AT, 0), CLOSED_AT);
	CHECK(pattern_is(buf, CLOSED_AT, 1));
	/* Closed pages are closed still, and have their content. */
	CHECK_OK(gmem_continue(c->fd, CLOSED_AT, 2 * MIB, 0));
	CHECK(pattern_is(c->map, c->bytes, 1));
	munmap(buf, c->bytes);
}

TEST(fadvise)
{
	struct content c = content();

	CHECK_EQ(posix_fadvise(c.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	CHECK_EQ(posix_fadvise(c.fd, 0, 0, POSIX_FADV_NOREUSE), 0);
	CHECK_EQ(posix_fadvise(c.fd, 0, 0, POSIX_FADV_WILLNEED), 0);
	CHECK_OK(madvise(c.map, c.bytes, MADV_DONTNEED));
	CHECK_EQ(posix_fadvise(c.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	CHECK_OK(fsync(c.fd));
	CHECK_OK(fdatasync(c.fd));
	CHECK_OK(sync_file_range(c.fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				 SYNC_FILE_RANGE_WAIT_AFTER));
	CHECK_OK(msync(c.map, c.bytes, MS_SYNC));
	CHECK_EQ(posix_fadvise(c.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	check_content(&c);
}

TEST(dropped_caches)
{
	struct content c = content();

	sync();
	CHECK_OK(write_file("/proc/sys/vm/drop_caches", "3"));
	CHECK_OK(madvise(c.map, c.bytes, MADV_DONTNEED));
	CHECK_OK(write_file("/proc/sys/vm/drop_caches", "3"));
	check_content(&c);
}

TEST(pageout)
{
	struct content c = content();

	CHECK_OK(madvise(c.map, CLOSED_AT, MADV_PAGEOUT));
	CHECK_OK(madvise(c.map, CLOSED_AT, MADV_COLD));
	CHECK_OK(madvise(c.map, CLOSED_AT, MADV_PAGEOUT));
	check_content(&c);
}

/* Its pages stand where reclaim does not look. */
TEST(unevictable)
{
	long long before = read_field("/proc/meminfo", "Unevictable:"), dirty = read_field("/proc/meminfo", "Dirty:");
	struct content c = content();

	CHECK(wait_for(read_field("/proc/meminfo", "Unevictable:") - before > 7 << 10, 5));
	/* Nothing to be written back: nobody waits for that. */
	CHECK(read_field("/proc/meminfo", "Dirty:") - dirty < 1 << 10);
	check_content(&c);
}

/* A process in a small memory cgroup makes the kernel reclaim all that it can. */
TEST(pressure)
{
	char dir[96], path[128];
	struct content c;
	pid_t pid;

	if (write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		SKIP("no memory cgroups: %s", strerror(errno));
	snprintf(dir, sizeof(dir), "/sys/fs/cgroup/gmem-pressure-%d", getpid());
	REQUIRE_OK(mkdir(dir, 0755));
	snprintf(path, sizeof(path), "%s/memory.max", dir);
	REQUIRE_OK(write_file(path, "%zu", 20 * MIB));
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	pid = REQUIRE_OK(fork());
	if (!pid) {
		char *buf;
		int file;

		REQUIRE_OK(write_file(path, "0"));
		c = content();
		/* Clean and dirty pages of files, more than there is room for, and what asks for reclaim itself. */
		file = REQUIRE_FD(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
		buf = xmmap_anon(MIB);
		while (read(file, buf, MIB) > 0)
			;
		snprintf(path, sizeof(path), "%s/memory.reclaim", dir);
		for (int i = 0; i < 5; i++)
			CHECK(write_file(path, "8M") == 0 || errno == EAGAIN);
		check_content(&c);
		_exit(0);
	}
	CHECK_EQ(child_wait(pid, 20), 0);
	CHECK(wait_for(!rmdir(dir), 10));
}

/* Taking a physical page out of use moves what is in it: a migration at a time and place of our choice. */
TEST(migrated)
{
	size_t ps = page_size();
	struct content c = content();
	unsigned char byte;
	int moved = 0;

	for (size_t at = 0; at < 8 * ps; at += ps) {
		double end = now_seconds() + 5 * tap_slow();
		uint64_t before, after;
		bool again;

		REQUIRE_EQ(TOUCH_READ(c.map + at), 0);
		before = pfn_of(c.map + at);
		do {
			again = madvise(c.map + at, ps, MADV_SOFT_OFFLINE);
			if (again && errno == EINVAL)
				SKIP("the kernel cannot take pages out of use");
			/* The page may be looked at by somebody just then. */
			if (again)
				REQUIRE(errno == EBUSY || errno == EIO || errno == EAGAIN);
		} while (again && now_seconds() < end);
		REQUIRE(!again);
		REQUIRE_EQ(TOUCH_READ(c.map + at), 0);
		after = pfn_of(c.map + at);
		REQUIRE(before && after);
		moved += after != before;
		/* It is the file's page that moved, for everybody. */
		c.map[at] ^= 0xff;
		CHECK_EQ(pread(c.fd, &byte, 1, at), 1);
		CHECK_EQ(byte, c.map[at]);
		c.map[at] ^= 0xff;
	}
	CHECK_EQ(moved, 8);
	check_content(&c);
}

struct mover {
	struct content *c;
	atomic_bool stop;
	atomic_uint rounds;
	unsigned long bad;
};

static void *reader(void *arg)
{
	struct mover *m = arg;
	size_t ps = page_size();
	unsigned char *model = xmmap_anon(m->c->bytes), page[64];

	pattern_fill(model, m->c->bytes, 1);
	for (; !m->stop; m->rounds++)
		for (size_t at = 0; at < CLOSED_AT; at += 5 * ps) {
			m->bad += !!memcmp(m->c->map + at, model + at, 64);
			m->bad += pread(m->c->fd, page, 64, at) != 64 || memcmp(page, model + at, 64);
		}
	return NULL;
}

TEST(compaction_under_readers)
{
	struct content c = content();
	struct mover m = { .c = &c };
	pthread_t thread = thread_start(reader, &m);
	double began = now_seconds();
	long long migrated = read_field("/proc/vmstat", "pgmigrate_success "), now;
	uint64_t *pfns = calloc(SMALL / page_size(), sizeof(*pfns));
	unsigned int moved = 0;

	REQUIRE(pfns);
	for (size_t i = 0; i < SMALL / page_size(); i++)
		pfns[i] = pfn_of(c.map + i * page_size());
	/* For a second, and until it has found something to move and the reader has looked at all. */
	do {
		CHECK_OK(write_file("/proc/sys/vm/compact_memory", "1"));
		now = read_field("/proc/vmstat", "pgmigrate_success ");
	} while (now_seconds() < began + 1 ||
		 ((now == migrated || m.rounds < 2) && now_seconds() < began + 10 * tap_slow()));
	CHECK(now > migrated);
	CHECK(m.rounds >= 2);
	m.stop = true;
	thread_join(thread);
	for (size_t i = 0; i < SMALL / page_size(); i++)
		moved += !TOUCH_READ(c.map + i * page_size()) && pfn_of(c.map + i * page_size()) != pfns[i];
	tap_diag("%lld pages moved, %u of our %zu small ones", now - migrated, moved, SMALL / page_size());
	free(pfns);
	CHECK_EQ(m.bad, 0);
	check_content(&c);
}

static bool two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

TEST(moved_between_nodes_under_readers)
{
	size_t ps = page_size(), n = SMALL / ps;
	struct content c = content();
	struct mover m = { .c = &c };
	void **pages = calloc(n, sizeof(*pages));
	int *nodes = calloc(n, sizeof(*nodes)), *status = calloc(n, sizeof(*status));
	unsigned long arrived = 0;
	pthread_t thread;

	if (!two_nodes())
		SKIP("the machine has one NUMA node");
	thread = thread_start(reader, &m);
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < n; i++) {
			pages[i] = c.map + i * ps;
			nodes[i] = round & 1;
			REQUIRE_EQ(TOUCH_READ(pages[i]), 0);
		}
		CHECK(syscall(SYS_move_pages, 0, n, pages, nodes, status, MPOL_MF_MOVE_ALL) >= 0);
		for (size_t i = 0; i < n; i++)
			arrived += status[i] == nodes[i];
	}
	m.stop = true;
	thread_join(thread);
	/* Some are looked at just then, and stay. */
	CHECK(arrived > 10 * n);
	CHECK_EQ(m.bad, 0);
	check_content(&c);
}
