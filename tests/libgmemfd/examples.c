// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the examples that use the library; tests.mk links them into this program. Each says by its exit status whether
 * it saw the right content.
 */
#include "lib.h"

int example_serve(int argc, char **argv);
int example_takeover(int argc, char **argv);

#define IMAGE_BYTES (1 << 20)

static int image(void)
{
	int fd = REQUIRE_FD(memfd_create("image", MFD_CLOEXEC));
	void *content = xmmap_anon(IMAGE_BYTES);

	pattern_fill(content, IMAGE_BYTES, 5);
	REQUIRE_EQ(write(fd, content, IMAGE_BYTES), IMAGE_BYTES);
	return fd;
}

/* Its exit status; what it says on either stream is put into said. */
static int run(int (*example)(int argc, char **argv), char *argument, char *said, size_t size)
{
	char *argv[3] = { "example", argument, NULL };
	int out = REQUIRE_FD(memfd_create("output", MFD_CLOEXEC)), status;
	pid_t pid;

	fflush(stdout);
	pid = REQUIRE_OK(fork());
	if (pid == 0) {
		/* Not between the lines of the test. */
		if (dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
			_exit(1);
		exit(example(argument ? 2 : 1, argv));
	}
	status = child_wait(pid, 20);
	memset(said, 0, size);
	REQUIRE_OK(pread(out, said, size - 1, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(serve)
{
	char path[64], said[256];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", image());
	CHECK_EQ(run(example_serve, path, said, sizeof(said)), 0);
	if (!CHECK(strstr(said, "1048576 bytes were served")))
		tap_diag("it said '%s'", said);
}

static const struct bad_row {
	const char *label;
	char *argument;
	int status;
	const char *want;
} bad[] = {
	{ "nothing", NULL, 2, "usage" },
	{ "no_such_file", "/no/such/file", 1, "/no/such/file: No such file" },
	{ "empty", "/dev/null", 1, "multiple of the page size" },
};

TEST_EACH(serve_is_given, struct bad_row, bad)
{
	char said[256];

	CHECK_EQ(run(example_serve, row->argument, said, sizeof(said)), row->status);
	if (!CHECK(strstr(said, row->want)))
		tap_diag("it said '%s'", said);
}

TEST(takeover)
{
	char said[256];

	CHECK_EQ(run(example_takeover, NULL, said, sizeof(said)), 0);
	if (!CHECK(strstr(said, "the second one has served what the first has left")))
		tap_diag("it said '%s'", said);
}
