// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl stat: finds the gmem files of all processes, with their numbers, and their handlers.
 */
#include "cli.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "gmem.h"
#include "guest.h"

#define PAGES 64

/* The value behind a key in JSON that is written over lines. */
static long long value(const char *text, const char *key)
{
	char name[64];
	const char *at;

	snprintf(name, sizeof(name), "\"%s\": ", key);
	at = text ? strstr(text, name) : NULL;
	return at ? strtoll(at + strlen(name), NULL, 10) : -1;
}

/* The part of the report that is about the file with this inode. */
static const char *part_of(const struct cli *c, int fd)
{
	struct stat st;
	char key[48];

	REQUIRE_OK(fstat(fd, &st));
	snprintf(key, sizeof(key), "\"inode\": %lu,", (unsigned long)st.st_ino);
	return strstr(c->out, key);
}

TEST(numbers)
{
	int fd = xgmem(PAGES * page_size()), context = xgmem_context();
	struct gmem_toucher waiting = { .fd = fd, .offset = 8 * page_size() };
	unsigned char *page = malloc(page_size());
	const char *part;
	char name[64];
	struct cli c;

	pattern_fill(page, page_size(), 1);
	REQUIRE_OK(gmem_watch(fd, context, 0, PAGES * page_size(), GMEMFD_MODE_MISSING, 0, 0));
	REQUIRE_OK(gmem_copy(fd, 0, page_size(), page, 0));
	REQUIRE_OK(gmem_zero(fd, page_size(), 3 * page_size(), 0));
	REQUIRE_OK(gmem_punch(fd, page_size(), page_size()));
	REQUIRE_OK(gmem_poison(fd, 20 * page_size(), page_size(), 0));
	gmem_toucher_start(&waiting);
	REQUIRE(gmem_waiters(fd, 1, 10));

	c = cli("stat", "--json");
	CHECK_CLI(c, 0, NULL);
	part = part_of(&c, fd);
	REQUIRE(part);
	CHECK_EQ(value(part, "granule"), page_size());
	CHECK_EQ(value(part, "bytes"), PAGES * page_size());
	CHECK_EQ(value(part, "allocated"), 3 * page_size());
	CHECK_EQ(value(part, "copied"), page_size());
	CHECK_EQ(value(part, "zeroed"), 3 * page_size());
	CHECK_EQ(value(part, "punched"), page_size());
	CHECK_EQ(value(part, "poisoned"), page_size());
	CHECK_EQ(value(part, "waiters"), 1);
	CHECK_EQ(value(part, "watches"), 1);
	CHECK_EQ(value(part, "orphans"), 0);
	CHECK_EQ(value(part, "pid"), getpid());
	CHECK_EQ(value(part, "fd"), fd);
	part = strstr(c.out, "\"handlers\"");
	CHECK_EQ(value(part, "pid"), getpid());
	CHECK_EQ(value(part, "fd"), context);
	CHECK_EQ(value(part, "watches"), 1);
	CHECK_EQ(value(part, "pending"), 1);

	REQUIRE_OK(gmem_copy(fd, 8 * page_size(), page_size(), page, 0));
	CHECK(gmem_toucher_join(&waiting) >= 0);
	snprintf(name, sizeof(name), "/proc/%d/fd/%d", getpid(), fd);
	c = cli("stat");
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, name));
	CHECK(strstr(c.out, "16 KiB of 256 KiB (6%), pages of 4 KiB"));
	CHECK(strstr(c.out, "waits: 1, "));
	CHECK(strstr(c.out, "########################################"));
	c = cli("stat", name);
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, "16 KiB of 256 KiB"));
	CHECK(!strstr(c.out, "handler "));
}

/* Files that nobody has open any more, but mapped. */
TEST(mapped_only)
{
	int fd = xgmem(PAGES * page_size());
	char want[64];
	struct cli c;

	xmmap(NULL, PAGES * page_size(), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	c = cli("stat");
	CHECK_CLI(c, 0, NULL);
	snprintf(want, sizeof(want), "mapped by %d (", getpid());
	CHECK(strstr(c.out, want));
}

/* A file in two processes and twice in one is one file. */
TEST(shared)
{
	int fd = xgmem(PAGES * page_size()), again = REQUIRE_FD(dup(fd));
	pid_t child = REQUIRE_OK(fork());
	const char *part, *end;
	int pids = 0;
	struct cli c;

	while (!child)
		pause();
	c = cli("stat", "--json");
	CHECK_CLI(c, 0, NULL);
	part = part_of(&c, fd);
	REQUIRE(part);
	end = strstr(part, "\"inode\": ") ? strstr(part + 1, "\"inode\": ") : NULL;
	for (; (part = strstr(part, "\"pid\": ")) && (!end || part < end); part++)
		pids++;
	CHECK_EQ(pids, 4);
	close(again);
	REQUIRE_OK(kill(child, SIGKILL));
	child_wait(child, 10);
}

/* A file that is a VM's memory. */
TEST(bound)
{
	struct gmemfd_bind bind = { .size = sizeof(bind), .gpa = 0x100000, .len = PAGES * page_size(), .vm = 77 };
	int fd = xgmem(PAGES * page_size());
	struct guest g;
	struct cli c;
	const char *part;
	char want[96];
	void *map;

	guest_create(&g);
	map = xmmap(NULL, bind.len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	bind.slot = guest_add_memory(&g, bind.gpa, map, bind.len);
	bind.vm_fd = g.vm;
	REQUIRE_OK(ioctl(fd, GMEMFD_BIND, &bind));
	c = cli("stat");
	CHECK_CLI(c, 0, NULL);
	snprintf(want, sizeof(want), "bound to slot %u of the VM of %d: 256 KiB at guest address 0x100000", bind.slot,
		 getpid());
	CHECK(strstr(c.out, want));
	c = cli("stat", "--json");
	part = strstr(c.out, "\"bindings\"");
	REQUIRE(part);
	CHECK_EQ(value(part, "vm"), 77);
	CHECK_EQ(value(part, "len"), PAGES * page_size());
	CHECK_EQ(value(part, "pid"), getpid());
	guest_destroy(&g);
}

/* The name of a process is anybody's choice; it is for one line, and not for the terminal to obey. */
TEST(strange_process_names)
{
	int fd = xgmem(PAGES * page_size()), context = xgmem_context();
	struct cli c;

	REQUIRE_OK(prctl(PR_SET_NAME, "\033[31m\n\377\""));
	c = cli("stat");
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, " (\\x1b[31m\\x0a\\xff\")\n"));
	CHECK(strstr(c.out, " (\\x1b[31m\\x0a\\xff\"): 0 watches"));
	CHECK(!strchr(c.out, '\033'));
	c = cli("stat", "--json");
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, "\"name\": \"\\u001b[31m\\n\\\\xff\\\"\""));
	close(context);
	close(fd);
}

/* Where a mapping's path begins in the lines of maps. */
static size_t path_column(const char *path)
{
	char *maps = read_file("/proc/self/maps"), *at, *line;
	size_t column;

	REQUIRE(maps);
	at = strstr(maps, path);
	REQUIRE(at);
	for (line = at; line > maps && line[-1] != '\n';)
		line--;
	column = at - line;
	free(maps);
	return column;
}

/* A path as long as its owner likes, that has in the middle what a gmem file's name begins with. */
TEST(long_paths)
{
	char path[1024] = "/tmp", want[1100];
	struct cli c;
	size_t end, len;
	int fd;

	fd = REQUIRE_FD(open("/tmp/short", O_RDWR | O_CREAT, 0600));
	REQUIRE_OK(ftruncate(fd, page_size()));
	xmmap(NULL, page_size(), PROT_READ, MAP_SHARED, fd, 0);
	/* Bytes 0 to 510 of the line, in the way that it is read by pieces of 512. */
	end = 511 - path_column("/tmp/short");
	while ((len = strlen(path)) < end) {
		size_t part = end - len - 1 < 200 ? end - len - 1 : 200;

		/* None that is nothing but a slash. */
		if (end - len - 1 - part == 1)
			part--;
		snprintf(path + len, sizeof(path) - len, "/%0*d", (int)part, 0);
		REQUIRE_OK(mkdir(path, 0700));
	}
	strcat(path, "/gmemfd");
	fd = REQUIRE_FD(open(path, O_RDWR | O_CREAT, 0600));
	REQUIRE_OK(ftruncate(fd, page_size()));
	xmmap(NULL, page_size(), PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE_EQ(path_column("/gmemfd\n"), 511);
	snprintf(want, sizeof(want), "mapped by %d (", getpid());
	c = cli("stat");
	CHECK_CLI(c, 0, NULL);
	CHECK(!strcmp(c.out, "no gmem files\n"));
	/* And behind it is found what is one. */
	fd = xgmem(PAGES * page_size());
	xmmap(NULL, PAGES * page_size(), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	c = cli("stat");
	CHECK_CLI(c, 0, NULL);
	CHECK(strstr(c.out, want));
}

/* How often it has shown something by now. */
static int times_shown(const struct cli *c, const char *what)
{
	char *out = read_file(c->out_path);
	const char *at = out;
	int n = 0;

	for (; at && (at = strstr(at, what)); at++)
		n++;
	free(out);
	return n;
}

TEST(watch)
{
	int fd = xgmem(PAGES * page_size());
	struct cli every, json;
	double begin;
	char name[64];

	snprintf(name, sizeof(name), "/proc/%d/fd/%d", getpid(), fd);
	begin = now_seconds();
	every = cli_run(-1, "stat", "--watch", "--interval", "1", name);
	json = cli_run(-1, "stat", "--json", "--watch", name);
	REQUIRE(wait_for(times_shown(&every, "gmem file ") >= 4, 20));
	/* Three intervals have passed at least, and by far not the six of two seconds each. */
	CHECK(now_seconds() - begin >= 3);
	/* What each report ends with. */
	REQUIRE(wait_for(times_shown(&json, "\"denied\"") >= 3, 20));
	CHECK(now_seconds() - begin >= 4);
	/* It may be late, but it gains on the other. */
	CHECK(wait_for(times_shown(&every, "gmem file ") >= times_shown(&json, "\"denied\"") + 3, 30));
	REQUIRE_OK(kill(every.pid, SIGTERM));
	cli_end(&every, 10);
	CHECK_CLI(every, 128 + SIGTERM, NULL);
	REQUIRE_OK(kill(json.pid, SIGTERM));
	cli_end(&json, 10);
	CHECK_CLI(json, 128 + SIGTERM, NULL);
}

/* Nothing that is named is there any more. */
TEST(watch_gone)
{
	int fd = xgmem(PAGES * page_size());
	char name[64];
	struct cli c;

	snprintf(name, sizeof(name), "/proc/%d/fd/%d", getpid(), fd);
	c = cli_run(-1, "stat", "--watch", "--interval", "1", name);
	REQUIRE(wait_for(times_shown(&c, "gmem file "), 20));
	close(fd);
	cli_end(&c, 20);
	CHECK_CLI(c, 1, "there is no such process or descriptor");
}

/* The module goes; here it is only not to be seen any more. */
TEST(watch_unloaded)
{
	struct cli c;

	REQUIRE_OK(unshare(CLONE_NEWNS));
	REQUIRE_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	c = cli_run(-1, "stat", "--watch", "--interval", "1");
	REQUIRE(wait_for(times_shown(&c, "no gmem files"), 20));
	REQUIRE_OK(mount("tmpfs", "/sys/module", "tmpfs", 0, NULL));
	cli_end(&c, 20);
	CHECK_CLI(c, 3, "the module gmemfd is not loaded: 'modprobe gmemfd'");
	c = cli("stat", "--watch");
	CHECK_CLI(c, 3, "the module gmemfd is not loaded");
}

TEST(none)
{
	struct cli c = cli("stat");

	CHECK_CLI(c, 0, NULL);
	CHECK(!strcmp(c.out, "no gmem files\n"));
}

/* Who may not look into others' processes hears that. */
TEST(without_rights)
{
	char name[64];
	int status;
	pid_t child;
	int fd = xgmem(PAGES * page_size());

	snprintf(name, sizeof(name), "/proc/%d/fd/%d", getpid(), fd);
	child = REQUIRE_OK(fork());
	if (!child) {
		struct cli c;

		REQUIRE_OK(chmod("/tmp", 01777));
		REQUIRE_OK(setgid(65534));
		REQUIRE_OK(setuid(65534));
		c = cli("stat");
		CHECK_EQ(c.code, 0);
		CHECK(strstr(c.out, "processes may not be looked into: run as root"));
		c = cli("stat", name);
		CHECK_CLI(c, 1, "no right to open it: run as root");
		c = cli("dump", name, "/tmp/x");
		CHECK_CLI(c, 1, "no right to open it: run as root");
		c = cli("run", "--image", GMEMCTL, "--size", "4096", "--", "true{fd}");
		CHECK_EQ(c.code, 1);
		REQUIRE(open("/tmp/small", O_RDWR | O_CREAT, 0600) >= 0);
		REQUIRE_OK(truncate("/tmp/small", 4096));
		c = cli("run", "--image", "/tmp/small", "--", "true{fd}");
		CHECK_CLI(c, 1, "no right to open /dev/gmemfd: run as root");
		_exit(0);
	}
	status = child_wait(child, 20);
	CHECK_EQ(status, 0);
	unlink("/tmp/small");
}
