// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl dump: content, holes, and pages that cannot be read; it never waits for a handler.
 */
#include "cli.h"

#include <sys/stat.h>

#include "gmem.h"

#define PAGES 64
#define IMAGE "/tmp/dumped"

static char name[64];

static int make(size_t from, size_t to)
{
	unsigned char *page = malloc(page_size());
	int fd = xgmem(PAGES * page_size());

	for (size_t i = from; i < to; i++) {
		pattern_fill(page, page_size(), i * page_size());
		REQUIRE_OK(gmem_copy(fd, i * page_size(), page_size(), page, 0));
	}
	free(page);
	unlink(IMAGE);
	snprintf(name, sizeof(name), "/proc/%d/fd/%d", getpid(), fd);
	return fd;
}

/* The image is pattern in these pages and a hole in the others. */
static void check_image(size_t from, size_t to)
{
	unsigned char *page = malloc(page_size());
	int fd = REQUIRE_FD(open(IMAGE, O_RDONLY));
	struct stat st;

	REQUIRE_OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, PAGES * page_size());
	CHECK_EQ(st.st_blocks * 512, (to - from) * page_size());
	for (size_t i = 0; i < PAGES; i++) {
		REQUIRE_EQ(pread(fd, page, page_size(), i * page_size()), page_size());
		CHECK(cli_page_is(page, i * page_size(), i < from || i >= to ? i : PAGES, PAGES));
	}
	close(fd);
	free(page);
}

/* What is watched and absent would wait for a handler: a hole, without anybody being asked. */
TEST(sparse)
{
	int fd = make(8, 24), context = xgmem_context();
	struct gmemfd_event event;
	struct cli c;

	REQUIRE_OK(gmem_watch(fd, context, 0, PAGES * page_size(), GMEMFD_MODE_MISSING, 0, 0));
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(!strcmp(c.out, "64 KiB of 256 KiB written to " IMAGE "\n"));
	CHECK(!gmem_event(context, &event, 0.1));
	check_image(8, 24);
}

TEST(whole_and_json)
{
	struct cli c;

	make(0, PAGES);
	c = cli("dump", "--json", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, "\"written\": 262144"));
	check_image(0, PAGES);
}

TEST(empty)
{
	struct cli c;

	make(0, 0);
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	check_image(0, 0);
}

TEST(closed_pages)
{
	int fd = make(0, 4), context = xgmem_context();
	unsigned char *page = malloc(page_size());
	struct cli c;

	REQUIRE_OK(gmem_watch(fd, context, 0, PAGES * page_size(), GMEMFD_MODE_ALL, 0, 0));
	REQUIRE_OK(gmem_copy(fd, 4 * page_size(), page_size(), page, GMEMFD_RANGE_CLOSED));
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, "the page at byte 16384 is closed and cannot be read");
	CHECK_ERRNO(access(IMAGE, F_OK), ENOENT);
	c = cli("dump", "--skip", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, ", 4 KiB were closed"));
	check_image(0, 4);
	free(page);
}

TEST(poisoned_pages)
{
	int fd = make(0, 4);
	struct cli c;

	REQUIRE_OK(gmem_poison(fd, 5 * page_size(), page_size(), 0));
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, "4 KiB of the file have been poisoned");
	CHECK_ERRNO(access(IMAGE, F_OK), ENOENT);
	c = cli("dump", "--skip", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	check_image(0, 4);
}

TEST(where_to)
{
	struct cli c;
	int fd;

	make(8, 24);
	fd = REQUIRE_FD(open(IMAGE, O_RDWR | O_CREAT, 0600));
	for (int i = 0; i < 80; i++)
		REQUIRE_EQ(write(fd, name, sizeof(name)), sizeof(name));
	close(fd);
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, IMAGE " is there already: name another, or say --force");
	c = cli("dump", "--force", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	/* Nothing of what was there shows. */
	check_image(8, 24);
	c = cli("dump", name, "/nowhere/image");
	CHECK_CLI(c, 1, "cannot write to /nowhere/image: No such file or directory");
	c = cli("dump", "--force", name, "/dev/null");
	CHECK_CLI(c, 1, "/dev/null is no regular file");
	CHECK_OK(access("/dev/null", F_OK));
}

/* What was dumped is what `run` takes. */
TEST(round_trip)
{
	struct cli c;

	make(8, 24);
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	c = cli("run", "--quiet", "--image", IMAGE, "--", BUSYBOX, "cmp", "{path}", name);
	CHECK_EQ(c.code, 0);
	CHECK(!*c.err);
}
