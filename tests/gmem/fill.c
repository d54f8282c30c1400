// SPDX-License-Identifier: GPL-2.0-only
/*
 * FILL: pages read straight from another file: through its page cache and around it, from holes, up to its end, from
 * sources that fail, and from ones that wait themselves.
 */
#include "gmem.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define SOURCE "/tmp/gmem-fill"
#define BYTES (3 * HPAGE_SIZE)

/* A file of tmpfs with so much of the pattern of seed 5. */
static int source_file(size_t bytes, int flags)
{
	int fd = REQUIRE_FD(open(SOURCE, O_RDWR | O_CREAT | O_TRUNC, 0600)), again;
	unsigned char *data = xmmap_anon(bytes + 1);

	pattern_fill(data, bytes, 5);
	REQUIRE_EQ(write(fd, data, bytes), bytes);
	REQUIRE_OK(munmap(data, bytes + 1));
	if (!flags)
		return fd;
	again = open(SOURCE, O_RDWR | flags);
	if (again < 0 && errno == EINVAL)
		SKIP("this kernel's tmpfs has no O_DIRECT");
	return REQUIRE_FD(again);
}

/* The same of a block device. */
static int source_disk(size_t bytes, int flags)
{
	unsigned char *data = xmmap_anon(bytes);
	int fd = ram_disk(O_RDWR);

	REQUIRE(lseek(fd, 0, SEEK_END) >= (off_t)bytes);
	pattern_fill(data, bytes, 5);
	REQUIRE_EQ(pwrite(fd, data, bytes, 0), bytes);
	REQUIRE_OK(fsync(fd));
	REQUIRE_OK(munmap(data, bytes));
	if (!flags)
		return fd;
	close(fd);
	return ram_disk(O_RDONLY | flags);
}

/* The pattern of the source from byte `from` on. */
static bool content_is(const unsigned char *p, size_t len, size_t from)
{
	unsigned char *want = xmmap_anon(from + len);
	bool ok;

	pattern_fill(want, from + len, 5);
	ok = !memcmp(p, want + from, len);
	munmap(want, from + len);
	return ok;
}

static const struct fill_row {
	const char *label;
	int (*source)(size_t bytes, int flags);
	int flags;
	size_t first, pages;	/* of the gmem file */
	size_t from;		/* byte of the source */
} fills[] = {
	{ "page", source_file, 0, 3, 1, 0 },
	{ "page_at_odd_byte", source_file, 0, 0, 1, 4097 },
	{ "64k", source_file, 0, 16, 16, 65536 },
	{ "64k_at_odd_byte", source_file, 0, 16, 16, 777 },
	{ "odd", source_file, 0, 5, 123, 8192 },
	{ "2m", source_file, 0, 512, 512, 0 },
	{ "more", source_file, 0, 300, 900, 12345 },
	{ "direct_page", source_file, O_DIRECT, 3, 1, 4096 },
	{ "direct_more", source_file, O_DIRECT, 300, 900, 8192 },
	{ "disk_page", source_disk, 0, 1, 1, 4096 },
	{ "disk_at_odd_byte", source_disk, 0, 7, 33, 4000 },
	{ "disk_more", source_disk, 0, 300, 900, 0 },
	{ "disk_direct_page", source_disk, O_DIRECT, 1, 1, 4096 },
	{ "disk_direct_2m", source_disk, O_DIRECT, 512, 512, 8192 },
	{ "disk_direct_more", source_disk, O_DIRECT, 300, 900, 4096 },
};

TEST_EACH(provides, struct fill_row, fills)
{
	size_t ps = page_size(), at = row->first * ps, len = row->pages * ps;
	int source = row->source((row->from + len + ps - 1) & -ps, row->flags), fd = xgmem(BYTES);
	unsigned char *map = xmmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	off_t pos = lseek(source, 0, SEEK_CUR);

	CHECK_DONE(gmem_fill(fd, at, len, source, row->from, 0), len);
	CHECK(content_is(map + at, len, row->from));
	CHECK_EQ(lseek(fd, 0, SEEK_DATA), at);
	CHECK_EQ(xgmem_stats(fd).filled, len);
	CHECK_EQ(xgmem_stats(fd).allocated, len);
	CHECK_EQ(lseek(source, 0, SEEK_CUR), pos);
}

TEST(hole_in_the_source)
{
	size_t ps = page_size();
	int source = source_file(2 * ps, 0), fd = xgmem(64 * ps);
	unsigned char *map = xmmap(NULL, 64 * ps, PROT_READ, MAP_SHARED, fd, 0);

	REQUIRE_OK(ftruncate(source, 64 * ps));
	REQUIRE_EQ(pwrite(source, "end", 3, 63 * ps), 3);
	CHECK_DONE(gmem_fill(fd, 0, 64 * ps, source, 0, 0), 64 * ps);
	CHECK(content_is(map, 2 * ps, 0));
	CHECK(all_bytes_are(map + 2 * ps, 61 * ps, 0));
	CHECK(!memcmp(map + 63 * ps, "end", 4));
}

/* --- The end of the source --------------------------------------------------------------------------- */

static const struct end_row {
	const char *label;
	size_t bytes;		/* of the source */
	uint64_t from;
	size_t pages;		/* asked for */
	size_t done;		/* pages; 0: ENODATA */
} ends[] = {
	{ "empty", 0, 0, 1, 0 },
	{ "less_than_a_page", 4095, 0, 1, 0 },
	{ "exact", 65536, 0, 16, 16 },
	{ "second_page", 4096, 0, 2, 1 },
	{ "in_second_page", 4097, 0, 2, 1 },
	{ "in_middle_of_64k", 36864, 0, 16, 9 },
	{ "by_a_byte", 65536, 1, 16, 15 },
	{ "in_2m", 2000000, 0, 512, 488 },
	{ "at_end", 65536, 65536, 4, 0 },
	{ "far_behind", 65536, 1ull << 50, 4, 0 },
};

TEST_EACH(source_ends, struct end_row, ends)
{
	size_t ps = page_size();
	int source = source_file(row->bytes, 0), fd = xgmem(BYTES);
	unsigned char *map = xmmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);

	if (row->done == row->pages)
		CHECK_DONE(gmem_fill(fd, 0, row->pages * ps, source, row->from, 0), row->pages * ps);
	else if (row->done)
		CHECK_PARTLY(gmem_fill(fd, 0, row->pages * ps, source, row->from, 0), row->done * ps);
	else
		CHECK_REFUSED(gmem_fill(fd, 0, row->pages * ps, source, row->from, 0), ENODATA);
	CHECK_EQ(xgmem_stats(fd).allocated, row->done * ps);
	CHECK_EQ(xgmem_stats(fd).filled, row->done * ps);
	if (row->done)
		CHECK(content_is(map, row->done * ps, row->from));
}

TEST(disk_ends)
{
	size_t ps = page_size();
	int source = source_disk(page_size(), O_DIRECT), fd = xgmem(BYTES);
	off_t end = REQUIRE_OK(lseek(source, 0, SEEK_END));

	CHECK_PARTLY(gmem_fill(fd, 0, 8 * ps, source, end - 2 * ps, 0), 2 * ps);
	CHECK_REFUSED(gmem_fill(fd, 4 * ps, ps, source, end, 0), ENODATA);
	/* What direct I/O cannot do, the device refuses. */
	CHECK_REFUSED(gmem_fill(fd, 4 * ps, ps, source, 1, 0), EINVAL);
	CHECK_EQ(xgmem_stats(fd).allocated, 2 * ps);
}

/* --- Descriptors that will not do -------------------------------------------------------------------- */

static int closed_fd(void)
{
	/* High up, so that nothing else gets its number. */
	int fd = REQUIRE_FD(fcntl(0, F_DUPFD, 900));

	close(fd);
	return fd;
}

static int no_fd(void)
{
	return -1;
}

static int write_only(void)
{
	return open(SOURCE, O_WRONLY | O_CREAT, 0600);
}

static int path_only(void)
{
	return open("/tmp", O_PATH);
}

static int directory(void)
{
	return open("/tmp", O_RDONLY | O_DIRECTORY);
}

static int pipe_end(void)
{
	int fds[2];

	REQUIRE_OK(pipe(fds));
	REQUIRE_EQ(write(fds[1], SOURCE, sizeof(SOURCE)), sizeof(SOURCE));
	return fds[0];
}

static int unix_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int event_fd(void)
{
	return eventfd(1, 0);
}

static int char_device(void)
{
	return open("/dev/zero", O_RDONLY);
}

static int gmem_device(void)
{
	return gmem_dev();
}

static const struct fd_row {
	const char *label;
	int (*make)(void);
} fds[] = {
	{ "closed", closed_fd },
	{ "minus_one", no_fd },
	{ "write_only", write_only },
	{ "path_only", path_only },
	{ "directory", directory },
	{ "pipe", pipe_end },
	{ "socket", unix_socket },
	{ "eventfd", event_fd },
	{ "character_device", char_device },
	{ "gmemfd_device", gmem_device },
	{ "context", gmem_context },
};

/* The common part of the contract: EBADF for what is not open, or not of the right kind. */
TEST_EACH(wrong_descriptor, struct fd_row, fds)
{
	int source = row->make(), fd = xgmem(4 * page_size());

	CHECK_REFUSED(gmem_fill(fd, 0, page_size(), source, 0, 0), EBADF);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
}

TEST(wrong_numbers)
{
	size_t ps = page_size();
	int source = source_file(16 * ps, 0), fd = xgmem(16 * ps);

	CHECK_REFUSED(gmem_fill(fd, 0, ps, source, 1ull << 63, 0), EINVAL);
	CHECK_REFUSED(gmem_fill(fd, 0, ps, source, -ps, 0), EINVAL);
	CHECK_REFUSED(gmem_fill(fd, 0, ps, source, INT64_MAX, 0), EINVAL);
	CHECK_REFUSED(gmem_fill(fd, 0, 2 * ps, source, INT64_MAX - ps, 0), EINVAL);
	CHECK_REFUSED(gmem_fill(fd, 0, ps, source, INT64_MAX - ps, 0), ENODATA);
	CHECK_REFUSED(gmem_fill(fd, 0, ps, source, 0, 4), EINVAL);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
}

/* --- Content that is there, closed pages, waiters ---------------------------------------------------- */

TEST(stops_at_content)
{
	size_t ps = page_size();
	int source = source_file(64 * ps, 0), fd = xgmem(64 * ps);
	unsigned char *map = xmmap(NULL, 64 * ps, PROT_READ, MAP_SHARED, fd, 0);

	REQUIRE_OK(gmem_zero(fd, 21 * ps, ps, 0));
	REQUIRE_OK(gmem_poison(fd, 5 * ps, ps, 0));
	CHECK_PARTLY(gmem_fill(fd, 0, 64 * ps, source, 0, 0), 21 * ps);
	CHECK_REFUSED(gmem_fill(fd, 21 * ps, 43 * ps, source, 21 * ps, 0), EEXIST);
	CHECK_DONE(gmem_fill(fd, 22 * ps, 42 * ps, source, 22 * ps, 0), 42 * ps);
	CHECK(content_is(map, 21 * ps, 0));
	CHECK(all_bytes_are(map + 21 * ps, ps, 0));
	CHECK(content_is(map + 22 * ps, 42 * ps, 22 * ps));
}

TEST(closed_then_opened)
{
	size_t ps = page_size();
	int source = source_file(32 * ps, 0), fd = xgmem(32 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 32 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher waiter = { .addr = map + 9 * ps };
	struct gmemfd_event event;

	CHECK_REFUSED(gmem_fill(fd, 0, ps, source, 0, GMEMFD_RANGE_CLOSED), EINVAL);
	REQUIRE_OK(gmem_watch(fd, context, 0, 20 * ps, GMEMFD_MODE_ALL, 0, 0));
	CHECK_PARTLY(gmem_fill(fd, 0, 32 * ps, source, 0, GMEMFD_RANGE_CLOSED), 20 * ps);
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR);
	CHECK_DONE(gmem_continue(fd, 0, 20 * ps, 0), 20 * ps);
	CHECK(gmem_toucher_join(&waiter) >= 0);
	CHECK(content_is(map, 20 * ps, 0));
}

TEST(wakes_and_does_not)
{
	size_t ps = page_size();
	int source = source_file(4 * ps, 0), fd = xgmem(4 * ps), context = xgmem_context();
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ, MAP_SHARED, fd, 0);
	struct gmem_toucher a = { .addr = map }, b = { .addr = map + ps };

	REQUIRE_OK(gmem_watch(fd, context, 0, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	gmem_toucher_start(&a);
	gmem_toucher_start(&b);
	REQUIRE(gmem_waiters(fd, 2, 10));
	CHECK_DONE(gmem_fill(fd, 0, ps, source, 0, 0), ps);
	CHECK(gmem_toucher_join(&a) >= 0);
	CHECK_DONE(gmem_fill(fd, ps, 3 * ps, source, ps, GMEMFD_RANGE_DONTWAKE), 3 * ps);
	CHECK(!thread_join_for(b.thread, 0.1));
	CHECK_OK(gmem_wake(fd, ps, ps));
	CHECK(gmem_toucher_join(&b) >= 0);
	CHECK(content_is(map, 4 * ps, 0));
}

/* --- Sources that fail, or wait ---------------------------------------------------------------------- */

TEST(source_gives_eio)
{
	size_t ps = page_size();
	int source = xgmem(64 * ps), fd = xgmem(64 * ps);
	unsigned char *page = xmmap_anon(64 * ps), *map = xmmap(NULL, 64 * ps, PROT_READ, MAP_SHARED, fd, 0);

	pattern_fill(page, 64 * ps, 5);
	REQUIRE_OK(gmem_copy(source, 0, 23 * ps, page, 0));
	REQUIRE_OK(gmem_poison(source, 23 * ps, ps, 0));
	CHECK_PARTLY(gmem_fill(fd, 0, 64 * ps, source, 0, 0), 23 * ps);
	CHECK_REFUSED(gmem_fill(fd, 23 * ps, 4 * ps, source, 23 * ps, 0), EIO);
	/* One byte of it is enough. */
	CHECK_REFUSED(gmem_fill(fd, 23 * ps, ps, source, 22 * ps + 1, 0), EIO);
	CHECK_EQ(xgmem_stats(fd).allocated, 23 * ps);
	CHECK(content_is(map, 23 * ps, 0));
}

TEST(from_itself)
{
	size_t ps = page_size();
	int fd = xgmem(8 * ps);
	unsigned char *page = xmmap_anon(ps), *map = xmmap(NULL, 8 * ps, PROT_READ, MAP_SHARED, fd, 0);

	pattern_fill(page, ps, 5);
	REQUIRE_OK(gmem_copy(fd, 2 * ps, ps, page, 0));
	CHECK_DONE(gmem_fill(fd, 5 * ps, ps, fd, 2 * ps, 0), ps);
	CHECK(content_is(map + 5 * ps, ps, 0));
	/* Reading a hole does not fill it. */
	CHECK_DONE(gmem_fill(fd, 6 * ps, ps, fd, 6 * ps, 0), ps);
	CHECK(all_bytes_are(map + 6 * ps, ps, 0));
	CHECK_EQ(xgmem_stats(fd).allocated, 3 * ps);
}

struct filler {
	int fd;
	uint64_t len;
	int source;
	int err;
	int64_t done;
};

static void *fill_and_tell(void *arg)
{
	struct filler *f = arg;

	f->err = gmem_fill(f->fd, 0, f->len, f->source, 0, 0) ? errno : 0;
	f->done = gmem_done;
	return NULL;
}

TEST(source_traps_and_is_resolved)
{
	size_t ps = page_size();
	int source = xgmem(16 * ps), context = xgmem_context();
	struct filler f = { .fd = xgmem(16 * ps), .len = 16 * ps, .source = source };
	unsigned char *page = xmmap_anon(16 * ps), *map = xmmap(NULL, 16 * ps, PROT_READ, MAP_SHARED, f.fd, 0);
	struct gmemfd_event event;
	pthread_t thread;

	pattern_fill(page, 16 * ps, 5);
	REQUIRE_OK(gmem_watch(source, context, 0, 16 * ps, GMEMFD_MODE_MISSING, 0, 0));
	thread = thread_start(fill_and_tell, &f);
	for (size_t i = 0; i < 16; i++) {
		REQUIRE(gmem_event(context, &event, 10));
		CHECK_EQ(event.offset, i * ps);
		CHECK_EQ(xgmem_stats(f.fd).allocated, 0);
		REQUIRE_OK(gmem_copy(source, i * ps, ps, page + i * ps, 0));
	}
	REQUIRE(thread_join_for(thread, 10));
	CHECK_EQ(f.err, 0);
	CHECK_EQ(f.done, 16 * ps);
	CHECK(content_is(map, 16 * ps, 0));
}

TEST(killed_while_source_traps)
{
	size_t ps = page_size();
	int source = xgmem(4 * ps), context = xgmem_context(), fd = xgmem(4 * ps), status;
	struct gmemfd_event event;
	pid_t pid;

	REQUIRE_OK(gmem_watch(source, context, 0, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		gmem_fill(fd, 0, 4 * ps, source, 0, 0);
		_exit(1);
	}
	REQUIRE(gmem_event(context, &event, 10));
	REQUIRE_OK(kill(pid, SIGKILL));
	status = child_wait(pid, 10);
	CHECK(status != -1 && WIFSIGNALED(status));
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	CHECK(gmem_waiters(source, 0, 5));
}

static void on_usr1(int sig)
{
	(void)sig;
}

TEST(signal_while_source_traps)
{
	size_t ps = page_size();
	int source = xgmem(4 * ps), context = xgmem_context();
	struct filler f = { .fd = xgmem(4 * ps), .len = 4 * ps, .source = source };
	struct sigaction sa = { .sa_handler = on_usr1 };
	pthread_t thread;

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	REQUIRE_OK(gmem_watch(source, context, 0, 4 * ps, GMEMFD_MODE_MISSING, 0, 0));
	thread = thread_start(fill_and_tell, &f);
	REQUIRE(gmem_waiters(source, 1, 10));
	REQUIRE_EQ(pthread_kill(thread, SIGUSR1), 0);
	REQUIRE(thread_join_for(thread, 10));
	CHECK_EQ(f.err, EINTR);
	CHECK_EQ(f.done, -EINTR);
	CHECK_EQ(xgmem_stats(f.fd).allocated, 0);
	CHECK_EQ(xgmem_stats(source).waiters, 0);
}
