// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns how tests run gmemctl.
 */
#include "cli.h"

#include <dirent.h>
#include <json-c/json.h>
#include <sys/syscall.h>

const char *cli_program = GMEMCTL;

static char *slurp(const char *path)
{
	char *text = read_file(path);

	REQUIRE(text);
	return text;
}

struct cli cli_start(int in, const char *const *args)
{
	static unsigned int runs;
	const char *argv[64] = { cli_program };
	struct cli cli = {};
	int i = 1, fd;

	while (*args) {
		REQUIRE(i < 63);
		/* Help is for people, whatever is asked for; and a command that is run says what it likes. */
		cli.json |= !cli.foreign && !strcmp(*args, "--json");
		cli.foreign |= !strcmp(*args, "--") || !strcmp(*args, "--help");
		argv[i++] = *args++;
	}
	snprintf(cli.out_path, sizeof(cli.out_path), "/tmp/out.%d.%u", getpid(), ++runs);
	snprintf(cli.err_path, sizeof(cli.err_path), "/tmp/err.%d.%u", getpid(), runs);
	cli.pid = REQUIRE_OK(fork());
	if (cli.pid)
		return cli;
	if (in < 0)
		in = REQUIRE_FD(open("/dev/null", O_RDONLY));
	REQUIRE_OK(dup2(in, 0));
	fd = REQUIRE_FD(open(cli.out_path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600));
	REQUIRE_OK(dup2(fd, 1));
	fd = REQUIRE_FD(open(cli.err_path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600));
	REQUIRE_OK(dup2(fd, 2));
	/* Nothing of ours, such as the ends of pipes, goes along. */
	syscall(SYS_close_range, 3, ~0u, 0);
	setenv("ASAN_OPTIONS", "exitcode=99:detect_leaks=1", 1);
	setenv("UBSAN_OPTIONS", "exitcode=99:print_stacktrace=1", 1);
	setenv("PATH", "/bin", 1);
	execv(argv[0], (char **)argv);
	_exit(98);
}

const char *cli_err(struct cli *cli)
{
	free(cli->err);
	cli->err = read_file(cli->err_path);
	return cli->err ? cli->err : "";
}

bool cli_says(struct cli *cli, const char *text)
{
	if (wait_for(strstr(cli_err(cli), text), 10))
		return true;
	tap_diag("it has said: %s", cli_err(cli));
	return false;
}

static bool is_utf8(const char *text)
{
	const unsigned char *at = (const void *)text;
	int more;

	while (*at) {
		more = *at < 0x80 ? 0 : *at < 0xc2 ? -1 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : -1;
		for (at++; more > 0 && (*at & 0xc0) == 0x80; at++)
			more--;
		if (more)
			return false;
	}
	return true;
}

/* Objects of JSON one after the other, with nothing but white space between them. */
static bool are_json(const char *said)
{
	struct json_tokener *tokener = json_tokener_new();
	size_t len = strlen(said), at = 0;
	struct json_object *object;
	char *text = strdup(said), *byte;

	REQUIRE(tokener && text);
	/* Told to be strict, json-c 0.18 takes all that is not ASCII for control characters. */
	for (byte = text; *byte; byte++)
		*byte = *byte & 0x80 ? 'x' : *byte;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	while (at += strspn(text + at, "\n "), at < len) {
		json_tokener_reset(tokener);
		object = json_tokener_parse_ex(tokener, text + at, len - at);
		if (!json_object_is_type(object, json_type_object))
			break;
		json_object_put(object);
		at += json_tokener_get_parse_end(tokener);
	}
	json_tokener_free(tokener);
	free(text);
	return at >= len && is_utf8(said);
}

/* What it has said with --json. Of others' lines it is known only that they are no objects. */
static void check_json(const struct cli *cli)
{
	char *text = strdup(cli->err), *line, *save;

	if (!CHECK(cli->foreign || are_json(cli->out)))
		tap_diag("it printed: %s", cli->out);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if ((!cli->foreign || *line == '{') && !CHECK(are_json(line)))
			tap_diag("it said: %s", line);
	free(text);
}

void cli_end(struct cli *cli, double seconds)
{
	int status = child_wait(cli->pid, seconds);

	if (status == -1) {
		tap_diag("gmemctl still runs; it has said: %s", cli_err(cli));
		REQUIRE(status != -1);
	}
	cli->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	cli->out = slurp(cli->out_path);
	free(cli->err);
	cli->err = slurp(cli->err_path);
	unlink(cli->out_path);
	unlink(cli->err_path);
	if (strstr(cli->err, "Sanitizer") || strstr(cli->err, "runtime error") || cli->code == 98)
		tap_diag("%s", cli->err);
	CHECK(!strstr(cli->err, "Sanitizer"));
	CHECK(!strstr(cli->err, "runtime error"));
	CHECK(cli->code != 98);
	if (cli->json)
		check_json(cli);
}

void cli_check(const struct cli *cli, int code, const char *text, const char *file, int line)
{
	const char *newline = strchr(cli->err, '\n');

	tap_check(cli->code == code, false, file, line, "it ended with %d, not %d", cli->code, code);
	if (!text)
		tap_check(!*cli->err, false, file, line, "it said nothing");
	else
		tap_check(strstr(cli->err, text) && newline && !newline[1], false, file, line,
			  "it said one line with '%s'", text);
	if (cli->code != code || !strstr(cli->err, text ? text : "") || (!text && *cli->err))
		tap_diag("it said: %s", cli->err);
}

pid_t cli_child_now(pid_t parent, const char *name, pid_t not)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	char path[64], *stat;
	pid_t found = 0, pid;

	REQUIRE(dir);
	while (!found && (entry = readdir(dir))) {
		pid = atoi(entry->d_name);
		if (pid <= 0 || pid == not)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		stat = read_file(path);
		/* "PID (name) S PPID" */
		if (stat) {
			char *open = strchr(stat, '('), *close = strrchr(stat, ')');

			if (open && close && close == open + 1 + strlen(name) &&
			    !strncmp(open + 1, name, strlen(name)) &&
			    atoi(close + 4) == parent && close[2] != 'Z')
				found = pid;
		}
		free(stat);
	}
	closedir(dir);
	return found;
}

pid_t cli_child(pid_t parent, const char *name, pid_t not)
{
	pid_t pid = 0;

	wait_for((pid = cli_child_now(parent, name, not)), 10);
	return pid;
}

pid_t cli_server(pid_t keeper, pid_t not)
{
	return cli_child(keeper, "gmemctl-server", not);
}

static bool all_stopped(pid_t pid)
{
	struct dirent *entry;
	char path[64], state;
	bool all = true;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	REQUIRE(dir);
	while (all && (entry = readdir(dir))) {
		state = atoi(entry->d_name) > 0 ? task_state(atoi(entry->d_name)) : 0;
		all = !state || state == 'T';
	}
	closedir(dir);
	return all;
}

void cli_stop(pid_t pid)
{
	REQUIRE_OK(kill(pid, SIGSTOP));
	REQUIRE(wait_for(all_stopped(pid), 10));
}

void cli_image(const char *path, size_t pages, size_t hole_from, size_t hole_to)
{
	int fd = REQUIRE_FD(open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));
	unsigned char *page = malloc(page_size());

	for (size_t i = 0; i < pages; i++) {
		if (i >= hole_from && i < hole_to)
			continue;
		pattern_fill(page, page_size(), i * page_size());
		REQUIRE_EQ(pwrite(fd, page, page_size(), i * page_size()), page_size());
	}
	REQUIRE_OK(ftruncate(fd, pages * page_size()));
	free(page);
	close(fd);
}

void cli_break_page(const char *path, size_t page)
{
	int fd = REQUIRE_FD(open(path, O_RDWR)), status;
	char *at = xmmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, page * page_size()), byte;
	pid_t pid = REQUIRE_OK(fork());

	if (!pid)
		_exit(madvise(at, page_size(), MADV_HWPOISON) ? errno : 0);
	status = child_wait(pid, 10);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		SKIP("the kernel does not break pages on request: %s", strerror(WEXITSTATUS(status)));
	if (pread(fd, &byte, 1, page * page_size()) == 1)
		SKIP("the file system of %s reads broken pages", path);
	close(fd);
}

bool cli_page_is(const void *page, uint64_t offset, size_t hole_from, size_t hole_to)
{
	uint64_t index = offset / page_size();

	if (index >= hole_from && index < hole_to)
		return all_bytes_are(page, page_size(), 0);
	return pattern_is(page, page_size(), offset);
}

#define FD_FILE "/tmp/cli.fd"

/* Whether the file is there and ends with a newline. */
static bool whole_line(const char *path)
{
	char *text = read_file(path);
	bool whole = text && strchr(text, '\n');

	free(text);
	return whole;
}

bool cli_whole_line(const char *path)
{
	return wait_for(whole_line(path), 10);
}

struct cli_vmm cli_vmm_start(int in, size_t bytes, const char *const *options)
{
	static const char *const command[] = { "--", BUSYBOX, "sh", "-c",
					       "echo {fd} >" FD_FILE "; exec busybox sleep 1000", NULL };
	struct cli_vmm vmm = { .bytes = bytes };
	const char *args[40] = { "run" }, *const *from;
	char path[64];
	int n = 1;

	unlink(FD_FILE);
	for (from = options; *from; from++)
		args[n++] = *from;
	for (from = command; *from; from++)
		args[n++] = *from;
	vmm.run = cli_start(in, args);
	vmm.command = cli_child(vmm.run.pid, "busybox", 0);
	if (!vmm.command)
		tap_diag("it said: %s", cli_err(&vmm.run));
	REQUIRE(vmm.command);
	REQUIRE(cli_whole_line(FD_FILE));
	snprintf(vmm.number, sizeof(vmm.number), "%lld", read_number(FD_FILE));
	snprintf(path, sizeof(path), "/proc/%d/fd/%s", vmm.command, vmm.number);
	vmm.fd = REQUIRE_FD(open(path, O_RDWR));
	vmm.map = xmmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vmm.fd, 0);
	return vmm;
}

void cli_vmm_end(struct cli_vmm *vmm)
{
	REQUIRE_OK(munmap(vmm->map, vmm->bytes));
	REQUIRE_OK(close(vmm->fd));
	REQUIRE_OK(kill(vmm->command, SIGKILL));
	cli_end(&vmm->run, 10);
	CHECK_EQ(vmm->run.code, 128 + SIGKILL);
}

long long cli_json(const char *text, const char *event, const char *key)
{
	const char *line = NULL, *at = text;
	char name[64];

	while ((at = strstr(at, event)))
		line = at++;
	if (!line)
		return -1;
	snprintf(name, sizeof(name), "\"%s\":", key);
	at = strstr(line, name);
	return at ? strtoll(at + strlen(name), NULL, 10) : -1;
}
