// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fork events and processes that end, fail to begin, run other programs, or fork themselves; and, of ours alone, how
 * many events may be unread.
 */
#include "kid.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "gmem.h"
#include "peer.h"
#include "trap.h"

#define FORK UFFD_FEATURE_EVENT_FORK

static void log_dead(struct side *s, int uffd)
{
	s_copy(s, "copy", uffd, s_at(s, 0), (uintptr_t)s->src, s->ps, 0);
	s_zero(s, "zero", uffd, s_at(s, 0), s->ps, 0);
	s_continue(s, "continue", uffd, s_at(s, 0), s->ps, 0);
	s_register(s, "register", uffd, s_at(s, 0), s->ps, MISSING);
	s_unregister(s, "unregister", uffd, s_at(s, 0), s->ps);
	s_wake(s, "wake", uffd, s_at(s, 0), s->ps);
	s_quiet(s, "message", uffd);
	s_log(s, "wait", "%ld, %ld unread", s_total(uffd), s_pending(uffd));
}

PARITY(child_exits)
{
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK | UFFD_FEATURE_EVENT_UNMAP);
	kid = kid_start(s, kid_exit);
	/* Ours may be gone before the event is read. */
	if (s->ours)
		kid_end(kid);
	kid_read(s, "event", s->uffd, kid);
	if (!s->ours)
		kid_end(kid);
	log_dead(s, kid->uffd);
	close(kid->uffd);
	s_quiet(s, "parent", s->uffd);
	kid_fill(s, "parent still registered", s->uffd, 0);
}

PARITY(child_is_killed_while_it_waits)
{
	struct kid *kid;
	int status;
	pid_t pid;

	s_rig(s, 4, MISSING, FORK);
	kid = kid_make(s, kid_touch_three);
	s_msg(s, "child", kid->uffd);
	pid = kid_forked(kid);
	REQUIRE_OK(kill(pid, SIGKILL));
	status = child_wait(pid, S_SECONDS);
	s_log(s, "died", "%d", status != -1 && WIFSIGNALED(status));
	log_dead(s, kid->uffd);
}

static void execute(struct side *s, struct kid *kid)
{
	int null = REQUIRE_FD(open("/dev/null", O_WRONLY));

	REQUIRE_OK(dup2(null, STDOUT_FILENO));
	execl("/proc/self/exe", "list", "-l", NULL);
	_exit(9);
}

PARITY(child_executes_another_program)
{
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK | UFFD_FEATURE_EVENT_UNMAP);
	kid = kid_make(s, execute);
	kid_end(kid);
	log_dead(s, kid->uffd);
}

static long clone_taken(struct poke *poke)
{
	pid_t taken = getpid();
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&taken, .set_tid_size = 1,
	};

	return syscall(SYS_clone3, &args, sizeof(args));
}

/* It fails for its number when the memory has been copied. */
PARITY(fork_that_fails)
{
	struct uffd_msg msg;
	struct poke poke;
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK);
	s_poke_call(&poke, clone_taken, s_at(s, 0), 0);
	msg = s_msg(s, "event", s->uffd);
	REQUIRE_EQ(msg.event, UFFD_EVENT_FORK);
	s_poked(s, "clone", &poke);
	log_dead(s, msg.arg.fork.ufd);
	close(msg.arg.fork.ufd);
	kid = kid_make(s, kid_touch_three);
	for (size_t i = 0; i < 3; i++) {
		s_msg(s, "child", kid->uffd);
		kid_fill(s, "copy", kid->uffd, i);
	}
	kid_end(kid);
}

static long do_vfork(struct poke *poke)
{
	pid_t pid = vfork();

	if (pid == 0)
		_exit(0);
	return pid > 0 && child_wait(pid, S_SECONDS) == 0 ? 0 : -1;
}

/* The parent waits for the child's end, but in memory of its own the child is one as any. */
static long do_clone_vfork(struct poke *poke)
{
	struct kid *kid = (struct kid *)poke->arg;
	pid_t pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0) {
		kid->run(kid->s, kid);
		_exit(0);
	}
	return pid;
}

PARITY(vfork_is_none)
{
	struct poke poke;
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK);
	s_poke_call(&poke, do_vfork, s_at(s, 0), 0);
	s_poked(s, "vfork", &poke);
	s_quiet(s, "event", s->uffd);
	kid = kid_new(s, kid_touch_three);
	s_poke_call(&kid->poke, do_clone_vfork, (uintptr_t)kid, (long)kid);
	kid_read(s, "event", s->uffd, kid);
	for (size_t i = 0; i < 3; i++) {
		s_msg(s, "child", kid->uffd);
		kid_fill(s, "copy", kid->uffd, i);
	}
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
}

static void fork_again(struct side *s, struct kid *kid)
{
	/* Its copy would keep the parent's context open. */
	close(s->uffd);
	kid->own->poke.arg = (long)kid->own;
	kid->result = kid_fork(&kid->own->poke);
	kid_touch(kid, 0, s_at(s, 0));
	REQUIRE_EQ(child_wait(kid->result, 4 * S_SECONDS), 0);
}

static void touch_later(struct side *s, struct kid *kid)
{
	kid_touch(kid, 0, s_at(s, 1));
}

static struct kid *kid_with_own(struct side *s, void (*run)(struct side *s, struct kid *kid))
{
	struct kid *kid = kid_new(s, run);

	kid->own = kid_new(s, touch_later);
	s_poke_call(&kid->poke, kid_fork, (uintptr_t)kid, (long)kid);
	return kid;
}

PARITY(child_forks)
{
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK);
	kid = kid_with_own(s, fork_again);
	/* Ours has got that far by itself. */
	if (s->ours)
		kid_returned(kid->own);
	kid_read(s, "event", s->uffd, kid);
	s_quiet(s, "parent", s->uffd);
	kid_read(s, "child's event", kid->uffd, kid->own);
	/* Whoever handled the one in the middle may go: the last one has its own. */
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 0);
	close(kid->uffd);
	s_msg(s, "child's child", kid->own->uffd);
	kid_fill(s, "copy", kid->own->uffd, 1);
	kid_end(kid);
	kid_saw(s, "child saw", kid, 0);
	kid_saw(s, "child's child saw", kid->own, 0);
}

/* All that hangs on it goes, however deep, and nobody waits for ever. */
PARITY(context_closed_with_childs_event_unread)
{
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK);
	kid = kid_with_own(s, fork_again);
	if (s->ours)
		kid_returned(kid->own);
	else
		kid_read(s, NULL, s->uffd, kid);
	if (kid->uffd >= 0)
		close(kid->uffd);
	close(s->uffd);
	kid_end(kid);
	kid_saw(s, "child saw", kid, 0);
	kid_saw(s, "child's child saw", kid->own, 0);
}

/* --- Of ours alone ----------------------------------------------------------------------------------------- */

/* GMEM_MAX_FORKS of the module. */
#define MAX_UNREAD 1024

static int next_child(int uffd)
{
	struct uffd_msg msg;

	REQUIRE_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	REQUIRE_EQ(msg.event, UFFD_EVENT_FORK);
	return msg.arg.fork.ufd;
}

/* Forks, and says by its exit status how the child's first byte was read. */
static pid_t fork_and_touch(unsigned char *map)
{
	pid_t pid = REQUIRE_OK(fork());

	if (pid == 0)
		_exit(touch_read(map) ? 100 + touch_last.sig : touch_last.value);
	return pid;
}

static int touched(pid_t pid)
{
	int status = child_wait(pid, S_SECONDS);

	return status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Each forks the next and waits for it; the last one touches. None keeps the parent's context open. */
static void chain(int n, unsigned char *map, int uffd)
{
	close(uffd);
	while (n--) {
		pid_t pid = REQUIRE_OK(fork());

		if (pid)
			_exit(touched(pid));
	}
	_exit(touch_read(map) ? 100 + touch_last.sig : touch_last.value);
}

/*
 * Where too many are unread the next child has nobody to ask: what would trap fails there, and never reads as zeros; in
 * its children too. Those of children whose own is unread count as well.
 */
TEST_LIMIT(too_many_unread, 120)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), uffd = xuffd_gmem(FORK), child, depth = 10, flat = MAX_UNREAD - depth;
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *src = xmmap_anon(ps);
	pid_t pid;

	memset(src, 0x41, ps);
	xuffd_register(uffd, map, 4 * ps, MISSING);
	for (int i = 0; i < flat; i++) {
		pid = REQUIRE_OK(fork());
		if (pid == 0)
			_exit(0);
		REQUIRE_EQ(child_wait(pid, S_SECONDS), 0);
	}
	/* It is the first of these, and the last of them is one too many. */
	pid = REQUIRE_OK(fork());
	if (pid == 0)
		chain(depth, map, uffd);
	CHECK_EQ(touched(pid), 100 + SIGBUS);
	CHECK_EQ(touched(fork_and_touch(map)), 100 + SIGBUS);
	pid = REQUIRE_OK(fork());
	if (pid == 0)
		_exit(touched(fork_and_touch(map + ps)));
	CHECK_EQ(touched(pid), 100 + SIGBUS);
	/* One that is read makes room for one. */
	close(next_child(uffd));
	pid = fork_and_touch(map);
	CHECK_EQ(touched(fork_and_touch(map)), 100 + SIGBUS);
	for (int i = 1; i < flat; i++)
		close(next_child(uffd));
	/* Whoever reads of a child gets at its children. */
	child = next_child(uffd);
	close(next_child(child));
	close(child);
	child = next_child(uffd);
	REQUIRE_OK(uffd_copy(child, map, src, ps, 0));
	CHECK_EQ(touched(pid), 0x41);
	CHECK_EQ(touched(fork_and_touch(map)), 0x41);
	close(child);
	/* What the last of them waits for is given up with the context. */
	pid = REQUIRE_OK(fork());
	if (pid == 0)
		chain(depth, map + ps, uffd);
	sleep_seconds(0.2);
	close(uffd);
	CHECK_EQ(touched(pid), 0);
}

static uint64_t next_fault(int uffd)
{
	struct uffd_msg msg;

	REQUIRE_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	REQUIRE_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	return msg.arg.pagefault.address;
}

TEST(private_mapping_of_a_child)
{
	size_t ps = page_size();
	int fd = xgmem(4 * ps), uffd = xuffd_gmem(FORK), child;
	unsigned char *map = xmmap(NULL, 4 * ps, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), *src = xmmap_anon(ps);
	pid_t own, absent;

	memset(src, 0x41, ps);
	xuffd_register(uffd, map, 4 * ps, MISSING);
	REQUIRE_OK(uffd_copy(uffd, map, src, ps, 0));
	CHECK_EQ(TOUCH_WRITE(map, 0x42), 0);
	/* What the parent wrote is the child's; what is absent traps there. */
	own = fork_and_touch(map);
	CHECK_EQ(touched(own), 0x42);
	close(next_child(uffd));
	absent = fork_and_touch(map + ps);
	child = next_child(uffd);
	CHECK_EQ(next_fault(child), (uintptr_t)map + ps);
	REQUIRE_OK(uffd_copy(child, map + ps, src, ps, 0));
	CHECK_EQ(touched(absent), 0x41);
}

TEST(huge_granules_of_a_child)
{
	size_t ps = page_size(), size = 2 * HPAGE_SIZE;
	int fd = REQUIRE_FD(gmem_create(size, GMEMFD_CREATE_HUGE, 0)), uffd = xuffd_gmem(FORK), child;
	unsigned char *map = xmmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *src = xmmap_anon(HPAGE_SIZE), *at = map + HPAGE_SIZE;
	pid_t pid;

	memset(src, 0x41, HPAGE_SIZE);
	xuffd_register(uffd, map, size, MISSING);
	pid = REQUIRE_OK(fork());
	if (pid == 0) {
		/* Registered, it is not cut. */
		if (munmap(map, ps) != -1 || errno != EINVAL)
			_exit(1);
		_exit(touch_read(at + ps) ? 100 + touch_last.sig : touch_last.value);
	}
	child = next_child(uffd);
	CHECK_EQ(next_fault(child), (uintptr_t)at + ps);
	CHECK_ERRNO(uffd_copy(child, at + ps, src, ps, 0), EINVAL);
	CHECK_OK(uffd_copy(child, at, src, HPAGE_SIZE, 0));
	CHECK_EQ(touched(pid), 0x41);
	CHECK_EQ(TOUCH_READ(at + ps), 0);
	CHECK_EQ(touch_last.value, 0x41);
}

/* Forks until it is killed, with much to copy behind what is watched. */
static void fork_for_ever(int sock)
{
	size_t ps = page_size(), many = 400;
	unsigned char *other = xmmap_anon(2 * many * ps), *map;
	int fd = xgmem(4 * ps), uffd = xuffd_gmem(FORK | UFFD_FEATURE_EVENT_UNMAP);

	for (size_t i = 0; i < many; i++)
		REQUIRE_OK(mprotect(other + 2 * i * ps, ps, PROT_READ));
	/* The lower address, hence copied first. */
	map = xmmap(NULL, 4 * ps, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	xuffd_register(uffd, map, 4 * ps, MISSING);
	REQUIRE_EQ(write(sock, &map, sizeof(map)), sizeof(map));
	REQUIRE_OK(trap_send_fd(sock, uffd));
	for (;;) {
		pid_t pid = REQUIRE_OK(fork());

		if (pid == 0)
			_exit(0);
		REQUIRE_EQ(waitpid(pid, NULL, 0), pid);
	}
}

/* Who reads of a fork never meets memory that is not whole. */
TEST_LIMIT(killed_while_it_forks, 60)
{
	unsigned char *src = xmmap_anon(page_size()), *map;
	unsigned int seed = 1, forks = 0;

	tap_allow_leftovers();
	for (int round = 0; round < 30; round++) {
		struct uffd_msg msg;
		double end;
		int socks[2], uffd;
		pid_t pid;

		REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
		pid = REQUIRE_OK(fork());
		if (pid == 0)
			fork_for_ever(socks[0]);
		REQUIRE_EQ(read(socks[1], &map, sizeof(map)), sizeof(map));
		uffd = REQUIRE_FD(trap_receive_fd(socks[1]));
		REQUIRE_OK(fcntl(uffd, F_SETFL, O_NONBLOCK));
		end = now_seconds() + 0.02 + rand_r(&seed) % 50 * 0.001;
		while (now_seconds() < end || !kill(pid, SIGKILL)) {
			if (read(uffd, &msg, sizeof(msg)) == sizeof(msg) && msg.event == UFFD_EVENT_FORK) {
				uffd_copy(msg.arg.fork.ufd, map, src, page_size(), 0);
				close(msg.arg.fork.ufd);
				forks++;
			}
			if (now_seconds() >= end && waitpid(pid, NULL, WNOHANG) == pid)
				break;
		}
		while (read(uffd, &msg, sizeof(msg)) == sizeof(msg)) {
			REQUIRE_EQ(msg.event, UFFD_EVENT_FORK);
			CHECK(uffd_copy(msg.arg.fork.ufd, map, src, page_size(), 0));
			close(msg.arg.fork.ufd);
		}
		close(uffd);
		close(socks[0]);
		close(socks[1]);
	}
	tap_diag("%u forks were read", forks);
	CHECK(forks);
}
