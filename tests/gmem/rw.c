// SPDX-License-Identifier: GPL-2.0-only
/*
 * read(2) and write(2) on a gmem file that nobody watches, in all forms: alignments, ends, vectors, own mappings, bad
 * memory. The file is compared with a copy that the test keeps.
 */
#include "gmem.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/uio.h>

#define PAGES 16
#define RW (PROT_READ | PROT_WRITE)

struct pair {
	int fd;
	size_t bytes;
	unsigned char *model;	/* what the file has to be */
	unsigned char *buf;
};

static struct pair full(void)
{
	struct pair p = { .bytes = PAGES * page_size() };

	p.fd = xgmem(p.bytes);
	p.model = xmmap_anon(p.bytes);
	p.buf = xmmap_anon(2 * p.bytes);
	pattern_fill(p.model, p.bytes, 1);
	REQUIRE_OK(gmem_copy(p.fd, 0, p.bytes, p.model, 0));
	return p;
}

static bool same(const struct pair *p)
{
	ssize_t n = pread(p->fd, p->buf + p->bytes, p->bytes, 0);

	return n == (ssize_t)p->bytes && !memcmp(p->buf + p->bytes, p->model, p->bytes);
}

static const size_t lengths[] = { 1, 7, 511, 4095, 4096, 4097, 8191, 8192, 20000 };
static const size_t offsets[] = { 0, 1, 100, 4095, 4096, 4097, 12288, 30001 };

TEST(reads_of_all_alignments)
{
	struct pair p = full();
	unsigned char *map = xmmap(NULL, p.bytes, RW, MAP_SHARED, p.fd, 0);

	CHECK(!memcmp(map, p.model, p.bytes));
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
		for (size_t j = 0; j < ARRAY_SIZE(lengths); j++) {
			unsigned char *to = p.buf + j;

			memset(p.buf, 0xee, p.bytes);
			CHECK_EQ(pread(p.fd, to, lengths[j], offsets[i]), lengths[j]);
			CHECK(!memcmp(to, p.model + offsets[i], lengths[j]));
			CHECK_EQ(to[lengths[j]], 0xee);
		}
}

TEST(writes_of_all_alignments)
{
	struct pair p = full();
	unsigned int seed = 100;

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
		for (size_t j = 0; j < ARRAY_SIZE(lengths); j++) {
			unsigned char *from = p.buf + j;

			pattern_fill(from, lengths[j], seed++);
			memcpy(p.model + offsets[i], from, lengths[j]);
			CHECK_EQ(pwrite(p.fd, from, lengths[j], offsets[i]), lengths[j]);
			REQUIRE(same(&p));
		}
	CHECK_EQ(xgmem_stats(p.fd).allocated, p.bytes);
	/* Written over, not provided. */
	CHECK_EQ(xgmem_stats(p.fd).written, 0);
}

TEST(position)
{
	struct pair p = full();
	unsigned char *buf = p.buf;

	CHECK_EQ(lseek(p.fd, 0, SEEK_CUR), 0);
	CHECK_EQ(read(p.fd, buf, 10), 10);
	CHECK_EQ(lseek(p.fd, 0, SEEK_CUR), 10);
	memset(buf, 5, 10);
	memset(p.model + 10, 5, 10);
	CHECK_EQ(write(p.fd, buf, 10), 10);
	CHECK_EQ(lseek(p.fd, 0, SEEK_CUR), 20);
	CHECK_EQ(pread(p.fd, buf, 10, 1000), 10);
	CHECK_EQ(lseek(p.fd, 0, SEEK_CUR), 20);
	CHECK_EQ(lseek(p.fd, -10, SEEK_END), (off_t)p.bytes - 10);
	CHECK_EQ(read(p.fd, buf, 100), 10);
	CHECK(!memcmp(buf, p.model + p.bytes - 10, 10));
	CHECK_EQ(read(p.fd, buf, 100), 0);
	CHECK_ERRNO(lseek(p.fd, -1, SEEK_SET), EINVAL);
	CHECK(same(&p));
}

TEST(ends)
{
	struct pair p = full();
	off_t end = p.bytes;

	CHECK_EQ(pread(p.fd, p.buf, 10, end), 0);
	CHECK_EQ(pread(p.fd, p.buf, 10, end + 4096), 0);
	CHECK_EQ(pread(p.fd, p.buf, 10, INT64_MAX - 10), 0);
	CHECK_EQ(pread(p.fd, p.buf, 100, end - 1), 1);
	CHECK_EQ(pread(p.fd, p.buf, 0, 0), 0);
	CHECK_ERRNO(pread(p.fd, p.buf, 10, -1), EINVAL);

	CHECK_ERRNO(pwrite(p.fd, p.buf, 1, end), ENOSPC);
	CHECK_ERRNO(pwrite(p.fd, p.buf, 4096, end + 4096), ENOSPC);
	CHECK_EQ(pwrite(p.fd, p.buf, 0, end), 0);
	memset(p.buf, 9, 100);
	memset(p.model + end - 3, 9, 3);
	CHECK_EQ(pwrite(p.fd, p.buf, 100, end - 3), 3);
	CHECK(same(&p));
	REQUIRE_OK(fcntl(p.fd, F_SETFL, O_APPEND));
	CHECK_ERRNO(write(p.fd, p.buf, 10), ENOSPC);
	CHECK_EQ(lseek(p.fd, 0, SEEK_END), end);
	CHECK(same(&p));
}

TEST(write_over_the_end_of_absent_pages)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps);
	unsigned char *buf = xmmap_anon(4 * ps), *got = xmmap_anon(4 * ps);

	pattern_fill(buf, 4 * ps, 3);
	/* Up to the end these are whole pages. */
	CHECK_EQ(pwrite(fd, buf, 4 * ps, 2 * ps), 2 * ps);
	CHECK_EQ(pread(fd, got, 4 * ps, 2 * ps), 2 * ps);
	CHECK(!memcmp(got, buf, 2 * ps));
	CHECK_EQ(xgmem_stats(fd).written, 2 * ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * ps);
	CHECK_ERRNO(pwrite(fd, buf, ps, 4 * ps), ENOSPC);
}

TEST(holes_read_as_zeros)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps);
	unsigned char *buf = xmmap_anon(8 * ps);

	pattern_fill(buf, ps, 3);
	REQUIRE_EQ(pwrite(fd, buf, ps, 3 * ps), ps);
	memset(buf, 0xff, 8 * ps);
	CHECK_EQ(pread(fd, buf, 8 * ps - 2, 1), 8 * ps - 2);
	CHECK(all_bytes_are(buf, 3 * ps - 1, 0));
	CHECK(pattern_is(buf + 3 * ps - 1, ps, 3));
	CHECK(all_bytes_are(buf + 4 * ps - 1, 4 * ps - 1, 0));
	/* Reading a hole takes no memory. */
	CHECK_EQ(xgmem_stats(fd).allocated, ps);
}

/* A part of a page that has no content: nobody knows the rest of it. */
static const struct partial {
	const char *label;
	size_t offset, len;
	bool ok;
} partials[] = {
	{ "whole page", 4096, 4096, true },
	{ "head", 4096, 100, false },
	{ "tail", 5000, 8192 - 5000, false },
	{ "middle", 5000, 100, false },
	{ "page and head", 4096, 4196, false },
	{ "tail and page", 8000, 4096 + 192, false },
	{ "present tail and page", 4000, 4192, true },
	{ "present tail, page and head", 4000, 4192 + 10, false },
	{ "page and present head", 4096 * 7, 4096 + 10, true },
	{ "present head", 0, 10, true },
};

TEST_EACH(partial_pages, struct partial, partials)
{
	size_t ps = page_size();
	int fd = xgmem(16 * ps);
	unsigned char *buf = xmmap_anon(16 * ps), *model = xmmap_anon(16 * ps), *got = xmmap_anon(16 * ps);
	struct gmemfd_stats before, after;

	/* Pages 0 and 8 have content. */
	memset(model, 0x11, ps);
	memset(model + 8 * ps, 0x11, ps);
	REQUIRE_OK(gmem_copy(fd, 0, ps, model, 0));
	REQUIRE_OK(gmem_copy(fd, 8 * ps, ps, model, 0));
	before = xgmem_stats(fd);
	pattern_fill(buf, row->len, 3);
	if (row->ok) {
		memcpy(model + row->offset, buf, row->len);
		CHECK_EQ(pwrite(fd, buf, row->len, row->offset), row->len);
	} else {
		CHECK_ERRNO(pwrite(fd, buf, row->len, row->offset), EINVAL);
		after = xgmem_stats(fd);
		CHECK(!memcmp(&before, &after, sizeof(before)));
	}
	CHECK_EQ(pread(fd, got, 16 * ps, 0), 16 * ps);
	CHECK(!memcmp(got, model, 16 * ps));
}

TEST(partial_granule_of_a_huge_file)
{
	size_t ps = page_size();
	int fd = xgmem_huge(2 * HPAGE_SIZE);
	unsigned char *buf = xmmap_anon(2 * HPAGE_SIZE), *got = xmmap_anon(HPAGE_SIZE);

	pattern_fill(buf, 2 * HPAGE_SIZE, 3);
	CHECK_ERRNO(pwrite(fd, buf, ps, 0), EINVAL);
	CHECK_ERRNO(pwrite(fd, buf, HPAGE_SIZE - ps, ps), EINVAL);
	CHECK_ERRNO(pwrite(fd, buf, HPAGE_SIZE + ps, 0), EINVAL);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK_EQ(pwrite(fd, buf, HPAGE_SIZE, 0), (ssize_t)HPAGE_SIZE);
	CHECK_EQ(xgmem_stats(fd).allocated, HPAGE_SIZE);
	CHECK_EQ(xgmem_stats(fd).huge, 1);
	CHECK_EQ(xgmem_stats(fd).written, HPAGE_SIZE);
	CHECK_EQ(pread(fd, got, HPAGE_SIZE, 0), (ssize_t)HPAGE_SIZE);
	CHECK(!memcmp(got, buf, HPAGE_SIZE));
	memset(buf + 3 * ps + 5, 1, ps);
	CHECK_EQ(pwrite(fd, buf + 3 * ps + 5, ps, 3 * ps + 5), ps);
	CHECK_EQ(pread(fd, got, HPAGE_SIZE, 0), (ssize_t)HPAGE_SIZE);
	CHECK(!memcmp(got, buf, HPAGE_SIZE));
}

TEST(vectors)
{
	struct pair p = full();
	unsigned char *b = p.buf;
	struct iovec out[] = { { b, 1 }, { b + 100, 0 }, { b + 200, 5000 }, { b + 6000, 4096 }, { b + 11000, 3 } };
	struct iovec in[5];
	size_t total = 0;

	pattern_fill(b, 12000, 9);
	for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
		memcpy(p.model + 5000 + total, out[i].iov_base, out[i].iov_len);
		total += out[i].iov_len;
	}
	CHECK_EQ(pwritev(p.fd, out, ARRAY_SIZE(out), 5000), total);
	CHECK(same(&p));
	memcpy(in, out, sizeof(in));
	memset(b, 0, 12000);
	CHECK_EQ(preadv(p.fd, in, ARRAY_SIZE(in), 5000), total);
	total = 0;
	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		CHECK(!memcmp(p.model + 5000 + total, in[i].iov_base, in[i].iov_len));
		total += in[i].iov_len;
	}
	/* A page put together of many pieces is provided as a whole. */
	p.fd = xgmem(p.bytes);
	memset(p.model, 0, p.bytes);
	pattern_fill(b, 2 * 4096, 10);
	memcpy(p.model + 4096, b, 2 * 4096);
	out[0] = (struct iovec){ b, 1 };
	out[1] = (struct iovec){ b + 1, 4094 };
	out[2] = (struct iovec){ b + 4095, 2 };
	out[3] = (struct iovec){ b + 4097, 4095 };
	CHECK_EQ(pwritev(p.fd, out, 4, 4096), 2 * 4096);
	CHECK(same(&p));
	CHECK_EQ(xgmem_stats(p.fd).written, 2 * 4096);
}

TEST(source_ends_in_bad_memory)
{
	size_t ps = page_size();
	struct pair p = full();
	unsigned char *edge = xmmap_anon(4 * ps), *got = xmmap_anon(4 * ps);
	ssize_t n;
	int fd;

	pattern_fill(edge, 4 * ps, 20);
	memcpy(got, edge, 2 * ps);
	REQUIRE_OK(munmap(edge + 2 * ps, 2 * ps));
	CHECK_ERRNO(pwrite(p.fd, edge + 2 * ps, ps, 0), EFAULT);
	CHECK(same(&p));
	CHECK_ERRNO(pwrite(p.fd, NULL, ps, 0), EFAULT);
	/* Over content: as far as it goes. */
	n = pwrite(p.fd, edge + ps, 2 * ps, 3 * ps);
	CHECK_EQ(n, ps);
	memcpy(p.model + 3 * ps, got + ps, ps);
	CHECK(same(&p));
	/* Into absent pages: whole ones only. */
	fd = xgmem(PAGES * ps);
	CHECK_EQ(pwrite(fd, edge + 100, 4 * ps, 0), ps);
	CHECK_EQ(xgmem_stats(fd).allocated, ps);
	CHECK_EQ(pread(fd, p.buf, ps, 0), ps);
	CHECK(!memcmp(p.buf, got + 100, ps));
	CHECK_ERRNO(pwrite(fd, edge + ps + 1, ps, 4 * ps), EFAULT);
	CHECK_EQ(xgmem_stats(fd).allocated, ps);
	/* Reading into it. */
	n = pread(p.fd, edge + ps, 2 * ps, 0);
	CHECK_EQ(n, ps);
	CHECK(!memcmp(edge + ps, p.model, ps));
	CHECK_ERRNO(pread(p.fd, edge + 2 * ps, ps, 0), EFAULT);
	/* A hole, too, goes only where memory is. */
	CHECK_ERRNO(pread(fd, edge + 2 * ps, ps, 8 * ps), EFAULT);
}

TEST(own_mapping)
{
	size_t ps = page_size();
	struct pair p = full();
	unsigned char *map = xmmap(NULL, p.bytes, RW, MAP_SHARED, p.fd, 0);
	unsigned char *fresh = xmmap(NULL, p.bytes, RW, MAP_SHARED, p.fd, 0);

	/* The source is not mapped yet, is the very page, overlaps. */
	CHECK_EQ(pwrite(p.fd, fresh + 5 * ps, ps, 2 * ps), ps);
	memcpy(p.model + 2 * ps, p.model + 5 * ps, ps);
	CHECK(same(&p));
	CHECK_EQ(pwrite(p.fd, map + 3 * ps, ps, 3 * ps), ps);
	CHECK(same(&p));
	CHECK_EQ(pwrite(p.fd, fresh + 8 * ps + 10, 3 * ps, 4 * ps + 5), 3 * ps);
	memcpy(p.model + 4 * ps + 5, p.model + 8 * ps + 10, 3 * ps);
	CHECK(same(&p));
	CHECK_EQ(pread(p.fd, fresh + 12 * ps + 3, 2 * ps, 100), 2 * ps);
	memcpy(p.model + 12 * ps + 3, p.model + 100, 2 * ps);
	CHECK(same(&p));
	CHECK_EQ(pread(p.fd, map + 3 * ps, ps, 3 * ps), ps);
	CHECK(same(&p));
	/* From a hole to the same hole, and to another. */
	CHECK_OK(gmem_punch(p.fd, 14 * ps, 2 * ps));
	memset(p.model + 14 * ps, 0, 2 * ps);
	CHECK_EQ(pwrite(p.fd, map + 14 * ps, ps, 14 * ps), ps);
	CHECK_EQ(pread(p.fd, map + 15 * ps, ps, 15 * ps), ps);
	CHECK(same(&p));
}

#define PUNCHES 300

static atomic_bool punched_enough;

/* Writes until it is told to end; returns whether a write failed. */
static void *writer(void *arg)
{
	struct pair *p = arg;
	unsigned char *buf = xmmap_anon(p->bytes);

	for (int i = 0; i < 10 || !punched_enough; i++) {
		memset(buf, i, p->bytes);
		if (pwrite(p->fd, buf, p->bytes, 0) != (ssize_t)p->bytes)
			return (void *)1;
	}
	return NULL;
}

/* A page punched at any moment under a writer of whole pages: no error, no mixture in an absent page. */
TEST(punched_while_written)
{
	size_t ps = page_size();
	struct pair p = full();
	pthread_t thread = thread_start(writer, &p);

	for (unsigned long i = 0; i < PUNCHES; i++)
		CHECK_OK(gmem_punch(p.fd, (i % PAGES) * ps, ps));
	punched_enough = true;
	CHECK(!thread_join(thread));
	CHECK_EQ(pread(p.fd, p.buf, p.bytes, 0), p.bytes);
	for (size_t i = 0; i < PAGES; i++)
		CHECK(all_bytes_are(p.buf + i * ps, ps, p.buf[i * ps]));
}

TEST(read_only_descriptor)
{
	struct pair p = full();
	char path[64];
	int ro, wo;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", p.fd);
	ro = REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC));
	wo = REQUIRE_FD(open(path, O_WRONLY | O_CLOEXEC));
	CHECK_ERRNO(pwrite(ro, p.buf, 10, 0), EBADF);
	CHECK_EQ(pread(ro, p.buf, 10, 0), 10);
	CHECK_ERRNO(pread(wo, p.buf, 10, 0), EBADF);
	CHECK_ERRNO(gmem_punch(ro, 0, 4096), EBADF);
	CHECK(same(&p));
	memset(p.buf, 4, 10);
	memset(p.model, 4, 10);
	CHECK_EQ(pwrite(wo, p.buf, 10, 0), 10);
	CHECK(same(&p));
}

/* RWF_NOWAIT: what there is at once, and EAGAIN instead of waiting for a handler. */
static void reads_without_waiting(int fd, int context)
{
	size_t ps = page_size();
	unsigned char buf[3 * 4096];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };

	/* Page 0 is present, 1 absent and 2 closed under the watch, which ends before 3; 4 is poisoned. */
	CHECK_EQ(preadv2(fd, &iov, 1, 0, RWF_NOWAIT), ps);
	CHECK(pattern_is(buf, ps, 1));
	CHECK_ERRNO(preadv2(fd, &iov, 1, ps, RWF_NOWAIT), EAGAIN);
	CHECK_ERRNO(preadv2(fd, &iov, 1, 2 * ps, RWF_NOWAIT), EAGAIN);
	CHECK_EQ(preadv2(fd, &iov, 1, 3 * ps, RWF_NOWAIT), ps);
	CHECK(all_bytes_are(buf, ps, 0));
	CHECK_ERRNO(preadv2(fd, &iov, 1, 4 * ps, RWF_NOWAIT), EIO);
	CHECK_EQ(preadv2(fd, &iov, 1, 5 * ps, RWF_NOWAIT), 0);
	CHECK_EQ(xgmem_stats(fd).events, 0);
	CHECK_EQ(xgmem_stats(fd).waiters, 0);
	CHECK_EQ(xgmem_stats(fd).faults_missing, 0);
	CHECK_EQ(poll(&(struct pollfd){ .fd = context, .events = POLLIN }, 1, 0), 0);
}

TEST(read_that_may_not_wait)
{
	size_t ps = page_size();
	int fd = xgmem(5 * ps), context = xgmem_context(), again;
	unsigned char page[4096];
	struct iovec iov = { .iov_base = page, .iov_len = sizeof(page) };
	char path[64];

	pattern_fill(page, ps, 1);
	REQUIRE_OK(gmem_watch(fd, context, 0, 3 * ps, GMEMFD_MODE_ALL, 0, 0));
	REQUIRE_OK(gmem_copy(fd, 0, ps, page, 0));
	REQUIRE_OK(gmem_copy(fd, 2 * ps, ps, page, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(gmem_poison(fd, 4 * ps, ps, 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reads_without_waiting(fd, context);
	again = REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC));
	reads_without_waiting(again, context);
	again = REQUIRE_FD(open(path, O_RDWR | O_CLOEXEC));
	reads_without_waiting(again, context);
	/* A write takes memory, and may wait for it. */
	CHECK_ERRNO(pwritev2(fd, &iov, 1, 0, RWF_NOWAIT), EINVAL);
	CHECK_ERRNO(pwritev2(again, &iov, 1, 0, RWF_NOWAIT), EINVAL);
	CHECK_OK(gmem_continue(fd, 2 * ps, ps, 0));
	CHECK_EQ(preadv2(fd, &iov, 1, 2 * ps, RWF_NOWAIT), ps);
}
