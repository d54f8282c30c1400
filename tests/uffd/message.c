// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a fault says and whom it concerns: the fields of its message, several threads on one page, accesses by the
 * kernel, and the features that change these.
 */
#include "uffd.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define ONE "one message stands for all who wait for a page, and fdinfo counts messages"

static const struct parity_diff diffs[] = {
	{ "many_threads_on_one_page", "messages", "1", ONE },
	{ "many_threads_on_one_page", "wait", "1", ONE },
	{ "many_threads_on_one_page", "wait still", "1, 0 unread", ONE },
};

PARITY_DIFFS(diffs);

PARITY(read_and_write)
{
	struct poke poke;

	s_rig(s, 4, MISSING, 0);
	s_poke(&poke, s_at(s, 0) + 1234);
	s_msg(s, "read", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_poke_write(&poke, s_at(s, 1) + s->ps - 1);
	s_msg(s, "write", s->uffd);
	s_fill(s, "copy", 1, 1);
	s_poked(s, "wrote", &poke);
	s_log(s, "page", "0x%02x 0x%02x", s->map[s->ps], s->map[2 * s->ps - 1]);
	s_quiet(s, "no more", s->uffd);
}

PARITY(exact_address)
{
	struct poke poke;

	s_rig(s, 4, MISSING | MINOR, UFFD_FEATURE_EXACT_ADDRESS);
	s_poke(&poke, s_at(s, 0) + 1234);
	s_msg(s, "read", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_poke_write(&poke, s_at(s, 1) + s->ps - 1);
	s_msg(s, "write", s->uffd);
	s_fill(s, "copy", 1, 1);
	s_poked(s, "wrote", &poke);
	s_write(s, 2, 1);
	s_poke(&poke, s_at(s, 2) + 7);
	s_msg(s, "content", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 2), s->ps, 0);
	s_poked(s, "saw", &poke);
}

PARITY(thread_id)
{
	struct uffd_msg msg;
	struct poke poke;

	s_rig(s, 2, MISSING, UFFD_FEATURE_THREAD_ID);
	s_poke(&poke, s_at(s, 0));
	msg = s_msg(s, "fault", s->uffd);
	s_log(s, "the thread's", "%d", (pid_t)msg.arg.pagefault.feat.ptid == poke.tid);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
}

static void in_namespace(struct side *s, void *arg)
{
	struct uffd_msg msg;
	struct poke poke;

	s_rig(s, 1, MISSING, UFFD_FEATURE_THREAD_ID);
	s_log(s, "process", "%d", getpid());
	s_poke(&poke, s_at(s, 0));
	msg = s_msg(s, "fault", s->uffd);
	s_log(s, "thread", "%u", msg.arg.pagefault.feat.ptid);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
}

/* Numbered as the thread sees itself. */
PARITY(thread_id_with_minor)
{
	struct poke pokes[2];
	bool told[2] = { false };

	s_rig(s, 2, MINOR, UFFD_FEATURE_THREAD_ID);
	s_write(s, 0, 2);
	for (int i = 0; i < 2; i++)
		s_poke(&pokes[i], s_at(s, 1));
	s_await(s->uffd, 2);
	for (int i = 0; i < 2; i++) {
		struct uffd_msg msg = s_msg(s, "fault", s->uffd);

		for (int j = 0; j < 2; j++)
			told[j] |= msg.arg.pagefault.feat.ptid == (uint32_t)pokes[j].tid;
	}
	s_log(s, "told of", "%d %d", told[0], told[1]);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "first", &pokes[0]);
	s_poked(s, "second", &pokes[1]);
	s_quiet(s, "no more", s->uffd);
}

PARITY(thread_id_in_a_namespace)
{
	REQUIRE_OK(unshare(CLONE_NEWPID));
	s_child_end(s_child(s, in_namespace, NULL));
}

static int by_ptid(const void *a, const void *b)
{
	const struct uffd_msg *x = a, *y = b;

	return x->arg.pagefault.feat.ptid < y->arg.pagefault.feat.ptid ? -1 : 1;
}

static void threads_on_one_page(struct side *s, uint64_t features)
{
	struct uffd_msg msgs[8];
	struct poke pokes[4];
	pid_t tids = 0, ptids = 0;
	int others = 0;
	ssize_t n;

	s_rig(s, 2, MISSING, features);
	for (int i = 0; i < 4; i++) {
		s_poke(&pokes[i], s_at(s, 0) + i * 16);
		REQUIRE(wait_for(s_total(s->uffd) > 0 && task_state(pokes[i].tid) == 'S', S_SECONDS));
		tids += pokes[i].tid;
	}
	s_log(s, "wait", "%ld", s_total(s->uffd));
	n = read(s->uffd, msgs, sizeof(msgs));
	s_log(s, "messages", "%zd", n / (ssize_t)sizeof(*msgs));
	if (n > 0) {
		n /= sizeof(*msgs);
		qsort(msgs, n, sizeof(*msgs), by_ptid);
		for (ssize_t i = 0; i < n; i++) {
			others += strcmp(s_msg_text(s, &msgs[i]), features ? "fault at +0 ptid" : "fault at +0") != 0;
			ptids += msgs[i].arg.pagefault.feat.ptid;
		}
	}
	s_log(s, "messages of something else", "%d", others);
	s_log(s, "threads", "%s", ptids == tids ? "all" : ptids ? "some" : "none");
	s_log(s, "wait still", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_fill(s, "copy", 0, 1);
	for (int i = 0; i < 4; i++)
		s_poked(s, "saw", &pokes[i]);
	s_quiet(s, "no more", s->uffd);
}

PARITY(many_threads_on_one_page)
{
	threads_on_one_page(s, 0);
}

PARITY(many_threads_on_one_page_with_ids)
{
	threads_on_one_page(s, UFFD_FEATURE_THREAD_ID);
}

static long write_out(struct poke *poke)
{
	return write((int)poke->arg, (const void *)poke->at, 100);
}

static long read_in(struct poke *poke)
{
	return read((int)poke->arg, (void *)poke->at, 100);
}

static long populate(struct poke *poke)
{
	return madvise((void *)poke->at, poke->arg, MADV_POPULATE_READ);
}

static long stat_there(struct poke *poke)
{
	return fstat((int)poke->arg, (struct stat *)poke->at);
}

/* The kernel reads and writes for a system call: it waits as the thread itself would. */
PARITY(access_by_the_kernel)
{
	struct poke poke;
	char buf[100];
	int pipes[2];

	s_rig(s, 8, MISSING, 0);
	REQUIRE_OK(pipe(pipes));
	s_poke_call(&poke, write_out, s_at(s, 0), pipes[1]);
	s_msg(s, "write(2)", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "written", &poke);
	REQUIRE_EQ(read(pipes[0], buf, 100), 100);
	s_log(s, "it is", "0x%02x", (unsigned char)buf[99]);
	REQUIRE_EQ(write(pipes[1], buf, 100), 100);
	s_poke_call(&poke, read_in, s_at(s, 1), pipes[0]);
	s_msg(s, "read(2)", s->uffd);
	s_fill(s, "copy", 1, 1);
	s_poked(s, "read", &poke);
	s_log(s, "page", "0x%02x 0x%02x", s->map[s->ps + 99], s->map[s->ps + 100]);
	s_poke_call(&poke, populate, s_at(s, 2), 2 * s->ps);
	s_msg(s, "populate", s->uffd);
	s_fill(s, "copy", 2, 1);
	s_msg(s, "next", s->uffd);
	s_fill(s, "copy", 3, 1);
	s_poked(s, "populated", &poke);
	s_poke_call(&poke, stat_there, s_at(s, 4) + 40, s->file);
	s_msg(s, "fstat", s->uffd);
	s_zero(s, "zero", s->uffd, s_at(s, 4), s->ps, 0);
	s_poked(s, "done", &poke);
	s_quiet(s, "no more", s->uffd);
}

static void peek(struct side *s, void *arg)
{
	unsigned char byte = 0;
	ssize_t ret;
	char go;
	struct iovec mine = { &byte, 1 }, his = { s->map + 5 * s->ps, 1 };

	ret = process_vm_readv(getppid(), &mine, 1, &his, 1, 0);
	/* Not before the parent has written down what it did for it. */
	REQUIRE_EQ(read(*(int *)arg, &go, 1), 1);
	s_log_ret(s, "from outside", ret);
	s_log(s, "it saw", "0x%02x", byte);
}

PARITY(access_by_another_process)
{
	int pipes[2];
	pid_t pid;

	s_rig(s, 8, MISSING, UFFD_FEATURE_EXACT_ADDRESS);
	REQUIRE_OK(pipe(pipes));
	pid = s_child(s, peek, &pipes[0]);
	s_msg(s, "fault", s->uffd);
	s_fill(s, "copy", 5, 1);
	REQUIRE_EQ(write(pipes[1], "", 1), 1);
	s_child_end(pid);
}

static void nothing(int sig)
{
}

PARITY(signal_while_waiting)
{
	struct sigaction sa = { .sa_handler = nothing, .sa_flags = SA_RESTART };
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "fault", s->uffd);
	/* It runs its handler, and then faults once more. */
	REQUIRE_EQ(pthread_kill(poke.thread, SIGUSR1), 0);
	s_msg(s, "again", s->uffd);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_quiet(s, "no more", s->uffd);
}

PARITY(sigbus_feature)
{
	struct poke poke;
	int pipes[2];

	s_rig(s, 4, MISSING | MINOR, UFFD_FEATURE_SIGBUS);
	REQUIRE_OK(pipe(pipes));
	s_touch(s, "read", s_at(s, 0) + 9);
	s_poke_write(&poke, s_at(s, 0));
	s_poked(s, "write", &poke);
	s_poke_call(&poke, write_out, s_at(s, 0), pipes[1]);
	s_poked(s, "system call", &poke);
	s_poke_call(&poke, populate, s_at(s, 0), s->ps);
	s_poked(s, "populate", &poke);
	s_quiet(s, "no message", s->uffd);
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_fill(s, "copy", 0, 1);
	s_touch(s, "and now", s_at(s, 0));
	s_write(s, 1, 1);
	s_touch(s, "content", s_at(s, 1));
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_touch(s, "and now", s_at(s, 1));
	s_log(s, "absent as before", "%d", s_has_content(s, 2));
}

PARITY(user_mode_only)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct poke poke;
	int pipes[2];

	s_rig(s, 4, 0, 0);
	REQUIRE_OK(pipe(pipes));
	close(s->uffd);
	s->uffd = REQUIRE_FD(s_new(s, O_NONBLOCK | UFFD_USER_MODE_ONLY));
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_API, &api));
	s_register(s, "register", s->uffd, s_at(s, 0), 4 * s->ps, MISSING | MINOR);
	s_poke_call(&poke, write_out, s_at(s, 0), pipes[1]);
	s_poked(s, "write(2)", &poke);
	s_poke_call(&poke, populate, s_at(s, 0), s->ps);
	s_poked(s, "populate", &poke);
	s_quiet(s, "no message", s->uffd);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "its own access", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_poke_call(&poke, write_out, s_at(s, 0), pipes[1]);
	s_poked(s, "write(2), now", &poke);
	s_write(s, 1, 1);
	s_poke_call(&poke, write_out, s_at(s, 1), pipes[1]);
	s_poked(s, "write(2) of content", &poke);
}

PARITY(neighbours_do_not_trap)
{
	unsigned char *beside;

	s_rig(s, 4, 0, 0);
	/* The rest of the file, mapped straight behind, in the way that mappings are joined when they can be. */
	beside = xmmap(NULL, 12 * s->ps, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	close(s->file);
	s->file = s_file(s, 8 * s->ps);
	s->map = xmmap(beside + s->ps, 4 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 0);
	s_register(s, "register", s->uffd, s_at(s, 0), 4 * s->ps, MISSING | MINOR);
	xmmap(beside + 5 * s->ps, 4 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 4 * s->ps);
	s_touch(s, "absent", (uintptr_t)beside + 5 * s->ps);
	REQUIRE_EQ(pwrite(s->file, s->src, s->ps, 6 * s->ps), s->ps);
	s_touch(s, "content", (uintptr_t)beside + 7 * s->ps);
	s_quiet(s, "no message", s->uffd);
	s_copy(s, "not registered", s->uffd, (uintptr_t)beside + 8 * s->ps, (uintptr_t)s->src, s->ps, 0);
	s_copy(s, "across both", s->uffd, (uintptr_t)beside + 4 * s->ps, (uintptr_t)s->src, 2 * s->ps, 0);
	s_fill(s, "copy", 3, 1);
}
