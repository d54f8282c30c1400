// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page server for a stream: the content comes in its own order, and whoever touches a page before that waits until
 * it has come. What does not come is poisoned.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "keep.h"

/* Reads until the buffer is full or the stream ends; what it got, or -errno. */
static ssize_t read_full(int fd, char *to, size_t size)
{
	struct pollfd more = { .fd = fd, .events = POLLIN };
	size_t got = 0;
	ssize_t n = 1;

	while (got < size && n) {
		n = read(fd, to + got, size - got);
		if (n < 0 && errno == EAGAIN)
			poll(&more, 1, -1);
		else if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			got += n;
	}
	return got;
}

/* Pages that somebody else has provided stay as they are. */
static int copy_all(struct server *s, uint64_t offset, const char *from, uint64_t len)
{
	uint64_t done;
	int err;

	while (len) {
		err = gmemfd_copy(s->fd, offset, from, len, 0, &done);
		if (err == -EEXIST)
			done += s->granule;
		else if (err == -ENOMEM)
			usleep(100 * 1000);
		else if (err && err != -EINTR)
			return err;
		offset += done;
		from += done;
		len -= done;
	}
	return 0;
}

int serve_stream(struct server *s, int ready)
{
	uint64_t chunk = s->granule > CHUNK ? s->granule : CHUNK, at = 0, whole;
	char *content = malloc(chunk);
	ssize_t got = 0;
	int err;

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
		got = read_full(s->image->fd, content, chunk);
		if (got < 0)
			break;
		whole = align_down(got, s->granule);
		err = copy_all(s, at, content, whole);
		if (err)
			return fail_errno(FAILED, err, "cannot provide what came on stdin");
		s->ledger->read += whole;
		ledger_set(s->ledger, at, whole);
		at += whole;
		if (whole < chunk)
			break;
	}
	if (at < s->ledger->bytes) {
		err = gmemfd_poison(s->fd, at, s->ledger->bytes - at, 0, NULL);
		if (err && err != -EEXIST)
			return fail_errno(FAILED, err, "cannot poison what did not come on stdin");
		ledger_set(s->ledger, at, s->ledger->bytes - at);
		s->ledger->poisoned += s->ledger->bytes - at;
		fail(FAILED, "the image on stdin ended at byte %llu of %llu (%s): who touches the rest gets SIGBUS",
		     (unsigned long long)(at + (got > 0 ? got % s->granule : 0)), (unsigned long long)s->ledger->bytes,
		     got < 0 ? "it cannot be read" : "it is too short");
	}
	if (!s->backend->complete(s))
		return FAILED;
	s->ledger->complete = 1;
	if (got > 0 && at == s->ledger->bytes && read_full(s->image->fd, content, 1) > 0)
		fail(FAILED, "the image on stdin is longer than --size: the rest is not used");
	return DONE;
}
