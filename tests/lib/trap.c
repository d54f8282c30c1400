// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns what trap.h promises: the watched file, calls in threads, probing pages, passing descriptors.
 */
#include "trap.h"

#include <poll.h>
#include <sys/socket.h>

#define PATIENCE 10

struct trap_rig trap_rig(size_t granules, uint64_t modes, uint64_t flags)
{
	struct trap_rig rig = {
		.granule = flags & GMEMFD_CREATE_HUGE ? GMEMFD_HUGE_SIZE : page_size(),
		.context = -1,
	};

	rig.bytes = granules * rig.granule;
	rig.fd = REQUIRE_FD(gmem_create(rig.bytes, flags, 0));
	rig.map = xmmap(NULL, rig.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rig.fd, 0);
	rig.context = xgmem_context();
	if (modes)
		REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, rig.bytes, modes, TRAP_COOKIE, 0));
	return rig;
}

static void *run_task(void *arg)
{
	struct trap_task *task = arg;

	__atomic_store_n(&task->tid, gettid(), __ATOMIC_RELEASE);
	errno = 0;
	task->ret = task->fn(task->arg);
	task->err = task->ret == -1 ? errno : 0;
	task->touch = touch_last;
	return NULL;
}

void trap_start(struct trap_task *task, long (*fn)(void *arg), void *arg)
{
	memset(task, 0, sizeof(*task));
	task->fn = fn;
	task->arg = arg;
	task->thread = thread_start(run_task, task);
	REQUIRE(wait_for(__atomic_load_n(&task->tid, __ATOMIC_ACQUIRE), PATIENCE));
}

static long do_read(void *at)
{
	int sig = TOUCH_READ(at);

	return sig ? -sig : touch_last.value;
}

static long do_write(void *at)
{
	return -TOUCH_WRITE(at, TRAP_WRITTEN);
}

void trap_read(struct trap_task *task, const void *at)
{
	trap_start(task, do_read, (void *)at);
}

void trap_write(struct trap_task *task, void *at)
{
	trap_start(task, do_write, at);
}

bool trap_done(struct trap_task *task, double seconds)
{
	if (!task->joined)
		task->joined = thread_join_for(task->thread, seconds);
	return task->joined;
}

long trap_result(struct trap_task *task)
{
	REQUIRE(trap_done(task, PATIENCE));
	return task->ret;
}

static bool settled(int fd, uint64_t nr)
{
	struct gmemfd_stats stats = xgmem_stats(fd);
	uint64_t waits = stats.faults_missing + stats.faults_minor;

	/* A wait counts among the faults when it is complete, and in the histogram when it is over. */
	for (int i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		waits -= stats.wait_log2[i];
	return stats.waiters == nr && waits == nr;
}

bool trap_waiters(int fd, uint64_t nr)
{
	return wait_for(settled(fd, nr), PATIENCE);
}

struct gmemfd_event trap_event(int context)
{
	struct gmemfd_event event;

	REQUIRE(gmem_event(context, &event, PATIENCE));
	return event;
}

bool trap_quiet(int context)
{
	struct pollfd fd = { .fd = context, .events = POLLIN };

	return poll(&fd, 1, 0) == 0;
}

int trap_copy(int fd, uint64_t offset, uint64_t len, uint64_t flags)
{
	void *buf = malloc(len);
	int ret, err;

	REQUIRE(buf);
	pattern_fill(buf, len, offset);
	ret = gmem_copy(fd, offset, len, buf, flags);
	err = errno;
	free(buf);
	errno = err;
	return ret;
}

unsigned char trap_byte(uint64_t offset)
{
	uint64_t word;

	pattern_fill(&word, sizeof(word), offset);
	return word;
}

static void interrupt(int sig)
{
	(void)sig;
}

struct probe {
	int fd;
	uint64_t offset;
};

static long do_probe(void *arg)
{
	struct probe *probe = arg;
	unsigned char byte;

	switch (pread(probe->fd, &byte, 1, probe->offset)) {
	case 1:
		return byte;
	case 0:
		errno = ENODATA;
		return -1;
	default:
		return -1;
	}
}

int trap_probe(int fd, uint64_t offset, int context, struct gmemfd_event *event)
{
	/* Without SA_RESTART: the wait ends with EINTR. */
	struct sigaction sa = { .sa_handler = interrupt }, old;
	struct probe probe = { .fd = fd, .offset = offset };
	struct trap_task task;
	bool waits;

	REQUIRE_OK(sigaction(SIGUSR2, &sa, &old));
	trap_start(&task, do_probe, &probe);
	REQUIRE(wait_for((waits = gmem_event(context, event, 0)) || trap_done(&task, 0), PATIENCE));
	if (waits) {
		REQUIRE_EQ(pthread_kill(task.thread, SIGUSR2), 0);
		REQUIRE_EQ(trap_result(&task), -1);
		REQUIRE_EQ(task.err, EINTR);
	}
	REQUIRE_OK(sigaction(SIGUSR2, &old, NULL));
	if (waits)
		return TRAP_WAITS;
	return task.ret == -1 ? -task.err : task.ret;
}

long long trap_thread_field(pid_t pid, pid_t tid, const char *key)
{
	char path[64];
	long long n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	n = read_field(path, key);
	REQUIRE(n >= 0);
	return n;
}

int trap_send_fd(int sock, int fd)
{
	char byte = 0, space[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

int trap_receive_fd(int sock)
{
	char byte, space[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space),
	};
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS) {
		errno = ENOMSG;
		return -1;
	}
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}
