// SPDX-License-Identifier: GPL-2.0-only
/*
 * Other tests of the library once more, built in other ways: with the shared library as `make install-lib` installs it,
 * and with everything under the address and undefined behaviour sanitizers. libgmemfd.mk says which tests.
 */
#include "run.h"

#define SHARED "/build/libgmemfd/shared"
#define SANITIZED "/build/libgmemfd/sanitized"

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
	CHECK_EQ(run((const char *const []){ row->path, "-l", NULL }, 20, &said), 0);
	if (!CHECK(strstr(said, row->tells)))
		tap_diag("it said '%.2000s'", said);
	free(said);
}

TEST_EACH_LIMIT(all_cases_pass, struct build_row, builds, 120)
{
	char *said;
	int passed;

	/* The library allocates nothing, and to look for leaks at the end of each case takes longer than the case. */
	REQUIRE_OK(setenv("ASAN_OPTIONS", "detect_leaks=0", 1));
	CHECK_EQ(run((const char *const []){ row->path, NULL }, 100, &said), 0);
	passed = run_passed(said);
	if (!CHECK(passed > row->cases))
		tap_diag("%d passed", passed);
	free(said);
}
