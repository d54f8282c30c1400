/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tests that run other test programs and look at what these say.
 */
#ifndef GMEMFD_TESTS_LIBGMEMFD_RUN_H
#define GMEMFD_TESTS_LIBGMEMFD_RUN_H

#include "tap.h"

/* Its wait status, -1 after so many seconds (times TEST_SLOW); what it says on both streams is left in said. */
static inline int run(const char *const *argv, double seconds, char **said)
{
	char out_path[64];
	int out = REQUIRE_FD(memfd_create("output", MFD_CLOEXEC)), status;
	pid_t pid;

	fflush(stdout);
	pid = REQUIRE_OK(fork());
	if (pid == 0) {
		if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
			_exit(126);
		execv(argv[0], (char **)argv);
		_exit(127);
	}
	status = child_wait(pid, seconds);
	if (status == -1) {
		kill(pid, SIGKILL);
		child_wait(pid, 10);
	}
	snprintf(out_path, sizeof(out_path), "/proc/self/fd/%d", out);
	*said = read_file(out_path);
	REQUIRE(*said);
	return status;
}

/* How many cases have passed, of what a program has said; all but what passed is told. */
static inline int run_passed(char *said)
{
	char *line, *save;
	int passed = 0;

	for (line = strtok_r(said, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (!strncmp(line, "ok ", 3))
			passed++;
		else if (strncmp(line, "TAP ", 4) && strncmp(line, "1..", 3))
			tap_diag("%s", line);
	}
	return passed;
}

#endif
