// SPDX-License-Identifier: GPL-2.0-only
/*
 * RESOLVE: many operations in one call: their order and results, where it stops, and an array that is not where, or not
 * what, it should be.
 */
#include "gmem.h"

#define UNTOUCHED 0x5555555555555555ll

static struct gmemfd_range op(uint32_t op, uint64_t page, uint64_t pages, const void *src)
{
	return (struct gmemfd_range){ .size = sizeof(struct gmemfd_range), .op = op, .offset = page * page_size(),
				      .len = pages * page_size(), .src = (uintptr_t)src, .done = UNTOUCHED };
}

#define CHECK_RESOLVED(fd, ops, nr, flags, err, did, bad) ({			\
	int err_;								\
	struct gmemfd_resolve r_ = gmem_resolve(fd, ops, nr, flags, &err_);	\
	CHECK_EQ(err_, err);							\
	CHECK_EQ(r_.done, did);							\
	CHECK_EQ(r_.failed, bad); })

TEST(all_operations_in_order)
{
	size_t ps = page_size();
	int fd = xgmem(64 * ps), context = xgmem_context();
	int file = REQUIRE_FD(open("/tmp/vector", O_RDWR | O_CREAT, 0600));
	unsigned char *src = xmmap_anon(16 * ps), *map = xmmap(NULL, 64 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher waiter = { .addr = map + 40 * ps };
	struct gmemfd_range ops[8];

	pattern_fill(src, 16 * ps, 1);
	REQUIRE_EQ(write(file, src, 16 * ps), 16 * ps);
	REQUIRE_OK(gmem_watch(fd, context, 0, 64 * ps, GMEMFD_MODE_ALL, 0, 0));
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_waiters(fd, 1, 10));

	ops[0] = op(GMEMFD_OP_COPY, 0, 16, src);
	ops[1] = op(GMEMFD_OP_COPY, 16, 4, src + 7);
	ops[1].flags = GMEMFD_RANGE_CLOSED;
	ops[2] = op(GMEMFD_OP_CONTINUE, 16, 4, NULL);
	ops[3] = op(GMEMFD_OP_ZERO, 20, 2, NULL);
	ops[4] = op(GMEMFD_OP_POISON, 22, 1, NULL);
	ops[5] = op(GMEMFD_OP_FILL, 32, 8, (void *)(8 * ps));
	ops[5].src_fd = file;
	ops[6] = op(GMEMFD_OP_COPY, 40, 1, src);
	ops[6].flags = GMEMFD_RANGE_DONTWAKE;
	ops[7] = op(GMEMFD_OP_WAKE, 40, 1, NULL);
	CHECK_RESOLVED(fd, ops, 8, 0, 0, 8, 0);
	for (size_t i = 0; i < 8; i++)
		CHECK_EQ(ops[i].done, ops[i].len);
	CHECK(!memcmp(map, src, 16 * ps));
	CHECK(!memcmp(map + 16 * ps, src + 7, 4 * ps));
	CHECK(all_bytes_are(map + 20 * ps, 2 * ps, 0));
	CHECK_EQ(TOUCH_READ(map + 22 * ps), SIGBUS);
	CHECK(!memcmp(map + 32 * ps, src + 8 * ps, 8 * ps));
	CHECK_EQ(gmem_toucher_join(&waiter), src[0]);
	CHECK_EQ(xgmem_stats(fd).wakes, 1);
}

static const struct fail_row {
	const char *label;
	uint64_t flags;
	uint32_t done, failed;
} fails[] = {
	{ "stops", 0, 2, 1 },
	{ "goes_on", GMEMFD_RESOLVE_KEEP_GOING, 7, 4 },
};

TEST_EACH(a_failure, struct fail_row, fails)
{
	size_t ps = page_size();
	int fd = xgmem(64 * ps);
	unsigned char *src = xmmap_anon(8 * ps);
	struct gmemfd_range ops[7];
	int64_t want[7] = { ps, -EEXIST, ps, 2 * ps, -EFAULT, -EINVAL, ps };

	ops[0] = op(GMEMFD_OP_COPY, 0, 1, src);
	ops[1] = op(GMEMFD_OP_COPY, 0, 2, src);
	ops[2] = op(GMEMFD_OP_ZERO, 9, 1, NULL);
	/* A part is a failure, too. */
	ops[3] = op(GMEMFD_OP_COPY, 7, 8, src);
	ops[4] = op(GMEMFD_OP_CONTINUE, 30, 1, NULL);
	ops[5] = op(99, 31, 1, NULL);
	ops[6] = op(GMEMFD_OP_WAKE, 0, 1, NULL);
	CHECK_RESOLVED(fd, ops, 7, row->flags, 0, row->done, row->failed);
	for (size_t i = 0; i < 7; i++)
		CHECK_EQ(ops[i].done, i < row->done ? want[i] : UNTOUCHED);
	CHECK_EQ(xgmem_stats(fd).allocated, row->flags ? 4 * ps : ps);
}

static const struct entry_row {
	const char *label;
	struct gmemfd_range range;	/* offset and len in pages */
} entries[] = {
	{ "op_0", { .op = 0, .len = 1 } },
	{ "op_7", { .op = 7, .len = 1 } },
	{ "op_huge", { .op = UINT32_MAX, .len = 1 } },
	{ "flag", { .op = GMEMFD_OP_ZERO, .flags = 4, .len = 1 } },
	{ "flag_of_others", { .op = GMEMFD_OP_WAKE, .flags = GMEMFD_RANGE_DONTWAKE, .len = 1 } },
	{ "closed_poison", { .op = GMEMFD_OP_POISON, .flags = GMEMFD_RANGE_CLOSED, .len = 1 } },
	{ "pad", { .op = GMEMFD_OP_ZERO, .pad = 1, .len = 1 } },
	{ "src", { .op = GMEMFD_OP_ZERO, .src = 1, .len = 1 } },
	{ "src_fd", { .op = GMEMFD_OP_COPY, .src_fd = 1, .len = 1 } },
	{ "empty", { .op = GMEMFD_OP_ZERO, .len = 0 } },
	{ "past_the_end", { .op = GMEMFD_OP_ZERO, .offset = 3, .len = 2 } },
	{ "wraps", { .op = GMEMFD_OP_ZERO, .offset = 3, .len = UINT64_MAX >> 12 } },
};

TEST_EACH(bad_entry, struct entry_row, entries)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps);
	struct gmemfd_range ops[3] = { op(GMEMFD_OP_ZERO, 0, 1, NULL), row->range, op(GMEMFD_OP_ZERO, 1, 1, NULL) };

	ops[1].offset *= ps;
	ops[1].len *= ps;
	CHECK_RESOLVED(fd, ops, 3, GMEMFD_RESOLVE_KEEP_GOING, 0, 3, 1);
	CHECK_EQ(ops[1].done, -EINVAL);
	CHECK_EQ(ops[2].done, ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * ps);
}

TEST(how_many)
{
	struct gmemfd_info info = { .size = sizeof(info) };
	size_t ps = page_size();
	struct gmemfd_range *ops;
	int fd, err;
	uint32_t max;

	REQUIRE_OK(ioctl(gmem_dev(), GMEMFD_INFO, &info));
	max = info.max_ops;
	REQUIRE(max > 1);
	ops = calloc(max + 1, sizeof(*ops));
	fd = xgmem((max + 1) * ps);
	for (size_t i = 0; i <= max; i++)
		ops[i] = op(GMEMFD_OP_ZERO, i, 1, NULL);
	gmem_resolve(fd, ops, 0, 0, &err);
	CHECK_EQ(err, EINVAL);
	gmem_resolve(fd, ops, max + 1, 0, &err);
	CHECK_EQ(err, EINVAL);
	gmem_resolve(fd, ops, 1, 2, &err);
	CHECK_EQ(err, EINVAL);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK_EQ(ops[0].done, UNTOUCHED);
	CHECK_RESOLVED(fd, ops, max, 0, 0, max, 0);
	CHECK_EQ(xgmem_stats(fd).allocated, max * ps);
	for (size_t i = 0; i < max; i++)
		if (ops[i].done != (int64_t)ps)
			CHECK_EQ(ops[i].done, ps);
}

/* --- The array --------------------------------------------------------------------------------------- */

static int resolve_raw(int fd, void *ops, uint32_t nr, uint32_t *done)
{
	struct gmemfd_resolve resolve = { .size = sizeof(resolve), .nr = nr, .ops = (uintptr_t)ops, .done = 77 };
	int err = ioctl(fd, GMEMFD_RESOLVE, &resolve) ? errno : 0;

	*done = resolve.done;
	return err;
}

TEST(sizes_of_entries)
{
	size_t ps = page_size(), size = sizeof(struct gmemfd_range);
	int fd = xgmem(16 * ps);
	struct gmemfd_range ops[3] = { op(GMEMFD_OP_ZERO, 0, 1, NULL), op(GMEMFD_OP_ZERO, 1, 1, NULL) };
	/* As a later version would have them. */
	struct { struct gmemfd_range range; char more[40]; } longer[3] = {};
	uint32_t done;

	ops[1].size = size + 8;
	CHECK_EQ(resolve_raw(fd, ops, 2, &done), EINVAL);
	CHECK_EQ(done, 1);
	CHECK_EQ(ops[0].done, ps);
	CHECK_EQ(ops[1].done, UNTOUCHED);
	ops[0].size = size - 1;
	CHECK_EQ(resolve_raw(fd, ops, 2, &done), EINVAL);
	CHECK_EQ(done, 0);
	ops[0].size = 0;
	CHECK_EQ(resolve_raw(fd, ops, 2, &done), EINVAL);
	ops[0].size = ps + 1;
	CHECK_EQ(resolve_raw(fd, ops, 2, &done), E2BIG);
	CHECK_EQ(xgmem_stats(fd).allocated, ps);

	for (size_t i = 0; i < 3; i++) {
		longer[i].range = op(GMEMFD_OP_ZERO, 4 + i, 1, NULL);
		longer[i].range.size = sizeof(longer[0]);
	}
	longer[2].more[39] = 1;
	CHECK_EQ(resolve_raw(fd, longer, 3, &done), E2BIG);
	CHECK_EQ(done, 2);
	CHECK_EQ(longer[1].range.done, ps);
	CHECK_EQ(longer[2].range.done, UNTOUCHED);
	CHECK_EQ(xgmem_stats(fd).allocated, 3 * ps);
}

TEST(array_that_ends_too_soon)
{
	size_t ps = page_size(), nr = 4;
	int fd = xgmem(16 * ps);
	unsigned char *mem = xmmap_anon(2 * ps);
	/* The third lies across the border, and begins at it. */
	struct gmemfd_range *across = (void *)(mem + ps - 2 * sizeof(*across) - 16);
	struct gmemfd_range *ends = (void *)(mem + ps - 2 * sizeof(*across));
	uint32_t done;

	REQUIRE_OK(munmap(mem + ps, ps));
	for (size_t i = 0; i < 2; i++)
		across[i] = op(GMEMFD_OP_ZERO, i, 1, NULL);
	memcpy(&across[2].size, &across[0].size, 4);
	CHECK_EQ(resolve_raw(fd, across, nr, &done), EFAULT);
	CHECK_EQ(done, 2);
	CHECK_EQ(across[1].done, ps);
	for (size_t i = 0; i < 2; i++)
		ends[i] = op(GMEMFD_OP_ZERO, 8 + i, 1, NULL);
	CHECK_EQ(resolve_raw(fd, ends, nr, &done), EFAULT);
	CHECK_EQ(done, 2);
	CHECK_EQ(ends[1].done, ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 4 * ps);
	CHECK_EQ(resolve_raw(fd, NULL, nr, &done), EFAULT);
	CHECK_EQ(done, 0);
	CHECK_EQ(resolve_raw(fd, (void *)0xffff888000000000ul, nr, &done), EFAULT);
	CHECK_EQ(done, 0);
}

TEST(array_that_cannot_be_written)
{
	size_t ps = page_size();
	int fd = xgmem(16 * ps);
	struct gmemfd_range *ops = xmmap_anon(ps);
	uint32_t done;

	ops[0] = op(GMEMFD_OP_ZERO, 0, 1, NULL);
	ops[1] = op(GMEMFD_OP_ZERO, 1, 1, NULL);
	REQUIRE_OK(mprotect(ops, ps, PROT_READ));
	CHECK_EQ(resolve_raw(fd, ops, 2, &done), EFAULT);
	/* It was carried out, and @done says so, though its result could not be told. */
	CHECK_EQ(done, 1);
	CHECK_EQ(ops[0].done, UNTOUCHED);
	CHECK_EQ(xgmem_stats(fd).allocated, ps);
}

static void array_content(void *buf, size_t len, uint64_t offset)
{
	struct gmemfd_range *ops = buf;

	(void)offset;
	memset(buf, 0, len);
	for (size_t i = 0; i < len / sizeof(*ops); i++)
		ops[i] = op(GMEMFD_OP_ZERO, i, 1, NULL);
}

TEST(array_in_trapped_memory)
{
	size_t ps = page_size();
	struct gmem_handler handler = { .fd = xgmem(ps), .context = xgmem_context(), .content = array_content };
	int fd = xgmem(16 * ps);
	struct gmemfd_range *ops = xmmap(NULL, ps, PROT_READ | PROT_WRITE, MAP_SHARED, handler.fd, 0);
	uint32_t done;

	REQUIRE_OK(gmem_watch(handler.fd, handler.context, 0, ps, GMEMFD_MODE_MISSING, 0, 0));
	gmem_handler_start(&handler);
	CHECK_EQ(resolve_raw(fd, ops, 16, &done), 0);
	CHECK_EQ(done, 16);
	CHECK_EQ(ops[15].done, ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 16 * ps);
	gmem_handler_stop(&handler);
	CHECK_EQ(handler.events, 1);
}

TEST(killed_while_the_array_traps)
{
	size_t ps = page_size();
	int fd = xgmem(16 * ps), other = xgmem(ps), context = xgmem_context(), status;
	struct gmemfd_range *ops = xmmap(NULL, ps, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	struct gmemfd_event event;
	uint32_t done;
	pid_t pid;

	REQUIRE_OK(gmem_watch(other, context, 0, ps, GMEMFD_MODE_MISSING, 0, 0));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		resolve_raw(fd, ops, 16, &done);
		_exit(1);
	}
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.flags & GMEMFD_FAULT_KERNEL, GMEMFD_FAULT_KERNEL);
	REQUIRE_OK(kill(pid, SIGKILL));
	status = child_wait(pid, 10);
	CHECK(status != -1 && WIFSIGNALED(status));
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
}
