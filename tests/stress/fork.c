// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fork events under load: threads that fork children which touch, unmap, fork again and are killed, and handlers that
 * answer all of them through the contexts that the events bring, until they leave at any moment with events unread.
 * Round after round: nobody may see what was not provided as long as they are there, and nobody may be left behind.
 */
#include "gmem.h"
#include "peer.h"
#include "trap.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#define PAGES 16
#define POISONED 0
#define FORKERS 2
#define SECONDS 8
#define ROUND_SECONDS 0.7
/* How many have to be read in a round before it ends, unless that takes too long. */
#define ROUND_FORKS 30

/* Shared by all processes of a round. */
struct round {
	atomic_int over;	/* fork no more */
	atomic_int left;	/* something is being closed, or has been: zeros may be seen */
	atomic_int bad;
	unsigned char *map;
	uint64_t seed;
};

/* Of the thread that reads all contexts, and may close them; and of the one that only reads the first. */
struct handler {
	struct round *round;
	uint64_t random;
	int uffd;
	int epoll;
	unsigned char *src;
	unsigned long forks, faults;
};

static uint64_t draw(uint64_t *random, uint64_t below)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random % below;
}

static unsigned char byte_of(size_t page)
{
	return 0x40 + page;
}

static void look(struct round *round, size_t page)
{
	int sig = touch_read(round->map + page * page_size());

	/* It has unmapped it itself, or its parent has. */
	if (sig == SIGSEGV)
		return;
	if (page == POISONED ? sig == SIGBUS : !sig && touch_last.value == byte_of(page))
		return;
	if (!sig && !touch_last.value && atomic_load(&round->left))
		return;
	tap_diag("page %zu: signal %d, value 0x%x", page, sig, touch_last.value);
	atomic_fetch_add(&round->bad, 1);
}

/* What a child does. It may be killed, so its exit status says nothing. */
static void live(struct round *round, uint64_t random, int depth)
{
	size_t ps = page_size();

	for (int i = 0; i < 4; i++) {
		look(round, draw(&random, PAGES));
		switch (draw(&random, 8)) {
		case 0:
			munmap(round->map + draw(&random, PAGES) * ps, ps);
			break;
		case 1:
			mprotect(round->map + draw(&random, PAGES) * ps, ps, PROT_READ);
			break;
		case 2:
		case 3:
			if (depth < 3 && !atomic_load(&round->over)) {
				pid_t pid = fork();

				if (pid == 0) {
					live(round, random ^ 0x5555, depth + 1);
					_exit(0);
				}
				if (pid > 0)
					waitpid(pid, NULL, 0);
			}
			break;
		case 4:
			return;
		}
	}
}

static void *fork_many(void *arg)
{
	struct round *round = arg;
	uint64_t random = round->seed ^ (uint64_t)gettid() * 0x9e3779b97f4a7c15ull;

	while (!atomic_load(&round->over)) {
		pid_t pid = REQUIRE_OK(fork());

		if (pid == 0) {
			live(round, random, 0);
			_exit(0);
		}
		if (draw(&random, 4) == 0) {
			sleep_seconds(draw(&random, 3000) / 1e6);
			kill(pid, SIGKILL);
		}
		waitpid(pid, NULL, 0);
	}
	return NULL;
}

static void be_forker(struct round *round, int sock, int fd)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE,
	};
	int uffd = REQUIRE_FD(ioctl(gmem_dev(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
	size_t ps = page_size(), half = PAGES / 2 * ps;
	struct uffdio_poison poison = { .range = { .len = ps } };
	pthread_t threads[FORKERS];

	REQUIRE_OK(ioctl(uffd, UFFDIO_API, &api));
	round->map = xmmap(NULL, PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	xuffd_register(uffd, round->map, half, UFFDIO_REGISTER_MODE_MISSING);
	xuffd_register(uffd, round->map + half, half, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
	poison.range.start = (uintptr_t)round->map + POISONED * ps;
	REQUIRE_OK(ioctl(uffd, UFFDIO_POISON, &poison));
	/* Several mappings, one behind another. */
	REQUIRE_OK(mprotect(round->map + 3 * ps, ps, PROT_READ));
	REQUIRE_OK(trap_send_fd(sock, uffd));
	/* A child's copy would keep it open. */
	close(uffd);
	for (size_t i = 0; i < FORKERS; i++)
		threads[i] = thread_start(fork_many, round);
	for (size_t i = 0; i < FORKERS; i++)
		thread_join(threads[i]);
	_exit(0);
}

/* One whose process is gone is closed at any time, by the other thread too. */
static void add(struct handler *handler, int uffd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = uffd };

	if (epoll_ctl(handler->epoll, EPOLL_CTL_ADD, uffd, &event))
		REQUIRE(errno == EBADF || errno == EEXIST);
}

static void answer(struct handler *handler, int uffd, const struct uffd_msg *msg)
{
	size_t ps = page_size(), page;
	uint64_t at = msg->arg.pagefault.address & ~(ps - 1);
	struct uffdio_range range = { at, ps };
	int ret;

	page = (at - (uintptr_t)handler->round->map) / ps;
	handler->faults++;
	if (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR)
		ret = uffd_continue(uffd, (void *)at, ps, 0);
	else
		ret = uffd_copy(uffd, (void *)at, handler->src + page * ps, ps, 0);
	/* It has forked or unmapped, somebody was faster, or it is gone: who waits looks again. */
	if (ret) {
		CHECK(errno == EAGAIN || errno == ENOENT || errno == EEXIST || errno == ESRCH);
		REQUIRE_OK(ioctl(uffd, UFFDIO_WAKE, &range));
	}
}

static void serve(struct handler *handler, int uffd)
{
	struct uffd_msg msgs[3];
	ssize_t n = read(uffd, msgs, (draw(&handler->random, 3) + 1) * sizeof(*msgs));

	if (n == -1) {
		/* Its fork had failed, or the other thread was faster. */
		CHECK(errno == EAGAIN);
		return;
	}
	for (size_t i = 0; i < n / sizeof(*msgs); i++) {
		if (msgs[i].event == UFFD_EVENT_FORK) {
			handler->forks++;
			add(handler, msgs[i].arg.fork.ufd);
		} else if (msgs[i].event == UFFD_EVENT_PAGEFAULT) {
			answer(handler, uffd, &msgs[i]);
		} else {
			CHECK_EQ(msgs[i].event, UFFD_EVENT_UNMAP);
		}
	}
}

static void *read_first(void *arg)
{
	struct handler *handler = arg;

	while (!atomic_load(&handler->round->over)) {
		struct pollfd poll_fd = { .fd = handler->uffd, .events = POLLIN };

		if (poll(&poll_fd, 1, 10) == 1)
			serve(handler, handler->uffd);
	}
	return NULL;
}

/* Closes contexts of processes that are gone, and have no children that nobody has read of. */
static void sweep(int from)
{
	for (int fd = from; fd < 1024; fd++) {
		struct uffdio_copy copy = { .dst = 0, .src = page_size(), .len = page_size() };

		if (ioctl(fd, UFFDIO_COPY, &copy) == -1 && errno == ESRCH)
			close(fd);
	}
}

static void handle(struct handler *handler, bool careless, int from)
{
	double start = now_seconds(), passed = 0;
	unsigned long swept = 0;

	while (passed < ROUND_SECONDS || (handler->forks < ROUND_FORKS && passed < 10)) {
		struct epoll_event event;

		passed = now_seconds() - start;
		if (epoll_wait(handler->epoll, &event, 1, 10) != 1)
			continue;
		serve(handler, event.data.fd);
		if (careless && event.data.fd != handler->uffd && draw(&handler->random, 20) == 0) {
			atomic_store(&handler->round->left, 1);
			close(event.data.fd);
		}
		if (handler->forks - swept > 100) {
			swept = handler->forks;
			sweep(from);
		}
	}
}

static void run_round(uint64_t seed, int nr, unsigned long *forks, unsigned long *faults)
{
	struct round *round = xmmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	size_t ps = page_size();
	struct handler handler = { .round = round, .random = seed | 1 }, other;
	int fd = xgmem(PAGES * ps), socks[2], from;
	pthread_t thread;
	pid_t pid;

	round->seed = seed;
	handler.src = xmmap_anon(PAGES * ps);
	for (size_t i = 0; i < PAGES; i++)
		memset(handler.src + i * ps, byte_of(i), ps);
	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = REQUIRE_OK(fork());
	if (pid == 0)
		be_forker(round, socks[0], fd);
	handler.epoll = REQUIRE_FD(epoll_create1(EPOLL_CLOEXEC));
	handler.uffd = REQUIRE_FD(trap_receive_fd(socks[1]));
	from = handler.uffd + 1;
	add(&handler, handler.uffd);
	other = handler;
	other.random ^= 0x33333333;
	thread = thread_start(read_first, &other);
	handle(&handler, nr % 2, from);
	atomic_store(&round->over, 1);
	thread_join(thread);
	/* Whoever waits or comes now finds nobody; what is unread goes with what was read. */
	atomic_store(&round->left, 1);
	close(handler.uffd);
	REQUIRE_OK(close_range(from, ~0U, 0));
	CHECK_EQ(child_wait(pid, 20), 0);
	CHECK(wait_for(!xgmem_stats(fd).waiters && !xgmem_stats(fd).watches, 20));
	CHECK_EQ(atomic_load(&round->bad), 0);
	*forks += handler.forks + other.forks;
	*faults += handler.faults + other.faults;
	close(handler.epoll);
	close(socks[0]);
	close(socks[1]);
	close(fd);
	munmap(handler.src, PAGES * ps);
	munmap(round, ps);
}

TEST_LIMIT(forks, 120)
{
	double end = now_seconds() + SECONDS;
	unsigned long forks = 0, faults = 0;
	uint64_t seed;
	int nr;

	/* Children of children that were killed end by themselves. */
	tap_allow_leftovers();
	REQUIRE_EQ(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
	tap_diag("seed 0x%llx", (unsigned long long)seed);
	for (nr = 0; nr < 4 || now_seconds() < end; nr++)
		run_round(seed + nr, nr, &forks, &faults);
	tap_diag("%d rounds, %lu forks read, %lu faults", nr, forks, faults);
	CHECK(forks && faults);
}
