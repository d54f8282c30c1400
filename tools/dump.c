// SPDX-License-Identifier: GPL-2.0-only
/*
 * `gmemctl dump`: writes the content of a gmem file out as a sparse image, of which nothing is seen before all of it is
 * there. Absent pages become holes without anybody being asked for them, unless they are still to be provided: these
 * are not zeros, and make no image. Pages are read without waiting, so that one that traps makes nobody wait for its
 * handler.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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
	bool incomplete;
	bool force;
};

const struct option_row dump_options[] = {
	{ "skip", NULL, "leave pages that cannot be read (closed, poisoned) as holes, instead of failing", OPT_FLAG,
	  offsetof(struct dump_options, skip) },
	{ "incomplete", NULL, "leave pages that have not been provided yet as holes, instead of failing", OPT_FLAG,
	  offsetof(struct dump_options, incomplete) },
	{ "force", NULL, "replace IMAGE", OPT_FLAG, offsetof(struct dump_options, force) },
	{}
};

/* Pages of one kind: how much of them, and where the first is. */
struct tally {
	uint64_t bytes, first;
};

struct dump {
	int from, to;
	const char *image;
	uint64_t bytes, granule, written;
	struct tally closed, poisoned, absent, holes;
	char *buffer;
	bool skip, orphans;
};

static void count(struct tally *tally, uint64_t offset, uint64_t len)
{
	if (!tally->bytes)
		tally->first = offset;
	tally->bytes += len;
}

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
	count(poisoned ? &d->poisoned : &d->closed, offset, d->granule);
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

/* What SEEK_HOLE has found: only who reads there is told whether it is zeros, or poisoned, or still to be provided. */
static int survey_hole(struct dump *d, uint64_t offset, uint64_t end)
{
	struct iovec iov = { .iov_base = d->buffer };
	ssize_t got;

	while (offset < end) {
		iov.iov_len = end - offset < BUFFER ? end - offset : BUFFER;
		got = preadv2(d->from, &iov, 1, offset, RWF_NOWAIT);
		if (got > 0) {
			count(&d->holes, offset, got);
			offset += got;
		} else if (got < 0 && (errno == EAGAIN || errno == EIO)) {
			/* Where a handler is gone, what it had not provided answers as if it were poisoned. */
			bool poisoned = errno == EIO && !d->orphans;

			/* It may have been provided since: then it is read with the rest. */
			if (lseek(d->from, offset, SEEK_DATA) != (off_t)offset)
				count(poisoned ? &d->poisoned : &d->absent, offset, d->granule);
			offset = align_down(offset, d->granule) + d->granule;
		} else if (!got || errno != EINTR) {
			return fail_errno(FAILED, got ? errno : EIO, "cannot read at byte %llu",
					  (unsigned long long)offset);
		}
	}
	return DONE;
}

/* All data (SEEK_DATA) or all holes (SEEK_HOLE) of the file. */
static int each_extent(struct dump *d, int whence, int (*look)(struct dump *d, uint64_t offset, uint64_t end))
{
	off_t begin, end = 0;
	int code = DONE;

	while ((uint64_t)end < d->bytes && !code) {
		begin = lseek(d->from, end, whence);
		if (begin < 0 && errno == ENXIO)
			break;
		end = begin < 0 ? -1 : lseek(d->from, begin, whence == SEEK_DATA ? SEEK_HOLE : SEEK_DATA);
		if (begin >= 0 && end < 0 && errno == ENXIO)
			end = d->bytes;
		if (end < 0)
			return fail_errno(FAILED, errno, "cannot tell what is there");
		code = look(d, begin, end);
	}
	return code;
}

/* Refuses what would not be the memory's content: DONE or a code. */
static int survey(struct dump *d, const struct gmemfd_stats *stats, bool incomplete)
{
	const char *how = "have not been provided yet";
	int code;

	/* Without either a hole is zeros, and need not be looked at. */
	if (!stats->watches && !stats->poisoned)
		return DONE;
	code = each_extent(d, SEEK_HOLE, survey_hole);
	if (code)
		return code;
	/* The watches of mappings, as of clients of userfaultfd(2), stop nobody who reads: any hole may be theirs. */
	if (stats->watches && !d->absent.bytes) {
		d->absent = d->holes;
		how = "may not have been provided yet (there are watches that a dump cannot see)";
	}
	if (d->absent.bytes && !incomplete)
		return fail(FAILED, "%s %s, the first at byte %llu: wait (see 'gmemctl stat'), or say --incomplete",
			    size_text(d->absent.bytes), how, (unsigned long long)d->absent.first);
	if (d->poisoned.bytes && !d->skip)
		return fail(FAILED, "%s are poisoned, the first at byte %llu: provide them first, or say --skip",
			    size_text(d->poisoned.bytes), (unsigned long long)d->poisoned.first);
	return DONE;
}

/* The file that becomes the image when it is whole. A signal that ends us takes it away. */
static char *temporary;

static void take_away(int sig)
{
	unlink(temporary);
	/* As if it had not been caught: SA_RESETHAND. */
	raise(sig);
}

/* Makes it, in the directory of @target: DONE or a code. */
static int make_temporary(struct dump *d, const char *target)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction action = { .sa_handler = take_away, .sa_flags = SA_RESETHAND };
	const char *slash = strrchr(target, '/');
	struct sigaction old;
	unsigned int i;

	temporary = xasprintf("%.*s.gmemctl-XXXXXX", slash ? (int)(slash - target + 1) : 0, target);
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	d->to = mkostemp(temporary, O_CLOEXEC);
	if (d->to < 0)
		return fail_errno(FAILED, errno, "cannot write to %s", d->image);
	return DONE;
}

static int there_already(const struct dump *d)
{
	return fail(FAILED, "%s is there already: name another, or say --force", d->image);
}

/* Gives the temporary file the image's name, in whose place it comes, with its owner and mode, where @old is given. */
static int publish(struct dump *d, const char *target, const struct stat *old)
{
	const char *slash = strrchr(target, '/');
	char *dir = slash ? xasprintf("%.*s", (int)(slash - target + 1), target) : xasprintf(".");
	int err, fd;

	if (old && !fchown(d->to, old->st_uid, old->st_gid))
		fchmod(d->to, old->st_mode & 07777);
	err = fsync(d->to);
	if (!err) {
		err = renameat2(AT_FDCWD, temporary, AT_FDCWD, target, old ? 0 : RENAME_NOREPLACE);
		/* Not every file system can be asked not to replace. */
		if (err && errno == EINVAL && !old && access(target, F_OK))
			err = rename(temporary, target);
	}
	if (err) {
		free(dir);
		return errno == EEXIST ? there_already(d) :
					 fail_errno(FAILED, errno, "cannot write to %s", d->image);
	}
	/* The name is to last as well; where a directory cannot be synced there is nothing that could be done. */
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(dir);
	return DONE;
}

/* Writes the image, at @target, which is what the name given stands for. */
static int write_image(struct dump *d, const char *target, const struct stat *old)
{
	int code = make_temporary(d, target);

	if (code)
		return code;
	if (ftruncate(d->to, d->bytes))
		code = fail_errno(FAILED, errno, "cannot make %s as large as the memory", d->image);
	if (!code)
		code = each_extent(d, SEEK_DATA, dump_data);
	if (!code)
		code = publish(d, target, old);
	if (code)
		unlink(temporary);
	close(d->to);
	return code;
}

static int tell(const struct dump *d)
{
	struct json_object *object;
	char *image;

	if (!common.json) {
		image = printable(d->image);
		printf("%s of %s written to %s", size_text(d->written), size_text(d->bytes), image);
		free(image);
		if (d->absent.bytes)
			printf(", %s were not provided", size_text(d->absent.bytes));
		if (d->closed.bytes)
			printf(", %s were closed", size_text(d->closed.bytes));
		if (d->poisoned.bytes)
			printf(", %s were poisoned", size_text(d->poisoned.bytes));
		puts("");
		return flush_stdout();
	}
	object = json_new();
	json_string(object, "image", d->image);
	json_number(object, "bytes", d->bytes);
	json_number(object, "written", d->written);
	json_number(object, "absent", d->absent.bytes);
	json_number(object, "closed", d->closed.bytes);
	json_number(object, "poisoned", d->poisoned.bytes);
	return json_print(object);
}

int cmd_dump(int argc, char **argv)
{
	struct dump_options options = {};
	struct gmemfd_stats stats;
	struct dump d = {};
	struct stat st;
	char *target;
	bool there;
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
	d.orphans = stats.orphans;
	d.granule = gmem_granule(d.from);
	if (!d.granule)
		return fail(FAILED, "%s does not tell its page size: is /proc mounted?", argv[0]);
	there = !lstat(d.image, &st);
	if (there && !options.force)
		return there_already(&d);
	there = !stat(d.image, &st);
	if (there && !S_ISREG(st.st_mode))
		return fail(FAILED, "%s is no regular file, and so cannot have holes: name another", d.image);
	/* A link stays what it is. */
	target = there ? realpath(d.image, NULL) : xasprintf("%s", d.image);
	if (!target)
		return fail_errno(FAILED, errno, "cannot write to %s", d.image);

	d.buffer = xcalloc(1, BUFFER);
	code = survey(&d, &stats, options.incomplete);
	if (!code)
		code = write_image(&d, target, there ? &st : NULL);
	free(d.buffer);
	free(target);
	free(temporary);
	close(d.from);
	return code ? code : tell(&d);
}
