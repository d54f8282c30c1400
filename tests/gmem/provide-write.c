// SPDX-License-Identifier: GPL-2.0-only
/*
 * write(2) and splice(2) as ways to provide pages: whole ones only, or bytes of those that have content; closed where a
 * watch is to open them. What they do as calls on any file is tested elsewhere.
 */
#include "gmem.h"

#include <sys/sendfile.h>
#include <sys/uio.h>

/* Pages 4 to 7 have content, 12 is poisoned; 16 pages in all. */
static int mixed_file(unsigned char *old)
{
	size_t ps = page_size();
	int fd = xgmem(16 * ps);

	pattern_fill(old, 4 * ps, 1);
	REQUIRE_OK(gmem_copy(fd, 4 * ps, 4 * ps, old, 0));
	REQUIRE_OK(gmem_poison(fd, 12 * ps, ps, 0));
	return fd;
}

static const struct write_row {
	const char *label;
	size_t at, len;		/* bytes; pages are 4096 */
	int err;		/* EINVAL, or 0 for all of it */
} writes[] = {
	{ "page", 4096, 4096, 0 },
	{ "pages_up_to_content", 0, 4 * 4096, 0 },
	{ "over_content", 2 * 4096, 8 * 4096, 0 },
	{ "all", 0, 16 * 4096, 0 },
	{ "poisoned_page", 12 * 4096, 4096, 0 },
	{ "byte_of_content", 5 * 4096 + 7, 1, 0 },
	{ "content_odd", 4 * 4096 + 100, 3 * 4096, 0 },
	{ "from_inside_content", 7 * 4096 + 9, 4096 - 9 + 3 * 4096, 0 },
	{ "to_inside_content", 0, 4 * 4096 + 5, 0 },
	{ "byte_of_absent", 3 * 4096, 1, EINVAL },
	{ "less_than_page", 0, 4095, EINVAL },
	{ "more_than_page", 0, 4097, EINVAL },
	{ "absent_odd_start", 8 * 4096 + 1, 2 * 4096 - 1, EINVAL },
	{ "content_then_part", 4 * 4096, 4 * 4096 + 1, EINVAL },
	{ "part_then_content", 3 * 4096 + 4095, 1 + 4096, EINVAL },
	{ "part_of_poisoned", 12 * 4096 + 1, 4095, EINVAL },
};

TEST_EACH(whole_pages_only, struct write_row, writes)
{
	size_t ps = page_size(), size = 16 * ps;
	unsigned char *old = xmmap_anon(4 * ps), *src = xmmap_anon(row->len), *want = xmmap_anon(size);
	unsigned char *map;
	int fd;

	if (ps != 4096)
		SKIP("the table is for pages of 4096 bytes");
	fd = mixed_file(old);
	pattern_fill(src, row->len, 2);
	memcpy(want + 4 * ps, old, 4 * ps);
	if (row->err) {
		CHECK_ERRNO(pwrite(fd, src, row->len, row->at), row->err);
		/* Nothing at all has changed. */
		CHECK_EQ(xgmem_stats(fd).allocated, 4 * ps);
		CHECK_EQ(xgmem_stats(fd).written, 0);
	} else {
		CHECK_EQ(pwrite(fd, src, row->len, row->at), row->len);
		memcpy(want + row->at, src, row->len);
	}
	map = xmmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	for (size_t i = 0; i < 16; i++) {
		if (!gmem_has_content(fd, i * ps))
			CHECK(i < 4 || i > 7);
		else
			CHECK(!memcmp(map + i * ps, want + i * ps, ps));
	}
	/* Every absent page that it covered has its content, and no other. */
	for (size_t i = 0; i < 16; i++) {
		bool covered = !row->err && i * ps >= row->at && (i + 1) * ps <= row->at + row->len;

		CHECK_EQ(gmem_has_content(fd, i * ps), (i >= 4 && i <= 7) || covered);
	}
}

TEST(segments_make_pages)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps);
	unsigned char *src = xmmap_anon(4 * ps), *map = xmmap(NULL, 4 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct iovec iov[5] = {
		{ src, 1 }, { src + 1, 100 }, { src + 101, 2 * ps }, { src + 101, 0 }, { src + 101 + 2 * ps, ps - 101 },
	};

	pattern_fill(src, 4 * ps, 3);
	CHECK_EQ(pwritev(fd, iov, 5, ps), 3 * ps);
	CHECK(pattern_is(map + ps, 3 * ps, 3));
	CHECK_EQ(xgmem_stats(fd).written, 3 * ps);
	CHECK(!gmem_has_content(fd, 0));
}

TEST(source_cannot_be_read)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps);
	unsigned char *src = xmmap_anon(4 * ps);

	REQUIRE_OK(munmap(src + 2 * ps, 2 * ps));
	CHECK_EQ(pwrite(fd, src, 4 * ps, 0), 2 * ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * ps);
	/* Half a page was there: it is not written. */
	CHECK_EQ(pwrite(fd, src + ps / 2, 4 * ps, 4 * ps), ps);
	CHECK_EQ(xgmem_stats(fd).allocated, 3 * ps);
	CHECK_ERRNO(pwrite(fd, src + ps + 1, ps, 6 * ps), EFAULT);
	CHECK_EQ(xgmem_stats(fd).allocated, 3 * ps);
}

struct writer {
	int fd;
	const void *src;
	size_t len;
	ssize_t got;
};

static void *write_and_tell(void *arg)
{
	struct writer *w = arg;

	w->got = pwrite(w->fd, w->src, w->len, 0);
	return NULL;
}

TEST(source_traps)
{
	size_t ps = page_size();
	int other = xgmem(2 * ps), context = xgmem_context(), fd = xgmem(2 * ps);
	unsigned char *src = xmmap(NULL, 2 * ps, PROT_READ, MAP_SHARED, other, 0);
	unsigned char *map = xmmap(NULL, 2 * ps, PROT_READ, MAP_SHARED, fd, 0), *page = xmmap_anon(2 * ps);
	struct writer w = { .fd = fd, .src = src, .len = 2 * ps };
	struct gmemfd_event event;
	pthread_t thread;

	pattern_fill(page, 2 * ps, 4);
	REQUIRE_OK(gmem_watch(other, context, 0, 2 * ps, GMEMFD_MODE_MISSING, 0, 0));
	thread = thread_start(write_and_tell, &w);
	REQUIRE(gmem_event(context, &event, 10));
	/* Others may provide and punch meanwhile: nothing is held. */
	CHECK(!gmem_has_content(fd, 0));
	CHECK_OK(gmem_zero(fd, 0, ps, 0));
	CHECK_OK(gmem_punch(fd, 0, ps));
	CHECK_DONE(gmem_copy(other, 0, 2 * ps, page, 0), 2 * ps);
	REQUIRE(thread_join_for(thread, 10));
	CHECK_EQ(w.got, 2 * ps);
	CHECK(pattern_is(map, 2 * ps, 4));
}

TEST(closed_by_a_minor_watch)
{
	size_t ps = page_size();
	int fd = xgmem(64 * ps), context = xgmem_context();
	unsigned char *src = xmmap_anon(64 * ps), *map = xmmap(NULL, 64 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher waiter = { .addr = map + 20 * ps };
	struct gmemfd_event event;

	pattern_fill(src, 64 * ps, 5);
	REQUIRE_OK(gmem_watch(fd, context, 10 * ps, 20 * ps, GMEMFD_MODE_MINOR, 0, 0));
	REQUIRE_OK(gmem_watch(fd, context, 40 * ps, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	CHECK_EQ(pwrite(fd, src, 64 * ps, 0), 64 * ps);
	/* Open where no such watch is. */
	CHECK(!memcmp(map, src, 10 * ps));
	CHECK(!memcmp(map + 30 * ps, src + 30 * ps, 34 * ps));
	CHECK_EQ(xgmem_stats(fd).events, 0);
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR);
	CHECK_EQ(event.offset, 20 * ps);
	/* Closed pages can be written over before they are opened. */
	CHECK_EQ(pwrite(fd, "x", 1, 20 * ps), 1);
	src[20 * ps] = 'x';
	CHECK_DONE(gmem_continue(fd, 10 * ps, 20 * ps, 0), 20 * ps);
	CHECK_EQ(gmem_toucher_join(&waiter), 'x');
	CHECK(pattern_is(map, 20 * ps, 5));
	CHECK(!memcmp(map, src, 64 * ps));
}

TEST(wakes)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), context = xgmem_context();
	unsigned char *src = xmmap_anon(4 * ps), *map = xmmap(NULL, 4 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher a = { .addr = map + ps }, b = { .addr = map + 3 * ps };

	memset(src, 0x42, 4 * ps);
	REQUIRE_OK(gmem_watch(fd, context, 0, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	gmem_toucher_start(&a);
	gmem_toucher_start(&b);
	REQUIRE(gmem_waiters(fd, 2, 10));
	CHECK_EQ(pwrite(fd, src, 3 * ps, 0), 3 * ps);
	CHECK_EQ(gmem_toucher_join(&a), 0x42);
	CHECK_EQ(xgmem_stats(fd).waiters, 1);
	CHECK_EQ(pwrite(fd, src, ps, 3 * ps), ps);
	CHECK_EQ(gmem_toucher_join(&b), 0x42);
}

TEST(splice_provides)
{
	size_t ps = page_size(), len = 16 * ps;
	int fd = xgmem(2 * len), fds[2];
	unsigned char *src = xmmap_anon(len), *map = xmmap(NULL, 2 * len, PROT_READ, MAP_SHARED, fd, 0);
	loff_t at = ps;

	pattern_fill(src, len, 6);
	REQUIRE_OK(pipe(fds));
	/* In odd pieces: they are put together to pages. */
	for (size_t done = 0; done < 4 * ps; done += 1024)
		REQUIRE_EQ(write(fds[1], src + done, 1024), 1024);
	CHECK_EQ(splice(fds[0], NULL, fd, &at, 4 * ps, 0), 4 * ps);
	CHECK_EQ(at, 5 * ps);
	CHECK(pattern_is(map + ps, 4 * ps, 6));
	CHECK_EQ(xgmem_stats(fd).written, 4 * ps);
	/* Less than a page is refused, and no part of it can be seen. */
	REQUIRE_EQ(write(fds[1], src, 100), 100);
	at = 10 * ps;
	CHECK_ERRNO(splice(fds[0], NULL, fd, &at, 100, 0), EINVAL);
	CHECK(!gmem_has_content(fd, 10 * ps));
}

TEST(sendfile_provides_closed)
{
	size_t ps = page_size(), len = 64 * ps;
	int fd = xgmem(len), file = REQUIRE_FD(open("/tmp/sendfile", O_RDWR | O_CREAT | O_TRUNC, 0600));
	int context = xgmem_context();
	unsigned char *src = xmmap_anon(len), *map = xmmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher waiter = { .addr = map + 63 * ps };

	pattern_fill(src, len, 7);
	REQUIRE_EQ(pwrite(file, src, len, 0), len);
	REQUIRE_OK(gmem_watch(fd, context, 0, len, GMEMFD_MODE_ALL, 0, 0));
	for (size_t done = 0; done < len; ) {
		ssize_t n = REQUIRE_OK(sendfile(fd, file, NULL, len - done));

		REQUIRE(n > 0);
		done += n;
	}
	CHECK_EQ(xgmem_stats(fd).allocated, len);
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_waiters(fd, 1, 10));
	CHECK_EQ(xgmem_stats(fd).faults_minor, 1);
	CHECK_DONE(gmem_continue(fd, 0, len, 0), len);
	CHECK_EQ(gmem_toucher_join(&waiter), src[63 * ps]);
	CHECK(pattern_is(map, len, 7));
}
