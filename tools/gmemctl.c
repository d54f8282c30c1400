// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl: the table of its commands, which is dispatch, help, order of help and completion in one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gmemctl.h"

const struct command commands[] = {
	{
		.name = "doctor", .operands = "", .options = doctor_options, .run = cmd_doctor,
		.summary = "what is in the way of using gmemfd here, and what mends it",
	}, {
		.name = "run", .operands = "--image FILE -- COMMAND [ARGUMENT...]", .options = run_options,
		.serves = true, .run = cmd_run, .stops = true,
		.summary = "run a command whose memory is served from an image",
	}, {
		.name = "attach", .operands = "--pid PID --fd N --image FILE", .options = attach_options,
		.serves = true, .run = cmd_attach,
		.summary = "go on serving a gmem file whose page server is gone",
	}, {
		.name = "serve", .operands = "--socket PATH --image FILE", .options = serve_options,
		.serves = true, .run = cmd_serve,
		.summary = "serve VMMs that hand over their context on a socket",
	}, {
		.name = "stat", .operands = "[FILE...]", .options = stat_options, .run = cmd_stat,
		.summary = "who has gmem files, how full they are, who waits and how long",
	}, {
		.name = "dump", .operands = "FILE IMAGE", .options = dump_options, .run = cmd_dump,
		.summary = "write a gmem file out as a sparse image",
	}, {
		.name = "complete", .operands = "[WORD...]", .options = complete_options, .run = cmd_complete,
		.stops = true, .hidden = true, .summary = "what can come next, for shells",
	},
};

const struct command *const commands_end = commands + ARRAY_SIZE(commands);
const struct command *command;

static int print_version(void)
{
	struct json_object *object;

	if (!common.json) {
		printf("gmemctl %s\n", GMEMFD_VERSION);
		return flush_stdout();
	}
	object = json_new();
	json_string(object, "version", GMEMFD_VERSION);
	json_string(object, "library", gmemfd_lib_version());
	json_number(object, "abi", GMEMFD_ABI_VERSION);
	return json_print(object);
}

static void print_help(void)
{
	const struct command *each;

	puts("usage: gmemctl COMMAND [OPTION...] [OPERAND...]\n");
	for (each = commands; each < commands_end; each++)
		if (!each->hidden)
			printf("  %-8s %s\n", each->name, each->summary);
	puts("\n'gmemctl COMMAND --help' tells its options. Every command takes --json, --help and --version.\n"
	     "It ends with 0, with 1 when it failed, with 2 when it was called wrongly, and with 3 when the module is\n"
	     "absent or does not fit.");
}

static void print_command_help(void)
{
	const struct option_row *row = NULL;
	char name[40];

	printf("usage: gmemctl %s [OPTION...]%s%s\n\n%s\n\n", command->name, *command->operands ? " " : "",
	       command->operands, command->summary);
	while ((row = next_option(command, row))) {
		snprintf(name, sizeof(name), "--%s%s%s", row->name, row->arg ? " " : "", row->arg ? row->arg : "");
		printf("  %-18s %s\n", name, row->help);
	}
	printf("  %-18s %s\n  %-18s %s\n  %-18s %s\n", "--json", "speak JSON, on stderr too", "--help", "print this",
	       "--version", "print the version");
}

static const struct command *find_command(const char *name)
{
	const struct command *each;

	for (each = commands; each < commands_end; each++)
		if (!strcmp(each->name, name))
			return each;
	return NULL;
}

/* --help and --version are heard wherever an option may stand, also where the rest is wrong. */
static bool asked_for(int argc, char **argv, const char *word)
{
	const struct option_row *row;
	int i;

	for (i = 0; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], word))
			return true;
		if (command->stops && argv[i][0] != '-')
			return false;
		/* What belongs to an option is not looked at. */
		row = NULL;
		while ((row = next_option(command, row)))
			if (row->arg && !strncmp(argv[i], "--", 2) && !strcmp(argv[i] + 2, row->name))
				break;
		if (row)
			i++;
	}
	return false;
}

/* A descriptor 0, 1 or 2 that is closed would become that of a gmem file, and be written to. */
static void open_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			_exit(FAILED);
	} while (fd <= STDERR_FILENO);
	close(fd);
}

int main(int argc, char **argv)
{
	int first = 1;

	open_standard();
	if (first < argc && !strcmp(argv[first], "--json")) {
		common.json = true;
		first++;
	}
	if (first == argc)
		return fail(USAGE, "no command: 'gmemctl --help' lists them");
	if (!strcmp(argv[first], "--help") || !strcmp(argv[first], "help")) {
		print_help();
		return flush_stdout();
	}
	if (!strcmp(argv[first], "--version")) {
		common.json |= first + 1 < argc && !strcmp(argv[first + 1], "--json");
		return print_version();
	}
	command = find_command(argv[first]);
	if (!command) {
		common.json |= first + 1 < argc && !strcmp(argv[first + 1], "--json");
		return fail(USAGE, "no command '%s': 'gmemctl --help' lists them", argv[first]);
	}
	argc -= first + 1;
	argv += first + 1;
	/* Before anything can be wrong: errors are JSON, too. */
	common.json |= !command->hidden && asked_for(argc, argv, "--json");
	if (asked_for(argc, argv, "--help") && !command->hidden) {
		print_command_help();
		return flush_stdout();
	}
	if (asked_for(argc, argv, "--version") && !command->hidden)
		return print_version();
	return command->run(argc, argv);
}
