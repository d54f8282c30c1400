/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tests that compare: each case is one function, run once with memfd + userfaultfd ("theirs") and once with a gmem
 * file + the userfaultfd context of /dev/gmemfd ("ours"), each time in a process of its own. It writes what it meets
 * to a trace, a line "key: value" at a time; the two traces have to be the same.
 *
 *	static const struct parity_diff diffs[] = {
 *		{ "maps", "second", "EBUSY", "why ours says EBUSY there" },
 *	};
 *	PARITY_DIFFS(diffs);
 *
 *	PARITY(maps)
 *	{
 *		s_rig(s, 4, UFFDIO_REGISTER_MODE_MISSING, 0);
 *		s_register(s, "second", s->uffd, s_at(s, 0), s->ps, 0);
 *	}
 *
 * A row of PARITY_DIFFS says what ours has to say in the lines whose key matches the pattern, on every kernel: where
 * the kernel says the same it is no difference, where it does not the reason is printed. Two sorts of rows exist: what
 * is different on purpose, and what older kernels do differently from the newest, which is the reference.
 *
 * A case about a feature that older kernels lack carries the whole trace that the newest gives: PARITY_SINCE. Ours is
 * compared with it on every kernel, and the kernel as well wherever it has the feature.
 *
 * With UFFD_AGAINST_ITSELF in the environment "ours" is theirs once more: for showing that a trace is repeatable.
 */
#ifndef GMEMFD_TESTS_UFFD_H
#define GMEMFD_TESTS_UFFD_H

#include <linux/userfaultfd.h>

#include "tap.h"

/* Not in the headers of older kernels. */
#ifndef UFFDIO_REGISTER_MODE_RWP
#define UFFDIO_REGISTER_MODE_RWP	((uint64_t)1 << 3)
#endif
#define UFFD_BIT_RWP		17
#define UFFD_BIT_RWP_ASYNC	18
#define UFFD_NR_RWPROTECT	0x09
#define UFFD_NR_SET_MODE	0x0a

#define MISSING	UFFDIO_REGISTER_MODE_MISSING
#define MINOR	UFFDIO_REGISTER_MODE_MINOR

#define TRACE_BYTES 65536
/* How long something may take that has to happen, times TEST_SLOW. */
#define S_SECONDS 5

struct side {
	const char *name;	/* "theirs", "ours" */
	bool ours;		/* gmemfd is behind it */
	size_t ps;		/* page size */
	/* What s_rig() made. */
	int uffd;
	int file;
	size_t pages;
	unsigned char *map;	/* guard pages of another kind lie around it */
	unsigned char *src;	/* as many pages; page i is filled with s_byte(i) */
	/* The trace. */
	int lock;
	size_t len;
	char text[TRACE_BYTES];
};

struct parity {
	const char *name;
	void (*run)(struct side *s);
	uint64_t feature;	/* without which theirs is not run */
	const char *gold;	/* the trace of a kernel that has it */
};

struct parity_diff {
	const char *name;	/* of the case */
	const char *key;	/* pattern of the shell */
	const char *ours;	/* what ours has to say there */
	const char *reason;
};

#define PARITY(name) PARITY_SINCE(name, 0, NULL)
#define PARITY_SINCE(name_, feature_, gold_)						\
	static void name_(struct side *s);						\
	static const struct parity name_##_parity = { #name_, name_, feature_, gold_ };	\
	__attribute__((constructor)) static void name_##_register(void)			\
	{										\
		tap_register(#name_, NULL, parity_run, &name_##_parity, TEST_SECONDS);	\
	}										\
	static void name_(struct side *s)

#define PARITY_DIFFS(table)								\
	__attribute__((constructor)) static void table##_register(void)			\
	{										\
		parity_diffs(table, ARRAY_SIZE(table));					\
	}

void parity_run(const void *parity);
void parity_diffs(const struct parity_diff *table, size_t n);

/* --- The trace: may be written by every thread and process of the side ------------------------------- */

void s_log(struct side *s, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The outcome of a call that returned ret, with errno as it is: "0", a number, or the name of the errno. */
void s_log_ret(struct side *s, const char *key, long ret);
const char *s_errno(int err);
/* An address as page and offset in s->map: "+3", "+3.17"; "elsewhere". Four strings in turn. */
const char *s_where(struct side *s, uint64_t addr);

/* --- What a case is made of; these end the case when they fail, and write nothing ------------------------ */

int s_file(struct side *s, size_t bytes);
/* A shared mapping with a page that nobody may touch on both sides. */
unsigned char *s_map(struct side *s, int file, size_t pages, off_t offset);
/* USERFAULTFD_IOC_NEW, and nothing else; -1 with errno. */
int s_new(struct side *s, unsigned long flags);
/* O_CLOEXEC | O_NONBLOCK, and UFFDIO_API. */
int s_uffd(struct side *s, uint64_t features);
/* s->file, s->map, s->src and s->uffd; mode 0: not registered. */
void s_rig(struct side *s, size_t pages, uint64_t mode, uint64_t features);
/* Whether page i of s->file has content, without touching it. */
bool s_has_content(struct side *s, size_t i);
/* Content of pages [i, i + n) straight into the file: page j is filled with s_byte(j). */
void s_write(struct side *s, size_t i, size_t n);

static inline uint64_t s_at(struct side *s, size_t page)
{
	return (uintptr_t)s->map + page * s->ps;
}

static inline unsigned char s_byte(size_t page)
{
	return 0x40 + page;
}

/* --- The ioctls: each writes a line with the outcome, and the result field if there is one ------------------- */

#define S_UNTOUCHED 0x5a5a5a5a5a5a5a5all
int s_register(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode);
int s_unregister(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len);
int s_wake(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len);
int s_copy(struct side *s, const char *key, int uffd, uint64_t dst, uint64_t src, uint64_t len, uint64_t mode);
int s_zero(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode);
int s_continue(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode);
int s_poison(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode);
/* COPY of page i of s->src to page i of s->map, and so on. */
int s_fill(struct side *s, const char *key, size_t i, size_t n);

/* --- Messages ---------------------------------------------------------------------------------------- */

/* Waits for a message and reads it. */
bool s_read(int uffd, struct uffd_msg *msg);
/* The same, and writes it down. */
struct uffd_msg s_msg(struct side *s, const char *key, int uffd);
/* Writes down what is there to read now: "none", or the message. */
void s_quiet(struct side *s, const char *key, int uffd);
/* A message as text. */
const char *s_msg_text(struct side *s, const struct uffd_msg *msg);
/* Numbers of fdinfo: threads that wait and whose message is unread; threads that wait. */
long s_pending(int uffd);
long s_total(int uffd);
/* Until so many wait; ends the case if they do not. */
void s_await(int uffd, long total);

/* --- Threads that touch ------------------------------------------------------------------------------- */

struct poke {
	volatile unsigned char *at;
	bool write;			/* of S_WRITTEN */
	long (*call)(struct poke *poke);	/* instead of touching: returns as a system call does */
	long arg;
	/* The rest is the result. */
	pthread_t thread;
	pid_t tid;
	struct touch touch;
	long ret;
	int err;
};

#define S_WRITTEN 0xee

void s_poke(struct poke *poke, uint64_t at);
void s_poke_write(struct poke *poke, uint64_t at);
void s_poke_call(struct poke *poke, long (*call)(struct poke *poke), uint64_t at, long arg);
/* Waits for its end and writes down what it saw. */
void s_poked(struct side *s, const char *key, struct poke *poke);
/* One read of a byte that should not have to wait. */
void s_touch(struct side *s, const char *key, uint64_t at);
/* What a touch came to, as text. */
const char *s_touched(struct side *s, const struct touch *touch);

/* --- Other processes ------------------------------------------------------------------------------------ */

/* A child of the side: runs fn and exits. s_child_end() waits for it and ends the case if it did not exit with 0. */
pid_t s_child(struct side *s, void (*fn)(struct side *s, void *arg), void *arg);
void s_child_end(pid_t pid);

#endif
