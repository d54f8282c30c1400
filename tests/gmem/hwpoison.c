// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that breaks under a gmem file, by MADV_HWPOISON: who touches the page gets SIGBUS, the rest of the file is as
 * it was, and the page can be provided anew.
 */
#include "gmem.h"

#define PAGES 16
#define RW (PROT_READ | PROT_WRITE)

struct broken {
	int fd;
	size_t bytes;
	unsigned char *map;
	unsigned char *other;
	unsigned char *model;
};

/* In folios of a page, or as large as can be: these are split first, and that changes what mappings are left with. */
static struct broken file(uint64_t bytes, bool large)
{
	struct broken b = { .bytes = bytes, .fd = xgmem(bytes) };

	b.model = xmmap_anon(bytes);
	pattern_fill(b.model, bytes, 1);
	for (size_t at = 0, n = large ? bytes : page_size(); at < bytes; at += n)
		REQUIRE_OK(gmem_copy(b.fd, at, n, b.model + at, 0));
	b.map = xmmap(NULL, bytes, RW, MAP_SHARED, b.fd, 0);
	b.other = xmmap(NULL, bytes, RW, MAP_SHARED, b.fd, 0);
	CHECK(!memcmp(b.map, b.model, bytes));
	CHECK(!memcmp(b.other, b.model, bytes));
	return b;
}

/* The kernel sends SIGBUS to who asks for this, on some kernels: a child asks. */
static void break_page(struct broken *b, size_t at)
{
	pid_t pid = REQUIRE_OK(fork());
	int status;

	if (!pid)
		_exit(madvise(b->map + at, page_size(), MADV_HWPOISON) ? errno : 0);
	status = child_wait(pid, 10);
	if (WIFEXITED(status) && (WEXITSTATUS(status) == EINVAL || WEXITSTATUS(status) == EPERM))
		SKIP("the kernel does not break pages on request: %s", strerror(WEXITSTATUS(status)));
	REQUIRE(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
}

static void check_broken(const struct broken *b, size_t at)
{
	size_t ps = page_size();
	unsigned char *fresh = xmmap(NULL, b->bytes, RW, MAP_SHARED, b->fd, 0);
	unsigned char *clone = xmmap(NULL, b->bytes, RW, MAP_PRIVATE, b->fd, 0);
	unsigned char *maps[] = { b->map, b->other, fresh, clone }, buf[16];

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		CHECK_EQ(TOUCH_READ(maps[i] + at + 8), SIGBUS);
		CHECK_EQ(touch_last.code, BUS_MCEERR_AR);
		CHECK(touch_last.lsb >= 12);
		CHECK_EQ(TOUCH_WRITE(maps[i] + at + ps - 1, 1), SIGBUS);
		CHECK_EQ(touch_last.code, BUS_MCEERR_AR);
	}
	CHECK_ERRNO(pread(b->fd, buf, 16, at), EIO);
	CHECK_ERRNO(pread(b->fd, buf, 16, at + ps - 16), EIO);
	CHECK_ERRNO(pread(b->fd, buf, 16, at + 1), EIO);
	/* Up to it, a read gives what there is. */
	if (at)
		CHECK_EQ(pread(b->fd, buf, 16, at - 10), 10);
	munmap(fresh, b->bytes);
	munmap(clone, b->bytes);
}

static void check_rest(const struct broken *b, size_t at)
{
	size_t ps = page_size(), behind = at + ps;
	unsigned char *buf = xmmap_anon(b->bytes);

	CHECK(!memcmp(b->map, b->model, at));
	CHECK(!memcmp(b->map + behind, b->model + behind, b->bytes - behind));
	CHECK_EQ(pread(b->fd, buf, b->bytes - behind, behind), b->bytes - behind);
	CHECK(!memcmp(buf, b->model + behind, b->bytes - behind));
	munmap(buf, b->bytes);
}

static const struct folios {
	const char *label;
	bool large;
} folios[] = { { "small folio", false }, { "large folio", true } };

TEST_EACH(page_breaks, struct folios, folios)
{
	size_t ps = page_size(), at = 5 * ps;
	struct broken b = file(PAGES * ps, row->large);
	pid_t pid;

	break_page(&b, at);
	check_broken(&b, at);
	check_rest(&b, at);
	CHECK_EQ(xgmem_stats(b.fd).poisoned, ps);
	CHECK_EQ(xgmem_stats(b.fd).allocated, (PAGES - 1) * ps);
	/* Another process is told as well. */
	pid = REQUIRE_OK(fork());
	if (!pid)
		_exit(TOUCH_READ(b.map + at) != SIGBUS);
	CHECK_EQ(child_wait(pid, 10), 0);
	/* A system call that reads it as a buffer fails, it does not kill. */
	CHECK_ERRNO(pwrite(b.fd, b.map + at, ps, 0), EFAULT);
	CHECK(!memcmp(b.map, b.model, ps));
}

/*
 * A mapping that met the broken page may hold a mark in its page table, which the kernel takes away only on request:
 * then it sees the new page as well.
 */
static void relook(struct broken *b, size_t at)
{
	unsigned char *maps[] = { b->map, b->other };

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		CHECK_OK(madvise(maps[i] + at, page_size(), MADV_DONTNEED));
		CHECK_EQ(TOUCH_READ(maps[i] + at), 0);
		CHECK_EQ(touch_last.value, b->model[at]);
	}
}

static const struct cure {
	const char *label;
	int how;
	bool large;
} cures[] = {
	{ "copy", 0, false }, { "zero", 1, false }, { "write", 2, false }, { "punch", 3, false },
	{ "copy after a split", 0, true }, { "zero after a split", 1, true }, { "write after a split", 2, true },
	{ "punch after a split", 3, true },
};

TEST_EACH(provided_anew, struct cure, cures)
{
	size_t ps = page_size(), at = 5 * ps;
	struct broken b = file(PAGES * ps, row->large);
	unsigned char *buf = xmmap_anon(ps);

	break_page(&b, at);
	CHECK_EQ(TOUCH_READ(b.map + at), SIGBUS);
	CHECK_ERRNO(gmem_poison(b.fd, at, ps, 0), EEXIST);
	CHECK_ERRNO(pwrite(b.fd, buf, 10, at), EINVAL);
	pattern_fill(buf, ps, 9);
	switch (row->how) {
	case 0:
		CHECK_OK(gmem_copy(b.fd, at, ps, buf, 0));
		break;
	case 1:
		memset(buf, 0, ps);
		CHECK_OK(gmem_zero(b.fd, at, ps, 0));
		break;
	case 2:
		CHECK_EQ(pwrite(b.fd, buf, ps, at), ps);
		break;
	case 3:
		memset(buf, 0, ps);
		CHECK_OK(gmem_punch(b.fd, at, ps));
		break;
	}
	memcpy(b.model + at, buf, ps);
	CHECK(!memcmp(xmmap(NULL, b.bytes, PROT_READ, MAP_SHARED, b.fd, 0), b.model, b.bytes));
	relook(&b, at);
	CHECK_EQ(b.map[at], b.model[at]);
	check_rest(&b, at);
}

/* It breaks while a handler watches: poison is not a fault to be handled, and nobody reads zeros. */
TEST_EACH(watched_page_breaks, struct folios, folios)
{
	size_t ps = page_size(), at = 3 * ps;
	struct broken b = file(PAGES * ps, row->large);
	int context = xgmem_context();

	REQUIRE_OK(gmem_watch(b.fd, context, 0, b.bytes, GMEMFD_MODE_ALL, 0, 0));
	break_page(&b, at);
	check_broken(&b, at);
	check_rest(&b, at);
	CHECK_EQ(xgmem_stats(b.fd).events, 0);
	CHECK_OK(gmem_copy(b.fd, at, ps, b.model + at, 0));
	CHECK_EQ(TOUCH_READ(xmmap(NULL, ps, PROT_READ, MAP_SHARED, b.fd, at)), 0);
}

/* One of the 512 pages of a large folio: the others stay what they are. */
TEST(page_of_a_large_folio_breaks)
{
	size_t ps = page_size(), at = 77 * ps;
	struct broken b = file(HPAGE_SIZE, true);

	REQUIRE_EQ(xgmem_stats(b.fd).huge, 1);
	break_page(&b, at);
	check_broken(&b, at);
	check_rest(&b, at);
	CHECK_OK(gmem_copy(b.fd, at, ps, b.model + at, 0));
	CHECK(!memcmp(xmmap(NULL, b.bytes, PROT_READ, MAP_SHARED, b.fd, 0), b.model, b.bytes));
}

TEST_EACH(provided_closed, struct folios, folios)
{
	size_t ps = page_size();
	struct broken b = file(PAGES * ps, row->large);
	int context = xgmem_context();

	break_page(&b, 2 * ps);
	REQUIRE_OK(gmem_watch(b.fd, context, 0, b.bytes, GMEMFD_MODE_ALL, 0, 0));
	CHECK_OK(gmem_copy(b.fd, 2 * ps, ps, b.model + 2 * ps, GMEMFD_RANGE_CLOSED));
	CHECK_OK(gmem_continue(b.fd, 2 * ps, ps, 0));
	CHECK_EQ(TOUCH_READ(xmmap(NULL, ps, PROT_READ, MAP_SHARED, b.fd, 2 * ps)), 0);
	CHECK_EQ(touch_last.value, b.model[2 * ps]);
	relook(&b, 2 * ps);
}

/* A file with a broken page goes like any other. */
TEST_EACH(file_goes, struct folios, folios)
{
	size_t ps = page_size();
	struct broken b = file(PAGES * ps, row->large);

	break_page(&b, 0);
	CHECK_OK(gmem_punch(b.fd, 0, b.bytes));
	CHECK_EQ(xgmem_stats(b.fd).allocated, 0);
	break_page(&b, 4 * ps);
	close(b.fd);
	munmap(b.map, b.bytes);
	CHECK_EQ(TOUCH_READ(b.other + 4 * ps), SIGBUS);
	CHECK_EQ(TOUCH_READ(b.other + 5 * ps), 0);
}
