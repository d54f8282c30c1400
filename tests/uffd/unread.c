// SPDX-License-Identifier: GPL-2.0-only
/*
 * A handler that does not read: what is kept for it is bounded, and who makes more is refused what makes it.
 */
#include "gmem.h"
#include "peer.h"

#define UNREAD 4096

#define RW (PROT_READ | PROT_WRITE)

static bool read_one(int uffd, struct uffd_msg *msg)
{
	return read(uffd, msg, sizeof(*msg)) == sizeof(*msg);
}

/* Each page that is unmapped on its own is an event of its own. */
TEST(unmapped_page_by_page)
{
	size_t ps = page_size(), size = 2 * (UNREAD + 8) * ps, done = 0;
	int fd = xgmem(size), uffd = xuffd_gmem(UFFD_FEATURE_EVENT_UNMAP);
	unsigned char *map = xmmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	struct uffd_msg msg;

	xuffd_register(uffd, map, size, UFFDIO_REGISTER_MODE_MISSING);
	while (done < UNREAD + 4 && !munmap(map + (2 * done + 1) * ps, ps))
		done++;
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(done, UNREAD);
	CHECK_ERRNO(munmap(map + (2 * done + 1) * ps, ps), ENOMEM);
	/* Nor is it cut in other ways; what is there is there. */
	CHECK_ERRNO(mprotect(map + (2 * done + 1) * ps, ps, PROT_NONE), ENOMEM);
	CHECK_OK(madvise(map + (2 * done + 1) * ps, ps, MADV_DONTNEED));
	REQUIRE(read_one(uffd, &msg));
	CHECK_EQ(msg.event, UFFD_EVENT_UNMAP);
	CHECK_EQ(msg.arg.remove.start, (uintptr_t)map + ps);
	CHECK_EQ(msg.arg.remove.end, (uintptr_t)map + 2 * ps);
	CHECK_OK(munmap(map + (2 * done + 1) * ps, ps));
	CHECK_ERRNO(munmap(map + (2 * done + 3) * ps, ps), ENOMEM);
	for (size_t i = 1; i <= done; i++) {
		REQUIRE(read_one(uffd, &msg));
		CHECK_EQ(msg.arg.remove.start, (uintptr_t)map + (2 * i + 1) * ps);
	}
	CHECK_OK(munmap(map + (2 * done + 3) * ps, ps));
	/* The end of a mapping as a whole is not refused. */
	CHECK_OK(munmap(map, size));
}

/* A hole that one handler cannot be told of is not made, and no other is told of it. */
TEST(hole_that_cannot_be_told)
{
	size_t ps = page_size(), pages = 2 * UNREAD + 4, last = pages - 2;
	int fd = xgmem(pages * ps), reads = xuffd_gmem(UFFD_FEATURE_EVENT_REMOVE);
	int lazy = xuffd_gmem(UFFD_FEATURE_EVENT_REMOVE);
	unsigned char *map = xmmap(NULL, (pages + 2) * ps, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffd_msg msg;

	/* The one that reads comes first: it has a page of the file, the other all. */
	REQUIRE_OK(fcntl(reads, F_SETFL, O_NONBLOCK));
	xmmap(map, ps, RW, MAP_SHARED | MAP_FIXED, fd, last * ps);
	xuffd_register(reads, map, ps, UFFDIO_REGISTER_MODE_MISSING);
	xmmap(map + 2 * ps, pages * ps, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	xuffd_register(lazy, map + 2 * ps, pages * ps, UFFDIO_REGISTER_MODE_MISSING);
	REQUIRE_OK(gmem_zero(fd, last * ps, ps, 0));
	for (size_t i = 0; i < UNREAD; i++)
		REQUIRE_OK(gmem_punch(fd, 2 * i * ps, ps));
	CHECK_ERRNO(gmem_punch(fd, last * ps, ps), EAGAIN);
	CHECK(gmem_has_content(fd, last * ps));
	CHECK_ERRNO(read(reads, &msg, sizeof(msg)), EAGAIN);
	REQUIRE(read_one(lazy, &msg));
	CHECK_OK(gmem_punch(fd, last * ps, ps));
	CHECK(!gmem_has_content(fd, last * ps));
	REQUIRE(read_one(reads, &msg));
	CHECK_EQ(msg.event, UFFD_EVENT_REMOVE);
	CHECK_EQ(msg.arg.remove.start, (uintptr_t)map);
	CHECK_EQ(msg.arg.remove.end, (uintptr_t)map + ps);
}
