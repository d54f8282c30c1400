// SPDX-License-Identifier: GPL-2.0-only
/*
 * fork(2) with each of its allocations failing in turn, where a context is told of forks: one that fails leaves nothing
 * behind, and whoever reads its event meanwhile never gets at memory that is not whole. What a child is given by the
 * module itself cannot fail.
 */
#include "fail.h"
#include "gmem.h"
#include "peer.h"

#define PAGES 8

struct handler {
	int uffd;
	unsigned char *map, *src;
	int stop;
	int forks;
};

/* Gives each child its first page, whether or not there comes to be one. */
static void *handle(void *arg)
{
	struct handler *handler = arg;

	while (!__atomic_load_n(&handler->stop, __ATOMIC_ACQUIRE)) {
		struct uffd_msg msg;

		if (read(handler->uffd, &msg, sizeof(msg)) != sizeof(msg)) {
			sleep_seconds(0.0005);
			continue;
		}
		REQUIRE_EQ(msg.event, UFFD_EVENT_FORK);
		uffd_copy(msg.arg.fork.ufd, handler->map + page_size(), handler->src, page_size(), 0);
		__atomic_fetch_add(&handler->forks, 1, __ATOMIC_RELEASE);
		if (uffd_copy(msg.arg.fork.ufd, handler->map, handler->src, page_size(), 0) && errno != EEXIST)
			CHECK(errno == ESRCH || errno == ENOENT);
		close(msg.arg.fork.ufd);
	}
	return NULL;
}

TEST_LIMIT(each_allocation_of_a_fork, 120)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps), forked = 0, failed = 0;
	struct handler handler = { .uffd = xuffd_gmem(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_UNMAP) };
	struct uffdio_poison poison = { .range = { .len = ps } };
	pthread_t thread;

	fail_prepare(FAIL_MEMORY);
	REQUIRE_OK(fcntl(handler.uffd, F_SETFL, O_NONBLOCK));
	handler.map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	handler.src = xmmap_anon(ps);
	memset(handler.src, 0x41, ps);
	xuffd_register(handler.uffd, handler.map, PAGES * ps, UFFDIO_REGISTER_MODE_MISSING);
	/* More to copy: mappings in the middle, poison. */
	for (size_t i = 0; i < PAGES; i += 2)
		REQUIRE_OK(mprotect(handler.map + i * ps, ps, PROT_READ));
	poison.range.start = (uintptr_t)handler.map + 5 * ps;
	REQUIRE_OK(ioctl(handler.uffd, UFFDIO_POISON, &poison));
	thread = thread_start(handle, &handler);
	for (unsigned int nth = 1;; nth = fail_next(nth)) {
		bool fired;
		pid_t pid;
		int err;

		fail_arm(nth);
		pid = fork();
		if (pid == 0)
			_exit(touch_read(handler.map + 5 * ps) == SIGBUS && !touch_read(handler.map) ?
			      touch_last.value : 1);
		err = errno;
		fired = fail_disarm();
		if (pid > 0) {
			int status = child_wait(pid, 20);

			forked++;
			/* Poison is the child's too, with a context or without. */
			CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) != 1);
		} else {
			failed++;
			CHECK(err == ENOMEM || err == EAGAIN);
		}
		if (!fired)
			break;
	}
	CHECK(failed);
	tap_diag("%d forked, %d failed", forked, failed);
	CHECK(wait_for(__atomic_load_n(&handler.forks, __ATOMIC_ACQUIRE) >= forked, 5));
	__atomic_store_n(&handler.stop, 1, __ATOMIC_RELEASE);
	thread_join(thread);
	close(handler.uffd);
	CHECK_EQ(xgmem_stats(fd).waiters, 0);
	CHECK_EQ(xgmem_stats(fd).watches, 0);
}
