/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tests of trapped accesses: a watched file with its mapping and context, and threads that run one call which may
 * have to wait, with what became of it.
 */
#ifndef GMEMFD_TESTS_TRAP_H
#define GMEMFD_TESTS_TRAP_H

#include "gmem.h"

/* The cookie of every watch that trap_rig() makes. */
#define TRAP_COOKIE 0xc00c1e

struct trap_rig {
	int fd;
	int context;
	size_t granule;
	size_t bytes;
	unsigned char *map;	/* all of the file, shared, readable and writable */
};

/* A file of so many granules, all of it watched. Flags as of GMEMFD_CREATE; modes 0: not watched. */
struct trap_rig trap_rig(size_t granules, uint64_t modes, uint64_t flags);

/* One call in a thread of its own. */
struct trap_task {
	long (*fn)(void *arg);	/* returns what a system call does, -1 with errno */
	void *arg;
	/* The rest is the result. */
	pthread_t thread;
	pid_t tid;
	bool joined;
	long ret;
	int err;		/* errno where ret is -1 */
	struct touch touch;	/* of trap_read() and trap_write() */
};

void trap_start(struct trap_task *task, long (*fn)(void *arg), void *arg);
/* It touches this byte: ret is the byte (a read) or the signal's number, negative. */
void trap_read(struct trap_task *task, const void *at);
void trap_write(struct trap_task *task, void *at);
#define TRAP_WRITTEN 0xa5	/* by trap_write() */
/* Whether it comes to its end within so many seconds (times TEST_SLOW). */
bool trap_done(struct trap_task *task, double seconds);
/* What it returned; ends the case if it does not come to its end. */
long trap_result(struct trap_task *task);

/*
 * Whether exactly so many threads wait for pages of the file, within 10 seconds (times TEST_SLOW); all, unlike with
 * gmem_waiters(), so far that their events can be read and that they are found by who wakes them.
 */
bool trap_waiters(int fd, uint64_t nr);

/* An event that has to come: ends the case if it does not. */
struct gmemfd_event trap_event(int context);
/* Whether the context has none to read now. */
bool trap_quiet(int context);
/* Provides pattern_fill(offset) pages: what GMEMFD_COPY returns. */
int trap_copy(int fd, uint64_t offset, uint64_t len, uint64_t flags);
/* The first byte of pattern_fill(offset). */
unsigned char trap_byte(uint64_t offset);

/*
 * One byte of the file, read with pread() by a thread that is taken back with a signal when it has to wait: the byte,
 * -errno, or TRAP_WAITS with the event (of a context that has no other). Changes no page's state.
 */
#define TRAP_WAITS 256
int trap_probe(int fd, uint64_t offset, int context, struct gmemfd_event *event);

/* A number of /proc/PID/task/TID/status of a thread of any process; ends the case if there is none. */
long long trap_thread_field(pid_t pid, pid_t tid, const char *key);

/* Sends a descriptor over a socket, and receives one. */
int trap_send_fd(int sock, int fd);
int trap_receive_fd(int sock);

#endif
