/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of gmemctl share: the table of commands and their options, errors, and small helpers. The page
 * server has headers of its own: serve.h, image.h, keep.h.
 */
#ifndef GMEMCTL_H
#define GMEMCTL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <gmemfd.h>
#include <json-c/json.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline uint64_t align_down(uint64_t x, uint64_t to)
{
	return x / to * to;
}

static inline uint64_t align_up(uint64_t x, uint64_t to)
{
	return align_down(x + to - 1, to);
}

/* How gmemctl ends. `run` ends as its command does; what goes wrong before the command has started is told by these. */
enum {
	DONE = 0,
	FAILED = 1,
	USAGE = 2,
	UNSUPPORTED = 3,	/* no module, another ABI, a kernel that is not supported */
};

/* How the argument of an option is read; also what a shell completes it with. */
enum option_kind {
	OPT_FLAG,	/* bool: no argument */
	OPT_STRING,	/* const char * */
	OPT_FILE,	/* const char *: the name of a file */
	OPT_DIR,	/* const char *: the name of a directory */
	OPT_SIZE,	/* uint64_t: bytes, with K, M, G or T */
	OPT_RATE,	/* uint64_t: the same, or "unlimited", which is UINT64_MAX */
	OPT_COUNT,	/* unsigned int, 1 at least */
	OPT_PID,	/* pid_t */
	OPT_FD,		/* int */
	OPT_POLICY,	/* uint32_t: GMEMFD_POLICY_POISON or HOLD */
	OPT_MODE,	/* mode_t: an octal number */
	OPT_END,	/* behind serving_options[] */
};

struct option_row {
	const char *name;	/* without the dashes */
	const char *arg;	/* what its argument is called; NULL for OPT_FLAG */
	const char *help;
	enum option_kind kind;
	size_t offset;		/* where its value goes in the command's struct */
};

struct command {
	const char *name;
	const char *operands;	/* as in the usage line */
	const char *summary;
	const struct option_row *options;	/* ends with a name of NULL */
	bool serves;		/* takes serving_options[] as well, into the head of its struct */
	bool stops;		/* everything from the first operand on is a command line of its own */
	bool hidden;		/* for shells, not for people */
	int (*run)(int argc, char **argv);
};

/* Options that each command has. */
struct common_options {
	bool json;
};

extern struct common_options common;
extern const struct command commands[];
extern const struct command *const commands_end;
/* The one that runs. */
extern const struct command *command;

int cmd_doctor(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_complete(int argc, char **argv);

extern const struct option_row serving_options[], doctor_options[], run_options[], attach_options[], serve_options[],
	stat_options[], dump_options[], complete_options[];

/* --- options.c --- */

/* The option that follows, NULL after the last; @row is NULL for the first. */
const struct option_row *next_option(const struct command *of, const struct option_row *row);
/*
 * Reads the options of the command that runs into @into and moves the operands to the front of argv, from argv[0] on.
 * Returns how many operands there are, or -1 after it has said what is wrong.
 */
int parse_options(int argc, char **argv, void *into);
bool parse_size(const char *text, uint64_t *size);
const char *policy_name(uint32_t policy);

/* --- say.c --- */

#define NOT_LOADED "the module gmemfd is not loaded: 'modprobe gmemfd', or see 'gmemctl doctor'"

/*
 * One line on stderr, "gmemctl: run: ..."; with --json an object {"event": "error", "text": ...}. The first returns
 * @code, so that a function can end with it.
 */
int fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same where errno (or -errno) is the reason. */
int fail_errno(int code, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A line that is no error; with --json an object {"event": @event, "text": ...}. */
void note(const char *event, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Text of somebody else's, such as the name of a process, as a terminal may see it; to be freed. The above do it. */
char *printable(const char *text);

/* "12.3 MiB", "4096 bytes"; in one of a few static buffers. */
const char *size_text(uint64_t bytes);
/* "1.2 ms" */
const char *time_text(uint64_t ns);

/* How JSON is printed: over lines for people, too, or as one line for each. */
#define JSON_LINES (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE)
#define JSON_LINE (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
/* A number into a JSON object; ends the program when there is no memory, as the others do. */
void json_put(struct json_object *object, const char *key, struct json_object *value);
void json_number(struct json_object *object, const char *key, uint64_t value);
void json_string(struct json_object *object, const char *key, const char *value);
void json_truth(struct json_object *object, const char *key, bool value);
struct json_object *json_new(void);
struct json_object *json_list(void);
/* An object as a line on stderr; frees it. */
void json_say(struct json_object *object);
/* Prints it on stdout, and frees it: 0, or FAILED when stdout takes nothing. */
int json_print(struct json_object *object);
/* stdout has taken all that was printed: 0, or FAILED after a message. */
int flush_stdout(void);

/* Nanoseconds of a clock that only goes on. */
uint64_t clock_ns(void);
void *xcalloc(size_t nr, size_t size);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The whole of a small file of proc or sysfs, without the newline at its end; NULL with errno. */
char *read_small(const char *path);

/* --- device.c --- */

/* The device, or -code after a message: -UNSUPPORTED without a module or with another ABI, -FAILED without rights. */
int open_device(struct gmemfd_info *info);
/* The same for a gmem file by name, "/proc/PID/fd/N"; -FAILED when it is none. */
int open_gmem(const char *path, int flags, struct gmemfd_stats *stats);
/* The fdinfo of a descriptor, @pid 0 for our own: NULL with errno; and the number behind "KEY:", 0 without it. */
char *read_fdinfo(pid_t pid, int fd);
uint64_t fdinfo_number(const char *text, const char *key);
/* How many waits there were, and how long they took together. */
struct waits {
	uint64_t nr, ns;
};

struct waits waits_of(const struct gmemfd_stats *stats);
/* The granule of a gmem file: from its fdinfo, for STATS does not tell. 0 when it cannot be told. */
uint64_t gmem_granule(int fd);
uint64_t page_size(void);

#endif
