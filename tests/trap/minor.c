// SPDX-License-Identifier: GPL-2.0-only
/*
 * Closed pages: who makes them, that nobody sees them by any route, and what opens them.
 */
#include "trap.h"

#include <sys/uio.h>

#define PAGES 16
#define CLOSED GMEMFD_RANGE_CLOSED
#define MINOR GMEMFD_MODE_MINOR
#define ALL GMEMFD_MODE_ALL

/* --- Who makes them ---------------------------------------------------------------------------------- */

static long close_by_copy(int fd, uint64_t offset, size_t len)
{
	return trap_copy(fd, offset, len, CLOSED);
}

static long close_by_fill(int fd, uint64_t offset, size_t len)
{
	int src = REQUIRE_FD(memfd_create("trap-minor", MFD_CLOEXEC));
	void *buf = malloc(len);
	long ret;

	REQUIRE(buf);
	pattern_fill(buf, len, offset);
	REQUIRE_EQ(write(src, buf, len), len);
	ret = gmem_fill(fd, offset, len, src, 0, CLOSED);
	free(buf);
	REQUIRE_OK(close(src));
	return ret;
}

static long close_by_write(int fd, uint64_t offset, size_t len)
{
	void *buf = malloc(len);
	ssize_t n;

	REQUIRE(buf);
	pattern_fill(buf, len, offset);
	n = pwrite(fd, buf, len, offset);
	free(buf);
	return n == (ssize_t)len ? 0 : -1;
}

static long close_by_splice(int fd, uint64_t offset, size_t len)
{
	unsigned char *buf = xmmap_anon(len);
	struct iovec iov = { buf, len };
	off_t at = offset;
	int fds[2];
	ssize_t n;

	REQUIRE_OK(pipe(fds));
	REQUIRE_OK(fcntl(fds[1], F_SETPIPE_SZ, len));
	pattern_fill(buf, len, offset);
	REQUIRE_EQ(vmsplice(fds[1], &iov, 1, 0), len);
	while (len) {
		n = splice(fds[0], NULL, fd, &at, len, 0);
		if (n <= 0)
			return -1;
		len -= n;
	}
	close(fds[0]);
	close(fds[1]);
	return 0;
}

static const struct maker_row {
	const char *label;
	long (*make)(int fd, uint64_t offset, size_t len);
	uint64_t modes;
	uint64_t flags;
} makers[] = {
	{ "copy", close_by_copy, MINOR, 0 },
	{ "fill", close_by_fill, MINOR, 0 },
	{ "write", close_by_write, MINOR, 0 },
	{ "splice", close_by_splice, MINOR, 0 },
	{ "copy_all_modes", close_by_copy, ALL, 0 },
	{ "fill_all_modes", close_by_fill, ALL, 0 },
	{ "write_all_modes", close_by_write, ALL, 0 },
	{ "splice_all_modes", close_by_splice, ALL, 0 },
	{ "copy_huge", close_by_copy, MINOR, GMEMFD_CREATE_HUGE },
	{ "fill_huge", close_by_fill, ALL, GMEMFD_CREATE_HUGE },
	{ "write_huge", close_by_write, ALL, GMEMFD_CREATE_HUGE },
};

TEST_EACH(closed_until_continued, struct maker_row, makers)
{
	struct trap_rig rig = trap_rig(row->flags ? 3 : PAGES, row->modes, row->flags);
	size_t g = rig.granule, len = row->flags ? g : 4 * g;
	struct gmemfd_event event;
	struct trap_task task;

	REQUIRE_OK(row->make(rig.fd, g, len));
	CHECK_EQ(xgmem_stats(rig.fd).allocated, len);
	trap_read(&task, rig.map + g);
	event = trap_event(rig.context);
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR);
	CHECK_EQ(event.offset, g);
	CHECK_EQ(event.len, g);
	CHECK_EQ(event.cookie, TRAP_COOKIE);
	CHECK(!trap_done(&task, 0.05));
	CHECK_OK(gmem_continue(rig.fd, g, len, 0));
	CHECK_EQ(gmem_done, len);
	CHECK_EQ(trap_result(&task), trap_byte(g));
	CHECK(pattern_is(rig.map + g, len, g));
	CHECK_EQ(xgmem_stats(rig.fd).faults_minor, 1);
	CHECK_EQ(xgmem_stats(rig.fd).faults_missing, 0);
	CHECK_EQ(xgmem_stats(rig.fd).continued, len);
	/* A second time, and where nothing is. */
	CHECK_ERRNO(gmem_continue(rig.fd, g, len, 0), EEXIST);
	CHECK_EQ(gmem_done, -EEXIST);
	CHECK_ERRNO(gmem_continue(rig.fd, 0, g, 0), EFAULT);
	CHECK_EQ(gmem_done, -EFAULT);
}

/* Pages that fallocate(2) takes are no content that anybody asked to see yet, either. */
TEST(allocated_pages_are_closed)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0);
	struct gmemfd_event event;

	REQUIRE_OK(fallocate(rig.fd, 0, 0, rig.granule));
	CHECK_EQ(trap_probe(rig.fd, 0, rig.context, &event), TRAP_WAITS);
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR | GMEMFD_FAULT_KERNEL);
	CHECK_OK(gmem_continue(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_probe(rig.fd, 0, rig.context, &event), 0);
}

TEST(nothing_is_closed_without_minor)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	size_t g = rig.granule;

	CHECK_ERRNO(trap_copy(rig.fd, 0, g, CLOSED), EINVAL);
	CHECK_EQ(gmem_done, -EINVAL);
	CHECK_ERRNO(gmem_zero(rig.fd, 0, g, CLOSED), EINVAL);
	CHECK(!gmem_has_content(rig.fd, 0));
	REQUIRE_OK(gmem_unwatch(rig.fd, 0, rig.bytes));
	CHECK_ERRNO(trap_copy(rig.fd, 0, g, CLOSED), EINVAL);
	/* The end of the watch stops it in the middle. */
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, 3 * g, MINOR, 0, 0));
	CHECK_ERRNO(trap_copy(rig.fd, g, 4 * g, CLOSED), EAGAIN);
	CHECK_EQ(gmem_done, 2 * g);
	CHECK(!gmem_has_content(rig.fd, 3 * g));
	/* What write(2) provides is open where nobody would open it. */
	CHECK_OK(close_by_write(rig.fd, 2 * g + g, g));
	CHECK(pattern_is(rig.map + 3 * g, g, 3 * g));
}

TEST(absent_page_is_zero_in_minor_alone)
{
	struct trap_rig rig = trap_rig(PAGES, MINOR, 0);

	CHECK_EQ(TOUCH_READ(rig.map), 0);
	CHECK_EQ(touch_last.value, 0);
	CHECK_EQ(TOUCH_WRITE(rig.map + rig.granule, 5), 0);
	CHECK(trap_quiet(rig.context));
	CHECK_EQ(xgmem_stats(rig.fd).faults_zero, 2);
	CHECK_EQ(xgmem_stats(rig.fd).faults_minor + xgmem_stats(rig.fd).faults_missing, 0);
}

/* --- Nobody sees them -------------------------------------------------------------------------------- */

struct closed {
	struct trap_rig rig;
	size_t at;		/* offset of the closed page */
	size_t g;
	unsigned char buf[65536];
};

static long see_map(void *arg)
{
	struct closed *c = arg;

	return *(volatile unsigned char *)(c->rig.map + c->at);
}

static long see_write_map(void *arg)
{
	struct closed *c = arg;

	*(volatile unsigned char *)(c->rig.map + c->at + 1) = 1;
	return *(volatile unsigned char *)(c->rig.map + c->at);
}

static long see_private(void *arg)
{
	struct closed *c = arg;
	unsigned char *map = xmmap(NULL, c->rig.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, c->rig.fd, 0);

	map[c->at - c->g] = 1;	/* its neighbour, copied */
	map[c->at + 1] = 1;
	return map[c->at];
}

/* From the open page before it to the one behind it: gets no further than the first. */
static long see_pread(void *arg)
{
	struct closed *c = arg;
	ssize_t n = pread(c->rig.fd, c->buf, 3 * c->g, c->at - c->g);

	return n == (ssize_t)(3 * c->g) ? c->buf[c->g] : -1;
}

static long see_vm_readv(void *arg)
{
	struct closed *c = arg;
	struct iovec local = { c->buf, 3 * c->g }, remote = { c->rig.map + c->at - c->g, 3 * c->g };
	ssize_t n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

	return n == (ssize_t)(3 * c->g) ? c->buf[c->g] : -1;
}

static long see_write_to_file(void *arg)
{
	struct closed *c = arg;
	int fd = REQUIRE_FD(memfd_create("trap-minor", 0));
	size_t done = 0;

	while (done < 3 * c->g) {
		ssize_t n = write(fd, c->rig.map + c->at - c->g + done, 3 * c->g - done);

		if (n <= 0)
			return -1;
		done += n;
	}
	return pread(fd, c->buf, 1, c->g) == 1 ? c->buf[0] : -1;
}

static long see_splice(void *arg)
{
	struct closed *c = arg;
	off_t at = c->at;
	int fds[2];

	REQUIRE_OK(pipe(fds));
	return splice(c->rig.fd, &at, fds[1], NULL, c->g, 0) == (ssize_t)c->g && read(fds[0], c->buf, c->g) > 0 ?
	       c->buf[0] : -1;
}

static long see_populate(void *arg)
{
	struct closed *c = arg;
	unsigned char *map = mmap(NULL, 3 * c->g, PROT_READ, MAP_SHARED | MAP_POPULATE, c->rig.fd, c->at - c->g);

	return map == MAP_FAILED ? -1 : map[c->g];
}

static const struct route_row {
	const char *label;
	long (*see)(void *arg);
	uint32_t flags;
} routes[] = {
	{ "map", see_map, 0 },
	{ "write_map", see_write_map, GMEMFD_FAULT_WRITE },
	{ "private", see_private, GMEMFD_FAULT_WRITE },
	{ "pread", see_pread, GMEMFD_FAULT_KERNEL },
	{ "process_vm_readv", see_vm_readv, GMEMFD_FAULT_KERNEL },
	{ "write_to_file", see_write_to_file, GMEMFD_FAULT_KERNEL },
	{ "splice", see_splice, GMEMFD_FAULT_KERNEL },
	{ "populate", see_populate, GMEMFD_FAULT_KERNEL },
};

static bool is_mapped(void *at)
{
	uint64_t entry = 0;
	int fd = REQUIRE_FD(open("/proc/self/pagemap", O_RDONLY));

	REQUIRE_EQ(pread(fd, &entry, sizeof(entry), (uintptr_t)at / page_size() * sizeof(entry)), sizeof(entry));
	close(fd);
	return entry >> 63;
}

TEST_EACH(closed_page_is_not_seen, struct route_row, routes)
{
	static struct closed c;
	struct gmemfd_event event;
	struct trap_task task;

	c.rig = trap_rig(PAGES, MINOR, 0);
	c.g = c.rig.granule;
	c.at = 5 * c.g;
	REQUIRE_OK(trap_copy(c.rig.fd, 0, c.at, 0));
	REQUIRE_OK(trap_copy(c.rig.fd, c.at, c.g, CLOSED));
	REQUIRE_OK(trap_copy(c.rig.fd, c.at + c.g, 10 * c.g, 0));
	/* Fault-around brings in what is open, and passes the closed one by. */
	CHECK_EQ(TOUCH_READ(c.rig.map + c.at + c.g), 0);
	CHECK_EQ(TOUCH_READ(c.rig.map + c.at - c.g), 0);
	CHECK(!is_mapped(c.rig.map + c.at));
	CHECK(is_mapped(c.rig.map + c.at + c.g));

	trap_start(&task, row->see, &c);
	event = trap_event(c.rig.context);
	CHECK_EQ(event.offset, c.at);
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR | row->flags);
	CHECK(!trap_done(&task, 0.05));
	CHECK(!is_mapped(c.rig.map + c.at));
	CHECK_OK(gmem_continue(c.rig.fd, c.at, c.g, 0));
	CHECK_EQ(trap_result(&task), trap_byte(c.at));
	CHECK_EQ(task.err, 0);
}

/* Written over while it is closed, it stays closed. */
TEST(closed_page_can_be_rewritten)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0);
	struct gmemfd_event event;

	REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, CLOSED));
	CHECK_EQ(pwrite(rig.fd, "abc", 3, 1), 3);
	CHECK_EQ(trap_probe(rig.fd, 0, rig.context, &event), TRAP_WAITS);
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR | GMEMFD_FAULT_KERNEL);
	CHECK_ERRNO(trap_copy(rig.fd, 0, rig.granule, 0), EEXIST);
	CHECK_OK(gmem_continue(rig.fd, 0, rig.granule, 0));
	CHECK(!memcmp(rig.map + 1, "abc", 3));
	CHECK_EQ(rig.map[0], trap_byte(0));
}

/* --- What opens them --------------------------------------------------------------------------------- */

TEST(missing_waiter_becomes_a_minor_one)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0);
	size_t g = rig.granule;
	struct trap_task task;

	trap_read(&task, rig.map + g);
	CHECK_EQ(trap_event(rig.context).flags, 0);
	REQUIRE_OK(trap_copy(rig.fd, g, g, CLOSED));
	CHECK_EQ(trap_event(rig.context).flags, GMEMFD_FAULT_MINOR);
	CHECK(!trap_done(&task, 0.05));
	CHECK_OK(gmem_continue(rig.fd, g, g, 0));
	CHECK_EQ(trap_result(&task), trap_byte(g));
	CHECK_EQ(xgmem_stats(rig.fd).faults_missing, 1);
	CHECK_EQ(xgmem_stats(rig.fd).faults_minor, 1);
	CHECK_EQ(xgmem_stats(rig.fd).events, 2);
}

/* A file of small granules, with a folio of 2 MiB in it. */
TEST(part_of_a_large_folio)
{
	struct trap_rig rig = trap_rig(2 * HPAGE_SIZE / page_size(), ALL, 0);
	size_t g = rig.granule, from = HPAGE_SIZE, one = from + 77 * g;
	unsigned char *all = xmmap_anon(HPAGE_SIZE);
	struct gmemfd_event event;

	gmem_need_huge();
	REQUIRE_OK(trap_copy(rig.fd, from, HPAGE_SIZE, CLOSED));
	REQUIRE_EQ(xgmem_stats(rig.fd).huge, 1);
	CHECK_OK(gmem_continue(rig.fd, one, g, 0));
	CHECK_EQ(gmem_done, g);
	pattern_fill(all, HPAGE_SIZE, from);
	CHECK(!memcmp(rig.map + one, all + one - from, g));
	for (size_t at = one - g; at <= one + g; at += g) {
		int got = trap_probe(rig.fd, at, rig.context, &event);

		CHECK_EQ(got == TRAP_WAITS, at != one);
		if (got == TRAP_WAITS)
			CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR | GMEMFD_FAULT_KERNEL);
	}
	CHECK_EQ(trap_probe(rig.fd, from, rig.context, &event), TRAP_WAITS);
	CHECK_EQ(trap_probe(rig.fd, from + HPAGE_SIZE - 1, rig.context, &event), TRAP_WAITS);
	CHECK_OK(gmem_continue(rig.fd, from, one - from, 0));
	CHECK_OK(gmem_continue(rig.fd, one + g, from + HPAGE_SIZE - one - g, 0));
	CHECK(pattern_is(rig.map + from, HPAGE_SIZE, from));
	CHECK_EQ(xgmem_stats(rig.fd).allocated, HPAGE_SIZE);
	CHECK_EQ(xgmem_stats(rig.fd).continued, HPAGE_SIZE);
}

/* The same when the watch that would open it ends in its middle. */
TEST(unwatch_in_a_large_folio)
{
	struct trap_rig rig = trap_rig(HPAGE_SIZE / page_size(), ALL, 0);
	size_t g = rig.granule;
	struct gmemfd_event event;

	REQUIRE_OK(trap_copy(rig.fd, 0, HPAGE_SIZE, CLOSED));
	CHECK_OK(gmem_unwatch(rig.fd, 100 * g, 300 * g));
	CHECK_EQ(xgmem_stats(rig.fd).watches, 2);
	CHECK_EQ(trap_probe(rig.fd, 100 * g - 1, rig.context, &event), TRAP_WAITS);
	CHECK_EQ(trap_probe(rig.fd, 400 * g, rig.context, &event), TRAP_WAITS);
	CHECK(trap_probe(rig.fd, 100 * g, rig.context, &event) != TRAP_WAITS);
	CHECK(trap_probe(rig.fd, 400 * g - 1, rig.context, &event) != TRAP_WAITS);
	CHECK_OK(gmem_unwatch(rig.fd, 0, rig.bytes));
	CHECK(pattern_is(rig.map, HPAGE_SIZE, 0));
	CHECK_EQ(xgmem_stats(rig.fd).allocated, HPAGE_SIZE);
}

static const struct opener_row {
	const char *label;
	uint64_t flags;
	bool whole;
} openers[] = {
	{ "whole", 0, true },
	{ "part", 0, false },
	{ "huge_whole", GMEMFD_CREATE_HUGE, true },
	{ "huge_part", GMEMFD_CREATE_HUGE, false },
};

TEST_EACH(unwatch_opens, struct opener_row, openers)
{
	struct trap_rig rig = trap_rig(3, ALL, row->flags);
	size_t g = rig.granule;
	struct gmemfd_event event;
	struct trap_task task;

	REQUIRE_OK(trap_copy(rig.fd, 0, g, CLOSED));
	REQUIRE_OK(trap_copy(rig.fd, g, g, CLOSED));
	trap_read(&task, rig.map + g);
	CHECK_EQ(trap_event(rig.context).flags, GMEMFD_FAULT_MINOR);
	CHECK_OK(gmem_unwatch(rig.fd, row->whole ? 0 : g, row->whole ? rig.bytes : g));
	CHECK_EQ(trap_result(&task), trap_byte(g));
	CHECK(pattern_is(rig.map + g, g, g));
	if (row->whole) {
		CHECK(pattern_is(rig.map, g, 0));
		return;
	}
	CHECK_EQ(trap_probe(rig.fd, 0, rig.context, &event), TRAP_WAITS);
	CHECK_EQ(trap_probe(rig.fd, 2 * g, rig.context, &event), TRAP_WAITS);
}

TEST(continue_does_what_it_can)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0);
	size_t g = rig.granule;

	/* Closed 0 to 3, open 4, closed 5, absent 6. */
	REQUIRE_OK(trap_copy(rig.fd, 0, 4 * g, CLOSED));
	REQUIRE_OK(trap_copy(rig.fd, 4 * g, g, 0));
	REQUIRE_OK(trap_copy(rig.fd, 5 * g, g, CLOSED));
	CHECK_ERRNO(gmem_continue(rig.fd, 0, 8 * g, 0), EAGAIN);
	CHECK_EQ(gmem_done, 4 * g);
	CHECK_ERRNO(gmem_continue(rig.fd, 4 * g, 4 * g, 0), EEXIST);
	CHECK_EQ(gmem_done, -EEXIST);
	CHECK_ERRNO(gmem_continue(rig.fd, 5 * g, 3 * g, 0), EAGAIN);
	CHECK_EQ(gmem_done, g);
	CHECK_ERRNO(gmem_continue(rig.fd, 6 * g, g, 0), EFAULT);
	CHECK_EQ(xgmem_stats(rig.fd).continued, 5 * g);
}
