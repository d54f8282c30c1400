// SPDX-License-Identifier: GPL-2.0-only
/*
 * fallocate(2) on a gmem file that nobody watches: allocating, punching of all geometries, modes that it has not got.
 * The file is compared with a copy that the test keeps.
 */
#include "gmem.h"

#include <linux/falloc.h>

#define PAGES 32

static unsigned char *bytes_of(int fd, size_t len)
{
	unsigned char *buf = xmmap_anon(len);

	REQUIRE_EQ(pread(fd, buf, len, 0), len);
	return buf;
}

static int filled(size_t len, unsigned char *model, bool huge)
{
	int fd = huge ? xgmem_huge(len) : xgmem(len);

	pattern_fill(model, len, 1);
	REQUIRE_OK(gmem_copy(fd, 0, len, model, 0));
	return fd;
}

TEST(allocates)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	unsigned char *page = xmmap_anon(ps), *got;

	memset(page, 1, ps);
	REQUIRE_OK(gmem_copy(fd, 4 * ps, ps, page, 0));
	/* Unaligned: all pages that it touches. What is there stays. */
	CHECK_OK(fallocate(fd, 0, 3 * ps + 1, 2 * ps));
	CHECK_EQ(xgmem_stats(fd).allocated, 3 * ps);
	CHECK_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 10 * ps, ps));
	CHECK_EQ(xgmem_stats(fd).allocated, 4 * ps);
	CHECK_EQ(xgmem_stats(fd).written, 3 * ps);
	got = bytes_of(fd, PAGES * ps);
	CHECK(all_bytes_are(got, 4 * ps, 0));
	CHECK(all_bytes_are(got + 4 * ps, ps, 1));
	CHECK(all_bytes_are(got + 5 * ps, (PAGES - 5) * ps, 0));
	CHECK_OK(fallocate(fd, 0, 0, PAGES * ps));
	CHECK_OK(fallocate(fd, 0, 0, PAGES * ps));
	CHECK_EQ(xgmem_stats(fd).allocated, PAGES * ps);
	CHECK(all_bytes_are(bytes_of(fd, PAGES * ps) + 4 * ps, ps, 1));
	CHECK_EQ(lseek(fd, 0, SEEK_END), (off_t)(PAGES * ps));
}

TEST(beyond_the_end)
{
	size_t ps = page_size(), len = 4 * ps;
	unsigned char *model = xmmap_anon(len);
	int fd = xgmem(len);

	CHECK_ERRNO(fallocate(fd, 0, 0, len + 1), ENOSPC);
	CHECK_ERRNO(fallocate(fd, FALLOC_FL_KEEP_SIZE, len, ps), ENOSPC);
	CHECK_ERRNO(fallocate(fd, 0, INT64_MAX - 1, 2), EFBIG);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	fd = filled(len, model, false);
	CHECK_OK(gmem_punch(fd, len, ps));
	CHECK_OK(gmem_punch(fd, 1ull << 40, ps));
	CHECK(!memcmp(bytes_of(fd, len), model, len));
	CHECK_OK(gmem_punch(fd, 3 * ps, 1ull << 40));
	CHECK_EQ(xgmem_stats(fd).allocated, 3 * ps);
	CHECK_ERRNO(fallocate(fd, 0, 0, 0), EINVAL);
	CHECK_ERRNO(fallocate(fd, 0, -1, 10), EINVAL);
	CHECK_ERRNO(fallocate(fd, 0, 0, -10), EINVAL);
}

static const struct mode {
	const char *label;
	int mode;
} modes[] = {
	{ "zero range", FALLOC_FL_ZERO_RANGE },
	{ "zero range keep size", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE },
	{ "collapse range", FALLOC_FL_COLLAPSE_RANGE },
	{ "insert range", FALLOC_FL_INSERT_RANGE },
	{ "unshare range", FALLOC_FL_UNSHARE_RANGE },
	{ "punch without keep size", FALLOC_FL_PUNCH_HOLE },
	{ "unknown", 0x400 },
};

TEST_EACH(unsupported, struct mode, modes)
{
	size_t ps = page_size(), len = 4 * ps;
	unsigned char *model = xmmap_anon(len);
	int fd = filled(len, model, false);

	CHECK_ERRNO(fallocate(fd, row->mode, 0, ps), EOPNOTSUPP);
	CHECK(!memcmp(bytes_of(fd, len), model, len));
	CHECK_EQ(xgmem_stats(fd).allocated, len);
}

/* In pages and bytes: from page a plus x bytes to page b plus y bytes. */
static const struct hole {
	const char *label;
	size_t a, x, b, y;
} holes[] = {
	{ "page", 3, 0, 4, 0 }, { "pages", 3, 0, 9, 0 }, { "within a page", 3, 100, 3, 200 },
	{ "start of a page", 3, 0, 3, 200 }, { "end of a page", 3, 200, 4, 0 }, { "over a boundary", 3, 4000, 4, 50 },
	{ "edges and one page", 3, 4000, 5, 50 }, { "edges and pages", 3, 1, 8, 4095 }, { "edge before", 3, 1, 8, 0 },
	{ "edge behind", 3, 0, 8, 1 }, { "whole", 0, 0, PAGES, 0 }, { "first byte", 0, 0, 0, 1 },
	{ "last byte", PAGES - 1, 4095, PAGES, 0 }, { "all but the first and last byte", 0, 1, PAGES - 1, 4095 },
};

TEST_EACH(punch, struct hole, holes)
{
	size_t ps = page_size(), len = PAGES * ps;
	size_t from = row->a * ps + row->x, to = row->b * ps + row->y;
	size_t first = (from + ps - 1) / ps, end = to / ps, gone = end > first ? end - first : 0;
	unsigned char *model = xmmap_anon(len), *map, in_core[PAGES];
	int fd = filled(len, model, false);

	map = xmmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(!memcmp(map, model, len));
	memset(model + from, 0, to - from);
	CHECK_OK(gmem_punch(fd, from, to - from));
	CHECK_EQ(xgmem_stats(fd).allocated, len - gone * ps);
	CHECK_EQ(xgmem_stats(fd).punched, gone * ps);
	/* The mapping has lost what is a hole, and nothing else. */
	REQUIRE_OK(mincore(map, len, in_core));
	for (size_t i = 0; i < PAGES; i++)
		CHECK_EQ(in_core[i] & 1, !(i >= first && i < first + gone));
	CHECK(!memcmp(bytes_of(fd, len), model, len));
	CHECK(!memcmp(map, model, len));
	/* Again: nothing left to punch. */
	CHECK_OK(gmem_punch(fd, from, to - from));
	CHECK(!memcmp(bytes_of(fd, len), model, len));
}

/* A huge file gives back whole granules; the rest of the range is zeroed. */
TEST(punch_in_a_huge_file)
{
	size_t ps = page_size(), len = 3 * HPAGE_SIZE;
	unsigned char *model = xmmap_anon(len);
	int fd = filled(len, model, true);

	CHECK_EQ(xgmem_stats(fd).huge, 3);
	memset(model + ps, 0, ps);
	CHECK_OK(gmem_punch(fd, ps, ps));
	CHECK_EQ(xgmem_stats(fd).allocated, len);
	CHECK(!memcmp(bytes_of(fd, len), model, len));
	memset(model + HPAGE_SIZE - 5, 0, HPAGE_SIZE + 10);
	CHECK_OK(gmem_punch(fd, HPAGE_SIZE - 5, HPAGE_SIZE + 10));
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * HPAGE_SIZE);
	CHECK(!memcmp(bytes_of(fd, len), model, len));
	CHECK_EQ(lseek(fd, 0, SEEK_HOLE), (off_t)HPAGE_SIZE);
	CHECK_EQ(lseek(fd, HPAGE_SIZE, SEEK_DATA), (off_t)(2 * HPAGE_SIZE));
	/* Allocating gives whole granules. */
	CHECK_OK(fallocate(fd, 0, HPAGE_SIZE + 10, 1));
	CHECK_EQ(xgmem_stats(fd).allocated, len);
	CHECK(!memcmp(bytes_of(fd, len), model, len));
	CHECK_OK(gmem_punch(fd, 0, len));
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK(all_bytes_are(bytes_of(fd, len), len, 0));
}

/* Memory really comes back. */
TEST(punch_frees_memory)
{
	size_t len = (size_t)64 << 20;
	int fd = xgmem(len);
	long long before = read_field("/proc/meminfo", "Unevictable:");

	REQUIRE_OK(fallocate(fd, 0, 0, len));
	CHECK(wait_for(read_field("/proc/meminfo", "Unevictable:") - before > (60 << 10), 5));
	CHECK_OK(gmem_punch(fd, 0, len));
	CHECK(wait_for(read_field("/proc/meminfo", "Unevictable:") - before < (8 << 10), 5));
}
