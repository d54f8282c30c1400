// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting: one event for all who wait for a page, exact wake-ups, leaders that die; mappings, files and pages that go
 * away under those who wait.
 */
#include "trap.h"

#define PAGES 16
#define ALL GMEMFD_MODE_ALL
#define MISSING GMEMFD_MODE_MISSING

TEST(one_page_one_event)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task tasks[8];

	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
		trap_read(&tasks[i], rig.map + rig.granule + i);
	REQUIRE(trap_waiters(rig.fd, ARRAY_SIZE(tasks)));
	CHECK_EQ(trap_event(rig.context).offset, rig.granule);
	CHECK(trap_quiet(rig.context));
	CHECK_OK(trap_copy(rig.fd, rig.granule, rig.granule, 0));
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
		CHECK_EQ(trap_result(&tasks[i]), rig.map[rig.granule + i]);
	CHECK(trap_quiet(rig.context));
	CHECK_EQ(xgmem_stats(rig.fd).events, 1);
	CHECK_EQ(xgmem_stats(rig.fd).wakes, ARRAY_SIZE(tasks));
	CHECK_EQ(xgmem_stats(rig.fd).faults_missing, ARRAY_SIZE(tasks));
}

TEST(two_pages_two_events)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	size_t g = rig.granule;
	struct trap_task a, b;

	trap_read(&a, rig.map + 5 * g);
	REQUIRE(trap_waiters(rig.fd, 1));
	trap_read(&b, rig.map + 4 * g);
	REQUIRE(trap_waiters(rig.fd, 2));
	/* Oldest first. */
	CHECK_EQ(trap_event(rig.context).offset, 5 * g);
	CHECK_EQ(trap_event(rig.context).offset, 4 * g);
	CHECK(trap_quiet(rig.context));
	CHECK_OK(trap_copy(rig.fd, 4 * g, 2 * g, 0));
	CHECK_EQ(trap_result(&a), rig.map[5 * g]);
	CHECK_EQ(trap_result(&b), trap_byte(4 * g));
}

/* --- The one whose fault it was is killed ------------------------------------------------------------ */

static const struct leader_row {
	const char *label;
	bool read_before, read_after;
} leaders[] = {
	{ "event_pending", false, true },
	{ "event_read", true, false },
};

TEST_EACH(leader_is_killed, struct leader_row, leaders)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	size_t g = rig.granule;
	struct trap_task tasks[3], late;
	struct gmemfd_event event;
	pid_t leader;

	leader = REQUIRE_OK(fork());
	if (!leader) {
		TOUCH_READ(rig.map + 2 * g);
		_exit(1);
	}
	REQUIRE(trap_waiters(rig.fd, 1));
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
		trap_read(&tasks[i], rig.map + 2 * g);
	REQUIRE(trap_waiters(rig.fd, 1 + ARRAY_SIZE(tasks)));
	if (row->read_before)
		CHECK_EQ(trap_event(rig.context).tid, leader);
	REQUIRE_OK(kill(leader, SIGKILL));
	CHECK_EQ(WTERMSIG(child_wait(leader, 10)), SIGKILL);
	CHECK(trap_waiters(rig.fd, ARRAY_SIZE(tasks)));
	if (row->read_after) {
		event = trap_event(rig.context);
		CHECK_EQ(event.offset, 2 * g);
		CHECK_EQ(event.cookie, TRAP_COOKIE);
	}
	CHECK(trap_quiet(rig.context));
	/* A newcomer is no new event as long as somebody stands for the page. */
	trap_write(&late, rig.map + 2 * g + 100);
	REQUIRE(trap_waiters(rig.fd, 1 + ARRAY_SIZE(tasks)));
	CHECK(trap_quiet(rig.context));
	CHECK_EQ(xgmem_stats(rig.fd).events, 1);
	CHECK_OK(trap_copy(rig.fd, 2 * g, g, 0));
	CHECK_EQ(trap_result(&late), 0);
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
		CHECK_EQ(trap_result(&tasks[i]), trap_byte(2 * g));
	CHECK(trap_waiters(rig.fd, 0));
	CHECK_EQ(xgmem_stats(rig.fd).wakes, 1 + ARRAY_SIZE(tasks));
}

TEST(alone_and_killed_takes_the_event_along)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	pid_t child;

	for (int read_it = 0; read_it < 2; read_it++) {
		child = REQUIRE_OK(fork());
		if (!child)
			_exit(TOUCH_READ(rig.map));
		REQUIRE(trap_waiters(rig.fd, 1));
		if (read_it)
			trap_event(rig.context);
		REQUIRE_OK(kill(child, SIGKILL));
		CHECK_EQ(WTERMSIG(child_wait(child, 10)), SIGKILL);
		CHECK(trap_quiet(rig.context));
		CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
	}
}

/* --- Wake-ups ---------------------------------------------------------------------------------------- */

/* How often the thread has gone to sleep so far: it does so again each time that it is woken for nothing. */
static long long sleeps(const struct trap_task *task)
{
	return trap_thread_field(getpid(), task->tid, "voluntary_ctxt_switches:");
}

TEST(others_sleep_on)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0);
	size_t g = rig.granule;
	struct trap_task task;
	long long before;

	trap_read(&task, rig.map + 8 * g);
	trap_event(rig.context);
	REQUIRE(task_asleep(task.tid));
	before = sleeps(&task);
	CHECK_OK(gmem_wake(rig.fd, 0, 8 * g));
	CHECK_OK(gmem_wake(rig.fd, 9 * g, 7 * g));
	CHECK_OK(trap_copy(rig.fd, 7 * g, g, 0));
	CHECK_OK(trap_copy(rig.fd, 9 * g, g, 0));
	CHECK_OK(gmem_zero(rig.fd, 6 * g, g, 0));
	CHECK_OK(gmem_poison(rig.fd, 5 * g, g, 0));
	CHECK_OK(trap_copy(rig.fd, 10 * g, g, GMEMFD_RANGE_CLOSED));
	CHECK_OK(gmem_continue(rig.fd, 10 * g, g, 0));
	CHECK_OK(gmem_punch(rig.fd, 9 * g, 2 * g));
	CHECK_OK(gmem_unwatch(rig.fd, 9 * g, 7 * g));
	CHECK_EQ(sleeps(&task), before);
	CHECK(!trap_done(&task, 0));
	CHECK_EQ(xgmem_stats(rig.fd).wakes, 0);
	CHECK(trap_quiet(rig.context));
	CHECK_OK(trap_copy(rig.fd, 8 * g, g, 0));
	CHECK_EQ(trap_result(&task), trap_byte(8 * g));
	CHECK_EQ(xgmem_stats(rig.fd).wakes, 1);
}

/* The threads of other files with the same page numbers, too. */
TEST(other_files_sleep_on)
{
	struct trap_rig a = trap_rig(PAGES, MISSING, 0), b = trap_rig(PAGES, MISSING, 0);
	struct trap_task task;

	trap_read(&task, a.map);
	trap_event(a.context);
	CHECK_OK(trap_copy(b.fd, 0, b.bytes, 0));
	CHECK_OK(gmem_wake(b.fd, 0, b.bytes));
	CHECK_EQ(xgmem_stats(b.fd).wakes + xgmem_stats(a.fd).wakes, 0);
	CHECK(!trap_done(&task, 0.05));
	CHECK_OK(trap_copy(a.fd, 0, a.granule, 0));
	CHECK_EQ(trap_result(&task), trap_byte(0));
}

TEST(woken_for_nothing_is_reported_again)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task task;

	trap_read(&task, rig.map);
	for (int i = 1; i <= 5; i++) {
		CHECK_EQ(trap_event(rig.context).offset, 0);
		CHECK(trap_quiet(rig.context));
		CHECK_OK(gmem_wake(rig.fd, 0, rig.bytes));
		CHECK_EQ(xgmem_stats(rig.fd).wakes, i);
	}
	CHECK_EQ(trap_event(rig.context).offset, 0);
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&task), trap_byte(0));
	CHECK_EQ(xgmem_stats(rig.fd).faults_missing, 6);
	CHECK_EQ(xgmem_stats(rig.fd).events, 6);
}

/* By a reader that has each event in the moment it is there, and wakes at once. */
TEST(woken_as_soon_as_told)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct gmemfd_event event;
	struct trap_task task;
	int told = 0;

	REQUIRE_OK(fcntl(rig.context, F_SETFL, O_NONBLOCK));
	trap_read(&task, rig.map);
	for (double end = now_seconds() + 2; told <= 10 || now_seconds() < end; told++) {
		double patience = now_seconds() + 10 * tap_slow();

		while (read(rig.context, &event, sizeof(event)) != sizeof(event))
			REQUIRE(now_seconds() < patience);
		REQUIRE_OK(gmem_wake(rig.fd, 0, rig.granule));
	}
	CHECK(told > 10);
	tap_diag("told %d times", told);
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&task), trap_byte(0));
}

static long resolve_copy(const struct trap_rig *rig, uint64_t flags)
{
	return trap_copy(rig->fd, 0, rig->granule, flags);
}

static long resolve_zero(const struct trap_rig *rig, uint64_t flags)
{
	return gmem_zero(rig->fd, 0, rig->granule, flags);
}

static long resolve_poison(const struct trap_rig *rig, uint64_t flags)
{
	return gmem_poison(rig->fd, 0, rig->granule, flags);
}

static long resolve_continue(const struct trap_rig *rig, uint64_t flags)
{
	return gmem_continue(rig->fd, 0, rig->granule, flags);
}

static const struct dontwake_row {
	const char *label;
	long (*resolve)(const struct trap_rig *rig, uint64_t flags);
	bool closed;
	int sig;
} dontwakes[] = {
	{ "copy", resolve_copy, false, 0 },
	{ "zero", resolve_zero, false, 0 },
	{ "poison", resolve_poison, false, SIGBUS },
	{ "continue", resolve_continue, true, 0 },
};

TEST_EACH(dontwake_then_wake, struct dontwake_row, dontwakes)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0);
	struct trap_task task;
	long long before;

	if (row->closed)
		REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, GMEMFD_RANGE_CLOSED));
	trap_read(&task, rig.map);
	trap_event(rig.context);
	REQUIRE(task_asleep(task.tid));
	before = sleeps(&task);
	CHECK_OK(row->resolve(&rig, GMEMFD_RANGE_DONTWAKE));
	CHECK_EQ(xgmem_stats(rig.fd).wakes, 0);
	CHECK_EQ(sleeps(&task), before);
	CHECK(!trap_done(&task, 0));
	/* It is there already for whoever comes now. */
	CHECK_EQ(TOUCH_READ(rig.map), row->sig);
	CHECK_OK(gmem_wake(rig.fd, 0, rig.granule));
	CHECK_EQ(trap_result(&task), row->sig ? -row->sig : rig.map[0]);
	if (row->sig)
		CHECK_EQ(task.touch.code, BUS_MCEERR_AR);
	CHECK_EQ(xgmem_stats(rig.fd).wakes, 1);
	CHECK(trap_quiet(rig.context));
}

#define CROWD 300

static void crowd(size_t pages)
{
	struct gmem_handler handler;
	struct trap_rig rig = trap_rig(pages, MISSING, 0);
	static struct trap_task tasks[CROWD];

	for (int i = 0; i < CROWD; i++)
		trap_read(&tasks[i], rig.map + i % pages * rig.granule);
	CHECK(trap_waiters(rig.fd, CROWD));
	CHECK_EQ(xgmem_stats(rig.fd).events, pages);
	handler = (struct gmem_handler){ .fd = rig.fd, .context = rig.context };
	gmem_handler_start(&handler);
	for (int i = 0; i < CROWD; i++)
		CHECK_EQ(trap_result(&tasks[i]), trap_byte(i % pages * rig.granule));
	gmem_handler_stop(&handler);
	CHECK_EQ(handler.events, pages);
	CHECK_EQ(xgmem_stats(rig.fd).wakes, CROWD);
	CHECK_EQ(xgmem_stats(rig.fd).events, pages);
	CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
}

TEST(crowd_on_many_pages)
{
	crowd(CROWD);
}

TEST(crowd_on_few_pages)
{
	crowd(3);
}

/* --- What they wait in goes away --------------------------------------------------------------------- */

static void lose_munmap(struct trap_rig *rig)
{
	REQUIRE_OK(munmap(rig->map, rig->bytes));
}

static void lose_munmap_and_close(struct trap_rig *rig)
{
	/* The test keeps another descriptor. */
	rig->fd = REQUIRE_FD(dup(rig->fd));
	REQUIRE_OK(munmap(rig->map, rig->bytes));
	REQUIRE_OK(close(rig->fd));
}

static void lose_mprotect(struct trap_rig *rig)
{
	REQUIRE_OK(mprotect(rig->map, rig->bytes, PROT_NONE));
}

static void lose_mremap(struct trap_rig *rig)
{
	void *to = xmmap(NULL, rig->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(mremap(rig->map, rig->bytes, rig->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

static void lose_to_anon(struct trap_rig *rig)
{
	xmmap(rig->map, rig->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	memset(rig->map, 0x11, rig->bytes);
}

static void lose_nothing(struct trap_rig *rig)
{
	(void)rig;
}

static const struct loss_row {
	const char *label;
	void (*lose)(struct trap_rig *rig);
	int sig, code;
	int value;		/* that it reads then; -1: what is provided */
} losses[] = {
	{ "nothing", lose_nothing, 0, 0, -1 },
	{ "munmap", lose_munmap, SIGSEGV, SEGV_MAPERR, 0 },
	{ "munmap_and_close", lose_munmap_and_close, SIGSEGV, SEGV_MAPERR, 0 },
	{ "mprotect", lose_mprotect, SIGSEGV, SEGV_ACCERR, 0 },
	{ "mremap", lose_mremap, SIGSEGV, SEGV_MAPERR, 0 },
	{ "other_memory", lose_to_anon, 0, 0, 0x11 },
};

/* The call does not wait for those who wait; they see what is there when they are woken. */
TEST_EACH(mapping_is_lost, struct loss_row, losses)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	int fd = REQUIRE_FD(dup(rig.fd));
	struct trap_task task;

	trap_read(&task, rig.map + rig.granule);
	trap_event(rig.context);
	row->lose(&rig);
	CHECK(!trap_done(&task, 0.05));
	CHECK_EQ(xgmem_stats(fd).waiters, 1);
	CHECK_OK(trap_copy(fd, rig.granule, rig.granule, 0));
	if (row->sig) {
		CHECK_EQ(trap_result(&task), -row->sig);
		CHECK_EQ(task.touch.code, row->code);
	} else {
		CHECK_EQ(trap_result(&task), row->value < 0 ? trap_byte(rig.granule) : row->value);
	}
	CHECK_EQ(xgmem_stats(fd).waiters, 0);
}

/* Nobody can resolve it any more: what is left is the end of the context, or of the process. */
TEST(file_is_lost)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task task;

	trap_read(&task, rig.map);
	trap_event(rig.context);
	REQUIRE_OK(munmap(rig.map, rig.bytes));
	REQUIRE_OK(close(rig.fd));
	CHECK(!trap_done(&task, 0.05));
	REQUIRE_OK(close(rig.context));
	CHECK_EQ(trap_result(&task), -SIGSEGV);
}

TEST(file_is_lost_and_holds)
{
	struct gmemfd_event event;
	pid_t child;
	int context = xgmem_context();

	child = REQUIRE_OK(fork());
	if (!child) {
		int fd = xgmem(page_size());
		void *map = xmmap(NULL, page_size(), PROT_READ, MAP_SHARED, fd, 0);
		struct trap_task task;

		REQUIRE_OK(gmem_watch(fd, context, 0, page_size(), MISSING, 0, GMEMFD_POLICY_HOLD));
		trap_read(&task, map);
		REQUIRE(trap_waiters(fd, 1));
		REQUIRE_OK(munmap(map, page_size()));
		REQUIRE_OK(close(fd));
		trap_result(&task);
		_exit(1);
	}
	event = trap_event(context);
	CHECK_EQ(event.offset, 0);
	REQUIRE_OK(close(context));
	CHECK_EQ(child_wait(child, 0.05), -1);
	REQUIRE_OK(kill(child, SIGKILL));
	CHECK_EQ(WTERMSIG(child_wait(child, 10)), SIGKILL);
}

/* --- What they wait for changes ---------------------------------------------------------------------- */

TEST(punched_while_waiting_for_a_closed_page)
{
	struct trap_rig rig = trap_rig(PAGES, ALL, 0);
	struct trap_task task;

	REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, GMEMFD_RANGE_CLOSED));
	trap_read(&task, rig.map);
	CHECK_EQ(trap_event(rig.context).flags, GMEMFD_FAULT_MINOR);
	CHECK_OK(gmem_punch(rig.fd, 0, rig.granule));
	/* Its content is gone, and now it misses that. */
	CHECK_EQ(trap_event(rig.context).flags, 0);
	CHECK(!trap_done(&task, 0));
	CHECK_ERRNO(gmem_continue(rig.fd, 0, rig.granule, 0), EFAULT);
	CHECK_OK(gmem_zero(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&task), 0);
}

TEST(punched_while_waiting_in_minor_alone)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MINOR, 0);
	struct trap_task task;

	REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, GMEMFD_RANGE_CLOSED));
	trap_read(&task, rig.map);
	trap_event(rig.context);
	CHECK_OK(gmem_punch(rig.fd, 0, rig.granule));
	CHECK_EQ(trap_result(&task), 0);
	CHECK_EQ(xgmem_stats(rig.fd).faults_zero, 1);
}

TEST(punched_while_waiting_for_an_absent_page)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task task;

	trap_read(&task, rig.map);
	trap_event(rig.context);
	CHECK_OK(gmem_punch(rig.fd, 0, rig.bytes));
	CHECK(!trap_done(&task, 0.05));
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&task), trap_byte(0));
}

/* Punched when it was provided: whoever had it mapped traps anew. */
TEST(punched_page_traps_again)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task task;

	REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(TOUCH_READ(rig.map), 0);
	CHECK_OK(gmem_punch(rig.fd, 0, rig.granule));
	trap_read(&task, rig.map);
	CHECK_EQ(trap_event(rig.context).offset, 0);
	CHECK_OK(gmem_zero(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&task), 0);
}

struct read_args {
	int fd;
	void *to;
	size_t len;
};

static long read_start(void *arg)
{
	struct read_args *a = arg;

	return pread(a->fd, a->to, a->len, 0);
}

/* A read that waits for its destination keeps nobody from the large page that it reads from. */
TEST(read_into_a_page_that_traps)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	int fd = xgmem(HPAGE_SIZE);
	unsigned char *src = xmmap_anon(HPAGE_SIZE);
	struct read_args args = { fd, rig.map + rig.granule + 5, 2 * rig.granule };
	struct trap_task task;

	pattern_fill(src, HPAGE_SIZE, 3);
	REQUIRE_OK(gmem_copy(fd, 0, HPAGE_SIZE, src, 0));
	trap_start(&task, read_start, &args);
	CHECK_EQ(trap_event(rig.context).offset, rig.granule);
	REQUIRE(trap_waiters(rig.fd, 1));
	CHECK_OK(gmem_punch(fd, HPAGE_SIZE / 2, page_size()));
	for (size_t i = 1; i < 4; i++) {
		if (i > 1)
			CHECK_EQ(trap_event(rig.context).offset, i * rig.granule);
		CHECK_OK(trap_copy(rig.fd, i * rig.granule, rig.granule, 0));
	}
	CHECK_EQ(trap_result(&task), args.len);
	CHECK(!memcmp(args.to, src, args.len));
	CHECK(trap_quiet(rig.context));
}
