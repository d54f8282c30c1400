// SPDX-License-Identifier: GPL-2.0-only
/*
 * A complete small client of userfaultfd(2): memory in a file, a handler thread that makes each page when it is first
 * touched, and a main thread that touches all of it and checks what it sees. Exit status 0: every byte was right.
 *
 *	gcc -O2 -pthread uffd.c -o uffd-memfd
 *	gcc -O2 -pthread -DGMEMFD -I../include/uapi uffd.c -o uffd-gmemfd
 *
 * The first uses memfd and the userfaultfd of the kernel, the second gmemfd. They differ where the context is opened
 * and where the memory is made, and nowhere else.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef GMEMFD
#include <linux/gmemfd.h>
#endif

#define PAGES 1024

static size_t page_size;
static unsigned char *memory;
static atomic_uint served;

static int open_context(void)
{
#ifdef GMEMFD
	int dev = open("/dev/gmemfd", O_RDWR | O_CLOEXEC);

#else
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (dev < 0)
		return syscall(SYS_userfaultfd, O_CLOEXEC);
#endif
	return dev < 0 ? -1 : ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
}

static int make_memory(size_t bytes)
{
#ifdef GMEMFD
	struct gmemfd_create create = { .size = sizeof(create), .bytes = bytes };
	int dev = open("/dev/gmemfd", O_RDWR | O_CLOEXEC);

	return dev < 0 ? -1 : ioctl(dev, GMEMFD_CREATE, &create);
#else
	int fd = memfd_create("memory", MFD_CLOEXEC);

	return fd < 0 || ftruncate(fd, bytes) ? -1 : fd;
#endif
}

static unsigned char content(size_t page)
{
	return page % 251 + 1;
}

static void *serve(void *arg)
{
	int uffd = *(int *)arg;
	unsigned char *page = aligned_alloc(page_size, page_size);
	struct uffd_msg msg;

	if (!page)
		err(1, "memory for a page");
	for (;;) {
		struct uffdio_copy copy = { .src = (unsigned long)page, .len = page_size };

		if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
			err(1, "read");
		if (msg.event != UFFD_EVENT_PAGEFAULT)
			errx(1, "event 0x%x was not asked for", msg.event);
		copy.dst = msg.arg.pagefault.address & ~(page_size - 1);
		memset(page, content((copy.dst - (unsigned long)memory) / page_size), page_size);
		served++;
		/* EAGAIN: nothing was copied yet. EEXIST: it was served before, and whoever waits was woken. */
		while (ioctl(uffd, UFFDIO_COPY, &copy) && errno != EEXIST)
			if (errno != EAGAIN)
				err(1, "UFFDIO_COPY");
	}
	return NULL;
}

int main(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	size_t bytes = PAGES * (page_size = sysconf(_SC_PAGESIZE));
	int uffd = open_context(), fd = make_memory(bytes);
	pthread_t handler;

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		err(1, "no userfaultfd");
	if (fd < 0)
		err(1, "no memory");
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	reg.range.start = (unsigned long)memory;
	reg.range.len = bytes;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		err(1, "UFFDIO_REGISTER");
	errno = pthread_create(&handler, NULL, serve, &uffd);
	if (errno)
		err(1, "pthread_create");

	for (size_t i = 0; i < bytes; i++)
		if (memory[i] != content(i / page_size))
			errx(1, "byte %zu is 0x%02x", i, memory[i]);
	printf("%u pages were served, %d were touched\n", served, PAGES);
	return served < PAGES;
}
