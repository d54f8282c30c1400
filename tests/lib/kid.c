// SPDX-License-Identifier: GPL-2.0-only
/*
 * Children of a side: see kid.h.
 */
#include "kid.h"

#include <sys/syscall.h>

long kid_fork(struct poke *poke)
{
	struct kid *kid = (struct kid *)poke->arg;
	/* Not fork(): the C library's holds its locks, of malloc() too, for as long as theirs waits for the reader. */
	pid_t pid = syscall(SYS_fork);

	if (pid == 0) {
		kid->run(kid->s, kid);
		_exit(0);
	}
	__atomic_store_n(&kid->forked, 1, __ATOMIC_RELEASE);
	return pid;
}

struct kid *kid_new(struct side *s, void (*run)(struct side *s, struct kid *kid))
{
	/* Shared by the two, and in no memory that is watched. */
	struct kid *kid = xmmap(NULL, s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	kid->s = s;
	kid->run = run;
	kid->uffd = -1;
	return kid;
}

struct kid *kid_start(struct side *s, void (*run)(struct side *s, struct kid *kid))
{
	struct kid *kid = kid_new(s, run);

	s_poke_call(&kid->poke, kid_fork, (uintptr_t)kid, (long)kid);
	return kid;
}

void kid_read(struct side *s, const char *key, int uffd, struct kid *kid)
{
	struct uffd_msg msg = { 0 };

	if (key)
		msg = s_msg(s, key, uffd);
	else
		REQUIRE(s_read(uffd, &msg));
	REQUIRE_EQ(msg.event, UFFD_EVENT_FORK);
	kid->uffd = msg.arg.fork.ufd;
}

bool kid_held(struct kid *kid)
{
	double seconds = kid->s->ours ? S_SECONDS : 0.3;

	return !wait_for(__atomic_load_n(&kid->forked, __ATOMIC_ACQUIRE), seconds);
}

void kid_unread(struct kid *kid)
{
	REQUIRE_EQ(kid_held(kid), !kid->s->ours);
}

void kid_returned(struct kid *kid)
{
	REQUIRE(wait_for(__atomic_load_n(&kid->forked, __ATOMIC_ACQUIRE), S_SECONDS));
}

pid_t kid_forked(struct kid *kid)
{
	REQUIRE(thread_join_for(kid->poke.thread, S_SECONDS));
	return kid->poke.ret;
}

void kid_end(struct kid *kid)
{
	pid_t pid = kid_forked(kid);

	REQUIRE(pid > 0);
	REQUIRE_EQ(child_wait(pid, S_SECONDS), 0);
}

struct kid *kid_make(struct side *s, void (*run)(struct side *s, struct kid *kid))
{
	struct kid *kid = kid_start(s, run);

	kid_read(s, "event", s->uffd, kid);
	return kid;
}

void kid_go(struct kid *kid, int step)
{
	__atomic_store_n(&kid->step, step, __ATOMIC_RELEASE);
}

void kid_wait(struct kid *kid, int step)
{
	REQUIRE(wait_for(__atomic_load_n(&kid->step, __ATOMIC_ACQUIRE) >= step, 2 * S_SECONDS));
}

void kid_touch(struct kid *kid, size_t i, uint64_t at)
{
	touch_read((unsigned char *)at);
	kid->saw[i] = touch_last;
}

void kid_saw(struct side *s, const char *key, struct kid *kid, size_t i)
{
	s_log(s, key, "%s", s_touched(s, &kid->saw[i]));
}

void kid_touch_three(struct side *s, struct kid *kid)
{
	for (size_t i = 0; i < 3; i++)
		kid_touch(kid, i, s_at(s, i));
}

void kid_exit(struct side *s, struct kid *kid)
{
}

void kid_fill(struct side *s, const char *key, int uffd, size_t page)
{
	s_copy(s, key, uffd, s_at(s, page), (uintptr_t)s->src + page * s->ps, s->ps, 0);
}

void s_log_flags(struct side *s, const char *key, int uffd)
{
	s_log(s, key, "%s%s%s", fcntl(uffd, F_GETFD) & FD_CLOEXEC ? "cloexec " : "",
	      fcntl(uffd, F_GETFL) & O_NONBLOCK ? "nonblock " : "",
	      (fcntl(uffd, F_GETFL) & O_ACCMODE) == O_RDONLY ? "rdonly" : "not rdonly");
}
