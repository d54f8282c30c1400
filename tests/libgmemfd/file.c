// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmem files through the library: options of any version, mappings, holes and counters.
 */
#include "lib.h"

#include <sys/stat.h>

TEST(create_by_default)
{
	struct lib_rig rig = lib_rig(4);
	struct gmemfd_create_opts zeros = { .sz = sizeof(zeros) };
	struct stat st;

	REQUIRE_OK(fstat(rig.fd, &st));
	CHECK_EQ(st.st_size, rig.bytes);
	CHECK_EQ(st.st_blksize, rig.page);
	CHECK_EQ(fcntl(rig.fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(rig.fd, F_GETFL) & O_ACCMODE, O_RDWR);
	MUST(gmemfd_create(rig.dev, rig.bytes, &zeros));
	CHECK_EQ(gmemfd_create(rig.dev, 0, NULL), -EINVAL);
	CHECK_EQ(gmemfd_create(rig.dev, rig.page + 1, NULL), -EINVAL);
	CHECK_EQ(gmemfd_create(rig.fd, rig.bytes, NULL), -ENOTTY);
	CHECK_EQ(gmemfd_create(-1, rig.bytes, NULL), -EBADF);
}

TEST(create_huge)
{
	struct gmemfd_create_opts opts = { .sz = sizeof(opts), .flags = GMEMFD_CREATE_HUGE };
	int dev = MUST(gmemfd_open(NULL)), fd;
	struct gmemfd_info info;
	void *map, *at;
	struct stat st;

	MUST(gmemfd_info(dev, &info, sizeof(info)));
	fd = MUST(gmemfd_create(dev, 2 * HPAGE_SIZE, &opts));
	REQUIRE_OK(fstat(fd, &st));
	CHECK_EQ(st.st_blksize, HPAGE_SIZE);
	CHECK_EQ(gmemfd_create(dev, page_size(), &opts), -EINVAL);
	MUST(gmemfd_map(fd, 0, 2 * HPAGE_SIZE, 0, &map));
	if (info.huge_size)
		CHECK_EQ((uintptr_t)map % HPAGE_SIZE, 0);
	CHECK_EQ(gmemfd_zero(fd, 0, page_size(), 0, NULL), -EINVAL);
	CHECK_EQ(gmemfd_zero(fd, 0, HPAGE_SIZE, 0, NULL), 0);
	at = map;
	CHECK_EQ(gmemfd_map(fd, 0, 2 * HPAGE_SIZE, GMEMFD_MAP_AT, &at), -EEXIST);
}

TEST(create_on_a_node)
{
	struct gmemfd_create_opts opts = { .sz = sizeof(opts), .flags = GMEMFD_CREATE_NODE };
	int dev = MUST(gmemfd_open(NULL));

	MUST(gmemfd_create(dev, page_size(), &opts));
	opts.node = 1 << 20;
	CHECK_EQ(gmemfd_create(dev, page_size(), &opts), -EINVAL);
	opts.flags = 0;
	CHECK_EQ(gmemfd_create(dev, page_size(), &opts), -EINVAL);
}

/* The policy that a file is given decides for watches that name none. */
TEST(create_with_policy)
{
	struct gmemfd_create_opts opts = { .sz = sizeof(opts), .policy = GMEMFD_POLICY_RELEASE };
	int dev = MUST(gmemfd_open(NULL)), fd, context;

	fd = MUST(gmemfd_create(dev, page_size(), &opts));
	context = MUST(gmemfd_context(dev, 0));
	MUST(gmemfd_watch(fd, context, 0, page_size(), NULL));
	REQUIRE_OK(close(context));
	CHECK_EQ(lib_stats(fd).watches, 0);
	opts.policy = 77;
	CHECK_EQ(gmemfd_create(dev, page_size(), &opts), -EINVAL);
}

/* Options of programs that were compiled with older and with newer headers. */
TEST(create_opts_of_other_sizes)
{
	int dev = MUST(gmemfd_open(NULL)), lowest;
	struct {
		struct gmemfd_create_opts opts;
		unsigned char more[4096];
	} room = { .opts.flags = GMEMFD_CREATE_HUGE };
	size_t first = sizeof(room.opts);

	lowest = REQUIRE_FD(dup(dev));
	REQUIRE_OK(close(lowest));
	for (room.opts.sz = 0; room.opts.sz < first; room.opts.sz++)
		CHECK_EQ(gmemfd_create(dev, HPAGE_SIZE, &room.opts), -EINVAL);
	room.opts.sz = 4097;
	CHECK_EQ(gmemfd_create(dev, HPAGE_SIZE, &room.opts), -E2BIG);
	room.opts.sz = SIZE_MAX;
	CHECK_EQ(gmemfd_create(dev, HPAGE_SIZE, &room.opts), -E2BIG);
	room.opts.sz = first + 64;
	room.more[63] = 1;
	CHECK_EQ(gmemfd_create(dev, HPAGE_SIZE, &room.opts), -E2BIG);
	room.more[63] = 0;
	room.more[64] = 1;
	/* And none of these made anything. */
	CHECK_EQ(MUST(gmemfd_create(dev, HPAGE_SIZE, &room.opts)), lowest);
	room.more[64] = 0;
	room.opts.sz = 4096;
	MUST(gmemfd_create(dev, HPAGE_SIZE, &room.opts));
}

/* Options are read, and answers written, no further than the caller says. */
TEST(structs_at_the_end_of_a_mapping)
{
	struct gmemfd_create_opts opts = { .sz = sizeof(opts) };
	unsigned char *end = (unsigned char *)xmmap_anon(2 * page_size()) + page_size();
	int dev = MUST(gmemfd_open(NULL)), fd;

	REQUIRE_OK(munmap(end, page_size()));
	memcpy(end - sizeof(opts), &opts, sizeof(opts));
	fd = MUST(gmemfd_create(dev, page_size(), (void *)(end - sizeof(opts))));
	MUST(gmemfd_stats(fd, (void *)(end - sizeof(struct gmemfd_stats)), sizeof(struct gmemfd_stats)));
	CHECK_EQ(((struct gmemfd_stats *)(end - sizeof(struct gmemfd_stats)))->bytes, page_size());
	MUST(gmemfd_info(dev, (void *)(end - sizeof(struct gmemfd_info)), sizeof(struct gmemfd_info)));
	CHECK_EQ(((struct gmemfd_info *)(end - sizeof(struct gmemfd_info)))->abi, GMEMFD_ABI_VERSION);
}

TEST(map_shared_and_private)
{
	struct lib_rig rig = lib_rig(4);
	void *twin, *clone;

	MUST(gmemfd_map(rig.fd, rig.page, 2 * rig.page, 0, &twin));
	MUST(gmemfd_map(rig.fd, rig.page, 2 * rig.page, GMEMFD_MAP_PRIVATE, &clone));
	CHECK_EQ(TOUCH_WRITE(rig.map + rig.page, 1), 0);
	CHECK_EQ(*(unsigned char *)twin, 1);
	CHECK_EQ(*(unsigned char *)clone, 1);
	CHECK_EQ(TOUCH_WRITE(clone, 2), 0);
	CHECK_EQ(*(unsigned char *)twin, 1);
	CHECK_EQ(*(unsigned char *)clone, 2);
}

TEST(map_read_only)
{
	struct lib_rig rig = lib_rig(1);
	int fd = lib_read_only(rig.fd);
	void *map = rig.map;

	CHECK_EQ(gmemfd_map(fd, 0, rig.bytes, 0, &map), -EACCES);
	CHECK(map == rig.map);
	MUST(gmemfd_map(fd, 0, rig.bytes, GMEMFD_MAP_READ_ONLY, &map));
	CHECK(map != rig.map);
	CHECK_EQ(TOUCH_WRITE(map, 1), SIGSEGV);
	CHECK_EQ(TOUCH_WRITE(rig.map, 3), 0);
	CHECK_EQ(*(unsigned char *)map, 3);
}

TEST(map_where_it_is_told)
{
	struct lib_rig rig = lib_rig(1);
	unsigned char *room = xmmap(NULL, 4 * rig.page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *at = room + rig.page;

	CHECK_EQ(gmemfd_map(rig.fd, 0, rig.bytes, GMEMFD_MAP_AT, &at), -EEXIST);
	CHECK_EQ(TOUCH_READ(at), SIGSEGV);
	MUST(gmemfd_map(rig.fd, 0, rig.bytes, GMEMFD_MAP_AT | GMEMFD_MAP_REPLACE, &at));
	CHECK(at == room + rig.page);
	CHECK_EQ(TOUCH_WRITE(at, 9), 0);
	CHECK_EQ(rig.map[0], 9);
	CHECK_EQ(TOUCH_READ(room), SIGSEGV);
	REQUIRE_OK(munmap(room + 2 * rig.page, rig.page));
	at = room + 2 * rig.page;
	MUST(gmemfd_map(rig.fd, 0, rig.bytes, GMEMFD_MAP_AT, &at));
	CHECK(at == room + 2 * rig.page);
	CHECK_EQ(room[2 * rig.page], 9);
}

TEST(map_refuses)
{
	struct lib_rig rig = lib_rig(1);
	void *at = NULL;

	for (int bit = 4; bit < 32; bit++)
		CHECK_EQ(gmemfd_map(rig.fd, 0, rig.bytes, 1u << bit, &at), -EINVAL);
	CHECK_EQ(gmemfd_map(rig.fd, 0, rig.bytes, GMEMFD_MAP_REPLACE, &at), -EINVAL);
	CHECK_EQ(gmemfd_map(rig.fd, 1, rig.bytes, 0, &at), -EINVAL);
	CHECK_EQ(gmemfd_map(rig.fd, 0, 0, 0, &at), -EINVAL);
	CHECK_EQ(gmemfd_map(rig.fd, (uint64_t)INT64_MAX + 1, rig.page, 0, &at), -EINVAL);
	CHECK_EQ(gmemfd_map(rig.fd, 0, SIZE_MAX - rig.page + 1, 0, &at), -ENOMEM);
	CHECK_EQ(gmemfd_map(-1, 0, rig.bytes, 0, &at), -EBADF);
	CHECK(!at);
}

TEST(punch_gives_back)
{
	struct lib_rig rig = lib_rig(4);

	MUST(gmemfd_zero(rig.fd, 0, rig.bytes, 0, NULL));
	memset(rig.map, 7, rig.bytes);
	CHECK_EQ(gmemfd_punch(rig.fd, rig.page, 2 * rig.page), 0);
	CHECK_EQ(lib_stats(rig.fd).allocated, 2 * rig.page);
	CHECK(lib_has_content(rig.fd, 0) && lib_has_content(rig.fd, 3 * rig.page));
	CHECK(!lib_has_content(rig.fd, rig.page) && !lib_has_content(rig.fd, 2 * rig.page));
	/* Past the end is passed over; edges are zeroed. */
	CHECK_EQ(gmemfd_punch(rig.fd, rig.bytes - 8, 4096), 0);
	CHECK_EQ(rig.map[rig.bytes - 9], 7);
	CHECK_EQ(rig.map[rig.bytes - 8], 0);
	CHECK_EQ(gmemfd_punch(rig.fd, 0, 0), -EINVAL);
	CHECK_EQ(gmemfd_punch(rig.fd, UINT64_MAX - rig.page + 1, rig.page), -EINVAL);
	CHECK_EQ(gmemfd_punch(rig.fd, 0, UINT64_MAX), -EINVAL);
	CHECK_EQ(gmemfd_punch(lib_read_only(rig.fd), 0, rig.page), -EBADF);
	CHECK_EQ(gmemfd_punch(-1, 0, rig.page), -EBADF);
}

TEST(stats_of_any_size)
{
	struct lib_rig rig = lib_rig(4);
	struct {
		struct gmemfd_stats stats;
		char more[64];
		char behind[64];
	} room;

	MUST(gmemfd_zero(rig.fd, 0, rig.page, 0, NULL));
	memset(&room, 0xa5, sizeof(room));
	MUST(gmemfd_stats(lib_read_only(rig.fd), &room.stats, sizeof(room.stats) + sizeof(room.more)));
	CHECK_EQ(room.stats.bytes, rig.bytes);
	CHECK_EQ(room.stats.zeroed, rig.page);
	CHECK(all_bytes_are(room.more, sizeof(room.more), 0));
	CHECK(all_bytes_are(room.behind, sizeof(room.behind), 0xa5));
	CHECK_EQ(gmemfd_stats(rig.fd, &room.stats, sizeof(room.stats) - 1), -EINVAL);
	CHECK_EQ(gmemfd_stats(rig.fd, &room.stats, 4097), -E2BIG);
	CHECK_EQ(gmemfd_stats(rig.dev, &room.stats, sizeof(room.stats)), -ENOTTY);
	CHECK_EQ(gmemfd_stats(-1, &room.stats, sizeof(room.stats)), -EBADF);
}
