/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The page server: a thread that reads faults, some that answer them from an image, the faulted granule first and its
 * neighbours with it, and one that fills what is left in the background. All it does is told in offsets of the image; a
 * back end knows what these are for the kernel: offsets of a gmem file, or addresses in a VMM that has handed over its
 * context.
 */
#ifndef GMEMCTL_SERVE_H
#define GMEMCTL_SERVE_H

#include <pthread.h>

#include "gmemctl.h"
#include "image.h"
#include "ledger.h"

/* What is read together with a faulted granule, and what the background takes at a time: a huge page, where it fits. */
#define CLUSTER (64ull << 10)
#define CHUNK (2ull << 20)

/* How to serve; the same for every command that does, and at the head of its struct of options. */
struct serving {
	const char *image;
	const char *state;
	unsigned int threads;
	uint64_t rate;		/* bytes a second that the background or a stream reads; 0: not told */
	bool no_background;
	bool direct;
	bool quiet;
};

#define SERVE_DEFAULTS { .threads = 2 }

/* A part of the image, and where it belongs: an offset of the gmem file, or an address. */
struct region {
	uint64_t offset;
	uint64_t len;
	uint64_t target;
};

enum piece_kind {
	PIECE_FILL,	/* content of the image */
	PIECE_ZERO,
	PIECE_POISON,
};

/* Something to provide, inside one region. */
struct piece {
	enum piece_kind kind;
	const struct region *region;
	uint64_t offset;
	uint64_t len;
	const char *content;	/* of a fill, if it has been read already */
	int64_t done;	/* as GMEMFD_RESOLVE has it: bytes, or -errno */
};

struct server {
	const struct backend *backend;
	const struct serving *options;
	const struct image *image;
	struct ledger *ledger;
	const struct region *regions;	/* by offset; they do not overlap */
	unsigned int nr_regions;
	uint64_t granule;
	int dev;		/* by offset: the device */
	int fd;			/* by offset: the gmem file; by address: the context */
	int context;
	bool again;		/* another server has begun this */

	/* The rest is the server's own. */
	int stop;		/* eventfd: look at error, gone, and whether anything is missing */
	atomic_bool told;	/* that nothing is missing */
	atomic_bool stale;	/* the image has changed: what is missing cannot be had */
	atomic_bool gone;	/* there is nobody to serve any more */
	atomic_int error;	/* of the back end; the server has to end */
	atomic_ulong complaints;
	atomic_bool no_poison;	/* the kernel's userfaultfd cannot do it */
	atomic_bool short_of_memory;
	pthread_rwlock_t notices;
	pthread_mutex_t claims_lock;
	pthread_cond_t claims_freed;
	uint64_t *claims;
	uint64_t cluster;
	/* Faults that have been read, and that nobody works on yet. */
	pthread_mutex_t line_lock;
	pthread_cond_t line_grew;
	uint64_t *line;
	unsigned int in_line, line_room;
};

struct backend {
	/* Watches, or takes over what a lost server watched: 0 or -errno. */
	int (*begin)(struct server *s);
	/* The next fault, if there is one now: 1 with @wanted, 0, or -errno. */
	int (*next)(struct server *s, uint64_t *wanted);
	/* Provides all pieces as far as it can. */
	void (*provide)(struct server *s, struct piece *pieces, unsigned int nr);
	/* Has those look again who wait for a granule that is there. */
	void (*wake)(struct server *s, const struct piece *piece);
	/* Nothing is missing: whether the server is not needed any more. */
	bool (*complete)(struct server *s);
};

extern const struct backend by_offset, by_address;

/* Writes a byte to @ready as soon as faults are taken. Returns only when there is nothing more to do: a code. */
int serve(struct server *s, int ready);
/* Naps as long as so many bytes take, from @due on, which is kept for the next time. No rate is no limit. */
void keep_rate(uint64_t rate, uint64_t *due, uint64_t bytes);
const struct region *region_of(const struct server *s, uint64_t offset);

#endif
