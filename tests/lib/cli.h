/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Running gmemctl and looking at what it says. It is the one that was built with sanitizers: what these say is a
 * failure of the case, and so is JSON, with --json, that is none. Programs whose cases valgrind sees as well, in the
 * build root, say CLI_PLAIN and save time. A program lists the gmemctl that it runs, and busybox, in its .files.
 */
#ifndef GMEMFD_TESTS_CLI_H
#define GMEMFD_TESTS_CLI_H

#include "tap.h"

#define GMEMCTL "/build/gmemctl.asan/gmemctl"
#define GMEMCTL_PLAIN "/build/gmemctl/gmemctl"
#define BUSYBOX "/bin/busybox"

extern const char *cli_program;
#define CLI_PLAIN								\
	__attribute__((constructor)) static void cli_plain(void)		\
	{									\
		cli_program = GMEMCTL_PLAIN;					\
	}

struct cli {
	pid_t pid;
	int code;		/* exit code, or 128 and the signal */
	char *out, *err;	/* what it has said */
	bool json, foreign;	/* that has to be JSON; but others may have said something as well */
	/* The rest is the helpers'. */
	char out_path[32], err_path[32];
};

/* Starts gmemctl with these arguments, up to NULL; stdin is @in, or /dev/null for -1. */
struct cli cli_start(int in, const char *const *args);
/* Waits for its end, so many seconds (times TEST_SLOW); ends the case if that does not come. Fills in the result. */
void cli_end(struct cli *cli, double seconds);
/* What it has said on stderr so far. */
const char *cli_err(struct cli *cli);
/* Whether it says this on stderr, within 10 seconds (times TEST_SLOW). */
bool cli_says(struct cli *cli, const char *text);

/* Both at once: cli("stat", "--json"). */
#define cli(...) ({								\
	struct cli cli_ = cli_start(-1, (const char *const []){ __VA_ARGS__, NULL });	\
	cli_end(&cli_, 20);							\
	cli_; })
#define cli_run(in, ...) cli_start(in, (const char *const []){ __VA_ARGS__, NULL })

/*
 * It ended with this code and said one line on stderr that contains the text (or nothing, for NULL).
 */
#define CHECK_CLI(result, want_code, want_text) cli_check(&(result), want_code, want_text, __FILE__, __LINE__)
void cli_check(const struct cli *cli, int code, const char *text, const char *file, int line);

/* The page server that a keeper has now, other than @not; 0 if none comes within 10 seconds (times TEST_SLOW). */
pid_t cli_server(pid_t keeper, pid_t not);
/* A child of this process by the name of its program, within 10 seconds (times TEST_SLOW); 0 for none. */
pid_t cli_child(pid_t parent, const char *name, pid_t not);
/* The same without waiting. */
pid_t cli_child_now(pid_t parent, const char *name, pid_t not);

/* Stops all threads of a process, and waits until none of them runs any more; ends the case if that does not come. */
void cli_stop(pid_t pid);

/* An image of so many pages in /tmp: pattern_fill(offset), but for the pages of @hole, which is one ("from", "to"). */
void cli_image(const char *path, size_t pages, size_t hole_from, size_t hole_to);
/* Breaks the memory of a page of the image, so that reading it is EIO; skips the case where that cannot be had. */
void cli_break_page(const char *path, size_t page);
/* Whether the page of the image or the memory is what it should be. */
bool cli_page_is(const void *page, uint64_t offset, size_t hole_from, size_t hole_to);

/* gmemctl run with a command that does nothing but have the memory, which is mapped here as well. */
struct cli_vmm {
	struct cli run;
	pid_t command;
	char number[16];	/* of the command's descriptor */
	int fd;
	unsigned char *map;
	size_t bytes;
};

/* Whether the file comes to be there and to hold a whole line, within 10 seconds (times TEST_SLOW). */
bool cli_whole_line(const char *path);

/* Options of run, up to NULL; --image is among them. */
struct cli_vmm cli_vmm_start(int in, size_t bytes, const char *const *options);
#define cli_vmm(bytes, ...) cli_vmm_start(-1, bytes, (const char *const []){ __VA_ARGS__, NULL })
/* Kills the command, and checks that everything ends with it. */
void cli_vmm_end(struct cli_vmm *vmm);

/* The number after "key": in a line of JSON that contains @event, the last one; -1 for none. */
long long cli_json(const char *text, const char *event, const char *key);

#endif
