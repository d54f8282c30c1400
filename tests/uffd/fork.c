// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fork events: what a child has registered, and the context that its parent's handler gets for it. Theirs holds the
 * fork until the event has been read; ours holds nobody, and the child's faults wait in its context.
 */
#include "kid.h"
#include "trap.h"
#include "uring.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define FORK UFFD_FEATURE_EVENT_FORK
#define NOT_HELD "a module cannot hold a fork: the event is queued, and the child's faults wait in its context"
#define NOT_LOST "theirs takes a message that could not be written for read"
#define POISON_STAYS "what was lost is lost for the child too; theirs forgets it in a shared mapping"
#define FIRST "what is gone is told before who waits for the rest"

static const struct parity_diff diffs[] = {
	{ "child_has_a_context", "held until it is read", "no", NOT_HELD },
	{ "unread", "unread *", "EAGAIN, field -EAGAIN", "6.1 leaves the field as it is" },
	{ "buffer_that_cannot_be_written", "then", "fork", NOT_LOST },
	{ "buffer_that_cannot_be_written", "descriptors left behind", "0", NOT_LOST },
	{ "poison", "child, poisoned", "SIGBUS code 4 lsb 12 at +1", POISON_STAYS },
	{ "faults_and_forks_in_turn", "first", "fork", FIRST },
	{ "faults_and_forks_in_turn", "second", "fault at +0", FIRST },
};

PARITY_DIFFS(diffs);

/* --- What a child has ---------------------------------------------------------------------------------- */

PARITY(child_has_a_context)
{
	struct poke poke;
	struct kid *kid;

	s_rig(s, 8, MISSING, FORK | UFFD_FEATURE_THREAD_ID);
	kid_fill(s, "copy", s->uffd, 1);
	kid = kid_start(s, kid_touch_three);
	s_log(s, "held until it is read", "%s", kid_held(kid) ? "yes" : "no");
	kid_read(s, "event", s->uffd, kid);
	s_log_flags(s, "flags", kid->uffd);
	s_msg(s, "child", kid->uffd);
	s_quiet(s, "parent", s->uffd);
	s_log(s, "wait", "%ld, %ld unread", s_total(kid->uffd), s_pending(kid->uffd));
	kid_fill(s, "copy for the child", kid->uffd, 0);
	s_msg(s, "child", kid->uffd);
	/* The parent's is of the parent. */
	s_poke(&poke, s_at(s, 4));
	s_msg(s, "parent", s->uffd);
	s_quiet(s, "child", kid->uffd);
	kid_fill(s, "copy for the parent", s->uffd, 4);
	s_poked(s, "parent saw", &poke);
	kid_fill(s, "copy for the child", kid->uffd, 2);
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
	s_touch(s, "parent sees it", s_at(s, 0));
}

/* What the parent was given is not given to the child, who begins with empty page tables. */
PARITY(child_is_registered_for_minor)
{
	struct poke poke;
	struct kid *kid;

	s_rig(s, 8, MINOR, FORK);
	s_write(s, 0, 2);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_touch(s, "parent saw", s_at(s, 0));
	kid = kid_make(s, kid_touch_three);
	s_msg(s, "child", kid->uffd);
	s_touch(s, "parent sees it still", s_at(s, 0));
	s_continue(s, "continue", kid->uffd, s_at(s, 0), s->ps, 0);
	s_msg(s, "child", kid->uffd);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "parent", s->uffd);
	s_continue(s, "continue", kid->uffd, s_at(s, 1), s->ps, 0);
	s_log(s, "parent waits", "%ld", s_total(s->uffd));
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "parent saw", &poke);
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
}

static void touch_parts(struct side *s, struct kid *kid)
{
	kid_touch(kid, 0, s_at(s, 1));
	kid_touch(kid, 1, s_at(s, 3));
	kid_touch(kid, 2, s_at(s, 5));
	kid_touch(kid, 3, s_at(s, 7));
}

/* Several mappings of one context are one event; and a context that did not ask is not in the child. */
PARITY(contexts_that_ask_and_that_do_not)
{
	int other, asks;
	struct kid *kid;
	struct uffd_msg msg;

	s_rig(s, 9, 0, FORK);
	other = s_uffd(s, 0);
	asks = s_uffd(s, FORK | UFFD_FEATURE_EVENT_UNMAP);
	s_register(s, "register", s->uffd, s_at(s, 0), 2 * s->ps, MISSING);
	s_register(s, "register", other, s_at(s, 2), 2 * s->ps, MISSING);
	s_register(s, "register", asks, s_at(s, 5), s->ps, MISSING);
	s_register(s, "register", s->uffd, s_at(s, 7), s->ps, MISSING);
	/* Two mappings for the kernel. */
	REQUIRE_OK(mprotect(s->map + s->ps, s->ps, PROT_READ));
	kid = kid_start(s, touch_parts);
	/* Theirs comes to one after the other, in the order of addresses. */
	kid_read(s, "event", s->uffd, kid);
	msg = s_msg(s, "event", asks);
	REQUIRE_EQ(msg.event, UFFD_EVENT_FORK);
	s_quiet(s, "no more", s->uffd);
	s_quiet(s, "no more", asks);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 1);
	s_msg(s, "child", msg.arg.fork.ufd);
	kid_fill(s, "copy", msg.arg.fork.ufd, 5);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 7);
	kid_end(kid);
	for (size_t i = 0; i < 4; i++)
		kid_saw(s, "child saw", kid, i);
	s_quiet(s, "not asked", other);
	kid_fill(s, "parent still registered", other, 2);
}

static void touch_unmapped(struct side *s, struct kid *kid)
{
	kid_touch(kid, 0, s_at(s, 0));
	kid_touch(kid, 1, s_at(s, 2));
	kid_touch(kid, 2, s_at(s, 5));
}

PARITY(mapping_that_is_not_for_children)
{
	struct kid *kid;

	s_rig(s, 8, MISSING, FORK);
	REQUIRE_OK(madvise(s->map + 2 * s->ps, 2 * s->ps, MADV_DONTFORK));
	kid = kid_make(s, touch_unmapped);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 0);
	kid_fill(s, "copy where there is nothing", kid->uffd, 3);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 5);
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
	kid_fill(s, "copy", s->uffd, 3);
}

/* With nothing in the child there is nothing to tell. */
PARITY(nothing_registered_nothing_told)
{
	struct kid *kid;

	s_rig(s, 4, 0, FORK);
	kid = kid_start(s, kid_touch_three);
	kid_end(kid);
	s_quiet(s, "nothing registered", s->uffd);
	kid_saw(s, "child saw", kid, 0);
	s_register(s, "register", s->uffd, s_at(s, 0), s->ps, MISSING);
	REQUIRE_OK(madvise(s->map, 4 * s->ps, MADV_DONTFORK));
	kid = kid_start(s, touch_unmapped);
	kid_end(kid);
	s_quiet(s, "not for children", s->uffd);
	REQUIRE_OK(madvise(s->map, 4 * s->ps, MADV_DOFORK));
	s_unregister(s, "unregister", s->uffd, s_at(s, 0), s->ps);
	kid = kid_start(s, kid_touch_three);
	kid_end(kid);
	s_quiet(s, "no longer registered", s->uffd);
}

PARITY(flags_and_features_are_the_parents)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FORK };
	struct kid *kid;

	s_rig(s, 2, 0, 0);
	s->uffd = REQUIRE_FD(s_new(s, UFFD_USER_MODE_ONLY));
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_API, &api));
	s_register(s, "register", s->uffd, s_at(s, 0), s->ps, MISSING);
	/* Of what it was made with, not of what became of it. */
	REQUIRE_OK(fcntl(s->uffd, F_SETFL, O_NONBLOCK));
	kid = kid_make(s, kid_exit);
	s_log_flags(s, "flags", kid->uffd);
	s_log_ret(s, "api", ioctl(kid->uffd, UFFDIO_API, &api));
	kid_end(kid);
}

static void write_and_touch(struct side *s, struct kid *kid)
{
	int pipes[2];

	REQUIRE_OK(pipe(pipes));
	kid->result = write(pipes[1], s->map, 1) < 0 ? errno : 0;
	kid_touch(kid, 0, s_at(s, 0));
}

PARITY(user_mode_only_and_sigbus_are_inherited)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FORK };
	struct kid *kid;
	int sigbus;

	s_rig(s, 2, 0, 0);
	s->uffd = REQUIRE_FD(s_new(s, UFFD_USER_MODE_ONLY | O_NONBLOCK));
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_API, &api));
	s_register(s, "register", s->uffd, s_at(s, 0), s->ps, MISSING);
	kid = kid_make(s, write_and_touch);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 0);
	kid_end(kid);
	s_log(s, "write(2)", "%s", s_errno(kid->result));
	kid_saw(s, "child saw", kid, 0);
	sigbus = s_uffd(s, FORK | UFFD_FEATURE_SIGBUS);
	s_register(s, "register", sigbus, s_at(s, 1), s->ps, MISSING);
	kid = kid_start(s, kid_touch_three);
	kid_read(s, "event", s->uffd, kid);
	s_msg(s, "event", sigbus);
	kid_end(kid);
	kid_saw(s, "child saw", kid, 0);
	kid_saw(s, "child saw", kid, 1);
}

static void unmap_some(struct side *s, struct kid *kid)
{
	kid_wait(kid, 1);
	REQUIRE_OK(munmap(s->map + 2 * s->ps, 2 * s->ps));
	kid->result = 1;
	kid_touch(kid, 0, s_at(s, 4));
}

static long do_unmap(struct poke *poke)
{
	return munmap((void *)poke->at, poke->arg);
}

/* Each is told of its own changes. */
PARITY(child_unmaps)
{
	struct kid *kid;
	struct poke poke;

	s_rig(s, 8, MISSING, FORK | UFFD_FEATURE_EVENT_UNMAP);
	kid = kid_make(s, unmap_some);
	s_poke_call(&poke, do_unmap, s_at(s, 0), s->ps);
	s_msg(s, "parent", s->uffd);
	s_poked(s, "munmap", &poke);
	s_quiet(s, "child", kid->uffd);
	kid_go(kid, 1);
	s_msg(s, "child", kid->uffd);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy into it", kid->uffd, 2);
	kid_fill(s, "copy", kid->uffd, 4);
	kid_end(kid);
	s_quiet(s, "no more", kid->uffd);
	kid_saw(s, "child saw", kid, 0);
	s_quiet(s, "no more", s->uffd);
	kid_fill(s, "parent has it", s->uffd, 2);
}

PARITY_SINCE(poison, UFFD_FEATURE_POISON,
	     "poison: 0, field 1 pages\n"
	     "event: fork\n"
	     "child: fault at +0\n"
	     "copy: 0, field 1 pages\n"
	     "child, poisoned: fault at +1\n"
	     "child: fault at +2\n"
	     "copy: 0, field 1 pages\n"
	     "parent: SIGBUS code 4 lsb 12 at +1\n")
{
	struct uffd_msg msg;
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK);
	s_poison(s, "poison", s->uffd, s_at(s, 1), s->ps, 0);
	kid = kid_make(s, kid_touch_three);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 0);
	REQUIRE(s_read(kid->uffd, &msg));
	if (msg.arg.pagefault.address == s_at(s, 1)) {
		struct uffdio_copy copy = { .dst = s_at(s, 1), .src = (uintptr_t)s->src, .len = s->ps };

		s_log(s, "child, poisoned", "%s", s_msg_text(s, &msg));
		REQUIRE_OK(ioctl(kid->uffd, UFFDIO_COPY, &copy));
		REQUIRE(s_read(kid->uffd, &msg));
		s_log(s, "child", "%s", s_msg_text(s, &msg));
		kid_fill(s, "copy", kid->uffd, 2);
		kid_end(kid);
	} else {
		char text[64];

		snprintf(text, sizeof(text), "%s", s_msg_text(s, &msg));
		REQUIRE(wait_for(kid->saw[1].sig, S_SECONDS));
		kid_saw(s, "child, poisoned", kid, 1);
		s_log(s, "child", "%s", text);
		kid_fill(s, "copy", kid->uffd, 2);
		kid_end(kid);
	}
	s_touch(s, "parent", s_at(s, 1));
}

/* --- While nobody has read it ------------------------------------------------------------------------------ */

static short polled(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1 ? poll_fd.revents : 0;
}

PARITY(unread)
{
	struct poke poke;
	struct kid *kid;

	s_rig(s, 8, MISSING | MINOR, FORK);
	s_write(s, 7, 1);
	s_log(s, "poll, before", "0x%x", polled(s->uffd));
	kid = kid_start(s, kid_exit);
	kid_unread(kid);
	s_log(s, "poll", "0x%x", polled(s->uffd));
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	kid_fill(s, "unread copy", s->uffd, 0);
	s_zero(s, "unread zero", s->uffd, s_at(s, 1), s->ps, 0);
	s_continue(s, "unread continue", s->uffd, s_at(s, 7), s->ps, 0);
	s_wake(s, "wake", s->uffd, s_at(s, 0), s->ps);
	kid_read(s, "event", s->uffd, kid);
	kid_returned(kid);
	s_log(s, "poll, read", "0x%x", polled(s->uffd));
	kid_fill(s, "copy", s->uffd, 0);
	s_continue(s, "continue", s->uffd, s_at(s, 7), s->ps, 0);
	kid_end(kid);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	s_zero(s, "zero", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "saw", &poke);
}

PARITY_SINCE(poison_while_unread, UFFD_FEATURE_POISON,
	     "poison: EAGAIN, field -EAGAIN\n"
	     "event: fork\n"
	     "poison: 0, field 1 pages\n"
	     "child saw: 0x41\n"
	     "parent: SIGBUS code 4 lsb 12 at +1\n")
{
	struct kid *kid;

	s_rig(s, 4, MISSING, FORK);
	kid = kid_start(s, kid_touch_three);
	kid_unread(kid);
	s_poison(s, "poison", s->uffd, s_at(s, 1), s->ps, 0);
	kid_read(s, "event", s->uffd, kid);
	kid_returned(kid);
	s_poison(s, "poison", s->uffd, s_at(s, 1), s->ps, 0);
	for (size_t i = 0; i < 3; i++) {
		struct uffdio_copy copy = { .dst = s_at(s, i), .src = (uintptr_t)s->src + i * s->ps, .len = s->ps };
		struct uffd_msg msg;

		REQUIRE(s_read(kid->uffd, &msg));
		REQUIRE_OK(ioctl(kid->uffd, UFFDIO_COPY, &copy));
	}
	kid_end(kid);
	kid_saw(s, "child saw", kid, 1);
	s_touch(s, "parent", s_at(s, 1));
}

PARITY(faults_and_forks_in_turn)
{
	struct uffd_msg msgs[2];
	struct poke poke;
	struct kid *kid;

	s_rig(s, 8, MISSING, FORK);
	kid = kid_start(s, kid_exit);
	kid_unread(kid);
	s_poke(&poke, s_at(s, 0));
	s_await(s->uffd, 1);
	s_log_ret(s, "read", read(s->uffd, msgs, sizeof(msgs)));
	s_log(s, "first", "%s", s_msg_text(s, &msgs[0]));
	s_log(s, "second", "%s", s_msg_text(s, &msgs[1]));
	kid_end(kid);
	kid_fill(s, "copy", s->uffd, 0);
	s_poked(s, "saw", &poke);
	s_quiet(s, "no more", s->uffd);
}

/* Forks, with its context in another process: the child would have a copy of the descriptor, and keep it open. */
static void be_left(struct side *s, void *arg)
{
	int *socks = arg;
	struct kid *kid;
	int uffd;

	close(socks[1]);
	s_rig(s, 8, MISSING, FORK);
	uffd = s->uffd;
	kid_fill(s, "copy", uffd, 1);
	REQUIRE_OK(trap_send_fd(socks[0], uffd));
	close(uffd);
	kid = kid_start(s, kid_touch_three);
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
}

/* The child's registration ends with the parent's context, as what would have told of it. */
PARITY(context_closed_with_it_unread)
{
	int socks[2], uffd;
	pid_t pid;

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = s_child(s, be_left, socks);
	close(socks[0]);
	uffd = REQUIRE_FD(trap_receive_fd(socks[1]));
	REQUIRE(wait_for(polled(uffd), S_SECONDS));
	/* Ours has touched its first page by then, most likely. */
	sleep_seconds(0.1);
	close(uffd);
	s_child_end(pid);
}

PARITY(context_closed_with_it_read)
{
	struct kid *kid;

	s_rig(s, 8, MISSING, FORK);
	kid = kid_make(s, kid_touch_three);
	s_msg(s, "child", kid->uffd);
	close(s->uffd);
	for (size_t i = 0; i < 3; i++) {
		if (i)
			s_msg(s, "child", kid->uffd);
		kid_fill(s, "copy", kid->uffd, i);
	}
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
	close(kid->uffd);
}

PARITY(childs_context_closed)
{
	struct kid *kid;
	struct poke poke;

	s_rig(s, 8, MISSING, FORK);
	kid = kid_make(s, kid_touch_three);
	s_msg(s, "child", kid->uffd);
	close(kid->uffd);
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
	s_poke(&poke, s_at(s, 4));
	s_msg(s, "parent", s->uffd);
	kid_fill(s, "copy", s->uffd, 4);
	s_poked(s, "saw", &poke);
}

/* --- The read --------------------------------------------------------------------------------------------- */

/* Without a descriptor to be had the event stays; who waits for pages need not wait for that. */
PARITY(no_descriptor_to_be_had)
{
	struct rlimit limit, low;
	struct uffd_msg msg;
	struct poke poke;
	struct kid *kid;
	int next;

	s_rig(s, 4, MISSING, FORK);
	kid = kid_start(s, kid_touch_three);
	kid_unread(kid);
	s_poke(&poke, s_at(s, 3));
	s_await(s->uffd, 1);
	next = REQUIRE_FD(dup(s->uffd));
	close(next);
	REQUIRE_OK(getrlimit(RLIMIT_NOFILE, &limit));
	low = (struct rlimit){ next, limit.rlim_max };
	REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &low));
	s_quiet(s, "fault", s->uffd);
	s_log_ret(s, "no descriptor", read(s->uffd, &msg, sizeof(msg)));
	s_log_ret(s, "again", read(s->uffd, &msg, sizeof(msg)));
	s_log(s, "poll", "0x%x", polled(s->uffd));
	REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &limit));
	kid_read(s, "event", s->uffd, kid);
	kid_returned(kid);
	s_log(s, "lowest", "%d", kid->uffd == next);
	s_quiet(s, "no more", s->uffd);
	kid_fill(s, "copy", s->uffd, 3);
	s_poked(s, "saw", &poke);
	for (size_t i = 0; i < 3; i++) {
		s_msg(s, "child", kid->uffd);
		kid_fill(s, "copy", kid->uffd, i);
	}
	kid_end(kid);
}

PARITY(buffer_that_cannot_be_written)
{
	struct uffd_msg msg;
	struct kid *kid;
	int next, after;

	s_rig(s, 4, MISSING, FORK);
	kid = kid_start(s, kid_exit);
	kid_unread(kid);
	next = REQUIRE_FD(dup(s->uffd));
	close(next);
	s_log_ret(s, "null", syscall(SYS_read, s->uffd, NULL, sizeof(msg)));
	after = REQUIRE_FD(dup(s->uffd));
	close(after);
	s_log(s, "descriptors left behind", "%d", after - next);
	s_quiet(s, "then", s->uffd);
	kid_end(kid);
	s_quiet(s, "no more", s->uffd);
}

static void touch_one(struct side *s, struct kid *kid)
{
	kid_touch(kid, 0, s_at(s, 0));
}

PARITY(read_by_io_uring)
{
	struct uffd_msg msg = { 0 };
	struct kid *kid;
	struct uring u;
	int res = 0;

	s_rig(s, 4, MISSING, FORK);
	uring_init(&u);
	uring_submit(&u, IORING_OP_READ, s->uffd, &msg, sizeof(msg), 0);
	kid = kid_start(s, touch_one);
	s_log(s, "came", "%d", uring_result(&u, &res, 10));
	s_log(s, "result", "%d, %s", res, s_msg_text(s, &msg));
	REQUIRE_EQ(msg.event, UFFD_EVENT_FORK);
	kid->uffd = msg.arg.fork.ufd;
	s_log_flags(s, "flags", kid->uffd);
	s_msg(s, "child", kid->uffd);
	kid_fill(s, "copy", kid->uffd, 0);
	kid_end(kid);
	kid_saw(s, "child saw", kid, 0);
	uring_exit(&u);
}

static void be_handled(struct side *s, void *arg)
{
	int *socks = arg;
	struct kid *kid;
	char byte;

	close(socks[1]);
	s_rig(s, 4, MISSING, FORK);
	REQUIRE_OK(trap_send_fd(socks[0], s->uffd));
	kid = kid_start(s, kid_touch_three);
	/* It writes to the trace until it is done. */
	REQUIRE_EQ(read(socks[0], &byte, 1), 0);
	kid_end(kid);
	for (size_t i = 0; i < 3; i++)
		kid_saw(s, "child saw", kid, i);
}

/* The descriptor is the reader's, whoever forked. */
PARITY(handler_in_another_process)
{
	struct kid kid;
	unsigned char *src;
	int socks[2];
	pid_t pid;

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	pid = s_child(s, be_handled, socks);
	close(socks[0]);
	s->uffd = REQUIRE_FD(trap_receive_fd(socks[1]));
	src = xmmap_anon(s->ps);
	memset(src, 0x99, s->ps);
	kid_read(s, "event", s->uffd, &kid);
	s_log_flags(s, "flags", kid.uffd);
	for (size_t i = 0; i < 3; i++) {
		s_msg(s, "child", kid.uffd);
		s_copy(s, "copy", kid.uffd, s_at(s, i), (uintptr_t)src, s->ps, 0);
	}
	close(socks[1]);
	s_child_end(pid);
}

static void *read_many(void *arg)
{
	struct side *s = arg;
	struct uffd_msg msg;
	uintptr_t forks = 0;

	for (;;) {
		REQUIRE_EQ(read(s->uffd, &msg, sizeof(msg)), sizeof(msg));
		if (msg.event != UFFD_EVENT_FORK)
			break;
		forks++;
		close(msg.arg.fork.ufd);
	}
	return (void *)forks;
}

/* Several readers that wait: each event is read once. */
PARITY(many_forks_and_readers)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FORK | UFFD_FEATURE_EVENT_UNMAP };
	uintptr_t forks = 0, rounds = 50;
	pthread_t readers[3];

	s_rig(s, 8, 0, 0);
	s->uffd = REQUIRE_FD(s_new(s, 0));
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_API, &api));
	s_register(s, "register", s->uffd, s_at(s, 0), 8 * s->ps, MISSING);
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		readers[i] = thread_start(read_many, s);
	for (size_t i = 0; i < rounds; i++) {
		pid_t pid = REQUIRE_OK(fork());

		if (pid == 0)
			_exit(0);
		REQUIRE_EQ(child_wait(pid, S_SECONDS), 0);
	}
	/* An event each, to end them. */
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		REQUIRE_OK(munmap(s->map + 2 * i * s->ps, s->ps));
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
		forks += (uintptr_t)thread_join(readers[i]);
	s_log(s, "read", "%zu of %zu", (size_t)forks, (size_t)rounds);
}
