// SPDX-License-Identifier: GPL-2.0-only
/*
 * CONTINUE: opening closed pages, one by one or as parts of large folios, how far it says that it came, who is woken.
 * That closed pages cannot be seen is tested with the traps.
 */
#include "gmem.h"

#define BYTES (2 * HPAGE_SIZE)

static int closed_file(int *context, uint64_t bytes, uint64_t at, uint64_t len, uint64_t seed)
{
	unsigned char *src = xmmap_anon(len);
	int fd = xgmem(bytes);

	*context = xgmem_context();
	REQUIRE_OK(gmem_watch(fd, *context, 0, bytes, GMEMFD_MODE_ALL, 0, 0));
	pattern_fill(src, len, seed);
	CHECK_DONE(gmem_copy(fd, at, len, src, GMEMFD_RANGE_CLOSED), len);
	REQUIRE_OK(munmap(src, len));
	return fd;
}

TEST(what_it_refuses)
{
	size_t ps = page_size();
	int context, fd = closed_file(&context, 8 * ps, 2 * ps, 3 * ps, 1);
	unsigned char *map = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, fd, 0);

	CHECK_REFUSED(gmem_continue(fd, 0, ps, 0), EFAULT);
	CHECK_REFUSED(gmem_continue(fd, 0, 8 * ps, 0), EFAULT);
	CHECK_REFUSED(gmem_continue(fd, 2 * ps, ps, GMEMFD_RANGE_CLOSED), EINVAL);
	CHECK_DONE(gmem_continue(fd, 3 * ps, ps, 0), ps);
	CHECK_REFUSED(gmem_continue(fd, 3 * ps, ps, 0), EEXIST);
	/* Up to the page that is open already, up to the one that is absent. */
	CHECK_PARTLY(gmem_continue(fd, 2 * ps, 3 * ps, 0), ps);
	CHECK_PARTLY(gmem_continue(fd, 4 * ps, 4 * ps, 0), ps);
	CHECK(pattern_is(map + 2 * ps, 3 * ps, 1));
	CHECK_EQ(xgmem_stats(fd).continued, 3 * ps);
	CHECK_DONE(gmem_poison(fd, 6 * ps, ps, 0), ps);
	CHECK_REFUSED(gmem_continue(fd, 6 * ps, ps, 0), EFAULT);
	/* A page that was never closed is open. */
	CHECK_DONE(gmem_zero(fd, 0, ps, 0), ps);
	CHECK_REFUSED(gmem_continue(fd, 0, ps, 0), EEXIST);
}

static const struct part_row {
	const char *label;
	size_t first, pages;	/* of a closed folio of 512 pages, from page 512 on */
} parts[] = {
	{ "whole", 0, 512 },
	{ "first_page", 0, 1 },
	{ "last_page", 511, 1 },
	{ "middle", 17, 100 },
	{ "all_but_first", 1, 511 },
	{ "all_but_last", 0, 511 },
};

TEST_EACH(part_of_2m, struct part_row, parts)
{
	size_t ps = page_size(), base = HPAGE_SIZE, at = base + row->first * ps, len = row->pages * ps;
	int context, fd = closed_file(&context, BYTES, base, HPAGE_SIZE, 7);
	unsigned char *map = xmmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher before = { .addr = map + at - ps }, after = { .addr = map + at + len };
	bool has_before = row->first > 0, has_after = row->first + row->pages < 512;
	unsigned char *want = xmmap_anon(HPAGE_SIZE);

	pattern_fill(want, HPAGE_SIZE, 7);
	CHECK_DONE(gmem_continue(fd, at, len, 0), len);
	CHECK(!memcmp(map + at, want + (at - base), len));
	CHECK_EQ(xgmem_stats(fd).allocated, HPAGE_SIZE);
	CHECK_EQ(xgmem_stats(fd).continued, len);
	/* Its neighbours are as closed as before. */
	if (has_before)
		gmem_toucher_start(&before);
	if (has_after)
		gmem_toucher_start(&after);
	CHECK(gmem_waiters(fd, has_before + has_after, 10));
	CHECK(wait_for(xgmem_stats(fd).faults_minor == (uint64_t)(has_before + has_after), 10));
	if (has_before) {
		CHECK_DONE(gmem_continue(fd, base, at - base, 0), at - base);
		CHECK_EQ(gmem_toucher_join(&before), want[at - base - ps]);
	}
	if (has_after) {
		CHECK_DONE(gmem_continue(fd, at + len, BYTES - at - len, 0), BYTES - at - len);
		CHECK_EQ(gmem_toucher_join(&after), want[at - base + len]);
	}
	CHECK(pattern_is(map + base, HPAGE_SIZE, 7));
	CHECK_REFUSED(gmem_continue(fd, base, HPAGE_SIZE, 0), EEXIST);
}

TEST(over_folios_of_all_sizes)
{
	size_t ps = page_size(), len = BYTES - 3 * ps;
	/* An odd start makes folios of many orders. */
	int context, fd = closed_file(&context, BYTES, ps, len, 2);
	unsigned char *map = xmmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);

	CHECK_DONE(gmem_continue(fd, 21 * ps, 300 * ps, 0), 300 * ps);
	CHECK_DONE(gmem_continue(fd, ps, 20 * ps, 0), 20 * ps);
	CHECK_PARTLY(gmem_continue(fd, 321 * ps, BYTES - 321 * ps, 0), len - 320 * ps);
	CHECK(pattern_is(map + ps, len, 2));
}

TEST(who_is_woken)
{
	size_t ps = page_size();
	int context, fd = closed_file(&context, 16 * ps, 0, 16 * ps, 3);
	unsigned char *map = xmmap(NULL, 16 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher a = { .addr = map }, b = { .addr = map + 15 * ps }, quiet = { .addr = map + 4 * ps };

	gmem_toucher_start(&a);
	gmem_toucher_start(&b);
	gmem_toucher_start(&quiet);
	REQUIRE(gmem_waiters(fd, 3, 10));
	CHECK_DONE(gmem_continue(fd, ps, ps, 0), ps);
	CHECK_EQ(xgmem_stats(fd).wakes, 0);
	CHECK_DONE(gmem_continue(fd, 0, ps, 0), ps);
	CHECK(gmem_toucher_join(&a) >= 0);
	CHECK_DONE(gmem_continue(fd, 4 * ps, ps, GMEMFD_RANGE_DONTWAKE), ps);
	CHECK(!thread_join_for(quiet.thread, 0.1));
	CHECK_EQ(xgmem_stats(fd).wakes, 1);
	CHECK_DONE(gmem_wake(fd, 0, 8 * ps), 8 * ps);
	CHECK(gmem_toucher_join(&quiet) >= 0);
	CHECK_EQ(xgmem_stats(fd).waiters, 1);
	CHECK_DONE(gmem_continue(fd, 8 * ps, 8 * ps, 0), 8 * ps);
	CHECK(gmem_toucher_join(&b) >= 0);
	CHECK(pattern_is(map, ps, 3));
}

/* A read(2) that waits for a closed page must not keep its folio from being opened in part. */
TEST(part_of_a_folio_that_a_read_waits_for)
{
	size_t ps = page_size();
	int context, fd = closed_file(&context, BYTES, HPAGE_SIZE, HPAGE_SIZE, 4);
	struct gmem_toucher reader = { .fd = fd, .offset = HPAGE_SIZE + 7 * ps }, other = { .fd = fd };
	struct gmemfd_event event;
	unsigned char *want = xmmap_anon(HPAGE_SIZE);

	pattern_fill(want, HPAGE_SIZE, 4);
	other.offset = HPAGE_SIZE + 300 * ps;
	gmem_toucher_start(&reader);
	gmem_toucher_start(&other);
	REQUIRE(gmem_waiters(fd, 2, 10));
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.len, ps);
	CHECK_DONE(gmem_continue(fd, HPAGE_SIZE + 7 * ps, ps, 0), ps);
	/* Where it could not be opened by itself, the whole of it can, so that the case ends. */
	CHECK_DONE(gmem_continue(fd, HPAGE_SIZE + 8 * ps, HPAGE_SIZE - 8 * ps, 0), HPAGE_SIZE - 8 * ps);
	gmem_continue(fd, HPAGE_SIZE, HPAGE_SIZE, 0);
	CHECK_EQ(gmem_toucher_join(&reader), want[7 * ps]);
	CHECK_EQ(gmem_toucher_join(&other), want[300 * ps]);
}
