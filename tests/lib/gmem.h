/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The private ABI with less typing, for tests and benchmarks: each call fills the struct and returns what ioctl()
 * returns, -1 with errno or not. Nothing here checks anything, but for the functions that begin with x.
 */
#ifndef GMEMFD_TESTS_GMEM_H
#define GMEMFD_TESTS_GMEM_H

#include <linux/gmemfd.h>

#include "tap.h"

/* A descriptor of /dev/gmemfd that stays open; ends the case if there is none. */
int gmem_dev(void);

/* GMEMFD_CREATE; flags and policy as there. */
int gmem_create(uint64_t bytes, uint64_t flags, uint32_t policy);
/* The same, for one granule or more; ends the case if it fails. */
int xgmem(uint64_t bytes);
int xgmem_huge(uint64_t bytes);

/* Ends the case as skipped if the kernel has no huge pages. Where it has, there is memory for some at any time. */
void gmem_need_huge(void);

/* GMEMFD_CONTEXT. */
int gmem_context(void);
int xgmem_context(void);

int gmem_watch(int fd, int context, uint64_t offset, uint64_t len, uint64_t modes, uint64_t cookie, uint32_t policy);
/* The same with GMEMFD_WATCH_VCPU_EXIT. */
int gmem_watch_exit(int fd, int context, uint64_t offset, uint64_t len, uint64_t modes, uint64_t cookie,
		    uint32_t policy);
int gmem_unwatch(int fd, uint64_t offset, uint64_t len);
int gmem_attach(int fd, int context, uint64_t offset, uint64_t len);
int gmem_policy(int fd, uint64_t offset, uint64_t len, uint32_t policy);
int gmem_stats(int fd, struct gmemfd_stats *stats);
struct gmemfd_stats xgmem_stats(int fd);
/* The number that fdinfo has under "gmemfd-KEY:"; ends the case if there is none. */
uint64_t gmem_fdinfo(int fd, const char *key);

/* What the last range operation of this thread wrote to its field. */
extern __thread int64_t gmem_done;

int gmem_copy(int fd, uint64_t offset, uint64_t len, const void *src, uint64_t flags);
int gmem_fill(int fd, uint64_t offset, uint64_t len, int src_fd, uint64_t src, uint64_t flags);
int gmem_zero(int fd, uint64_t offset, uint64_t len, uint64_t flags);
int gmem_continue(int fd, uint64_t offset, uint64_t len, uint64_t flags);
int gmem_poison(int fd, uint64_t offset, uint64_t len, uint64_t flags);
int gmem_wake(int fd, uint64_t offset, uint64_t len);
int gmem_punch(int fd, uint64_t offset, uint64_t len);
/*
 * The same where somebody uses a folio for moments only. The kernel's part waits for a moment to pass, but one is as
 * long as the user's CPU is away: EBUSY is tried again for 5 seconds (times TEST_SLOW), and counted.
 */
int gmem_punch_soon(int fd, uint64_t offset, uint64_t len, unsigned int *busy);

/* Read one event within so many seconds (times TEST_SLOW): 1, or 0 if none came. */
int gmem_event(int context, struct gmemfd_event *event, double seconds);

/*
 * A thread that resolves what a context reports, until it is stopped: COPY of what content() puts into a buffer
 * of the granule for an offset (NULL: pattern_fill with the offset as seed), CONTINUE for closed pages.
 */
struct gmem_handler {
	int fd;
	int context;
	void (*content)(void *buf, size_t len, uint64_t offset);
	/* The rest is the handler's. */
	pthread_t thread;
	int stop[2];
	unsigned long events;
	unsigned long minors;
};

void gmem_handler_start(struct gmem_handler *handler);
void gmem_handler_stop(struct gmem_handler *handler);

/*
 * What the last range operation came to: all of it, a part (EAGAIN), or nothing, and whether @done says the same. The
 * call has to be one of the functions above.
 */
#define CHECK_DONE(call, bytes) ({ CHECK_OK(call); CHECK_EQ(gmem_done, bytes); })
#define CHECK_PARTLY(call, bytes) ({ CHECK_ERRNO(call, EAGAIN); CHECK_EQ(gmem_done, bytes); })
#define CHECK_REFUSED(call, err) ({ CHECK_ERRNO(call, err); CHECK_EQ(gmem_done, -(err)); })

/* GMEMFD_BIND of a memslot that is there. */
int gmem_bind(int fd, int vm, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t len, uint64_t cookie);
/*
 * The same with GMEMFD_BIND_SET, and GMEMFD_BIND_PRIVATE if it is in flags: where the memslot is mapped, or NULL with
 * errno.
 */
void *gmem_bind_set(int fd, int vm, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t len, uint64_t cookie,
		    uint64_t flags);
/* GMEMFD_UNBIND; flags as there. */
int gmem_unbind(int fd, int vm, uint32_t slot, uint64_t flags);
/* GMEMFD_BINDINGS: how many were written, or -1. */
int gmem_bindings(int fd, struct gmemfd_binding *entries, uint32_t nr, uint64_t after);
/* GMEMFD_VCPU_FAULT. */
int gmem_vcpu_fault(int context, int vcpu, struct gmemfd_event *event);

/* GMEMFD_RESOLVE; sizes of the entries are filled in. What came back is in the struct. */
struct gmemfd_resolve gmem_resolve(int fd, struct gmemfd_range *ops, uint32_t nr, uint64_t flags, int *err);

/* Whether the page has content, open or closed. No access: it does not trap. */
bool gmem_has_content(int fd, uint64_t offset);

/* Whether so many threads wait for the file, within so many seconds (times TEST_SLOW). */
bool gmem_waiters(int fd, uint64_t nr, double seconds);

/* A thread that reads one byte of a mapping, or with fd one of the file; it survives SIGBUS. */
struct gmem_toucher {
	const volatile unsigned char *addr;
	int fd;			/* 0: touch addr */
	uint64_t offset;	/* of pread(fd) */
	/* The rest is the result. */
	pthread_t thread;
	pid_t tid;
	int sig;
	int code;
	ssize_t got;		/* what pread() returned */
	int err;		/* and its errno */
	unsigned char value;
};

void gmem_toucher_start(struct gmem_toucher *toucher);
/* The value that it saw, or -1 when it saw none. */
int gmem_toucher_join(struct gmem_toucher *toucher);

#endif
