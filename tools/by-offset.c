// SPDX-License-Identifier: GPL-2.0-only
/*
 * The back end for gmem files: faults and pages are told by offset of the file, in one call for many pieces.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "serve.h"

/* What has content when we take over has been provided once, even if there was no time to write it down. */
static int note_present(struct server *s)
{
	off_t data = 0, hole;

	while ((uint64_t)data < s->ledger->bytes) {
		data = lseek(s->fd, data, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(s->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		data = align_down(data, s->granule);
		hole = align_up(hole, s->granule);
		if ((uint64_t)hole > s->ledger->bytes)
			hole = s->ledger->bytes;
		ledger_set(s->ledger, data, hole - data);
		data = hole;
	}
	return 0;
}

static int by_offset_begin(struct server *s)
{
	struct gmemfd_stats stats;
	int err;

	s->context = gmemfd_context(s->dev, O_NONBLOCK);
	if (s->context < 0)
		return s->context;
	err = gmemfd_attach(s->fd, s->context, 0, s->ledger->bytes);
	if (err == -ENOENT) {
		err = gmemfd_stats(s->fd, &stats, sizeof(stats));
		if (err)
			return err;
		if (stats.watches)
			return -EBUSY;
		err = gmemfd_watch(s->fd, s->context, 0, s->ledger->bytes, NULL);
	}
	return err ? err : s->again ? note_present(s) : 0;
}

static int by_offset_next(struct server *s, uint64_t *wanted)
{
	struct gmemfd_event event;
	int got;

	do {
		got = gmemfd_read_events(s->context, &event, 1);
	} while (got == -EINTR || (got > 0 && event.type != GMEMFD_EVENT_FAULT));
	if (got == -EAGAIN)
		return 0;
	if (got < 0)
		return got;
	*wanted = event.offset;
	return 1;
}

static void by_offset_provide(struct server *s, struct piece *pieces, unsigned int nr)
{
	struct gmemfd_range ops[64];
	unsigned int first, i, n, tried;
	int err;

	for (first = 0; first < nr; first += n) {
		n = nr - first < ARRAY_SIZE(ops) ? nr - first : ARRAY_SIZE(ops);
		for (i = 0; i < n; i++) {
			const struct piece *piece = &pieces[first + i];
			uint64_t target = piece->offset - piece->region->offset + piece->region->target;

			switch (piece->kind) {
			case PIECE_FILL:
				if (piece->content)
					gmemfd_prep_copy(&ops[i], target, piece->content, piece->len, 0);
				else
					gmemfd_prep_fill(&ops[i], target, s->image->fd, piece->offset, piece->len, 0);
				break;
			case PIECE_ZERO:
				gmemfd_prep_zero(&ops[i], target, piece->len, 0);
				break;
			case PIECE_POISON:
				gmemfd_prep_poison(&ops[i], target, piece->len, 0);
				break;
			}
		}
		tried = 0;
		err = gmemfd_resolve(s->fd, ops, n, GMEMFD_RESOLVE_KEEP_GOING, &tried);
		for (i = 0; i < n; i++)
			pieces[first + i].done = i < tried || err >= 0 ? ops[i].done : err;
	}
}

static void by_offset_wake(struct server *s, const struct piece *piece)
{
	/* Whoever waited was woken by who provided it. */
}

/*
 * Every page has been provided once, so that from now on an absent one is one that was given back, and zeros are right:
 * which is what it reads as without a watch. Nobody depends on a page server any more.
 */
static bool by_offset_complete(struct server *s)
{
	int err = gmemfd_unwatch(s->fd, 0, s->ledger->bytes);

	/* Then it goes on, for the zeros. */
	if (err)
		fail_errno(FAILED, err, "cannot end the watch, and go on serving");
	return !err;
}

const struct backend by_offset = {
	.begin = by_offset_begin,
	.next = by_offset_next,
	.provide = by_offset_provide,
	.wake = by_offset_wake,
	.complete = by_offset_complete,
};
