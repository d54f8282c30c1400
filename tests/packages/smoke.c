// SPDX-License-Identifier: GPL-2.0-only
/*
 * A machine on which the packages were installed, with the module that DKMS has built: udev gives the device to the
 * group kvm, whoever is in it can have memory served, and others are told what is missing.
 */
#include "tool.h"

#include <sys/stat.h>

#define IMAGE "/tmp/image"
#define GMEMCTL "/usr/bin/gmemctl"

static bool is_for_kvm(void)
{
	struct stat st;

	REQUIRE_OK(stat("/dev/gmemfd", &st));
	return st.st_uid == 0 && st.st_gid == KVM_GROUP && (st.st_mode & 07777) == 0660;
}

TEST(device_is_for_group_kvm)
{
	CHECK(!is_for_kvm());
	CHECK_OK(mkdir("/run", 0755));
	CHECK_EQ(COMMAND(0, NULL, "/usr/lib/systemd/systemd-udevd", "--daemon"), 0);
	CHECK_EQ(COMMAND(0, NULL, "/usr/bin/udevadm", "trigger", "--action=add", "--sysname-match=gmemfd"), 0);
	CHECK_EQ(COMMAND(0, NULL, "/usr/bin/udevadm", "settle", "--timeout=15"), 0);
	CHECK(is_for_kvm());
	CHECK_EQ(COMMAND(0, NULL, "/usr/bin/udevadm", "control", "--exit"), 0);
}

TEST(member_of_kvm_is_served)
{
	int code;

	make_image(IMAGE, 4 << 20);
	code = COMMAND(KVM_GROUP, NULL, GMEMCTL, "run", "--image", IMAGE, "--", "/bin/busybox", "cmp", "{path}", IMAGE);
	CHECK_SAID(code, 0, "");
	CHECK_SAID(COMMAND(KVM_GROUP, NULL, GMEMCTL, "doctor"), 3, "/dev/gmemfd (mode 0660, group kvm) answers");
}

TEST(stranger_is_told_what_is_missing)
{
	make_image(IMAGE, 4096);
	CHECK_SAID(COMMAND(1000, NULL, GMEMCTL, "run", "--image", IMAGE, "--", "/bin/busybox", "true", "{path}"),
		   1, "no right to open /dev/gmemfd");
	CHECK_SAID(COMMAND(1000, NULL, GMEMCTL, "doctor"), 3, "usermod -aG kvm USER");
}
