// SPDX-License-Identifier: GPL-2.0-only
/*
 * COPY: what it provides, how far it says that it came, and where its source may lie: unaligned, unreadable, in memory
 * that itself has to be provided first.
 */
#include "gmem.h"

#include <stdatomic.h>

/* --- Content ----------------------------------------------------------------------------------------- */

static const struct copy_row {
	const char *label;
	size_t first;		/* page of the file */
	size_t pages;
	size_t shift;		/* of the source, in bytes */
} copies[] = {
	{ "page", 0, 1, 0 },
	{ "page_from_odd_byte", 1, 1, 1 },
	{ "page_from_last_byte", 2, 1, 4095 },
	{ "two_pages", 3, 2, 8 },
	{ "fifteen_pages", 1, 15, 513 },
	{ "64k", 16, 16, 0 },
	{ "64k_unaligned", 15, 16, 7 },
	{ "2m", 512, 512, 0 },
	{ "2m_unaligned_source", 512, 512, 3 },
	{ "2m_unaligned_offset", 511, 512, 0 },
	{ "odd_8m", 5, 2047, 4093 },
	{ "more_than_8m", 0, 2049, 0 },
};

TEST_EACH(provides, struct copy_row, copies)
{
	size_t ps = page_size(), len = row->pages * ps, at = row->first * ps, end = at + len;
	size_t size = 2052 * ps + HPAGE_SIZE;
	int fd = xgmem(size);
	unsigned char *map = xmmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char *src = xmmap_anon(len + ps), *back = xmmap_anon(len);
	struct gmemfd_stats stats;

	pattern_fill(src + row->shift, len, row->first + 1);
	CHECK_DONE(gmem_copy(fd, at, len, src + row->shift, 0), len);
	CHECK(pattern_is(map + at, len, row->first + 1));
	CHECK_EQ(pread(fd, back, len, at), len);
	CHECK(pattern_is(back, len, row->first + 1));
	/* Exactly these pages. */
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), at);
	CHECK_EQ(lseek(fd, at, SEEK_HOLE), end);
	CHECK_ERRNO(lseek(fd, end, SEEK_DATA), ENXIO);
	stats = xgmem_stats(fd);
	CHECK_EQ(stats.copied, len);
	CHECK_EQ(stats.allocated, len);
	CHECK_EQ(stats.faults_zero, 0);
	/* The source is only read. */
	CHECK(pattern_is(src + row->shift, len, row->first + 1));
}

/* --- Pages that have content ------------------------------------------------------------------------- */

static const struct exist_row {
	const char *label;
	size_t present;		/* the first page that is */
	size_t pages;		/* how many, provided at once */
	size_t copy;		/* pages of the COPY, from 0 */
} exists[] = {
	{ "only", 0, 1, 1 },
	{ "first", 0, 1, 16 },
	{ "first_of_2m", 0, 1, 512 },
	{ "second", 1, 1, 16 },
	{ "middle", 7, 1, 16 },
	{ "last", 15, 1, 16 },
	{ "start_of_64k", 16, 16, 64 },
	{ "inside_64k", 23, 1, 64 },
	{ "last_of_2m", 511, 1, 512 },
	{ "second_2m", 512, 512, 1024 },
	{ "inside_second_2m", 1000, 1, 1024 },
};

TEST_EACH(stops_at_content, struct exist_row, exists)
{
	size_t ps = page_size(), size = 2 * HPAGE_SIZE, before = row->present * ps, there = row->pages * ps;
	unsigned char *src = xmmap_anon(size), *old = xmmap_anon(there);
	int fd = xgmem(size);
	unsigned char *map = xmmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	pattern_fill(old, there, 1);
	pattern_fill(src, size, 2);
	CHECK_DONE(gmem_copy(fd, before, there, old, 0), there);
	if (before)
		CHECK_PARTLY(gmem_copy(fd, 0, row->copy * ps, src, 0), before);
	else
		CHECK_REFUSED(gmem_copy(fd, 0, row->copy * ps, src, 0), EEXIST);
	CHECK_EQ(xgmem_stats(fd).allocated, before + there);
	if (before + there < size)
		CHECK_ERRNO(lseek(fd, before + there, SEEK_DATA), ENXIO);
	CHECK(pattern_is(map, before, 2));
	CHECK(pattern_is(map + before, there, 1));
	/* Going on behind it, as a handler does. */
	if (before + there < row->copy * ps)
		CHECK_DONE(gmem_copy(fd, before + there, row->copy * ps - before - there, src, 0),
			   row->copy * ps - before - there);
}

TEST(closed_page_is_content)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), context = xgmem_context();
	unsigned char *src = xmmap_anon(4 * ps);

	REQUIRE_OK(gmem_watch(fd, context, 0, 4 * ps, GMEMFD_MODE_ALL, 0, 0));
	CHECK_DONE(gmem_copy(fd, 2 * ps, ps, src, GMEMFD_RANGE_CLOSED), ps);
	CHECK_REFUSED(gmem_copy(fd, 2 * ps, ps, src, 0), EEXIST);
	CHECK_REFUSED(gmem_copy(fd, 2 * ps, ps, src, GMEMFD_RANGE_CLOSED), EEXIST);
	CHECK_PARTLY(gmem_copy(fd, 0, 4 * ps, src, 0), 2 * ps);
}

/* --- Where a watch would open them, or not ----------------------------------------------------------- */

TEST(closed_needs_a_minor_watch)
{
	size_t ps = page_size();
	int fd = xgmem(64 * ps), context = xgmem_context();
	unsigned char *src = xmmap_anon(64 * ps);

	CHECK_REFUSED(gmem_copy(fd, 0, 16 * ps, src, GMEMFD_RANGE_CLOSED), EINVAL);
	REQUIRE_OK(gmem_watch(fd, context, 0, 3 * ps, GMEMFD_MODE_MINOR, 0, 0));
	REQUIRE_OK(gmem_watch(fd, context, 3 * ps, ps, GMEMFD_MODE_ALL, 0, 0));
	REQUIRE_OK(gmem_watch(fd, context, 5 * ps, ps, GMEMFD_MODE_MISSING, 0, 0));
	CHECK_REFUSED(gmem_copy(fd, 5 * ps, ps, src, GMEMFD_RANGE_CLOSED), EINVAL);
	/* Over the border of two watches that both do, to the first page that none opens. */
	CHECK_PARTLY(gmem_copy(fd, 0, 16 * ps, src, GMEMFD_RANGE_CLOSED), 4 * ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 4 * ps);
	/* An open copy goes over all borders. */
	CHECK_DONE(gmem_copy(fd, 4 * ps, 60 * ps, src, 0), 60 * ps);
}

/* --- Sources that cannot be read --------------------------------------------------------------------- */

static const struct bad_row {
	const char *label;
	size_t pages;		/* of the COPY */
	size_t shift;		/* of the source */
	size_t hole;		/* page of the source that is not there */
	size_t done;		/* pages */
	bool mapped;		/* it is, but may not be read */
} bads[] = {
	{ "first", 16, 0, 0, 0, false },
	{ "second", 16, 0, 1, 1, false },
	{ "second_unaligned", 16, 1, 1, 0, false },
	{ "middle", 16, 0, 9, 9, false },
	{ "middle_unaligned", 16, 4095, 9, 8, false },
	{ "last", 16, 0, 15, 15, false },
	{ "behind_the_last_unaligned", 16, 8, 16, 15, false },
	{ "last_of_2m", 512, 0, 511, 511, false },
	{ "first_of_2m", 512, 0, 0, 0, false },
	{ "in_second_2m", 1024, 0, 600, 600, false },
	{ "no_permission", 64, 0, 33, 33, true },
};

TEST_EACH(source_cannot_be_read, struct bad_row, bads)
{
	size_t ps = page_size(), len = row->pages * ps;
	unsigned char *src = xmmap_anon(len + ps), *map;
	int fd = xgmem(2 * HPAGE_SIZE);

	pattern_fill(src + row->shift, len, 5);
	if (row->mapped)
		REQUIRE_OK(mprotect(src + row->hole * ps, ps, PROT_NONE));
	else
		REQUIRE_OK(munmap(src + row->hole * ps, ps));
	if (row->done)
		CHECK_PARTLY(gmem_copy(fd, 0, len, src + row->shift, 0), row->done * ps);
	else
		CHECK_REFUSED(gmem_copy(fd, 0, len, src + row->shift, 0), EFAULT);
	CHECK_EQ(xgmem_stats(fd).allocated, row->done * ps);
	CHECK_EQ(xgmem_stats(fd).copied, row->done * ps);
	map = xmmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(pattern_is(map, row->done * ps, 5));
	/* What could not be read is still to be had. */
	CHECK(!gmem_has_content(fd, row->done * ps));
}

TEST(addresses_that_are_none)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps);

	CHECK_REFUSED(gmem_copy(fd, 0, ps, NULL, 0), EFAULT);
	CHECK_REFUSED(gmem_copy(fd, 0, ps, (void *)0xffff888000000000ul, 0), EFAULT);
	CHECK_REFUSED(gmem_copy(fd, 0, ps, (void *)0x0000800000000000ul, 0), EFAULT);
	CHECK_REFUSED(gmem_copy(fd, 0, 4 * ps, (void *)(UINTPTR_MAX - ps), 0), EINVAL);
	CHECK_REFUSED(gmem_copy(fd, 0, ps, (void *)UINTPTR_MAX, 0), EINVAL);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
}

/* --- Sources that trap ------------------------------------------------------------------------------- */

struct copier {
	int fd;
	uint64_t offset;
	uint64_t len;
	const void *src;
	int err;
	int64_t done;
	pid_t tid;
};

static void *copy_and_tell(void *arg)
{
	struct copier *c = arg;

	__atomic_store_n(&c->tid, gettid(), __ATOMIC_RELEASE);
	c->err = gmem_copy(c->fd, c->offset, c->len, c->src, 0) ? errno : 0;
	c->done = gmem_done;
	return NULL;
}

TEST(source_traps_and_is_resolved)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps), other = xgmem(8 * ps), context = xgmem_context();
	unsigned char *src = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, other, 0);
	unsigned char *map = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char *page = xmmap_anon(ps);
	struct copier c = { .fd = fd, .len = 8 * ps, .src = src };
	struct gmemfd_event event;
	pthread_t thread;

	REQUIRE_OK(gmem_watch(other, context, 0, 8 * ps, GMEMFD_MODE_MISSING, 0, 0));
	thread = thread_start(copy_and_tell, &c);
	for (size_t i = 0; i < 8; i++) {
		REQUIRE(gmem_event(context, &event, 10));
		CHECK_EQ(event.offset, i * ps);
		CHECK_EQ(event.flags, GMEMFD_FAULT_KERNEL);
		/* The copier holds nothing that others need. */
		CHECK_EQ(xgmem_stats(fd).allocated, 0);
		pattern_fill(page, ps, i);
		REQUIRE_OK(gmem_copy(other, i * ps, ps, page, 0));
	}
	REQUIRE(thread_join_for(thread, 10));
	CHECK_EQ(c.err, 0);
	CHECK_EQ(c.done, 8 * ps);
	for (size_t i = 0; i < 8; i++)
		CHECK(pattern_is(map + i * ps, ps, i));
}

TEST(killed_while_source_traps)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps), other = xgmem(8 * ps), context = xgmem_context();
	unsigned char *src = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, other, 0);
	unsigned char *page = xmmap_anon(ps);
	struct gmemfd_event event;
	int status;
	pid_t pid;

	REQUIRE_OK(gmem_watch(other, context, 0, 8 * ps, GMEMFD_MODE_MISSING, 0, 0));
	REQUIRE_OK(gmem_copy(other, 0, ps, page, 0));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		gmem_copy(fd, 0, 8 * ps, src, 0);
		_exit(1);
	}
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.offset, ps);
	REQUIRE_OK(kill(pid, SIGKILL));
	status = child_wait(pid, 10);
	CHECK(status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(gmem_waiters(other, 0, 5));
	/* Of the page that never came whole nothing is to be seen. */
	CHECK(!gmem_has_content(fd, ps));
	CHECK(xgmem_stats(fd).allocated <= ps);
}

static void on_usr1(int sig)
{
	(void)sig;
}

TEST(signal_while_source_traps)
{
	size_t ps = page_size();
	int fd = xgmem(ps), other = xgmem(ps), context = xgmem_context();
	unsigned char *src = xmmap(NULL, ps, PROT_READ, MAP_SHARED, other, 0);
	unsigned char *page = xmmap_anon(ps), *map = xmmap(NULL, ps, PROT_READ, MAP_SHARED, fd, 0);
	struct sigaction sa = { .sa_handler = on_usr1 };
	struct copier c = { .fd = fd, .len = ps, .src = src };
	struct gmemfd_stats stats;
	double began = now_seconds();
	pthread_t thread;

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	REQUIRE_OK(gmem_watch(other, context, 0, ps, GMEMFD_MODE_MISSING, 0, 0));
	pattern_fill(page, ps, 3);
	thread = thread_start(copy_and_tell, &c);
	REQUIRE(gmem_waiters(other, 1, 10));
	REQUIRE_EQ(pthread_kill(thread, SIGUSR1), 0);
	CHECK(!thread_join_for(thread, 0.1));
	stats = xgmem_stats(other);
	REQUIRE_OK(gmem_copy(other, 0, ps, page, 0));
	REQUIRE(thread_join_for(thread, 10));
	CHECK_EQ(c.err, 0);
	CHECK(pattern_is(map, ps, 3));
	/* The access cannot be broken off for it; but to ask for the page over and over is no way to wait either. */
	CHECK(stats.events <= 10 + 2 * (now_seconds() - began));
}

TEST(source_is_the_same_file)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, fd, 0), *page = xmmap_anon(ps);

	REQUIRE_OK(gmem_watch(fd, context, 4 * ps, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	pattern_fill(page, ps, 9);
	CHECK_DONE(gmem_copy(fd, 0, ps, page, 0), ps);
	CHECK_DONE(gmem_copy(fd, 4 * ps, ps, map, 0), ps);
	CHECK(pattern_is(map + 4 * ps, ps, 9));
	/* An absent page that nobody watches reads as zeros. */
	CHECK_DONE(gmem_copy(fd, 5 * ps, ps, map + ps, 0), ps);
	CHECK(all_bytes_are(map + 5 * ps, ps, 0));
	/* Its own unwatched page: the read makes it zeros, and so it has content. */
	CHECK_REFUSED(gmem_copy(fd, 2 * ps, ps, map + 2 * ps, 0), EEXIST);
	CHECK(all_bytes_are(map + 2 * ps, ps, 0));
}

TEST(source_is_the_very_page)
{
	size_t ps = page_size();
	int fd = xgmem(ps), context = xgmem_context(), status;
	unsigned char *map = xmmap(NULL, ps, PROT_READ, MAP_SHARED, fd, 0), *page = xmmap_anon(ps);
	struct copier c = { .fd = fd, .len = ps, .src = map };
	struct gmemfd_event event;
	pthread_t thread;
	pid_t pid;

	REQUIRE_OK(gmem_watch(fd, context, 0, ps, GMEMFD_MODE_MISSING, 0, 0));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		gmem_copy(fd, 0, ps, map, 0);
		_exit(1);
	}
	/* It waits for itself for ever, but a kill ends it, and others can still provide the page. */
	REQUIRE(gmem_event(context, &event, 10));
	REQUIRE_OK(kill(pid, SIGKILL));
	status = child_wait(pid, 10);
	CHECK(status != -1 && WIFSIGNALED(status));
	CHECK(!gmem_has_content(fd, 0));

	thread = thread_start(copy_and_tell, &c);
	REQUIRE(gmem_event(context, &event, 10));
	pattern_fill(page, ps, 4);
	CHECK_DONE(gmem_copy(fd, 0, ps, page, 0), ps);
	REQUIRE(thread_join_for(thread, 10));
	CHECK_EQ(c.err, EEXIST);
	CHECK_EQ(c.done, -EEXIST);
	CHECK(pattern_is(map, ps, 4));
}

/* --- Who is woken ------------------------------------------------------------------------------------ */

TEST(wakes_its_own)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ, MAP_SHARED, fd, 0), *page = xmmap_anon(4 * ps);
	struct gmem_toucher a = { .addr = map }, b = { .addr = map + ps }, c = { .addr = map + ps + 9 };

	memset(page, 0x77, 4 * ps);
	REQUIRE_OK(gmem_watch(fd, context, 0, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	gmem_toucher_start(&a);
	gmem_toucher_start(&b);
	gmem_toucher_start(&c);
	REQUIRE(gmem_waiters(fd, 3, 10));
	CHECK_DONE(gmem_copy(fd, 2 * ps, 2 * ps, page, 0), 2 * ps);
	CHECK_EQ(xgmem_stats(fd).wakes, 0);
	CHECK_DONE(gmem_copy(fd, ps, ps, page, 0), ps);
	CHECK_EQ(gmem_toucher_join(&b), 0x77);
	CHECK_EQ(gmem_toucher_join(&c), 0x77);
	CHECK_EQ(xgmem_stats(fd).wakes, 2);
	CHECK_EQ(xgmem_stats(fd).waiters, 1);
	CHECK(!thread_join_for(a.thread, 0));
	/* Refused for the other pages, and still its waiters are woken of what was done. */
	CHECK_PARTLY(gmem_copy(fd, 0, 4 * ps, page, 0), ps);
	CHECK_EQ(gmem_toucher_join(&a), 0x77);
}

TEST(dontwake)
{
	size_t ps = page_size();
	int fd = xgmem(2 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 2 * ps, PROT_READ, MAP_SHARED, fd, 0), *page = xmmap_anon(2 * ps);
	struct gmem_toucher waiter = { .addr = map }, late = { .addr = map + 1 };

	memset(page, 0x11, 2 * ps);
	REQUIRE_OK(gmem_watch(fd, context, 0, 2 * ps, GMEMFD_MODE_MISSING, 0, 0));
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_waiters(fd, 1, 10));
	REQUIRE(task_asleep(waiter.tid));
	CHECK_DONE(gmem_copy(fd, 0, 2 * ps, page, GMEMFD_RANGE_DONTWAKE), 2 * ps);
	/* Whoever comes now sees the page; who slept before goes on to sleep. */
	gmem_toucher_start(&late);
	CHECK_EQ(gmem_toucher_join(&late), 0x11);
	CHECK(!thread_join_for(waiter.thread, 0.1));
	CHECK_EQ(xgmem_stats(fd).wakes, 0);
	CHECK_DONE(gmem_wake(fd, ps, ps), ps);
	CHECK_EQ(xgmem_stats(fd).waiters, 1);
	CHECK_DONE(gmem_wake(fd, 0, ps), ps);
	CHECK_EQ(gmem_toucher_join(&waiter), 0x11);
	CHECK_EQ(xgmem_stats(fd).wakes, 1);
}

/* --- Several at once --------------------------------------------------------------------------------- */

#define RACERS 6
#define RACES 60

static struct race {
	int fd;
	size_t size;
	pthread_barrier_t barrier;
	unsigned char *src[RACERS];
	atomic_int winners[RACES];
	atomic_int others;
} race;

static void *run_race(void *arg)
{
	size_t me = (uintptr_t)arg;

	for (size_t i = 0; i < RACES; i++) {
		pthread_barrier_wait(&race.barrier);
		if (!gmem_copy(race.fd, i * race.size, race.size, race.src[me], 0))
			race.winners[i]++;
		else if (errno != EEXIST || gmem_done != -EEXIST)
			race.others++;
	}
	return NULL;
}

TEST(one_of_many_wins)
{
	size_t ps = page_size();
	pthread_t threads[RACERS];
	unsigned char *map;

	race.size = 4 * ps;
	race.fd = xgmem(RACES * race.size);
	map = xmmap(NULL, RACES * race.size, PROT_READ, MAP_SHARED, race.fd, 0);
	REQUIRE_EQ(pthread_barrier_init(&race.barrier, NULL, RACERS), 0);
	for (size_t i = 0; i < RACERS; i++) {
		race.src[i] = xmmap_anon(race.size);
		memset(race.src[i], 'A' + i, race.size);
	}
	for (size_t i = 0; i < RACERS; i++)
		threads[i] = thread_start(run_race, (void *)i);
	for (size_t i = 0; i < RACERS; i++)
		thread_join(threads[i]);
	for (size_t i = 0; i < RACES; i++) {
		CHECK_EQ(race.winners[i], 1);
		CHECK(all_bytes_are(map + i * race.size, race.size, map[i * race.size]));
		CHECK(map[i * race.size] >= 'A');
	}
	CHECK_EQ(race.others, 0);
	CHECK_EQ(xgmem_stats(race.fd).copied, RACES * race.size);
}
