// SPDX-License-Identifier: GPL-2.0-only
/*
 * Operations on a range through the library: what was done, how far, and why it went no further; one by one and many
 * in one call.
 */
#include "lib.h"

#define ALL_FLAGS (GMEMFD_RANGE_DONTWAKE | GMEMFD_RANGE_CLOSED)
#define PAGES 16

/* A file of 16 pages, watched in both modes. */
static struct lib_rig watched(void)
{
	struct gmemfd_watch_opts opts = { .sz = sizeof(opts), .modes = GMEMFD_MODE_MISSING | GMEMFD_MODE_MINOR };
	struct lib_rig rig = lib_rig(PAGES);

	MUST(gmemfd_watch(rig.fd, rig.context, 0, rig.bytes, &opts));
	return rig;
}

/* A source of so many bytes, patterned. */
static int source(size_t bytes)
{
	int fd = REQUIRE_FD(memfd_create("source", MFD_CLOEXEC));
	void *content = xmmap_anon(bytes);

	pattern_fill(content, bytes, 5);
	REQUIRE_EQ(write(fd, content, bytes), bytes);
	REQUIRE_OK(munmap(content, bytes));
	return fd;
}

TEST(copy_all)
{
	struct lib_rig rig = watched();
	unsigned char *content = xmmap_anon(rig.bytes + 1);
	uint64_t done = 1;

	/* At any alignment. */
	pattern_fill(content + 1, rig.bytes, 5);
	CHECK_EQ(gmemfd_copy(rig.fd, 0, content + 1, rig.bytes, 0, &done), 0);
	CHECK_EQ(done, rig.bytes);
	CHECK(pattern_is(rig.map, rig.bytes, 5));
}

TEST(copy_stops_at_content)
{
	struct lib_rig rig = watched();
	unsigned char *content = xmmap_anon(rig.bytes);
	uint64_t done = 77;

	pattern_fill(content, rig.bytes, 5);
	MUST(gmemfd_zero(rig.fd, 5 * rig.page, rig.page, 0, NULL));
	CHECK_EQ(gmemfd_copy(rig.fd, 0, content, rig.bytes, 0, &done), -EEXIST);
	CHECK_EQ(done, 5 * rig.page);
	CHECK_EQ(gmemfd_copy(rig.fd, 5 * rig.page, content, rig.page, 0, &done), -EEXIST);
	CHECK_EQ(done, 0);
	/* Nobody has to want to know how far it came. */
	CHECK_EQ(gmemfd_copy(rig.fd, 5 * rig.page, content, rig.page, 0, NULL), -EEXIST);
	CHECK_EQ(gmemfd_copy(rig.fd, 6 * rig.page, content + 6 * rig.page, 10 * rig.page, 0, &done), 0);
	CHECK_EQ(done, 10 * rig.page);
	memset(content + 5 * rig.page, 0, rig.page);
	CHECK(!memcmp(rig.map, content, rig.bytes));
}

TEST(copy_stops_where_its_source_does)
{
	struct lib_rig rig = watched();
	unsigned char *content = xmmap_anon(rig.bytes);
	uint64_t done = 77;

	REQUIRE_OK(munmap(content + 7 * rig.page, rig.bytes - 7 * rig.page));
	CHECK_EQ(gmemfd_copy(rig.fd, 0, content, rig.bytes, 0, &done), -EFAULT);
	CHECK_EQ(done, 7 * rig.page);
	CHECK_EQ(gmemfd_copy(rig.fd, 8 * rig.page, NULL, rig.page, 0, &done), -EFAULT);
	CHECK_EQ(done, 0);
	CHECK(!lib_has_content(rig.fd, 7 * rig.page));
}

TEST(fill_all)
{
	struct lib_rig rig = watched();
	int from = source(rig.bytes + 8);
	unsigned char *content = xmmap_anon(rig.bytes + 8);
	uint64_t done = 1;

	CHECK_EQ(gmemfd_fill(rig.fd, 0, from, 8, rig.bytes, 0, &done), 0);
	CHECK_EQ(done, rig.bytes);
	pattern_fill(content, rig.bytes + 8, 5);
	CHECK(!memcmp(rig.map, content + 8, rig.bytes));
}

/* The rest is asked for from where the source stands then: content, not only lengths. */
TEST(fill_goes_on_where_it_stopped)
{
	struct lib_rig rig = watched();
	int from = source(rig.bytes);
	uint64_t done = 77;

	MUST(gmemfd_zero(rig.fd, 9 * rig.page, rig.page, 0, NULL));
	CHECK_EQ(gmemfd_fill(rig.fd, 0, from, 0, rig.bytes, 0, &done), -EEXIST);
	CHECK_EQ(done, 9 * rig.page);
	CHECK_EQ(gmemfd_fill(rig.fd, 10 * rig.page, from, 10 * rig.page, 6 * rig.page, 0, &done), 0);
	CHECK_EQ(done, 6 * rig.page);
	MUST(gmemfd_punch(rig.fd, 9 * rig.page, rig.page));
	CHECK_EQ(gmemfd_fill(rig.fd, 9 * rig.page, from, 9 * rig.page, rig.page, 0, &done), 0);
	CHECK(pattern_is(rig.map, rig.bytes, 5));
}

TEST(fill_stops_where_its_source_ends)
{
	struct lib_rig rig = watched();
	int from = source(3 * rig.page + 100);
	uint64_t done = 77;

	CHECK_EQ(gmemfd_fill(rig.fd, 0, from, 0, rig.bytes, 0, &done), -ENODATA);
	CHECK_EQ(done, 3 * rig.page);
	CHECK_EQ(gmemfd_fill(rig.fd, 3 * rig.page, -1, 0, rig.page, 0, &done), -EBADF);
	CHECK_EQ(done, 0);
	CHECK_EQ(gmemfd_fill(rig.fd, 3 * rig.page, rig.context, 0, rig.page, 0, &done), -EBADF);
	CHECK_EQ(gmemfd_fill(rig.fd, 3 * rig.page, from, UINT64_MAX, rig.page, 0, &done), -EINVAL);
	CHECK_EQ(done, 0);
}

/* Descriptor 0 is one as any other. */
TEST(fill_from_descriptor_zero)
{
	struct lib_rig rig = watched();
	int from = source(rig.page);

	REQUIRE_EQ(dup2(from, 0), 0);
	CHECK_EQ(gmemfd_fill(rig.fd, 0, 0, 0, rig.page, 0, NULL), 0);
	CHECK(pattern_is(rig.map, rig.page, 5));
}

TEST(zero_and_poison)
{
	struct lib_rig rig = watched();
	uint64_t done = 77;

	CHECK_EQ(gmemfd_zero(rig.fd, 0, 4 * rig.page, 0, &done), 0);
	CHECK_EQ(done, 4 * rig.page);
	CHECK(all_bytes_are(rig.map, 4 * rig.page, 0));
	CHECK_EQ(gmemfd_zero(rig.fd, 3 * rig.page, 2 * rig.page, 0, &done), -EEXIST);
	CHECK_EQ(done, 0);
	CHECK_EQ(gmemfd_poison(rig.fd, 8 * rig.page, 2 * rig.page, 0, &done), 0);
	CHECK_EQ(done, 2 * rig.page);
	CHECK_EQ(TOUCH_READ(rig.map + 8 * rig.page), SIGBUS);
	CHECK_EQ(touch_last.code, BUS_MCEERR_AR);
	CHECK_EQ(gmemfd_poison(rig.fd, 6 * rig.page, 4 * rig.page, 0, &done), -EEXIST);
	CHECK_EQ(done, 2 * rig.page);
	/* Poison is replaced. */
	CHECK_EQ(gmemfd_zero(rig.fd, 6 * rig.page, 4 * rig.page, 0, &done), 0);
	CHECK_EQ(TOUCH_READ(rig.map + 8 * rig.page), 0);
}

TEST(continue_opens_what_is_closed)
{
	struct lib_rig rig = watched();
	uint64_t done = 77;

	CHECK_EQ(gmemfd_continue(rig.fd, 0, rig.page, 0, &done), -EFAULT);
	CHECK_EQ(done, 0);
	CHECK_EQ(gmemfd_zero(rig.fd, 0, 4 * rig.page, GMEMFD_RANGE_CLOSED, NULL), 0);
	CHECK_EQ(gmemfd_continue(rig.fd, 0, 8 * rig.page, 0, &done), -EFAULT);
	CHECK_EQ(done, 4 * rig.page);
	CHECK_EQ(gmemfd_continue(rig.fd, 0, rig.page, 0, &done), -EEXIST);
	CHECK_EQ(TOUCH_READ(rig.map), 0);
	CHECK_EQ(lib_stats(rig.fd).faults_minor, 0);
}

TEST(wakes_when_it_is_told_to)
{
	struct lib_rig rig = watched();
	struct lib_reader reader;

	lib_reader_start(&reader, rig.map);
	lib_event(rig.context);
	CHECK_EQ(gmemfd_zero(rig.fd, 0, rig.page, GMEMFD_RANGE_DONTWAKE, NULL), 0);
	CHECK(lib_reader_waits(&reader));
	CHECK_EQ(gmemfd_wake(rig.fd, 0, rig.page), 0);
	CHECK(lib_reader_done(&reader));
	CHECK_EQ(reader.saw->value, 0);
	CHECK_EQ(gmemfd_wake(rig.fd, 0, 0), -EINVAL);
	CHECK_EQ(gmemfd_wake(-1, 0, rig.page), -EBADF);
}

/* Each of them as one function, to have them refused alike. */
static int do_copy(struct lib_rig *rig, int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	return gmemfd_copy(fd, offset, rig, len, flags, done);
}

static int do_fill(struct lib_rig *rig, int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	return gmemfd_fill(fd, offset, rig->fd, 0, len, flags, done);
}

static int do_zero(struct lib_rig *rig, int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	return gmemfd_zero(fd, offset, len, flags, done);
}

static int do_continue(struct lib_rig *rig, int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	return gmemfd_continue(fd, offset, len, flags, done);
}

static int do_poison(struct lib_rig *rig, int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	return gmemfd_poison(fd, offset, len, flags, done);
}

static const struct range_row {
	const char *label;
	int (*call)(struct lib_rig *rig, int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done);
	uint64_t flags;		/* that it takes */
} ranges[] = {
	{ "copy", do_copy, ALL_FLAGS },
	{ "fill", do_fill, ALL_FLAGS },
	{ "zero", do_zero, ALL_FLAGS },
	{ "continue", do_continue, GMEMFD_RANGE_DONTWAKE },
	{ "poison", do_poison, GMEMFD_RANGE_DONTWAKE },
};

TEST_EACH(refuses, struct range_row, ranges)
{
	struct lib_rig rig = watched();
	const struct { int fd; uint64_t offset, len; int err; } bad[] = {
		{ rig.fd, 0, 0, -EINVAL },
		{ rig.fd, 1, rig.page, -EINVAL },
		{ rig.fd, 0, rig.page + 1, -EINVAL },
		{ rig.fd, 0, rig.bytes + rig.page, -EINVAL },
		{ rig.fd, rig.bytes, rig.page, -EINVAL },
		{ rig.fd, UINT64_MAX - rig.page + 1, rig.page, -EINVAL },
		{ rig.fd, rig.page, UINT64_MAX - rig.page + 1, -EINVAL },
		{ lib_read_only(rig.fd), 0, rig.page, -EBADF },
		{ -1, 0, rig.page, -EBADF },
		{ rig.context, 0, rig.page, -ENOTTY },
	};
	uint64_t done;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		done = 77;
		CHECK_EQ(row->call(&rig, bad[i].fd, bad[i].offset, bad[i].len, 0, &done), bad[i].err);
		CHECK_EQ(done, 0);
	}
	for (int bit = 0; bit < 64; bit++)
		if (!(row->flags & 1ull << bit))
			CHECK_EQ(row->call(&rig, rig.fd, 0, rig.page, 1ull << bit, NULL), -EINVAL);
	CHECK_EQ(lib_stats(rig.fd).allocated, 0);
}

/* --- Many in one call -------------------------------------------------------------------------------- */

TEST(resolve_does_each_kind)
{
	struct lib_rig rig = watched();
	unsigned char *content = xmmap_anon(rig.page);
	struct gmemfd_range ops[6];
	struct lib_reader reader;
	unsigned int tried = 77;

	/* What an entry held before it was made does not matter. */
	memset(ops, 0xa5, sizeof(ops));
	pattern_fill(content, rig.page, 5);
	MUST(gmemfd_zero(rig.fd, 3 * rig.page, rig.page, GMEMFD_RANGE_CLOSED, NULL));
	lib_reader_start(&reader, rig.map + 5 * rig.page);
	lib_event(rig.context);
	MUST(gmemfd_zero(rig.fd, 5 * rig.page, rig.page, GMEMFD_RANGE_DONTWAKE, NULL));
	gmemfd_prep_copy(&ops[0], 0, content, rig.page, 0);
	gmemfd_prep_fill(&ops[1], rig.page, source(2 * rig.page), rig.page, rig.page, 0);
	gmemfd_prep_zero(&ops[2], 2 * rig.page, rig.page, 0);
	gmemfd_prep_continue(&ops[3], 3 * rig.page, rig.page, 0);
	gmemfd_prep_poison(&ops[4], 4 * rig.page, rig.page, 0);
	gmemfd_prep_wake(&ops[5], 5 * rig.page, rig.page);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 6, 0, &tried), 0);
	CHECK_EQ(tried, 6);
	for (int i = 0; i < 6; i++)
		CHECK_EQ(ops[i].done, rig.page);
	CHECK(pattern_is(rig.map, rig.page, 5));
	CHECK(!all_bytes_are(rig.map + rig.page, rig.page, 0));
	CHECK(all_bytes_are(rig.map + 2 * rig.page, 2 * rig.page, 0));
	CHECK_EQ(TOUCH_READ(rig.map + 4 * rig.page), SIGBUS);
	CHECK(lib_reader_done(&reader));
}

TEST(resolve_passes_flags_on)
{
	struct lib_rig rig = watched();
	unsigned char *content = xmmap_anon(rig.page);
	struct gmemfd_range ops[3];

	gmemfd_prep_copy(&ops[0], 0, content, rig.page, GMEMFD_RANGE_CLOSED);
	gmemfd_prep_fill(&ops[1], rig.page, source(rig.page), 0, rig.page, GMEMFD_RANGE_CLOSED);
	gmemfd_prep_zero(&ops[2], 2 * rig.page, rig.page, GMEMFD_RANGE_CLOSED);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 3, 0, NULL), 0);
	/* They were closed: now they are not any more. */
	CHECK_EQ(gmemfd_continue(rig.fd, 0, 3 * rig.page, 0, NULL), 0);
	gmemfd_prep_continue(&ops[0], 0, rig.page, GMEMFD_RANGE_CLOSED);
	gmemfd_prep_poison(&ops[1], 0, rig.page, GMEMFD_RANGE_CLOSED);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 2, GMEMFD_RESOLVE_KEEP_GOING, NULL), 2);
	CHECK_EQ(ops[0].done, -EINVAL);
	CHECK_EQ(ops[1].done, -EINVAL);
}

TEST(resolve_counts_what_failed)
{
	struct lib_rig rig = watched();
	struct gmemfd_range ops[4];
	unsigned int tried = 77;

	MUST(gmemfd_zero(rig.fd, 2 * rig.page, rig.page, 0, NULL));
	for (int i = 0; i < 4; i++)
		gmemfd_prep_zero(&ops[i], 2 * i * rig.page, 2 * rig.page, 0);
	ops[0].len = 4 * rig.page;	/* it will come half the way */
	ops[2].offset = rig.page;	/* and this one nowhere */
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 4, 0, &tried), 1);
	CHECK_EQ(tried, 1);
	CHECK_EQ(ops[0].done, 2 * rig.page);
	CHECK_EQ(ops[1].done, 0);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 4, GMEMFD_RESOLVE_KEEP_GOING, &tried), 3);
	CHECK_EQ(tried, 4);
	CHECK_EQ(ops[0].done, -EEXIST);
	CHECK_EQ(ops[2].done, -EEXIST);
	CHECK_EQ(ops[3].done, 2 * rig.page);
}

TEST(resolve_refuses)
{
	struct lib_rig rig = watched();
	struct gmemfd_info info;
	struct gmemfd_range *ops;
	unsigned int tried = 77;

	MUST(gmemfd_info(rig.dev, &info, sizeof(info)));
	ops = xmmap_anon((info.max_ops + 1) * sizeof(*ops));
	for (unsigned int i = 0; i <= info.max_ops; i++)
		gmemfd_prep_wake(&ops[i], 0, rig.page);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, info.max_ops, 0, &tried), 0);
	CHECK_EQ(tried, info.max_ops);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, info.max_ops + 1, 0, &tried), -EINVAL);
	CHECK_EQ(tried, 0);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 0, 0, &tried), -EINVAL);
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 1, 1ull << 63, &tried), -EINVAL);
	CHECK_EQ(gmemfd_resolve(rig.fd, NULL, 1, 0, &tried), -EFAULT);
	CHECK_EQ(gmemfd_resolve(lib_read_only(rig.fd), ops, 1, 0, &tried), -EBADF);
	CHECK_EQ(gmemfd_resolve(-1, ops, 1, 0, NULL), -EBADF);
	/* An entry of another size: those before it are done. */
	ops[2].size--;
	CHECK_EQ(gmemfd_resolve(rig.fd, ops, 4, 0, &tried), -EINVAL);
	CHECK_EQ(tried, 2);
}
