/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The test harness: cases, checks and the small helpers that every test program needs. A test program is
 * one C file, linked with the whole of tests/lib; main() is in the library. It prints TAP.
 * Its arguments are patterns (as of the shell) of the cases to run; -l lists them.
 *
 *	#include "tap.h"
 *
 *	TEST(reads_back)                       a case; 30 seconds at most
 *	{
 *		int fd = REQUIRE_FD(open("/dev/gmemfd", O_RDWR));    fatal: the case ends here
 *
 *		CHECK_EQ(read_it(fd), 42);                           not fatal: the case goes on
 *		CHECK_ERRNO(ioctl(fd, 0xdead), ENOTTY);
 *	}
 *
 * Each case runs in a child process and process group of its own. It fails if a check failed, if no CHECK was made at
 * all (REQUIRE is for what the rest of the case needs), if it crashed, exited by itself or ran out of time, and if it
 * left a process behind. Checks may be made in threads and in forked children of the case. TEST_SLOW=n multiplies every
 * time limit by n.
 */
#ifndef GMEMFD_TESTS_TAP_H
#define GMEMFD_TESTS_TAP_H

#ifndef _GNU_SOURCE
#error "tests are compiled with -D_GNU_SOURCE"
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- Cases ------------------------------------------------------------------------------------------- */

#define TEST_SECONDS 30

/* One case. Cases run in the order in which they stand in the file. */
#define TEST(name) TEST_LIMIT(name, TEST_SECONDS)

/* One case with a time limit of its own. */
#define TEST_LIMIT(name, seconds)						\
	static void name(void);							\
	static void name##_run(const void *arg)					\
	{									\
		(void)arg;							\
		name();								\
	}									\
	__attribute__((constructor)) static void name##_register(void)		\
	{									\
		tap_register(#name, NULL, name##_run, NULL, seconds);		\
	}									\
	static void name(void)

/*
 * One case for each row of an array; a row is a struct with a member `const char *label`, and the case is
 * called name.label. The body gets its row as `row`:
 *
 *	static const struct size_row { const char *label; size_t size; } sizes[] = { { "small", 4096 }, ... };
 *	TEST_EACH(maps, struct size_row, sizes)
 *	{
 *		CHECK(row->size > 0);
 *	}
 */
#define TEST_EACH(name, type, table) TEST_EACH_LIMIT(name, type, table, TEST_SECONDS)
#define TEST_EACH_LIMIT(name, type, table, seconds)				\
	static void name(type const *row);					\
	static void name##_run(const void *arg)					\
	{									\
		name(arg);							\
	}									\
	__attribute__((constructor)) static void name##_register(void)		\
	{									\
		for (size_t i = 0; i < ARRAY_SIZE(table); i++)			\
			tap_register(#name, (table)[i].label, name##_run,	\
				     &(table)[i], seconds);			\
	}									\
	static void name(type const *row)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

void tap_register(const char *name, const char *label, void (*run)(const void *), const void *arg, int seconds);

/* What main() of the library calls. A program with its own main() may use checks, too: a fatal one exits with 1. */
int tap_main(int argc, char **argv);

/* End the case here as skipped. The reason is for the reader of the report: say what is missing. */
#define SKIP(...) tap_skip(__VA_ARGS__)
void tap_skip(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* A line of explanation in the output; shown with the case. */
void tap_diag(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Say before the case ends that it leaves processes behind on purpose; they are killed, but it is no failure. */
void tap_allow_leftovers(void);

/* --- Checks ------------------------------------------------------------------------------------------ */

/* Count one check; on failure say why, and end the case if it is fatal. Returns ok. */
bool tap_check(bool ok, bool fatal, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
bool tap_check_eq(long long a, long long b, bool fatal, const char *file, int line, const char *as, const char *bs);
bool tap_check_errno(long long ret, int err, int want, bool fatal, const char *file, int line, const char *what);
long long tap_check_ok(long long ret, int err, bool fatal, const char *file, int line, const char *what);

/* The condition holds. */
#define CHECK(cond) tap_check(!!(cond), false, __FILE__, __LINE__, "%s", #cond)
#define REQUIRE(cond) tap_need(tap_check(!!(cond), true, __FILE__, __LINE__, "%s", #cond))

/* Two integers are equal; both are shown if not. */
#define CHECK_EQ(a, b) \
	tap_check_eq((long long)(a), (long long)(b), false, __FILE__, __LINE__, #a, #b)
#define REQUIRE_EQ(a, b) \
	tap_need(tap_check_eq((long long)(a), (long long)(b), true, __FILE__, __LINE__, #a, #b))

/* The call failed: it returned -1 and set errno to want. */
#define CHECK_ERRNO(expr, want) ({						\
	errno = 0;								\
	long long ret_ = (long long)(expr);					\
	int err_ = errno;							\
	tap_check_errno(ret_, err_, want, false, __FILE__, __LINE__, #expr); })
#define REQUIRE_ERRNO(expr, want) ({						\
	errno = 0;								\
	long long ret_ = (long long)(expr);					\
	int err_ = errno;							\
	tap_need(tap_check_errno(ret_, err_, want, true, __FILE__, __LINE__, #expr)); })

/* The call succeeded: it did not return -1; errno is shown if it did. The value is the call's. */
#define CHECK_OK(expr) ({							\
	errno = 0;								\
	long long ret_ = (long long)(expr);					\
	int err_ = errno;							\
	tap_check_ok(ret_, err_, false, __FILE__, __LINE__, #expr); })
#define REQUIRE_OK(expr) ({							\
	errno = 0;								\
	long long ret_ = (long long)(expr);					\
	int err_ = errno;							\
	tap_check_ok(ret_, err_, true, __FILE__, __LINE__, #expr); })
static inline int tap_fd(long long ret)
{
	return (int)ret;
}

#define REQUIRE_FD(expr) tap_fd(REQUIRE_OK(expr))

/* Lets the compiler know that what comes after a REQUIRE is only reached if it held. */
static inline void tap_need(bool ok)
{
	if (!ok)
		__builtin_unreachable();
}

/* --- Time -------------------------------------------------------------------------------------------- */

/* TEST_SLOW, at least 1: by how much this machine or kernel is slower than an ordinary one. */
double tap_slow(void);
double now_seconds(void);
void sleep_seconds(double seconds);

/* Poll until the condition holds, for so many seconds (times TEST_SLOW). Is it true at the end? */
#define wait_for(cond, seconds) ({						\
	double end_ = now_seconds() + (seconds) * tap_slow();			\
	bool ok_;								\
	while (!(ok_ = !!(cond)) && now_seconds() < end_)			\
		sleep_seconds(0.001);						\
	ok_ || (cond); })

/* --- Memory ------------------------------------------------------------------------------------------ */

#define HPAGE_SIZE ((size_t)2 << 20)
size_t page_size(void);

/* mmap() that ends the case if it fails. */
void *xmmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *xmmap_anon(size_t len);

/* Content that tells every page and every byte position apart: written and compared by seed. */
void pattern_fill(void *buf, size_t len, uint64_t seed);
bool pattern_is(const void *buf, size_t len, uint64_t seed);
bool all_bytes_are(const void *buf, size_t len, unsigned char byte);

/* The physical page that a mapped address has: 0 if there is none. */
uint64_t pfn_of(const void *p);

/*
 * Touch one byte and survive it: 0, or the signal that it raised (SIGSEGV, SIGBUS). Details of the last
 * touch of this thread are in touch_last.
 */
struct touch {
	int sig;		/* 0 if the access went through */
	int code;		/* si_code: SEGV_MAPERR, BUS_ADRERR, BUS_MCEERR_AR, ... */
	void *addr;		/* si_addr */
	int lsb;		/* si_addr_lsb, of BUS_MCEERR_AR */
	unsigned char value;	/* what a read saw */
};

extern __thread struct touch touch_last;
int touch_read(const volatile void *p);
int touch_write(volatile void *p, unsigned char value);
#define TOUCH_READ(p) touch_read(p)
#define TOUCH_WRITE(p, value) touch_write(p, value)

/* --- Threads and processes --------------------------------------------------------------------------- */

pthread_t thread_start(void *(*fn)(void *), void *arg);
void *thread_join(pthread_t thread);

/* Join within so many seconds (times TEST_SLOW); false if it still runs. */
bool thread_join_for(pthread_t thread, double seconds);

/* State letter of a task of any process: R, S, D, Z ...; 0 if there is none. For "it sleeps now". */
char task_state(pid_t tid);

/*
 * Whether this task comes to sleep, or to its end, within 10 seconds (times TEST_SLOW). It is off its CPU then, while
 * the state letter may be that of one which is about to look once more whether to sleep at all.
 */
bool task_asleep(pid_t tid);

/* Whether this task comes to sleep in the system call of this number within 10 seconds (times TEST_SLOW). */
bool task_sleeps_in(pid_t tid, long number);

/* Wait for a child of ours: its wait status, or -1 if it still runs after so many seconds (times TEST_SLOW). */
int child_wait(pid_t pid, double seconds);

/* --- Files ------------------------------------------------------------------------------------------- */

/* The whole file as a string; NULL with errno if it cannot be read. Free it. */
char *read_file(const char *path);

/* The number that a file of proc or sysfs holds; ends the case if it cannot be read. Base as strtoll's 0. */
long long read_number(const char *path);

/* The number after the first line that begins with key ("VmRSS:", "pgfault "); -1 if there is no such line. */
long long read_field(const char *path, const char *key);

/*
 * A block device of RAM_DISK_BYTES of memory, or more, with whatever was left on it; a machine without one skips the
 * case. Flags as of open(2); direct I/O is by pages.
 */
#define RAM_DISK_BYTES (8ul << 20)
int ram_disk(int flags);

/* Write a string to a file of proc or sysfs: 0, or -1 with errno. */
int write_file(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
