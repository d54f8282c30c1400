// SPDX-License-Identifier: GPL-2.0-only
/*
 * The descriptor of a handler: read, poll and their kin, what a bad buffer does, several readers, and descriptors that
 * other processes have of it.
 */
#include "trap.h"
#include "uring.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

#define PAGES 32
#define MISSING GMEMFD_MODE_MISSING
#define RECORD sizeof(struct gmemfd_event)

static void set_nonblock(int context)
{
	REQUIRE_OK(fcntl(context, F_SETFL, O_NONBLOCK));
}

TEST(short_buffer_is_refused)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	char buf[RECORD];
	struct trap_task task;

	/* With and without an event, which is not lost by it. */
	for (int i = 0; i < 2; i++) {
		for (size_t len = 0; len < RECORD; len += 9)
			CHECK_ERRNO(read(rig.context, buf, len), EINVAL);
		CHECK_ERRNO(read(rig.context, buf, RECORD - 1), EINVAL);
		if (i)
			break;
		trap_read(&task, rig.map);
		REQUIRE(trap_waiters(rig.fd, 1));
	}
	CHECK_EQ(trap_event(rig.context).offset, 0);
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	trap_result(&task);
}

TEST(as_many_records_as_fit)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct gmemfd_event events[8];
	struct trap_task tasks[5];
	int at = 0;

	set_nonblock(rig.context);
	CHECK_ERRNO(read(rig.context, events, sizeof(events)), EAGAIN);
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
		trap_read(&tasks[i], rig.map + i * rig.granule);
		REQUIRE(trap_waiters(rig.fd, i + 1));
	}
	/* One and a half make one. */
	CHECK_EQ(read(rig.context, events, RECORD + RECORD / 2), RECORD);
	CHECK_EQ(events[0].offset, at++ * rig.granule);
	CHECK_EQ(read(rig.context, events, 2 * RECORD), 2 * RECORD);
	CHECK_EQ(events[0].offset, at++ * rig.granule);
	CHECK_EQ(events[1].offset, at++ * rig.granule);
	CHECK_EQ(read(rig.context, events, sizeof(events)), 2 * RECORD);
	CHECK_EQ(events[0].offset, at++ * rig.granule);
	CHECK_EQ(events[1].offset, at++ * rig.granule);
	CHECK_ERRNO(read(rig.context, events, sizeof(events)), EAGAIN);
	CHECK_OK(trap_copy(rig.fd, 0, rig.bytes, 0));
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
		trap_result(&tasks[i]);
}

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
	handled++;
}

static long read_one(void *arg)
{
	struct gmemfd_event event;
	ssize_t n = read(*(int *)arg, &event, sizeof(event));

	return n == (ssize_t)RECORD ? (long)event.offset : -1;
}

TEST(read_waits)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task reader, task;
	struct sigaction sa = { .sa_handler = on_signal };

	trap_start(&reader, read_one, &rig.context);
	REQUIRE(wait_for(task_state(reader.tid) == 'S', 10));
	CHECK(!trap_done(&reader, 0));
	trap_read(&task, rig.map + 3 * rig.granule);
	CHECK_EQ(trap_result(&reader), 3 * rig.granule);
	CHECK_OK(trap_copy(rig.fd, 3 * rig.granule, rig.granule, 0));
	trap_result(&task);

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	trap_start(&reader, read_one, &rig.context);
	REQUIRE(wait_for(task_state(reader.tid) == 'S', 10));
	/* It may sleep on its way there: again until it is heard. */
	CHECK(wait_for(trap_done(&reader, 0.01) || pthread_kill(reader.thread, SIGUSR1), 10));
	CHECK_EQ(trap_result(&reader), -1);
	CHECK_EQ(reader.err, EINTR);
	CHECK(handled >= 1);
}

TEST(resolved_before_it_is_read_disappears)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct pollfd p = { .fd = rig.context, .events = POLLIN };
	struct gmemfd_event event;
	struct trap_task task;

	set_nonblock(rig.context);
	trap_read(&task, rig.map);
	REQUIRE(trap_waiters(rig.fd, 1));
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(trap_result(&task), trap_byte(0));
	CHECK_EQ(poll(&p, 1, 0), 0);
	CHECK_ERRNO(read(rig.context, &event, sizeof(event)), EAGAIN);
}

/* --- Buffers ----------------------------------------------------------------------------------------- */

TEST(bad_buffer_loses_nothing)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	char *end = (char *)xmmap_anon(2 * rig.granule) + rig.granule;
	void *read_only = xmmap(NULL, rig.granule, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct trap_task tasks[2];

	REQUIRE_OK(munmap(end, rig.granule));
	trap_read(&tasks[0], rig.map);
	REQUIRE(trap_waiters(rig.fd, 1));
	trap_read(&tasks[1], rig.map + rig.granule);
	REQUIRE(trap_waiters(rig.fd, 2));
	CHECK_ERRNO(read(rig.context, end, RECORD), EFAULT);
	CHECK_ERRNO(read(rig.context, end - RECORD / 2, RECORD), EFAULT);
	CHECK_ERRNO(read(rig.context, read_only, RECORD), EFAULT);
	/* Room for one, and half a record that is not there. */
	CHECK_EQ(read(rig.context, end - RECORD, 2 * RECORD), RECORD);
	CHECK_EQ(((struct gmemfd_event *)(end - RECORD))->offset, 0);
	CHECK_EQ(trap_event(rig.context).offset, rig.granule);
	CHECK_OK(trap_copy(rig.fd, 0, 2 * rig.granule, 0));
	trap_result(&tasks[0]);
	trap_result(&tasks[1]);
}

/* A buffer that has never been touched is brought in. */
TEST(untouched_buffer_is_fine)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct gmemfd_event *event = (void *)((char *)xmmap_anon(2 * rig.granule) + rig.granule - RECORD / 2);
	struct trap_task task;

	trap_read(&task, rig.map + 5 * rig.granule);
	REQUIRE(trap_waiters(rig.fd, 1));
	CHECK_EQ(read(rig.context, event, RECORD), RECORD);
	CHECK_EQ(event->offset, 5 * rig.granule);
	CHECK_OK(trap_copy(rig.fd, 5 * rig.granule, rig.granule, 0));
	trap_result(&task);
}

struct into {
	int context;
	void *buf;
};

static long read_into(void *arg)
{
	struct into *into = arg;

	return read(into->context, into->buf, RECORD);
}

TEST(buffer_that_traps_itself)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0), other = trap_rig(PAGES, MISSING, 0);
	struct into into = { rig.context, other.map };
	struct trap_task task, reader;
	struct gmemfd_event event;

	trap_read(&task, rig.map + rig.granule);
	REQUIRE(trap_waiters(rig.fd, 1));
	trap_start(&reader, read_into, &into);
	event = trap_event(other.context);
	CHECK_EQ(event.offset, 0);
	CHECK_EQ(event.flags, GMEMFD_FAULT_WRITE | GMEMFD_FAULT_KERNEL);
	/* Nobody is kept from reading the event meanwhile; but then the first is left without. */
	CHECK(!trap_done(&reader, 0.05));
	CHECK_OK(gmem_zero(other.fd, 0, other.granule, 0));
	CHECK_EQ(trap_result(&reader), RECORD);
	CHECK_EQ(((struct gmemfd_event *)other.map)->offset, rig.granule);
	CHECK(trap_quiet(rig.context));
	CHECK_OK(trap_copy(rig.fd, rig.granule, rig.granule, 0));
	trap_result(&task);
}

/* --- poll and its kin -------------------------------------------------------------------------------- */

static bool is_ready_poll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDNORM | POLLOUT | POLLPRI };
	int n = poll(&p, 1, 0);

	CHECK(n == 0 || p.revents == (POLLIN | POLLRDNORM));
	return n == 1;
}

static bool is_ready_select(int fd)
{
	struct timeval now = { 0, 0 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	return REQUIRE_OK(select(fd + 1, &set, NULL, NULL, &now)) == 1;
}

static int epoll_of(int fd, uint32_t flags)
{
	struct epoll_event e = { .events = EPOLLIN | flags };
	int ep = REQUIRE_FD(epoll_create1(EPOLL_CLOEXEC));

	REQUIRE_OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	return ep;
}

static bool is_ready_epoll(int ep)
{
	struct epoll_event e;

	return REQUIRE_OK(epoll_wait(ep, &e, 1, 0)) == 1;
}

TEST(poll_select_epoll)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	int level = epoll_of(rig.context, 0), edge = epoll_of(rig.context, EPOLLET);
	struct trap_task tasks[2];

	for (int round = 0; round < 2; round++) {
		CHECK(!is_ready_poll(rig.context) && !is_ready_select(rig.context) && !is_ready_epoll(level) &&
		      !is_ready_epoll(edge));
		trap_read(&tasks[0], rig.map + 2 * round * rig.granule);
		REQUIRE(wait_for(is_ready_poll(rig.context), 10));
		CHECK(is_ready_select(rig.context));
		/* It is told a moment after the event can be read. */
		CHECK(wait_for(is_ready_epoll(level), 10));
		CHECK(is_ready_epoll(level));
		CHECK(wait_for(is_ready_epoll(edge), 10));
		CHECK(!is_ready_epoll(edge));
		/* Another event is another edge, although the first has not been read. */
		trap_read(&tasks[1], rig.map + (2 * round + 1) * rig.granule);
		CHECK(wait_for(is_ready_epoll(edge), 10));
		trap_event(rig.context);
		CHECK(is_ready_poll(rig.context));
		trap_event(rig.context);
		CHECK(!is_ready_poll(rig.context) && !is_ready_select(rig.context) && !is_ready_epoll(level) &&
		      !is_ready_epoll(edge));
		CHECK_OK(trap_copy(rig.fd, 2 * round * rig.granule, 2 * rig.granule, 0));
		trap_result(&tasks[0]);
		trap_result(&tasks[1]);
	}
}

static long poll_for_ever(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return poll(&p, 1, -1);
}

static long epoll_for_ever(void *arg)
{
	int ep = epoll_of(*(int *)arg, EPOLLET);
	struct epoll_event e;

	return epoll_wait(ep, &e, 1, -1);
}

static const struct sleeper_row {
	const char *label;
	long (*fn)(void *arg);
} sleepers[] = {
	{ "poll", poll_for_ever },
	{ "epoll", epoll_for_ever },
};

TEST_EACH(event_wakes_who_polls, struct sleeper_row, sleepers)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task sleeper, task;

	trap_start(&sleeper, row->fn, &rig.context);
	REQUIRE(wait_for(task_state(sleeper.tid) == 'S', 10));
	trap_read(&task, rig.map);
	CHECK_EQ(trap_result(&sleeper), 1);
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	trap_result(&task);
}

TEST(io_uring_reads_events)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct gmemfd_event event = { 0 };
	struct trap_task task;
	struct uring u;
	int res = 0;

	uring_init(&u);
	uring_submit(&u, IORING_OP_READ, rig.context, &event, sizeof(event), 0);
	CHECK(!uring_result(&u, &res, 0.05));
	trap_read(&task, rig.map + 7 * rig.granule);
	REQUIRE(uring_result(&u, &res, 10));
	CHECK_EQ(res, RECORD);
	CHECK_EQ(event.offset, 7 * rig.granule);
	CHECK_OK(trap_copy(rig.fd, 7 * rig.granule, rig.granule, 0));
	trap_result(&task);
	/* And one that is there before it asks. */
	trap_read(&task, rig.map + 8 * rig.granule);
	REQUIRE(trap_waiters(rig.fd, 1));
	uring_submit(&u, IORING_OP_READ, rig.context, &event, sizeof(event), 0);
	REQUIRE(uring_result(&u, &res, 10));
	CHECK_EQ(res, RECORD);
	CHECK_EQ(event.offset, 8 * rig.granule);
	CHECK_OK(trap_copy(rig.fd, 8 * rig.granule, rig.granule, 0));
	trap_result(&task);
	uring_exit(&u);
}

/* --- Several readers --------------------------------------------------------------------------------- */

static int seen[PAGES];

static long reads_some(void *arg)
{
	struct gmemfd_event event;
	long n = 0;

	while (read(*(int *)arg, &event, sizeof(event)) == (ssize_t)RECORD && event.offset != 0) {
		__atomic_add_fetch(&seen[event.offset / page_size()], 1, __ATOMIC_RELAXED);
		n++;
	}
	return n;
}

/* Each event goes to one of them; none sleeps while there are any. An event of page 0 sends a reader home. */
TEST(readers_share_events)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	struct trap_task readers[4], tasks[PAGES];
	long sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		trap_start(&readers[i], reads_some, &rig.context);
		REQUIRE(wait_for(task_state(readers[i].tid) == 'S', 10));
	}
	for (int i = 1; i < PAGES; i++)
		trap_read(&tasks[i], rig.map + i * rig.granule);
	for (int i = 1; i < PAGES; i++)
		CHECK(wait_for(__atomic_load_n(&seen[i], __ATOMIC_RELAXED) == 1, 10));
	CHECK_OK(trap_copy(rig.fd, rig.granule, rig.bytes - rig.granule, 0));
	for (int i = 1; i < PAGES; i++)
		trap_result(&tasks[i]);
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		trap_read(&tasks[0], rig.map);
		REQUIRE(wait_for(trap_done(&readers[0], 0) + trap_done(&readers[1], 0) + trap_done(&readers[2], 0) +
				 trap_done(&readers[3], 0) == (int)i + 1, 10));
		CHECK_OK(gmem_zero(rig.fd, 0, rig.granule, 0));
		trap_result(&tasks[0]);
		CHECK_OK(gmem_punch(rig.fd, 0, rig.granule));
	}
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		sum += trap_result(&readers[i]);
	CHECK_EQ(sum, PAGES - 1);
	for (int i = 1; i < PAGES; i++)
		CHECK_EQ(seen[i], 1);
}

/* --- Descriptors of it ------------------------------------------------------------------------------- */

TEST(fdinfo_tells_what_there_is)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	struct trap_task tasks[3];

	CHECK_EQ(gmem_fdinfo(rig.context, "watches"), 0);
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, rig.granule, MISSING, 0, 0));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, rig.granule, 4 * rig.granule, MISSING, 0, 0));
	CHECK_EQ(gmem_fdinfo(rig.context, "watches"), 2);
	CHECK_EQ(gmem_fdinfo(rig.context, "pending"), 0);
	CHECK_EQ(gmem_fdinfo(rig.context, "seen"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
		trap_read(&tasks[i], rig.map + i * rig.granule);
	REQUIRE(trap_waiters(rig.fd, ARRAY_SIZE(tasks)));
	CHECK_EQ(gmem_fdinfo(rig.context, "pending"), 3);
	trap_event(rig.context);
	CHECK_EQ(gmem_fdinfo(rig.context, "pending"), 2);
	CHECK_EQ(gmem_fdinfo(rig.context, "seen"), 1);
	CHECK_OK(trap_copy(rig.fd, 0, 3 * rig.granule, 0));
	CHECK_EQ(gmem_fdinfo(rig.context, "pending"), 0);
	CHECK_EQ(gmem_fdinfo(rig.context, "seen"), 0);
	CHECK_OK(gmem_unwatch(rig.fd, 0, rig.granule));
	CHECK_EQ(gmem_fdinfo(rig.context, "watches"), 1);
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
		trap_result(&tasks[i]);
}

TEST(context_is_not_written_or_mapped)
{
	int context = xgmem_context();
	struct gmemfd_event event = { 0 };

	CHECK_ERRNO(write(context, &event, sizeof(event)), EINVAL);
	CHECK_ERRNO((long)mmap(NULL, page_size(), PROT_READ, MAP_SHARED, context, 0), ENODEV);
	CHECK_EQ(fcntl(context, F_GETFD), FD_CLOEXEC);
}

TEST(duplicate_keeps_the_watch)
{
	struct trap_rig rig = trap_rig(PAGES, MISSING, 0);
	int twin = REQUIRE_FD(dup(rig.context));
	struct trap_task task;

	REQUIRE_OK(close(rig.context));
	trap_read(&task, rig.map);
	CHECK_EQ(trap_event(twin).offset, 0);
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 0);
	REQUIRE_OK(close(twin));
	/* That was the last one: the default policy of a file. */
	CHECK_EQ(trap_result(&task), -SIGBUS);
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 1);
}

static const struct passed_row {
	const char *label;
	bool sent;		/* over a socket; else by fork() */
} passed[] = {
	{ "fork", false },
	{ "scm_rights", true },
};

/* The handler is another process, which has no mapping; the one that made the context has closed it. */
TEST_EACH(handler_in_another_process, struct passed_row, passed)
{
	struct trap_rig rig = trap_rig(PAGES, row->sent ? 0 : MISSING, 0);
	struct trap_task task;
	int socks[2];
	pid_t child;

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	if (row->sent)
		REQUIRE_OK(close(rig.context));
	child = REQUIRE_OK(fork());
	if (!child) {
		int fd = rig.fd, context = rig.context;
		struct gmemfd_event event;

		close(socks[0]);
		if (row->sent) {
			REQUIRE_OK(close(rig.fd));
			fd = REQUIRE_FD(trap_receive_fd(socks[1]));
			context = REQUIRE_FD(trap_receive_fd(socks[1]));
		}
		REQUIRE_OK(munmap(rig.map, rig.bytes));
		event = trap_event(context);
		REQUIRE_OK(trap_copy(fd, event.offset, event.len, 0));
		/* Until the other side is done. */
		_exit(read(socks[1], &event, 1) == 0 ? 0 : 1);
	}
	close(socks[1]);
	if (row->sent) {
		rig.context = xgmem_context();
		REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, rig.bytes, MISSING, 0, 0));
		REQUIRE_OK(trap_send_fd(socks[0], rig.fd));
		REQUIRE_OK(trap_send_fd(socks[0], rig.context));
	}
	REQUIRE_OK(close(rig.context));
	trap_read(&task, rig.map + 9 * rig.granule);
	CHECK_EQ(trap_result(&task), trap_byte(9 * rig.granule));
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 0);
	close(socks[0]);
	CHECK_EQ(child_wait(child, 10), 0);
	CHECK_EQ(xgmem_stats(rig.fd).orphans, 1);
}
