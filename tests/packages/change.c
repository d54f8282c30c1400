// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tool and module of two versions, as they meet when one package has been upgraded and the old module is still
 * loaded; and a kernel that takes signed modules only. Both find the modules as DKMS has built them, and the tools of
 * their packages: /old and /new, each with gmemctl, its library and gmemfd.ko; /unsigned.ko is not signed.
 */
#include "tool.h"

#include <sys/stat.h>
#include <sys/utsname.h>

#define IMAGE "/tmp/image"
#define ENFORCE "/sys/module/module/parameters/sig_enforce"

static const struct pair {
	const char *label, *tool, *module;
	bool same;
} pairs[] = {
	{ "old_and_old", "/old", "/old/gmemfd.ko", true },
	{ "new_tool_old_module", "/new", "/old/gmemfd.ko", false },
	{ "old_tool_new_module", "/old", "/new/gmemfd.ko", false },
};

TEST_EACH(pair_works, struct pair, pairs)
{
	char gmemctl[64];
	int code;

	snprintf(gmemctl, sizeof(gmemctl), "%s/gmemctl", row->tool);
	make_image(IMAGE, 1 << 20);
	REQUIRE_OK(load(row->module));
	code = COMMAND(0, row->tool, gmemctl, "run", "--image", IMAGE, "--", "/bin/busybox", "cmp", "{path}", IMAGE);
	CHECK_SAID(code, 0, "");
	code = COMMAND(0, row->tool, gmemctl, "doctor");
	if (!row->same)
		CHECK_SAID(code, 3, "modprobe -r gmemfd && modprobe gmemfd");
	/* An upgrade ends with this, once the last virtual machine is gone. */
	CHECK(wait_for(!syscall(SYS_delete_module, "gmemfd", O_NONBLOCK), 5));
}

/* The file that modprobe would take; the index beside it is the one of the system where DKMS has put it. */
static void install(const char *module)
{
	static char buffer[1 << 20];
	struct utsname name;
	char path[256];
	int from, to;
	ssize_t n;

	REQUIRE_OK(uname(&name));
	snprintf(path, sizeof(path), "/lib/modules/%s/updates/dkms/gmemfd.ko", name.release);
	from = REQUIRE_FD(open(module, O_RDONLY));
	to = REQUIRE_FD(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		REQUIRE_EQ(write(to, buffer, n), n);
	REQUIRE_EQ(n, 0);
	close(from);
	close(to);
}

/* The same as module.sig_enforce=1 on the kernel's command line. It cannot be taken back, so these are the last. */
static const struct refused {
	const char *label, *module, *state, *cure;
} refused[] = {
	{ "unsigned", "/unsigned.ko", "the module is not signed", "apt install openssl && " },
	{ "key_not_enrolled", "/old/gmemfd.ko", "'DKMS module signing key', whom the kernel does not know",
	  "mokutil --import /var/lib/dkms/mok.pub" },
};

TEST_EACH(enforced, struct refused, refused)
{
	int code;

	install(row->module);
	if (row == refused) {
		code = COMMAND(0, "/old", "/old/gmemctl", "doctor");
		CHECK_SAID(code, 3, "the module is not signed, and need not be");
	}
	REQUIRE_OK(write_file(ENFORCE, "1"));
	CHECK_ERRNO(load(row->module), EKEYREJECTED);
	code = COMMAND(0, "/old", "/old/gmemctl", "doctor");
	CHECK_SAID(code, 3, row->state);
	CHECK_SAID(code, 3, row->cure);
	CHECK_SAID(code, 3, "signed modules only");
}
