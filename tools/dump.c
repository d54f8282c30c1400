// SPDX-License-Identifier: GPL-2.0-only
/*
 * `gmemctl dump`: writes the content of a gmem file out as a sparse image. What is absent becomes a hole, without
 * anybody being asked for it. Pages are read without waiting, so that one that traps makes nobody wait for its handler.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gmemctl.h"

#define BUFFER (1ull << 20)
/* How often, and how long, a page is waited for that is neither there nor absent. */
#define TRIES 5
#define MOVE_US 2000

struct dump_options {
	bool skip;
	bool force;
};

const struct option_row dump_options[] = {
	{ "skip", NULL, "leave pages that cannot be read (closed, poisoned) as holes, instead of failing", OPT_FLAG,
	  offsetof(struct dump_options, skip) },
	{ "force", NULL, "overwrite IMAGE", OPT_FLAG, offsetof(struct dump_options, force) },
	{}
};

struct dump {
	int from, to;
	const char *image;
	uint64_t bytes, granule, written, closed, poisoned;
	char *buffer;
	bool skip;
};

static int write_out(struct dump *d, uint64_t offset, uint64_t len)
{
	uint64_t done = 0;
	ssize_t n;

	while (done < len) {
		n = pwrite(d->to, d->buffer + done, len - done, offset + done);
		if (n < 0 && errno != EINTR)
			return fail_errno(FAILED, errno, "cannot write to %s", d->image);
		if (n > 0)
			done += n;
	}
	d->written += len;
	return DONE;
}

/* A page that has content and cannot be read. */
static int unreadable(struct dump *d, uint64_t offset, bool poisoned)
{
	*(poisoned ? &d->poisoned : &d->closed) += d->granule;
	if (d->skip)
		return DONE;
	return fail(FAILED, "the page at byte %llu is %s and cannot be read: provide it first, or say --skip",
		    (unsigned long long)offset, poisoned ? "poisoned" : "closed");
}

/* What SEEK_DATA has found. */
static int dump_data(struct dump *d, uint64_t offset, uint64_t end)
{
	struct iovec iov = { .iov_base = d->buffer };
	unsigned int tries = 0;
	ssize_t got;
	int code = DONE;

	while (offset < end && !code) {
		iov.iov_len = end - offset < BUFFER ? end - offset : BUFFER;
		got = preadv2(d->from, &iov, 1, offset, RWF_NOWAIT);
		if (got > 0) {
			tries = 0;
			code = write_out(d, offset, got);
			offset += got;
		} else if (got < 0 && errno == EAGAIN && ++tries < TRIES) {
			/* It may be on the move to other memory. */
			usleep(MOVE_US);
		} else if (got < 0 && (errno == EAGAIN || errno == EIO)) {
			bool poisoned = errno == EIO;

			tries = 0;
			/* It may have been given back since. */
			if (lseek(d->from, offset, SEEK_DATA) == (off_t)offset)
				code = unreadable(d, offset, poisoned);
			offset = align_down(offset, d->granule) + d->granule;
		} else if (!got || errno != EINTR) {
			return fail_errno(FAILED, got ? errno : EIO, "cannot read at byte %llu",
					  (unsigned long long)offset);
		}
	}
	return code;
}

static int dump_all(struct dump *d)
{
	off_t data = 0, hole;
	int code = DONE;

	while ((uint64_t)data < d->bytes && !code) {
		data = lseek(d->from, data, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(d->from, data, SEEK_HOLE);
		if (hole < 0)
			return fail_errno(FAILED, errno, "cannot tell what is there");
		code = dump_data(d, data, hole);
		data = hole;
	}
	return code;
}

/* A poisoned page has no content, and is found only by touching it; but how many there have been is known. */
static int refuse_poison(struct dump *d, const struct gmemfd_stats *stats)
{
	if (!stats->poisoned || d->skip)
		return DONE;
	return fail(FAILED, "%s of the file have been poisoned, and cannot be told from holes: --skip makes them such",
		    size_text(stats->poisoned));
}

static void tell(const struct dump *d)
{
	struct json_object *object;

	if (!common.json) {
		printf("%s of %s written to %s", size_text(d->written), size_text(d->bytes), d->image);
		if (d->closed)
			printf(", %s were closed", size_text(d->closed));
		if (d->poisoned)
			printf(", %s were poisoned", size_text(d->poisoned));
		puts("");
		return;
	}
	object = json_new();
	json_string(object, "image", d->image);
	json_number(object, "bytes", d->bytes);
	json_number(object, "written", d->written);
	json_number(object, "closed", d->closed);
	json_number(object, "poisoned", d->poisoned);
	puts(json_object_to_json_string_ext(object, JSON_LINES));
	json_object_put(object);
}

int cmd_dump(int argc, char **argv)
{
	struct dump_options options = {};
	struct gmemfd_stats stats;
	struct dump d = {};
	struct stat st;
	int code;

	argc = parse_options(argc, argv, &options);
	if (argc < 0)
		return USAGE;
	if (argc != 2)
		return fail(USAGE, "give a gmem file, such as /proc/PID/fd/N, and an image to write");
	d.skip = options.skip;
	d.image = argv[1];
	d.from = open_gmem(argv[0], O_RDONLY, &stats);
	if (d.from < 0)
		return -d.from;
	d.bytes = stats.bytes;
	d.granule = gmem_granule(d.from);
	if (!d.granule)
		return fail(FAILED, "%s does not tell its page size: is /proc mounted?", argv[0]);
	d.to = open(d.image, O_WRONLY | O_CREAT | O_CLOEXEC | (options.force ? 0 : O_EXCL), 0600);
	if (d.to < 0 && errno == EEXIST)
		return fail(FAILED, "%s is there already: name another, or say --force", d.image);
	if (d.to < 0)
		return fail_errno(FAILED, errno, "cannot write to %s", d.image);
	/* What was in it before must not show through the holes. */
	if (fstat(d.to, &st) || !S_ISREG(st.st_mode)) {
		code = fail(FAILED, "%s is no regular file, and so cannot have holes", d.image);
	} else if (ftruncate(d.to, 0) || ftruncate(d.to, d.bytes)) {
		code = fail_errno(FAILED, errno, "cannot make %s as large as the memory", d.image);
	} else {
		d.buffer = xcalloc(1, BUFFER);
		code = refuse_poison(&d, &stats);
		if (!code)
			code = dump_all(&d);
		free(d.buffer);
		if (!code && fsync(d.to))
			code = fail_errno(FAILED, errno, "cannot write to %s", d.image);
	}
	if (code) {
		/* Half an image must not be taken for one. */
		if (!fstat(d.to, &st) && S_ISREG(st.st_mode))
			unlink(d.image);
		return code;
	}
	tell(&d);
	return flush_stdout();
}
