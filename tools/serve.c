// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine of the page server: who provides what, in which order, and what becomes of what cannot be read.
 *
 * One thread alone reads what the context tells, and never waits for those who provide: as long as a notice of memory
 * that is given back is unread the kernel refuses what is provided (EAGAIN), and it tells faults before notices. Were
 * it read only by who has nothing else to do, everybody could be holding a fault, and nobody would ever read it.
 *
 * Threads must not provide the same granule at a time: one that has been given back by the guest between the two would
 * get the image's content once more. So whoever provides claims the clusters that it works on, looks into the ledger,
 * provides, and writes to the ledger before it lets go of them.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "serve.h"

const struct option_row serving_options[] = {
	{ "image", "FILE", "the content of the memory: a file, a block device, or '-' for stdin", OPT_FILE,
	  offsetof(struct serving, image) },
	{ "threads", "N", "threads that answer faults (2)", OPT_COUNT, offsetof(struct serving, threads) },
	{ "rate", "SIZE", "bytes a second that the background reads, or unlimited (256M)", OPT_RATE,
	  offsetof(struct serving, rate) },
	{ "no-background", NULL, "provide only what is asked for", OPT_FLAG, offsetof(struct serving, no_background) },
	{ "direct", NULL, "read around the page cache", OPT_FLAG, offsetof(struct serving, direct) },
	{ "quiet", NULL, "tell errors only", OPT_FLAG, offsetof(struct serving, quiet) },
	{ .kind = OPT_END }
};

#define PIECES 64
#define NOTHING UINT64_MAX
/* So many lines about pages that cannot be read; the others are only counted. */
#define COMPLAINTS 20
#define RATE (256ull << 20)
#define NO_MEMORY_NAP_NS (100 * 1000 * 1000)
/* Until a notice has been read, and who has sent it has gone on. What takes longer than that is something else. */
#define NOTICE_NAP_NS (50 * 1000)
#define NOTICE_NS (10 * 1000000000ull)

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void nap(uint64_t ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };

	nanosleep(&ts, NULL);
}

const struct region *region_of(const struct server *s, uint64_t offset)
{
	unsigned int i;

	for (i = 0; i < s->nr_regions; i++)
		if (offset >= s->regions[i].offset && offset - s->regions[i].offset < s->regions[i].len)
			return &s->regions[i];
	return NULL;
}

static void stop(struct server *s)
{
	eventfd_write(s->stop, 1);
}

/* The first error counts; the process ends with it. */
static void give_up(struct server *s, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&s->error, &none, err);
	stop(s);
}

static void set_claims(struct server *s, uint64_t first, uint64_t end, bool on)
{
	for (; first < end; first++)
		if (on)
			s->claims[first / 64] |= 1ull << first % 64;
		else
			s->claims[first / 64] &= ~(1ull << first % 64);
}

static bool any_claim(const struct server *s, uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		if (s->claims[first / 64] >> first % 64 & 1)
			return true;
	return false;
}

static void claim(struct server *s, uint64_t from, uint64_t to)
{
	uint64_t first = from / s->cluster, end = align_up(to, s->cluster) / s->cluster;

	pthread_mutex_lock(&s->claims_lock);
	while (any_claim(s, first, end))
		pthread_cond_wait(&s->claims_freed, &s->claims_lock);
	set_claims(s, first, end, true);
	pthread_mutex_unlock(&s->claims_lock);
}

static void unclaim(struct server *s, uint64_t from, uint64_t to)
{
	pthread_mutex_lock(&s->claims_lock);
	set_claims(s, from / s->cluster, align_up(to, s->cluster) / s->cluster, false);
	pthread_cond_broadcast(&s->claims_freed);
	pthread_mutex_unlock(&s->claims_lock);
}

static void complain(struct server *s, uint64_t offset, uint64_t len, int err)
{
	uint64_t n = s->complaints++;

	if (n < COMPLAINTS)
		fail(FAILED, "the image %s cannot be read from byte %llu to %llu: %s; who touches that %s",
		     s->image->name, (unsigned long long)offset, (unsigned long long)(offset + len),
		     err == ENODATA ? "it has become shorter" : strerror(err),
		     s->no_poison ? "waits on" : "gets SIGBUS");
	if (n == COMPLAINTS)
		fail(FAILED, "more of the image %s cannot be read; 'gmemctl stat' counts the bytes",
		     s->image->name);
}

/* Zeros that nobody asked for would be the only other answer. */
static void tell_no_poison(struct server *s)
{
	if (!atomic_exchange(&s->no_poison, true))
		fail(FAILED,
		     "this kernel's userfaultfd cannot refuse a page: who touches what cannot be had waits on");
}

/* What is missing can only be poisoned once the image is no more what it was. */
static void look_at_image(struct server *s)
{
	if (s->stale || !image_changed(s->image) || atomic_exchange(&s->stale, true))
		return;
	fail(FAILED, "the image %s was changed while it is served: who touches what has not been provided gets SIGBUS",
	     s->image->name);
}

static void done(struct server *s, const struct piece *piece, uint64_t offset, uint64_t len)
{
	uint64_t fresh = ledger_set(s->ledger, offset, len);

	if (piece->kind == PIECE_FILL)
		s->ledger->read += len;
	if (piece->kind == PIECE_POISON)
		s->ledger->poisoned += fresh;
}

/* What could not be read, as one range for the message. */
struct bad {
	uint64_t offset, len;
	int err;
};

static void note_bad(struct server *s, struct bad *bad, uint64_t offset, int err)
{
	if (bad->len && (bad->offset + bad->len != offset || bad->err != err)) {
		complain(s, bad->offset, bad->len, bad->err);
		bad->len = 0;
	}
	if (!bad->len)
		*bad = (struct bad){ .offset = offset, .err = err };
	bad->len += s->granule;
}

/*
 * Deals with what a back end has left of a piece, by trying again from where it stopped. A granule that cannot be read
 * is poisoned. False: the ledger has to be looked into anew before more is done.
 */
static bool settle(struct server *s, struct piece *piece, bool wanted, struct bad *bad)
{
	uint64_t end = piece->offset + piece->len, step;
	bool single = piece->len == s->granule, told = false;
	int unreadable = 0;

	for (;;) {
		step = 0;
		if (piece->done > 0) {
			done(s, piece, piece->offset, piece->done);
			step = piece->done;
		} else if (piece->done == -EEXIST || (piece->done == -ENOENT && s->backend == &by_address)) {
			/* Somebody else has provided it, or unmapped it. */
			ledger_set(s->ledger, piece->offset, s->granule);
			if (wanted)
				s->backend->wake(s, piece);
			step = s->granule;
		} else if (piece->done == -EAGAIN) {
			return false;
		} else if (piece->done == -ENOMEM) {
			if (!wanted)
				return true;
			if (!told)
				fail(FAILED, "no memory for a page that is waited for: is a cgroup at its limit?");
			told = true;
			nap(NO_MEMORY_NAP_NS);
		} else if (piece->done == -ESRCH) {
			s->gone = true;
			stop(s);
			return true;
		} else if (piece->done == -EINTR) {
			/* Only what kills interrupts it. */
		} else if (piece->done == -EINVAL && piece->kind == PIECE_POISON && s->backend == &by_address) {
			tell_no_poison(s);
			step = piece->len;
		} else if (piece->done == -EBADF || piece->done == -EINVAL || piece->kind != PIECE_FILL) {
			give_up(s, -piece->done);
			return true;
		} else if (single) {
			unreadable = -piece->done;
			ledger_refuse(s->ledger, piece->offset, piece->len);
			piece->kind = PIECE_POISON;
		} else {
			/* Granule by granule from here on, to find the one that cannot be read. */
			single = true;
		}
		if (unreadable && step) {
			note_bad(s, bad, piece->offset, unreadable);
			unreadable = 0;
			piece->kind = PIECE_FILL;
		}
		piece->offset += step;
		if (piece->content)
			piece->content += step;
		if (piece->offset >= end || s->error)
			return true;
		piece->len = single ? s->granule : end - piece->offset;
		s->backend->provide(s, piece, 1);
	}
}

/* A part of the image that was read before anybody asked for it. */
struct ahead {
	char *content;
	uint64_t offset, len;
};

/* What to do for the granules from @offset on: as many as are alike. */
static struct piece make_piece(struct server *s, const struct region *region, uint64_t offset, uint64_t len,
			       const struct ahead *ahead)
{
	struct piece piece = { .kind = PIECE_FILL, .region = region, .offset = offset, .len = len };
	bool hole;

	if (s->stale) {
		ledger_refuse(s->ledger, offset, len);
		piece.kind = PIECE_POISON;
		return piece;
	}
	piece.len = image_extent(s->image, offset, len, s->granule, &hole);
	if (hole)
		piece.kind = PIECE_ZERO;
	else if (ahead && ahead->len)
		piece.content = ahead->content + offset - ahead->offset;
	return piece;
}

/* Up to PIECES pieces of what is missing in the range up to @next, the wanted granule first, wherever it is. */
static unsigned int make_pieces(struct server *s, const struct region *region, uint64_t from, uint64_t to,
				uint64_t wanted, const struct ahead *ahead, struct piece *pieces, uint64_t *next)
{
	unsigned int nr = 0;
	uint64_t at, len;

	if (wanted != NOTHING) {
		if (ledger_has(s->ledger, wanted))
			pieces[nr++] = (struct piece){ ledger_refuses(s->ledger, wanted) ? PIECE_POISON : PIECE_ZERO,
						       region, wanted, s->granule };
		else
			pieces[nr++] = make_piece(s, region, wanted, s->granule, ahead);
	}
	for (at = from; at < to && nr < PIECES; at += len) {
		len = ledger_run(s->ledger, at, to - at, true);
		if (len)
			continue;
		len = ledger_run(s->ledger, at, to - at, false);
		/* The wanted one has its piece already. */
		if (at == wanted) {
			len = s->granule;
			continue;
		}
		if (wanted > at && wanted - at < len)
			len = wanted - at;
		pieces[nr] = make_piece(s, region, at, len, ahead);
		len = pieces[nr++].len;
	}
	*next = at;
	return nr;
}

/* The kernel wants to be asked again: it does, since @since. Nobody is to wait silently if it goes on like that. */
static void ask_again(struct server *s, uint64_t offset, uint64_t *since)
{
	uint64_t now = now_ns();

	if (!*since)
		*since = now;
	if (now - *since < NOTICE_NS) {
		nap(NOTICE_NAP_NS);
		return;
	}
	fail(FAILED, "nothing can be provided at byte %llu for 10 seconds: does giving memory back never end?",
	     (unsigned long long)offset);
	nap(NO_MEMORY_NAP_NS);
	*since = now_ns();
}

/*
 * Provides what is missing of a range inside one region, and the wanted granule, if any, whatever the ledger says. What
 * was read @ahead, if anything, is all of the range.
 */
static void provide_range(struct server *s, uint64_t from, uint64_t to, uint64_t wanted, const struct ahead *ahead)
{
	const struct region *region = region_of(s, from);
	struct piece pieces[PIECES];
	bool no_memory = false;
	struct bad bad = {};
	uint64_t at = from, next, since = 0;
	unsigned int nr, i;

	look_at_image(s);
	claim(s, from, to);
	while (at < to && !s->error && !s->gone && !no_memory) {
		bool first = wanted != NOTHING, again = false;
		uint64_t had;

		nr = make_pieces(s, region, at, to, wanted, ahead, pieces, &next);
		if (nr)
			s->backend->provide(s, pieces, nr);
		for (i = 0; i < nr && !s->error && !s->gone; i++) {
			had = s->ledger->provided;
			if (!settle(s, &pieces[i], first && !i, &bad)) {
				again = true;
			} else if (first && !i) {
				wanted = NOTHING;
				if (s->ledger->provided > had)
					s->ledger->demanded += s->granule;
			} else if (pieces[i].done == -ENOMEM) {
				no_memory = true;
			}
		}
		if (again) {
			ask_again(s, at, &since);
		} else {
			at = next;
			since = 0;
		}
	}
	unclaim(s, from, to);
	if (bad.len)
		complain(s, bad.offset, bad.len, bad.err);
	if (s->ledger->provided == s->ledger->bytes && !atomic_exchange(&s->told, true))
		stop(s);
	if (no_memory) {
		s->short_of_memory = true;
		nap(NO_MEMORY_NAP_NS);
	}
}

/* A fault: its granule, and what is missing of the cluster around it. */
static void answer(struct server *s, uint64_t wanted)
{
	const struct region *region = region_of(s, wanted);
	uint64_t from, to;

	if (!region) {
		give_up(s, ERANGE);
		return;
	}
	from = align_down(wanted, s->cluster);
	to = from + s->cluster;
	if (from < region->offset)
		from = region->offset;
	if (to > region->offset + region->len)
		to = region->offset + region->len;
	provide_range(s, from, to, wanted, NULL);
	s->ledger->answered++;
}

static bool in_line(const struct server *s, uint64_t wanted)
{
	unsigned int i;

	for (i = 0; i < s->in_line; i++)
		if (s->line[i] == wanted)
			return true;
	return false;
}

static bool make_room(struct server *s)
{
	unsigned int room = s->line_room ? s->line_room * 2 : 64;
	uint64_t *line;

	if (s->in_line < s->line_room)
		return true;
	line = realloc(s->line, room * sizeof(*line));
	if (!line)
		return false;
	s->line = line;
	s->line_room = room;
	return true;
}

/* For whoever is free to answer it. A granule that is in line already is answered for all who wait for it. */
static void put_fault(struct server *s, uint64_t wanted)
{
	s->ledger->faults++;
	pthread_mutex_lock(&s->line_lock);
	if (in_line(s, wanted)) {
		s->ledger->answered++;
	} else if (make_room(s)) {
		s->line[s->in_line++] = wanted;
		pthread_cond_signal(&s->line_grew);
	} else {
		give_up(s, ENOMEM);
	}
	pthread_mutex_unlock(&s->line_lock);
}

static uint64_t take_fault(struct server *s)
{
	uint64_t wanted;

	pthread_mutex_lock(&s->line_lock);
	while (!s->in_line)
		pthread_cond_wait(&s->line_grew, &s->line_lock);
	wanted = s->line[0];
	memmove(s->line, s->line + 1, --s->in_line * sizeof(*s->line));
	pthread_mutex_unlock(&s->line_lock);
	return wanted;
}

static void *read_context(void *arg)
{
	struct server *s = arg;
	struct pollfd more = { .fd = s->context, .events = POLLIN };
	uint64_t wanted;
	int got;

	for (;;) {
		got = s->backend->next(s, &wanted);
		if (got > 0) {
			put_fault(s, wanted);
			continue;
		}
		if (!got && (poll(&more, 1, -1) >= 0 || errno == EINTR))
			continue;
		give_up(s, got ? -got : errno);
		return NULL;
	}
}

static void *answer_faults(void *arg)
{
	struct server *s = arg;

	for (;;)
		answer(s, take_fault(s));
	return NULL;
}

void keep_rate(uint64_t rate, uint64_t *due, uint64_t bytes)
{
	uint64_t now = now_ns();

	if (!rate)
		return;
	*due = (*due > now ? *due : now) + bytes * 1000000000.0 / rate;
	if (*due > now)
		nap(*due - now);
}

/*
 * Reads a chunk before it is claimed: who faults in it meanwhile does not wait for all of it. What has been provided is
 * not read, nor are holes; and nothing at all where it cannot be read, so that this comes up where it can be mended.
 */
static void read_ahead(struct server *s, struct ahead *ahead, uint64_t from, uint64_t to)
{
	uint64_t at, len, got;
	bool hole, any = false;

	ahead->offset = from;
	ahead->len = 0;
	for (at = from; at < to && !s->stale; at += len) {
		len = ledger_run(s->ledger, at, to - at, true);
		if (len)
			continue;
		len = image_extent(s->image, at, ledger_run(s->ledger, at, to - at, false), s->granule, &hole);
		/* Were it not a hole any more when the pieces are made, nobody would have read it. */
		if (hole)
			memset(ahead->content + at - from, 0, len);
		else if (image_read(s->image, ahead->content + at - from, at, len, &got))
			return;
		any |= !hole;
	}
	if (any)
		ahead->len = to - from;
}

static void fill_region(struct server *s, const struct region *region, struct ahead *ahead, uint64_t *due)
{
	uint64_t chunk = s->granule > CHUNK ? s->granule : CHUNK, rate = s->options->rate ?: RATE;
	uint64_t last = region->offset + region->len, before, at, end;

	for (at = region->offset; at < last && !s->error && !s->gone; at = end) {
		end = align_down(at, chunk) + chunk;
		if (end > last)
			end = last;
		if (ledger_run(s->ledger, at, end - at, true) == end - at)
			continue;
		before = s->ledger->read;
		read_ahead(s, ahead, at, end);
		provide_range(s, at, end, NOTHING, ahead);
		/* With what was read for faults meanwhile: it took of the same disk. */
		keep_rate(rate, due, s->ledger->read - before);
	}
}

static void *fill_background(void *arg)
{
	struct server *s = arg;
	struct ahead ahead = {};
	uint64_t due = 0;
	unsigned int i;

	/* Aligned as reading around the page cache wants it. */
	if (posix_memalign((void **)&ahead.content, 4096, s->granule > CHUNK ? s->granule : CHUNK)) {
		give_up(s, ENOMEM);
		return NULL;
	}

	/* Once more as long as something had to be left for want of memory. What is missing else cannot be had. */
	do {
		s->short_of_memory = false;
		for (i = 0; i < s->nr_regions; i++)
			fill_region(s, &s->regions[i], &ahead, &due);
	} while (s->short_of_memory && !s->error && !s->gone);
	return NULL;
}

static int start_thread(struct server *s, void *(*fn)(void *))
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, fn, s);

	if (err)
		return fail_errno(FAILED, err, "cannot start a thread");
	pthread_detach(thread);
	return DONE;
}

int serve(struct server *s, int ready)
{
	pthread_rwlockattr_t writers_first;
	eventfd_t unused;
	unsigned int i;
	int err;

	s->cluster = s->granule > CLUSTER ? s->granule : CLUSTER;
	s->claims = xcalloc(s->ledger->bytes / s->cluster / 64 + 1, sizeof(uint64_t));
	pthread_mutex_init(&s->claims_lock, NULL);
	pthread_cond_init(&s->claims_freed, NULL);
	pthread_mutex_init(&s->line_lock, NULL);
	pthread_cond_init(&s->line_grew, NULL);
	pthread_rwlockattr_init(&writers_first);
	pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&s->notices, &writers_first);
	s->stop = eventfd(0, EFD_CLOEXEC);
	if (s->stop < 0)
		return fail_errno(FAILED, errno, "eventfd");
	if (s->again)
		ledger_recount(s->ledger);
	err = s->backend->begin(s);
	if (err == -EBUSY)
		return fail(FAILED, "another page server has it, and is alive");
	if (err)
		return fail_errno(FAILED, err, "cannot take the faults");
	if (start_thread(s, read_context))
		return FAILED;
	for (i = 0; i < s->options->threads; i++)
		if (start_thread(s, answer_faults))
			return FAILED;
	if (!s->options->no_background && start_thread(s, fill_background))
		return FAILED;
	if (write(ready, "", 1) != 1)
		return fail_errno(FAILED, errno, "cannot tell that faults are taken");

	/* The threads end with the process. */
	for (;;) {
		if (s->error)
			return fail_errno(FAILED, s->error, "cannot go on serving");
		if (s->gone)
			return DONE;
		if (s->ledger->provided == s->ledger->bytes && s->backend->complete(s)) {
			s->ledger->complete = 1;
			return DONE;
		}
		if (eventfd_read(s->stop, &unused) && errno != EINTR)
			return fail_errno(FAILED, errno, "eventfd");
	}
}
