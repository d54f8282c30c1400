// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the life of a case: list, fork, time limit, verdict, what it left behind; and the counters that checks
 * in threads and forked children of a case add to. The helpers are in helpers.c.
 */
#include "tap.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <time.h>

#define MAX_CASES 4096
/* After SIGKILL, and for a child that the case killed but did not wait for. */
#define DEATH_SECONDS 10
/* Of the flags in /proc/PID/stat. */
#define PF_EXITING 0x4

struct tap_case {
	char name[128];
	void (*run)(const void *arg);
	const void *arg;
	int seconds;
};

/* Shared with every process of a case. */
struct tap_shared {
	atomic_int checks;		/* that are not fatal: what a case needs to go on asserts nothing */
	atomic_int failures;
	atomic_bool finished;		/* the body returned */
	atomic_bool fatal;		/* a REQUIRE ended it */
	atomic_bool skipped;
	atomic_bool leftovers_ok;
	pid_t case_pid;
	char reason[256];
};

static struct tap_case cases[MAX_CASES];
static int nr_cases;
static struct tap_shared alone;	/* of a program with a main() of its own */
static struct tap_shared *shared = &alone;

/* One write, so that lines of different threads and processes do not mix. */
static void print_line(const char *prefix, const char *fmt, va_list ap)
{
	char line[2048];
	size_t len = strlen(prefix);
	int n;

	memcpy(line, prefix, len);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	if (n < 0)
		n = 0;
	if ((size_t)n > sizeof(line) - len - 2)
		n = sizeof(line) - len - 2;
	/* A line break within would turn the rest into something that is not TAP. */
	for (size_t i = len; i < len + n; i++)
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	len += n;
	line[len++] = '\n';

	for (size_t done = 0; done < len; ) {
		ssize_t w = write(STDOUT_FILENO, line + done, len - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			_exit(99);	/* nobody would hear of a failure */
		done += w;
	}
}

__attribute__((format(printf, 1, 2)))
static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_line("", fmt, ap);
	va_end(ap);
}

void tap_diag(const char *fmt, ...)
{
	va_list ap;
	int err = errno;

	va_start(ap, fmt);
	print_line("# ", fmt, ap);
	va_end(ap);
	errno = err;
}

void tap_register(const char *name, const char *label, void (*run)(const void *), const void *arg, int seconds)
{
	struct tap_case *c = &cases[nr_cases];
	int n;

	if (nr_cases == MAX_CASES) {
		fprintf(stderr, "more than %d cases\n", MAX_CASES);
		abort();
	}
	n = snprintf(c->name, sizeof(c->name), "%s%s%s", name, label ? "." : "", label ? label : "");
	if (n < 0 || (size_t)n >= sizeof(c->name)) {
		fprintf(stderr, "name of case %s is too long\n", name);
		abort();
	}
	c->run = run;
	c->arg = arg;
	c->seconds = seconds;
	nr_cases++;
}

/* The case ends now, whichever of its threads or children says so. */
static void __attribute__((noreturn)) end_case(void)
{
	if (!shared->case_pid)
		_exit(1);
	if (getpid() != shared->case_pid)
		kill(shared->case_pid, SIGKILL);
	_exit(0);
}

void tap_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(shared->reason, sizeof(shared->reason), fmt, ap);
	va_end(ap);
	shared->skipped = true;
	end_case();
}

void tap_allow_leftovers(void)
{
	shared->leftovers_ok = true;
}

static const char *errno_name(int err)
{
	const char *name = err ? strerrorname_np(err) : "0";

	return name ? name : "unknown";
}

static bool count_check(bool ok, bool fatal)
{
	shared->checks += !fatal;
	if (ok)
		return true;
	shared->failures++;
	if (fatal) {
		shared->fatal = true;
		end_case();
	}
	return false;
}

bool tap_check(bool ok, bool fatal, const char *file, int line, const char *fmt, ...)
{
	int err = errno;
	char text[1024];
	va_list ap;

	if (!ok) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		tap_diag("%s:%d: false: %s (errno is %s)", file, line, text, errno_name(err));
	}
	count_check(ok, fatal);
	errno = err;
	return ok;
}

bool tap_check_eq(long long a, long long b, bool fatal, const char *file, int line, const char *as, const char *bs)
{
	if (a != b)
		tap_diag("%s:%d: %s == %s: left is %lld (0x%llx), right is %lld (0x%llx)",
			 file, line, as, bs, a, a, b, b);
	return count_check(a == b, fatal);
}

bool tap_check_errno(long long ret, int err, int want, bool fatal, const char *file, int line, const char *what)
{
	bool ok = ret == -1 && err == want;

	if (!ok && ret == -1)
		tap_diag("%s:%d: %s: failed with %s (%d), not %s", file, line, what, errno_name(err), err,
			 errno_name(want));
	else if (!ok)
		tap_diag("%s:%d: %s: returned %lld, did not fail with %s", file, line, what, ret, errno_name(want));
	return count_check(ok, fatal);
}

long long tap_check_ok(long long ret, int err, bool fatal, const char *file, int line, const char *what)
{
	if (ret == -1)
		tap_diag("%s:%d: %s: failed with %s (%d)", file, line, what, errno_name(err), err);
	count_check(ret != -1, fatal);
	errno = err;
	return ret;
}

static void to_kmsg(const char *program, const char *name)
{
	char line[256];
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	int n;

	/* Only a help to the reader of the console: not everybody who runs a test may write there. */
	if (fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%s.%s\n", program, name);
	if (n > 0 && write(fd, line, n) < 0)
		tap_diag("cannot write to /dev/kmsg: %s", errno_name(errno));
	close(fd);
}

/* Where does it hang? Stack and state of every thread. */
static void show_process(pid_t pid, const char *comm)
{
	char path[96];
	DIR *tasks;
	struct dirent *d;

	tap_diag("process %d (%s):", pid, comm);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return;
	while ((d = readdir(tasks))) {
		int tid = atoi(d->d_name);
		char *text, *line, *save;

		if (tid <= 0)
			continue;
		tap_diag("  thread %d, state %c", tid, task_state(tid) ?: '-');
		for (int i = 0; i < 2; i++) {
			snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, i ? "stack" : "syscall");
			text = read_file(path);
			if (!text)
				continue;
			for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
				tap_diag("    %s", line);
			free(text);
		}
	}
	closedir(tasks);
}

enum left { LEFT_COUNT, LEFT_NAME, LEFT_SHOW, LEFT_KILL, LEFT_UNKILLED };

/*
 * On its way out, or about to see a SIGKILL: the end of a process takes its time where much memory, or a VM, goes with
 * it.
 */
static bool is_dying(pid_t pid, unsigned int flags)
{
	static const char *const keys[] = { "\nSigPnd:", "\nShdPnd:" };
	bool dying = flags & PF_EXITING;
	char path[64], *status, *at;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = read_file(path);
	if (!status)
		return true;	/* gone meanwhile */
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		at = strstr(status, keys[i]);
		dying |= at && strtoull(at + strlen(keys[i]), NULL, 16) & 1ull << (SIGKILL - 1);
	}
	free(status);
	return dying;
}

/*
 * Does this to every process that is a child of ours or in this group. Returns how many live; with LEFT_UNKILLED, how
 * many of them are not dying.
 */
static int leftovers(pid_t group, enum left what)
{
	struct dirent *d;
	siginfo_t info;
	DIR *proc;
	int n = 0;

	/* As all orphans come to us, who has no child has no grandchild either: no need to go through all processes. */
	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) && errno == ECHILD)
		return 0;
	proc = opendir("/proc");
	if (!proc) {
		tap_diag("cannot read /proc: %s", errno_name(errno));
		return 1;
	}
	while ((d = readdir(proc))) {
		pid_t pid = atoi(d->d_name), ppid, pgrp;
		char path[64], *stat, *comm, *end;
		unsigned int flags;
		char state;

		if (pid <= 0 || pid == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		stat = read_file(path);
		if (!stat)
			continue;	/* gone meanwhile */
		comm = strchr(stat, '(');
		end = strrchr(stat, ')');
		if (comm && end &&
		    sscanf(end + 1, " %c %d %d %*d %*d %*d %u", &state, &ppid, &pgrp, &flags) == 4 &&
		    (ppid == getpid() || pgrp == group) && state != 'Z' && state != 'X') {
			*end = '\0';
			n += what != LEFT_UNKILLED || !is_dying(pid, flags);
			if (what == LEFT_NAME)
				tap_diag("left behind: process %d (%s)", pid, comm + 1);
			else if (what == LEFT_SHOW)
				show_process(pid, comm + 1);
			else if (what == LEFT_KILL)
				kill(pid, SIGKILL);
		}
		free(stat);
	}
	closedir(proc);
	return n;
}

/* As subreaper we inherit the orphans of the case. */
static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* False: something does not die. */
static bool kill_all(pid_t group)
{
	double end = now_seconds() + DEATH_SECONDS * tap_slow();

	while (leftovers(group, LEFT_KILL)) {
		reap();
		if (now_seconds() > end)
			return false;
		sleep_seconds(0.01);
	}
	reap();
	return true;
}

static void run_body(const struct tap_case *c, const sigset_t *mask)
{
	setpgid(0, 0);
	/* A case must not outlive the program that would judge it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	shared->case_pid = getpid();
	c->run(c->arg);
	if (getpid() != shared->case_pid) {
		tap_diag("a forked child returned from the body of the case; it has to _exit()");
		count_check(false, true);
	}
	shared->finished = true;
	_exit(0);
}

/* True if the child is gone, with its status. */
static bool wait_child(pid_t pid, double seconds, int *status)
{
	double end = now_seconds() + seconds;
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	for (;;) {
		pid_t got = waitpid(pid, status, WNOHANG);
		double left = end - now_seconds();
		struct timespec ts;

		if (got == pid)
			return true;
		if (got < 0 && errno != EINTR) {
			tap_diag("waitpid: %s", errno_name(errno));
			return false;
		}
		if (left <= 0)
			return false;
		ts.tv_sec = (time_t)left;
		ts.tv_nsec = (left - ts.tv_sec) * 1e9;
		sigtimedwait(&chld, NULL, &ts);
	}
}

/* Runs one case and prints its line; false: nothing can run after it. */
static bool run_case(const char *program, const struct tap_case *c, int nr, bool *passed)
{
	double limit = c->seconds * tap_slow(), began = now_seconds(), ended;
	bool ok = true, alive = false;
	sigset_t chld, old;
	int status = 0;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	to_kmsg(program, c->name);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &old);

	pid = fork();
	if (pid < 0) {
		say("Bail out! fork: %s", errno_name(errno));
		return false;
	}
	if (pid == 0)
		run_body(c, &old);
	setpgid(pid, pid);

	if (!wait_child(pid, limit, &status)) {
		ok = false;
		tap_diag("still running after %.0f seconds", limit);
		leftovers(pid, LEFT_SHOW);
		alive = !kill_all(pid);
	} else if (shared->fatal || shared->skipped) {
		alive = !kill_all(pid);
	} else {
		if (WIFSIGNALED(status)) {
			ok = false;
			tap_diag("killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
		} else if (!shared->finished) {
			ok = false;
			tap_diag("exited with status %d before the end of the case", WEXITSTATUS(status));
		}
		/* What the case killed without waiting for it may take a while; the rest has to be gone soon. */
		ended = now_seconds();
		do {
			reap();
			if (!leftovers(pid, LEFT_COUNT))
				break;
			sleep_seconds(0.01);
		} while (!shared->leftovers_ok && now_seconds() < ended + DEATH_SECONDS * tap_slow() &&
			 (now_seconds() < ended + tap_slow() || !leftovers(pid, LEFT_UNKILLED)));
		if (leftovers(pid, shared->leftovers_ok ? LEFT_COUNT : LEFT_NAME)) {
			if (!shared->leftovers_ok)
				ok = false;
			alive = !kill_all(pid);
		}
	}
	if (alive) {
		ok = false;
		tap_diag("SIGKILL does not end it");
		leftovers(pid, LEFT_SHOW);
	}
	if (shared->failures)
		ok = false;
	if (ok && !shared->skipped && !shared->checks) {
		ok = false;
		tap_diag("asserts nothing: no CHECK was made");
	}
	if (now_seconds() - began > 2)
		tap_diag("took %.1f seconds", now_seconds() - began);

	if (!ok)
		say("not ok %d - %s", nr, c->name);
	else if (shared->skipped)
		say("ok %d - %s # SKIP %s", nr, c->name, shared->reason[0] ? shared->reason : "no reason given");
	else
		say("ok %d - %s", nr, c->name);
	*passed = ok;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (alive)
		say("Bail out! a process of %s cannot be killed", c->name);
	return !alive;
}

static bool wanted(const struct tap_case *c, char **patterns, int n)
{
	for (int i = 0; i < n; i++)
		if (!fnmatch(patterns[i], c->name, 0))
			return true;
	return n == 0;
}

int tap_main(int argc, char **argv)
{
	bool list = argc > 1 && !strcmp(argv[1], "-l");
	int first = list ? 2 : 1, planned = 0, nr = 0, failed = 0;

	if (argc > 1 && !list && argv[1][0] == '-') {
		fprintf(stderr, "usage: %s [-l] [PATTERN...]\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < nr_cases; i++) {
		if (!wanted(&cases[i], argv + first, argc - first))
			continue;
		planned++;
		if (list)
			say("%s", cases[i].name);
	}
	if (list)
		return 0;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1)) {
		say("Bail out! cannot set up: %s", errno_name(errno));
		return 1;
	}
	say("TAP version 13");
	say("1..%d%s", planned, planned ? "" : " # SKIP no case matches");
	for (int i = 0; i < nr_cases; i++) {
		bool passed = false;

		if (!wanted(&cases[i], argv + first, argc - first))
			continue;
		if (!run_case(program_invocation_short_name, &cases[i], ++nr, &passed))
			return 1;
		failed += !passed;
	}
	return failed ? 1 : 0;
}
