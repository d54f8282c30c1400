// SPDX-License-Identifier: GPL-2.0-only
/*
 * SEEK_DATA and SEEK_HOLE: exact for every pattern of pages, and quick however large and empty, or full, the file is.
 */
#include "gmem.h"

#define PAGES 64

/* For every byte position, what the model of the pages says. */
static void check_all(int fd, const bool *data, size_t pages)
{
	size_t ps = page_size();

	for (size_t i = 0; i < pages; i++)
		for (size_t off = 0; off < ps; off += ps / 2 - 1) {
			size_t d = i, h = i;
			off_t pos = i * ps + off;

			while (d < pages && !data[d])
				d++;
			while (h < pages && data[h])
				h++;
			if (d == pages)
				CHECK_ERRNO(lseek(fd, pos, SEEK_DATA), ENXIO);
			else
				CHECK_EQ(lseek(fd, pos, SEEK_DATA), d == i ? pos : (off_t)(d * ps));
			CHECK_EQ(lseek(fd, pos, SEEK_HOLE), h == i ? pos : (off_t)(h * ps));
		}
	CHECK_ERRNO(lseek(fd, pages * ps, SEEK_DATA), ENXIO);
	CHECK_ERRNO(lseek(fd, pages * ps, SEEK_HOLE), ENXIO);
	CHECK_ERRNO(lseek(fd, pages * ps + 1, SEEK_HOLE), ENXIO);
	CHECK_ERRNO(lseek(fd, -1, SEEK_DATA), ENXIO);
	CHECK_ERRNO(lseek(fd, -1, SEEK_HOLE), ENXIO);
}

static const struct pattern {
	const char *label;
	const char *pages;	/* x: content, of which X: a single operation of all that follow it */
} patterns[] = {
	{ "empty", "................................................................" },
	{ "full", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" },
	{ "first", "x..............................................................." },
	{ "last", "...............................................................x" },
	{ "alternating", "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x." },
	{ "alternating, absent first", ".x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x" },
	{ "runs", "xxxx....xx..xxxxxxxxxxxxxxxx....x..............xxxxxxxxxxxxxxxxx" },
	{ "hole in the middle", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" },
	{ "all but the first", ".xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" },
	{ "all but the last", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx." },
};

TEST_EACH(patterns_by_pages, struct pattern, patterns)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	bool data[PAGES];

	for (size_t i = 0; i < PAGES; i++) {
		data[i] = row->pages[i] == 'x';
		if (data[i])
			REQUIRE_OK(gmem_zero(fd, i * ps, ps, 0));
	}
	check_all(fd, data, PAGES);
}

/* The same with folios as large as can be: each run of content in one operation. */
TEST_EACH(patterns_by_runs, struct pattern, patterns)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	bool data[PAGES];

	for (size_t i = 0, n; i < PAGES; i += n) {
		n = 1;
		data[i] = row->pages[i] == 'x';
		if (!data[i])
			continue;
		while (i + n < PAGES && row->pages[i + n] == 'x')
			data[i + n++] = true;
		REQUIRE_OK(gmem_zero(fd, i * ps, n * ps, 0));
	}
	check_all(fd, data, PAGES);
}

/* Holes made by punching content away, in the middle of folios. */
TEST_EACH(patterns_by_punching, struct pattern, patterns)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	bool data[PAGES];

	REQUIRE_OK(gmem_zero(fd, 0, PAGES * ps, 0));
	for (size_t i = 0; i < PAGES; i++) {
		data[i] = row->pages[i] == 'x';
		if (!data[i])
			REQUIRE_OK(gmem_punch(fd, i * ps, ps));
	}
	check_all(fd, data, PAGES);
}

/* Closed content is content, poison is none. */
TEST(closed_and_poisoned)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps), context = xgmem_context();
	bool data[8] = { [2] = true };

	REQUIRE_OK(gmem_watch(fd, context, 0, 8 * ps, GMEMFD_MODE_ALL, 0, 0));
	REQUIRE_OK(gmem_zero(fd, 2 * ps, ps, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(gmem_poison(fd, 5 * ps, ps, 0));
	check_all(fd, data, 8);
	CHECK_EQ(xgmem_stats(fd).faults_missing, 0);
}

/* The best of some, or of many: what the machine does besides may make any of them long. */
#define TAKES 5
#define MOST_TAKES 100

static double least(double a, double b)
{
	return a < b ? a : b;
}

static double seek_empty(uint64_t size)
{
	size_t ps = page_size();
	int fd = xgmem(size);
	double began = now_seconds(), took;

	CHECK_ERRNO(lseek(fd, 0, SEEK_DATA), ENXIO);
	REQUIRE_OK(gmem_zero(fd, size / 2, ps, 0));
	REQUIRE_OK(gmem_zero(fd, size - ps, ps, 0));
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), (off_t)(size / 2));
	CHECK_EQ(lseek(fd, size / 2, SEEK_HOLE), (off_t)(size / 2 + ps));
	CHECK_EQ(lseek(fd, size / 2 + ps, SEEK_DATA), (off_t)(size - ps));
	CHECK_EQ(lseek(fd, size - ps, SEEK_HOLE), (off_t)size);
	CHECK_OK(gmem_punch(fd, 0, size));
	CHECK_ERRNO(lseek(fd, 0, SEEK_DATA), ENXIO);
	took = now_seconds() - began;
	REQUIRE_OK(close(fd));
	return took;
}

/* Holes are passed over, not looked through. */
TEST(large_and_empty)
{
	double small = 1e9, large = 1e9;

	for (int i = 0; i < TAKES || (large >= 50 * small && i < MOST_TAKES); i++) {
		small = least(small, seek_empty(1ull << 22));
		large = least(large, seek_empty(1ull << 50));
	}
	tap_diag("4 MiB: %.0f us, 1 PiB: %.0f us", small * 1e6, large * 1e6);
	CHECK(large < 50 * small);
}

static double seek_full(int fd, off_t size)
{
	size_t ps = page_size();
	double began = now_seconds(), took;

	CHECK_EQ(lseek(fd, 0, SEEK_HOLE), size);
	CHECK_EQ(lseek(fd, 12345, SEEK_HOLE), size);
	CHECK_EQ(lseek(fd, size - 1, SEEK_HOLE), size);
	CHECK_EQ(lseek(fd, 5, SEEK_DATA), 5);
	CHECK_OK(gmem_punch(fd, size - 2 * (off_t)ps, ps));
	CHECK_EQ(lseek(fd, 12345, SEEK_HOLE), size - 2 * (off_t)ps);
	took = now_seconds() - began;
	REQUIRE_OK(gmem_zero(fd, size - 2 * (off_t)ps, ps, 0));
	return took;
}

/* More content in one piece than is looked through at a time: it takes no longer than by as much as there is more. */
TEST(large_and_full)
{
	off_t few = (off_t)4 << 20, much = (off_t)300 << 20;
	int small_fd = xgmem(few), large_fd = xgmem(much);
	double small = 1e9, large = 1e9;

	REQUIRE_OK(fallocate(small_fd, 0, 0, few));
	REQUIRE_OK(fallocate(large_fd, 0, 0, much));
	for (int i = 0; i < TAKES || (large >= 8 * small * (much / few) && i < MOST_TAKES); i++) {
		small = least(small, seek_full(small_fd, few));
		large = least(large, seek_full(large_fd, much));
	}
	tap_diag("4 MiB: %.0f us, 300 MiB: %.0f us", small * 1e6, large * 1e6);
	/* If each piece cost as much as all before it, this would be 75 times as much again. */
	CHECK(large < 8 * small * (much / few));
}

/*
 * A page that is present is data, also while the large page that it lies in is made small: here by holes that are
 * punched into large pages one after the other, a page at the end of each.
 */
#define LARGE 16

struct seeker {
	int fd;
	bool stop;
	unsigned long looks;
	unsigned long lost;
};

static void *seek_on(void *arg)
{
	struct seeker *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		for (off_t at = 0; at < (off_t)(LARGE * HPAGE_SIZE); at += HPAGE_SIZE) {
			s->lost += lseek(s->fd, at, SEEK_DATA) != at;
			s->lost += lseek(s->fd, at, SEEK_HOLE) < at + (off_t)(HPAGE_SIZE - page_size());
		}
		__atomic_add_fetch(&s->looks, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

TEST(while_large_pages_are_split)
{
	struct seeker s = { .fd = xgmem(LARGE * HPAGE_SIZE) };
	pthread_t thread;

	REQUIRE_OK(gmem_zero(s.fd, 0, LARGE * HPAGE_SIZE, 0));
	thread = thread_start(seek_on, &s);
	REQUIRE(wait_for(__atomic_load_n(&s.looks, __ATOMIC_ACQUIRE), 10));
	for (size_t i = 1; i <= LARGE; i++)
		CHECK_OK(gmem_punch(s.fd, i * HPAGE_SIZE - page_size(), page_size()));
	__atomic_store_n(&s.stop, true, __ATOMIC_RELEASE);
	thread_join(thread);
	CHECK_EQ(s.lost, 0);
	CHECK_EQ(xgmem_stats(s.fd).allocated, LARGE * (HPAGE_SIZE - page_size()));
}
