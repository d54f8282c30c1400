// SPDX-License-Identifier: GPL-2.0-only
/*
 * Watches: which ranges trap, which cookie comes back, what is refused, and what the end of a watch, or of a part of
 * it, does to pages and to those who wait.
 */
#include "trap.h"

#include <sys/eventfd.h>

#define PAGES 16
#define ALL GMEMFD_MODE_ALL
#define MISSING GMEMFD_MODE_MISSING

/* Every page of the file traps with the cookie of its row, or not at all where that is 0. */
static void check_cookies(const struct trap_rig *rig, const uint64_t *cookies, size_t pages)
{
	struct gmemfd_event event;

	for (size_t i = 0; i < pages; i++) {
		int got = trap_probe(rig->fd, i * rig->granule, rig->context, &event);

		if (!cookies[i]) {
			tap_check(got == 0, false, __FILE__, __LINE__, "page %zu reads as zero (%d)", i, got);
			continue;
		}
		if (!tap_check(got == TRAP_WAITS, false, __FILE__, __LINE__, "page %zu traps (%d)", i, got))
			continue;
		CHECK_EQ(event.cookie, cookies[i]);
		CHECK_EQ(event.offset, i * rig->granule);
		CHECK_EQ(event.len, rig->granule);
		CHECK_EQ(event.type, GMEMFD_EVENT_FAULT);
		CHECK(all_bytes_are(&event.slot, sizeof(event) - offsetof(struct gmemfd_event, slot), 0));
	}
	CHECK_EQ(xgmem_stats(rig->fd).waiters, 0);
	CHECK_EQ(xgmem_stats(rig->fd).allocated, 0);
	CHECK(trap_quiet(rig->context));
}

TEST(ranges_trap_and_nothing_beside_them)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	size_t g = rig.granule;
	uint64_t cookies[PAGES] = { 0 };

	/* One in the middle, two that touch, one at each end. */
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 4 * g, 2 * g, MISSING, 44, 0));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 8 * g, g, MISSING, 88, 0));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 9 * g, 2 * g, ALL, 99, 0));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, g, MISSING, UINT64_MAX, 0));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 15 * g, g, MISSING, 1, 0));
	cookies[4] = 44;
	cookies[5] = 44;
	cookies[8] = 88;
	cookies[9] = 99;
	cookies[10] = 99;
	cookies[0] = UINT64_MAX;
	cookies[15] = 1;
	CHECK_EQ(xgmem_stats(rig.fd).watches, 5);
	check_cookies(&rig, cookies, PAGES);
}

TEST(huge_granules_trap_as_a_whole)
{
	struct trap_rig rig = trap_rig(3, 0, GMEMFD_CREATE_HUGE);
	struct gmemfd_event event;

	REQUIRE_OK(gmem_watch(rig.fd, rig.context, rig.granule, rig.granule, MISSING, 7, 0));
	CHECK_EQ(trap_probe(rig.fd, rig.granule + 12345, rig.context, &event), TRAP_WAITS);
	CHECK_EQ(event.offset, rig.granule);
	CHECK_EQ(event.len, GMEMFD_HUGE_SIZE);
	CHECK_EQ(trap_probe(rig.fd, rig.granule - 1, rig.context, &event), 0);
	CHECK_EQ(trap_probe(rig.fd, 2 * rig.granule, rig.context, &event), 0);
	CHECK_OK(gmem_unwatch(rig.fd, rig.granule, rig.granule));
	CHECK_EQ(trap_probe(rig.fd, rig.granule + 12345, rig.context, &event), 0);
}

static const struct overlap_row {
	const char *label;
	int first, pages;
} overlaps[] = {
	{ "same", 4, 4 },
	{ "inside", 5, 2 },
	{ "around", 3, 6 },
	{ "over_start", 2, 3 },
	{ "over_end", 7, 3 },
};

TEST_EACH(overlap_is_busy, struct overlap_row, overlaps)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	size_t g = rig.granule;
	int other = xgmem_context();
	uint64_t cookies[PAGES] = { 0 };

	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 4 * g, 4 * g, MISSING, 5, 0));
	CHECK_ERRNO(gmem_watch(rig.fd, rig.context, row->first * g, row->pages * g, MISSING, 6, 0), EBUSY);
	CHECK_ERRNO(gmem_watch(rig.fd, other, row->first * g, row->pages * g, GMEMFD_MODE_MINOR, 6, 0), EBUSY);
	CHECK_EQ(xgmem_stats(rig.fd).watches, 1);
	for (int i = 4; i < 8; i++)
		cookies[i] = 5;
	check_cookies(&rig, cookies, PAGES);
}

static const struct range_row {
	const char *label;
	uint64_t flags;
	/* In eighths of a granule. */
	uint64_t offset, len;
} bad_ranges[] = {
	{ "unaligned_offset", 0, 1, 8 },
	{ "unaligned_len", 0, 0, 9 },
	{ "empty", 0, 8, 0 },
	{ "behind_the_end", 0, 8 * PAGES, 8 },
	{ "over_the_end", 0, 8 * (PAGES - 1), 16 },
	{ "wraps", 0, 8, -(8ull << 12) },
	{ "huge_unaligned_offset", GMEMFD_CREATE_HUGE, 4, 8 },
	{ "huge_unaligned_len", GMEMFD_CREATE_HUGE, 0, 4 },
};

TEST_EACH(bad_range_is_refused, struct range_row, bad_ranges)
{
	struct trap_rig rig = trap_rig(PAGES, 0, row->flags);
	uint64_t unit = rig.granule / 8;

	CHECK_ERRNO(gmem_watch(rig.fd, rig.context, row->offset * unit, row->len * unit, MISSING, 0, 0), EINVAL);
	CHECK_ERRNO(gmem_unwatch(rig.fd, row->offset * unit, row->len * unit), EINVAL);
	CHECK_EQ(xgmem_stats(rig.fd).watches, 0);
}

TEST(modes_and_policies_that_are_none)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);

	CHECK_ERRNO(gmem_watch(rig.fd, rig.context, 0, rig.bytes, 0, 0, 0), EINVAL);
	for (int bit = 0; bit < 64; bit++)
		if (!(1ull << bit & ALL))
			CHECK_ERRNO(gmem_watch(rig.fd, rig.context, 0, rig.bytes, MISSING | 1ull << bit, 0, 0), EINVAL);
	CHECK_ERRNO(gmem_watch(rig.fd, rig.context, 0, rig.bytes, MISSING, 0, GMEMFD_POLICY_HOLD + 1), EINVAL);
	CHECK_EQ(xgmem_stats(rig.fd).watches, 0);
}

TEST(what_is_no_context)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	char path[64];
	int fds[2], bad[16], n = 0;

	REQUIRE_OK(pipe(fds));
	bad[n++] = -1;
	bad[n++] = 100000;
	bad[n++] = rig.fd;
	bad[n++] = gmem_dev();
	bad[n++] = fds[0];
	bad[n++] = REQUIRE_FD(eventfd(0, 0));
	bad[n++] = REQUIRE_FD(open("/proc/self/exe", O_RDONLY));
	/* A descriptor that stands for the name only. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rig.context);
	bad[n++] = REQUIRE_FD(open(path, O_PATH));
	bad[n] = REQUIRE_FD(gmem_context());
	REQUIRE_OK(close(bad[n++]));
	for (int i = 0; i < n; i++) {
		CHECK_ERRNO(gmem_watch(rig.fd, bad[i], 0, rig.bytes, MISSING, 0, 0), EBADF);
		CHECK_ERRNO(gmem_attach(rig.fd, bad[i], 0, rig.bytes), EBADF);
	}
	CHECK_EQ(xgmem_stats(rig.fd).watches, 0);
}

TEST(present_pages_stay_present)
{
	struct trap_rig rig = trap_rig(4, 0, 0);
	size_t g = rig.granule;
	struct trap_task task;

	REQUIRE_OK(trap_copy(rig.fd, 0, g, 0));
	CHECK_EQ(TOUCH_WRITE(rig.map + 2 * g, 9), 0);
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, rig.bytes, ALL, 0, 0));
	CHECK(pattern_is(rig.map, g, 0));
	CHECK_EQ(TOUCH_READ(rig.map + 2 * g), 0);
	CHECK_EQ(touch_last.value, 9);
	CHECK(trap_quiet(rig.context));
	/* The page between them is absent, and traps through the old mapping. */
	trap_read(&task, rig.map + g);
	CHECK_EQ(trap_event(rig.context).offset, g);
	REQUIRE_OK(trap_copy(rig.fd, g, g, 0));
	CHECK_EQ(trap_result(&task), trap_byte(g));
}

/* What is unwatched, of a watch of pages 4 to 11, and what is left. */
static const struct cut_row {
	const char *label;
	int first, pages, watches;
} cuts[] = {
	{ "whole", 4, 8, 0 },
	{ "more_than_all", 0, 16, 0 },
	{ "head", 4, 3, 1 },
	{ "tail", 9, 3, 1 },
	{ "middle", 6, 3, 2 },
	{ "over_start", 2, 4, 1 },
	{ "over_end", 10, 6, 1 },
	{ "nothing", 13, 2, 1 },
};

TEST_EACH(unwatch_cuts, struct cut_row, cuts)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	size_t g = rig.granule;
	uint64_t cookies[PAGES] = { 0 };

	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 4 * g, 8 * g, MISSING, 0x77, 0));
	for (int i = 4; i < 12; i++)
		cookies[i] = i >= row->first && i < row->first + row->pages ? 0 : 0x77;
	CHECK_OK(gmem_unwatch(rig.fd, row->first * g, row->pages * g));
	CHECK_EQ(xgmem_stats(rig.fd).watches, row->watches);
	check_cookies(&rig, cookies, PAGES);
	/* What was given free can be watched again, the rest not. */
	if (row->first < 4)
		return;
	CHECK_OK(gmem_watch(rig.fd, rig.context, row->first * g, row->pages * g, MISSING, 0x88, 0));
	for (int i = row->first; i < row->first + row->pages; i++)
		cookies[i] = 0x88;
	check_cookies(&rig, cookies, PAGES);
}

TEST_EACH(unwatch_releases_who_waits_inside, struct cut_row, cuts)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	size_t g = rig.granule;
	struct trap_task tasks[PAGES];
	int inside = 0;

	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 4 * g, 8 * g, MISSING, 0x77, 0));
	for (int i = 4; i < 12; i++)
		trap_read(&tasks[i], rig.map + i * g + i);
	REQUIRE(trap_waiters(rig.fd, 8));
	CHECK_OK(gmem_unwatch(rig.fd, row->first * g, row->pages * g));
	for (int i = 4; i < 12; i++) {
		if (i < row->first || i >= row->first + row->pages)
			continue;
		inside++;
		CHECK_EQ(trap_result(&tasks[i]), 0);
	}
	/* Those outside still wait, and are resolved as ever. */
	CHECK(trap_waiters(rig.fd, 8 - inside));
	for (int i = 0; i < 8 - inside; i++) {
		struct gmemfd_event event = trap_event(rig.context);

		CHECK(event.offset < row->first * g || event.offset >= (row->first + row->pages) * g);
		CHECK_EQ(event.cookie, 0x77);
	}
	CHECK(trap_quiet(rig.context));
	for (int i = 4; i < 12; i++) {
		if (tasks[i].joined)
			continue;
		CHECK_OK(trap_copy(rig.fd, i * g, g, 0));
		trap_result(&tasks[i]);
		CHECK_EQ(rig.map[i * g], trap_byte(i * g));
	}
	CHECK_EQ(xgmem_stats(rig.fd).faults_zero, inside);
}

TEST(unwatch_many_at_once)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	size_t g = rig.granule;
	uint64_t cookies[PAGES] = { 0 };

	for (int i = 0; i < PAGES; i++)
		REQUIRE_OK(gmem_watch(rig.fd, rig.context, i * g, g, MISSING, 100 + i, 0));
	CHECK_OK(gmem_unwatch(rig.fd, g, 13 * g));
	cookies[0] = 100;
	cookies[14] = 114;
	cookies[15] = 115;
	CHECK_EQ(xgmem_stats(rig.fd).watches, 3);
	check_cookies(&rig, cookies, PAGES);
}

TEST(watch_needs_a_writable_descriptor)
{
	struct trap_rig rig = trap_rig(2, 0, 0);
	char path[64];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", rig.fd);
	ro = REQUIRE_FD(open(path, O_RDONLY));
	CHECK_ERRNO(gmem_watch(ro, rig.context, 0, rig.bytes, MISSING, 0, 0), EBADF);
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, rig.bytes, MISSING, 0, 0));
	CHECK_ERRNO(gmem_unwatch(ro, 0, rig.bytes), EBADF);
	CHECK_EQ(xgmem_stats(ro).watches, 1);
}

TEST(file_goes_while_watched)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0), next;
	struct gmemfd_event event;

	REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(munmap(rig.map, rig.bytes));
	REQUIRE_OK(close(rig.fd));
	/* The context lives on, and serves another file. */
	next = trap_rig(1, 0, 0);
	REQUIRE_OK(gmem_watch(next.fd, rig.context, 0, next.bytes, MISSING, 3, 0));
	CHECK_EQ(trap_probe(next.fd, 0, rig.context, &event), TRAP_WAITS);
	CHECK_EQ(event.cookie, 3);
}

/*
 * A hole over a part of what is yet to come is refused, for nothing would remember it when it comes; and with it the
 * whole of the hole, also where it could be made.
 */
static const struct edge {
	const char *label;
	uint64_t flags;
} edges[] = { { "page", 0 }, { "granule", GMEMFD_CREATE_HUGE } };

TEST_EACH(hole_over_a_part_of_what_is_missing, struct edge, edges)
{
	struct trap_rig rig = trap_rig(6, 0, row->flags);
	size_t g = rig.granule;

	/* Content in 1, 2 and 4; 3 and 5 trap, and 0 is a hole. */
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, g, 5 * g, GMEMFD_MODE_MISSING, 0, 0));
	REQUIRE_OK(trap_copy(rig.fd, g, 2 * g, 0));
	REQUIRE_OK(trap_copy(rig.fd, 4 * g, g, 0));
	CHECK_ERRNO(gmem_punch(rig.fd, 3 * g, 1), EINVAL);
	CHECK_ERRNO(gmem_punch(rig.fd, 4 * g - 1, 1), EINVAL);
	CHECK_ERRNO(gmem_punch(rig.fd, 3 * g + 100, 100), EINVAL);
	CHECK_ERRNO(gmem_punch(rig.fd, g, 2 * g + 1), EINVAL);
	CHECK_ERRNO(gmem_punch(rig.fd, 4 * g - 100, g + 100), EINVAL);
	CHECK_ERRNO(gmem_punch(rig.fd, g - 100, 5 * g), EINVAL);
	CHECK_EQ(xgmem_stats(rig.fd).punched, 0);
	CHECK(pattern_is(rig.map + g, g, g));
	CHECK(pattern_is(rig.map + 4 * g, g, 4 * g));
	/* What has content is zeroed, a hole is one, and whole ones can be punched. */
	CHECK_OK(gmem_punch(rig.fd, 0, 100));
	CHECK_OK(gmem_punch(rig.fd, g - 100, 200));
	CHECK(all_bytes_are(rig.map + g, 100, 0));
	CHECK_OK(gmem_punch(rig.fd, 3 * g, g + 100));
	CHECK(all_bytes_are(rig.map + 4 * g, 100, 0));
	CHECK_OK(gmem_punch(rig.fd, 3 * g, 3 * g));
	CHECK_EQ(xgmem_stats(rig.fd).punched, g);
	/* Once nobody is to provide it, it is zeros. */
	CHECK_OK(gmem_unwatch(rig.fd, 3 * g, g));
	CHECK_OK(gmem_punch(rig.fd, 3 * g + 100, 100));
	CHECK(trap_quiet(rig.context));
}
