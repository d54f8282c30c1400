// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device: opening it and failing to, what the module tells of itself, and the two kinds of contexts.
 */
#include "lib.h"

#include <linux/userfaultfd.h>

TEST(opens_the_device)
{
	int dev = MUST(gmemfd_open(NULL)), twin = MUST(gmemfd_open(GMEMFD_DEVICE));

	CHECK(dev != twin);
	CHECK_EQ(fcntl(dev, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(dev, F_GETFL) & O_ACCMODE, O_RDWR);
}

TEST(says_why_it_does_not_open)
{
	int lowest = REQUIRE_FD(open("/", O_PATH | O_CLOEXEC));

	REQUIRE_OK(close(lowest));
	CHECK_EQ(gmemfd_open("/dev/no-such-device"), -ENOENT);
	CHECK_EQ(gmemfd_open("/"), -EISDIR);
	CHECK_EQ(gmemfd_open("/dev/null"), -ENOTTY);
	CHECK_EQ(gmemfd_open("/proc/self/mem"), -ENOTTY);
	/* What was opened to find out is closed again. */
	CHECK_EQ(REQUIRE_FD(open("/", O_PATH | O_CLOEXEC)), lowest);
	REQUIRE_OK(setresuid(1000, 1000, 1000));
	CHECK_EQ(gmemfd_open(NULL), -EACCES);
}

TEST(info_tells_of_the_module)
{
	int dev = MUST(gmemfd_open(NULL));
	struct gmemfd_info info;

	memset(&info, 0xa5, sizeof(info));
	MUST(gmemfd_info(dev, &info, sizeof(info)));
	CHECK_EQ(info.abi, GMEMFD_ABI_VERSION);
	CHECK_EQ(info.flags, 0);
	CHECK(info.device_cmds & 1ull << _IOC_NR(GMEMFD_CREATE));
	CHECK(info.file_cmds & 1ull << _IOC_NR(GMEMFD_FILL));
	CHECK_EQ(info.event_size, sizeof(struct gmemfd_event));
	CHECK(info.max_ops > 0 && info.max_bytes > 0);
	/* The library, the module and these tests are made from one tree. */
	CHECK(!strcmp(info.version, gmemfd_lib_version()));
	CHECK(strchr(gmemfd_lib_version(), '.'));
}

TEST(info_of_another_size)
{
	int dev = MUST(gmemfd_open(NULL));
	struct {
		struct gmemfd_info info;
		char more[64];
		char behind[64];
	} room;

	memset(&room, 0xa5, sizeof(room));
	/* A program from after this module: what that does not know is zero. */
	MUST(gmemfd_info(dev, &room.info, sizeof(room.info) + sizeof(room.more)));
	CHECK_EQ(room.info.abi, GMEMFD_ABI_VERSION);
	CHECK(all_bytes_are(room.more, sizeof(room.more), 0));
	CHECK(all_bytes_are(room.behind, sizeof(room.behind), 0xa5));
	CHECK_EQ(gmemfd_info(dev, &room.info, sizeof(room.info) - 1), -EINVAL);
	CHECK_EQ(gmemfd_info(dev, &room.info, 4), -EINVAL);
	CHECK_EQ(gmemfd_info(dev, &room.info, 3), -EINVAL);
	CHECK_EQ(gmemfd_info(dev, &room.info, 0), -EINVAL);
	CHECK_EQ(gmemfd_info(dev, &room.info, 4097), -E2BIG);
	CHECK_EQ(gmemfd_info(dev, &room.info, SIZE_MAX), -E2BIG);
	CHECK(all_bytes_are(room.behind, sizeof(room.behind), 0xa5));
	CHECK_EQ(gmemfd_info(-1, &room.info, sizeof(room.info)), -EBADF);
	CHECK_EQ(gmemfd_info(REQUIRE_FD(open("/", O_RDONLY)), &room.info, sizeof(room.info)), -ENOTTY);
}

static const struct flags_row {
	const char *label;
	int (*make)(int dev, int flags);
	int flags;
	int status;		/* that the descriptor has then, or -errno */
} flags[] = {
	{ "context", gmemfd_context, 0, 0 },
	{ "context_nonblock", gmemfd_context, O_NONBLOCK, O_NONBLOCK },
	{ "context_cloexec", gmemfd_context, O_CLOEXEC, 0 },
	{ "context_append", gmemfd_context, O_APPEND, -EINVAL },
	{ "context_user_mode", gmemfd_context, UFFD_USER_MODE_ONLY, -EINVAL },
	{ "context_negative", gmemfd_context, -1, -EINVAL },
	{ "userfaultfd", gmemfd_userfaultfd, 0, 0 },
	{ "userfaultfd_nonblock", gmemfd_userfaultfd, O_NONBLOCK, O_NONBLOCK },
	{ "userfaultfd_cloexec", gmemfd_userfaultfd, O_CLOEXEC, 0 },
	{ "userfaultfd_user_mode", gmemfd_userfaultfd, UFFD_USER_MODE_ONLY, 0 },
	{ "userfaultfd_append", gmemfd_userfaultfd, O_APPEND, -EINVAL },
	{ "userfaultfd_negative", gmemfd_userfaultfd, -1, -EINVAL },
};

TEST_EACH(flags_of, struct flags_row, flags)
{
	int dev = MUST(gmemfd_open(NULL)), fd = row->make(dev, row->flags);

	if (row->status < 0) {
		CHECK_EQ(fd, row->status);
		return;
	}
	REQUIRE(fd >= 0);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, row->status);
}

TEST(context_of_what_is_no_device)
{
	int null = REQUIRE_FD(open("/dev/null", O_RDWR | O_CLOEXEC));

	CHECK_EQ(gmemfd_context(-1, 0), -EBADF);
	CHECK_EQ(gmemfd_context(null, 0), -ENOTTY);
	CHECK_EQ(gmemfd_userfaultfd(-1, 0), -EBADF);
	CHECK_EQ(gmemfd_userfaultfd(null, 0), -ENOTTY);
}

/* It is of the kind that the module calls by this name: UFFDIO_API is answered, GMEMFD_WATCH is not. */
TEST(userfaultfd_speaks_its_abi)
{
	struct lib_rig rig = lib_rig(1);
	int uffd = MUST(gmemfd_userfaultfd(rig.dev, O_NONBLOCK));
	struct uffdio_api api = { .api = UFFD_API };

	CHECK_EQ(gmemfd_watch(rig.fd, uffd, 0, rig.bytes, NULL), -EBADF);
	CHECK_OK(ioctl(uffd, UFFDIO_API, &api));
	CHECK(api.features & UFFD_FEATURE_MISSING_SHMEM);
}
