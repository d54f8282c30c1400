// SPDX-License-Identifier: GPL-2.0-only
/*
 * Images that are none, do not fit, cannot be read, or change: what is said, and what who touches the memory meets.
 */
#include "cli.h"

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "gmem.h"

#define PAGES 64
#define IMAGE "/tmp/image"

static size_t bytes(void)
{
	return PAGES * page_size();
}

static bool has_image(const struct cli_vmm *vmm, size_t page)
{
	return TOUCH_READ(vmm->map + page * page_size()) == 0 &&
	       pattern_is(vmm->map + page * page_size(), page_size(), page * page_size());
}

static const struct refused {
	const char *label;
	const char *content;	/* what the image begins with */
	long size;		/* and is cut or extended to; 0: it is not made */
	const char *options[5];
	int code;
	const char *says;
} refused[] = {
	{ "missing", "", 0, { NULL }, 1, "cannot open the image /tmp/image: No such file or directory" },
	{ "empty", "", -1, { NULL }, 1, "the image /tmp/image is empty" },
	{ "odd", "x", 4097, { NULL }, 1, "4097 bytes are no multiple of the page size" },
	{ "odd_for_huge", "x", 8192, { "--huge" }, 1, "8192 bytes are no multiple of the page size of 2097152" },
	{ "short", "x", 4096, { "--size", "8192" }, 1, "has 4096 bytes and --size says 8192: it is too short" },
	{ "long", "x", 8192, { "--size", "4096" }, 1, "has 8192 bytes and --size says 4096: it is too long" },
	{ "odd_size", "x", 4096, { "--size", "4097" }, 2, "--size: 4097 is no multiple of the page size" },
	{ "no_size", "x", 4096, { "--size", "4k5" }, 2, "--size: '4k5' is no size" },
	{ "no_size_at_all", "x", 4096, { "--size", "0" }, 2, "--size: '0' is no size" },
	{ "too_large", "x", 0, { "--image", "-", "--size", "99999999T" }, 2, "is no size" },
	{ "zstd", "\x28\xb5\x2f\xfd", 4096, { NULL }, 1, "is compressed with zstd" },
	{ "xz", "\xfd\67zXZ", 4096, { NULL }, 1, "is compressed with xz" },
	{ "lz4", "\x04\x22\x4d\x18", 4096, { NULL }, 1, "is compressed with lz4" },
	{ "qcow2", "QFI\xfb", 4096, { NULL }, 1, "is in QEMU's qcow2 format" },
	{ "zstd_direct", "\x28\xb5\x2f\xfd", 4096, { "--direct" }, 1, "is compressed with zstd" },
	{ "directory", "x", 4096, { "--image", "/tmp" }, 1, "the image /tmp is a directory" },
	{ "device", "x", 4096, { "--image", "/dev/zero" }, 1, "is neither a file nor a block device" },
	{ "stream_without_size", "x", 4096, { "--image", "-" }, 2, "--size is missing" },
	{ "stream_with_state", "x", 4096, { "--image", "-", "--size=4096", "--state=/tmp/s" }, 2,
	  "--state is of no use" },
	{ "rate", "x", 4096, { "--rate", "fast" }, 2, "--rate: 'fast' is no rate" },
	{ "rate_zero", "x", 4096, { "--rate", "0" }, 2, "'0' is no rate: say bytes a second, " },
	{ "policy", "x", 4096, { "--policy", "release" }, 2, "would show zeros" },
	{ "no_policy", "x", 4096, { "--policy", "keep" }, 2, "'keep' is no policy" },
	{ "state_elsewhere", "x", 4096, { "--state", "/nowhere/state" }, 1, "cannot open the state file" },
	{ "state_directory", "x", 4096, { "--state", "/tmp" }, 1, "the state file" },
	{ "state_odd", "x", 4096, { "--state", IMAGE }, 1, "is there already, of another run" },
};

TEST_EACH(refused_image, struct refused, refused)
{
	const char *args[24] = { "run", "--image", IMAGE };
	int n = 3, fd;
	struct cli c;

	unlink(IMAGE);
	if (row->size) {
		fd = REQUIRE_FD(open(IMAGE, O_RDWR | O_CREAT, 0600));
		REQUIRE(pwrite(fd, row->content, strlen(row->content), 0) >= 0);
		REQUIRE_OK(ftruncate(fd, row->size < 0 ? 0 : row->size));
		close(fd);
	}
	for (int i = 0; row->options[i]; i++) {
		args[n++] = row->options[i];
		if (strcmp(row->options[i], "--direct"))
			continue;
		fd = open(IMAGE, O_RDONLY | O_DIRECT | O_CLOEXEC);
		if (fd < 0)
			SKIP("this kernel's tmpfs has no O_DIRECT");
		close(fd);
	}
	args[n++] = "--";
	args[n++] = BUSYBOX;
	args[n++] = "touch";
	args[n++] = "/tmp/started{fd}";
	c = cli_start(-1, args);
	cli_end(&c, 20);
	CHECK_CLI(c, row->code, row->says);
	/* No command was started. */
	CHECK(!cli_child_now(c.pid, "busybox", 0));
	CHECK_EQ(access("/tmp/started3", F_OK), -1);
}

/* Told before anything is started, not by a signal when the disk fills up. */
TEST(no_room_for_state)
{
	struct cli c;

	unlink(IMAGE);
	close(REQUIRE_FD(open(IMAGE, O_RDWR | O_CREAT, 0600)));
	REQUIRE_OK(truncate(IMAGE, 1 << 30));
	mkdir("/tmp/full", 0700);
	REQUIRE_OK(mount("full", "/tmp/full", "tmpfs", 0, "size=16k"));
	c = cli("run", "--image", IMAGE, "--state", "/tmp/full/state", "--", BUSYBOX, "true{fd}");
	CHECK_CLI(c, 1, "no room for the state file /tmp/full/state, of 64.");
	CHECK_ERRNO(access("/tmp/full/state", F_OK), ENOENT);
	REQUIRE_OK(umount("/tmp/full"));
	REQUIRE_OK(rmdir("/tmp/full"));
}

TEST(cut_while_served)
{
	struct cli_vmm vmm;

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background");
	CHECK(has_image(&vmm, 0));
	CHECK(has_image(&vmm, 20));
	REQUIRE_OK(truncate(IMAGE, bytes() / 2));
	CHECK_EQ(TOUCH_READ(vmm.map + 50 * page_size()), SIGBUS);
	CHECK_EQ(touch_last.code, BUS_MCEERR_AR);
	CHECK(cli_says(&vmm.run, "was changed while it is served"));
	/* What had been provided stays. */
	CHECK(has_image(&vmm, 0));
	CHECK(has_image(&vmm, 20));
	cli_vmm_end(&vmm);
}

TEST(written_while_served)
{
	struct cli_vmm vmm;
	const char *said;
	int fd;

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background");
	CHECK(has_image(&vmm, 0));
	sleep_seconds(0.05);
	fd = REQUIRE_FD(open(IMAGE, O_WRONLY));
	REQUIRE_EQ(pwrite(fd, "x", 1, 40 * page_size()), 1);
	close(fd);
	CHECK_EQ(TOUCH_READ(vmm.map + 40 * page_size()), SIGBUS);
	CHECK(cli_says(&vmm.run, "was changed while it is served"));
	CHECK(has_image(&vmm, 0));
	/* Said once. */
	CHECK_EQ(TOUCH_READ(vmm.map + 60 * page_size()), SIGBUS);
	said = strstr(cli_err(&vmm.run), "was changed");
	CHECK(said && !strstr(said + 1, "was changed"));
	cli_vmm_end(&vmm);
}

/* A page of the image whose memory breaks: reading it is EIO. */
TEST(unreadable)
{
	struct gmemfd_stats stats;
	struct cli_vmm vmm;
	char want[96];

	cli_image(IMAGE, PAGES, 0, 0);
	cli_break_page(IMAGE, 30);
	vmm = cli_vmm(bytes(), "--image", IMAGE);
	REQUIRE(cli_says(&vmm.run, "has been provided"));
	snprintf(want, sizeof(want), "cannot be read from byte %zu to %zu:", 30 * page_size(), 31 * page_size());
	CHECK(cli_says(&vmm.run, want));
	for (size_t page = 0; page < PAGES; page++) {
		if (page == 30)
			CHECK_EQ(TOUCH_READ(vmm.map + page * page_size()), SIGBUS);
		else
			CHECK(has_image(&vmm, page));
	}
	stats = xgmem_stats(vmm.fd);
	CHECK_EQ(stats.poisoned, page_size());
	cli_vmm_end(&vmm);
}

/* A pipe whose other end writes so much of the image, and then closes, or waits. */
static int image_stream(size_t len, bool wait)
{
	char page[4096];
	int fds[2];

	REQUIRE_OK(pipe2(fds, O_CLOEXEC));
	if (!REQUIRE_OK(fork())) {
		close(fds[0]);
		signal(SIGPIPE, SIG_IGN);
		for (size_t at = 0; at < len; at += sizeof(page)) {
			pattern_fill(page, sizeof(page), at);
			if (write(fds[1], page, len - at < sizeof(page) ? len - at : sizeof(page)) < 0)
				break;
		}
		while (wait)
			pause();
		_exit(0);
	}
	close(fds[1]);
	return fds[0];
}

TEST(short_stream)
{
	static const char *const options[] = { "--image", "-", "--size", "256K", NULL };
	struct cli_vmm vmm;

	vmm = cli_vmm_start(image_stream(20 * page_size() + 100, false), bytes(), options);
	CHECK(cli_says(&vmm.run, "the image on stdin ended at byte 82020 of 262144 (it is too short)"));
	CHECK(has_image(&vmm, 0));
	CHECK(has_image(&vmm, 19));
	CHECK_EQ(TOUCH_READ(vmm.map + 20 * page_size()), SIGBUS);
	CHECK_EQ(TOUCH_READ(vmm.map + 63 * page_size()), SIGBUS);
	cli_vmm_end(&vmm);
	wait(NULL);
}

TEST(packed_stream)
{
	int fds[2];
	struct cli c;

	REQUIRE_OK(pipe2(fds, O_CLOEXEC));
	REQUIRE_EQ(write(fds[1], "\x28\xb5\x2f", 3), 3);
	c = cli_run(fds[0], "run", "--image", "-", "--size", "256K", "--", BUSYBOX, "touch", "/tmp/started{fd}");
	close(fds[0]);
	sleep_seconds(0.1);
	REQUIRE_EQ(write(fds[1], "\xfd....", 5), 5);
	cli_end(&c, 10);
	CHECK_CLI(c, 1, "is compressed with zstd");
	close(fds[1]);
}

/* What somebody else has provided does not keep what comes behind it from being poisoned. */
TEST(short_stream_with_content)
{
	static const char *const options[] = { "--image", "-", "--size", "256K", NULL };
	struct cli_vmm vmm;
	char page[4096];
	int fds[2];

	REQUIRE_OK(pipe2(fds, O_CLOEXEC));
	for (size_t at = 0; at < 4 * page_size(); at += sizeof(page)) {
		pattern_fill(page, sizeof(page), at);
		REQUIRE_EQ(write(fds[1], page, sizeof(page)), sizeof(page));
	}
	vmm = cli_vmm_start(fds[0], bytes(), options);
	close(fds[0]);
	REQUIRE(wait_for(xgmem_stats(vmm.fd).watches, 10));
	REQUIRE_OK(gmem_zero(vmm.fd, 30 * page_size(), 2 * page_size(), 0));
	REQUIRE_OK(gmem_zero(vmm.fd, 40 * page_size(), page_size(), 0));
	close(fds[1]);
	REQUIRE(cli_says(&vmm.run, "the image on stdin ended at byte 16384 of 262144 (it is too short)"));
	for (size_t at = 0; at < PAGES; at++) {
		if (at < 4)
			CHECK(has_image(&vmm, at));
		else if (at == 30 || at == 31 || at == 40)
			CHECK_EQ(TOUCH_READ(vmm.map + at * page_size()), 0);
		else
			CHECK_EQ(TOUCH_READ(vmm.map + at * page_size()), SIGBUS);
	}
	cli_vmm_end(&vmm);
}

/* A stream that breaks off says why, and the figures tell who has waited for it. */
TEST(broken_stream)
{
	static const char *const options[] = { "--image", "-", "--size", "256K", "--json", NULL };
	struct gmem_toucher waiting;
	struct cli_vmm vmm;
	char page[4096];
	int fds[2];

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	/* What its peer has sent and it does not read makes the end of it a reset. */
	REQUIRE_EQ(write(fds[0], "x", 1), 1);
	pattern_fill(page, sizeof(page), 0);
	REQUIRE_EQ(write(fds[1], page, sizeof(page)), sizeof(page));
	vmm = cli_vmm_start(fds[0], bytes(), options);
	close(fds[0]);
	waiting = (struct gmem_toucher){ .addr = vmm.map + 40 * page_size() };
	gmem_toucher_start(&waiting);
	REQUIRE(gmem_waiters(vmm.fd, 1, 10));
	close(fds[1]);
	CHECK_EQ(gmem_toucher_join(&waiting), -1);
	CHECK(cli_says(&vmm.run, "ended at byte 4096 of 262144 (Connection reset by peer)"));
	cli_vmm_end(&vmm);
	CHECK_EQ(cli_json(vmm.run.err, "\"end\"", "faults"), 1);
}

TEST(long_stream)
{
	static const char *const options[] = { "--image", "-", "--size", "256K", NULL };
	struct cli_vmm vmm;

	vmm = cli_vmm_start(image_stream(65 * page_size(), false), bytes(), options);
	CHECK(cli_says(&vmm.run, "is longer than --size"));
	for (size_t page = 0; page < PAGES; page++)
		CHECK(has_image(&vmm, page));
	cli_vmm_end(&vmm);
	wait(NULL);
}

/* Who touches what has not come yet waits; and when the server dies, the rest cannot be had. */
TEST(stream_and_death)
{
	static const char *const options[] = { "--image", "-", "--size", "256K", NULL };
	struct gmem_toucher waiting;
	struct cli_vmm vmm;

	tap_allow_leftovers();
	vmm = cli_vmm_start(image_stream(32 * page_size(), true), bytes(), options);
	waiting = (struct gmem_toucher){ .addr = vmm.map + 40 * page_size() };
	gmem_toucher_start(&waiting);
	REQUIRE(gmem_waiters(vmm.fd, 1, 10));
	REQUIRE_OK(kill(cli_server(vmm.run.pid, 0), SIGKILL));
	CHECK_EQ(gmem_toucher_join(&waiting), -1);
	CHECK_EQ(waiting.sig, SIGBUS);
	CHECK(cli_says(&vmm.run, "the rest of the stream cannot be had"));
	cli_vmm_end(&vmm);
}
