// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of the compatible context has no counterpart to be compared with: private mappings of a file whose content is
 * everybody's, files with granules of 2 MiB, and ioctls that are refused.
 */
#include "gmem.h"
#include "peer.h"
#include "uffd.h"

#define PAGES 8

static void *reader(void *arg)
{
	return (void *)(uintptr_t)*(volatile unsigned char *)arg;
}

static uint64_t next_fault(int uffd)
{
	struct uffd_msg msg;

	REQUIRE_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	REQUIRE_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	return msg.arg.pagefault.address;
}

TEST(private_mapping_traps_and_keeps_its_writes)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps), uffd = xuffd_gmem(0);
	unsigned char *map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char *src = xmmap_anon(ps), byte;
	pthread_t thread;

	xuffd_register(uffd, map, PAGES * ps, MISSING);
	memset(src, 0x41, ps);
	thread = thread_start(reader, map + 3 * ps);
	CHECK_EQ(next_fault(uffd), (uintptr_t)map + 3 * ps);
	CHECK_OK(uffd_copy(uffd, map + 3 * ps, src, ps, 0));
	CHECK_EQ((uintptr_t)thread_join(thread), 0x41);
	/* The content is the file's. */
	REQUIRE_EQ(pread(fd, &byte, 1, 3 * ps), 1);
	CHECK_EQ(byte, 0x41);
	/* A write is the mapping's own. */
	CHECK_EQ(TOUCH_WRITE(map + 3 * ps, 0x42), 0);
	CHECK_EQ(map[3 * ps], 0x42);
	REQUIRE_EQ(pread(fd, &byte, 1, 3 * ps), 1);
	CHECK_EQ(byte, 0x41);
}

static void *writer(void *arg)
{
	*(volatile unsigned char *)arg = 0x43;
	return NULL;
}

TEST(private_mapping_traps_a_write_first)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps), uffd = xuffd_gmem(0);
	unsigned char *map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char *src = xmmap_anon(ps), byte;
	pthread_t thread;

	xuffd_register(uffd, map, PAGES * ps, MISSING | UFFDIO_REGISTER_MODE_MINOR);
	memset(src, 0x41, ps);
	thread = thread_start(writer, map + ps + 5);
	CHECK_EQ(next_fault(uffd), (uintptr_t)map + ps);
	CHECK_OK(uffd_copy(uffd, map + ps, src, ps, 0));
	thread_join(thread);
	CHECK_EQ(map[ps + 5], 0x43);
	CHECK_EQ(map[ps + 4], 0x41);
	REQUIRE_EQ(pread(fd, &byte, 1, ps + 5), 1);
	CHECK_EQ(byte, 0x41);
}

static int try_register(int uffd, void *addr, size_t len)
{
	struct uffdio_register args = { .range = { .start = (uintptr_t)addr, .len = len }, .mode = MISSING };

	return ioctl(uffd, UFFDIO_REGISTER, &args);
}

TEST(huge_granules_are_whole)
{
	size_t ps = page_size(), size = 3 * HPAGE_SIZE;
	int fd = REQUIRE_FD(gmem_create(size, GMEMFD_CREATE_HUGE, 0)), uffd = xuffd_gmem(0);
	unsigned char *map = xmmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *src = xmmap_anon(HPAGE_SIZE), *at = map + HPAGE_SIZE;
	pthread_t thread;

	pattern_fill(src, HPAGE_SIZE, 7);
	CHECK_ERRNO(try_register(uffd, map + ps, HPAGE_SIZE), EINVAL);
	CHECK_ERRNO(try_register(uffd, map, HPAGE_SIZE + ps), EINVAL);
	CHECK_OK(try_register(uffd, map, size));
	thread = thread_start(reader, at + 5 * ps);
	CHECK_EQ(next_fault(uffd), (uintptr_t)at + 5 * ps);
	CHECK_ERRNO(uffd_copy(uffd, at + 5 * ps, src, ps, 0), EINVAL);
	CHECK_ERRNO(uffd_copy(uffd, at + 5 * ps, src, HPAGE_SIZE, 0), EINVAL);
	CHECK_OK(uffd_copy(uffd, at, src, HPAGE_SIZE, 0));
	CHECK_EQ((uintptr_t)thread_join(thread), src[5 * ps]);
	CHECK(pattern_is(at, HPAGE_SIZE, 7));
	CHECK_ERRNO(uffd_copy(uffd, at, src, HPAGE_SIZE, 0), EEXIST);
	/* What is registered is not cut in the middle of a granule. */
	CHECK_ERRNO(munmap(map, ps), EINVAL);
	CHECK_ERRNO(mprotect(at + ps, HPAGE_SIZE, PROT_READ), EINVAL);
	CHECK_OK(munmap(map, HPAGE_SIZE));
	CHECK(pattern_is(at, HPAGE_SIZE, 7));
}

/* As by a kernel that does not know it, and without a look at the struct. */
TEST(refused_ioctls)
{
	static const struct {
		int nr;
		size_t size;
	} rows[] = {
		{ _UFFDIO_WRITEPROTECT, 24 }, { 5 /* MOVE */, 40 }, { UFFD_NR_RWPROTECT, 24 }, { UFFD_NR_SET_MODE, 16 },
		{ UFFD_NR_SET_MODE + 1, 16 }, { 0x3e, 8 },
	};
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps), uffd = xuffd_gmem(0);
	unsigned char *map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	xuffd_register(uffd, map, PAGES * ps, MISSING);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t args[8] = { (uintptr_t)map, ps };
		unsigned char before[sizeof(args)];

		memset(args + 2, 0, sizeof(args) - 2 * sizeof(*args));
		memcpy(before, args, sizeof(args));
		CHECK_ERRNO(ioctl(uffd, _IOC(_IOC_READ | _IOC_WRITE, UFFDIO, rows[i].nr, rows[i].size), args), EINVAL);
		CHECK(!memcmp(before, args, sizeof(args)));
		CHECK_ERRNO(ioctl(uffd, _IOC(_IOC_READ | _IOC_WRITE, UFFDIO, rows[i].nr, rows[i].size), NULL), EINVAL);
	}
	CHECK_ERRNO(ioctl(uffd, 0xdead, NULL), EINVAL);
}
