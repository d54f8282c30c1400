// SPDX-License-Identifier: GPL-2.0-only
/*
 * The descriptor of a context: read and its relatives, poll and its relatives, fdinfo.
 */
#include "uffd.h"
#include "uring.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define NOT_LOST "theirs takes a message that could not be written for read"

static const struct parity_diff diffs[] = {
	{ "buffers_that_cannot_be_written", "wait, not told", "1, 1 unread", NOT_LOST },
	{ "buffers_that_cannot_be_written", "not told", "fault at +0", NOT_LOST },
	{ "buffers_that_cannot_be_written", "wait, one told", "2, 1 unread", NOT_LOST },
	{ "readv_and_others", "readv", "32", "6.1 reads into each part by itself" },
	{ "readv_and_others", "message", "fault at +1", "6.1 reads into each part by itself" },
	{ "nowait", "nothing there", "EAGAIN", "6.1 knows no RWF_NOWAIT here" },
	{ "nowait", "a message", "32", "6.1 knows no RWF_NOWAIT here" },
};

PARITY_DIFFS(diffs);

PARITY(sizes_of_read)
{
	struct uffd_msg msgs[8];
	struct poke pokes[3];

	s_rig(s, 4, MISSING, 0);
	s_log_ret(s, "none", read(s->uffd, msgs, 0));
	s_log_ret(s, "short", read(s->uffd, msgs, sizeof(*msgs) - 1));
	s_log_ret(s, "one, nothing there", read(s->uffd, msgs, sizeof(*msgs)));
	s_log_ret(s, "many, nothing there", read(s->uffd, msgs, sizeof(msgs)));
	for (size_t i = 0; i < 3; i++) {
		s_poke(&pokes[i], s_at(s, i));
		s_await(s->uffd, i + 1);
	}
	s_log_ret(s, "short, with messages", read(s->uffd, msgs, sizeof(*msgs) - 1));
	memset(msgs, 0xff, sizeof(msgs));
	s_log_ret(s, "one and a bit", read(s->uffd, msgs, 2 * sizeof(*msgs) - 1));
	s_log(s, "first", "%s", s_msg_text(s, &msgs[0]));
	s_log(s, "behind it", "0x%x", msgs[1].event);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_log_ret(s, "many", read(s->uffd, msgs, sizeof(msgs)));
	s_log(s, "second", "%s", s_msg_text(s, &msgs[0]));
	s_log(s, "third", "%s", s_msg_text(s, &msgs[1]));
	s_log_ret(s, "no more", read(s->uffd, msgs, sizeof(msgs)));
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_fill(s, "copy", 0, 3);
	for (size_t i = 0; i < 3; i++)
		s_poked(s, "saw", &pokes[i]);
}

PARITY(buffers_that_cannot_be_written)
{
	struct uffd_msg *edge;
	struct poke pokes[2];
	unsigned char *two;

	s_rig(s, 4, MISSING, 0);
	two = xmmap_anon(2 * s->ps);
	REQUIRE_OK(munmap(two + s->ps, s->ps));
	edge = (struct uffd_msg *)(two + s->ps) - 1;
	s_log_ret(s, "null, nothing there", syscall(SYS_read, s->uffd, NULL, sizeof(*edge)));
	s_poke(&pokes[0], s_at(s, 0));
	s_await(s->uffd, 1);
	s_log_ret(s, "null", syscall(SYS_read, s->uffd, NULL, sizeof(*edge)));
	s_log(s, "wait, not told", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_quiet(s, "not told", s->uffd);
	s_wake(s, "wake", s->uffd, s_at(s, 0), s->ps);
	s_msg(s, "again", s->uffd);
	s_wake(s, "wake", s->uffd, s_at(s, 0), s->ps);
	s_await(s->uffd, 1);
	REQUIRE(wait_for(s_pending(s->uffd) == 1, S_SECONDS));
	s_poke(&pokes[1], s_at(s, 1));
	s_await(s->uffd, 2);
	s_log_ret(s, "room for one of two", read(s->uffd, edge, 2 * sizeof(*edge)));
	s_log(s, "it", "%s", s_msg_text(s, edge));
	s_log(s, "wait, one told", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_zero(s, "zero", s->uffd, s_at(s, 0), 2 * s->ps, 0);
	s_poked(s, "saw", &pokes[0]);
	s_poked(s, "saw", &pokes[1]);
}

PARITY(resolved_before_it_is_read)
{
	struct pollfd poll_fd = { .events = POLLIN };
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	poll_fd.fd = s->uffd;
	s_poke(&poke, s_at(s, 0));
	s_await(s->uffd, 1);
	s_log(s, "poll", "%d", poll(&poll_fd, 1, 0));
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_log(s, "poll", "%d", poll(&poll_fd, 1, 0));
	s_quiet(s, "gone", s->uffd);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
}

PARITY(in_the_order_of_faults)
{
	struct poke pokes[6];
	static const size_t order[] = { 4, 1, 5, 0, 3, 2 };

	s_rig(s, 6, MISSING, 0);
	for (size_t i = 0; i < 6; i++) {
		s_poke(&pokes[order[i]], s_at(s, order[i]));
		s_await(s->uffd, i + 1);
	}
	for (size_t i = 0; i < 6; i++)
		s_msg(s, "message", s->uffd);
	s_fill(s, "copy", 0, 6);
	for (size_t i = 0; i < 6; i++)
		s_poked(s, "saw", &pokes[i]);
}

struct reader {
	struct side *s;
	int uffd;
	pid_t tid;
	ssize_t ret;
	int err;
	struct uffd_msg msg;
};

static void *read_one(void *arg)
{
	struct reader *reader = arg;

	__atomic_store_n(&reader->tid, gettid(), __ATOMIC_RELEASE);
	reader->ret = read(reader->uffd, &reader->msg, sizeof(reader->msg));
	reader->err = errno;
	return NULL;
}

static pthread_t start_reader(struct reader *reader)
{
	pthread_t thread;

	reader->tid = 0;
	thread = thread_start(read_one, reader);
	REQUIRE(wait_for(__atomic_load_n(&reader->tid, __ATOMIC_ACQUIRE) && task_state(reader->tid) == 'S', S_SECONDS));
	return thread;
}

PARITY(blocking_read)
{
	struct reader reader = { .s = s };
	struct poke poke;
	pthread_t thread;

	s_rig(s, 2, MISSING, 0);
	reader.uffd = s->uffd;
	REQUIRE_OK(fcntl(s->uffd, F_SETFL, 0));
	thread = start_reader(&reader);
	s_poke(&poke, s_at(s, 1));
	REQUIRE(thread_join_for(thread, S_SECONDS));
	s_log(s, "read", "%zd", reader.ret);
	s_log(s, "message", "%s", s_msg_text(s, &reader.msg));
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
}

static void nothing(int sig)
{
}

PARITY(signals_while_reading)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct reader reader = { .s = s };
	struct poke poke;
	pthread_t thread;

	s_rig(s, 2, MISSING, 0);
	reader.uffd = s->uffd;
	REQUIRE_OK(fcntl(s->uffd, F_SETFL, 0));
	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	thread = start_reader(&reader);
	REQUIRE_EQ(pthread_kill(thread, SIGUSR1), 0);
	REQUIRE(thread_join_for(thread, S_SECONDS));
	s_log(s, "handler", "%zd %s", reader.ret, s_errno(reader.err));
	sa.sa_flags = SA_RESTART;
	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	thread = start_reader(&reader);
	REQUIRE_EQ(pthread_kill(thread, SIGUSR1), 0);
	s_poke(&poke, s_at(s, 0));
	REQUIRE(thread_join_for(thread, S_SECONDS));
	s_log(s, "restarted", "%zd %s", reader.ret, s_msg_text(s, &reader.msg));
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
}

PARITY(readers_share)
{
	struct reader readers[2] = { { .s = s }, { .s = s } };
	struct poke pokes[2];
	pthread_t threads[2];
	uint64_t sum = 0;

	s_rig(s, 2, MISSING, 0);
	REQUIRE_OK(fcntl(s->uffd, F_SETFL, 0));
	for (int i = 0; i < 2; i++) {
		readers[i].uffd = s->uffd;
		threads[i] = start_reader(&readers[i]);
	}
	for (int i = 0; i < 2; i++)
		s_poke(&pokes[i], s_at(s, i));
	for (int i = 0; i < 2; i++) {
		REQUIRE(thread_join_for(threads[i], S_SECONDS));
		sum += readers[i].msg.arg.pagefault.address - s_at(s, 0);
	}
	s_log(s, "one each", "%d", sum == s->ps);
	s_fill(s, "copy", 0, 2);
	for (int i = 0; i < 2; i++)
		s_poked(s, "saw", &pokes[i]);
}

PARITY(readv_and_others)
{
	unsigned char parts[40] = { 0 };
	struct iovec iov[] = { { parts, 7 }, { parts + 10, 20 }, { parts + 32, 5 } };
	struct uffd_msg msg;
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	s_poke(&poke, s_at(s, 1));
	s_await(s->uffd, 1);
	s_log_ret(s, "readv", readv(s->uffd, iov, 3));
	memcpy(&msg, parts, 7);
	memcpy((char *)&msg + 7, parts + 10, 20);
	memcpy((char *)&msg + 27, parts + 32, 5);
	s_log(s, "message", "%s", s_msg_text(s, &msg));
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
	s_log_ret(s, "write", write(s->uffd, &msg, sizeof(msg)));
	s_log_ret(s, "ftruncate", ftruncate(s->uffd, 0));
	s_log_ret(s, "fallocate", fallocate(s->uffd, 0, 0, 4096));
	s_log(s, "mmap", "%s", mmap(NULL, s->ps, PROT_READ, MAP_SHARED, s->uffd, 0) == MAP_FAILED ?
	      s_errno(errno) : "mapped");
}

PARITY(nowait)
{
	struct uffd_msg msg;
	struct iovec iov = { &msg, sizeof(msg) };
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	REQUIRE_OK(fcntl(s->uffd, F_SETFL, 0));
	s_log_ret(s, "nothing there", preadv2(s->uffd, &iov, 1, -1, RWF_NOWAIT));
	s_poke(&poke, s_at(s, 1));
	s_await(s->uffd, 1);
	s_log_ret(s, "a message", preadv2(s->uffd, &iov, 1, -1, RWF_NOWAIT));
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
}

static short poll_now(int fd, short events)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	return poll(&poll_fd, 1, 0) == 1 ? poll_fd.revents : 0;
}

PARITY(polling)
{
	const short all = POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLRDHUP;
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	s_log(s, "nothing there", "0x%x", poll_now(s->uffd, all));
	REQUIRE_OK(fcntl(s->uffd, F_SETFL, 0));
	s_log(s, "nothing there, blocking", "0x%x", poll_now(s->uffd, all));
	s_poke(&poke, s_at(s, 0));
	s_await(s->uffd, 1);
	s_log(s, "a message, blocking", "0x%x", poll_now(s->uffd, all));
	REQUIRE_OK(fcntl(s->uffd, F_SETFL, O_NONBLOCK));
	s_log(s, "a message", "0x%x", poll_now(s->uffd, all));
	s_log(s, "not asked for", "0x%x", poll_now(s->uffd, POLLOUT));
	s_msg(s, "message", s->uffd);
	s_log(s, "read", "0x%x", poll_now(s->uffd, all));
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_log(s, "resolved", "0x%x", poll_now(s->uffd, all));
}

struct poller {
	int uffd, epoll;
	pid_t tid;
	int ret;
	unsigned int events;
};

static void *wait_poll(void *arg)
{
	struct poller *poller = arg;
	struct pollfd poll_fd = { .fd = poller->uffd, .events = POLLIN };

	__atomic_store_n(&poller->tid, gettid(), __ATOMIC_RELEASE);
	poller->ret = poll(&poll_fd, 1, -1);
	poller->events = poll_fd.revents;
	return NULL;
}

static void *wait_select(void *arg)
{
	struct poller *poller = arg;
	fd_set in;

	FD_ZERO(&in);
	FD_SET(poller->uffd, &in);
	__atomic_store_n(&poller->tid, gettid(), __ATOMIC_RELEASE);
	poller->ret = select(poller->uffd + 1, &in, NULL, NULL, NULL);
	poller->events = FD_ISSET(poller->uffd, &in);
	return NULL;
}

static void *wait_epoll(void *arg)
{
	struct poller *poller = arg;
	struct epoll_event event = { 0 };

	__atomic_store_n(&poller->tid, gettid(), __ATOMIC_RELEASE);
	poller->ret = epoll_wait(poller->epoll, &event, 1, -1);
	poller->events = event.events;
	return NULL;
}

static void wait_woken(struct side *s, const char *key, void *(*wait)(void *), struct poller *poller, size_t page)
{
	struct poke poke;
	pthread_t thread;

	poller->tid = 0;
	thread = thread_start(wait, poller);
	REQUIRE(wait_for(__atomic_load_n(&poller->tid, __ATOMIC_ACQUIRE) && task_state(poller->tid) == 'S', S_SECONDS));
	s_poke(&poke, s_at(s, page));
	if (thread_join_for(thread, S_SECONDS))
		s_log(s, key, "%d 0x%x", poller->ret, poller->events);
	else
		s_log(s, key, "sleeps on");
	s_msg(s, "message", s->uffd);
	s_fill(s, "copy", page, 1);
	s_poked(s, "saw", &poke);
}

PARITY(pollers_are_woken)
{
	struct epoll_event level = { .events = EPOLLIN }, edge = { .events = EPOLLIN | EPOLLET }, got;
	struct poller poller = { 0 };
	struct poke pokes[2];

	s_rig(s, 8, MISSING, 0);
	poller.uffd = s->uffd;
	wait_woken(s, "poll", wait_poll, &poller, 0);
	wait_woken(s, "select", wait_select, &poller, 1);
	poller.epoll = REQUIRE_FD(epoll_create1(EPOLL_CLOEXEC));
	REQUIRE_OK(epoll_ctl(poller.epoll, EPOLL_CTL_ADD, s->uffd, &level));
	wait_woken(s, "epoll", wait_epoll, &poller, 2);
	s_log(s, "epoll, read", "%d", epoll_wait(poller.epoll, &got, 1, 0));
	REQUIRE_OK(epoll_ctl(poller.epoll, EPOLL_CTL_MOD, s->uffd, &edge));
	wait_woken(s, "epoll, edge", wait_epoll, &poller, 3);
	/* Every fault is an edge, also while another is unread. */
	for (int i = 0; i < 2; i++) {
		s_poke(&pokes[i], s_at(s, 4 + i));
		s_await(s->uffd, i + 1);
		s_log(s, "edge", "%d", wait_for(epoll_wait(poller.epoll, &got, 1, 0) == 1, S_SECONDS));
		s_log(s, "no second one", "%d", epoll_wait(poller.epoll, &got, 1, 0));
	}
	s_fill(s, "copy", 4, 2);
	for (int i = 0; i < 2; i++)
		s_poked(s, "saw", &pokes[i]);
}

static volatile sig_atomic_t sigios;

static void on_sigio(int sig)
{
	sigios++;
}

PARITY(sigio)
{
	struct sigaction sa = { .sa_handler = on_sigio, .sa_flags = SA_RESTART };
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	REQUIRE_OK(sigaction(SIGIO, &sa, NULL));
	s_log_ret(s, "F_SETOWN", fcntl(s->uffd, F_SETOWN, getpid()));
	s_log_ret(s, "O_ASYNC", fcntl(s->uffd, F_SETFL, O_NONBLOCK | O_ASYNC));
	s_log(s, "is set", "%d", !!(fcntl(s->uffd, F_GETFL) & O_ASYNC));
	s_log_ret(s, "FIOASYNC", ioctl(s->uffd, FIOASYNC, &(int){ 1 }));
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "message", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_log(s, "signals", "%d", (int)sigios);
}

PARITY(fdinfo)
{
	char path[64], *text, *api, *end;
	struct poke pokes[2];

	s_rig(s, 2, MISSING, UFFD_FEATURE_THREAD_ID);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->uffd);
	s_log(s, "idle", "%ld of %ld", s_pending(s->uffd), s_total(s->uffd));
	s_poke(&pokes[0], s_at(s, 0));
	s_await(s->uffd, 1);
	s_poke(&pokes[1], s_at(s, 1));
	s_await(s->uffd, 2);
	s_log(s, "two wait", "%ld of %ld", s_pending(s->uffd), s_total(s->uffd));
	s_msg(s, "message", s->uffd);
	s_log(s, "one read", "%ld of %ld", s_pending(s->uffd), s_total(s->uffd));
	/* "API:\taa:features:ioctls" with what was asked for, and a bit that says that it was. */
	text = read_file(path);
	REQUIRE(text);
	api = strstr(text, "API:\t");
	REQUIRE(api);
	s_log(s, "protocol", "0x%lx", strtoul(api + 5, &end, 16));
	s_log(s, "features", "0x%lx", strtoul(end + 1, &end, 16));
	s_log(s, "basic ioctls", "0x%llx", strtoull(end + 1, NULL, 16) &
	      (1ull << _UFFDIO_API | 1ull << _UFFDIO_REGISTER | 1ull << _UFFDIO_UNREGISTER | 1ull << _UFFDIO_WAKE |
	       1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE | 1ull << _UFFDIO_CONTINUE));
	s_fill(s, "copy", 0, 2);
	s_poked(s, "saw", &pokes[0]);
	s_poked(s, "saw", &pokes[1]);
	s_log(s, "resolved", "%ld of %ld", s_pending(s->uffd), s_total(s->uffd));
}

PARITY(name_of_the_descriptor)
{
	char path[64], target[64] = "";

	s_rig(s, 1, 0, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->uffd);
	REQUIRE(readlink(path, target, sizeof(target) - 1) > 0);
	/* Programs look for this name when they take stock of descriptors. */
	s_log(s, "link", "%s", target);
	s_log(s, "reopened", "%s", open(path, O_RDONLY) < 0 ? s_errno(errno) : "opened");
}

PARITY(read_through_io_uring)
{
	struct uffd_msg msg = { 0 };
	struct poke poke;
	struct uring u;
	int res = 0;

	s_rig(s, 2, MISSING, 0);
	uring_init(&u);
	uring_submit(&u, IORING_OP_READ, s->uffd, &msg, sizeof(msg), 0);
	s_poke(&poke, s_at(s, 1));
	s_log(s, "came", "%d", uring_result(&u, &res, 10));
	s_log(s, "read", "%d", res);
	s_log(s, "event", "%#x", msg.event);
	s_log(s, "at", "%lld", (long long)(msg.arg.pagefault.address - (uintptr_t)s->map));
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
	uring_exit(&u);
}
