// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each copy from and to user space failing in turn: EFAULT, nothing lost, and no page with half of its content.
 */
#include "fail.h"
#include "gmem.h"

#define BYTES (4 * HPAGE_SIZE)

static const struct size_row {
	const char *label;
	size_t first, pages;
	bool huge;
} sizes[] = {
	{ "page", 3, 1, false },
	{ "odd", 5, 77, false },
	{ "2m", 512, 512, false },
	{ "granules", 512, 1024, true },
};

static void check_whole(int fd, const unsigned char *src, uint64_t at, uint64_t has, uint64_t len)
{
	size_t ps = page_size();
	unsigned char *page = aligned_alloc(ps, ps);

	REQUIRE(page);
	CHECK_EQ(xgmem_stats(fd).allocated, has);
	for (uint64_t i = 0; i < len; i += ps) {
		CHECK_EQ(gmem_has_content(fd, at + i), i < has);
		if (i < has) {
			REQUIRE_EQ(pread(fd, page, ps, at + i), ps);
			CHECK(!memcmp(page, src + i, ps));
		}
	}
	free(page);
}

TEST_EACH(copy, struct size_row, sizes)
{
	size_t ps = page_size();
	uint64_t at = row->first * ps, len = row->pages * ps;
	unsigned char *src = xmmap_anon(len);
	unsigned int fired = 0;
	bool again = true;

	fail_prepare(FAIL_USERCOPY);
	pattern_fill(src, len, 1);
	for (unsigned int nth = 1; again; nth = fail_next(nth)) {
		int fd = row->huge ? xgmem_huge(BYTES) : xgmem(BYTES), err;
		uint64_t has;

		fail_arm(nth);
		err = gmem_copy(fd, at, len, src, 0) ? errno : 0;
		again = fail_disarm();
		fired += again;
		has = xgmem_stats(fd).allocated;
		CHECK(!again ? err == 0 : err == 0 || err == EFAULT || err == EAGAIN);
		/* The one that told the result may have failed: the field is then as it was. */
		if (gmem_done != INT64_MIN)
			CHECK_EQ(gmem_done, has ? (int64_t)has : -EFAULT);
		else
			CHECK_EQ(err, EFAULT);
		check_whole(fd, src, at, has, len);
		if (has < len)
			CHECK_DONE(gmem_copy(fd, at + has, len - has, src + has, 0), len - has);
		check_whole(fd, src, at, len, len);
		close(fd);
	}
	CHECK(fired > 0);
}

TEST(no_event_is_lost)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ, MAP_SHARED, fd, 0);
	unsigned int fired = 0;
	bool again = true;

	fail_prepare(FAIL_USERCOPY);
	REQUIRE_OK(gmem_watch(fd, context, 0, 4 * ps, GMEMFD_MODE_MISSING, 0xabc, 0));
	for (unsigned int nth = 1; again; nth++) {
		struct gmem_toucher a = { .addr = map }, b = { .addr = map + ps };
		struct gmemfd_event events[3] = {};
		ssize_t got;

		gmem_toucher_start(&a);
		gmem_toucher_start(&b);
		REQUIRE(gmem_waiters(fd, 2, 10));
		fail_arm(nth);
		got = read(context, events, sizeof(events));
		again = fail_disarm();
		fired += again;
		/* All that could not be told now is told the next time. */
		if (got < 0) {
			CHECK_EQ(errno, EFAULT);
			got = 0;
		}
		CHECK_EQ(got % sizeof(events[0]), 0);
		for (size_t i = got / sizeof(events[0]); i < 2; i++)
			REQUIRE(gmem_event(context, &events[i], 5));
		CHECK_EQ(events[0].offset + events[1].offset, ps);
		CHECK(events[0].offset != events[1].offset);
		CHECK_EQ(events[0].cookie, 0xabc);
		CHECK_EQ(events[1].cookie, 0xabc);
		CHECK(!gmem_event(context, &events[2], 0));
		CHECK_DONE(gmem_zero(fd, 0, 2 * ps, 0), 2 * ps);
		CHECK_EQ(gmem_toucher_join(&a), 0);
		CHECK_EQ(gmem_toucher_join(&b), 0);
		REQUIRE_OK(gmem_punch(fd, 0, 2 * ps));
	}
	CHECK(fired > 0);
}

TEST(vector)
{
	size_t ps = page_size();
	unsigned int fired = 0;
	bool again = true;

	fail_prepare(FAIL_USERCOPY);
	for (unsigned int nth = 1; again; nth++) {
		int fd = xgmem(8 * ps), err;
		struct gmemfd_range ops[4];
		struct gmemfd_resolve r;
		uint64_t has;

		for (size_t i = 0; i < 4; i++)
			ops[i] = (struct gmemfd_range){ .op = GMEMFD_OP_ZERO, .offset = i * ps, .len = ps, .done = 7 };
		fail_arm(nth);
		r = gmem_resolve(fd, ops, 4, 0, &err);
		again = fail_disarm();
		fired += again;
		has = xgmem_stats(fd).allocated / ps;
		CHECK_EQ(err, again ? EFAULT : 0);
		/* It says how many were carried out, unless that could not be told either. */
		CHECK(r.done == has || r.done == 0xdead);
		for (size_t i = 0; i < 4; i++)
			CHECK(i < has ? ops[i].done == (int64_t)ps || i + 1 == has : ops[i].done == 7);
		close(fd);
	}
	CHECK(fired > 4);
}
