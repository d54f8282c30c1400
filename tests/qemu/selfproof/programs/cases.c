// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the self-proof of the bench: cases that are each wrong in a way of their own, between two that are right.
 */
#include "tap.h"

TEST(right_before)
{
	CHECK_EQ(1, 1);
}

TEST(check_is_false)
{
	CHECK_EQ(1, 2);
}

TEST(require_is_false)
{
	CHECK(true);
	REQUIRE(false);
}

static void *fail_in_thread(void *arg)
{
	CHECK(!arg);
	return NULL;
}

TEST(check_is_false_in_thread)
{
	thread_join(thread_start(fail_in_thread, (void *)1));
}

TEST(check_is_false_in_child)
{
	pid_t pid = fork();

	REQUIRE(pid >= 0);
	if (!pid) {
		CHECK(false);
		_exit(0);
	}
	CHECK_EQ(child_wait(pid, 5), 0);
}

TEST(asserts_nothing)
{
}

TEST(only_sets_up)
{
	REQUIRE_OK(close(REQUIRE_FD(dup(1))));
}

TEST(crashes)
{
	CHECK(true);
	raise(SIGSEGV);
}

TEST(exits)
{
	CHECK(true);
	_exit(0);
}

TEST_LIMIT(hangs, 1)
{
	CHECK(true);
	for (;;)
		pause();
}

TEST(leaves_a_process)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		setsid();
		for (;;)
			pause();
	}
}

TEST(right_after)
{
	CHECK_EQ(1, 1);
}
