// SPDX-License-Identifier: GPL-2.0-only
/*
 * A handler of very many watches dies: whoever has to do with other files need not wait for the end of it, and whoever
 * takes over gets all of them.
 */
#include "trap.h"

#define WATCHES 50000

/* A file with as many watches of a page each, whose context a child alone has. */
struct many {
	struct trap_rig rig;
	size_t nr;
	pid_t handler;
};

static struct many many(size_t nr)
{
	struct many m = { .rig = trap_rig(nr, 0, 0), .nr = nr };
	size_t g = m.rig.granule;

	for (size_t i = 0; i < nr; i++)
		REQUIRE_OK(gmem_watch(m.rig.fd, m.rig.context, i * g, g, GMEMFD_MODE_MISSING, i, GMEMFD_POLICY_HOLD));
	m.handler = REQUIRE_OK(fork());
	if (!m.handler)
		for (;;)
			pause();
	REQUIRE_OK(close(m.rig.context));
	return m;
}

static uint64_t orphans(const struct many *m)
{
	return xgmem_stats(m->rig.fd).orphans;
}

/* How often another file has gone while some of the watches were orphans already, and some not yet. */
static int closed_between(struct many *m)
{
	uint64_t now = 0;
	int between = 0;

	REQUIRE_OK(kill(m->handler, SIGKILL));
	for (double end = now_seconds() + 20 * tap_slow(); now < m->nr && now_seconds() < end; ) {
		close(xgmem(m->rig.granule));
		now = orphans(m);
		between += now && now < m->nr;
	}
	REQUIRE_EQ(now, m->nr);
	CHECK_EQ(WTERMSIG(child_wait(m->handler, 10)), SIGKILL);
	return between;
}

TEST(others_go_on)
{
	int context = xgmem_context(), between = 0;

	/* Again where this thread had no CPU in the moment. One may have begun before the end did. */
	for (int i = 0; i < 10 && between < 3; i++) {
		struct many m = many(WATCHES);
		struct trap_task task;

		/* With one who waits, those of each watch are looked for. */
		trap_read(&task, m.rig.map + 3 * m.rig.granule);
		REQUIRE(trap_waiters(m.rig.fd, 1));
		between = closed_between(&m);
		REQUIRE_OK(gmem_attach(m.rig.fd, context, 0, m.rig.bytes));
		CHECK_EQ(orphans(&m), 0);
		CHECK_EQ(trap_event(context).cookie, 3);
		CHECK(trap_quiet(context));
		CHECK_OK(trap_copy(m.rig.fd, 3 * m.rig.granule, m.rig.granule, 0));
		CHECK_EQ(trap_result(&task), trap_byte(3 * m.rig.granule));
		CHECK_OK(gmem_unwatch(m.rig.fd, 0, m.rig.bytes));
		CHECK_EQ(xgmem_stats(m.rig.fd).watches, 0);
		REQUIRE_OK(munmap(m.rig.map, m.rig.bytes));
		close(m.rig.fd);
	}
	CHECK(between > 2);
}

/* The first ATTACH that finds any finds all. */
TEST(attached_while_the_handler_dies)
{
	struct many m = many(WATCHES / 10);
	int context = xgmem_context(), ret;
	struct trap_task task;

	trap_read(&task, m.rig.map + (m.nr - 1) * m.rig.granule);
	REQUIRE(trap_waiters(m.rig.fd, 1));
	REQUIRE_OK(kill(m.handler, SIGKILL));
	do {
		ret = gmem_attach(m.rig.fd, context, 0, m.rig.bytes);
	} while (ret && errno == ENOENT);
	REQUIRE_OK(ret);
	CHECK_EQ(WTERMSIG(child_wait(m.handler, 10)), SIGKILL);
	CHECK_EQ(orphans(&m), 0);
	CHECK_EQ(xgmem_stats(m.rig.fd).watches, m.nr);
	CHECK_EQ(trap_event(context).cookie, m.nr - 1);
	CHECK(trap_quiet(context));
	CHECK_OK(trap_copy(m.rig.fd, (m.nr - 1) * m.rig.granule, m.rig.granule, 0));
	CHECK_EQ(trap_result(&task), trap_byte((m.nr - 1) * m.rig.granule));
}
