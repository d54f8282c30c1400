// SPDX-License-Identifier: GPL-2.0-only
/*
 * Starts page servers, and replaces them when they die. Of what a dead one has read and not answered the module (or the
 * VMM, woken) tells its successor once more, and what it had provided is in the ledger: nothing is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keep.h"

/* A server that dies more often than this will not get better. */
#define DEATHS 5
#define DEATHS_NS (10 * 1000000000ull)

/* Those that a command is sent through us; the manual page lists them. */
static const int passed_on[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM };

static sigset_t waited_for(void)
{
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (i = 0; i < ARRAY_SIZE(passed_on); i++)
		sigaddset(&set, passed_on[i]);
	return set;
}

int keeper_init(struct keeper *k)
{
	sigset_t set = waited_for();

	k->subject = -1;
	k->pid = -1;
	k->command = -1;
	k->server.fd = -1;
	k->server.dev = -1;
	/* A VMM that has been started by somebody who ignores it would leave us no end of children. */
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return fail_errno(FAILED, errno, "sigprocmask");
	k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signals < 0)
		return fail_errno(FAILED, errno, "signalfd");
	return DONE;
}

void keeper_unblock(void)
{
	sigset_t set = waited_for();

	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int be_server(struct keeper *k, int ready, pid_t parent)
{
	size_t i;

	/*
	 * What a terminal or a service manager sends to all of us is for the command, which may need its memory to end
	 * well. The keeper ends us by SIGKILL.
	 */
	for (i = 0; i < ARRAY_SIZE(passed_on); i++)
		signal(passed_on[i], SIG_IGN);
	prctl(PR_SET_NAME, "gmemctl-server");
	keeper_unblock();
	/* Without its keeper it would serve a VMM that may be gone. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return FAILED;
	return k->server.image->stream ? serve_stream(&k->server, ready) : serve(&k->server, ready);
}

int keeper_start(struct keeper *k)
{
	pid_t parent = getpid();
	int ready[2], status;
	ssize_t got;
	char byte;

	if (pipe2(ready, O_CLOEXEC))
		return fail_errno(FAILED, errno, "pipe");
	fflush(NULL);
	k->pid = fork();
	if (k->pid < 0) {
		close(ready[0]);
		close(ready[1]);
		return fail_errno(FAILED, errno, "cannot start a page server");
	}
	if (!k->pid) {
		close(ready[0]);
		_exit(be_server(k, ready[1], parent));
	}
	close(ready[1]);
	do {
		got = read(ready[0], &byte, 1);
	} while (got < 0 && errno == EINTR);
	close(ready[0]);
	if (got == 1) {
		if (!k->server.options->quiet)
			note("server", "page server %d serves %s", k->pid, k->whose);
		k->server.again = true;
		return DONE;
	}
	/* It has said why. */
	while (waitpid(k->pid, &status, 0) < 0 && errno == EINTR)
		;
	k->pid = -1;
	if (WIFEXITED(status) && WEXITSTATUS(status))
		return WEXITSTATUS(status);
	return fail(FAILED, "the page server died of signal %d before it had begun", WTERMSIG(status));
}

void keeper_stop(struct keeper *k)
{
	if (k->pid < 0)
		return;
	kill(k->pid, SIGKILL);
	while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
		;
	k->pid = -1;
}

/* Says how it gets a server again when we can give it none. */
static void abandon(struct keeper *k)
{
	k->over = true;
	if (k->server.image->stream)
		fail(FAILED, "the rest of the stream cannot be had: %s gets SIGBUS for what is missing, or waits",
		     k->whose);
	else
		fail(FAILED, "no other page server is started: %s gets SIGBUS, or waits (see 'gmemctl attach')",
		     k->whose);
}

static void server_ended(struct keeper *k, int status)
{
	struct timespec ts;
	uint64_t now;

	k->pid = -1;
	progress_clear(k);
	if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		k->over = true;
		if (k->server.ledger->complete && !k->server.options->quiet)
			note("complete", "all of the memory of %s has been provided%s: the page server has ended",
			     k->whose, k->server.ledger->poisoned ? ", or cannot be" : "");
		return;
	}
	if (WIFSIGNALED(status))
		fail(FAILED, "the page server of %s died of signal %d", k->whose, WTERMSIG(status));
	do {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = ts.tv_sec * 1000000000ull + ts.tv_nsec;
		if (!k->deaths || now - k->first_death > DEATHS_NS) {
			k->deaths = 0;
			k->first_death = now;
		}
		/* A stream that has been read from cannot be read again. */
		if (++k->deaths > DEATHS || k->server.image->stream) {
			abandon(k);
			return;
		}
	} while (keeper_start(k));
}

/* Children that have ended; true when the command has. */
static bool reap(struct keeper *k)
{
	bool ended = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->command) {
			k->status = status;
			k->command = -1;
			ended = true;
		} else if (pid == k->pid) {
			/* Whatever has become of it: whose memory it is decides when we end. */
			server_ended(k, status);
		}
	}
	return ended;
}

/* True when we are to end. */
static bool take_signals(struct keeper *k, int *code)
{
	struct signalfd_siginfo info;

	while (read(k->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			if (reap(k))
				return true;
		} else if (k->command > 0) {
			/* What comes from the terminal the command has got as well. */
			if (info.ssi_code <= 0)
				kill(k->command, info.ssi_signo);
		} else {
			*code = fail(FAILED, "ended by signal %d; %s is served no more", info.ssi_signo, k->whose);
			return true;
		}
	}
	return false;
}

/* What the last faults were answered with is to be in the figures, as long as there is a server that may still say. */
static void await_answers(const struct keeper *k)
{
	const struct timespec tick = { .tv_nsec = 5000000 };
	siginfo_t ended = {};

	for (int i = 0; i < 100 && k->pid > 0 && k->server.ledger->answered < k->server.ledger->faults; i++) {
		if (waitid(P_PID, k->pid, &ended, WEXITED | WNOHANG | WNOWAIT) || ended.si_pid)
			return;
		nanosleep(&tick, NULL);
	}
}

int keeper_watch(struct keeper *k)
{
	struct pollfd fds[] = {
		{ .fd = k->signals, .events = POLLIN },
		{ .fd = k->subject, .events = k->hangs_up ? 0 : POLLIN },
	};
	int code = DONE;

	progress_begin(k);
	for (;;) {
		if (poll(fds, 2, progress_tick(k)) < 0 && errno != EINTR) {
			code = fail_errno(FAILED, errno, "poll");
			break;
		}
		if (fds[1].revents)
			break;
		if (fds[0].revents && take_signals(k, &code))
			break;
		/* The server of somebody else's memory has ended by itself: so do we. */
		if (k->over && k->command < 0)
			break;
	}
	await_answers(k);
	progress_end(k);
	if (k->over && k->command < 0 && !k->server.ledger->complete && k->subject >= 0 && !fds[1].revents && !code)
		code = FAILED;
	keeper_stop(k);
	return code;
}
