// SPDX-License-Identifier: GPL-2.0-only
/*
 * Other tests of the library once more, built in other ways: with the shared library as `make install-lib` installs it,
 * and with everything under the address and undefined behaviour sanitizers. libgmemfd.mk says which tests.
 */
#include "tap.h"

#define SHARED "/build/libgmemfd/shared"
#define SANITIZED "/build/libgmemfd/sanitized"

/* Its wait status; what it says on both streams is left in said. */
static int run(const char *path, const char *argument, char **said)
{
	char out_path[64];
	int out = REQUIRE_FD(memfd_create("output", MFD_CLOEXEC)), status;
	pid_t pid;

	fflush(stdout);
	pid = REQUIRE_OK(fork());
	if (pid == 0) {
		if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
			_exit(126);
		execl(path, path, argument, (char *)NULL);
		_exit(127);
	}
	status = child_wait(pid, 100);
	snprintf(out_path, sizeof(out_path), "/proc/self/fd/%d", out);
	*said = read_file(out_path);
	REQUIRE(*said);
	return status;
}

static const struct build_row {
	const char *label;
	const char *path;
	const char *name;	/* a variable of the environment with which it tells how it was built */
	const char *value;
	const char *tells;
	int cases;		/* it has more: one without any passes, too */
} builds[] = {
	{ "shared", SHARED, "LD_TRACE_LOADED_OBJECTS", "1", "libgmemfd.so.0 => /build/", 25 },
	{ "sanitized", SANITIZED, "ASAN_OPTIONS", "help=1", "AddressSanitizer", 50 },
};

TEST_EACH(is_what_it_should_be, struct build_row, builds)
{
	char *said;

	REQUIRE_OK(setenv(row->name, row->value, 1));
	CHECK_EQ(run(row->path, "-l", &said), 0);
	if (!CHECK(strstr(said, row->tells)))
		tap_diag("it said '%.2000s'", said);
	free(said);
}

TEST_EACH_LIMIT(all_cases_pass, struct build_row, builds, 120)
{
	char *said, *line, *save;
	int passed = 0;

	/* The library allocates nothing, and to look for leaks at the end of each case takes longer than the case. */
	REQUIRE_OK(setenv("ASAN_OPTIONS", "detect_leaks=0", 1));
	CHECK_EQ(run(row->path, NULL, &said), 0);
	for (line = strtok_r(said, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (!strncmp(line, "ok ", 3))
			passed++;
		else if (strncmp(line, "TAP ", 4) && strncmp(line, "1..", 3))
			tap_diag("%s", line);
	}
	if (!CHECK(passed > row->cases))
		tap_diag("%d passed", passed);
	free(said);
}
