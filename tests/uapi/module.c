// SPDX-License-Identifier: GPL-2.0-only
/*
 * What loading the module brings: a device node that root alone may open, and a module that says what it is.
 */
#include "tap.h"

#include <sys/stat.h>

TEST(device_node_is_there)
{
	struct stat st;

	REQUIRE_OK(stat("/dev/gmemfd", &st));
	CHECK(S_ISCHR(st.st_mode));
	CHECK_EQ(st.st_mode & 077, 0);
}

TEST(device_opens)
{
	int fd = REQUIRE_FD(open("/dev/gmemfd", O_RDWR | O_CLOEXEC));

	CHECK_OK(close(fd));
}

TEST(open_device_pins_the_module)
{
	long long before = read_number("/sys/module/gmemfd/refcnt");
	int fd = REQUIRE_FD(open("/dev/gmemfd", O_RDWR | O_CLOEXEC));

	CHECK_EQ(read_number("/sys/module/gmemfd/refcnt"), before + 1);
	CHECK_OK(close(fd));
	CHECK(wait_for(read_number("/sys/module/gmemfd/refcnt") == before, 5));
}

TEST(unknown_commands_are_refused)
{
	int fd = REQUIRE_FD(open("/dev/gmemfd", O_RDWR | O_CLOEXEC));

	CHECK_ERRNO(ioctl(fd, _IO(0xff, 0xff), 0), ENOTTY);
	CHECK_ERRNO(ioctl(fd, 0, 0), ENOTTY);
}
