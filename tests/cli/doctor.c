// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl doctor: on the machine that runs, and on machines that are made up below a directory, each with one thing
 * wrong.
 */
#include "cli.h"

#include <sys/stat.h>
#include <sys/utsname.h>

CLI_PLAIN

#define ROOT "/tmp/machine"
#define KERNEL "6.12.0-test"
#define SECURE_BOOT "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

/* Writes a file below ROOT, with the directories above it. */
static void put(const char *path, const void *content, size_t len)
{
	char name[256], *slash;
	int fd;

	snprintf(name, sizeof(name), ROOT "%s", path);
	for (slash = name + 5; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		mkdir(name, 0755);
		*slash = '/';
	}
	fd = REQUIRE_FD(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
	REQUIRE_EQ(write(fd, content, len), len);
	close(fd);
}

static void text(const char *path, const char *content)
{
	put(path, content, strlen(content));
}

static void clear(void)
{
	pid_t pid = REQUIRE_OK(fork());

	if (!pid) {
		execl(BUSYBOX, BUSYBOX, "rm", "-rf", ROOT, NULL);
		_exit(1);
	}
	REQUIRE_EQ(child_wait(pid, 10), 0);
	REQUIRE_OK(mkdir(ROOT, 0755));
}

/* The part of the JSON about one thing: is its state this, and does what it says contain that? */
static void check_finding(const struct cli *c, const char *what, const char *state, const char *says)
{
	char key[64], want[64], *copy;
	const char *at, *end;

	snprintf(key, sizeof(key), "\"what\": \"%s\"", what);
	at = strstr(c->out, key);
	REQUIRE(at);
	end = strchr(at, '}');
	REQUIRE(end);
	copy = strndup(at, end - at);
	snprintf(want, sizeof(want), "\"state\": \"%s\"", state);
	if (!strstr(copy, want) || !strstr(copy, says))
		tap_diag("%s", copy);
	CHECK(strstr(copy, want));
	CHECK(strstr(copy, says));
	free(copy);
}

/* Here the module was loaded by hand; everything else is in order. */
TEST(this_machine)
{
	struct utsname kernel;
	struct cli c = cli("doctor", "--json");

	uname(&kernel);
	CHECK_CLI(c, 3, NULL);
	CHECK(strstr(c.out, kernel.release));
	check_finding(&c, "kernel", "ok", "is supported");
	check_finding(&c, "module", "bad", "there is none for");
	check_finding(&c, "loaded", "ok", "version ");
	check_finding(&c, "device", "ok", "answers: ABI 1");
	c = cli("doctor");
	CHECK_EQ(c.code, 3);
	CHECK(strstr(c.out, "ok       loaded "));
	CHECK(strstr(c.out, "bad      module "));
	CHECK(strstr(c.out, "-> in gmemfd's source: make dkms-install"));
}

TEST(nothing_there)
{
	struct cli c;

	clear();
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	CHECK_CLI(c, 3, NULL);
	check_finding(&c, "kernel", "ok", KERNEL " is supported");
	check_finding(&c, "module", "bad", "there is none for " KERNEL);
	check_finding(&c, "headers", "bad", "apt install linux-headers-" KERNEL);
	check_finding(&c, "dkms", "bad", "DKMS does not know gmemfd, and is not installed");
	check_finding(&c, "secure boot", "ok", "not booted by EFI");
	check_finding(&c, "signature", "unknown", "no module");
	check_finding(&c, "loaded", "bad", "the module is not loaded");
	check_finding(&c, "device", "bad", "there is no /dev/gmemfd");
	check_finding(&c, "kvm", "warning", "there is no /dev/kvm");
	CHECK(strstr(c.out, "\"usable\": false"));
	text("/usr/bin/dnf", "");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "headers", "bad", "dnf install kernel-devel-" KERNEL);
}

TEST(kernels)
{
	struct cli c;

	clear();
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", "5.10.0-1");
	check_finding(&c, "kernel", "bad", "older than 6.1");
	CHECK_EQ(c.code, 3);
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", "6.1.0-1");
	check_finding(&c, "kernel", "ok", "supported");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", "99.1");
	check_finding(&c, "kernel", "warning", "newer than");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", "mine");
	check_finding(&c, "kernel", "unknown", "no version");
}

TEST(dkms)
{
	struct cli c;

	clear();
	text("/usr/sbin/dkms", "");
	text("/lib/modules/" KERNEL "/build/Makefile", "");
	text("/var/lib/dkms/gmemfd/0.0.9/source", "");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "headers", "ok", "installed");
	check_finding(&c, "dkms", "bad", "has not built it for " KERNEL);
	text("/var/lib/dkms/gmemfd/0.0.9/" KERNEL "/x86_64/log/make.log", "");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "dkms", "warning", "DKMS has built gmemfd 0.0.9");
}

TEST(loaded)
{
	struct cli c;

	clear();
	text("/sys/module/gmemfd/version", "0.0.9\n");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "loaded", "bad", "is of version 0.0.9");
	check_finding(&c, "device", "bad", "is devtmpfs mounted");
}

/* The module that is tested, as if it were installed. */
static bool install_module(const char *path)
{
	char *module = NULL;
	struct stat st;
	pid_t pid;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return false;
	REQUIRE_OK(fstat(fd, &st));
	module = malloc(st.st_size);
	REQUIRE_EQ(read(fd, module, st.st_size), st.st_size);
	put("/lib/modules/" KERNEL "/updates/gmemfd.ko", module, st.st_size);
	free(module);
	close(fd);
	pid = REQUIRE_OK(fork());
	if (!pid) {
		execl("/usr/bin/kmod", "depmod", "-b", ROOT, KERNEL, NULL);
		_exit(1);
	}
	REQUIRE_EQ(child_wait(pid, 10), 0);
	return true;
}

TEST(secure_boot)
{
	struct cli c;

	clear();
	if (!install_module("/lib.ko"))
		SKIP("the module is not in this guest");
	text("/sys/module/module/parameters/sig_enforce", "N\n");
	put(SECURE_BOOT, "\6\0\0\0\0", 5);
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "module", "ok", "updates/gmemfd.ko");
	check_finding(&c, "secure boot", "ok", "off; modules need no signature");
	check_finding(&c, "signature", "ok", "is not signed, and need not be");
	put(SECURE_BOOT, "\6\0\0\0\1", 5);
	text("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "secure boot", "ok", "on; modules have to be signed");
	check_finding(&c, "signature", "bad", "is not signed");
	text("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
	text("/sys/module/module/parameters/sig_enforce", "Y\n");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "signature", "bad", "is not signed");
	put(SECURE_BOOT, "\6", 1);
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "secure boot", "unknown", "cannot be read");
}

/* A module of the distribution's, which is signed, in the place of ours. */
TEST(signature)
{
	struct cli c;
	char line[256], *signer, *end;

	clear();
	if (!install_module("/lib/irqbypass.ko"))
		SKIP("irqbypass is no module of this kernel");
	text("/sys/module/module/parameters/sig_enforce", "Y\n");
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	if (strstr(c.out, "the module is not signed"))
		SKIP("the modules of this kernel are not signed");
	check_finding(&c, "signature", "warning", "is not shown to you");
	signer = strstr(c.out, "is signed by '");
	REQUIRE(signer);
	signer += strlen("is signed by '");
	end = strchr(signer, '\'');
	REQUIRE(end);
	*end = 0;
	snprintf(line, sizeof(line), "0f I------ 1 perm 1f030000 0 0 asymmetri Somebody Else: 01ab: X509.rsa 01ab []\n"
		 "10 I------ 1 perm 1f030000 0 0 keyring .x: %s: 1\n", signer);
	text("/proc/keys", line);
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "signature", "bad", "whom the kernel does not know");
	check_finding(&c, "signature", "bad", "mokutil --import");
	snprintf(line, sizeof(line), "0f I------ 1 perm 1f030000 0 0 asymmetri %s: 01ab: X509.rsa 01ab []\n", signer);
	text("/proc/keys", line);
	c = cli("doctor", "--json", "--root", ROOT, "--kernel", KERNEL);
	check_finding(&c, "signature", "ok", "whom the kernel knows");
}
