// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl run: the command sees the image, in all ways to serve it; how it ends; and what was read for it.
 */
#include "cli.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include "gmem.h"

#define PAGES 1024
#define IMAGE "/tmp/image"
#define STATE "/tmp/state"
/* Made when the command is to go on. */
#define GO "/tmp/go"
#define HOLE_FROM 256
#define HOLE_TO 700

static const struct way {
	const char *label;
	const char *options[8];
	int pipe;
} ways[] = {
	{ "plain", {}, 0 },
	{ "on_demand", { "--no-background" }, 0 },
	{ "many_threads", { "--no-background", "--threads", "16" }, 0 },
	{ "huge", { "--huge" }, 0 },
	{ "huge_on_demand", { "--huge", "--no-background" }, 0 },
	{ "sized", { "--size", "4M" }, 0 },
	{ "slowly", { "--rate", "2M" }, 0 },
	{ "unlimited", { "--rate", "unlimited" }, 0 },
	{ "direct", { "--direct" }, 0 },
	{ "direct_on_demand", { "--direct", "--no-background" }, 0 },
	{ "hold", { "--policy=hold" }, 0 },
	{ "stdin_file", { "--image", "-" }, 0 },
	{ "stdin_direct", { "--image", "-", "--direct" }, 0 },
	{ "stdin_pipe", { "--image", "-", "--size", "4M" }, 1 },
	{ "stdin_pipe_slowly", { "--image", "-", "--size", "4M", "--rate", "8M" }, 1 },
};

/* A pipe with the image, and a process that writes it. */
static int image_pipe(size_t bytes)
{
	int fds[2], fd;
	char buffer[4096];

	REQUIRE_OK(pipe2(fds, O_CLOEXEC));
	if (!REQUIRE_OK(fork())) {
		close(fds[0]);
		signal(SIGPIPE, SIG_IGN);
		fd = open(IMAGE, O_RDONLY);
		while (bytes && read(fd, buffer, sizeof(buffer)) == sizeof(buffer)) {
			if (write(fds[1], buffer, sizeof(buffer)) != sizeof(buffer))
				break;
			bytes -= sizeof(buffer);
		}
		_exit(0);
	}
	close(fds[1]);
	return fds[0];
}

/* The file system of older kernels' /tmp cannot be read around the page cache. */
static void need_direct(void)
{
	int fd = open(IMAGE, O_RDONLY | O_DIRECT);

	if (fd < 0)
		SKIP("the file system of /tmp has no direct I/O: %s", strerror(errno));
	close(fd);
}

TEST_EACH(content, struct way, ways)
{
	const char *args[24] = { "run", "--image", IMAGE, "--json" };
	int n = 4, in = -1;
	struct cli c;

	cli_image(IMAGE, PAGES, HOLE_FROM, HOLE_TO);
	if (strstr(row->label, "direct"))
		need_direct();
	for (int i = 0; row->options[i]; i++)
		args[n++] = row->options[i];
	args[n++] = "--";
	args[n++] = BUSYBOX;
	args[n++] = "sh";
	args[n++] = "-c";
	args[n++] = "busybox cmp {path} " IMAGE " && until busybox test -e " GO "; do busybox sleep 0.05; done";
	unlink(GO);
	if (row->pipe)
		in = image_pipe(PAGES * page_size());
	else if (strstr(row->label, "stdin"))
		in = REQUIRE_FD(open(IMAGE, O_RDONLY));
	c = cli_start(in, args);
	/* What comes by itself is there before it is counted. */
	if (!strstr(row->label, "on_demand") && strcmp(row->label, "many_threads"))
		CHECK(cli_says(&c, "{\"event\":\"complete\""));
	REQUIRE_OK(close(REQUIRE_FD(open(GO, O_WRONLY | O_CREAT, 0600))));
	cli_end(&c, 20);
	CHECK_EQ(c.code, 0);
	CHECK(!*c.out);
	CHECK_EQ(cli_json(c.err, "\"end\"", "provided"), PAGES * page_size());
	/* Holes are not read; but by a pipe, and whole huge pages. */
	if (!row->pipe && !strstr(row->label, "huge"))
		CHECK_EQ(cli_json(c.err, "\"end\"", "read"), (PAGES - (HOLE_TO - HOLE_FROM)) * page_size());
	if (c.code)
		tap_diag("%s", c.err);
	/* Whoever else has this stdin reads it as before. */
	if (in >= 0)
		CHECK(!(fcntl(in, F_GETFL) & O_DIRECT));
	while (wait(NULL) > 0)
		;
}

/*
 * An image that takes long to read, for it is a gmem file with closed pages. Who touches one in the middle of what the
 * background is reading does not wait for the rest of it.
 */
TEST(fault_before_background)
{
	int slow = xgmem(HPAGE_SIZE), context = xgmem_context();
	size_t page = page_size(), middle = HPAGE_SIZE / 2;
	unsigned char *content = xmmap_anon(HPAGE_SIZE);
	struct gmem_toucher waiting;
	struct gmemfd_event event;
	struct cli_vmm vmm;
	char path[64];

	for (size_t at = 0; at < HPAGE_SIZE; at += page)
		pattern_fill(content + at, page, at);
	REQUIRE_OK(gmem_watch(slow, context, 0, HPAGE_SIZE, GMEMFD_MODE_MINOR, 0, GMEMFD_POLICY_POISON));
	REQUIRE_OK(gmem_copy(slow, page, page, content + page, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(gmem_copy(slow, middle, page, content + middle, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(gmem_copy(slow, 0, page, content, 0));
	REQUIRE_OK(gmem_copy(slow, 2 * page, middle - 2 * page, content + 2 * page, 0));
	REQUIRE_OK(gmem_copy(slow, middle + page, middle - page, content + middle + page, 0));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), slow);
	vmm = cli_vmm(HPAGE_SIZE, "--image", path);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.offset, page);
	waiting = (struct gmem_toucher){ .addr = vmm.map + middle };
	gmem_toucher_start(&waiting);
	REQUIRE(gmem_event(context, &event, 10));
	CHECK_EQ(event.offset, middle);
	REQUIRE_OK(gmem_continue(slow, middle, page, 0));
	CHECK_EQ(gmem_toucher_join(&waiting), content[middle]);
	REQUIRE_OK(gmem_continue(slow, page, page, 0));
	CHECK(cli_says(&vmm.run, "has been provided"));
	CHECK(!memcmp(vmm.map, content, HPAGE_SIZE));
	cli_vmm_end(&vmm);
}

/* The rate bounds what comes by itself, from a file and from a pipe. A chunk of 2 MiB comes at a time. */
static const struct way slow_ways[] = {
	{ "file", { "--image", IMAGE }, 0 },
	{ "pipe", { "--image", "-", "--size", "16M" }, 1 },
};

TEST_EACH(rate, struct way, slow_ways)
{
	const char *args[24] = { "--rate", "2M", "--json" };
	double began, took;
	uint64_t provided;
	struct cli_vmm vmm;
	int n = 3, in = -1;

	cli_image(IMAGE, 4 * PAGES, 0, 0);
	for (int i = 0; row->options[i]; i++)
		args[n++] = row->options[i];
	if (row->pipe)
		in = image_pipe(4 * PAGES * page_size());
	began = now_seconds();
	vmm = cli_vmm_start(in, 4 * PAGES * page_size(), args);
	/* So that who writes to it hears of its end. */
	close(in);
	sleep_seconds(1.5);
	CHECK(wait_for(xgmem_stats(vmm.fd).allocated, 10));
	provided = xgmem_stats(vmm.fd).allocated;
	took = now_seconds() - began;
	CHECK(provided <= (took + 2) * (2 << 20));
	cli_vmm_end(&vmm);
	while (wait(NULL) > 0)
		;
}

/* The image on stdin is the server's: the command has nothing there. */
TEST(stdin_is_not_shared)
{
	struct cli c;

	cli_image(IMAGE, PAGES, 0, 0);
	c = cli_run(image_pipe(PAGES * page_size()), "run", "--quiet", "--image", "-", "--size", "4M", "--", BUSYBOX,
		    "sh", "-c", "busybox wc -c; busybox cmp {path} " IMAGE);
	cli_end(&c, 20);
	CHECK_EQ(c.code, 0);
	CHECK(!strcmp(c.out, "0\n"));
	while (wait(NULL) > 0)
		;
}

static const struct end {
	const char *label;
	const char *command[4];
	int code;
} ends[] = {
	{ "success", { BUSYBOX, "sh", "-c", ": {path}" }, 0 },
	{ "seven", { BUSYBOX, "sh", "-c", ": {fd}; exit 7" }, 7 },
	{ "killed", { BUSYBOX, "sh", "-c", ": {fd}; kill -TERM $$" }, 128 + SIGTERM },
	{ "not_found", { "no-such-command", "{fd}" }, 127 },
	{ "not_executable", { IMAGE, "{fd}" }, 126 },
	{ "descriptor", { BUSYBOX, "sh", "-c", "test -e /proc/self/fd/{fd} && ls -l {path} >/dev/null" }, 0 },
	{ "no_other", { BUSYBOX, "sh", "-c", "for f in /proc/$$/fd/*; do test ${f##*/} -lt 3 -o $f = /proc/$$/fd/{fd} "
					     "-o ! -e $f || exit 1; done" }, 0 },
};

TEST_EACH(exit_code, struct end, ends)
{
	const char *args[12] = { "run", "--quiet", "--image", IMAGE, "--" };
	struct cli c;

	cli_image(IMAGE, 16, 0, 0);
	memcpy(args + 5, row->command, sizeof(row->command));
	c = cli_start(-1, args);
	cli_end(&c, 20);
	if (row->code == 127)
		CHECK_CLI(c, 127, "there is no command 'no-such-command'");
	else if (row->code == 126)
		CHECK_CLI(c, 126, "cannot run '" IMAGE "'");
	else
		CHECK_CLI(c, row->code, NULL);
}

/* Once nobody can go on with it the state is gone; one that is there is not touched. */
TEST(state_file)
{
	struct cli c;

	unlink(STATE);
	cli_image(IMAGE, 16, 0, 0);
	c = cli("run", "--quiet", "--image", IMAGE, "--state", STATE, "--", BUSYBOX, "sh", "-c",
		"busybox cmp {path} " IMAGE " && busybox test -s " STATE);
	CHECK_CLI(c, 0, NULL);
	CHECK_ERRNO(access(STATE, F_OK), ENOENT);
	c = cli("run", "--quiet", "--image", IMAGE, "--state", STATE, "--", "no-such-command", "{fd}");
	CHECK_CLI(c, 127, "there is no command");
	CHECK_ERRNO(access(STATE, F_OK), ENOENT);
	REQUIRE_OK(symlink(IMAGE, STATE));
	c = cli("run", "--quiet", "--image", IMAGE, "--state", STATE, "--", BUSYBOX, "true{fd}");
	CHECK_CLI(c, 1, "cannot open the state file");
	unlink(STATE);
}

TEST(reads_what_is_touched)
{
	struct cli c;

	cli_image(IMAGE, PAGES, 0, 0);
	c = cli("run", "--json", "--no-background", "--image", IMAGE, "--", BUSYBOX, "dd", "if={path}",
		"of=/dev/null", "bs=4096", "count=1", "skip=100");
	CHECK_EQ(c.code, 0);
	CHECK_EQ(cli_json(c.err, "\"end\"", "read"), 64 << 10);
	CHECK_EQ(cli_json(c.err, "\"end\"", "demanded"), page_size());
	CHECK_EQ(cli_json(c.err, "\"end\"", "faults"), 1);
	CHECK_EQ(cli_json(c.err, "\"end\"", "waits"), 1);
	CHECK(cli_json(c.err, "\"end\"", "wait_ns") > 0);
}

TEST(signals_go_to_the_command)
{
	struct cli c;
	pid_t command;

	cli_image(IMAGE, 16, 0, 0);
	c = cli_run(-1, "run", "--quiet", "--image", IMAGE, "--", BUSYBOX, "sleep", "100{fd}");
	command = cli_child(c.pid, "busybox", 0);
	REQUIRE(command);
	REQUIRE_OK(kill(c.pid, SIGTERM));
	cli_end(&c, 10);
	CHECK_EQ(c.code, 128 + SIGTERM);
	CHECK_EQ(task_state(command), 0);
}

static const struct passed {
	const char *label;
	const char *name;
	int signal;
} passed[] = {
	{ "hup", "HUP", SIGHUP }, { "int", "INT", SIGINT }, { "quit", "QUIT", SIGQUIT }, { "term", "TERM", SIGTERM },
	{ "usr1", "USR1", SIGUSR1 }, { "usr2", "USR2", SIGUSR2 }, { "alrm", "ALRM", SIGALRM },
};

/* The whole process group is told, as service managers do: who ends slowly has its memory until then. */
TEST_EACH(signal_to_all, struct passed, passed)
{
	char script[256];
	struct cli c;

	cli_image(IMAGE, 16, 0, 0);
	unlink("/tmp/ready");
	snprintf(script, sizeof(script), "trap 'busybox sleep 0.3; busybox cmp {path} " IMAGE " && exit 5; exit 6' %s; "
		 ": >/tmp/ready; while :; do busybox sleep 0.05; done", row->name);
	c = cli_run(-1, "run", "--policy", "hold", "--no-background", "--image", IMAGE, "--", BUSYBOX, "sh", "-c",
		    script);
	REQUIRE(wait_for(!access("/tmp/ready", F_OK), 10));
	/* The group is the case's too; and the command gets it passed on. */
	REQUIRE_OK(kill(cli_server(c.pid, 0), row->signal));
	REQUIRE_OK(kill(c.pid, row->signal));
	cli_end(&c, 10);
	CHECK_EQ(c.code, 5);
	CHECK(!strstr(c.err, "died of signal"));
}

/* The widest that was drawn over a line of the terminal, in columns; the words are ASCII. */
static size_t widest(const char *said)
{
	size_t most = 0, len;

	for (; (said = strchr(said, '\r')); said++) {
		len = strcspn(said + 1, "\r\n\033");
		if (len > most)
			most = len;
	}
	return most;
}

static const struct terminal {
	const char *label;
	unsigned short columns;
	size_t widest;
	bool bar;
} terminals[] = {
	{ "columns_80", 80, 79, true },
	{ "columns_40", 40, 39, false },
	{ "columns_120", 120, 119, true },
	{ "unknown", 0, 79, true },
};

/* What there is to read: how much has been read with it. */
static size_t read_more(int fd, char *text, size_t len, size_t size)
{
	ssize_t got;

	while (len < size - 1 && (got = read(fd, text + len, size - 1 - len)) > 0)
		len += got;
	return len;
}

/* On a terminal there is a bar, in one line of it, which goes away. */
TEST_EACH(terminal, struct terminal, terminals)
{
	static char said[65536];
	struct winsize size = { .ws_col = row->columns, .ws_row = 24 };
	size_t len = 0;
	int master;
	pid_t pid;

	cli_image(IMAGE, PAGES, 0, 0);
	unlink(GO);
	mkdir("/dev/pts", 0755);
	REQUIRE_OK(mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666"));
	master = REQUIRE_FD(open("/dev/pts/ptmx", O_RDWR | O_NOCTTY));
	REQUIRE_OK(unlockpt(master));
	REQUIRE_OK(ioctl(master, TIOCSWINSZ, &size));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		int slave = REQUIRE_FD(open(ptsname(master), O_RDWR | O_NOCTTY));

		REQUIRE_OK(dup2(slave, 2));
		setenv("ASAN_OPTIONS", "exitcode=99:detect_leaks=1", 1);
		setenv("PATH", "/bin", 1);
		execl(GMEMCTL, GMEMCTL, "run", "--no-background", "--image", IMAGE, "--", BUSYBOX, "sh", "-c",
		      "until busybox test -e " GO "; do busybox sleep 0.05; done; busybox cmp {path} " IMAGE, NULL);
		_exit(1);
	}
	REQUIRE_OK(fcntl(master, F_SETFL, O_NONBLOCK));
	/* It goes on when something was drawn, and all of that. */
	CHECK(wait_for((len = read_more(master, said, len, sizeof(said)), strstr(said, "\033[K")), 10));
	REQUIRE_OK(close(REQUIRE_FD(open(GO, O_WRONLY | O_CREAT, 0600))));
	CHECK_EQ(child_wait(pid, 20), 0);
	len = read_more(master, said, len, sizeof(said));
	CHECK_EQ(strstr(said, "\r[#") || strstr(said, "\r[."), row->bar);
	CHECK(strstr(said, " of 4 MiB, "));
	CHECK(!row->bar || strstr(said, " pages, "));
	CHECK(!row->bar || strstr(said, " faults"));
	if (!CHECK(widest(said) <= row->widest))
		tap_diag("it has drawn %zu columns", widest(said));
	CHECK(strstr(said, "\r\033[Kgmemctl: run: "));
	CHECK(strstr(said, "the command has ended: 4 MiB of 4 MiB, 1024 pages, "));
	close(master);
	REQUIRE_OK(umount2("/dev/pts", MNT_DETACH));
}

/* Elsewhere there is a line now and then, or an object with the figures. */
TEST(progress)
{
	struct cli c, json;
	long long provided;
	char *line;

	/* A page and its neighbours now and then, until there was a line; then all of them. */
	const char *command = "n=0; until busybox test -e " GO "; do "
			      "busybox dd if={path} of=/dev/null bs=65536 count=1 skip=$((n % 60)) 2>/dev/null; "
			      "n=$((n + 1)); busybox sleep 1; done; busybox cmp {path} " IMAGE;

	unlink(GO);
	cli_image(IMAGE, PAGES, 0, 0);
	c = cli_run(-1, "run", "--no-background", "--image", IMAGE, "--", BUSYBOX, "sh", "-c", command);
	json = cli_run(-1, "run", "--no-background", "--json", "--image", IMAGE, "--", BUSYBOX, "sh", "-c", command);
	CHECK(wait_for(strstr(cli_err(&c), "iB of 4 MiB, "), 20));
	CHECK(wait_for(strstr(cli_err(&json), "\"progress\""), 20));
	REQUIRE_OK(close(REQUIRE_FD(open(GO, O_WRONLY | O_CREAT, 0600))));
	cli_end(&c, 60);
	cli_end(&json, 60);
	CHECK_EQ(c.code, 0);
	CHECK(!strchr(c.err, '\r'));
	/* The last one is the end's. */
	line = strstr(c.err, "iB of 4 MiB, ");
	CHECK(line && strstr(line, " pages, ") && strstr(line + 1, "iB of 4 MiB, "));
	CHECK(strstr(c.err, "the command has ended: 4 MiB of 4 MiB, 1024 pages, "));
	CHECK(strstr(c.err, " faults, "));
	CHECK(strstr(c.err, " waited on average"));
	CHECK_EQ(json.code, 0);
	CHECK_EQ(cli_json(json.err, "\"progress\"", "bytes"), PAGES * page_size());
	provided = cli_json(json.err, "\"progress\"", "provided");
	CHECK(provided >= 64 << 10);
	CHECK_EQ(cli_json(json.err, "\"progress\"", "pages"), provided / page_size());
	CHECK(cli_json(json.err, "\"progress\"", "rate") > 0);
	CHECK_EQ(cli_json(json.err, "\"end\"", "pages"), PAGES);
	CHECK(cli_json(json.err, "\"end\"", "waits") > 0);
	CHECK(cli_json(json.err, "\"end\"", "wait_ns") > 0);
	CHECK(strstr(json.err, "{\"event\":\"server\",\"text\":\"page server "));
}

/* Once all has been provided nobody has to serve any more, and what is punched is zeros. */
TEST(server_ends_when_all_is_there)
{
	struct gmemfd_stats stats;
	char path[64];
	struct cli c;
	pid_t command;
	int fd;

	unlink("/tmp/fd");
	cli_image(IMAGE, PAGES, HOLE_FROM, HOLE_TO);
	c = cli_run(-1, "run", "--image", IMAGE, "--", BUSYBOX, "sh", "-c",
		    "echo {fd} >/tmp/fd; exec busybox sleep 100");
	REQUIRE(cli_says(&c, "all of the memory of the command has been provided"));
	command = cli_child(c.pid, "busybox", 0);
	REQUIRE(command);
	REQUIRE(cli_whole_line("/tmp/fd"));
	snprintf(path, sizeof(path), "/proc/%d/fd/%lld", command, read_number("/tmp/fd"));
	fd = REQUIRE_FD(open(path, O_RDWR));
	stats = xgmem_stats(fd);
	CHECK_EQ(stats.watches, 0);
	CHECK_EQ(stats.allocated, PAGES * page_size());
	CHECK(wait_for(!cli_child_now(c.pid, "gmemctl-server", 0), 5));
	REQUIRE_OK(gmem_punch(fd, 0, page_size()));
	CHECK_EQ(pread(fd, path, 1, 0), 1);
	CHECK_EQ(path[0], 0);
	close(fd);
	REQUIRE_OK(kill(command, SIGKILL));
	cli_end(&c, 10);
	CHECK_EQ(c.code, 128 + SIGKILL);
}
