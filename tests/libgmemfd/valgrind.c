// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the library once more, under valgrind.
 *
 * valgrind knows no ioctl of gmemfd, and takes each for what its number says: a struct of so many bytes that is read,
 * written, or both. So it is: what the library hands over has to be there, and initialised to the last byte. What
 * the kernel writes elsewhere, to where such a struct points, stays what it was for valgrind.
 *
 * Leaks are not looked for: to find pointers valgrind reads all of a process's memory at its end, and would wait for
 * ever at a page that traps. The library allocates nothing, which tests/cli/without-module sees to.
 */
#include "run.h"

#include <sys/ioctl.h>

#define VALGRIND "/usr/bin/valgrind.bin"
#define PROGRAM "/build/libgmemfd/plain"

/*
 * By these all kinds of calls are made, and succeed; not all cases, for each is a process, for which all is translated
 * anew. Some would fail: valgrind makes mappings in its own way (where something is, in spite of MAP_FIXED_NOREPLACE;
 * not aligned for huge pages), and has one thread run at a time, so that none may wait for another one's page (see
 * lib_reader).
 */
static const char *const cases[] = {
	"opens_the_device", "info_tells_of_the_module", "userfaultfd_speaks_its_abi",
	"create_with_policy", "create_opts_of_other_sizes", "punch_gives_back", "stats_of_any_size",
	"copy_stops_at_content", "fill_goes_on_where_it_stopped", "zero_and_poison", "continue_opens_what_is_closed",
	"wakes_when_it_is_told_to", "resolve_does_each_kind", "resolve_counts_what_failed",
	"watch_with_options", "unwatch_a_part", "attach_takes_over", "policy_is_followed_at_once",
	"as_many_events_as_there_is_room_for", "read_is_interrupted",
};

#define UNDER_VALGRIND VALGRIND, "--quiet", "--leak-check=no", "--vex-iropt-level=0"

/* What it finds it says in lines that begin with ==; the exit status of a case's process is not looked at. */
static bool complains(const char *said)
{
	return !strncmp(said, "==", 2) || strstr(said, "\n==");
}

TEST_LIMIT(cases_pass, 250)
{
	const char *argv[64] = { UNDER_VALGRIND, PROGRAM };
	int n = 0, passed;
	char *said;

	while (argv[n])
		n++;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		argv[n++] = cases[i];
	REQUIRE_OK(setenv("TEST_SLOW", "2", 1));
	CHECK_EQ(run(argv, 240, &said), 0);
	CHECK(!complains(said));
	passed = run_passed(said);
	CHECK_EQ(passed, ARRAY_SIZE(cases));
	free(said);
}

/* Nobody reads them here; valgrind believes the number of the command. */
TEST(hands_over_what_is_not_initialised)
{
	char bytes[64];

	/* For the compiler they are. */
	asm volatile("" : "=m"(bytes));
	CHECK_ERRNO(ioctl(0, _IOW(0xfe, 0, bytes), bytes), ENOTTY);
}

/* What cases_pass would have to find is found: it is in the case before this one. */
TEST_LIMIT(finds_what_is_not_initialised, 120)
{
	char self[128] = "";
	const char *const argv[] = { UNDER_VALGRIND, self, "hands_over_what_is_not_initialised", NULL };
	char *said;

	REQUIRE_OK(readlink("/proc/self/exe", self, sizeof(self) - 1));
	CHECK_EQ(run(argv, 100, &said), 0);
	CHECK(complains(said));
	CHECK(strstr(said, "uninitialised byte(s)"));
	free(said);
}
