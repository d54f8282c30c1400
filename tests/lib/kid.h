/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Children of a side: forked by a thread of their own, since theirs waits there until the event of the fork has been
 * read. They say what they saw in memory that is shared, for the parent to write it down in its turn.
 */
#ifndef GMEMFD_TESTS_KID_H
#define GMEMFD_TESTS_KID_H

#include "uffd.h"

struct kid {
	struct side *s;
	void (*run)(struct side *s, struct kid *kid);
	struct poke poke;	/* the thread that forks: theirs waits there */
	int step;		/* how far it may go */
	int forked;		/* fork() has returned */
	int uffd;		/* its context */
	struct kid *own;	/* a child of its own */
	struct touch saw[4];
	long result;
};

/* A child that runs that, and exits with 0; where theirs waits until the event is read, kid_read() has to follow. */
struct kid *kid_start(struct side *s, void (*run)(struct side *s, struct kid *kid));
/* The memory alone, and fork(), as of kid->poke.arg: for forking in other ways. */
struct kid *kid_new(struct side *s, void (*run)(struct side *s, struct kid *kid));
long kid_fork(struct poke *poke);
/* Reads the event, writes it down if there is a key, and takes the context. */
void kid_read(struct side *s, const char *key, int uffd, struct kid *kid);
/* Both, with s->uffd. */
struct kid *kid_make(struct side *s, void (*run)(struct side *s, struct kid *kid));
/* Whether fork() waits, with the event unread; and that it is there, unread. */
bool kid_held(struct kid *kid);
void kid_unread(struct kid *kid);
/* Waits until fork() has returned: COPY and the like of the parent's context are refused up to there by theirs. */
void kid_returned(struct kid *kid);
/* Waits for the thread that forked, once: the process. */
pid_t kid_forked(struct kid *kid);
/* Waits for the child, which has to exit with 0. */
void kid_end(struct kid *kid);
/* Lets it go on to that step; and, by the child, waits for it. */
void kid_go(struct kid *kid, int step);
void kid_wait(struct kid *kid, int step);

/* By the child: touches, and puts what it saw into kid->saw[i]; pages 0 to 2, into saw[0] to saw[2]; nothing. */
void kid_touch(struct kid *kid, size_t i, uint64_t at);
void kid_touch_three(struct side *s, struct kid *kid);
void kid_exit(struct side *s, struct kid *kid);
/* Writes down what it saw. */
void kid_saw(struct side *s, const char *key, struct kid *kid, size_t i);

/* COPY of a page of s->src to the same page of s->map in the process of that context. */
void kid_fill(struct side *s, const char *key, int uffd, size_t page);
/* The flags of a context's descriptor. */
void s_log_flags(struct side *s, const char *key, int uffd);

#endif
