/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For the tests of the library, which come through it alone: none of them makes an ioctl of its own. What the module
 * does is tested elsewhere; here, that each function asks for it, and says what came of it.
 */
#ifndef GMEMFD_TESTS_LIBGMEMFD_H
#define GMEMFD_TESTS_LIBGMEMFD_H

#include <gmemfd.h>

#include "tap.h"

#include <sys/syscall.h>

/* A call of the library that does not fail: the descriptor or count that it returned. */
#define MUST(expr) ({								\
	int must_ = (expr);							\
	tap_need(tap_check(must_ >= 0, true, __FILE__, __LINE__, "%s: %s", #expr, strerror(-must_)));	\
	must_; })

/* A file of so many pages with its mapping, a context that does not block, and nothing watched. */
struct lib_rig {
	int dev;
	int fd;
	int context;
	size_t page;
	size_t bytes;
	unsigned char *map;
};

static inline struct lib_rig lib_rig(size_t pages)
{
	struct lib_rig rig = { .page = page_size(), .bytes = pages * page_size() };
	void *map;

	rig.dev = MUST(gmemfd_open(NULL));
	rig.fd = MUST(gmemfd_create(rig.dev, rig.bytes, NULL));
	rig.context = MUST(gmemfd_context(rig.dev, O_NONBLOCK));
	MUST(gmemfd_map(rig.fd, 0, rig.bytes, 0, &map));
	rig.map = map;
	return rig;
}

static inline struct gmemfd_stats lib_stats(int fd)
{
	struct gmemfd_stats stats;

	MUST(gmemfd_stats(fd, &stats, sizeof(stats)));
	return stats;
}

/* The same file, open for reading only. */
static inline int lib_read_only(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC));
}

/* Whether a page has content. No access: it does not trap. */
static inline bool lib_has_content(int fd, uint64_t offset)
{
	return lseek(fd, offset, SEEK_DATA) == (off_t)offset;
}

/*
 * A process that reads one byte of memory, and what became of it. A thread would not do everywhere: valgrind has one
 * thread of a process run at a time, and where that one traps the test would not run on.
 */
struct lib_reader {
	pid_t pid;
	struct {
		int sig;
		unsigned char value;
	} *saw;
};

static inline void lib_reader_start(struct lib_reader *reader, const unsigned char *at)
{
	reader->saw = xmmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(stdout);
	reader->pid = REQUIRE_OK(fork());
	if (reader->pid)
		return;
	/* What the test closes is to be closed. */
	syscall(SYS_close_range, 3, ~0u, 0);
	reader->saw->sig = TOUCH_READ(at);
	reader->saw->value = touch_last.value;
	_exit(0);
}

static inline bool lib_reader_waits(struct lib_reader *reader)
{
	return child_wait(reader->pid, 0.02) == -1;
}

/* Whether it comes to its end. */
static inline bool lib_reader_done(struct lib_reader *reader)
{
	return child_wait(reader->pid, 10) == 0;
}

/* The event that has to come to a context; ends the case if it does not. */
static inline struct gmemfd_event lib_event(int context)
{
	struct gmemfd_event event;
	int ret = 0;

	REQUIRE(wait_for((ret = gmemfd_read_events(context, &event, 1)) != -EAGAIN, 10));
	REQUIRE_EQ(ret, 1);
	return event;
}

#endif
