// SPDX-License-Identifier: GPL-2.0-only
/*
 * A handler that does not read: what is kept for it is bounded, and who makes more is refused what makes it.
 */
#include "gmem.h"
#include "peer.h"

#define UNREAD 4096

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
