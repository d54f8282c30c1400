// SPDX-License-Identifier: GPL-2.0-only
/*
 * Large pages that are made small because one page of them is opened, while others are at the same pages.
 */
#include "gmem.h"
#include "peer.h"

#define LARGE 16
#define THREADS 2

struct opener {
	unsigned char *map;
	int uffd;
	size_t page;
	pthread_barrier_t *barrier;
	unsigned long done, mapped, busy, others;
};

/*
 * One page of each large page, at the same time as the other thread another. The module waits for the other for a
 * moment, which is over when that has lost its CPU.
 */
static void *open_pages(void *arg)
{
	struct opener *o = arg;

	for (size_t i = 0; i < LARGE; i++) {
		double end;
		int ret;

		pthread_barrier_wait(o->barrier);
		end = now_seconds() + 5 * tap_slow();
		ret = uffd_continue(o->uffd, o->map + i * HPAGE_SIZE + o->page * page_size(), page_size(), 0);
		if (ret && errno == EBUSY)
			o->busy++;
		while (ret && errno == EBUSY && now_seconds() < end)
			ret = uffd_continue(o->uffd, o->map + i * HPAGE_SIZE + o->page * page_size(), page_size(), 0);
		if (!ret)
			o->done++;
		else if (errno == EEXIST)
			o->mapped++;
		else
			o->others++;
	}
	return NULL;
}

TEST(two_open_pages_of_a_large_page)
{
	size_t size = LARGE * HPAGE_SIZE;
	int fd = xgmem(size), uffd = xuffd_gmem(0);
	unsigned char *map = xmmap(NULL, size + HPAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct opener o[THREADS];
	pthread_t threads[THREADS];
	pthread_barrier_t barrier;

	map = (unsigned char *)(((uintptr_t)map + HPAGE_SIZE - 1) & ~(HPAGE_SIZE - 1));
	map = xmmap(map, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	REQUIRE_OK(gmem_zero(fd, 0, size, 0));
	xuffd_register(uffd, map, size, UFFDIO_REGISTER_MODE_MINOR);
	REQUIRE(!pthread_barrier_init(&barrier, NULL, THREADS));
	for (size_t i = 0; i < THREADS; i++) {
		o[i] = (struct opener){ map, uffd, 7 + 300 * i, &barrier, 0, 0, 0, 0 };
		threads[i] = thread_start(open_pages, &o[i]);
	}
	for (size_t i = 0; i < THREADS; i++) {
		thread_join(threads[i]);
		CHECK_EQ(o[i].done + o[i].mapped, LARGE);
		CHECK(o[i].busy < LARGE / 2);
		CHECK_EQ(o[i].others, 0);
	}
}
