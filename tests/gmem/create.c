// SPDX-License-Identifier: GPL-2.0-only
/*
 * GMEMFD_CREATE: which files can be made, what a new one looks like, and that a failure leaves nothing.
 */
#include "gmem.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define REFCNT "/sys/module/gmemfd/refcnt"

static int create(uint64_t bytes, uint64_t flags, uint32_t policy, uint32_t node)
{
	struct gmemfd_create args = {
		.size = sizeof(args), .bytes = bytes, .flags = flags, .policy = policy, .node = node };

	return ioctl(gmem_dev(), GMEMFD_CREATE, &args);
}

static uint64_t max_bytes(void)
{
	struct gmemfd_info info = { .size = sizeof(info) };

	REQUIRE_OK(ioctl(gmem_dev(), GMEMFD_INFO, &info));
	return info.max_bytes;
}

TEST(sizes)
{
	uint64_t ps = page_size(), max = max_bytes();
	const struct { uint64_t bytes, flags; bool ok; } sizes[] = {
		{ 0, 0, false }, { 1, 0, false }, { ps - 1, 0, false }, { ps + 1, 0, false }, { ps, 0, true },
		{ 3 * ps, 0, true }, { 1ull << 40, 0, true }, { max, 0, true },
		{ max + 1, 0, false }, { max + ps, 0, false },
		{ 1ull << 63, 0, false }, { -ps, 0, false }, { UINT64_MAX, 0, false },
		{ 0, GMEMFD_CREATE_HUGE, false }, { ps, GMEMFD_CREATE_HUGE, false },
		{ HPAGE_SIZE - ps, GMEMFD_CREATE_HUGE, false }, { HPAGE_SIZE + ps, GMEMFD_CREATE_HUGE, false },
		{ HPAGE_SIZE, GMEMFD_CREATE_HUGE, true }, { 3 * HPAGE_SIZE, GMEMFD_CREATE_HUGE, true },
		{ max & -HPAGE_SIZE, GMEMFD_CREATE_HUGE, true }, { max, GMEMFD_CREATE_HUGE, !(max % HPAGE_SIZE) },
	};

	CHECK(max >= 1ull << 47);
	CHECK(max <= INT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct stat st;
		int fd;

		if (!sizes[i].ok) {
			CHECK_ERRNO(create(sizes[i].bytes, sizes[i].flags, 0, 0), EINVAL);
			continue;
		}
		fd = REQUIRE_FD(create(sizes[i].bytes, sizes[i].flags, 0, 0));
		REQUIRE_OK(fstat(fd, &st));
		CHECK_EQ(st.st_size, sizes[i].bytes);
		CHECK_EQ(xgmem_stats(fd).bytes, sizes[i].bytes);
		close(fd);
	}
}

TEST(new_file)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps);
	struct gmemfd_stats stats = xgmem_stats(fd), zero = { 0 };
	unsigned char byte = 1;
	struct stat st;

	zero.size = sizeof(zero);
	zero.bytes = 4 * ps;
	CHECK(!memcmp(&stats, &zero, sizeof(stats)));
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	REQUIRE_OK(fstat(fd, &st));
	CHECK(S_ISREG(st.st_mode));
	CHECK_EQ(st.st_mode & 07777, 0600);
	CHECK_EQ(st.st_blocks, 0);
	CHECK_EQ(st.st_blksize, ps);
	CHECK_EQ(pread(fd, &byte, 1, 0), 1);
	CHECK_EQ(byte, 0);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
}

TEST(files_are_apart)
{
	size_t ps = page_size();
	int a = xgmem(ps), b = xgmem(ps);
	unsigned char *pa = xmmap(NULL, ps, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0);
	unsigned char *pb = xmmap(NULL, ps, PROT_READ | PROT_WRITE, MAP_SHARED, b, 0);
	struct stat sa, sb;

	memset(pa, 1, ps);
	memset(pb, 2, ps);
	CHECK(all_bytes_are(pa, ps, 1));
	CHECK(all_bytes_are(pb, ps, 2));
	REQUIRE_OK(fstat(a, &sa));
	REQUIRE_OK(fstat(b, &sb));
	CHECK(sa.st_ino != sb.st_ino || sa.st_dev != sb.st_dev);
}

TEST(limit_size)
{
	size_t ps = page_size();
	uint64_t max = max_bytes();
	int fd = xgmem(max);
	unsigned char *buf = xmmap_anon(ps), *last, *got = xmmap_anon(ps);

	pattern_fill(buf, ps, 5);
	CHECK_OK(gmem_copy(fd, max - ps, ps, buf, 0));
	CHECK_EQ(pread(fd, got, ps, max - ps), ps);
	CHECK(pattern_is(got, ps, 5));
	last = xmmap(NULL, ps, PROT_READ, MAP_SHARED, fd, max - ps);
	CHECK(pattern_is(last, ps, 5));
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), (off_t)(max - ps));
	CHECK_EQ(lseek(fd, max - ps, SEEK_HOLE), (off_t)max);
	CHECK_OK(gmem_punch(fd, 0, max));
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
}

static bool node_online(unsigned int node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u", node);
	return !access(path, F_OK);
}

/* Pages of a mapping that are in a node: move_pages(2) that moves nothing tells. */
static size_t pages_in(unsigned char *map, size_t pages, uint32_t node)
{
	void **at = calloc(pages, sizeof(*at));
	int *status = calloc(pages, sizeof(*status));
	size_t in = 0;

	REQUIRE(at && status);
	for (size_t i = 0; i < pages; i++)
		at[i] = map + i * page_size();
	REQUIRE_OK(syscall(SYS_move_pages, 0, pages, at, NULL, status, 0));
	for (size_t i = 0; i < pages; i++)
		in += status[i] == (int)node;
	free(at);
	free(status);
	return in;
}

/* Memory comes from the node that was asked for, from this thread's node or not. */
TEST(nodes)
{
	static const uint32_t never[] = { 1023, 1024, 4096, 0x7fffffff, 0x80000000, UINT32_MAX };
	size_t pages = (4 << 20) / page_size();

	if (access("/sys/devices/system/node", F_OK))
		SKIP("the kernel has no NUMA");
	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		CHECK_ERRNO(create(page_size(), GMEMFD_CREATE_NODE, 0, never[i]), EINVAL);
	for (uint32_t node = 0; node < 64; node++) {
		unsigned char *map;
		int fd;

		if (!node_online(node)) {
			CHECK_ERRNO(create(page_size(), GMEMFD_CREATE_NODE, 0, node), EINVAL);
			continue;
		}
		fd = REQUIRE_FD(create(4 << 20, GMEMFD_CREATE_NODE, 0, node));
		REQUIRE_OK(gmem_zero(fd, 0, 4 << 20, 0));
		map = xmmap(NULL, 4 << 20, PROT_READ, MAP_SHARED, fd, 0);
		CHECK(all_bytes_are(map, 4 << 20, 0));
		CHECK_EQ(pages_in(map, pages, node), pages);
		REQUIRE_OK(munmap(map, 4 << 20));
		close(fd);
	}
}

static void limit_descriptors(void)
{
	struct rlimit limit;
	int fd = REQUIRE_FD(dup(0));

	close(fd);
	REQUIRE_OK(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = fd;
	REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &limit));
}

TEST(no_descriptor_left)
{
	long long files, modules;

	gmem_dev();
	modules = read_number(REFCNT);
	files = read_field("/proc/slabinfo", "gmemfd_inode");
	limit_descriptors();
	for (int i = 0; i < 50; i++) {
		CHECK_ERRNO(create(page_size(), 0, 0, 0), EMFILE);
		CHECK_ERRNO(gmem_context(), EMFILE);
	}
	REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 1024, 1024 }));
	CHECK_EQ(read_number(REFCNT), modules);
	CHECK_EQ(read_field("/proc/slabinfo", "gmemfd_inode"), files);
}

TEST(files_and_contexts_pin_the_module)
{
	long long before;
	int fd, context;
	char *map;

	/* What the case before had may be let go of late. */
	REQUIRE(wait_for(read_number(REFCNT) == 0, 10));
	gmem_dev();
	before = read_number(REFCNT);
	fd = xgmem(page_size());
	context = xgmem_context();
	CHECK(read_number(REFCNT) >= before + 2);
	map = xmmap(NULL, page_size(), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	close(context);
	CHECK(wait_for(read_number(REFCNT) > before, 5));
	CHECK_EQ(map[0], 0);
	REQUIRE_OK(munmap(map, page_size()));
	CHECK(wait_for(read_number(REFCNT) == before, 5));
}

/* The policy of the file is that of watches which name none: seen by what becomes of an orphan. */
static const struct policy_row {
	const char *label;
	uint32_t policy;
} policy_rows[] = {
	{ "default", GMEMFD_POLICY_DEFAULT },
	{ "release", GMEMFD_POLICY_RELEASE },
	{ "poison", GMEMFD_POLICY_POISON },
	{ "hold", GMEMFD_POLICY_HOLD },
};

TEST_EACH(policies, struct policy_row, policy_rows)
{
	size_t ps = page_size();
	int fd = REQUIRE_FD(create(ps, 0, row->policy, 0)), context = xgmem_context();
	unsigned char *map = xmmap(NULL, ps, PROT_READ, MAP_SHARED, fd, 0);
	bool hold = row->policy == GMEMFD_POLICY_HOLD, release = row->policy == GMEMFD_POLICY_RELEASE;

	REQUIRE_OK(gmem_watch(fd, context, 0, ps, GMEMFD_MODE_MISSING, 0, GMEMFD_POLICY_DEFAULT));
	close(context);
	CHECK_EQ(xgmem_stats(fd).watches, !release);
	CHECK_EQ(xgmem_stats(fd).orphans, !release);
	if (!hold)
		CHECK_EQ(TOUCH_READ(map), release ? 0 : SIGBUS);
	CHECK_EQ(xgmem_stats(fd).faults_sigbus, !hold && !release);
}
