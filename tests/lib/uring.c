// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns what uring.h promises: rings by their system calls, with one request under way at a time.
 */
#include "uring.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#define ENTRIES 4

static unsigned int *ring_word(struct uring *u, unsigned int offset)
{
	return (unsigned int *)((char *)u->rings + offset);
}

void uring_init(struct uring *u)
{
	memset(u, 0, sizeof(*u));
	u->fd = syscall(SYS_io_uring_setup, ENTRIES, &u->params);
	if (u->fd < 0 && errno == EPERM)
		SKIP("no io_uring here: %s", strerror(errno));
	REQUIRE(u->fd >= 0);
	REQUIRE(u->params.features & IORING_FEAT_SINGLE_MMAP);
	u->rings_size = u->params.sq_off.array + u->params.sq_entries * sizeof(unsigned int);
	if (u->rings_size < u->params.cq_off.cqes + u->params.cq_entries * sizeof(struct io_uring_cqe))
		u->rings_size = u->params.cq_off.cqes + u->params.cq_entries * sizeof(struct io_uring_cqe);
	u->sqes_size = u->params.sq_entries * sizeof(struct io_uring_sqe);
	u->rings = xmmap(NULL, u->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, IORING_OFF_SQ_RING);
	u->sqes = xmmap(NULL, u->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, IORING_OFF_SQES);
}

void uring_exit(struct uring *u)
{
	REQUIRE_OK(munmap(u->sqes, u->sqes_size));
	REQUIRE_OK(munmap(u->rings, u->rings_size));
	REQUIRE_OK(close(u->fd));
}

int uring_register_buffer(struct uring *u, void *buf, size_t len)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };

	return syscall(SYS_io_uring_register, u->fd, IORING_REGISTER_BUFFERS, &iov, 1);
}

int uring_unregister_buffers(struct uring *u)
{
	return syscall(SYS_io_uring_register, u->fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

void uring_submit(struct uring *u, int opcode, int fd, void *buf, size_t len, uint64_t offset)
{
	unsigned int *tail = ring_word(u, u->params.sq_off.tail);
	unsigned int mask = *ring_word(u, u->params.sq_off.ring_mask);
	unsigned int at = *tail & mask;

	u->sqes[at] = (struct io_uring_sqe){
		.opcode = opcode, .fd = fd, .addr = (uintptr_t)buf, .len = len, .off = offset,
	};
	ring_word(u, u->params.sq_off.array)[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	REQUIRE_EQ(syscall(SYS_io_uring_enter, u->fd, 1, 0, 0, NULL, 0), 1);
}

bool uring_result(struct uring *u, int *res, double seconds)
{
	unsigned int *head = ring_word(u, u->params.cq_off.head);
	unsigned int *tail = ring_word(u, u->params.cq_off.tail);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)((char *)u->rings + u->params.cq_off.cqes);
	double end = now_seconds() + seconds * tap_slow();

	while (__atomic_load_n(tail, __ATOMIC_ACQUIRE) == *head) {
		if (now_seconds() > end)
			return false;
		/* Work of the kernel for this task runs when it enters. */
		if (syscall(SYS_io_uring_enter, u->fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
			REQUIRE_OK(-1);
		sleep_seconds(0.001);
	}
	*res = cqes[*head & *ring_word(u, u->params.cq_off.ring_mask)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return true;
}
