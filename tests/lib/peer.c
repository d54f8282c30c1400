// SPDX-License-Identifier: GPL-2.0-only
/*
 * memfd + userfaultfd with less typing: see peer.h.
 */
#include "peer.h"

#include <sys/syscall.h>

#include "gmem.h"

static int start(int uffd, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	REQUIRE_OK(ioctl(uffd, UFFDIO_API, &api));
	return uffd;
}

int xuffd(uint64_t features)
{
	return start(REQUIRE_FD(syscall(SYS_userfaultfd, O_CLOEXEC)), features);
}

int xuffd_gmem(uint64_t features)
{
	return start(REQUIRE_FD(ioctl(gmem_dev(), USERFAULTFD_IOC_NEW, O_CLOEXEC)), features);
}

int xmemfd(uint64_t bytes)
{
	int fd = REQUIRE_FD(memfd_create("peer", MFD_CLOEXEC));

	REQUIRE_OK(ftruncate(fd, bytes));
	return fd;
}

void xuffd_register(int uffd, void *addr, size_t len, uint64_t modes)
{
	struct uffdio_register args = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = modes,
	};

	REQUIRE_OK(ioctl(uffd, UFFDIO_REGISTER, &args));
}

int uffd_copy(int uffd, void *dst, const void *src, size_t len, uint64_t mode)
{
	struct uffdio_copy args = {
		.dst = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.len = len,
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_COPY, &args);
}

int uffd_continue(int uffd, void *addr, size_t len, uint64_t mode)
{
	struct uffdio_continue args = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_CONTINUE, &args);
}
