/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What has been provided so far: a bit for each granule, another for those that are refused, and counters. It lies in
 * memory that the page server shares with the process that watches it, so that it outlives a server that is killed; or
 * in a file, so that it outlives both.
 *
 * A granule that has been provided once is zeros from then on: when it is wanted again, the guest has given it back.
 * So a bit is set after its granule has been provided, never before: at the worst a granule is provided once more.
 * That a granule is refused is noted before it is poisoned: a fault that was read before and is answered later would
 * find it provided, and zeros would take the place of the poison.
 */
#ifndef GMEMCTL_LEDGER_H
#define GMEMCTL_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LEDGER_MAGIC 0x33676c74636d6567ull	/* "gemctlg3" */

/*
 * Whose memory it is, and of which image. With the state of any other, what is missing would be taken for provided, and
 * read as zeros.
 */
struct origin {
	char boot[40];		/* inode numbers begin anew with it */
	uint64_t memory_dev, memory_ino;
	uint64_t image_dev, image_ino, image_rdev, image_bytes;
	int64_t image_sec, image_nsec;	/* when it was changed; of a block device this cannot be told */
};

struct ledger {
	uint64_t magic;
	uint64_t bytes;
	uint64_t granule;
	struct origin origin;
	atomic_ulong provided;	/* bytes that have a bit */
	atomic_ulong demanded;	/* of these, what was asked for; without its neighbours */
	atomic_ulong read;	/* bytes read from the image */
	atomic_ulong poisoned;
	atomic_ulong faults;
	atomic_ulong answered;	/* of these, what is done and counted */
	atomic_ulong complete;	/* nothing is missing, and nobody has to serve any more */
	atomic_ulong bits[];	/* of those provided, and behind them of those refused */
};

/* In shared memory. NULL after a message. */
struct ledger *ledger_new(uint64_t bytes, uint64_t granule);
/* In a file: a new one, or (@again) one that is there, and has to be of the same origin. NULL after a message. */
struct ledger *ledger_open(const char *path, bool again, uint64_t bytes, uint64_t granule, const struct origin *origin);
/* Removes the file, if it is still the one that was opened. */
void ledger_remove(const char *path);
bool ledger_has(const struct ledger *ledger, uint64_t offset);
/* Sets the bits of a range; returns the bytes that had none. */
uint64_t ledger_set(struct ledger *ledger, uint64_t offset, uint64_t len);
/* Notes that a range is going to be poisoned, if nobody provides it before. */
void ledger_refuse(struct ledger *ledger, uint64_t offset, uint64_t len);
bool ledger_refuses(const struct ledger *ledger, uint64_t offset);
/* After a server was killed: between a bit and what it counts for, perhaps. Before anybody else writes to it. */
void ledger_recount(struct ledger *ledger);
/* How much of a range, from its beginning on, has a bit (@has) or has none; 0 if not even the first granule. */
uint64_t ledger_run(const struct ledger *ledger, uint64_t offset, uint64_t len, bool has);

#endif
