// SPDX-License-Identifier: GPL-2.0-only
/*
 * Watches through the library: what traps to whom, handlers that die and those that take over, and reading events.
 */
#include "lib.h"

#include <poll.h>

TEST(watch_by_default)
{
	struct lib_rig rig = lib_rig(4);
	struct pollfd p = { .fd = rig.context, .events = POLLIN };
	struct lib_reader reader;
	struct gmemfd_event event;

	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, 2 * rig.page, NULL), 0);
	CHECK_EQ(gmemfd_read_events(rig.context, &event, 1), -EAGAIN);
	/* Outside of it nothing traps. */
	CHECK_EQ(TOUCH_READ(rig.map + 2 * rig.page), 0);
	lib_reader_start(&reader, rig.map + rig.page);
	CHECK_EQ(poll(&p, 1, 10000 * tap_slow()), 1);
	event = lib_event(rig.context);
	CHECK_EQ(event.type, GMEMFD_EVENT_FAULT);
	CHECK_EQ(event.flags, 0);
	CHECK_EQ(event.offset, rig.page);
	CHECK_EQ(event.len, rig.page);
	CHECK_EQ(event.cookie, 0);
	CHECK_EQ(gmemfd_zero(rig.fd, rig.page, rig.page, 0, NULL), 0);
	CHECK(lib_reader_done(&reader));
	CHECK_EQ(reader.saw->sig, 0);
}

TEST(watch_with_options)
{
	struct lib_rig rig = lib_rig(4);
	struct gmemfd_watch_opts opts = {
		.sz = sizeof(opts),
		.modes = GMEMFD_MODE_MINOR,
		.cookie = 0xc00c1ec00c1e,
		.policy = GMEMFD_POLICY_RELEASE,
	};
	struct lib_reader reader;
	struct gmemfd_event event;

	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.bytes, &opts), 0);
	CHECK_EQ(gmemfd_zero(rig.fd, 0, rig.page, GMEMFD_RANGE_CLOSED, NULL), 0);
	lib_reader_start(&reader, rig.map);
	event = lib_event(rig.context);
	CHECK_EQ(event.flags, GMEMFD_FAULT_MINOR);
	CHECK_EQ(event.cookie, 0xc00c1ec00c1e);
	/* Under its policy it is gone with its context, and the page open. */
	REQUIRE_OK(close(rig.context));
	CHECK(lib_reader_done(&reader));
	CHECK_EQ(reader.saw->sig, 0);
	CHECK_EQ(lib_stats(rig.fd).watches, 0);
}

TEST(watch_refuses)
{
	struct lib_rig rig = lib_rig(4);
	struct gmemfd_watch_opts opts = { .sz = sizeof(opts) };

	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, 0, NULL), -EINVAL);
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 1, rig.page, NULL), -EINVAL);
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, 2 * rig.bytes, NULL), -EINVAL);
	CHECK_EQ(gmemfd_watch(rig.fd, rig.fd, 0, rig.page, NULL), -EBADF);
	CHECK_EQ(gmemfd_watch(rig.fd, -1, 0, rig.page, NULL), -EBADF);
	CHECK_EQ(gmemfd_watch(-1, rig.context, 0, rig.page, NULL), -EBADF);
	CHECK_EQ(gmemfd_watch(lib_read_only(rig.fd), rig.context, 0, rig.page, NULL), -EBADF);
	CHECK_EQ(gmemfd_watch(rig.dev, rig.context, 0, rig.page, NULL), -ENOTTY);
	opts.flags = 1ull << 63;
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &opts), -EINVAL);
	opts.flags = 0;
	opts.modes = 1ull << 63;
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &opts), -EINVAL);
	opts.modes = 0;
	opts.policy = 77;
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &opts), -EINVAL);
	opts.policy = 0;
	opts.reserved = 1;
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &opts), -EINVAL);
	opts.reserved = 0;
	CHECK_EQ(lib_stats(rig.fd).watches, 0);
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &opts), 0);
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &opts), -EBUSY);
}

TEST(watch_opts_of_other_sizes)
{
	struct lib_rig rig = lib_rig(4);
	struct {
		struct gmemfd_watch_opts opts;
		unsigned char more[64];
	} room = { .opts.cookie = 5 };
	size_t first = sizeof(room.opts);

	for (room.opts.sz = 0; room.opts.sz < first; room.opts.sz++)
		CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &room.opts), -EINVAL);
	room.opts.sz = sizeof(room);
	room.more[0] = 1;
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &room.opts), -E2BIG);
	room.more[0] = 0;
	CHECK_EQ(lib_stats(rig.fd).watches, 0);
	CHECK_EQ(gmemfd_watch(rig.fd, rig.context, 0, rig.page, &room.opts), 0);
}

TEST(unwatch_a_part)
{
	struct lib_rig rig = lib_rig(4);
	struct lib_reader readers[2];

	MUST(gmemfd_watch(rig.fd, rig.context, 0, rig.bytes, NULL));
	lib_reader_start(&readers[0], rig.map);
	lib_event(rig.context);
	lib_reader_start(&readers[1], rig.map + 3 * rig.page);
	lib_event(rig.context);
	CHECK_EQ(gmemfd_unwatch(rig.fd, 0, 2 * rig.page), 0);
	CHECK(lib_reader_done(&readers[0]));
	CHECK_EQ(readers[0].saw->value, 0);
	CHECK(lib_reader_waits(&readers[1]));
	CHECK_EQ(gmemfd_unwatch(rig.fd, 0, rig.bytes), 0);
	CHECK(lib_reader_done(&readers[1]));
	CHECK_EQ(gmemfd_unwatch(rig.fd, 0, rig.bytes), 0);
	CHECK_EQ(gmemfd_unwatch(rig.fd, 0, 0), -EINVAL);
	CHECK_EQ(gmemfd_unwatch(lib_read_only(rig.fd), 0, rig.page), -EBADF);
}

TEST(attach_takes_over)
{
	struct lib_rig rig = lib_rig(4);
	struct gmemfd_watch_opts opts = { .sz = sizeof(opts), .policy = GMEMFD_POLICY_HOLD, .cookie = 3 };
	struct lib_reader reader;
	struct gmemfd_event event;
	int heir = MUST(gmemfd_context(rig.dev, O_NONBLOCK));

	MUST(gmemfd_watch(rig.fd, rig.context, 0, rig.bytes, &opts));
	CHECK_EQ(gmemfd_attach(rig.fd, heir, 0, rig.bytes), -ENOENT);
	lib_reader_start(&reader, rig.map + rig.page);
	lib_event(rig.context);
	REQUIRE_OK(close(rig.context));
	CHECK_EQ(lib_stats(rig.fd).orphans, 1);
	CHECK_EQ(gmemfd_attach(rig.fd, heir, 0, 2 * rig.bytes), -EINVAL);
	CHECK_EQ(gmemfd_attach(rig.fd, rig.fd, 0, rig.bytes), -EBADF);
	CHECK_EQ(gmemfd_attach(rig.fd, heir, 0, rig.bytes), 0);
	CHECK_EQ(lib_stats(rig.fd).orphans, 0);
	event = lib_event(heir);
	CHECK_EQ(event.offset, rig.page);
	CHECK_EQ(event.cookie, 3);
	CHECK_EQ(gmemfd_zero(rig.fd, rig.page, rig.page, 0, NULL), 0);
	CHECK(lib_reader_done(&reader));
}

TEST(policy_is_followed_at_once)
{
	struct lib_rig rig = lib_rig(4);
	struct gmemfd_watch_opts opts = { .sz = sizeof(opts), .policy = GMEMFD_POLICY_HOLD };
	struct lib_reader reader;

	CHECK_EQ(gmemfd_set_policy(rig.fd, 0, rig.bytes, GMEMFD_POLICY_POISON), -ENOENT);
	MUST(gmemfd_watch(rig.fd, rig.context, 0, rig.bytes, &opts));
	CHECK_EQ(gmemfd_set_policy(rig.fd, 0, rig.bytes, GMEMFD_POLICY_DEFAULT), -EINVAL);
	lib_reader_start(&reader, rig.map);
	lib_event(rig.context);
	REQUIRE_OK(close(rig.context));
	CHECK(lib_reader_waits(&reader));
	CHECK_EQ(gmemfd_set_policy(rig.fd, 0, rig.bytes, GMEMFD_POLICY_POISON), 0);
	CHECK(lib_reader_done(&reader));
	CHECK_EQ(reader.saw->sig, SIGBUS);
}

/* --- Events ------------------------------------------------------------------------------------------ */

TEST(as_many_events_as_there_is_room_for)
{
	struct lib_rig rig = lib_rig(8);
	struct gmemfd_event events[8], seen;
	struct lib_reader readers[5];
	unsigned int pages = 0;

	MUST(gmemfd_watch(rig.fd, rig.context, 0, rig.bytes, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		lib_reader_start(&readers[i], rig.map + i * rig.page);
	REQUIRE(wait_for(lib_stats(rig.fd).events == ARRAY_SIZE(readers), 10));
	memset(events, 0xa5, sizeof(events));
	CHECK_EQ(gmemfd_read_events(rig.context, events, 2), 2);
	CHECK(all_bytes_are(&events[2], sizeof(events[2]), 0xa5));
	CHECK_EQ(gmemfd_read_events(rig.context, events + 2, 6), 3);
	CHECK(all_bytes_are(&events[5], sizeof(events[5]), 0xa5));
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		pages |= 1 << (events[i].offset / rig.page);
	CHECK_EQ(pages, 0x1f);
	CHECK_EQ(gmemfd_read_events(rig.context, &seen, 1), -EAGAIN);
	MUST(gmemfd_zero(rig.fd, 0, rig.bytes, 0, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		CHECK(lib_reader_done(&readers[i]));
}

TEST(read_refuses)
{
	struct lib_rig rig = lib_rig(1);
	/* Not on the stack, which may be nearer to the end of the address space than so many records are long. */
	static struct gmemfd_event event;
	int pipes[2];

	CHECK_EQ(gmemfd_read_events(rig.context, &event, 0), -EINVAL);
	CHECK_EQ(gmemfd_read_events(-1, &event, 1), -EBADF);
	/* Not even UINT_MAX records overflow: there is none to read. */
	CHECK_EQ(gmemfd_read_events(rig.context, &event, UINT32_MAX), -EAGAIN);
	/* What is no context at all neither makes events nor waits for ever. */
	CHECK_EQ(gmemfd_read_events(REQUIRE_FD(open("/dev/null", O_RDONLY)), &event, 1), -EPROTO);
	REQUIRE_OK(pipe(pipes));
	REQUIRE_EQ(write(pipes[1], "rubbish", 7), 7);
	CHECK_EQ(gmemfd_read_events(pipes[0], &event, 1), -EPROTO);
}

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
	handled++;
}

struct waiter {
	int context;
	pid_t tid;
	struct gmemfd_event event;
	int ret;
};

static void *wait_for_event(void *arg)
{
	struct waiter *waiter = arg;

	__atomic_store_n(&waiter->tid, gettid(), __ATOMIC_RELEASE);
	waiter->ret = gmemfd_read_events(waiter->context, &waiter->event, 1);
	return NULL;
}

/* A read waits on a context that blocks; a signal ends it, and is told. */
TEST(read_is_interrupted)
{
	struct lib_rig rig = lib_rig(1);
	struct waiter waiter = { .context = MUST(gmemfd_context(rig.dev, 0)) };
	struct sigaction sa = { .sa_handler = on_signal };
	pthread_t thread;

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	thread = thread_start(wait_for_event, &waiter);
	REQUIRE(wait_for(waiter.tid && task_state(waiter.tid) == 'S', 10));
	/* It may sleep on its way there: again until it is heard. */
	CHECK(wait_for(pthread_kill(thread, SIGUSR1) || thread_join_for(thread, 0.01), 10));
	CHECK_EQ(waiter.ret, -EINTR);
	CHECK(handled >= 1);
}

/* --- All of it ---------------------------------------------------------------------------------------- */

#define PAGES 256

struct crew {
	struct lib_rig *rig;
	int stop;
	int wrong;
};

static void *handle(void *arg)
{
	struct crew *crew = arg;
	unsigned char *page = aligned_alloc(crew->rig->page, crew->rig->page);
	struct gmemfd_event events[4];
	int n, err;

	REQUIRE(page);
	while (!__atomic_load_n(&crew->stop, __ATOMIC_RELAXED)) {
		n = gmemfd_read_events(crew->rig->context, events, ARRAY_SIZE(events));
		if (n == -EAGAIN)
			sleep_seconds(0.0005);
		for (int i = 0; i < n; i++) {
			pattern_fill(page, crew->rig->page, events[i].offset);
			err = gmemfd_copy(crew->rig->fd, events[i].offset, page, crew->rig->page, 0, NULL);
			if (err && err != -EEXIST)
				__atomic_add_fetch(&crew->wrong, 1, __ATOMIC_RELAXED);
		}
	}
	free(page);
	return NULL;
}

static void *touch_all(void *arg)
{
	struct crew *crew = arg;
	struct lib_rig *rig = crew->rig;

	for (size_t at = 0; at < rig->bytes; at += rig->page)
		if (!pattern_is(rig->map + at, rig->page, at))
			__atomic_add_fetch(&crew->wrong, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Several handlers of one context and several who touch: the library has nothing that they would have to share. */
TEST(threads_share_descriptors)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct crew crew = { .rig = &rig };
	pthread_t handlers[3], touchers[3];

	MUST(gmemfd_watch(rig.fd, rig.context, 0, rig.bytes, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
		handlers[i] = thread_start(handle, &crew);
		touchers[i] = thread_start(touch_all, &crew);
	}
	for (size_t i = 0; i < ARRAY_SIZE(touchers); i++)
		thread_join(touchers[i]);
	crew.stop = 1;
	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++)
		thread_join(handlers[i]);
	CHECK_EQ(crew.wrong, 0);
	CHECK_EQ(lib_stats(rig.fd).copied, rig.bytes);
}
