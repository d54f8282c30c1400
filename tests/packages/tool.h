/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs that test packages share: running what the packages brought, as a user, and loading modules.
 */
#ifndef GMEMFD_TESTS_PACKAGES_TOOL_H
#define GMEMFD_TESTS_PACKAGES_TOOL_H

#include "tap.h"

#include <grp.h>
#include <sys/syscall.h>

#define KVM_GROUP 104	/* as `run` writes /etc/group */
#define SAID "/tmp/said"

/* How a command ended; SAID has what it printed. @gid 0: root; else user 1000 with this group. */
static inline int command(gid_t gid, const char *library, const char *const *argv)
{
	pid_t pid = REQUIRE_OK(fork());
	int fd, status;

	if (!pid) {
		unlink(SAID);
		fd = REQUIRE_FD(open(SAID, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0666));
		REQUIRE_OK(dup2(fd, 1));
		REQUIRE_OK(dup2(fd, 2));
		if (gid) {
			REQUIRE_OK(setgroups(0, NULL));
			REQUIRE_OK(setgid(gid));
			REQUIRE_OK(setuid(1000));
		}
		if (library)
			setenv("LD_LIBRARY_PATH", library, 1);
		execv(argv[0], (char **)argv);
		dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
		_exit(98);
	}
	status = child_wait(pid, 20);
	REQUIRE(status != -1);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* command(gid, library, "/usr/bin/gmemctl", "doctor") */
#define COMMAND(gid, library, ...) command(gid, library, (const char *const []){ __VA_ARGS__, NULL })

/* It ended with this code and has said this. */
static inline void check_said(int code, int wanted, const char *text, int line)
{
	char *said = read_file(SAID);
	bool has;

	REQUIRE(said);
	has = strstr(said, text);
	tap_check(code == wanted, false, __FILE__, line, "it ended with %d, not %d", code, wanted);
	tap_check(has, false, __FILE__, line, "it said '%s'", text);
	if (code != wanted || !has)
		tap_diag("it said: %s", said);
	free(said);
}

#define CHECK_SAID(code, wanted, text) check_said(code, wanted, text, __LINE__)

static inline int load(const char *path)
{
	int fd = REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC)), ret, err;

	ret = syscall(SYS_finit_module, fd, "", 0);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

/* An image that anybody may read. */
static inline void make_image(const char *path, size_t size)
{
	int fd = REQUIRE_FD(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
	char *content = malloc(size);

	pattern_fill(content, size, 7);
	REQUIRE_EQ(write(fd, content, size), size);
	free(content);
	close(fd);
}

#endif
