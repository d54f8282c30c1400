// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs examples/uffd.c, compiled for memfd + userfaultfd and for gmemfd; tests.mk links both into this program.
 * The example itself says by its exit status whether it saw the right content.
 */
#include "tap.h"

int example_memfd(void);
int example_gmemfd(void);

static const struct example_row {
	const char *label;
	int (*main)(void);
} examples[] = {
	{ "memfd", example_memfd },
	{ "gmemfd", example_gmemfd },
};

TEST_EACH(works, struct example_row, examples)
{
	const char *want = "1024 pages were served, 1024 were touched\n";
	char said[128] = "";
	int out = REQUIRE_FD(memfd_create("output", MFD_CLOEXEC));
	pid_t pid;

	fflush(stdout);
	pid = REQUIRE_OK(fork());
	if (pid == 0) {
		/* Not between the lines of the test. */
		if (dup2(out, STDOUT_FILENO) < 0)
			_exit(1);
		exit(row->main());
	}
	CHECK_EQ(child_wait(pid, 20), 0);
	REQUIRE_OK(pread(out, said, sizeof(said) - 1, 0));
	if (!CHECK(!strcmp(said, want)))
		tap_diag("it said '%s'", said);
}
