// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU and its guest with less typing: see vmm.h.
 */
#include "vmm.h"

#include <dirent.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BOOT_SECONDS 120
#define STEP_SECONDS 60
/* What the link of a gmem file's descriptor begins with, in /proc. */
#define GMEM_LINK "/gmemfd"
/* The name of gmemctl's page server. */
#define SERVER_NAME "gmemctl-server"

/* Good until the third call after it. */
static const char *path_of(const char *dir, const char *name)
{
	static __thread char paths[4][256];
	static __thread int next;
	char *path = paths[next++ % 4];

	REQUIRE(snprintf(path, sizeof(paths[0]), "%s/%s", dir, name) < (int)sizeof(paths[0]));
	return path;
}

/* --- The command line ---------------------------------------------------------------------------------- */

struct command {
	char *argv[64];
	int nr;
};

__attribute__((format(printf, 2, 3)))
static void add(struct command *c, const char *fmt, ...)
{
	va_list ap;

	REQUIRE(c->nr < (int)ARRAY_SIZE(c->argv) - 1);
	va_start(ap, fmt);
	REQUIRE(vasprintf(&c->argv[c->nr++], fmt, ap) >= 0);
	va_end(ap);
}

static void add_all(struct command *c, const char *const *words)
{
	while (*words)
		add(c, "%s", *words++);
}

/* The machine; where its memory is, is all that differs between the two ways to start it. */
static void add_qemu(struct command *c, const char *dir, const char *memory)
{
	static const char *const machine[] = {
		"-nodefaults", "-no-user-config", "-display", "none",
		/* A guest that resets itself, as by a triple fault, is kept as it is: see autopsy(). */
		"-action", "reboot=shutdown,shutdown=pause",
		"-machine", "pc,accel=kvm,memory-backend=ram", "-cpu", "host", "-smp", "2",
		"-kernel", VMM_KERNEL, "-initrd", VMM_INITRD,
		NULL
	};

	add(c, VMM_QEMU);
	add_all(c, machine);
	add(c, "-m");
	add(c, "%lu", VMM_BYTES >> 20);
	add(c, "-object");
	add(c, "memory-backend-file,id=ram,size=%lu,share=on,prealloc=off,align=2M,mem-path=%s", VMM_BYTES, memory);
	add(c, "-append");
	/* A CPU may wait for a page for long: the guest's watchdogs are not to take that for their kernel's fault. */
	add(c, "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check nowatchdog "
	       "rcupdate.rcu_cpu_stall_suppress=1");
	add(c, "-chardev");
	add(c, "file,id=console,path=%s", path_of(dir, "console"));
	add(c, "-serial");
	add(c, "chardev:console");
	add(c, "-qmp");
	add(c, "unix:%s,server=on,wait=off", path_of(dir, "qmp"));
	add(c, "-pidfile");
	add(c, "%s", path_of(dir, "pid"));
}

static void start(struct vmm *v, struct command *c)
{
	static const char *const leftovers[] = { "qmp", "pid", "console" };
	int log;

	for (size_t i = 0; i < ARRAY_SIZE(leftovers); i++)
		if (unlink(path_of(v->dir, leftovers[i])))
			REQUIRE_EQ(errno, ENOENT);
	c->argv[c->nr] = NULL;
	log = REQUIRE_FD(open(path_of(v->dir, "log"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	v->child = REQUIRE_OK(fork());
	if (!v->child) {
		if (dup2(log, 1) < 0 || dup2(log, 2) < 0)
			_exit(126);
		execvp(c->argv[0], c->argv);
		dprintf(2, "cannot run %s: %s\n", c->argv[0], strerror(errno));
		_exit(127);
	}
	close(log);
	for (int i = 0; i < c->nr; i++)
		free(c->argv[i]);
}

/* --- The monitor --------------------------------------------------------------------------------------- */

static void __attribute__((noreturn)) fail(const struct vmm *v, const char *what)
{
	vmm_explain(v);
	tap_check(false, true, __FILE__, __LINE__, "%s", what);
	abort();
}

/* The next line of the monitor into @line; false if none comes in time. */
static bool next_line(struct vmm *v, char *line, size_t size, double seconds)
{
	double end = now_seconds() + seconds * tap_slow();
	char *newline;
	size_t len;
	ssize_t n;

	for (;;) {
		newline = memchr(v->lines, '\n', v->len);
		if (newline)
			break;
		REQUIRE(v->len < sizeof(v->lines));
		n = recv(v->qmp, v->lines + v->len, sizeof(v->lines) - v->len, MSG_DONTWAIT);
		if (n > 0) {
			v->len += n;
			continue;
		}
		if (n == 0)
			fail(v, "the monitor has hung up");
		REQUIRE(errno == EAGAIN || errno == EINTR);
		if (now_seconds() > end)
			return false;
		sleep_seconds(0.001);
	}
	len = newline - v->lines;
	REQUIRE(len < size);
	memcpy(line, v->lines, len);
	line[len] = '\0';
	v->len -= len + 1;
	memmove(v->lines, newline + 1, v->len);
	return true;
}

static bool is_event(const char *line)
{
	return !strncmp(line, "{\"timestamp\"", 12);
}

/* Whether @line is the event of a guest that has ended by itself. */
static bool guest_ended(const char *line)
{
	return strstr(line, "\"event\": \"SHUTDOWN\"") && strstr(line, "\"guest\": true");
}

/* What there is to see of a guest that should be running, and is not. */
static void __attribute__((noreturn)) autopsy(struct vmm *v, const char *event)
{
	static const char *const commands[] = { "info status", "info registers -a", "x /16i $pc" };
	static char answer[65536];
	char command[256], *line, *end;

	tap_diag("%s", event);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		snprintf(command, sizeof(command), "{\"execute\": \"human-monitor-command\", "
			 "\"arguments\": {\"command-line\": \"%s\"}}", commands[i]);
		REQUIRE_EQ(send(v->qmp, command, strlen(command), MSG_NOSIGNAL), strlen(command));
		do {
			REQUIRE(next_line(v, answer, sizeof(answer), STEP_SECONDS));
		} while (is_event(answer));
		/* Its line ends are told as JSON has them. */
		for (line = answer; line; line = end) {
			end = strstr(line, "\\r\\n");
			if (end) {
				*end = '\0';
				end += 4;
			}
			/* Vectors say nothing of where it was. */
			if (strncmp(line, "YMM", 3) && strncmp(line, "XMM", 3) && strncmp(line, "FP", 2))
				tap_diag("%s", line);
		}
	}
	fail(v, "the guest has reset itself");
}

/* One answer to each command; events come in between. What it holds is looked for as text: QEMU's form is fixed. */
static void ask(struct vmm *v, char *answer, size_t size, const char *command)
{
	REQUIRE_EQ(send(v->qmp, command, strlen(command), MSG_NOSIGNAL), strlen(command));
	do {
		if (!next_line(v, answer, size, STEP_SECONDS))
			fail(v, "the monitor does not answer");
		if (guest_ended(answer))
			autopsy(v, answer);
	} while (is_event(answer));
	if (strncmp(answer, "{\"return\"", 9)) {
		tap_diag("%s", command);
		fail(v, answer);
	}
}

__attribute__((format(printf, 2, 3)))
static void tell(struct vmm *v, const char *fmt, ...)
{
	char command[512], answer[4096];
	va_list ap;

	va_start(ap, fmt);
	REQUIRE(vsnprintf(command, sizeof(command), fmt, ap) < (int)sizeof(command));
	va_end(ap);
	ask(v, answer, sizeof(answer), command);
}

/* The socket appears when QEMU has got so far, which a loaded machine may take a while for. */
static void connect_monitor(struct vmm *v)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char line[4096];
	double end = now_seconds() + STEP_SECONDS * tap_slow();

	strcpy(addr.sun_path, path_of(v->dir, "qmp"));
	v->qmp = REQUIRE_FD(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	while (connect(v->qmp, (struct sockaddr *)&addr, sizeof(addr))) {
		REQUIRE(errno == ENOENT || errno == ECONNREFUSED);
		if (waitpid(v->child, NULL, WNOHANG) == v->child)
			fail(v, "QEMU has ended before its monitor was there");
		if (now_seconds() > end)
			fail(v, "QEMU's monitor does not come");
		sleep_seconds(0.005);
	}
	if (!next_line(v, line, sizeof(line), STEP_SECONDS))
		fail(v, "QEMU's monitor does not greet");
	tell(v, "{\"execute\": \"qmp_capabilities\"}");
	v->qemu = read_number(path_of(v->dir, "pid"));
}

/* RAM that is shared stays where it is, in its file. */
static void ignore_shared(struct vmm *v)
{
	tell(v, "{\"execute\": \"migrate-set-capabilities\", \"arguments\": "
		"{\"capabilities\": [{\"capability\": \"x-ignore-shared\", \"state\": true}]}}");
}

static void wait_migrated(struct vmm *v)
{
	double end = now_seconds() + STEP_SECONDS * tap_slow();
	char answer[4096];

	for (;;) {
		ask(v, answer, sizeof(answer), "{\"execute\": \"query-migrate\"}");
		if (strstr(answer, "\"status\": \"completed\""))
			return;
		if (strstr(answer, "\"status\": \"failed\""))
			fail(v, answer);
		if (now_seconds() > end) {
			tap_diag("%s", answer);
			fail(v, "the migration does not end");
		}
		sleep_seconds(0.01);
	}
}

/* --- Its life ------------------------------------------------------------------------------------------ */

static void watch_over(struct vmm *v, const char *dir)
{
	memset(v, 0, sizeof(*v));
	v->dir = dir;
}

/* Whether the guest has said only a part of its last line. */
static bool within_line(struct vmm *v)
{
	char *text = read_file(path_of(v->dir, "console"));
	size_t len = text ? strlen(text) : 0;
	bool within = len && text[len - 1] != '\n';

	free(text);
	return within;
}

/* Whoever resumes it has another console, on which the rest of a line would be lost. */
static void stop_between_lines(struct vmm *v)
{
	double end = now_seconds() + STEP_SECONDS * tap_slow();

	for (vmm_stop(v); within_line(v); vmm_stop(v)) {
		if (now_seconds() > end)
			fail(v, "the guest is always within a line");
		vmm_cont(v);
		sleep_seconds(0.005);
	}
}

bool vmm_saved(const char *dir)
{
	return !access(path_of(dir, "state"), F_OK);
}

struct vmm_said vmm_save(const char *dir, unsigned long ticks)
{
	struct command c = { .nr = 0 };
	struct vmm_said said;
	struct vmm v;

	watch_over(&v, dir);
	if (mkdir(dir, 0700))
		REQUIRE_EQ(errno, EEXIST);
	add_qemu(&c, dir, path_of(dir, "ram"));
	start(&v, &c);
	connect_monitor(&v);
	vmm_wait_tick(&v, ticks, BOOT_SECONDS);
	stop_between_lines(&v);
	said = vmm_said(&v);
	ignore_shared(&v);
	tell(&v, "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"file:%s\"}}",
	     path_of(dir, "state.new"));
	wait_migrated(&v);
	REQUIRE_EQ(vmm_quit(&v), 0);
	REQUIRE_OK(rename(path_of(dir, "state.new"), path_of(dir, "state")));
	return said;
}

void vmm_resume(struct vmm *v, const char *dir, const char *const *options)
{
	struct command c = { .nr = 0 };

	watch_over(v, dir);
	add(&c, VMM_GMEMCTL);
	add(&c, "run");
	add(&c, "--image");
	add(&c, "%s", path_of(dir, "ram"));
	add_all(&c, options);
	add(&c, "--");
	add_qemu(&c, dir, "{path}");
	add(&c, "-incoming");
	add(&c, "defer");
	start(v, &c);
	connect_monitor(v);
	ignore_shared(v);
	tell(v, "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"file:%s\"}}", path_of(dir, "state"));
	wait_migrated(v);
}

void vmm_cont(struct vmm *v)
{
	tell(v, "{\"execute\": \"cont\"}");
}

void vmm_stop(struct vmm *v)
{
	tell(v, "{\"execute\": \"stop\"}");
}

int vmm_quit(struct vmm *v)
{
	int status = 0;

	tell(v, "{\"execute\": \"quit\"}");
	if (v->child)
		status = vmm_wait(v, STEP_SECONDS);
	else if (!wait_for(!task_state(v->qemu) || task_state(v->qemu) == 'Z', STEP_SECONDS))
		fail(v, "QEMU does not end");
	close(v->qmp);
	return status;
}

int vmm_wait(struct vmm *v, double seconds)
{
	int status = child_wait(v->child, seconds);

	if (status == -1)
		fail(v, "QEMU, or gmemctl, does not end");
	v->child = 0;
	return status;
}

/* --- What it says -------------------------------------------------------------------------------------- */

struct vmm_said vmm_said(const struct vmm *v)
{
	static const char *const bad[] = {
		"guest: BAD", "guest: no ", "Kernel panic", "Oops", "BUG:", "WARNING:", "Call Trace"
	};
	char *text = read_file(path_of(v->dir, "console")), *line, *save;
	struct vmm_said said = { .first = 0 };
	size_t len;

	if (!text)
		return said;
	/* The last line may be half of one. */
	len = strlen(text);
	while (len && text[len - 1] != '\n')
		len--;
	text[len] = '\0';
	for (line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
			if (strstr(line, bad[i]))
				fail(v, line);
		if (sscanf(line, "guest: tick %lu:", &said.tick) != 1)
			continue;
		snprintf(said.line, sizeof(said.line), "%s", line);
		if (!said.first)
			said.first = said.tick;
	}
	free(text);
	return said;
}

/* Fails unless QEMU is there and has its guest still. */
static void check_runs(struct vmm *v)
{
	char line[4096];
	int status;

	if (v->child && waitpid(v->child, &status, WNOHANG) == v->child) {
		tap_diag("wait status %#x", status);
		fail(v, "QEMU has ended while its guest was to run");
	}
	while (next_line(v, line, sizeof(line), 0))
		if (guest_ended(line))
			autopsy(v, line);
}

struct vmm_said vmm_wait_tick(struct vmm *v, unsigned long tick, double seconds)
{
	double end = now_seconds() + seconds * tap_slow();
	struct vmm_said said;

	for (;;) {
		said = vmm_said(v);
		if (said.tick >= tick)
			return said;
		check_runs(v);
		if (now_seconds() > end)
			fail(v, "the guest does not get on");
		sleep_seconds(0.01);
	}
}

void vmm_explain(const struct vmm *v)
{
	static const char *const names[] = { "log", "console" };
	char *meminfo = read_file("/proc/meminfo"), *available = meminfo ? strstr(meminfo, "MemAvailable:") : NULL;

	/* Who has none left is killed without a word of its own. */
	if (available)
		tap_diag("%.*s", (int)strcspn(available, "\n"), available);
	free(meminfo);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *text = read_file(path_of(v->dir, names[i])), *line, *save;
		size_t len;

		if (!text)
			continue;
		len = strlen(text);
		for (line = strtok_r(text + (len > 2000 ? len - 2000 : 0), "\r\n", &save); line;
		     line = strtok_r(NULL, "\r\n", &save))
			tap_diag("%s: %s", names[i], line);
		free(text);
	}
}

/* --- Its memory ---------------------------------------------------------------------------------------- */

int vmm_gmem(pid_t pid, int *number)
{
	char dir[64], link[256];
	struct dirent *entry;
	ssize_t n;
	int fd = -1;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	d = opendir(dir);
	REQUIRE(d);
	while (fd < 0 && (entry = readdir(d))) {
		n = readlinkat(dirfd(d), entry->d_name, link, sizeof(link) - 1);
		if (n < 0)
			continue;
		link[n] = '\0';
		if (strncmp(link, GMEM_LINK, strlen(GMEM_LINK)))
			continue;
		fd = openat(dirfd(d), entry->d_name, O_RDWR | O_CLOEXEC);
		if (number)
			*number = atoi(entry->d_name);
	}
	closedir(d);
	return REQUIRE_FD(fd);
}

long long vmm_kvm_stat(const struct vmm *v, const char *name)
{
	char prefix[32], path[512];
	struct dirent *entry;
	long long value = -1;
	DIR *d;

	/* The directory of a VM is called PID-FD. */
	snprintf(prefix, sizeof(prefix), "%d-", v->qemu);
	d = opendir("/sys/kernel/debug/kvm");
	REQUIRE(d);
	while ((entry = readdir(d))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%s/%s", entry->d_name, name);
		value = read_number(path);
	}
	closedir(d);
	REQUIRE(value >= 0);
	return value;
}

pid_t vmm_server(const struct vmm *v)
{
	char path[64], *text, *word, *save;
	pid_t server = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", v->child, v->child);
	text = read_file(path);
	REQUIRE(text);
	for (word = strtok_r(text, "\n ", &save); word; word = strtok_r(NULL, "\n ", &save)) {
		snprintf(path, sizeof(path), "/proc/%s/comm", word);
		char *comm = read_file(path);

		if (comm && !strncmp(comm, SERVER_NAME, strlen(SERVER_NAME)))
			server = atoi(word);
		free(comm);
	}
	free(text);
	return server;
}
