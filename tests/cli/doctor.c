// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl doctor: on the machine that runs, and on machines that are made up below a directory, each with one thing
 * wrong.
 */
#include "cli.h"

#include <json-c/json.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/* Whatever is not in order comes with what mends it. */
static void check_cures(const struct cli *c)
{
	struct json_object *report = json_tokener_parse(c->out), *findings, *finding, *state, *cure;

	REQUIRE(json_object_object_get_ex(report, "findings", &findings));
	CHECK(json_object_array_length(findings) >= 9);
	for (size_t i = 0; i < json_object_array_length(findings); i++) {
		finding = json_object_array_get_idx(findings, i);
		REQUIRE(json_object_object_get_ex(finding, "state", &state));
		REQUIRE(json_object_object_get_ex(finding, "cure", &cure));
		if (!CHECK(!strcmp(json_object_get_string(state), "ok") || cure))
			tap_diag("%s", json_object_to_json_string(finding));
	}
	json_object_put(report);
}

static struct cli look(const char *kernel)
{
	struct cli c = cli("doctor", "--json", "--root", ROOT, "--kernel", kernel);

	CHECK(!*c.err);
	check_cures(&c);
	return c;
}

/* Here the module was loaded by hand; everything else is in order. */
TEST(this_machine)
{
	struct utsname kernel;
	struct cli c = cli("doctor", "--json");

	uname(&kernel);
	CHECK_CLI(c, 3, NULL);
	check_cures(&c);
	CHECK(strstr(c.out, kernel.release));
	check_finding(&c, "kernel", "ok", "is supported");
	check_finding(&c, "module", "bad", "there is none for");
	check_finding(&c, "loaded", "ok", "version ");
	check_finding(&c, "device", "ok", "answers: ABI 1");
	c = cli("doctor");
	CHECK_EQ(c.code, 3);
	CHECK(strstr(c.out, "ok       loaded "));
	CHECK(strstr(c.out, "bad      module "));
	CHECK(strstr(c.out, "-> apt install gmemfd-dkms (from source: make dkms-install)"));
}

TEST(nothing_there)
{
	struct cli c;

	clear();
	c = look(KERNEL);
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
	c = look(KERNEL);
	check_finding(&c, "headers", "bad", "dnf install kernel-devel-" KERNEL);
}

TEST(kernels)
{
	struct cli c;

	clear();
	c = look("5.10.0-1");
	check_finding(&c, "kernel", "bad", "older than 6.1");
	CHECK_EQ(c.code, 3);
	c = look("6.1.0-1");
	check_finding(&c, "kernel", "ok", "supported");
	c = look("99.1");
	check_finding(&c, "kernel", "warning", "newer than");
	c = look("mine");
	check_finding(&c, "kernel", "unknown", "no version");
}

TEST(dkms)
{
	struct cli c, own;
	char path[128];

	clear();
	text("/usr/sbin/dkms", "");
	text("/lib/modules/" KERNEL "/build/Makefile", "");
	text("/var/lib/dkms/gmemfd/0.0.9/source", "");
	c = look(KERNEL);
	check_finding(&c, "headers", "ok", "installed");
	check_finding(&c, "dkms", "bad", "has not built it for " KERNEL);
	text("/var/lib/dkms/gmemfd/0.0.9/" KERNEL "/x86_64/log/make.log", "");
	c = look(KERNEL);
	check_finding(&c, "dkms", "warning", "DKMS has built gmemfd 0.0.9");
	/* Of several the newest, in whatever order they are listed. */
	text("/var/lib/dkms/gmemfd/0.0.10/" KERNEL "/x86_64/log/make.log", "");
	text("/var/lib/dkms/gmemfd/0.0.8/" KERNEL "/x86_64/log/make.log", "");
	text("/var/lib/dkms/gmemfd/kernel-" KERNEL "-x86_64", "");
	c = look(KERNEL);
	check_finding(&c, "dkms", "warning", "DKMS has built gmemfd 0.0.10,");
	/* Or this tool's own; but not when it is not built. */
	own = cli("--version");
	own.out[strcspn(own.out, "\n")] = 0;
	snprintf(path, sizeof(path), "/var/lib/dkms/gmemfd/%s/source", own.out + strlen("gmemctl "));
	text(path, "");
	text("/var/lib/dkms/gmemfd/99.0/source", "");
	c = look(KERNEL);
	check_finding(&c, "dkms", "warning", "DKMS has built gmemfd 0.0.10,");
	text("/var/lib/dkms/gmemfd/99.0/" KERNEL "/x86_64/log/make.log", "");
	strcpy(strrchr(path, '/'), "/" KERNEL "/log");
	text(path, "");
	c = look(KERNEL);
	check_finding(&c, "dkms", "ok", own.out + strlen("gmemctl "));
}

/* Where akmods builds it DKMS is not looked for. */
TEST(akmods)
{
	struct cli c;

	clear();
	text("/usr/bin/dnf", "");
	text("/usr/sbin/akmods", "");
	c = look(KERNEL);
	check_finding(&c, "dkms", "ok", "akmods builds modules here");
	check_finding(&c, "module", "bad", "akmods --force --akmod gmemfd --kernels " KERNEL);
	check_finding(&c, "loaded", "bad", "modprobe gmemfd");
}

/* That there is a node is not all: its owner, and KVM, have a say. */
TEST(without_rights)
{
	struct stat kvm, gmemfd;
	int status;
	pid_t child;

	if (stat("/dev/kvm", &kvm))
		SKIP("there is no /dev/kvm");
	REQUIRE_OK(stat("/dev/gmemfd", &gmemfd));
	child = REQUIRE_OK(fork());
	if (!child) {
		struct cli c;

		REQUIRE_OK(chmod("/tmp", 01777));
		REQUIRE_OK(chmod("/dev/kvm", 0600));
		REQUIRE_OK(chmod("/dev/gmemfd", 0600));
		REQUIRE_OK(setgid(65534));
		REQUIRE_OK(setuid(65534));
		c = cli("doctor", "--json");
		check_cures(&c);
		check_finding(&c, "device", "bad", "chgrp kvm /dev/gmemfd && chmod 0660 /dev/gmemfd");
		check_finding(&c, "kvm", "warning", "usermod -aG kvm USER");
		_exit(0);
	}
	status = child_wait(child, 20);
	CHECK_EQ(status, 0);
	REQUIRE_OK(chmod("/dev/kvm", kvm.st_mode & 07777));
	REQUIRE_OK(chmod("/dev/gmemfd", gmemfd.st_mode & 07777));
}

/* A node of a KVM that is not there is not mended by rights. */
TEST(kvm_node_only)
{
	bool made = access("/dev/kvm", F_OK);
	struct cli c;

	REQUIRE_OK(unshare(CLONE_NEWNS));
	REQUIRE_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	if (made)
		REQUIRE_OK(mknod("/dev/kvm", S_IFCHR | 0600, makedev(10, 232)));
	/* A device that nobody has. */
	REQUIRE_OK(mknod("/tmp/node", S_IFCHR | 0600, makedev(240, 77)));
	REQUIRE_OK(mount("/tmp/node", "/dev/kvm", NULL, MS_BIND, NULL));
	c = cli("doctor", "--json");
	check_cures(&c);
	check_finding(&c, "kvm", "warning", "/dev/kvm is there, and KVM is not");
	unlink("/tmp/node");
	REQUIRE_OK(umount2("/dev/kvm", MNT_DETACH));
	if (made)
		unlink("/dev/kvm");
}

TEST(loaded)
{
	struct cli c;

	clear();
	text("/sys/module/gmemfd/version", "0.0.9\n");
	c = look(KERNEL);
	check_finding(&c, "loaded", "bad", "is of version 0.0.9");
	check_finding(&c, "device", "bad", "mount -t devtmpfs none /dev");
	text("/proc/mounts", "udev /dev devtmpfs rw,nosuid 0 0\n");
	c = look(KERNEL);
	check_finding(&c, "device", "bad", "modprobe -r gmemfd && modprobe gmemfd");
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
	c = look(KERNEL);
	check_finding(&c, "module", "ok", "updates/gmemfd.ko");
	check_finding(&c, "secure boot", "ok", "off; modules need no signature");
	check_finding(&c, "signature", "ok", "is not signed, and need not be");
	put(SECURE_BOOT, "\6\0\0\0\1", 5);
	text("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
	c = look(KERNEL);
	check_finding(&c, "secure boot", "ok", "on; modules have to be signed");
	check_finding(&c, "signature", "bad", "is not signed");
	text("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
	text("/sys/module/module/parameters/sig_enforce", "Y\n");
	c = look(KERNEL);
	check_finding(&c, "signature", "bad", "is not signed");
	put(SECURE_BOOT, "\6", 1);
	c = look(KERNEL);
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
	c = look(KERNEL);
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
	c = look(KERNEL);
	check_finding(&c, "signature", "bad", "whom the kernel does not know");
	check_finding(&c, "signature", "bad", "mokutil --import /var/lib/dkms/mok.pub");
	text("/usr/sbin/akmods", "");
	c = look(KERNEL);
	check_finding(&c, "signature", "bad", "mokutil --import /etc/pki/akmods/certs/public_key.der");
	snprintf(line, sizeof(line), "0f I------ 1 perm 1f030000 0 0 asymmetri %s: 01ab: X509.rsa 01ab []\n", signer);
	text("/proc/keys", line);
	c = look(KERNEL);
	check_finding(&c, "signature", "ok", "whom the kernel knows");
}
