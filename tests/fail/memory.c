// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each operation with each of its first hundred allocations failing in turn, and some of those that follow, which are
 * alike: it succeeds all the same or says ENOMEM and what it has done; pages have all of their content or none; their
 * counters are right; and trying again succeeds. That nothing leaks is for the bench to see, with kmemleak.
 */
#include "fail.h"
#include "gmem.h"

#include <dirent.h>

#define G HPAGE_SIZE
#define BYTES (2 * G)

struct state {
	const struct fail_row *row;
	unsigned int nth;
	bool fired;
	int fd, context, file;
	unsigned char *src;	/* what pages are to hold, from the start of the range on */
	unsigned char *map;
	int64_t done;
};

struct fail_row {
	const char *label;
	void (*setup)(struct state *s);
	int (*op)(struct state *s);		/* 0 or errno */
	void (*after)(struct state *s, int err);
	size_t at, len;				/* pages of the range */
	bool huge;
	bool quiet;				/* nothing of it may fail */
};

/* The part of an operation that is to fail. */
#define ARMED(s, call) ({							\
	fail_arm((s)->nth);							\
	int err_ = (call) < 0 ? errno : 0;					\
	(s)->fired = fail_disarm();						\
	err_; })

static uint64_t at(const struct state *s)
{
	return s->row->at * page_size();
}

static uint64_t len(const struct state *s)
{
	return s->row->len * page_size();
}

/* Every page with content has all of it; their number is what the file says; returns it in bytes. */
static uint64_t check_content(struct state *s, const unsigned char *want)
{
	size_t ps = page_size();
	unsigned char *page = aligned_alloc(ps, ps);
	uint64_t has = 0;
	off_t pos = 0;

	REQUIRE(page);
	while ((pos = lseek(s->fd, pos, SEEK_DATA)) >= 0) {
		REQUIRE_EQ(pread(s->fd, page, ps, pos), ps);
		if (want && !(pos >= (off_t)at(s) && pos < (off_t)(at(s) + len(s)))) {
			tap_diag("content at %lld, where none is to be", (long long)pos);
			CHECK(false);
		} else if (want) {
			CHECK(!memcmp(page, want + (pos - at(s)), ps));
		} else {
			CHECK(all_bytes_are(page, ps, 0));
		}
		has += ps;
		pos += ps;
	}
	free(page);
	CHECK_EQ(xgmem_stats(s->fd).allocated, has);
	CHECK_EQ(xgmem_stats(s->fd).waiters, 0);
	return has;
}

/* --- Providing --------------------------------------------------------------------------------------- */

static void setup_file(struct state *s)
{
	(void)s;
}

static void setup_watched(struct state *s)
{
	REQUIRE_OK(gmem_watch(s->fd, s->context, 0, BYTES, GMEMFD_MODE_ALL, 1, 0));
}

static void setup_source(struct state *s)
{
	s->file = REQUIRE_FD(open("/tmp/fail-source", O_RDWR | O_CREAT | O_TRUNC, 0600));
	REQUIRE_EQ(write(s->file, s->src, len(s)), len(s));
}

static int op_copy(struct state *s)
{
	int err = ARMED(s, gmem_copy(s->fd, at(s), len(s), s->src, 0));

	s->done = gmem_done;
	return err;
}

static int op_zero(struct state *s)
{
	int err;

	memset(s->src, 0, len(s));
	err = ARMED(s, gmem_zero(s->fd, at(s), len(s), 0));
	s->done = gmem_done;
	return err;
}

static int op_fill(struct state *s)
{
	int err = ARMED(s, gmem_fill(s->fd, at(s), len(s), s->file, 0, 0));

	s->done = gmem_done;
	return err;
}

static int op_write(struct state *s)
{
	ssize_t got = -1;
	int err = ARMED(s, (got = pwrite(s->fd, s->src, len(s), at(s))));

	s->done = err ? -err : got;
	if (!err && got < (ssize_t)len(s))
		err = EAGAIN;
	return err;
}

static int op_resolve(struct state *s)
{
	struct gmemfd_range ops[2] = {
		{ .op = GMEMFD_OP_COPY, .offset = at(s), .len = len(s), .src = (uintptr_t)s->src },
		{ .op = GMEMFD_OP_WAKE, .offset = at(s), .len = len(s) },
	};
	struct gmemfd_resolve r;
	int err, own;

	own = ARMED(s, (r = gmem_resolve(s->fd, ops, 2, GMEMFD_RESOLVE_KEEP_GOING, &err), err ? -1 : 0));
	/* The call itself takes no memory. */
	CHECK_EQ(own, 0);
	CHECK_EQ(r.done, 2);
	CHECK_EQ(r.failed, ops[0].done != (int64_t)len(s));
	CHECK_EQ(ops[1].done, len(s));
	s->done = ops[0].done;
	return s->done < 0 ? -s->done : s->done == (int64_t)len(s) ? 0 : EAGAIN;
}

/* Of a range: what it says is what there is, and the rest can be had. */
static void after_range(struct state *s, int err)
{
	uint64_t has = check_content(s, s->src);

	switch (err) {
	case 0:
		CHECK_EQ(s->done, len(s));
		CHECK_EQ(has, len(s));
		break;
	case EAGAIN:
		CHECK(s->done > 0 && s->done < (int64_t)len(s));
		CHECK_EQ(has, s->done);
		break;
	default:
		CHECK_EQ(err, ENOMEM);
		CHECK_EQ(s->done, -ENOMEM);
		CHECK_EQ(has, 0);
	}
	if (has < len(s))
		CHECK_DONE(gmem_copy(s->fd, at(s) + has, len(s) - has, s->src + has, 0), len(s) - has);
	CHECK_EQ(check_content(s, s->src), len(s));
}

static int op_fallocate(struct state *s)
{
	return ARMED(s, fallocate(s->fd, 0, at(s), len(s)));
}

static void after_fallocate(struct state *s, int err)
{
	CHECK(err == 0 || err == ENOMEM);
	if (check_content(s, NULL) != len(s))
		CHECK_EQ(err, ENOMEM);
	CHECK_OK(fallocate(s->fd, 0, at(s), len(s)));
	CHECK_EQ(check_content(s, NULL), len(s));
}

static int op_poison(struct state *s)
{
	int err = ARMED(s, gmem_poison(s->fd, at(s), len(s), 0));

	s->done = gmem_done;
	return err;
}

static void after_poison(struct state *s, int err)
{
	uint64_t ps = page_size(), step = s->row->huge ? G : ps, poisoned = 0;
	char byte;

	for (uint64_t i = 0; i < len(s); i += ps)
		if (pread(s->fd, &byte, 1, at(s) + i) < 0) {
			CHECK_EQ(errno, EIO);
			CHECK_EQ(poisoned, i);
			poisoned += ps;
		}
	CHECK_EQ(poisoned % step, 0);
	CHECK_EQ(poisoned, s->done < 0 ? 0 : s->done);
	CHECK_EQ(xgmem_stats(s->fd).poisoned, poisoned);
	if (poisoned == len(s))
		CHECK_EQ(err, 0);
	else
		CHECK_EQ(err, poisoned ? EAGAIN : ENOMEM);
	if (poisoned < len(s))
		CHECK_OK(gmem_poison(s->fd, at(s) + poisoned, len(s) - poisoned, 0));
	CHECK_DONE(gmem_copy(s->fd, at(s), len(s), s->src, 0), len(s));
	CHECK_EQ(check_content(s, s->src), len(s));
}

/* --- Large folios that have to be split --------------------------------------------------------------- */

static void setup_large(struct state *s)
{
	REQUIRE_OK(gmem_copy(s->fd, at(s), len(s), s->src, 0));
	CHECK_EQ(TOUCH_READ(s->map + at(s)), 0);
}

static void setup_closed(struct state *s)
{
	setup_watched(s);
	REQUIRE_OK(gmem_copy(s->fd, at(s), len(s), s->src, GMEMFD_RANGE_CLOSED));
}

static int op_punch(struct state *s)
{
	return ARMED(s, gmem_punch(s->fd, at(s) + 5 * page_size(), 7 * page_size()));
}

static void after_punch(struct state *s, int err)
{
	uint64_t hole = 7 * page_size();

	if (err) {
		CHECK_EQ(err, ENOMEM);
		CHECK_EQ(check_content(s, s->src), len(s));
		CHECK_OK(gmem_punch(s->fd, at(s) + 5 * page_size(), hole));
	}
	CHECK_EQ(check_content(s, s->src), len(s) - hole);
	CHECK_DONE(gmem_copy(s->fd, at(s) + 5 * page_size(), hole, s->src + 5 * page_size(), 0), hole);
	CHECK(!memcmp(s->map + at(s), s->src, len(s)));
}

static int op_continue(struct state *s)
{
	int err = ARMED(s, gmem_continue(s->fd, at(s) + 5 * page_size(), 7 * page_size(), 0));

	s->done = gmem_done;
	return err;
}

static void after_continue(struct state *s, int err)
{
	uint64_t ps = page_size(), part = 7 * ps;

	CHECK_EQ(xgmem_stats(s->fd).allocated, len(s));
	if (err) {
		CHECK_EQ(err, ENOMEM);
		CHECK_EQ(s->done, -ENOMEM);
		/* Not one is open. */
		CHECK_EQ(xgmem_stats(s->fd).continued, 0);
		CHECK_DONE(gmem_continue(s->fd, at(s) + 5 * ps, part, 0), part);
	}
	CHECK_EQ(xgmem_stats(s->fd).continued, part);
	CHECK_DONE(gmem_continue(s->fd, at(s), 5 * ps, 0), 5 * ps);
	CHECK_DONE(gmem_continue(s->fd, at(s) + 12 * ps, len(s) - 12 * ps, 0), len(s) - 12 * ps);
	CHECK(!memcmp(s->map + at(s), s->src, len(s)));
}

/* --- Watches ----------------------------------------------------------------------------------------- */

static int op_watch(struct state *s)
{
	return ARMED(s, gmem_watch(s->fd, s->context, at(s), len(s), GMEMFD_MODE_ALL, 1, 0));
}

static void after_watch(struct state *s, int err)
{
	CHECK_EQ(xgmem_stats(s->fd).watches, !err);
	if (err) {
		CHECK_EQ(err, ENOMEM);
		CHECK_OK(gmem_watch(s->fd, s->context, at(s), len(s), GMEMFD_MODE_ALL, 1, 0));
	}
	CHECK_OK(gmem_unwatch(s->fd, at(s), len(s)));
}

static int op_unwatch(struct state *s)
{
	return ARMED(s, gmem_unwatch(s->fd, at(s) + 5 * page_size(), 7 * page_size()));
}

static void after_unwatch(struct state *s, int err)
{
	uint64_t ps = page_size(), from = at(s) + 5 * ps, end = from + 7 * ps;
	int other = xgmem_context();
	bool closed = s->row->setup == setup_closed;

	if (err) {
		CHECK_EQ(err, ENOMEM);
		/* Every page of it is watched as before. */
		for (uint64_t i = at(s); i < at(s) + 20 * ps; i += ps)
			CHECK_ERRNO(gmem_watch(s->fd, other, i, ps, GMEMFD_MODE_ALL, 0, 0), EBUSY);
		CHECK_EQ(xgmem_stats(s->fd).orphans, 0);
		CHECK_OK(gmem_unwatch(s->fd, from, end - from));
	}
	CHECK_EQ(xgmem_stats(s->fd).watches, 2);
	CHECK_OK(gmem_watch(s->fd, other, from, end - from, GMEMFD_MODE_ALL, 0, 0));
	CHECK_ERRNO(gmem_watch(s->fd, other, from - ps, ps, GMEMFD_MODE_ALL, 0, 0), EBUSY);
	CHECK_ERRNO(gmem_watch(s->fd, other, end, ps, GMEMFD_MODE_ALL, 0, 0), EBUSY);
	/* Inside they are open, outside as they were. */
	if (closed) {
		CHECK_REFUSED(gmem_continue(s->fd, from, ps, 0), EEXIST);
		CHECK_DONE(gmem_continue(s->fd, at(s), 5 * ps, 0), 5 * ps);
		CHECK_OK(gmem_unwatch(s->fd, 0, BYTES));
		CHECK(!memcmp(s->map + at(s), s->src, len(s)));
	}
	close(other);
}

static void setup_orphan(struct state *s)
{
	REQUIRE_OK(gmem_watch(s->fd, s->context, 0, BYTES, GMEMFD_MODE_ALL, 1, GMEMFD_POLICY_HOLD));
	close(s->context);
	s->context = xgmem_context();
}

static int op_attach(struct state *s)
{
	return ARMED(s, gmem_attach(s->fd, s->context, 0, BYTES));
}

static void after_attach(struct state *s, int err)
{
	CHECK_EQ(err, 0);
	CHECK_EQ(xgmem_stats(s->fd).orphans, 0);
}

/* --- Descriptors ------------------------------------------------------------------------------------- */

static unsigned int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	REQUIRE(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static unsigned int fds_before;

static void setup_fds(struct state *s)
{
	(void)s;
	/* Failing takes a descriptor of its own. */
	fail_arm(1000000);
	REQUIRE(!fail_disarm());
	fds_before = open_fds();
}

static int op_create(struct state *s)
{
	int fd = -1, err = ARMED(s, (fd = gmem_create(BYTES, 0, 0)));

	if (!err)
		REQUIRE_OK(close(fd));
	return err;
}

static int op_context(struct state *s)
{
	int fd = -1, err = ARMED(s, (fd = gmem_context()));

	if (!err)
		REQUIRE_OK(close(fd));
	return err;
}

static void after_fds(struct state *s, int err)
{
	(void)s;
	CHECK(err == 0 || err == ENOMEM);
	CHECK_EQ(open_fds(), fds_before);
}

/* --- Accesses ---------------------------------------------------------------------------------------- */

static int op_touch(struct state *s)
{
	int sig = 0;

	memset(s->src, 0, len(s));
	/* A fault that finds no memory is tried again, like any other. */
	ARMED(s, (sig = TOUCH_READ(s->map + at(s))));
	return sig;
}

static int op_touch_write(struct state *s)
{
	int sig = 0;

	ARMED(s, (sig = TOUCH_WRITE(s->map + at(s) + 9, 5)));
	memset(s->src, 0, len(s));
	s->src[9] = 5;
	return sig;
}

static void after_touch(struct state *s, int err)
{
	CHECK_EQ(err, 0);
	CHECK_EQ(check_content(s, s->src), len(s));
	CHECK_EQ(xgmem_stats(s->fd).faults_sigbus, 0);
}

/* The thread that traps fails, not the one that provides. */
struct trapped {
	struct state *s;
	int err;
	bool by_read;
};

static void *trap_and_tell(void *arg)
{
	struct trapped *t = arg;
	struct state *s = t->s;
	char byte = 0;
	int sig = 0;

	if (t->by_read) {
		t->err = ARMED(s, pread(s->fd, &byte, 1, at(s)));
	} else {
		ARMED(s, (sig = TOUCH_READ(s->map + at(s))));
		t->err = sig;
	}
	return NULL;
}

static int trap_in_thread(struct state *s, bool by_read)
{
	struct trapped t = { .s = s, .by_read = by_read };
	pthread_t thread = thread_start(trap_and_tell, &t);
	struct gmemfd_event event;

	REQUIRE(gmem_event(s->context, &event, 10));
	CHECK_EQ(event.offset, at(s));
	CHECK_DONE(gmem_copy(s->fd, at(s), len(s), s->src, 0), len(s));
	REQUIRE(thread_join_for(thread, 10));
	return t.err;
}

static int op_trap(struct state *s)
{
	return trap_in_thread(s, false);
}

static int op_trap_read(struct state *s)
{
	return trap_in_thread(s, true);
}

/* Row by row: a label, what is there before, what is done, what has to be true after, the range. */
static const struct fail_row rows[] = {
	{ "create", setup_fds, op_create, after_fds, 0, 0, false, false },
	{ "context", setup_fds, op_context, after_fds, 0, 0, false, false },
	{ "watch", setup_file, op_watch, after_watch, 3, 20, false, false },
	{ "unwatch", setup_watched, op_unwatch, after_unwatch, 3, 20, false, false },
	{ "unwatch_closed", setup_closed, op_unwatch, after_unwatch, 512, 512, false, false },
	{ "attach", setup_orphan, op_attach, after_attach, 0, 1, false, true },
	{ "copy_page", setup_file, op_copy, after_range, 3, 1, false, false },
	{ "copy_64k", setup_file, op_copy, after_range, 16, 16, false, false },
	{ "copy_odd", setup_file, op_copy, after_range, 5, 101, false, false },
	{ "copy_2m", setup_file, op_copy, after_range, 512, 512, false, false },
	{ "copy_granule", setup_file, op_copy, after_range, 512, 512, true, false },
	{ "zero_odd", setup_file, op_zero, after_range, 1, 55, false, false },
	{ "zero_2m", setup_file, op_zero, after_range, 0, 512, false, false },
	{ "fill_page", setup_source, op_fill, after_range, 2, 1, false, false },
	{ "fill_odd", setup_source, op_fill, after_range, 7, 70, false, false },
	{ "fill_2m", setup_source, op_fill, after_range, 512, 512, false, false },
	{ "write_odd", setup_file, op_write, after_range, 9, 60, false, false },
	{ "write_granule", setup_file, op_write, after_range, 0, 512, true, false },
	{ "resolve", setup_file, op_resolve, after_range, 16, 40, false, false },
	{ "fallocate", setup_file, op_fallocate, after_fallocate, 3, 90, false, false },
	{ "fallocate_granule", setup_file, op_fallocate, after_fallocate, 512, 512, true, false },
	{ "poison", setup_file, op_poison, after_poison, 3, 70, false, false },
	{ "poison_granule", setup_file, op_poison, after_poison, 0, 1024, true, false },
	{ "punch_in_2m", setup_large, op_punch, after_punch, 512, 512, false, false },
	{ "continue_in_2m", setup_closed, op_continue, after_continue, 512, 512, false, false },
	{ "touch", setup_file, op_touch, after_touch, 3, 1, false, false },
	{ "touch_write", setup_file, op_touch_write, after_touch, 3, 1, false, false },
	{ "touch_granule", setup_file, op_touch, after_touch, 512, 512, true, false },
	{ "trapped", setup_watched, op_trap, after_touch, 3, 1, false, false },
	{ "trapped_read", setup_watched, op_trap_read, after_touch, 3, 1, false, true },
};

TEST_EACH_LIMIT(each_allocation, struct fail_row, rows, 40)
{
	unsigned char *src = xmmap_anon(BYTES);
	unsigned int nth = 1, fired = 0;
	bool again = true;

	fail_prepare(FAIL_MEMORY);
	for (; again; nth = fail_next(nth)) {
		struct state s = { .row = row, .nth = nth, .fd = -1, .file = -1, .src = src };
		int err;

		pattern_fill(src, BYTES, 1);
		s.context = xgmem_context();
		s.fd = row->huge ? xgmem_huge(BYTES) : xgmem(BYTES);
		s.map = xmmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
		row->setup(&s);
		err = row->op(&s);
		row->after(&s, err);
		fired += s.fired;
		again = s.fired;
		if (!again)
			CHECK_EQ(err, 0);
		REQUIRE_OK(munmap(s.map, BYTES));
		close(s.file);
		close(s.fd);
		close(s.context);
		if (nth > 1000000) {
			CHECK(false);
			break;
		}
	}
	tap_diag("%u failures, the last at %u", fired, nth);
	if (!row->quiet)
		CHECK(fired > 0);
}
