// SPDX-License-Identifier: GPL-2.0-only
/*
 * Moving content between a gmem file and other files without user memory: sendfile, splice, copy_file_range.
 */
#include "gmem.h"

#include <sys/sendfile.h>
#include <sys/socket.h>

#define PAGES 40

struct files {
	size_t bytes;
	int fd;			/* a gmem file with content, if full */
	int other;		/* a memfd with other content */
	unsigned char *model;	/* the content of fd */
	unsigned char *other_model;
};

static struct files files(bool full)
{
	struct files f = { .bytes = PAGES * page_size() };

	f.fd = xgmem(f.bytes);
	f.model = xmmap_anon(f.bytes);
	f.other_model = xmmap_anon(f.bytes);
	pattern_fill(f.other_model, f.bytes, 2);
	f.other = REQUIRE_FD(memfd_create("other", MFD_CLOEXEC));
	REQUIRE_EQ(write(f.other, f.other_model, f.bytes), f.bytes);
	REQUIRE_OK(lseek(f.other, 0, SEEK_SET));
	if (full) {
		pattern_fill(f.model, f.bytes, 1);
		REQUIRE_OK(gmem_copy(f.fd, 0, f.bytes, f.model, 0));
	}
	return f;
}

static bool file_is(int fd, const unsigned char *model, size_t len)
{
	unsigned char *buf = xmmap_anon(len);
	bool ok = pread(fd, buf, len, 0) == (ssize_t)len && !memcmp(buf, model, len);

	munmap(buf, len);
	return ok;
}

static const struct piece {
	const char *label;
	off_t offset;
	size_t len;
} pieces[] = {
	{ "all", 0, PAGES * 4096 }, { "page", 8192, 4096 }, { "bytes", 100, 10 }, { "unaligned", 4000, 50001 },
	{ "over the end", PAGES * 4096 - 100, 5000 }, { "many pages", 4096, 33 * 4096 },
};

TEST_EACH(sendfile_out, struct piece, pieces)
{
	struct files f = files(true);
	size_t want = row->offset + row->len > f.bytes ? f.bytes - row->offset : row->len;
	off_t offset = row->offset;
	size_t done = 0;
	ssize_t n = 1;

	while (n > 0 && done < row->len) {
		n = sendfile(f.other, f.fd, &offset, row->len - done);
		CHECK(n >= 0);
		done += n > 0 ? n : 0;
	}
	CHECK_EQ(done, want);
	CHECK_EQ(offset, row->offset + (off_t)want);
	memcpy(f.other_model, f.model + row->offset, want);
	CHECK(file_is(f.other, f.other_model, f.bytes));
	CHECK_EQ(lseek(f.fd, 0, SEEK_CUR), 0);
}

TEST(splice_out_of_holes)
{
	size_t ps = page_size();
	struct files f = files(false);
	unsigned char *buf = xmmap_anon(4 * ps);
	loff_t offset = 2 * ps - 10;
	int pipes[2];

	REQUIRE_OK(gmem_copy(f.fd, 2 * ps, ps, f.other_model, 0));
	REQUIRE_OK(pipe2(pipes, O_CLOEXEC));
	memset(buf, 1, 4 * ps);
	CHECK_EQ(splice(f.fd, &offset, pipes[1], NULL, 2 * ps, 0), 2 * ps);
	CHECK_EQ(offset, (loff_t)(4 * ps - 10));
	CHECK_EQ(read(pipes[0], buf, 4 * ps), 2 * ps);
	CHECK(all_bytes_are(buf, 10, 0));
	CHECK(!memcmp(buf + 10, f.other_model, ps));
	CHECK(all_bytes_are(buf + 10 + ps, ps - 10, 0));
	CHECK_EQ(xgmem_stats(f.fd).allocated, ps);
}

/* What is in a pipe is as it was when it was put there. */
TEST(pipe_keeps_what_it_got)
{
	size_t ps = page_size();
	struct files f = files(true);
	unsigned char *buf = xmmap_anon(4 * ps);
	loff_t offset = 0;
	int pipes[2];

	REQUIRE_OK(pipe2(pipes, O_CLOEXEC));
	CHECK_EQ(splice(f.fd, &offset, pipes[1], NULL, 4 * ps, 0), 4 * ps);
	CHECK_EQ(pwrite(f.fd, f.other_model, 2 * ps, 0), 2 * ps);
	CHECK_OK(gmem_punch(f.fd, 2 * ps, 2 * ps));
	CHECK_EQ(read(pipes[0], buf, 4 * ps), 4 * ps);
	CHECK(!memcmp(buf, f.model, 4 * ps));
}

TEST(to_a_socket)
{
	size_t ps = page_size();
	struct files f = files(true);
	unsigned char *buf = xmmap_anon(8 * ps);
	off_t offset = 77;
	int socks[2];

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	CHECK_EQ(sendfile(socks[0], f.fd, &offset, 5 * ps), 5 * ps);
	CHECK_EQ(recv(socks[1], buf, 5 * ps, MSG_WAITALL), 5 * ps);
	CHECK(!memcmp(buf, f.model + 77, 5 * ps));
}

TEST(sendfile_into_absent_pages)
{
	size_t ps = page_size();
	struct files f = files(false);
	size_t done = 0;
	ssize_t n;

	REQUIRE_OK(lseek(f.fd, 2 * ps, SEEK_SET));
	while (done < 30 * ps) {
		n = sendfile(f.fd, f.other, NULL, 30 * ps - done);
		REQUIRE(n > 0);
		done += n;
	}
	memcpy(f.model + 2 * ps, f.other_model, 30 * ps);
	CHECK(file_is(f.fd, f.model, f.bytes));
	CHECK_EQ(xgmem_stats(f.fd).written, 30 * ps);
	CHECK_EQ(xgmem_stats(f.fd).allocated, 30 * ps);
}

TEST(splice_in_by_whole_pages)
{
	size_t ps = page_size();
	struct files f = files(false);
	struct gmemfd_stats before, after;
	loff_t offset = 3 * ps;
	int pipes[2];

	REQUIRE_OK(pipe2(pipes, O_CLOEXEC));
	REQUIRE_EQ(write(pipes[1], f.other_model, 2 * ps + 100), 2 * ps + 100);
	before = xgmem_stats(f.fd);
	/* 100 bytes of an absent page: refused as a whole, and nothing is taken from the pipe. */
	CHECK_ERRNO(splice(pipes[0], NULL, f.fd, &offset, 2 * ps + 100, 0), EINVAL);
	after = xgmem_stats(f.fd);
	CHECK(!memcmp(&before, &after, sizeof(before)));
	CHECK_EQ(splice(pipes[0], NULL, f.fd, &offset, 2 * ps, 0), 2 * ps);
	CHECK_EQ(offset, (loff_t)(5 * ps));
	memcpy(f.model + 3 * ps, f.other_model, 2 * ps);
	CHECK(file_is(f.fd, f.model, f.bytes));
	/* Over content: any bytes. */
	offset = 3 * ps + 50;
	CHECK_EQ(splice(pipes[0], NULL, f.fd, &offset, 100, 0), 100);
	memcpy(f.model + 3 * ps + 50, f.other_model + 2 * ps, 100);
	CHECK(file_is(f.fd, f.model, f.bytes));
	CHECK_EQ(xgmem_stats(f.fd).written, 2 * ps);
}

/* Pieces in a pipe that are no pages make pages all the same. */
TEST(splice_in_of_small_pieces)
{
	size_t ps = page_size();
	struct files f = files(false);
	loff_t offset = 0;
	int pipes[2];

	REQUIRE_OK(pipe2(pipes, O_CLOEXEC | O_DIRECT));
	for (size_t at = 0; at < 2 * ps; at += 1024)
		REQUIRE_EQ(write(pipes[1], f.other_model + at, 1024), 1024);
	CHECK_EQ(splice(pipes[0], NULL, f.fd, &offset, 2 * ps, 0), 2 * ps);
	memcpy(f.model, f.other_model, 2 * ps);
	CHECK(file_is(f.fd, f.model, f.bytes));
	CHECK_EQ(xgmem_stats(f.fd).written, 2 * ps);
}

TEST(splice_past_the_end)
{
	size_t ps = page_size();
	struct files f = files(true);
	loff_t offset = f.bytes;
	int pipes[2];

	REQUIRE_OK(pipe2(pipes, O_CLOEXEC));
	CHECK_EQ(splice(f.fd, &offset, pipes[1], NULL, ps, 0), 0);
	REQUIRE_EQ(write(pipes[1], f.other_model, ps), ps);
	CHECK_ERRNO(splice(pipes[0], NULL, f.fd, &offset, ps, 0), ENOSPC);
	offset = f.bytes - 100;
	CHECK_EQ(splice(pipes[0], NULL, f.fd, &offset, ps, 0), 100);
	memcpy(f.model + f.bytes - 100, f.other_model, 100);
	CHECK(file_is(f.fd, f.model, f.bytes));
}

/* Newer kernels leave it to the caller, who copies by hand; older ones do it within a file system. */
TEST(copy_file_range_of_files)
{
	size_t ps = page_size();
	struct files f = files(true);
	loff_t in = 0, out = 3 * ps;
	int to = xgmem(f.bytes);
	unsigned char *model = xmmap_anon(f.bytes);
	size_t done = 0;
	ssize_t n = 1;

	CHECK_ERRNO(copy_file_range(f.fd, &in, f.other, &out, ps, 0), EXDEV);
	CHECK_ERRNO(copy_file_range(f.other, &in, f.fd, &out, ps, 0), EXDEV);
	CHECK(file_is(f.fd, f.model, f.bytes));
	if (copy_file_range(f.fd, &in, to, &out, ps, 0) < 0) {
		CHECK_EQ(errno, EXDEV);
		CHECK_EQ(in, 0);
		CHECK_EQ(xgmem_stats(to).allocated, 0);
		return;
	}
	CHECK_EQ(in, ps);
	done = ps;
	while (n > 0 && done < 20 * ps) {
		n = copy_file_range(f.fd, &in, to, &out, 20 * ps - done, 0);
		CHECK(n > 0);
		done += n > 0 ? n : 0;
	}
	CHECK_EQ(done, 20 * ps);
	memcpy(model + 3 * ps, f.model, 20 * ps);
	CHECK(file_is(to, model, f.bytes));
	CHECK_EQ(xgmem_stats(to).allocated, 20 * ps);
	/* Nothing of it is shared. */
	CHECK_OK(gmem_punch(f.fd, 0, f.bytes));
	CHECK(file_is(to, model, f.bytes));
}
