// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of the guest: mounts what tests need, loads the modules, runs the planned programs one after the other, asks
 * after the kernel's health, and powers the machine off.
 *
 * All it has to say goes to the second serial port, apart from the console: lines that begin with '%' are its own,
 * those that begin with a space are output of the program that the last %begin named. It reads, made by `run`:
 *	/bench/config	"name value" lines: nonce, ours (name of the module under test), slow, limit (seconds)
 *	/bench/modules	"flag path" lines in the order to load; flag: "-", or a CPU flag without which it is
 *			left out, or "ours" for the module under test
 *	/bench/plan	one program with its arguments a line
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL "/dev/ttyS1"
#define DEATH_SECONDS 10
/* Of the flags in /proc/PID/stat. */
#define PF_EXITING 0x4
/* kmemleak takes no younger object for leaked. */
#define KMEMLEAK_AGE 6

static int channel = -1;
static char nonce[64], ours[64];
static double slow = 1, limit = 300;

/* Health is counted as the cases of a program of its own. */
static struct health {
	char name[64];
	bool ok;
	char *why;
} health[256];
static int nr_health;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void nap(double seconds)
{
	struct timespec ts = { (time_t)seconds, (seconds - (time_t)seconds) * 1e9 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

static void power_off(void)
{
	if (channel >= 0)
		tcdrain(channel);
	sync();
	reboot(RB_POWER_OFF);
	/* Returning would be a panic, which is right if the machine does not go off. */
	_exit(1);
}

static void send_bytes(const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(channel, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			/* Nobody will hear the end marker either: the run is red. */
			dprintf(STDERR_FILENO, "init: cannot write to " CHANNEL ": %s\n", strerror(errno));
			power_off();
		}
		p += n;
		len -= n;
	}
}

__attribute__((format(printf, 1, 2)))
static void send(const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	send_bytes(line, n);
}

__attribute__((format(printf, 1, 2)))
static void fatal(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(STDERR_FILENO, "init: %s\n", text);
	if (channel >= 0)
		send("%%fatal %s", text);
	power_off();
}

__attribute__((format(printf, 3, 4)))
static void report(const char *name, bool ok, const char *fmt, ...)
{
	struct health *h = &health[nr_health];
	va_list ap;

	if (nr_health == sizeof(health) / sizeof(health[0]))
		fatal("too many health checks");
	nr_health++;
	snprintf(h->name, sizeof(h->name), "%s", name);
	h->ok = ok;
	va_start(ap, fmt);
	if (vasprintf(&h->why, fmt, ap) < 0)
		fatal("out of memory");
	va_end(ap);
}

static char *read_file(const char *path)
{
	size_t len = 0, size = 65536;
	char *text = malloc(size);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	if (fd < 0 || !text) {
		free(text);
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	while ((n = read(fd, text + len, size - len - 1)) > 0) {
		len += n;
		if (size - len < 4096) {
			char *more = realloc(text, size * 2);

			if (!more)
				fatal("out of memory");
			text = more;
			size *= 2;
		}
	}
	close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

static char *need_file(const char *path)
{
	char *text = read_file(path);

	if (!text)
		fatal("cannot read %s: %s", path, strerror(errno));
	return text;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -1;
	if (write(fd, text, strlen(text)) < 0)
		err = errno;
	close(fd);
	errno = err;
	return err ? -1 : 0;
}

/* --- Setting up -------------------------------------------------------------------------------------- */

static void mount_it(const char *type, const char *dir, const char *options, bool needed)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, options) && needed)
		fatal("cannot mount %s: %s", dir, strerror(errno));
}

static void mount_all(void)
{
	mount_it("devtmpfs", "/dev", "", true);
	mount_it("proc", "/proc", "", true);
	mount_it("sysfs", "/sys", "", true);
	mount_it("debugfs", "/sys/kernel/debug", "", true);
	mount_it("tracefs", "/sys/kernel/tracing", "", false);
	mount_it("cgroup2", "/sys/fs/cgroup", "", true);
	mount_it("tmpfs", "/tmp", "mode=1777", true);
	mount_it("tmpfs", "/dev/shm", "mode=1777", true);
	mount_it("devpts", "/dev/pts", "ptmxmode=666", false);
	mount_it("hugetlbfs", "/dev/hugepages", "", false);
}

static void open_channel(void)
{
	struct termios t;

	channel = open(CHANNEL, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (channel < 0)
		fatal("cannot open " CHANNEL ": %s", strerror(errno));
	if (tcgetattr(channel, &t))
		fatal("tcgetattr: %s", strerror(errno));
	cfmakeraw(&t);
	cfsetspeed(&t, B115200);
	if (tcsetattr(channel, TCSANOW, &t))
		fatal("tcsetattr: %s", strerror(errno));
}

static void read_config(void)
{
	char *text = need_file("/bench/config"), *line, *save;

	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "nonce %63s", nonce) == 1 || sscanf(line, "ours %63s", ours) == 1 ||
		    sscanf(line, "slow %lf", &slow) == 1 || sscanf(line, "limit %lf", &limit) == 1)
			continue;
		fatal("/bench/config: what is '%s'?", line);
	}
	free(text);
	if (!nonce[0] || !ours[0] || slow < 1)
		fatal("/bench/config is not complete");
}

static bool has_cpu_flag(const char *flag)
{
	char *text = need_file("/proc/cpuinfo"), *line, *end, *word, *save;
	bool found = false;

	line = strstr(text, "\nflags");
	if (!line)
		fatal("/proc/cpuinfo has no flags");
	end = strchr(line + 1, '\n');
	if (end)
		*end = '\0';
	for (word = strtok_r(line, " \t", &save); word && !found; word = strtok_r(NULL, " \t", &save))
		found = !strcmp(word, flag);
	free(text);
	return found;
}

static int load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret, err;

	if (fd < 0)
		return -1;
	ret = syscall(SYS_finit_module, fd, "", 0);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

/* Those of the kernel, or the one under test. True if there was one to load. */
static bool load_modules(bool the_one)
{
	char *text = need_file("/bench/modules"), *line, *save, flag[32], path[256];
	bool any = false;

	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "%31s %255s", flag, path) != 2)
			fatal("/bench/modules: what is '%s'?", line);
		if (!strcmp(flag, "ours") != the_one)
			continue;
		if (!the_one && strcmp(flag, "-") && !has_cpu_flag(flag))
			continue;
		any = true;
		if (load_module(path)) {
			if (!the_one)
				fatal("cannot load %s: %s", path, strerror(errno));
			report("module-loads", false, "%s: %s", path, strerror(errno));
		} else if (the_one) {
			report("module-loads", true, "-");
		}
	}
	free(text);
	return any;
}

/* --- Running one program ----------------------------------------------------------------------------- */

static void exec_program(char *line, int out)
{
	char *argv[512], *save, path[256], value[32];
	struct rlimit memlock = { RLIM_INFINITY, RLIM_INFINITY };
	int n = 0, null;

	for (char *word = strtok_r(line, " ", &save); word && n < 511; word = strtok_r(NULL, " ", &save))
		argv[n++] = word;
	argv[n] = NULL;
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	setsid();
	if (setrlimit(RLIMIT_MEMLOCK, &memlock))
		_exit(126);
	snprintf(value, sizeof(value), "%g", slow);
	clearenv();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/tmp", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
	setenv("TEST_SLOW", value, 1);
	snprintf(path, sizeof(path), "/tests/%s", argv[0]);
	execv(path, argv);
	dprintf(2, "Bail out! cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

/* Passes on whole lines, each marked as the program's. */
static struct {
	char text[4096];
	size_t len;
} partial;

static void pass_on(const char *p, size_t n)
{
	for (; n; p++, n--) {
		if (*p != '\n')
			partial.text[partial.len++] = *p;
		if (*p == '\n' || partial.len == sizeof(partial.text) - 2) {
			partial.text[partial.len] = '\0';
			send(" %s", partial.text);
			partial.len = 0;
		}
	}
}

/* All children are dead and buried: orphans are ours, too. */
static bool reap_all(double seconds)
{
	double end = now() + seconds;

	for (;;) {
		pid_t got = waitpid(-1, NULL, WNOHANG);

		if (got < 0 && errno == ECHILD)
			return true;
		if (got <= 0) {
			if (now() > end)
				return false;
			nap(0.01);
		}
	}
}

/* Whether a child of ours, or an orphan, has neither ended nor been killed: it is not on its way out. */
static bool any_unkilled(void)
{
	static const char *const keys[] = { "\nSigPnd:", "\nShdPnd:" };
	DIR *proc = opendir("/proc");
	bool unkilled = false;
	struct dirent *d;

	while (proc && (d = readdir(proc))) {
		char path[300], state, *stat, *status, *end, *at;
		unsigned int flags;
		bool dying;
		int ppid;

		snprintf(path, sizeof(path), "/proc/%s/stat", d->d_name);
		stat = atoi(d->d_name) > 1 ? read_file(path) : NULL;
		if (!stat)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/status", d->d_name);
		status = read_file(path);
		end = strrchr(stat, ')');
		if (status && end && sscanf(end + 1, " %c %d %*d %*d %*d %*d %u", &state, &ppid, &flags) == 3 &&
		    ppid == 1) {
			dying = state == 'Z' || state == 'X' || flags & PF_EXITING;
			for (int i = 0; i < 2; i++) {
				at = strstr(status, keys[i]);
				dying |= at && strtoull(at + strlen(keys[i]), NULL, 16) & 1ull << (SIGKILL - 1);
			}
			unkilled |= !dying;
		}
		free(stat);
		free(status);
	}
	if (proc)
		closedir(proc);
	return unkilled;
}

static void show_hung(void)
{
	/* Blocked tasks with their stacks, and what every CPU does, to the console. */
	write_file("/proc/sysrq-trigger", "w");
	write_file("/proc/sysrq-trigger", "l");
}

static void run_program(char *line)
{
	char name[128], buf[4096], why[64] = "";
	double began = now(), end = began + limit * slow;
	int fds[2], status = 0;
	bool gone = false;
	pid_t pid;
	ssize_t n;

	if (sscanf(line, "%127s", name) != 1)
		return;
	send("%%begin %s", name);
	if (pipe2(fds, O_CLOEXEC))
		fatal("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		fatal("fork: %s", strerror(errno));
	if (!pid)
		exec_program(line, fds[1]);
	close(fds[1]);

	/* Until the program has ended and the pipe is empty: a child that it left may hold the other end. */
	for (;;) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };

		if (poll(&p, 1, 100) > 0) {
			n = read(fds[0], buf, sizeof(buf));
			if (n > 0) {
				pass_on(buf, n);
				continue;
			}
		} else if (gone) {
			break;
		}
		if (!gone && waitpid(pid, &status, WNOHANG) == pid)
			gone = true;
		else if (gone && (p.revents & POLLHUP))
			break;
		if (now() > end) {
			show_hung();
			break;
		}
		if (p.revents & POLLHUP)
			nap(0.01);
	}
	if (!gone)
		snprintf(why, sizeof(why), "timeout");
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "signal:%d", WTERMSIG(status));
	else
		snprintf(why, sizeof(why), "exit:%d", WEXITSTATUS(status));
	if (partial.len)
		pass_on("\n", 1);
	close(fds[0]);

	/* What was killed may take its time to die; what nobody killed was left behind. */
	if (!reap_all(gone ? slow : 0) && (!gone || any_unkilled() || !reap_all(DEATH_SECONDS * slow))) {
		if (gone)
			report("no-process-left", false, "%s left processes behind", name);
		kill(-1, SIGKILL);
		if (!reap_all(DEATH_SECONDS * slow)) {
			show_hung();
			report("all-killable", false, "a process of %s does not die of SIGKILL", name);
		}
	}
	send("%%end %s %s %.1f", name, why, now() - began);
}

/* --- Health ------------------------------------------------------------------------------------------ */

static long long vmstat(const char *key)
{
	char *text, *at;
	size_t len = strlen(key);
	long long n = -1;

	/* Folds the CPUs' shares in; what it writes does not matter. */
	write_file("/proc/sys/vm/stat_refresh", "1");
	text = need_file("/proc/vmstat");
	for (at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, key, len) && at[len] == ' ') {
			n = atoll(at + len);
			break;
		}
	}
	free(text);
	if (n < 0)
		fatal("/proc/vmstat has no %s", key);
	return n;
}

static void check_path_gone(const char *fmt)
{
	char path[256];

	snprintf(path, sizeof(path), fmt, ours);
	if (!access(path, F_OK))
		report("nothing-left", false, "%s is still there", path);
	else if (errno != ENOENT)
		report("nothing-left", false, "%s: %s", path, strerror(errno));
}

/* No line of this file begins with the module's name. */
static void check_not_listed(const char *path)
{
	char *text = need_file(path), *line, *save;

	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, ours, strlen(ours)))
			report("nothing-left", false, "%s has: %s", path, line);
	free(text);
}

static void check_nothing_left(void)
{
	int before = nr_health;

	check_not_listed("/proc/modules");
	check_not_listed("/proc/slabinfo");
	check_path_gone("/sys/module/%s");
	check_path_gone("/sys/class/misc/%s");
	check_path_gone("/sys/kernel/slab/%s");
	check_path_gone("/sys/kernel/debug/%s");
	check_path_gone("/sys/kernel/tracing/events/%s");
	check_path_gone("/dev/%s");
	if (nr_health == before)
		report("nothing-left", true, "-");
}

static void unload(void)
{
	double end = now() + 2 * slow;
	int ret;

	/* A file that was closed a moment ago may still be on its way out. */
	do {
		ret = syscall(SYS_delete_module, ours, O_NONBLOCK);
		if (!ret || errno != EAGAIN)
			break;
		nap(0.05);
	} while (now() < end);
	report("module-unloads", !ret, "delete_module: %s", strerror(errno));
}

static void check_taint(void)
{
	char *text = need_file("/proc/sys/kernel/tainted");
	unsigned long taint = strtoul(text, NULL, 10);

	/* Out of tree, unsigned: those we are. Nothing else. */
	report("taint", !(taint & ~(4096ul | 8192ul)), "tainted is %lu", taint);
	free(text);
}

static void check_kmemleak(void)
{
	const char *path = "/sys/kernel/debug/kmemleak";
	char *text;

	if (access(path, F_OK))
		return;
	nap(KMEMLEAK_AGE);
	/* What moved from one place to another during the first scan may be missed by it. */
	for (int i = 0; i < 2; i++)
		if (write_file(path, "scan")) {
			report("kmemleak", false, "scan: %s", strerror(errno));
			return;
		}
	text = need_file(path);
	report("kmemleak", !text[0], "%s", text);
	free(text);
}

static void send_health(void)
{
	send("%%begin bench-health");
	send(" 1..%d", nr_health);
	for (int i = 0; i < nr_health; i++) {
		struct health *h = &health[i];
		char *line, *save;

		if (!h->ok)
			for (line = strtok_r(h->why, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
				send(" # %s", line);
		send(" %sok %d - %s", h->ok ? "" : "not ", i + 1, h->name);
	}
	send("%%end bench-health exit:0 0");
}

/*
 * The first VM has the kernel patch its scheduler (the static key of preempt notifiers), and the last one that goes has
 * it patched back. QEMU's emulation now and then runs into the breakpoint that the kernel sets meanwhile on another CPU
 * and never sees it gone: 'Oops: int3' in __schedule(). So there is one VM from beginning to end.
 */
static void hold_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		return;
	if (ioctl(kvm, KVM_CREATE_VM, 0) < 0)
		fatal("KVM_CREATE_VM: %s", strerror(errno));
	close(kvm);
}

int main(void)
{
	long long unevictable;
	char *plan, *line, *save;
	bool loaded;

	umask(022);
	mount_all();
	open_channel();
	read_config();
	send("%%start %s", nonce);
	load_modules(false);
	/* Whatever the kernel leaked while it booted is not ours. */
	if (!access("/sys/kernel/debug/kmemleak", F_OK) && write_file("/sys/kernel/debug/kmemleak", "clear"))
		fatal("kmemleak: %s", strerror(errno));
	hold_vm();
	unevictable = vmstat("nr_unevictable");
	loaded = load_modules(true);

	plan = need_file("/bench/plan");
	for (line = strtok_r(plan, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		run_program(line);

	if (loaded) {
		unload();
		check_nothing_left();
		report("no-page-left", vmstat("nr_unevictable") <= unevictable,
		       "nr_unevictable was %lld, is %lld", unevictable, vmstat("nr_unevictable"));
	}
	check_taint();
	check_kmemleak();
	send_health();
	send("%%done %s", nonce);
	power_off();
}
