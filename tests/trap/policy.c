// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of watches when their handler goes, whether it closes its context or is killed: release, poison, hold;
 * the next handler; and changes of mind.
 */
#include "trap.h"

#include <sys/socket.h>

#define PAGES 8
#define ALL GMEMFD_MODE_ALL
#define RELEASE GMEMFD_POLICY_RELEASE
#define POISON GMEMFD_POLICY_POISON
#define HOLD GMEMFD_POLICY_HOLD

/* The pages of each file here. */
enum {
	P_WAITED,		/* absent, a thread waits, its event may have been read */
	P_CLOSED,		/* closed, a thread waits */
	P_ABSENT,		/* absent, nobody waits */
	P_SHUT,			/* closed, nobody waits */
	P_PRESENT,
};

struct scene {
	struct trap_rig rig;
	size_t g;
	struct trap_task waited, closed;
	pid_t handler;		/* who alone has the context, if not we */
};

enum events { PENDING, READ, NONE };

/* The process that has the context, and dies of SIGKILL. */
static void hand_over(struct scene *s, int events)
{
	int ready[2];
	char byte;

	REQUIRE_OK(pipe2(ready, O_CLOEXEC));
	s->handler = REQUIRE_OK(fork());
	if (!s->handler) {
		/* Its copies of the mapping and of the file are no part of this. */
		while (events--)
			trap_event(s->rig.context);
		REQUIRE_EQ(write(ready[1], "", 1), 1);
		for (;;)
			pause();
	}
	REQUIRE_OK(close(s->rig.context));
	REQUIRE_EQ(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
}

static void set_scene(struct scene *s, uint32_t file_policy, uint32_t watch_policy, enum events events, bool process)
{
	memset(s, 0, sizeof(*s));
	s->rig.granule = page_size();
	s->g = s->rig.granule;
	s->rig.bytes = PAGES * s->g;
	s->rig.fd = REQUIRE_FD(gmem_create(s->rig.bytes, 0, file_policy));
	s->rig.map = xmmap(NULL, s->rig.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->rig.fd, 0);
	s->rig.context = xgmem_context();
	REQUIRE_OK(gmem_watch(s->rig.fd, s->rig.context, 0, s->rig.bytes, ALL, TRAP_COOKIE, watch_policy));
	REQUIRE_OK(trap_copy(s->rig.fd, P_CLOSED * s->g, s->g, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(trap_copy(s->rig.fd, P_SHUT * s->g, s->g, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(trap_copy(s->rig.fd, P_PRESENT * s->g, s->g, 0));
	if (events != NONE) {
		trap_read(&s->waited, s->rig.map + P_WAITED * s->g);
		REQUIRE(trap_waiters(s->rig.fd, 1));
		trap_read(&s->closed, s->rig.map + P_CLOSED * s->g);
		REQUIRE(trap_waiters(s->rig.fd, 2));
	}
	if (process)
		hand_over(s, events == READ ? 2 : 0);
	else if (events == READ)
		for (int i = 0; i < 2; i++)
			trap_event(s->rig.context);
}

static void lose_handler(struct scene *s)
{
	if (!s->handler) {
		REQUIRE_OK(close(s->rig.context));
		return;
	}
	REQUIRE_OK(kill(s->handler, SIGKILL));
	CHECK_EQ(WTERMSIG(child_wait(s->handler, 10)), SIGKILL);
}

static void check_released(struct scene *s, bool waiters)
{
	if (waiters) {
		CHECK_EQ(trap_result(&s->waited), 0);
		CHECK_EQ(trap_result(&s->closed), trap_byte(P_CLOSED * s->g));
	}
	CHECK_EQ(TOUCH_READ(s->rig.map + P_ABSENT * s->g), 0);
	CHECK_EQ(touch_last.value, 0);
	CHECK(pattern_is(s->rig.map + P_SHUT * s->g, s->g, P_SHUT * s->g));
	CHECK(pattern_is(s->rig.map + P_CLOSED * s->g, s->g, P_CLOSED * s->g));
	CHECK(pattern_is(s->rig.map + P_PRESENT * s->g, s->g, P_PRESENT * s->g));
	CHECK_EQ(xgmem_stats(s->rig.fd).watches, 0);
	CHECK_EQ(xgmem_stats(s->rig.fd).orphans, 0);
}

static void check_poisoned(struct scene *s, bool waiters)
{
	char byte;
	int pages[] = { P_WAITED, P_CLOSED, P_ABSENT, P_SHUT };
	int fds[2], context = xgmem_context();

	if (waiters) {
		CHECK_EQ(trap_result(&s->waited), -SIGBUS);
		CHECK_EQ(s->waited.touch.code, BUS_ADRERR);
		CHECK_EQ(trap_result(&s->closed), -SIGBUS);
	}
	REQUIRE_OK(pipe(fds));
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		unsigned char *at = s->rig.map + pages[i] * s->g;

		CHECK_EQ(TOUCH_READ(at), SIGBUS);
		CHECK_EQ(TOUCH_WRITE(at, 1), SIGBUS);
		CHECK_ERRNO(pread(s->rig.fd, &byte, 1, pages[i] * s->g), EIO);
		CHECK_ERRNO(write(fds[1], at, 1), EFAULT);
	}
	CHECK(pattern_is(s->rig.map + P_PRESENT * s->g, s->g, P_PRESENT * s->g));
	CHECK_EQ(xgmem_stats(s->rig.fd).watches, 1);
	CHECK_EQ(xgmem_stats(s->rig.fd).orphans, 1);
	CHECK_EQ(xgmem_stats(s->rig.fd).allocated, 3 * s->g);
	CHECK_ERRNO(gmem_watch(s->rig.fd, context, 0, s->g, ALL, 0, 0), EBUSY);
	/* Whoever has content can still provide it. */
	CHECK_OK(trap_copy(s->rig.fd, P_ABSENT * s->g, s->g, 0));
	CHECK(pattern_is(s->rig.map + P_ABSENT * s->g, s->g, P_ABSENT * s->g));
	CHECK_OK(gmem_continue(s->rig.fd, P_SHUT * s->g, s->g, 0));
	CHECK(pattern_is(s->rig.map + P_SHUT * s->g, s->g, P_SHUT * s->g));
}

static void check_held(struct scene *s, bool waiters)
{
	struct trap_task late;
	int context = xgmem_context(), want = waiters ? 3 : 1;
	struct gmemfd_event event;

	trap_read(&late, s->rig.map + P_SHUT * s->g);
	REQUIRE(trap_waiters(s->rig.fd, want));
	if (waiters)
		CHECK(!trap_done(&s->waited, 0.05) && !trap_done(&s->closed, 0));
	CHECK_EQ(xgmem_stats(s->rig.fd).orphans, 1);
	CHECK_ERRNO(gmem_watch(s->rig.fd, context, 0, s->g, ALL, 0, 0), EBUSY);
	CHECK_OK(gmem_attach(s->rig.fd, context, 0, s->rig.bytes));
	CHECK_EQ(xgmem_stats(s->rig.fd).orphans, 0);
	/* All that is not resolved, with nothing left out because it had been read. */
	for (int i = 0, found = 0; i < want; i++) {
		event = trap_event(context);
		CHECK_EQ(event.cookie, TRAP_COOKIE);
		CHECK_EQ(event.flags, event.offset == P_WAITED * s->g ? 0 : GMEMFD_FAULT_MINOR);
		CHECK(!(found & 1 << event.offset / s->g));
		found |= 1 << event.offset / s->g;
		CHECK_EQ(event.flags ? gmem_continue(s->rig.fd, event.offset, s->g, 0) :
				       trap_copy(s->rig.fd, event.offset, s->g, 0), 0);
	}
	CHECK(trap_quiet(context));
	CHECK_EQ(trap_result(&late), trap_byte(P_SHUT * s->g));
	if (waiters) {
		CHECK_EQ(trap_result(&s->waited), trap_byte(P_WAITED * s->g));
		CHECK_EQ(trap_result(&s->closed), trap_byte(P_CLOSED * s->g));
	}
	CHECK_EQ(trap_probe(s->rig.fd, P_ABSENT * s->g, context, &event), TRAP_WAITS);
}

static void (*const checks[])(struct scene *s, bool waiters) = {
	[RELEASE] = check_released,
	[POISON] = check_poisoned,
	[HOLD] = check_held,
};

static const struct gone_row {
	const char *label;
	uint32_t file, watch, effect;
	enum events events;
	bool killed;
} gone[] = {
	{ "default_is_poison", 0, 0, POISON, PENDING, false },
	{ "file_release", RELEASE, 0, RELEASE, PENDING, false },
	{ "file_hold", HOLD, 0, HOLD, PENDING, false },
	{ "watch_wins", RELEASE, POISON, POISON, PENDING, false },
	{ "release_read", 0, RELEASE, RELEASE, READ, false },
	{ "release_idle", 0, RELEASE, RELEASE, NONE, false },
	{ "poison_read", HOLD, POISON, POISON, READ, false },
	{ "poison_idle", 0, POISON, POISON, NONE, false },
	{ "hold_read", 0, HOLD, HOLD, READ, false },
	{ "hold_idle", POISON, HOLD, HOLD, NONE, false },
	{ "killed_release", 0, RELEASE, RELEASE, PENDING, true },
	{ "killed_release_read", 0, RELEASE, RELEASE, READ, true },
	{ "killed_poison", 0, POISON, POISON, PENDING, true },
	{ "killed_poison_read", 0, POISON, POISON, READ, true },
	{ "killed_hold", 0, HOLD, HOLD, PENDING, true },
	{ "killed_hold_read", 0, HOLD, HOLD, READ, true },
	{ "killed_hold_idle", 0, HOLD, HOLD, NONE, true },
};

TEST_EACH(handler_is_gone, struct gone_row, gone)
{
	struct scene s;

	set_scene(&s, row->file, row->watch, row->events, row->killed);
	lose_handler(&s);
	checks[row->effect](&s, row->events != NONE);
	CHECK(trap_waiters(s.rig.fd, 0));
}

TEST(attach_revives_what_was_poisoned)
{
	struct scene s;
	struct gmemfd_event event;
	int context = xgmem_context();

	set_scene(&s, 0, POISON, NONE, false);
	lose_handler(&s);
	CHECK_EQ(TOUCH_READ(s.rig.map), SIGBUS);
	CHECK_OK(gmem_attach(s.rig.fd, context, 0, s.rig.bytes));
	CHECK_EQ(trap_probe(s.rig.fd, 0, context, &event), TRAP_WAITS);
	CHECK_EQ(event.cookie, TRAP_COOKIE);
	CHECK_OK(trap_copy(s.rig.fd, 0, s.g, 0));
	CHECK(pattern_is(s.rig.map, s.g, 0));
	/* And the same once more. */
	REQUIRE_OK(close(context));
	CHECK_EQ(TOUCH_READ(s.rig.map + P_ABSENT * s.g), SIGBUS);
	CHECK(pattern_is(s.rig.map, s.g, 0));
}

TEST(attach_takes_whole_orphans)
{
	struct trap_rig rig = trap_rig(16, 0, 0);
	size_t g = rig.granule;
	int alive = xgmem_context(), next = xgmem_context();
	struct gmemfd_event event;

	CHECK_ERRNO(gmem_attach(rig.fd, next, 0, rig.bytes), ENOENT);
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, 4 * g, ALL, 1, HOLD));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 4 * g, 4 * g, ALL, 2, HOLD));
	REQUIRE_OK(gmem_watch(rig.fd, alive, 8 * g, 4 * g, ALL, 3, HOLD));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 12 * g, 4 * g, ALL, 4, HOLD));
	CHECK_ERRNO(gmem_attach(rig.fd, next, 0, rig.bytes), ENOENT);
	REQUIRE_OK(close(rig.context));
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 3);
	/* Only a part of any; one that has its context. */
	CHECK_ERRNO(gmem_attach(rig.fd, next, 0, 3 * g), ENOENT);
	CHECK_ERRNO(gmem_attach(rig.fd, next, 2 * g, 4 * g), ENOENT);
	CHECK_ERRNO(gmem_attach(rig.fd, next, 8 * g, 4 * g), ENOENT);
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 3);
	/* The second as a whole, the first in part. */
	CHECK_OK(gmem_attach(rig.fd, next, g, 10 * g));
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 2);
	CHECK_EQ(trap_probe(rig.fd, 5 * g, next, &event), TRAP_WAITS);
	CHECK_EQ(event.cookie, 2);
	CHECK_EQ(trap_probe(rig.fd, 9 * g, alive, &event), TRAP_WAITS);
	CHECK_EQ(event.cookie, 3);
	CHECK_OK(gmem_attach(rig.fd, next, 0, rig.bytes));
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 0);
	CHECK_EQ(trap_probe(rig.fd, 0, next, &event), TRAP_WAITS);
	CHECK_EQ(event.cookie, 1);
	CHECK_EQ(trap_probe(rig.fd, 15 * g, next, &event), TRAP_WAITS);
	CHECK_EQ(event.cookie, 4);
	CHECK_EQ(xgmem_stats(rig.fd).watches, 4);
}

static const struct range_row {
	const char *label;
	uint64_t offset, len;	/* in halves of a page */
} bad_ranges[] = {
	{ "unaligned", 1, 2 },
	{ "unaligned_len", 0, 3 },
	{ "empty", 0, 0 },
	{ "behind_the_end", 2 * PAGES, 2 },
	{ "over_the_end", 0, 2 * PAGES + 2 },
};

TEST_EACH(bad_range, struct range_row, bad_ranges)
{
	struct scene s;
	int context = xgmem_context();

	set_scene(&s, 0, HOLD, NONE, false);
	lose_handler(&s);
	CHECK_ERRNO(gmem_attach(s.rig.fd, context, row->offset * s.g / 2, row->len * s.g / 2), EINVAL);
	CHECK_ERRNO(gmem_policy(s.rig.fd, row->offset * s.g / 2, row->len * s.g / 2, POISON), EINVAL);
	CHECK_EQ(xgmem_stats(s.rig.fd).orphans, 1);
}

/* --- Changes of mind --------------------------------------------------------------------------------- */

TEST(policy_has_its_own_refusals)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	char path[64];
	int ro;

	CHECK_ERRNO(gmem_policy(rig.fd, 0, rig.bytes, HOLD), ENOENT);
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, 4 * rig.granule, ALL, 0, 0));
	CHECK_ERRNO(gmem_policy(rig.fd, 0, 2 * rig.granule, HOLD), ENOENT);
	CHECK_ERRNO(gmem_policy(rig.fd, 4 * rig.granule, rig.granule, HOLD), ENOENT);
	CHECK_ERRNO(gmem_policy(rig.fd, 0, rig.bytes, GMEMFD_POLICY_DEFAULT), EINVAL);
	CHECK_ERRNO(gmem_policy(rig.fd, 0, rig.bytes, HOLD + 1), EINVAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rig.fd);
	ro = REQUIRE_FD(open(path, O_RDONLY));
	CHECK_ERRNO(gmem_policy(ro, 0, rig.bytes, HOLD), EBADF);
	CHECK_ERRNO(gmem_attach(ro, rig.context, 0, rig.bytes), EBADF);
}

static const struct change_row {
	const char *label;
	uint32_t from, to;
	bool orphan;		/* changed when the handler is gone already */
} changes[] = {
	{ "live_poison_to_release", POISON, RELEASE, false },
	{ "live_release_to_poison", RELEASE, POISON, false },
	{ "live_poison_to_hold", POISON, HOLD, false },
	{ "live_hold_to_poison", HOLD, POISON, false },
	{ "orphan_hold_to_poison", HOLD, POISON, true },
	{ "orphan_hold_to_release", HOLD, RELEASE, true },
	{ "orphan_hold_to_hold", HOLD, HOLD, true },
};

TEST_EACH(policy_changes, struct change_row, changes)
{
	struct scene s;

	set_scene(&s, 0, row->from, READ, false);
	if (row->orphan) {
		lose_handler(&s);
		CHECK(!trap_done(&s.waited, 0.05));
		CHECK_EQ(xgmem_stats(s.rig.fd).waiters, 2);
	}
	CHECK_OK(gmem_policy(s.rig.fd, 0, s.rig.bytes, row->to));
	if (!row->orphan) {
		/* Nothing happens as long as the handler is there. */
		CHECK(!trap_done(&s.waited, 0.05));
		CHECK_EQ(xgmem_stats(s.rig.fd).waiters, 2);
		lose_handler(&s);
	}
	checks[row->to](&s, true);
}

/* Those that were answered with SIGBUS have gone; the next ones wait or read zeros. */
static const struct change_row after_poison[] = {
	{ "poison_to_hold", POISON, HOLD, true },
	{ "poison_to_release", POISON, RELEASE, true },
};

TEST_EACH(poison_is_lifted, struct change_row, after_poison)
{
	struct scene s;

	set_scene(&s, 0, row->from, NONE, false);
	lose_handler(&s);
	CHECK_EQ(TOUCH_READ(s.rig.map + P_ABSENT * s.g), SIGBUS);
	CHECK_OK(gmem_policy(s.rig.fd, 0, s.rig.bytes, row->to));
	checks[row->to](&s, false);
}

/* --- Handing over ------------------------------------------------------------------------------------ */

/* The next handler is a process that knows nothing but the file's descriptor, which it was sent. */
TEST(next_handler_is_another_process)
{
	struct scene s;
	int socks[2], status;
	pid_t child;

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	child = REQUIRE_OK(fork());
	if (!child) {
		int fd, context;
		struct gmemfd_event event;
		char byte;

		close(socks[0]);
		fd = REQUIRE_FD(trap_receive_fd(socks[1]));
		context = xgmem_context();
		REQUIRE_OK(gmem_attach(fd, context, 0, xgmem_stats(fd).bytes));
		for (int i = 0; i < 2; i++) {
			event = trap_event(context);
			REQUIRE_EQ(event.cookie, TRAP_COOKIE);
			if (event.flags & GMEMFD_FAULT_MINOR)
				REQUIRE_OK(gmem_continue(fd, event.offset, event.len, 0));
			else
				REQUIRE_OK(trap_copy(fd, event.offset, event.len, 0));
		}
		_exit(read(socks[1], &byte, 1) == 0 ? 0 : 1);
	}
	close(socks[1]);
	set_scene(&s, HOLD, 0, READ, true);
	lose_handler(&s);
	CHECK(!trap_done(&s.waited, 0.05));
	REQUIRE_OK(trap_send_fd(socks[0], s.rig.fd));
	CHECK_EQ(trap_result(&s.waited), trap_byte(P_WAITED * s.g));
	CHECK_EQ(trap_result(&s.closed), trap_byte(P_CLOSED * s.g));
	CHECK_EQ(xgmem_stats(s.rig.fd).orphans, 0);
	close(socks[0]);
	status = child_wait(child, 10);
	CHECK_EQ(status, 0);
}

TEST(one_context_takes_orphans_of_two_files)
{
	struct trap_rig rigs[2] = { trap_rig(PAGES, 0, 0), trap_rig(PAGES, 0, 0) };
	struct trap_task tasks[2];
	int next = xgmem_context(), seen = 0;

	for (int i = 0; i < 2; i++) {
		REQUIRE_OK(gmem_watch(rigs[i].fd, rigs[0].context, 0, rigs[i].bytes, ALL, 100 + i, HOLD));
		trap_read(&tasks[i], rigs[i].map + i * rigs[i].granule);
		trap_event(rigs[0].context);
	}
	REQUIRE_OK(close(rigs[0].context));
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(xgmem_stats(rigs[i].fd).orphans, 1);
		CHECK_OK(gmem_attach(rigs[i].fd, next, 0, rigs[i].bytes));
	}
	for (int i = 0; i < 2; i++) {
		struct gmemfd_event event = trap_event(next);
		int nr = event.cookie - 100;

		REQUIRE(nr == 0 || nr == 1);
		seen |= 1 << nr;
		CHECK_EQ(event.offset, nr * rigs[nr].granule);
		CHECK_OK(trap_copy(rigs[nr].fd, event.offset, event.len, 0));
		CHECK_EQ(trap_result(&tasks[nr]), trap_byte(event.offset));
	}
	CHECK_EQ(seen, 3);
}

/* Those who wait for a page of an orphan that is unwatched, resolved by offset, or killed. */
TEST(held_waiters_need_no_handler_to_end)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	struct trap_task a, b;
	pid_t child;

	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, rig.bytes, ALL, 0, HOLD));
	REQUIRE_OK(close(rig.context));
	trap_read(&a, rig.map);
	trap_read(&b, rig.map + rig.granule);
	child = REQUIRE_OK(fork());
	if (!child)
		_exit(TOUCH_READ(rig.map + 2 * rig.granule));
	REQUIRE(trap_waiters(rig.fd, 3));
	CHECK_OK(gmem_wake(rig.fd, 0, rig.bytes));
	REQUIRE(trap_waiters(rig.fd, 3));
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&a), trap_byte(0));
	REQUIRE_OK(kill(child, SIGKILL));
	CHECK_EQ(WTERMSIG(child_wait(child, 10)), SIGKILL);
	CHECK_OK(gmem_unwatch(rig.fd, 0, rig.bytes));
	CHECK_EQ(trap_result(&b), 0);
	CHECK_EQ(xgmem_stats(rig.fd).waiters, 0);
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 0);
	CHECK_EQ(xgmem_stats(rig.fd).events, 0);
}

/* The VMM goes as a whole while its threads are held: the bench looks for what is left when the module goes. */
TEST(killed_while_held)
{
	pid_t child;
	int ready[2];
	char byte;

	REQUIRE_OK(pipe2(ready, O_CLOEXEC));
	child = REQUIRE_OK(fork());
	if (!child) {
		struct scene s;

		set_scene(&s, HOLD, 0, READ, false);
		lose_handler(&s);
		REQUIRE_EQ(xgmem_stats(s.rig.fd).waiters, 2);
		REQUIRE_EQ(write(ready[1], "", 1), 1);
		for (;;)
			pause();
	}
	REQUIRE_EQ(read(ready[0], &byte, 1), 1);
	REQUIRE_OK(kill(child, SIGKILL));
	CHECK_EQ(WTERMSIG(child_wait(child, 10)), SIGKILL);
}
