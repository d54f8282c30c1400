// SPDX-License-Identifier: GPL-2.0-only
/*
 * What providing one page costs while many threads wait for other pages, whose events have been read, as is the case
 * where content comes over a network: the call alone, with nobody waiting for the page that it provides.
 */
#include "bench.h"
#include "gmem.h"
#include "peer.h"

#define MANY 1000
#define WARM 64
#define PAGES 512
#define SIZE ((MANY + WARM + PAGES) * 4096ul)

/*
 * Let the kernel free what is left of the threads, which it does after an RCU grace period, so that the next round does
 * not pay for it.
 */
static void settle(void)
{
	sleep_seconds(0.05);
}

static void *touch(void *arg)
{
	return (void *)(uintptr_t)*(volatile unsigned char *)arg;
}

/* Threads that wait for the first pages; read_event() takes one event each. */
static void park(pthread_t *threads, int n, unsigned char *map, void (*read_event)(int fd), int fd)
{
	for (int i = 0; i < n; i++) {
		threads[i] = thread_start(touch, map + i * 4096ul);
		read_event(fd);
	}
}

static void join(pthread_t *threads, int n)
{
	for (int i = 0; i < n; i++)
		REQUIRE_EQ((uintptr_t)thread_join(threads[i]), 0x5a);
}

static void read_ours(int fd)
{
	struct gmemfd_event event;

	REQUIRE_EQ(read(fd, &event, sizeof(event)), sizeof(event));
}

static void read_theirs(int fd)
{
	struct uffd_msg msg;

	REQUIRE_EQ(read(fd, &msg, sizeof(msg)), sizeof(msg));
}

/* how: threads that wait. */
static double ours(int how)
{
	int fd = xgmem(SIZE), context = xgmem_context();
	unsigned char *map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *content = xmmap_anon(4096);
	uint64_t began = 0, took;
	pthread_t threads[MANY];

	memset(content, 0x5a, 4096);
	REQUIRE_OK(gmem_watch(fd, context, 0, SIZE, GMEMFD_MODE_MISSING, 0, 0));
	park(threads, how, map, read_ours, context);
	for (size_t at = MANY * 4096ul; at < SIZE; at += 4096) {
		if (at == (MANY + WARM) * 4096ul)
			began = bench_begin();
		REQUIRE_OK(gmem_copy(fd, at, 4096, content, 0));
	}
	took = bench_end(began);
	REQUIRE_EQ(xgmem_stats(fd).waiters, how);
	for (int i = 0; i < how; i++)
		REQUIRE_OK(gmem_copy(fd, i * 4096ul, 4096, content, 0));
	join(threads, how);
	REQUIRE_OK(munmap(content, 4096));
	REQUIRE_OK(munmap(map, SIZE));
	close(context);
	close(fd);
	settle();
	return (double)took / PAGES;
}

static double theirs(int how)
{
	int memfd = xmemfd(SIZE), uffd = xuffd(0);
	unsigned char *map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	unsigned char *content = xmmap_anon(4096);
	uint64_t began = 0, took;
	pthread_t threads[MANY];

	memset(content, 0x5a, 4096);
	xuffd_register(uffd, map, SIZE, UFFDIO_REGISTER_MODE_MISSING);
	park(threads, how, map, read_theirs, uffd);
	for (size_t at = MANY * 4096ul; at < SIZE; at += 4096) {
		if (at == (MANY + WARM) * 4096ul)
			began = bench_begin();
		REQUIRE_OK(uffd_copy(uffd, map + at, content, 4096, 0));
	}
	took = bench_end(began);
	for (int i = 0; i < how; i++)
		REQUIRE_OK(uffd_copy(uffd, map + i * 4096ul, content, 4096, 0));
	join(threads, how);
	REQUIRE_OK(munmap(content, 4096));
	REQUIRE_OK(munmap(map, SIZE));
	close(uffd);
	close(memfd);
	settle();
	return (double)took / PAGES;
}

static const struct bench benches[] = {
	{ "copy-none-waiting", ours, theirs, 0 },
	{ "copy-1000-waiting", ours, theirs, MANY },
};

int main(void)
{
	return bench_main(benches, ARRAY_SIZE(benches));
}
