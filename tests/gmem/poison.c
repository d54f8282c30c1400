// SPDX-License-Identifier: GPL-2.0-only
/*
 * POISON, ZERO and WAKE: what each does to pages of each state, how far it says that it came, and who is woken.
 */
#include "gmem.h"

/* Every access to one poisoned page, and none to its neighbours, fails. */
static void check_poisoned(int fd, uint64_t at, const volatile unsigned char *map)
{
	char byte;

	CHECK_EQ(TOUCH_READ(map + at), SIGBUS);
	CHECK_EQ(touch_last.code, BUS_MCEERR_AR);
	CHECK_EQ(TOUCH_WRITE((volatile unsigned char *)map + at + 5, 1), SIGBUS);
	CHECK_EQ(touch_last.code, BUS_MCEERR_AR);
	CHECK_ERRNO(pread(fd, &byte, 1, at + 100), EIO);
	CHECK(!gmem_has_content(fd, at));
}

TEST(who_touches_it_gets_sigbus)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), fds[2];
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *private = xmmap(NULL, 4 * ps, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char buf[32];

	CHECK_DONE(gmem_poison(fd, ps, 2 * ps, 0), 2 * ps);
	CHECK_EQ(xgmem_stats(fd).poisoned, 2 * ps);
	check_poisoned(fd, ps, map);
	check_poisoned(fd, 2 * ps, map);
	CHECK_EQ(TOUCH_READ(private + ps), SIGBUS);
	CHECK_EQ(TOUCH_WRITE(private + ps, 1), SIGBUS);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK_EQ(TOUCH_READ(map), 0);
	CHECK_EQ(TOUCH_WRITE(map + 3 * ps, 1), 0);
	CHECK(xgmem_stats(fd).faults_sigbus >= 4);
	/* A system call on the mapping, and a read that goes over the border. */
	REQUIRE_OK(pipe(fds));
	CHECK_ERRNO(write(fds[1], map + ps, 8), EFAULT);
	CHECK_EQ(pread(fd, buf, 32, ps - 16), 16);
	CHECK_ERRNO(pread(fd, buf, 32, ps), EIO);
}

TEST(stops_at_content)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps), context = xgmem_context();
	unsigned char *page = xmmap_anon(ps), *map = xmmap(NULL, 8 * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	pattern_fill(page, ps, 1);
	REQUIRE_OK(gmem_watch(fd, context, 4 * ps, 4 * ps, GMEMFD_MODE_ALL, 0, 0));
	REQUIRE_OK(gmem_copy(fd, 2 * ps, ps, page, 0));
	REQUIRE_OK(gmem_copy(fd, 6 * ps, ps, page, GMEMFD_RANGE_CLOSED));
	CHECK_REFUSED(gmem_poison(fd, 2 * ps, ps, 0), EEXIST);
	CHECK_REFUSED(gmem_poison(fd, 6 * ps, 2 * ps, 0), EEXIST);
	CHECK_PARTLY(gmem_poison(fd, 0, 8 * ps, 0), 2 * ps);
	CHECK_REFUSED(gmem_poison(fd, 0, ps, 0), EEXIST);
	CHECK_REFUSED(gmem_poison(fd, ps, 4 * ps, 0), EEXIST);
	CHECK_PARTLY(gmem_poison(fd, 4 * ps, 4 * ps, 0), 2 * ps);
	CHECK_EQ(xgmem_stats(fd).poisoned, 4 * ps);
	CHECK(pattern_is(map + 2 * ps, ps, 1));
	check_poisoned(fd, 0, map);
	check_poisoned(fd, 5 * ps, map);
	CHECK(!gmem_has_content(fd, 3 * ps));
	CHECK_REFUSED(gmem_poison(fd, 0, ps, GMEMFD_RANGE_CLOSED), EINVAL);
}

TEST(punching_takes_it_away)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher toucher = { .addr = map + 5 * ps };
	struct gmemfd_event event;

	REQUIRE_OK(gmem_watch(fd, context, 4 * ps, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	REQUIRE_OK(gmem_poison(fd, 0, 8 * ps, 0));
	REQUIRE_OK(gmem_punch(fd, ps, 5 * ps));
	CHECK_EQ(TOUCH_READ(map + ps), 0);
	CHECK_EQ(touch_last.value, 0);
	CHECK_EQ(TOUCH_READ(map), SIGBUS);
	CHECK_EQ(TOUCH_READ(map + 6 * ps), SIGBUS);
	/* Where it is watched it traps again. */
	gmem_toucher_start(&toucher);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.offset, 5 * ps);
	CHECK_DONE(gmem_zero(fd, 5 * ps, ps, 0), ps);
	CHECK_EQ(gmem_toucher_join(&toucher), 0);
	CHECK_DONE(gmem_poison(fd, 4 * ps, ps, 0), ps);
	/* Poison was no content: nothing was given back for it, but the page of zeros. */
	REQUIRE_OK(gmem_punch(fd, 0, 8 * ps));
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK_EQ(xgmem_stats(fd).punched, 2 * ps);
}

static const struct replace_row {
	const char *label;
	uint32_t op;		/* GMEMFD_OP_*, or 0 for write(2) */
} replaces[] = {
	{ "copy", GMEMFD_OP_COPY },
	{ "zero", GMEMFD_OP_ZERO },
	{ "write", 0 },
};

TEST_EACH(replaced_by, struct replace_row, replaces)
{
	size_t ps = page_size(), nr = 64, len = nr * ps;
	int fd = xgmem(len);
	unsigned char *src = xmmap_anon(len), *map = xmmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	bool zeros = row->op == GMEMFD_OP_ZERO;

	pattern_fill(src, len, 3);
	/* One, some, and all pages of what comes as one folio. */
	REQUIRE_OK(gmem_poison(fd, 3 * ps, ps, 0));
	REQUIRE_OK(gmem_poison(fd, 16 * ps, 20 * ps, 0));
	REQUIRE_OK(gmem_poison(fd, 48 * ps, 16 * ps, 0));
	if (row->op == GMEMFD_OP_COPY)
		CHECK_DONE(gmem_copy(fd, 0, len, src, 0), len);
	else if (zeros)
		CHECK_DONE(gmem_zero(fd, 0, len, 0), len);
	else
		CHECK_EQ(pwrite(fd, src, len, 0), len);
	CHECK(zeros ? all_bytes_are(map, len, 0) : pattern_is(map, len, 3));
	CHECK_EQ(xgmem_stats(fd).allocated, len);
	CHECK_EQ(xgmem_stats(fd).poisoned, 37 * ps);
	/* The poison is gone, not hidden below. */
	REQUIRE_OK(gmem_punch(fd, 0, len));
	CHECK_EQ(TOUCH_READ(map + 3 * ps), 0);
	CHECK_EQ(TOUCH_READ(map + 50 * ps), 0);
	CHECK_EQ(pread(fd, src, len, 0), len);
	CHECK(all_bytes_are(src, len, 0));
}

TEST(part_of_a_poisoned_page_cannot_be_written)
{
	size_t ps = page_size();
	int fd = xgmem(2 * ps);
	unsigned char *src = xmmap_anon(2 * ps), *map = xmmap(NULL, 2 * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	REQUIRE_OK(gmem_poison(fd, 0, 2 * ps, 0));
	CHECK_ERRNO(pwrite(fd, src, 100, 0), EINVAL);
	CHECK_ERRNO(pwrite(fd, src, ps + 1, 0), EINVAL);
	CHECK_ERRNO(pwrite(fd, src, ps, 1), EINVAL);
	check_poisoned(fd, 0, map);
	check_poisoned(fd, ps, map);
}

TEST(waiters_get_sigbus)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher user = { .addr = map }, reader = { .fd = fd, .offset = 8 };
	struct gmem_toucher quiet = { .addr = map + ps }, other = { .addr = map + 2 * ps };

	REQUIRE_OK(gmem_watch(fd, context, 0, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	gmem_toucher_start(&user);
	gmem_toucher_start(&reader);
	gmem_toucher_start(&quiet);
	gmem_toucher_start(&other);
	REQUIRE(gmem_waiters(fd, 4, 10));
	CHECK_DONE(gmem_poison(fd, 0, ps, 0), ps);
	CHECK_EQ(gmem_toucher_join(&user), -1);
	CHECK_EQ(user.sig, SIGBUS);
	CHECK_EQ(user.code, BUS_MCEERR_AR);
	CHECK_EQ(gmem_toucher_join(&reader), -1);
	CHECK_EQ(reader.err, EIO);
	CHECK_DONE(gmem_poison(fd, ps, ps, GMEMFD_RANGE_DONTWAKE), ps);
	CHECK(!thread_join_for(quiet.thread, 0.1));
	CHECK_DONE(gmem_wake(fd, 0, 2 * ps), 2 * ps);
	CHECK_EQ(gmem_toucher_join(&quiet), -1);
	CHECK_EQ(quiet.code, BUS_MCEERR_AR);
	CHECK_EQ(xgmem_stats(fd).waiters, 1);
	CHECK_DONE(gmem_zero(fd, 2 * ps, ps, 0), ps);
	CHECK_EQ(gmem_toucher_join(&other), 0);
}

/* --- ZERO -------------------------------------------------------------------------------------------- */

static const struct zero_row {
	const char *label;
	size_t first, pages;
} zeros[] = {
	{ "page", 3, 1 },
	{ "64k", 16, 16 },
	{ "odd", 1, 37 },
	{ "2m", 512, 512 },
	{ "more", 500, 600 },
};

TEST_EACH(zero, struct zero_row, zeros)
{
	size_t ps = page_size(), size = 4 * HPAGE_SIZE, at = row->first * ps, len = row->pages * ps;
	unsigned char *map, *dirt = xmmap_anon(2 * HPAGE_SIZE);
	int fd = xgmem(size);

	/* So that the memory it gets was somebody's. */
	memset(dirt, 0xff, 2 * HPAGE_SIZE);
	REQUIRE_OK(munmap(dirt, 2 * HPAGE_SIZE));
	map = xmmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	CHECK_DONE(gmem_zero(fd, at, len, 0), len);
	CHECK_EQ(xgmem_stats(fd).zeroed, len);
	CHECK_EQ(xgmem_stats(fd).allocated, len);
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), at);
	CHECK_EQ(lseek(fd, at, SEEK_HOLE), at + len);
	CHECK(all_bytes_are(map + at, len, 0));
	CHECK_EQ(xgmem_stats(fd).faults_zero, 0);
	CHECK_REFUSED(gmem_zero(fd, at, len, 0), EEXIST);
	CHECK_PARTLY(gmem_zero(fd, 0, at + ps, 0), at);
}

TEST(zero_closed_and_woken)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher waiter = { .addr = map + ps };
	struct gmemfd_event event;

	CHECK_REFUSED(gmem_zero(fd, 0, ps, GMEMFD_RANGE_CLOSED), EINVAL);
	REQUIRE_OK(gmem_watch(fd, context, 0, 2 * ps, GMEMFD_MODE_ALL, 0, 0));
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.flags, 0);
	CHECK_PARTLY(gmem_zero(fd, 0, 4 * ps, GMEMFD_RANGE_CLOSED), 2 * ps);
	/* Woken, found closed, reported as such. */
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.offset, ps);
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR);
	CHECK_DONE(gmem_continue(fd, 0, 2 * ps, 0), 2 * ps);
	CHECK_EQ(gmem_toucher_join(&waiter), 0);
}

/* --- WAKE -------------------------------------------------------------------------------------------- */

TEST(wake_alone)
{
	size_t ps = page_size(), size = 1ull << 40;
	int fd = xgmem(size), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher waiter = { .addr = map + 2 * ps };
	struct gmemfd_event event;

	REQUIRE_OK(gmem_watch(fd, context, 0, 8 * ps, GMEMFD_MODE_MISSING, 0, 0));
	/* Nobody waits: no error; nothing comes into being. */
	CHECK_DONE(gmem_wake(fd, 0, size), size);
	CHECK_REFUSED(gmem_wake(fd, 1, ps), EINVAL);
	CHECK_REFUSED(gmem_wake(fd, 0, size + ps), EINVAL);
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_DONE(gmem_wake(fd, 0, 2 * ps), 2 * ps);
	CHECK_DONE(gmem_wake(fd, 3 * ps, 5 * ps), 5 * ps);
	CHECK_EQ(xgmem_stats(fd).wakes, 0);
	/* Woken for nothing it is reported again; also by a range far larger than the table of waiters. */
	CHECK_DONE(gmem_wake(fd, 0, size), size);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.offset, 2 * ps);
	CHECK_EQ(xgmem_stats(fd).wakes, 1);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK_DONE(gmem_zero(fd, 2 * ps, ps, 0), ps);
	CHECK_EQ(gmem_toucher_join(&waiter), 0);
}
