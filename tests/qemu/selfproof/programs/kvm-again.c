// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the self-proof of the bench: a case of a nested guest, by its name, that fails unless it is asked for by name.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tap.h"

TEST(asked_for)
{
	char words[256];
	int fd = REQUIRE_FD(open("/proc/self/cmdline", O_RDONLY));
	ssize_t n = REQUIRE_OK(read(fd, words, sizeof(words)));

	CHECK((ssize_t)strnlen(words, n) < n - 1);
}

TEST(passes)
{
	CHECK(true);
}
