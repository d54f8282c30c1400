// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one thing all of this is for: a page that has not been provided makes whoever touches it wait.
 */
#include "gmem.h"

#define PAGES 8

static void *reader(void *arg)
{
	return (void *)(uintptr_t)*(volatile unsigned char *)arg;
}

TEST(access_waits_for_copy)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *src = xmmap_anon(ps);
	struct gmemfd_event event;
	pthread_t thread;

	REQUIRE_OK(gmem_watch(fd, context, 0, PAGES * ps, GMEMFD_MODE_MISSING, 0x1234, 0));
	memset(src, 0x5a, ps);
	thread = thread_start(reader, map + 3 * ps + 17);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.type, GMEMFD_EVENT_FAULT);
	CHECK_EQ(event.offset, 3 * ps);
	CHECK_EQ(event.len, ps);
	CHECK_EQ(event.cookie, 0x1234);
	CHECK_EQ(event.flags, 0);
	CHECK(!thread_join_for(thread, 0.2));
	CHECK_OK(gmem_copy(fd, 3 * ps, ps, src, 0));
	CHECK_EQ(gmem_done, ps);
	CHECK_EQ((uintptr_t)thread_join(thread), 0x5a);
	CHECK_EQ(TOUCH_READ(map + 3 * ps), 0);
	CHECK_EQ(xgmem_stats(fd).faults_missing, 1);
	CHECK_EQ(xgmem_stats(fd).waiters, 0);
}

TEST(unwatched_page_reads_as_zeros)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	unsigned char *map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	CHECK_EQ(TOUCH_READ(map), 0);
	CHECK_EQ(touch_last.value, 0);
	CHECK_EQ(TOUCH_WRITE(map + ps, 7), 0);
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * ps);
	CHECK_EQ(xgmem_stats(fd).faults_zero, 2);
}

TEST(handler_serves_all)
{
	size_t ps = page_size();
	struct gmem_handler handler = { .fd = xgmem(PAGES * ps), .context = xgmem_context() };
	unsigned char *map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, handler.fd, 0);

	REQUIRE_OK(gmem_watch(handler.fd, handler.context, 0, PAGES * ps, GMEMFD_MODE_MISSING, 0, 0));
	gmem_handler_start(&handler);
	for (size_t i = 0; i < PAGES; i++)
		CHECK(pattern_is(map + i * ps, ps, i * ps));
	gmem_handler_stop(&handler);
	CHECK_EQ(handler.events, PAGES);
}
