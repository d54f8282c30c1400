// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals to those who wait: a handler runs while a user's access is trapped, and the access goes on after it; system
 * calls end with EINTR or start again, as they do elsewhere.
 */
#include "trap.h"

#define PAGES 4

static volatile sig_atomic_t handled;
static int file;

static void on_signal(int sig)
{
	handled++;
}

static long by_touch(void *map)
{
	return *(volatile unsigned char *)map;
}

static long by_pread(void *map)
{
	unsigned char byte;

	(void)map;
	return pread(file, &byte, 1, 0) == 1 ? byte : -1;
}

static long by_pipe(void *map)
{
	unsigned char byte;
	int fds[2];

	REQUIRE_OK(pipe(fds));
	return write(fds[1], map, 1) == 1 && read(fds[0], &byte, 1) == 1 ? byte : -1;
}

static const struct signal_row {
	const char *label;
	long (*fn)(void *map);
	int flags;		/* of the handler */
	bool interrupts;	/* the call ends with EINTR */
	bool defers;		/* the handler runs only when the access is over */
} signals[] = {
	{ "user_access", by_touch, 0, false, false },
	{ "user_access_sa_restart", by_touch, SA_RESTART, false, false },
	{ "pread", by_pread, 0, true, false },
	{ "pread_sa_restart", by_pread, SA_RESTART, false, false },
	{ "kernel_access", by_pipe, 0, false, true },
};

TEST_EACH(signal_while_waiting, struct signal_row, signals)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = row->flags };
	struct trap_task task;
	double began = now_seconds();

	file = rig.fd;
	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	trap_start(&task, row->fn, rig.map);
	for (int i = 1; i <= 3; i++) {
		REQUIRE(trap_waiters(rig.fd, 1));
		CHECK_EQ(pthread_kill(task.thread, SIGUSR1), 0);
		if (row->defers)
			break;
		CHECK(wait_for(handled == i, 10));
		if (row->interrupts)
			break;
	}
	if (row->interrupts) {
		CHECK_EQ(trap_result(&task), -1);
		CHECK_EQ(task.err, EINTR);
		CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
		CHECK(trap_quiet(rig.context));
		return;
	}
	/* Still there, and reported. */
	CHECK_EQ(trap_event(rig.context).offset, 0);
	CHECK(!trap_done(&task, 0.05));
	if (row->defers) {
		/* It sleeps, and does not go round and round. */
		uint64_t faults;

		REQUIRE(task_asleep(task.tid));
		sleep_seconds(0.05);
		/* Who cannot be told from one that breaks off comes round once a second. */
		faults = xgmem_stats(rig.fd).faults_missing;
		CHECK(faults <= 3 + 2 * (now_seconds() - began));
		CHECK_EQ(handled, 0);
	}
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&task), trap_byte(0));
	CHECK_EQ(handled, row->defers ? 1 : 3);
	CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
}

/* A read that has bytes already gives these. */
TEST(pread_that_has_some_gives_some)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	struct sigaction sa = { .sa_handler = on_signal };
	unsigned char *buf = xmmap_anon(rig.bytes);
	struct gmemfd_event event;
	pid_t child;
	int status;

	REQUIRE_OK(trap_copy(rig.fd, 0, 2 * rig.granule, 0));
	child = REQUIRE_OK(fork());
	if (!child) {
		REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
		CHECK_EQ(pread(rig.fd, buf, rig.bytes, 100), 2 * rig.granule - 100);
		CHECK_EQ(buf[0], rig.map[100]);
		_exit(0);
	}
	event = trap_event(rig.context);
	CHECK_EQ(event.offset, 2 * rig.granule);
	/* The handler stands, since the fault came after it was set. */
	REQUIRE_OK(kill(child, SIGUSR1));
	status = child_wait(child, 10);
	CHECK_EQ(status, 0);
}

/* Stopped and continued, it still waits. */
TEST(stopped_and_continued)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	pid_t child;

	child = REQUIRE_OK(fork());
	if (!child)
		_exit(*(volatile unsigned char *)rig.map == trap_byte(0) ? 0 : 1);
	REQUIRE(trap_waiters(rig.fd, 1));
	REQUIRE_OK(kill(child, SIGSTOP));
	CHECK(wait_for(task_state(child) == 'T', 10));
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(child_wait(child, 0.05), -1);
	REQUIRE_OK(kill(child, SIGCONT));
	CHECK_EQ(child_wait(child, 10), 0);
}
