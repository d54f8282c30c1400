// SPDX-License-Identifier: GPL-2.0-only
/*
 * Accidents in the middle of many faults: the handler dies, those who wait die, the file is closed, punched, unwatched,
 * its memory cgroup is full. Nobody hangs, and what a thread sees is what somebody decided that it should see.
 */
#include "gmem.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define WALKERS 72
#define EACH	4			/* pages that a walker touches */
#define PAGES	(WALKERS * EACH)

static int fd, context;
static size_t ps;
static unsigned char *map;
static atomic_uint good, zeros, sigbus, other, done;

/* Touches its pages, spread over the file, and counts what it found. */
static void *walk(void *arg)
{
	size_t me = (uintptr_t)arg;
	unsigned char *want = aligned_alloc(ps, ps);

	REQUIRE(want);
	for (size_t i = 0; i < EACH; i++) {
		size_t at = (i * WALKERS + me) * ps;

		pattern_fill(want, ps, at);
		if (TOUCH_READ(map + at))
			sigbus++;
		else if (!memcmp(map + at, want, ps))
			good++;
		else if (memset(want, 0, ps), !memcmp(map + at, want, ps))
			zeros++;
		else
			other++;
	}
	free(want);
	done++;
	return NULL;
}

static pthread_t walkers[WALKERS];

static void start_walkers(void)
{
	for (size_t i = 0; i < WALKERS; i++)
		walkers[i] = thread_start(walk, (void *)i);
}

static void join_walkers(void)
{
	for (size_t i = 0; i < WALKERS; i++)
		REQUIRE(thread_join_for(walkers[i], 10));
	CHECK_EQ(good + zeros + sigbus + other, PAGES);
	CHECK_EQ(other, 0);
	CHECK_EQ(xgmem_stats(fd).waiters, 0);
}

static void make_file(uint32_t policy)
{
	ps = page_size();
	fd = xgmem(PAGES * ps);
	context = xgmem_context();
	map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE_OK(gmem_watch(fd, context, 0, PAGES * ps, GMEMFD_MODE_MISSING, 7, policy));
}

/* A process that handles faults until it is killed; the context is its alone. After so many pages it only reads. */
static pid_t handler_process(unsigned int pages)
{
	pid_t pid = REQUIRE_OK(fork());

	if (pid) {
		REQUIRE_OK(close(context));
		return pid;
	}
	for (unsigned char *buf = aligned_alloc(ps, ps);; ) {
		struct gmemfd_event event;

		if (read(context, &event, sizeof(event)) != sizeof(event))
			_exit(1);
		if (!pages)
			continue;
		pattern_fill(buf, ps, event.offset);
		gmem_copy(fd, event.offset, event.len, buf, 0);
		pages--;
	}
}

static void kill_and_wait(pid_t pid)
{
	int status;

	REQUIRE_OK(kill(pid, SIGKILL));
	status = child_wait(pid, 10);
	CHECK(status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- The handler dies -------------------------------------------------------------------------------- */

static const struct policy_row {
	const char *label;
	uint32_t policy;
	unsigned int pages;	/* that it provided before */
} policies[] = {
	{ "poison", GMEMFD_POLICY_POISON, 40 },
	{ "poison_at_once", GMEMFD_POLICY_POISON, 0 },
	{ "release", GMEMFD_POLICY_RELEASE, 40 },
	{ "hold", GMEMFD_POLICY_HOLD, 40 },
	{ "hold_at_once", GMEMFD_POLICY_HOLD, 0 },
};

TEST_EACH(handler_dies, struct policy_row, policies)
{
	struct gmem_handler heir;
	pid_t pid;

	make_file(row->policy);
	pid = handler_process(row->pages);
	start_walkers();
	/* It has stopped to provide, and all who are left wait. */
	REQUIRE(wait_for(xgmem_stats(fd).copied == row->pages * ps, 20));
	REQUIRE(wait_for(xgmem_stats(fd).waiters == WALKERS - done, 20));
	CHECK(xgmem_stats(fd).waiters >= 64 || row->pages);
	kill_and_wait(pid);

	if (row->policy == GMEMFD_POLICY_HOLD) {
		CHECK(wait_for(xgmem_stats(fd).orphans == 1, 5));
		CHECK_EQ(sigbus + zeros, 0);
		heir = (struct gmem_handler){ .fd = fd, .context = xgmem_context() };
		REQUIRE_OK(gmem_attach(fd, heir.context, 0, PAGES * ps));
		gmem_handler_start(&heir);
		join_walkers();
		gmem_handler_stop(&heir);
		CHECK_EQ(good, PAGES);
		CHECK_EQ(heir.events, PAGES - row->pages);
		return;
	}
	join_walkers();
	CHECK_EQ(good, row->pages);
	CHECK_EQ(row->policy == GMEMFD_POLICY_POISON ? sigbus : zeros, PAGES - row->pages);
	if (row->policy == GMEMFD_POLICY_RELEASE)
		return;
	/* Another one takes over: what was refused is to be had. */
	heir = (struct gmem_handler){ .fd = fd, .context = xgmem_context() };
	good = 0;
	sigbus = 0;
	REQUIRE_OK(gmem_attach(fd, heir.context, 0, PAGES * ps));
	gmem_handler_start(&heir);
	start_walkers();
	join_walkers();
	gmem_handler_stop(&heir);
	CHECK_EQ(good, PAGES);
}

/* --- Those who wait die ------------------------------------------------------------------------------ */

TEST(faulting_process_dies)
{
	struct gmemfd_event event;
	struct gmem_handler handler;
	unsigned int reported = 0;
	pid_t pid;

	make_file(0);
	pid = REQUIRE_OK(fork());
	if (!pid) {
		start_walkers();
		join_walkers();
		_exit(1);
	}
	REQUIRE(gmem_waiters(fd, WALKERS, 20));
	/* Some of its events have been read, others not; ours wait for the same pages, behind those of the dying. */
	while (reported < 20 && gmem_event(context, &event, 5))
		reported++;
	CHECK_EQ(reported, 20);
	start_walkers();
	REQUIRE(gmem_waiters(fd, 2 * WALKERS, 20));
	CHECK_EQ(xgmem_stats(fd).events, WALKERS);
	kill_and_wait(pid);
	CHECK_EQ(xgmem_stats(fd).waiters, WALKERS);
	CHECK_EQ(done, 0);
	/* Those that were read before stand for the survivors, too: provide them as a handler would. */
	for (size_t i = 0; i < WALKERS; i++) {
		unsigned char *buf = aligned_alloc(ps, ps);

		pattern_fill(buf, ps, i * ps);
		CHECK_OK(gmem_copy(fd, i * ps, ps, buf, 0));
		free(buf);
	}
	handler = (struct gmem_handler){ .fd = fd, .context = context };
	gmem_handler_start(&handler);
	join_walkers();
	gmem_handler_stop(&handler);
	CHECK_EQ(good, PAGES);
	/* Nothing of the dead is left to be reported. */
	CHECK(!gmem_event(context, &event, 0));
}

TEST(unread_events_of_the_dead_disappear)
{
	struct gmemfd_event event;
	pid_t pid;

	make_file(0);
	pid = REQUIRE_OK(fork());
	if (!pid) {
		start_walkers();
		join_walkers();
		_exit(1);
	}
	REQUIRE(gmem_waiters(fd, WALKERS, 20));
	kill_and_wait(pid);
	CHECK_EQ(xgmem_stats(fd).waiters, 0);
	CHECK(!gmem_event(context, &event, 0));
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
}

/* --- The file is closed ------------------------------------------------------------------------------ */

TEST(closed_by_those_who_wait)
{
	pid_t pid;
	int own;

	make_file(0);
	own = fd;
	pid = handler_process(UINT32_MAX);
	start_walkers();
	/* The only descriptor is the handler's now. */
	fd = -1;
	REQUIRE_OK(close(own));
	for (size_t i = 0; i < WALKERS; i++)
		REQUIRE(thread_join_for(walkers[i], 10));
	CHECK_EQ(good, PAGES);
	kill_and_wait(pid);
}

TEST(closed_everywhere)
{
	make_file(0);
	start_walkers();
	REQUIRE(gmem_waiters(fd, WALKERS, 20));
	/* None can provide pages any more. They wait on, until the handler goes, too. */
	REQUIRE_OK(close(fd));
	sleep_seconds(0.05);
	CHECK_EQ(done, 0);
	REQUIRE_OK(close(context));
	for (size_t i = 0; i < WALKERS; i++)
		REQUIRE(thread_join_for(walkers[i], 10));
	CHECK_EQ(sigbus, PAGES);
}

/* --- Punched, unwatched ------------------------------------------------------------------------------ */

TEST(punched_all_the_time)
{
	struct gmem_handler handler;
	unsigned int rounds = 0;

	make_file(0);
	handler = (struct gmem_handler){ .fd = fd, .context = context };
	start_walkers();
	REQUIRE(gmem_waiters(fd, WALKERS, 20));
	REQUIRE_OK(gmem_punch(fd, 0, PAGES * ps));
	CHECK_EQ(xgmem_stats(fd).punched, 0);
	gmem_handler_start(&handler);
	/* A hole over some of it after the other, until all have seen what they wanted and content went. */
	while ((done < WALKERS && rounds < 2000) || !xgmem_stats(fd).punched) {
		REQUIRE_OK(gmem_punch(fd, (rounds * 37 % PAGES) * ps, (1 + rounds % 5) * ps));
		rounds++;
		sleep_seconds(0.002);
	}
	join_walkers();
	gmem_handler_stop(&handler);
	CHECK_EQ(good, PAGES);
	tap_diag("%u holes, %llu bytes punched", rounds, (unsigned long long)xgmem_stats(fd).punched);
}

TEST(unwatched)
{
	struct gmem_handler handler;

	make_file(0);
	start_walkers();
	REQUIRE(gmem_waiters(fd, WALKERS, 20));
	/* The first half of those who wait now is let go, and finds zeros; on the rest of their way it traps. */
	REQUIRE_OK(gmem_unwatch(fd, 0, WALKERS / 2 * ps));
	CHECK(wait_for(zeros == WALKERS / 2, 10));
	CHECK(gmem_waiters(fd, WALKERS, 10));
	CHECK_EQ(done, 0);
	handler = (struct gmem_handler){ .fd = fd, .context = context };
	gmem_handler_start(&handler);
	join_walkers();
	gmem_handler_stop(&handler);
	CHECK_EQ(zeros, WALKERS / 2);
	CHECK_EQ(good, PAGES - WALKERS / 2);
}

static atomic_uint reads[2];

static void *read_on_and_on(void *arg)
{
	static unsigned char buf[2][16384];
	unsigned char *mine = buf[(uintptr_t)arg];

	while (!done) {
		REQUIRE_OK(pread(fd, mine, sizeof(buf[0]), HPAGE_SIZE + 100 * ps));
		reads[(uintptr_t)arg]++;
	}
	return NULL;
}

/* Who reads uses a folio for a moment only, also while it waits for the puncher: holes are made all the same. */
TEST(punched_under_readers)
{
	unsigned char *src = xmmap_anon(HPAGE_SIZE), *page = xmmap_anon(ps = page_size());
	pthread_t readers[2];
	unsigned int rounds = 0, before[2];

	pattern_fill(src, HPAGE_SIZE, 1);
	fd = xgmem(2 * HPAGE_SIZE);
	for (size_t i = 0; i < 2; i++)
		readers[i] = thread_start(read_on_and_on, (void *)i);
	for (size_t i = 0; i < 20; i++) {
		unsigned int busy = 0;

		REQUIRE_OK(gmem_punch(fd, HPAGE_SIZE, HPAGE_SIZE));
		for (size_t k = 0; k < 2; k++)
			before[k] = reads[k];
		REQUIRE_OK(gmem_copy(fd, HPAGE_SIZE, HPAGE_SIZE, src, 0));
		/* Both are at it. */
		REQUIRE(wait_for(reads[0] > before[0] + 1 && reads[1] > before[1] + 1, 10));
		CHECK_OK(gmem_punch_soon(fd, HPAGE_SIZE + 50 * ps, ps, &busy));
		rounds += !!busy;
		CHECK(!gmem_has_content(fd, HPAGE_SIZE + 50 * ps));
		REQUIRE_EQ(pread(fd, page, ps, HPAGE_SIZE + 511 * ps), ps);
		CHECK(!memcmp(page, src + 511 * ps, ps));
	}
	done = 1;
	for (size_t i = 0; i < 2; i++)
		thread_join(readers[i]);
	/* It is by accident if it has to be tried again. */
	CHECK(rounds < 10);
}

/* --- No memory left in the cgroup -------------------------------------------------------------------- */

#define CGROUP "/sys/fs/cgroup/accidents"

TEST(cgroup_is_full)
{
	unsigned int refused = 0;
	unsigned char *buf;
	pid_t pid;
	int status;

	if (write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		SKIP("no memory controller in cgroup2");
	if (mkdir(CGROUP, 0755))
		REQUIRE_EQ(errno, EEXIST);
	pid = REQUIRE_OK(fork());
	if (!pid) {
		REQUIRE_OK(write_file(CGROUP "/memory.max", "max"));
		REQUIRE_OK(write_file(CGROUP "/cgroup.procs", "%d", getpid()));
		make_file(0);
		REQUIRE_OK(write_file("/sys/fs/cgroup/cgroup.procs", "%d", getpid()));
		/* Room for a part of it. */
		REQUIRE_OK(write_file(CGROUP "/memory.max", "%zu", PAGES / 2 * ps));
		buf = aligned_alloc(ps, ps);
		start_walkers();
		REQUIRE(gmem_waiters(fd, WALKERS, 20));
		while (done < WALKERS) {
			struct gmemfd_event event;

			if (!gmem_event(context, &event, 0.2))
				continue;
			pattern_fill(buf, ps, event.offset);
			while (gmem_copy(fd, event.offset, ps, buf, 0)) {
				REQUIRE_EQ(errno, ENOMEM);
				/* It waits on, unharmed, until there is room. */
				CHECK(!gmem_has_content(fd, event.offset));
				if (++refused == 5)
					REQUIRE_OK(write_file(CGROUP "/memory.max", "max"));
			}
		}
		join_walkers();
		CHECK_EQ(good, PAGES);
		CHECK_EQ(refused, 5);
		_exit(0);
	}
	status = child_wait(pid, 25);
	CHECK(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* Without pages nobody holds the cgroup. */
	CHECK(wait_for(!rmdir(CGROUP) || errno == ENOENT, 10));
	CHECK_ERRNO(access(CGROUP, F_OK), ENOENT);
}
