// SPDX-License-Identifier: GPL-2.0-only
/*
 * A gmem file under a loop device: the kernel thread that reads it is nobody's, and does not wait.
 */
#include "trap.h"

#include <linux/loop.h>

#define PAGES 16

struct read_args {
	int fd;
	void *to;
	size_t len;
	off_t offset;
};

static long read_start(void *arg)
{
	struct read_args *a = arg;

	return pread(a->fd, a->to, a->len, a->offset);
}

/* A loop device of the file, open for direct reading. */
static int loop_of(int fd)
{
	struct loop_config config = { .fd = fd, .info.lo_flags = LO_FLAGS_READ_ONLY };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), nr, loop;
	char path[32];

	if (control < 0)
		SKIP("no loop devices: %s", strerror(errno));
	nr = REQUIRE_OK(ioctl(control, LOOP_CTL_GET_FREE));
	close(control);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	loop = REQUIRE_FD(open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));
	REQUIRE_OK(ioctl(loop, LOOP_CONFIGURE, &config));
	return loop;
}

TEST(loop_device_does_not_wait)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	size_t g = rig.granule;
	struct read_args args = { .to = xmmap_anon(g), .len = g, .offset = 5 * g };
	struct trap_task task;

	REQUIRE_OK(trap_copy(rig.fd, 3 * g, g, 0));
	args.fd = loop_of(rig.fd);
	CHECK_EQ(pread(args.fd, args.to, g, 3 * g), g);
	CHECK(pattern_is(args.to, g, 3 * g));
	trap_start(&task, read_start, &args);
	CHECK(trap_done(&task, 5));
	/* Were it to wait after all, this would end it. */
	REQUIRE_OK(trap_copy(rig.fd, 5 * g, g, 0));
	CHECK_EQ(trap_result(&task), -1);
	CHECK_EQ(task.err, EIO);
	CHECK(trap_quiet(rig.context));
	CHECK_EQ(pread(args.fd, args.to, g, 5 * g), g);
	CHECK(pattern_is(args.to, g, 5 * g));
	CHECK_OK(ioctl(args.fd, LOOP_CLR_FD));
	close(args.fd);
}
