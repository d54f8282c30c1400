/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The keeper: the process that starts a page server, shows what it does, starts another when it dies, and knows when
 * nobody needs it any more. It holds the descriptors and the ledger, and does so little that nothing can go wrong in
 * it.
 */
#ifndef GMEMCTL_KEEP_H
#define GMEMCTL_KEEP_H

#include "serve.h"

struct keeper {
	struct server server;
	/* Whose memory it is; for messages. */
	const char *whose;
	/* Can be read (or, if @hangs_up, hangs up) as soon as nobody needs the memory any more. */
	int subject;
	bool hangs_up;
	/* The command, if it is a child of ours: signals are passed on to it, and its end is in @status. */
	pid_t command;
	int status;
	/* Others write to the same terminal: lines, no bar. */
	bool lines;

	/* The rest is the keeper's own. */
	pid_t pid;
	int signals;
	unsigned int deaths;
	uint64_t first_death;
	bool over;		/* a server has ended by itself */
	struct progress {
		bool terminal;
		bool drawn;
		uint64_t begin, last, last_provided;
	} progress;
};

/* Blocks the signals that it waits for; before any of the others. 0 or a code. */
int keeper_init(struct keeper *k);
/* In a child that becomes somebody else. */
void keeper_unblock(void);
/* Starts the page server, and returns when it takes faults: 0 or a code. */
int keeper_start(struct keeper *k);
/* Returns when nobody needs the memory any more, or when we are told to end: 0 or a code. */
int keeper_watch(struct keeper *k);
void keeper_stop(struct keeper *k);

void progress_begin(struct keeper *k);
/* Draws; returns the milliseconds until it wants to be called again, -1 for never. */
int progress_tick(struct keeper *k);
void progress_end(struct keeper *k);
/* Takes the bar off the terminal, before something else is printed. */
void progress_clear(struct keeper *k);

/* A server for a stream: takes the memory's content in the order in which it comes. As serve(). */
int serve_stream(struct server *s, int ready);

#endif
