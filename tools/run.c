// SPDX-License-Identifier: GPL-2.0-only
/*
 * `gmemctl run` and `gmemctl attach`: page servers for gmem files. run makes the file, and starts a command with it;
 * attach takes over one whose page server, and the server's keeper, are gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keep.h"

struct run_options {
	struct serving serve;	/* first */
	uint64_t size;
	uint32_t policy;
	bool huge;
};

const struct option_row run_options[] = {
	{ "size", "SIZE", "size of the memory (that of the image)", OPT_SIZE, offsetof(struct run_options, size) },
	{ "policy", "P", "without a page server, accesses get SIGBUS (poison) or wait for the next one (hold)",
	  OPT_POLICY, offsetof(struct run_options, policy) },
	{ "huge", NULL, "use 2 MiB pages", OPT_FLAG, offsetof(struct run_options, huge) },
	{ "state", "FILE", "keep there what has been provided, for 'attach'", OPT_FILE,
	  offsetof(struct run_options, serve.state) },
	{}
};

struct attach_options {
	struct serving serve;	/* first */
	pid_t pid;
	int fd;
	uint32_t policy;
};

const struct option_row attach_options[] = {
	{ "pid", "PID", "a process that has the gmem file", OPT_PID, offsetof(struct attach_options, pid) },
	{ "fd", "N", "its descriptor there", OPT_FD, offsetof(struct attach_options, fd) },
	{ "policy", "P", "from now on, without a page server: poison or hold", OPT_POLICY,
	  offsetof(struct attach_options, policy) },
	{ "state", "FILE", "what has been provided, as told to 'run'", OPT_FILE,
	  offsetof(struct attach_options, serve.state) },
	{}
};

/* The image fits memory of that size and granule: DONE or a code. */
static int check_size(const struct image *image, uint64_t bytes, uint64_t granule, const char *whose)
{
	if (!image->stream && image->bytes != bytes)
		return fail(FAILED, "the image %s has %llu bytes and %s %llu: it is %s", image->name,
			    (unsigned long long)image->bytes, whose, (unsigned long long)bytes,
			    image->bytes < bytes ? "too short" : "too long");
	if (bytes % granule)
		return fail(FAILED, "%llu bytes are no multiple of the page size of %llu",
			    (unsigned long long)bytes, (unsigned long long)granule);
	return DONE;
}

/* What has been provided, in memory or with --state in a file. @again: of what another gmemctl has begun. */
static int open_ledger(struct keeper *k, uint64_t bytes, bool again)
{
	const char *path = k->server.options->state;
	const struct image *image = k->server.image;
	struct origin origin = {};
	struct stat st;
	char *boot;

	if (!path) {
		k->server.ledger = ledger_new(bytes, k->server.granule);
		return k->server.ledger ? DONE : FAILED;
	}
	boot = read_small("/proc/sys/kernel/random/boot_id");
	if (boot)
		strncpy(origin.boot, boot, sizeof(origin.boot) - 1);
	free(boot);
	if (fstat(k->server.fd, &st))
		return fail_errno(FAILED, errno, "the gmem file");
	origin.memory_dev = st.st_dev;
	origin.memory_ino = st.st_ino;
	if (fstat(image->fd, &st))
		return fail_errno(FAILED, errno, "the image %s", image->name);
	origin.image_dev = st.st_dev;
	origin.image_ino = st.st_ino;
	origin.image_rdev = st.st_rdev;
	origin.image_bytes = image->bytes;
	origin.image_sec = image->changed.tv_sec;
	origin.image_nsec = image->changed.tv_nsec;
	k->server.ledger = ledger_open(path, again, bytes, k->server.granule, &origin);
	return k->server.ledger ? DONE : FAILED;
}

/* The command's arguments with {fd} and {path} replaced. */
static char **fill_in(int argc, char **argv, int fd)
{
	char **filled = xcalloc(argc + 1, sizeof(*filled));
	int i;

	for (i = 0; i < argc; i++) {
		const char *at = argv[i];
		size_t size;
		FILE *out = open_memstream(&filled[i], &size);

		while (out && *at) {
			if (!strncmp(at, "{fd}", 4)) {
				fprintf(out, "%d", fd);
				at += 4;
			} else if (!strncmp(at, "{path}", 6)) {
				fprintf(out, "/proc/self/fd/%d", fd);
				at += 6;
			} else {
				fputc(*at++, out);
			}
		}
		if (!out || fclose(out)) {
			fail(FAILED, "out of memory");
			_exit(FAILED);
		}
	}
	return filled;
}

/* Otherwise the command could not use the memory. */
static bool names_memory(int argc, char **argv)
{
	int i;

	for (i = 0; i < argc; i++)
		if (strstr(argv[i], "{fd}") || strstr(argv[i], "{path}"))
			return true;
	return false;
}

/* What the command becomes; its errno goes to @failed if it cannot. */
static void be_command(char **argv, int fd, bool own_stdin, int failed)
{
	int err, null = -1;

	keeper_unblock();
	/* What the server reads the command must not take from it. */
	if (!own_stdin)
		null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if ((own_stdin || (null >= 0 && dup2(null, STDIN_FILENO) >= 0)) && !fcntl(fd, F_SETFD, 0))
		execvp(argv[0], argv);
	err = errno;
	if (write(failed, &err, sizeof(err)) != sizeof(err))
		_exit(FAILED);
	_exit(FAILED);
}

/* 0, or 127 or 126 as shells have it. */
static int start_command(struct keeper *k, char **argv, int fd)
{
	int failed[2], err = 0;
	ssize_t got;

	if (pipe2(failed, O_CLOEXEC))
		return fail_errno(FAILED, errno, "pipe");
	fflush(NULL);
	k->command = fork();
	if (k->command < 0)
		return fail_errno(FAILED, errno, "cannot start %s", argv[0]);
	if (!k->command) {
		close(failed[0]);
		be_command(argv, fd, strcmp(k->server.options->image, "-"), failed[1]);
	}
	close(failed[1]);
	do {
		got = read(failed[0], &err, sizeof(err));
	} while (got < 0 && errno == EINTR);
	close(failed[0]);
	if (got <= 0)
		return DONE;
	waitpid(k->command, NULL, 0);
	k->command = -1;
	if (err == ENOENT)
		return fail(127, "there is no command '%s'", argv[0]);
	return fail_errno(126, err, "cannot run '%s'", argv[0]);
}

/* A descriptor of the same file with a position of its own, so that nobody's lseek() disturbs anybody. */
static int open_again(int fd)
{
	char *path = xasprintf("/proc/self/fd/%d", fd);
	int again = open(path, O_RDWR | O_CLOEXEC);

	free(path);
	return again;
}

static int make_file(struct keeper *k, const struct run_options *options, uint64_t bytes, int *fd)
{
	struct gmemfd_create_opts create = { .sz = sizeof(create), .policy = options->policy };
	struct gmemfd_info info;

	k->server.dev = open_device(&info);
	if (k->server.dev < 0)
		return -k->server.dev;
	if (options->huge && !info.huge_size)
		return fail(FAILED, "this kernel cannot map huge pages: leave out --huge");
	if (bytes > info.max_bytes)
		return fail(FAILED, "%s are too much: %s at most", size_text(bytes), size_text(info.max_bytes));
	if (options->huge)
		create.flags |= GMEMFD_CREATE_HUGE;
	*fd = gmemfd_create(k->server.dev, bytes, &create);
	if (*fd < 0)
		return fail_errno(FAILED, *fd, "cannot make a gmem file of %s", size_text(bytes));
	k->server.fd = open_again(*fd);
	if (k->server.fd < 0)
		return fail_errno(FAILED, errno, "cannot open the gmem file again: is /proc mounted?");
	return DONE;
}

int cmd_run(int argc, char **argv)
{
	struct run_options options = { .serve = SERVE_DEFAULTS };
	struct keeper k = { .whose = "the command", .server = { .backend = &by_offset, .options = &options.serve } };
	struct region whole = {};
	struct image image;
	int fd = -1, code, i;
	char **filled;

	argc = parse_options(argc, argv, &options);
	if (argc < 0)
		return USAGE;
	if (!options.serve.image)
		return fail(USAGE, "--image is missing: what is the memory's content?");
	if (!argc)
		return fail(USAGE, "no command: 'gmemctl run --image %s -- COMMAND...'", options.serve.image);
	if (!names_memory(argc, argv))
		return fail(USAGE, "the command has no {fd} or {path} in its arguments, and so no use of the memory");
	k.server.granule = options.huge ? GMEMFD_HUGE_SIZE : page_size();
	if (options.size % k.server.granule)
		return fail(USAGE, "--size: %llu is no multiple of the page size of %llu",
			    (unsigned long long)options.size, (unsigned long long)k.server.granule);
	code = image_open(&image, options.serve.image, options.serve.direct);
	if (code)
		return code;
	if (image.stream && !options.size)
		return fail(USAGE, "--size is missing: a stream does not tell its size");
	if (image.stream && options.serve.state)
		return fail(USAGE, "--state is of no use with a stream, which nobody can read from again");
	whole.len = options.size ? options.size : image.bytes;
	code = check_size(&image, whole.len, k.server.granule, "--size says");
	if (code)
		return code;

	code = keeper_init(&k);
	if (!code)
		code = make_file(&k, &options, whole.len, &fd);
	if (code)
		return code;
	k.server.image = &image;
	k.server.regions = &whole;
	k.server.nr_regions = 1;
	code = open_ledger(&k, whole.len, false);
	if (code)
		return code;
	filled = fill_in(argc, argv, fd);
	code = keeper_start(&k);
	if (!code)
		code = start_command(&k, filled, fd);
	for (i = 0; i < argc; i++)
		free(filled[i]);
	free(filled);
	/* From here on the command alone decides how long there is somebody to serve. */
	close(fd);
	if (!code)
		code = keeper_watch(&k);
	keeper_stop(&k);
	/* Only who goes on serving has a use for it. */
	if (options.serve.state)
		ledger_remove(options.serve.state);
	if (code)
		return code;
	return WIFSIGNALED(k.status) ? 128 + WTERMSIG(k.status) : WEXITSTATUS(k.status);
}

int cmd_attach(int argc, char **argv)
{
	struct attach_options options = { .serve = SERVE_DEFAULTS, .fd = -1 };
	struct keeper k = { .server = { .backend = &by_offset, .options = &options.serve, .again = true } };
	struct gmemfd_stats stats;
	struct region whole = {};
	struct image image;
	char path[64], whose[32];
	int code;

	argc = parse_options(argc, argv, &options);
	if (argc < 0)
		return USAGE;
	if (argc)
		return fail(USAGE, "what is '%s'? 'gmemctl attach --help' tells what it takes", argv[0]);
	if (!options.pid || options.fd < 0 || !options.serve.image)
		return fail(USAGE, "--%s is missing: 'gmemctl stat' shows who has gmem files",
			    !options.pid ? "pid" : options.fd < 0 ? "fd" : "image");
	code = keeper_init(&k);
	if (code)
		return code;
	k.subject = syscall(SYS_pidfd_open, options.pid, 0);
	if (k.subject < 0)
		return fail_errno(FAILED, errno, "process %d", options.pid);
	k.server.dev = open_device(NULL);
	if (k.server.dev < 0)
		return -k.server.dev;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", options.pid, options.fd);
	snprintf(whose, sizeof(whose), "process %d", options.pid);
	k.whose = whose;
	k.server.fd = open_gmem(path, O_RDWR, &stats);
	if (k.server.fd < 0)
		return -k.server.fd;
	k.server.granule = gmem_granule(k.server.fd);
	if (!k.server.granule)
		return fail(FAILED, "%s does not tell its page size: is /proc mounted?", path);
	if (!stats.watches)
		return fail(FAILED, "%s needs no page server: nothing of it is watched", path);
	if (!stats.orphans)
		return fail(FAILED, "%s has a page server, which is alive", path);
	code = image_open(&image, options.serve.image, options.serve.direct);
	if (code)
		return code;
	if (image.stream)
		return fail(USAGE, "--image: what has been provided of a stream before cannot be told: name a file");
	whole.len = stats.bytes;
	code = check_size(&image, whole.len, k.server.granule, "the gmem file has");
	if (code)
		return code;
	k.server.image = &image;
	k.server.regions = &whole;
	k.server.nr_regions = 1;
	code = open_ledger(&k, whole.len, true);
	if (code)
		return code;
	code = keeper_start(&k);
	if (code)
		return code;
	/* Not before: a watch without a server follows it at once. */
	if (options.policy) {
		code = gmemfd_set_policy(k.server.fd, 0, whole.len, options.policy);
		if (code && code != -ENOENT)
			fail_errno(FAILED, code, "%s: cannot change the policy", path);
	}
	code = keeper_watch(&k);
	if (!code && options.serve.state)
		ledger_remove(options.serve.state);
	return code;
}
