// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes and trapped memory: other processes' accesses, fork, exec, and the ends of threads and processes, that must
 * not wait for anybody.
 */
#include "trap.h"
#include "uring.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define PAGES 8

static const struct way_row {
	const char *label;
	int map;		/* in the child: how; 0: as inherited */
	bool write;
} ways[] = {
	{ "inherited_read", 0, false },
	{ "inherited_write", 0, true },
	{ "shared_read", MAP_SHARED, false },
	{ "shared_write", MAP_SHARED, true },
	{ "private_read", MAP_PRIVATE, false },
	{ "private_write", MAP_PRIVATE, true },
};

/* A child touches page 2; it maps the file by its path in proc, or has the parent's mapping. */
TEST_EACH(child_waits, struct way_row, ways)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	uint64_t offset = 2 * rig.granule;
	struct gmemfd_event event;
	pid_t child, parent = getpid();

	child = REQUIRE_OK(fork());
	if (!child) {
		volatile unsigned char *at = rig.map;
		char path[64];

		if (row->map) {
			snprintf(path, sizeof(path), "/proc/%d/fd/%d", parent, rig.fd);
			at = xmmap(NULL, rig.bytes, PROT_READ | PROT_WRITE, row->map, REQUIRE_FD(open(path, O_RDWR)),
				   0);
		}
		at += offset;
		if (row->write)
			*at = TRAP_WRITTEN;
		_exit(*at == (row->write ? TRAP_WRITTEN : trap_byte(offset)) ? 0 : 1);
	}
	event = trap_event(rig.context);
	CHECK_EQ(event.offset, offset);
	CHECK_EQ(event.flags, row->write ? GMEMFD_FAULT_WRITE : 0);
	CHECK_EQ(event.tid, child);
	CHECK_EQ(child_wait(child, 0), -1);
	CHECK_OK(trap_copy(rig.fd, offset, rig.granule, 0));
	CHECK_EQ(child_wait(child, 10), 0);
	CHECK_EQ(rig.map[offset], row->write && row->map != MAP_PRIVATE ? TRAP_WRITTEN : trap_byte(offset));
}

/* The number of the thread is the one that it has in its own namespace. */
TEST(tid_is_of_its_own_namespace)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	struct gmemfd_event event;
	pid_t child;

	if (unshare(CLONE_NEWPID) && errno == EINVAL)
		SKIP("this kernel has no PID namespaces");
	child = REQUIRE_OK(fork());
	if (!child) {
		REQUIRE_EQ(getpid(), 1);
		_exit(*(volatile unsigned char *)rig.map == trap_byte(0) ? 0 : 1);
	}
	event = trap_event(rig.context);
	CHECK_EQ(event.tid, 1);
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(child_wait(child, 10), 0);
}

/* One template, private clones: one fault fills it for all of them, and nobody's writes reach anybody. */
TEST(private_clones_share_one_fault)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	unsigned char *clones[4];
	struct trap_task tasks[ARRAY_SIZE(clones)];

	for (size_t i = 0; i < ARRAY_SIZE(clones); i++) {
		clones[i] = xmmap(NULL, rig.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, rig.fd, 0);
		trap_write(&tasks[i], clones[i] + i);
	}
	REQUIRE(trap_waiters(rig.fd, ARRAY_SIZE(clones)));
	CHECK_EQ(trap_event(rig.context).flags, GMEMFD_FAULT_WRITE);
	CHECK(trap_quiet(rig.context));
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	for (size_t i = 0; i < ARRAY_SIZE(clones); i++) {
		CHECK_EQ(trap_result(&tasks[i]), 0);
		CHECK_EQ(clones[i][i], TRAP_WRITTEN);
		CHECK_EQ(clones[i][i + 1] != TRAP_WRITTEN, 1);
	}
	CHECK(pattern_is(rig.map, rig.granule, 0));
	CHECK_EQ(xgmem_stats(rig.fd).events, 1);
	CHECK_EQ(xgmem_stats(rig.fd).allocated, rig.granule);
}

/* The argument lies in the trapped page; what was provided there makes this program list its cases. */
TEST(argument_of_exec_waits)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	unsigned char *page = xmmap_anon(rig.granule);
	char said[65536] = "";
	int out[2];
	size_t len = 0;
	ssize_t n;
	pid_t child;

	REQUIRE_OK(pipe2(out, O_CLOEXEC));
	child = REQUIRE_OK(fork());
	if (!child) {
		char *const argv[] = { "exec", (char *)rig.map, NULL };

		if (dup2(out[1], STDOUT_FILENO) < 0)
			_exit(100);
		execv("/proc/self/exe", argv);
		_exit(101);
	}
	close(out[1]);
	CHECK_EQ(trap_event(rig.context).flags, GMEMFD_FAULT_KERNEL);
	memcpy(page, "-l", 3);
	CHECK_OK(gmem_copy(rig.fd, 0, rig.granule, page, 0));
	while ((n = read(out[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += n;
	CHECK_EQ(n, 0);
	CHECK(strstr(said, "argument_of_exec_waits"));
	CHECK_EQ(child_wait(child, 10), 0);
}

/* --- Ends -------------------------------------------------------------------------------------------- */

static unsigned char *exit_page;

static void *exits_with_tid_there(void *arg)
{
	/* The kernel is to clear it when the thread is gone. */
	syscall(SYS_set_tid_address, exit_page);
	__atomic_store_n((pid_t *)arg, gettid(), __ATOMIC_RELEASE);
	syscall(SYS_exit, 0);
	return NULL;
}

static void *exits_with_locks_there(void *arg)
{
	syscall(SYS_set_robust_list, exit_page, 3 * sizeof(void *));
	__atomic_store_n((pid_t *)arg, gettid(), __ATOMIC_RELEASE);
	syscall(SYS_exit, 0);
	return NULL;
}

static const struct exit_row {
	const char *label;
	void *(*thread)(void *arg);
} exits[] = {
	{ "clear_child_tid", exits_with_tid_there },
	{ "robust_list", exits_with_locks_there },
};

/* The kernel gives up what it wanted there; nobody resolves anything here. */
TEST_EACH(exiting_thread_waits_for_nobody, struct exit_row, exits)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	pid_t child;

	child = REQUIRE_OK(fork());
	if (!child) {
		char path[64];
		pid_t tid = 0;

		exit_page = rig.map + rig.granule;
		thread_start(row->thread, &tid);
		snprintf(path, sizeof(path), "/proc/self/task/%d",
			 wait_for(__atomic_load_n(&tid, __ATOMIC_ACQUIRE), 10) ? tid : -1);
		_exit(wait_for(access(path, F_OK) && errno == ENOENT, 10) ? 0 : 1);
	}
	CHECK_EQ(child_wait(child, 20), 0);
	CHECK(trap_quiet(rig.context));
	CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
	CHECK_EQ(xgmem_stats(rig.fd).allocated, 0);
	/* The kernel may try more than once. */
	CHECK(xgmem_stats(rig.fd).faults_sigbus >= 1);
}

static const struct dump_row {
	const char *label;
	int waiting;		/* threads that wait when the process dumps */
} dumps[] = {
	{ "alone", 0 },
	{ "with_waiting_threads", 3 },
};

/* All mappings are dumped; those that trap are left out. */
TEST_EACH(core_dump_ends, struct dump_row, dumps)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	char *pattern = read_file("/proc/sys/kernel/core_pattern");
	int status;
	pid_t child;

	REQUIRE(pattern);
	REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	REQUIRE_OK(write_file("/proc/sys/kernel/core_pattern", "/tmp/trap-process.core"));
	child = REQUIRE_OK(fork());
	if (!child) {
		struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
		struct trap_task tasks[4];

		REQUIRE_OK(setrlimit(RLIMIT_CORE, &unlimited));
		REQUIRE_OK(prctl(PR_SET_DUMPABLE, 1));
		REQUIRE_OK(write_file("/proc/self/coredump_filter", "0xff"));
		for (int i = 0; i < row->waiting; i++)
			trap_read(&tasks[i], rig.map + (1 + i) * rig.granule);
		REQUIRE(trap_waiters(rig.fd, row->waiting));
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	status = child_wait(child, 20);
	CHECK_OK(write_file("/proc/sys/kernel/core_pattern", "%s", pattern));
	free(pattern);
	REQUIRE(status != -1);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	CHECK(WCOREDUMP(status));
	CHECK_OK(unlink("/tmp/trap-process.core"));
	CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
	CHECK_EQ(xgmem_stats(rig.fd).allocated, rig.granule);
	CHECK(trap_quiet(rig.context));
}

/* What waits in the child when it is killed. */
static long touch_it(void *map)
{
	return *(volatile unsigned char *)map;
}

static int kill_fd;

static long pread_it(void *map)
{
	unsigned char byte;

	(void)map;
	return pread(kill_fd, &byte, 1, 0);
}

static long write_it_out(void *map)
{
	int fds[2];

	REQUIRE_OK(pipe(fds));
	return write(fds[1], map, 1);
}

static long uring_reads_it(void *map)
{
	static unsigned char byte;
	struct uring u;
	int res;

	(void)map;
	uring_init(&u);
	uring_submit(&u, IORING_OP_READ, kill_fd, &byte, 1, 0);
	return uring_result(&u, &res, 3600) ? res : -1;
}

static long populates_it(void *map)
{
	return madvise(map, page_size(), MADV_POPULATE_WRITE);
}

static const struct kill_row {
	const char *label;
	long (*fn)(void *map);
} kills[] = {
	{ "touching", touch_it },
	{ "in_pread", pread_it },
	{ "in_write", write_it_out },
	{ "in_io_uring", uring_reads_it },
	{ "populating", populates_it },
};

TEST_EACH(killed_while_waiting, struct kill_row, kills)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	int status;
	pid_t child;

	kill_fd = rig.fd;
	child = REQUIRE_OK(fork());
	if (!child)
		_exit(row->fn(rig.map));
	REQUIRE(trap_waiters(rig.fd, 1));
	trap_event(rig.context);
	REQUIRE_OK(kill(child, SIGKILL));
	status = child_wait(child, 10);
	REQUIRE(status != -1);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(trap_waiters(rig.fd, 0));
	CHECK(trap_quiet(rig.context));
	CHECK_EQ(xgmem_stats(rig.fd).allocated, 0);
}

/* exit_group() with threads that wait. */
TEST(exits_while_threads_wait)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	pid_t child;

	child = REQUIRE_OK(fork());
	if (!child) {
		struct trap_task tasks[PAGES];

		for (int i = 0; i < PAGES; i++)
			trap_read(&tasks[i], rig.map + i * rig.granule);
		_exit(trap_waiters(rig.fd, PAGES) ? 42 : 1);
	}
	CHECK_EQ(WEXITSTATUS(child_wait(child, 20)), 42);
	CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
	CHECK(trap_quiet(rig.context));
}
