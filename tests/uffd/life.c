// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contexts and the processes around them: fork, exec and exit of who is registered, handlers elsewhere, and the end of
 * a context while threads wait.
 */
#include "uffd.h"
#include "trap.h"

#include <sys/socket.h>

/* --- fork ---------------------------------------------------------------------------------------------- */

static void touch_in_child(struct side *s, void *arg)
{
	s_touch(s, "child, absent", s_at(s, 0));
	s_touch(s, "child, content", s_at(s, 1));
	s_quiet(s, "child, message", s->uffd);
	/* The context is of the parent: this concerns the parent's mapping. */
	s_fill(s, "child, copy", 2, 1);
	s_touch(s, "child, copied", s_at(s, 2));
	/* The same addresses here are not registered, and there is no way to do so. */
	s_register(s, "child, register", s->uffd, s_at(s, 3), s->ps, MISSING);
	s_touch(s, "child, absent still", s_at(s, 3));
	s_unregister(s, "child, unregister", s->uffd, s_at(s, 4), s->ps);
}

PARITY(child_is_not_registered)
{
	struct poke poke;

	s_rig(s, 8, MISSING | MINOR, 0);
	s_write(s, 1, 1);
	s_child_end(s_child(s, touch_in_child, NULL));
	s_quiet(s, "no message", s->uffd);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "populated by the child", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_touch(s, "copied by the child", s_at(s, 2));
	s_touch(s, "unregistered by the child", s_at(s, 4));
	s_poke(&poke, s_at(s, 5));
	s_msg(s, "absent", s->uffd);
	s_fill(s, "copy", 5, 1);
	s_poked(s, "saw", &poke);
}

static void register_in_child(struct side *s, void *arg)
{
	struct poke poke;
	int own = s_uffd(s, 0);

	s_register(s, "child, its own context", own, s_at(s, 0), 2 * s->ps, MISSING);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "child, absent", own);
	s_quiet(s, "not the parent's", s->uffd);
	s_copy(s, "child, copy", own, s_at(s, 1), (uintptr_t)s->src + s->ps, s->ps, 0);
	s_poked(s, "child, saw", &poke);
}

PARITY(child_registers_for_itself)
{
	s_rig(s, 4, MISSING, 0);
	s_child_end(s_child(s, register_in_child, NULL));
	s_touch(s, "parent sees it", s_at(s, 1));
	s_fill(s, "parent still registered", 0, 1);
}

PARITY(fork_while_a_thread_waits)
{
	struct poke poke;

	s_rig(s, 8, MISSING | MINOR, 0);
	s_poke(&poke, s_at(s, 6));
	s_msg(s, "fault", s->uffd);
	s_child_end(s_child(s, touch_in_child, NULL));
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_fill(s, "copy", 6, 1);
	s_poked(s, "saw", &poke);
}

/* --- Another process that handles, and one that is handled ------------------------------------------------ */

struct remote {
	int sock;
	int hold;	/* closed by us: it may end */
	pid_t pid;
};

static void be_handled(struct side *s, void *arg)
{
	struct remote *remote = arg;
	struct poke poke;
	char byte;

	close(remote->hold);
	s_rig(s, 4, MISSING | MINOR, 0);
	REQUIRE_OK(trap_send_fd(remote->sock, s->uffd));
	s_poke(&poke, s_at(s, 1));
	/* Until the other end closes; it writes to the trace meanwhile. */
	REQUIRE_EQ(read(remote->sock, &byte, 1), 0);
	s_poked(s, "remote saw", &poke);
}

static void start_remote(struct side *s, struct remote *remote, void (*fn)(struct side *s, void *arg))
{
	int socks[2];

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	remote->sock = socks[0];
	remote->hold = socks[1];
	remote->pid = s_child(s, fn, remote);
	close(socks[0]);
	remote->sock = -1;
	s->uffd = REQUIRE_FD(trap_receive_fd(remote->hold));
}

PARITY(handler_in_another_process)
{
	struct remote remote;
	unsigned char *src;

	start_remote(s, &remote, be_handled);
	/* What the child has set up is in the shared struct. */
	src = xmmap_anon(s->ps);
	memset(src, 0x99, s->ps);
	s_msg(s, "fault", s->uffd);
	s_copy(s, "unreadable here", s->uffd, s_at(s, 0), 0, s->ps, 0);
	s_copy(s, "copy", s->uffd, s_at(s, 1), (uintptr_t)src, s->ps, 0);
	close(remote.hold);
	s_child_end(remote.pid);
}

static void log_dead(struct side *s)
{
	unsigned char *src = xmmap_anon(s->ps);

	s_copy(s, "copy", s->uffd, s_at(s, 0), (uintptr_t)src, s->ps, 0);
	s_copy(s, "copy, WP", s->uffd, s_at(s, 0), (uintptr_t)src, s->ps, UFFDIO_COPY_MODE_WP);
	s_zero(s, "zero", s->uffd, s_at(s, 0), s->ps, 0);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_register(s, "register", s->uffd, s_at(s, 0), s->ps, MISSING);
	s_unregister(s, "unregister", s->uffd, s_at(s, 0), s->ps);
	s_wake(s, "wake", s->uffd, s_at(s, 0), s->ps);
	/* What can be told without the memory is told first. */
	s_copy(s, "copy, unaligned", s->uffd, s_at(s, 0) + 1, (uintptr_t)src, s->ps, 0);
	s_copy(s, "copy, unknown mode", s->uffd, s_at(s, 0), (uintptr_t)src, s->ps, 1 << 5);
	s_register(s, "register, no mode", s->uffd, s_at(s, 0), s->ps, 0);
	s_quiet(s, "message", s->uffd);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
}

static void wait_for_ever(struct side *s, void *arg)
{
	struct remote *remote = arg;

	close(remote->hold);
	s_rig(s, 4, MISSING | MINOR, 0);
	REQUIRE_OK(trap_send_fd(remote->sock, s->uffd));
	touch_read(s->map);
	s_log(s, "lives on", "%s", s_touched(s, &touch_last));
}

PARITY(killed_while_it_waits)
{
	struct remote remote;
	int status;

	start_remote(s, &remote, wait_for_ever);
	s_await(s->uffd, 1);
	REQUIRE_OK(kill(remote.pid, SIGKILL));
	status = child_wait(remote.pid, S_SECONDS);
	s_log(s, "died", "%d", status != -1 && WIFSIGNALED(status));
	log_dead(s);
}

PARITY(killed_after_its_fault_was_read)
{
	struct remote remote;
	int status;

	start_remote(s, &remote, wait_for_ever);
	s_msg(s, "fault", s->uffd);
	REQUIRE_OK(kill(remote.pid, SIGKILL));
	status = child_wait(remote.pid, S_SECONDS);
	s_log(s, "died", "%d", status != -1 && WIFSIGNALED(status));
	log_dead(s);
}

static void leave(struct side *s, void *arg)
{
	struct remote *remote = arg;

	close(remote->hold);
	s_rig(s, 4, MISSING | MINOR, 0);
	REQUIRE_OK(trap_send_fd(remote->sock, s->uffd));
}

PARITY(process_exited)
{
	struct remote remote;

	start_remote(s, &remote, leave);
	s_child_end(remote.pid);
	log_dead(s);
}

PARITY_SINCE(poison_when_the_process_exited, UFFD_FEATURE_POISON, "poison: ESRCH, field untouched\n")
{
	struct remote remote;

	start_remote(s, &remote, leave);
	s_child_end(remote.pid);
	s_poison(s, "poison", s->uffd, s_at(s, 0), s->ps, 0);
}

static void execute(struct side *s, void *arg)
{
	struct remote *remote = arg;
	struct poke poke;
	int null;

	close(remote->hold);
	s_rig(s, 4, MISSING | MINOR, 0);
	/* A second thread waits meanwhile: exec ends it. */
	s_poke(&poke, s_at(s, 3));
	s_await(s->uffd, 1);
	REQUIRE_OK(trap_send_fd(remote->sock, s->uffd));
	null = REQUIRE_FD(open("/dev/null", O_WRONLY));
	REQUIRE_OK(dup2(null, STDOUT_FILENO));
	execl("/proc/self/exe", "list", "-l", NULL);
	_exit(9);
}

PARITY(process_executed_another_program)
{
	struct remote remote;
	char byte;

	start_remote(s, &remote, execute);
	/* The socket is close-on-exec, which comes after the change of the memory. */
	REQUIRE_EQ(read(remote.hold, &byte, 1), 0);
	log_dead(s);
	s_child_end(remote.pid);
}

/* --- The end of a context -------------------------------------------------------------------------------- */

PARITY(closed_while_threads_wait)
{
	struct poke pokes[4];
	int again;

	s_rig(s, 4, MISSING | MINOR, 0);
	s_write(s, 2, 1);
	for (size_t i = 0; i < 3; i++) {
		s_poke(&pokes[i], s_at(s, i));
		if (i)
			s_msg(s, "fault", s->uffd);
		s_await(s->uffd, i + 1);
	}
	s_poke_write(&pokes[3], s_at(s, 3));
	s_await(s->uffd, 4);
	close(s->uffd);
	s_poked(s, "absent", &pokes[0]);
	s_poked(s, "absent, unread", &pokes[1]);
	s_poked(s, "content", &pokes[2]);
	s_poked(s, "written", &pokes[3]);
	REQUIRE_OK(madvise(s->map, 4 * s->ps, MADV_DONTNEED));
	s_touch(s, "content, later", s_at(s, 2));
	again = s_uffd(s, 0);
	s_register(s, "another registers it", again, s_at(s, 0), 4 * s->ps, MISSING);
}

static long write_out(struct poke *poke)
{
	return write((int)poke->arg, (const void *)poke->at, 10);
}

PARITY(closed_while_a_system_call_waits)
{
	struct poke poke;
	char buf[10];
	int pipes[2];

	s_rig(s, 2, MISSING, 0);
	REQUIRE_OK(pipe(pipes));
	s_poke_call(&poke, write_out, s_at(s, 0), pipes[1]);
	s_msg(s, "fault", s->uffd);
	close(s->uffd);
	s_poked(s, "write(2)", &poke);
	REQUIRE_EQ(read(pipes[0], buf, sizeof(buf)), sizeof(buf));
	s_log(s, "it was", "0x%02x", buf[0]);
}

PARITY(last_descriptor_counts)
{
	struct poke poke;
	int other;

	s_rig(s, 2, MISSING, 0);
	other = REQUIRE_FD(dup(s->uffd));
	close(s->uffd);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "still there", other);
	s_copy(s, "copy", other, s_at(s, 0), (uintptr_t)s->src, s->ps, 0);
	s_poked(s, "saw", &poke);
	close(other);
	s_touch(s, "gone", s_at(s, 1));
}

PARITY(closed_with_nothing_registered)
{
	s_rig(s, 2, 0, 0);
	close(s->uffd);
	s_touch(s, "absent", s_at(s, 1));
	s->uffd = s_uffd(s, 0);
	s_register(s, "register", s->uffd, s_at(s, 0), s->ps, MISSING);
	REQUIRE_OK(munmap(s->map, 2 * s->ps));
	close(s->uffd);
	s->uffd = s_uffd(s, 0);
	s_register(s, "nothing left", s->uffd, s_at(s, 0), s->ps, MISSING);
}

/* The descriptor of the file may go: the mapping holds it. */
PARITY(file_closed_before)
{
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	close(s->file);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "fault", s->uffd);
	s_fill(s, "copy", 0, 2);
	s_poked(s, "saw", &poke);
	s_touch(s, "second", s_at(s, 1));
}

static void *close_it(void *arg)
{
	close(*(int *)arg);
	return NULL;
}

/* Closing waits for nobody, and who is about to trap then sees zeros as well. */
PARITY(closed_again_and_again)
{
	size_t zeros = 0, rounds = 60;

	s_rig(s, 4, 0, 0);
	for (size_t i = 0; i < rounds; i++) {
		struct poke pokes[2];
		struct uffdio_register reg = { .range = { s_at(s, 0), 4 * s->ps }, .mode = MISSING };
		pthread_t closer;
		int uffd = s_uffd(s, 0);

		REQUIRE_OK(ioctl(uffd, UFFDIO_REGISTER, &reg));
		s_poke(&pokes[0], s_at(s, i % 4));
		closer = thread_start(close_it, &uffd);
		s_poke_write(&pokes[1], s_at(s, (i + 1) % 4));
		thread_join(closer);
		for (int j = 0; j < 2; j++)
			if (thread_join_for(pokes[j].thread, S_SECONDS))
				zeros += !pokes[j].touch.sig && !pokes[j].touch.value;
		REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * s->ps));
	}
	s_log(s, "saw zeros or wrote", "%zu of %zu", zeros, 2 * rounds);
}
