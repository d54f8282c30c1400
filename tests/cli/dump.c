// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl dump: content, holes, pages that cannot be read and those that are still to come; it never waits for a
 * handler. An image is whole, or is not there.
 */
#include "cli.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "gmem.h"
#include "peer.h"

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

/* What nobody provides is zeros, as a hole. */
TEST(sparse)
{
	struct cli c;

	make(8, 24);
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(!strcmp(c.out, "64 KiB of 256 KiB written to " IMAGE "\n"));
	check_image(8, 24);
}

/* What is still to be provided is no zeros: it is refused, or counted; and nobody is asked for it. */
static const struct partly {
	const char *label;
	uint32_t policy;
	bool orphan;
} partlies[] = {
	{ "served", GMEMFD_POLICY_POISON, false },
	{ "held", GMEMFD_POLICY_HOLD, true },
	{ "lost", GMEMFD_POLICY_POISON, true },
};

TEST_EACH(partly_provided, struct partly, partlies)
{
	int fd = make(8, 24), context = xgmem_context();
	struct gmemfd_event event;
	struct cli c;

	/* Pages 28 on are nobody's. */
	REQUIRE_OK(gmem_watch(fd, context, 0, 28 * page_size(), GMEMFD_MODE_MISSING, 0, row->policy));
	if (row->orphan)
		close(context);
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, "48 KiB have not been provided yet, the first at byte 0: wait (see 'gmemctl stat')");
	CHECK_ERRNO(access(IMAGE, F_OK), ENOENT);
	c = cli("dump", "--skip", name, IMAGE);
	CHECK_CLI(c, 1, "or say --incomplete");
	c = cli("dump", "--incomplete", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(!strcmp(c.out, "64 KiB of 256 KiB written to " IMAGE ", 48 KiB were not provided\n"));
	check_image(8, 24);
	unlink(IMAGE);
	c = cli("dump", "--json", "--incomplete", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, "\"absent\": 49152"));
	CHECK(row->orphan || !gmem_event(context, &event, 0.1));
}

/* Watches of a client of userfaultfd(2) are its mapping's: who reads the file does not meet them. */
TEST(partly_provided_by_mapping)
{
	int fd = make(8, 24), uffd = xuffd_gmem(0);
	void *map = xmmap(NULL, PAGES * page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct cli c;

	xuffd_register(uffd, map, PAGES * page_size(), UFFDIO_REGISTER_MODE_MISSING);
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, "192 KiB may not have been provided yet");
	CHECK_ERRNO(access(IMAGE, F_OK), ENOENT);
	c = cli("dump", "--incomplete", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, ", 192 KiB were not provided"));
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

	REQUIRE_OK(gmem_watch(fd, context, 0, 5 * page_size(), GMEMFD_MODE_MINOR, 0, 0));
	REQUIRE_OK(gmem_zero(fd, 5 * page_size(), (PAGES - 5) * page_size(), 0));
	REQUIRE_OK(gmem_copy(fd, 4 * page_size(), page_size(), page, GMEMFD_RANGE_CLOSED));
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, "the page at byte 16384 is closed and cannot be read");
	CHECK_ERRNO(access(IMAGE, F_OK), ENOENT);
	c = cli("dump", "--skip", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, "252 KiB of 256 KiB written to " IMAGE ", 4 KiB were closed"));
	free(page);
}

TEST(poisoned_pages)
{
	unsigned char *page = malloc(page_size());
	int fd = make(0, 4);
	struct cli c;

	REQUIRE_OK(gmem_poison(fd, 5 * page_size(), page_size(), 0));
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, "4 KiB are poisoned, the first at byte 20480: provide them first, or say --skip");
	CHECK_ERRNO(access(IMAGE, F_OK), ENOENT);
	c = cli("dump", "--skip", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, ", 4 KiB were poisoned"));
	check_image(0, 4);

	/* That there has been poison once is no matter when it is mended. */
	unlink(IMAGE);
	pattern_fill(page, page_size(), 4 * page_size());
	REQUIRE_OK(gmem_copy(fd, 4 * page_size(), page_size(), page, 0));
	pattern_fill(page, page_size(), 5 * page_size());
	REQUIRE_OK(gmem_copy(fd, 5 * page_size(), page_size(), page, 0));
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	check_image(0, 6);
	free(page);
}

TEST(where_to)
{
	struct stat st;
	struct cli c;
	int fd;

	make(8, 24);
	fd = REQUIRE_FD(open(IMAGE, O_RDWR | O_CREAT, 0600));
	for (int i = 0; i < 80; i++)
		REQUIRE_EQ(write(fd, name, sizeof(name)), sizeof(name));
	REQUIRE_OK(fchmod(fd, 0640));
	REQUIRE_OK(fchown(fd, 1, 2));
	close(fd);
	c = cli("dump", name, IMAGE);
	CHECK_CLI(c, 1, IMAGE " is there already: name another, or say --force");
	c = cli("dump", "--force", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	/* Nothing of what was there shows, but whose it is. */
	check_image(8, 24);
	REQUIRE_OK(stat(IMAGE, &st));
	CHECK_EQ(st.st_mode & 07777, 0640);
	CHECK_EQ(st.st_uid, 1);
	CHECK_EQ(st.st_gid, 2);
	/* A link is followed, and stays. */
	REQUIRE_OK(truncate(IMAGE, 0));
	REQUIRE_OK(symlink(IMAGE, "/tmp/link"));
	c = cli("dump", "--force", name, "/tmp/link");
	CHECK_CLI(c, 0, NULL);
	REQUIRE_OK(lstat("/tmp/link", &st));
	CHECK(S_ISLNK(st.st_mode));
	check_image(8, 24);
	c = cli("dump", name, "/nowhere/image");
	CHECK_CLI(c, 1, "cannot write to /nowhere/image: No such file or directory");
	c = cli("dump", "--force", name, "/dev/null");
	CHECK_CLI(c, 1, "/dev/null is no regular file");
	CHECK_OK(access("/dev/null", F_OK));
	/* A name without a directory. */
	unlink(IMAGE);
	REQUIRE_OK(chdir("/tmp"));
	c = cli("dump", name, "dumped");
	CHECK_CLI(c, 0, NULL);
	check_image(8, 24);
}

/* The image is there, but who has asked for it is not told so. */
TEST(lost_output)
{
	char command[256];
	struct cli c;

	make(8, 24);
	snprintf(command, sizeof(command), "exec " GMEMCTL " dump %s " IMAGE " >/dev/full", name);
	cli_program = BUSYBOX;
	c = cli("sh", "-c", command);
	CHECK_CLI(c, 1, "cannot write to stdout: No space left on device");
}

/* Files of a directory whose names begin like those of an image that is not whole. */
static int leftovers(const char *dir)
{
	DIR *entries = opendir(dir);
	struct dirent *entry;
	int n = 0;

	REQUIRE(entries);
	while ((entry = readdir(entries)))
		n += !strncmp(entry->d_name, ".gmemctl-", 9);
	closedir(entries);
	return n;
}

#define SMALL "/tmp/small"

/* Whatever goes wrong, an image that was there stays, and no other comes. */
TEST(failed_force)
{
	int fd = make(0, PAGES), context = xgmem_context();
	struct cli c;

	REQUIRE_OK(mkdir(SMALL, 0755));
	REQUIRE_OK(mount("tmpfs", SMALL, "tmpfs", 0, "size=128k"));
	cli_image(SMALL "/image", 8, PAGES, PAGES);
	c = cli("dump", "--force", name, SMALL "/image");
	CHECK_CLI(c, 1, "cannot write to " SMALL "/image: No space left on device");
	c = cli("dump", name, SMALL "/other");
	CHECK_CLI(c, 1, "cannot write to " SMALL "/other: No space left on device");
	CHECK_ERRNO(access(SMALL "/other", F_OK), ENOENT);

	REQUIRE_OK(gmem_punch(fd, 0, page_size()));
	REQUIRE_OK(gmem_watch(fd, context, 0, page_size(), GMEMFD_MODE_MISSING, 0, 0));
	c = cli("dump", "--force", name, SMALL "/image");
	CHECK_CLI(c, 1, "4 KiB have not been provided yet");
	REQUIRE_OK(gmem_unwatch(fd, 0, page_size()));
	REQUIRE_OK(gmem_poison(fd, 0, page_size(), 0));
	c = cli("dump", "--force", name, SMALL "/image");
	CHECK_CLI(c, 1, "4 KiB are poisoned");

	CHECK_EQ(leftovers(SMALL), 0);
	fd = REQUIRE_FD(open(SMALL "/image", O_RDONLY));
	for (size_t i = 0; i < 8; i++) {
		unsigned char page[4096];

		CHECK_EQ(read(fd, page, sizeof(page)), sizeof(page));
		CHECK(pattern_is(page, sizeof(page), i * page_size()));
	}
	close(fd);
	REQUIRE_OK(umount2(SMALL, MNT_DETACH));
	REQUIRE_OK(rmdir(SMALL));
}

/* The image that the memory is served from is replaced, not written to: who serves it goes on with the old one. */
TEST(force_onto_the_served_image)
{
	struct cli_vmm vmm;
	struct cli c;

	cli_image(IMAGE, PAGES, PAGES, PAGES);
	vmm = cli_vmm(PAGES * page_size(), "--quiet", "--no-background", "--image", IMAGE);
	snprintf(name, sizeof(name), "/proc/%d/fd/%s", vmm.command, vmm.number);
	c = cli("dump", "--force", name, IMAGE);
	CHECK_CLI(c, 1, "256 KiB have not been provided yet");
	CHECK_EQ(TOUCH_READ(vmm.map), 0);
	c = cli("dump", "--force", "--incomplete", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	for (size_t i = 0; i < PAGES; i++) {
		REQUIRE_EQ(TOUCH_READ(vmm.map + i * page_size()), 0);
		CHECK(pattern_is(vmm.map + i * page_size(), page_size(), i * page_size()));
	}
	c = cli("dump", "--force", name, IMAGE);
	CHECK_CLI(c, 0, NULL);
	check_image(0, PAGES);
	cli_vmm_end(&vmm);
}

static const struct ending {
	const char *label;
	int sig;
} endings[] = { { "int", SIGINT }, { "term", SIGTERM }, { "hangup", SIGHUP } };

/* Told to end in the middle it leaves nothing: neither an image nor a part of one. */
TEST_EACH(interrupted, struct ending, endings)
{
	size_t bytes = 256ull << 20;
	int fd = xgmem(bytes);
	struct cli c;

	REQUIRE_OK(gmem_zero(fd, 0, bytes, 0));
	snprintf(name, sizeof(name), "/proc/%d/fd/%d", getpid(), fd);
	/* On a busy machine it may come to its end before it is interrupted. */
	for (int tries = 0; tries < 10; tries++) {
		unlink(IMAGE);
		c = cli_run(-1, "dump", name, IMAGE);
		REQUIRE(wait_for(leftovers("/tmp") || !access(IMAGE, F_OK), 10));
		REQUIRE_OK(kill(c.pid, row->sig));
		cli_end(&c, 20);
		if (c.code)
			break;
		CHECK_OK(access(IMAGE, F_OK));
	}
	CHECK_CLI(c, 128 + row->sig, NULL);
	CHECK_EQ(leftovers("/tmp"), 0);
	CHECK_ERRNO(access(IMAGE, F_OK), ENOENT);
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
