// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page server for a stream: the content comes in its own order, and whoever touches a page before that waits until
 * it has come. What does not come is poisoned.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keep.h"

/* How often a source is asked again that says there is something to read, and then that there is not. */
#define TRIES 1000
#define TRY_US (10 * 1000)

/* Nobody is answered out of turn, but the figures tell of them. False: nothing more is to be heard. */
static bool count_faults(struct server *s)
{
	uint64_t wanted;
	int got;

	while ((got = s->backend->next(s, &wanted)) > 0) {
		s->ledger->faults++;
		s->ledger->answered++;
	}
	return !got;
}

/* Waits until something has come. */
static void await_more(struct server *s)
{
	struct pollfd fds[] = {
		{ .fd = s->image->fd, .events = POLLIN },
		{ .fd = s->context, .events = POLLIN },
	};

	while (!fds[0].revents) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			return;
		if (fds[1].revents && !(fds[1].revents & POLLIN && count_faults(s)))
			fds[1].fd = -1;
	}
}

/* Reads until the buffer, in which there are @got bytes, is full or the stream ends or fails; what is in it then. */
static size_t read_full(struct server *s, char *to, size_t size, size_t got, int *err)
{
	unsigned int tries = 0;
	ssize_t n = 1;

	*err = 0;
	while (got < size && n && !*err) {
		await_more(s);
		n = read(s->image->fd, to + got, size - got);
		if (n < 0 && errno == EAGAIN && ++tries < TRIES)
			usleep(TRY_US);
		else if (n < 0 && errno != EINTR)
			*err = errno;
		if (n > 0) {
			got += n;
			tries = 0;
		}
	}
	return got;
}

/* With no content, poisons. Pages that somebody else has provided stay as they are. */
static int provide_all(struct server *s, uint64_t offset, const char *from, uint64_t len)
{
	uint64_t done;
	int err;

	while (len) {
		if (from) {
			err = gmemfd_copy(s->fd, offset, from, len, 0, &done);
			from += done;
		} else {
			err = gmemfd_poison(s->fd, offset, len, 0, &done);
			s->ledger->poisoned += done;
		}
		if (err == -EEXIST) {
			done += s->granule;
			from = from ? from + s->granule : NULL;
		} else if (err == -ENOMEM) {
			usleep(100 * 1000);
		} else if (err && err != -EINTR) {
			return err;
		}
		offset += done;
		len -= done;
	}
	return 0;
}

int serve_stream(struct server *s, int ready)
{
	uint64_t chunk = s->granule > CHUNK ? s->granule : CHUNK, at = 0, whole, due = 0;
	char *content = malloc(chunk);
	int err, broken = 0;
	size_t got = 0;

	if (!content)
		return fail(FAILED, "out of memory");
	err = s->backend->begin(s);
	if (err)
		return fail_errno(FAILED, err, "cannot take the faults");
	if (write(ready, "", 1) != 1)
		return fail_errno(FAILED, errno, "cannot tell that faults are taken");
	while (at < s->ledger->bytes) {
		if (chunk > s->ledger->bytes - at)
			chunk = s->ledger->bytes - at;
		if (!at)
			memcpy(content, s->image->head, s->image->head_len);
		got = read_full(s, content, chunk, at ? 0 : s->image->head_len, &broken);
		whole = align_down(got, s->granule);
		err = provide_all(s, at, content, whole);
		if (err)
			return fail_errno(FAILED, err, "cannot provide what came on stdin");
		s->ledger->read += whole;
		ledger_set(s->ledger, at, whole);
		at += whole;
		if (whole < chunk)
			break;
		keep_rate(s->options->rate, &due, whole);
	}
	count_faults(s);
	if (at < s->ledger->bytes) {
		err = provide_all(s, at, NULL, s->ledger->bytes - at);
		if (err)
			return fail_errno(FAILED, err, "cannot poison what did not come on stdin");
		ledger_set(s->ledger, at, s->ledger->bytes - at);
		fail(FAILED, "the image on stdin ended at byte %llu of %llu (%s): who touches the rest gets SIGBUS",
		     (unsigned long long)(at + got % s->granule), (unsigned long long)s->ledger->bytes,
		     broken ? strerror(broken) : "it is too short");
	}
	if (!s->backend->complete(s))
		return FAILED;
	s->ledger->complete = 1;
	if (!broken && read_full(s, content, 1, 0, &broken) > 0)
		fail(FAILED, "the image on stdin is longer than --size: the rest is not used");
	return DONE;
}
