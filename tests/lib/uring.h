/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * io_uring by its system calls, one request at a time, for tests of how the kernel gets at memory and descriptors.
 */
#ifndef GMEMFD_TESTS_URING_H
#define GMEMFD_TESTS_URING_H

#include "tap.h"

#include <linux/io_uring.h>

struct uring {
	int fd;
	void *rings;
	size_t rings_size;
	struct io_uring_sqe *sqes;
	size_t sqes_size;
	struct io_uring_params params;
};

/* Ends the case if there is none: skips it where the kernel has no io_uring or does not allow it. */
void uring_init(struct uring *u);
void uring_exit(struct uring *u);

/* IORING_REGISTER_BUFFERS of one buffer: 0, or -1 with errno. */
int uring_register_buffer(struct uring *u, void *buf, size_t len);
int uring_unregister_buffers(struct uring *u);

/* Submit one request, such as IORING_OP_READ or IORING_OP_WRITE_FIXED (of buffer 0). Ends the case if refused. */
void uring_submit(struct uring *u, int opcode, int fd, void *buf, size_t len, uint64_t offset);

/*
 * The result of a request, as a system call would have returned it in the kernel (-errno); false if none came in
 * so many seconds (times TEST_SLOW).
 */
bool uring_result(struct uring *u, int *res, double seconds);

#endif
