// SPDX-License-Identifier: GPL-2.0-only
/*
 * What gmemctl says to what it is asked wrongly, to --help and --version, and what shells are offered.
 */
#include "cli.h"

CLI_PLAIN

/* As gmemctl itself offers them, so that none is forgotten; NULL behind the last. */
static char *commands[16];

static void list_commands(void)
{
	struct cli c = cli("complete", "");
	char *line, *save;
	size_t n = 0;

	CHECK_CLI(c, 0, NULL);
	for (line = strtok_r(c.out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		REQUIRE(strchr(line, '\t') && n < ARRAY_SIZE(commands) - 1);
		*strchr(line, '\t') = 0;
		if (*line != '-')
			commands[n++] = line;
	}
	CHECK(n >= 6);
}

static const struct wrong {
	const char *label;
	const char *args[10];
	int code;
	const char *says;
} wrongs[] = {
	{ "nothing", { NULL }, 2, "no command" },
	{ "command", { "walk" }, 2, "no command 'walk'" },
	{ "option", { "stat", "--colour" }, 2, "no option '--colour': 'gmemctl stat --help' lists them" },
	{ "short_option", { "stat", "-x" }, 2, "no option '-x'" },
	{ "argument_missing", { "run", "--image" }, 2, "--image: FILE is missing" },
	{ "argument_empty", { "run", "--image=" }, 2, "--image: FILE is empty" },
	{ "argument_for_flag", { "run", "--huge=yes" }, 2, "--huge takes no argument" },
	{ "count", { "run", "--threads", "0" }, 2, "--threads: '0' is no number from 1 to 4096" },
	{ "count_text", { "run", "--threads", "2x" }, 2, "'2x' is no number" },
	{ "pid", { "attach", "--pid", "-4" }, 2, "'-4' is no process id" },
	{ "mode", { "serve", "--mode", "0999" }, 2, "'0999' is no octal mode" },
	{ "interval", { "stat", "--watch", "--interval", "0" }, 2, "--interval: '0' is no number from 1 to 4096" },
	{ "interval_missing", { "stat", "--interval" }, 2, "--interval: SECONDS is missing" },
	{ "no_image", { "run", "--", "true" }, 2, "--image is missing" },
	{ "no_command", { "run", "--image", "/dev/null" }, 2, "no command" },
	{ "no_use", { "run", "--image", "/dev/null", "--", "true" }, 2, "has no {fd} or {path}" },
	{ "no_socket", { "serve", "--image", "/dev/null" }, 2, "--socket is missing" },
	{ "serve_operand", { "serve", "x" }, 2, "what is 'x'?" },
	{ "doctor_operand", { "doctor", "x" }, 2, "what is 'x'?" },
	{ "doctor_root", { "doctor", "--root", "/nowhere" }, 1, "--root /nowhere: No such file" },
	{ "doctor_kernel", { "doctor", "--kernel", "../x" }, 2, "is no kernel's release" },
	{ "dump_operands", { "dump", "/proc/1/fd/0" }, 2, "give a gmem file" },
	{ "dump_plain", { "dump", "/bin/busybox", "/tmp/x" }, 1, "/bin/busybox is no gmem file" },
	{ "dump_nobody", { "dump", "/proc/999999/fd/0", "/tmp/x" }, 1, "there is no such process or descriptor" },
	{ "stat_plain", { "stat", "/bin/busybox" }, 1, "/bin/busybox is no gmem file" },
	{ "stat_missing", { "stat", "/nowhere" }, 1, "/nowhere: No such file" },
	{ "stream_serve", { "serve", "--socket=/tmp/s", "--image=-" }, 2, "a stream can be read only once" },
};

TEST_EACH(wrong, struct wrong, wrongs)
{
	struct cli c = cli_start(-1, row->args);

	cli_end(&c, 20);
	CHECK_CLI(c, row->code, row->says);
	CHECK(!*c.out);
}

TEST(help)
{
	struct cli c = cli("--help");

	list_commands();
	CHECK_CLI(c, 0, NULL);
	for (size_t i = 0; commands[i]; i++) {
		struct cli own = cli(commands[i], "--help"), odd = cli(commands[i], "--json", "--nonsense", "--help");

		CHECK(strstr(c.out, commands[i]));
		CHECK_CLI(own, 0, NULL);
		CHECK(strstr(own.out, "usage: gmemctl "));
		CHECK(strstr(own.out, commands[i]));
		CHECK(strstr(own.out, "--json"));
		CHECK_CLI(odd, 0, NULL);
	}
	CHECK(!strstr(c.out, "complete"));
}

TEST(version)
{
	struct cli c = cli("--version"), json = cli("--version", "--json");

	list_commands();
	CHECK_CLI(c, 0, NULL);
	CHECK(!strncmp(c.out, "gmemctl ", 8));
	CHECK_CLI(json, 0, NULL);
	CHECK(strstr(json.out, "\"abi\": 1"));
	for (size_t i = 0; commands[i]; i++) {
		struct cli own = cli(commands[i], "--version"), too = cli(commands[i], "--version", "--json");

		CHECK_CLI(own, 0, NULL);
		CHECK(!strcmp(own.out, c.out));
		CHECK_CLI(too, 0, NULL);
		CHECK(!strcmp(too.out, json.out));
	}
}

/* With --json what is wrong is told in JSON, also where it stands before --json. */
TEST(errors_in_json)
{
	struct cli c = cli("--json"), other = cli("walk", "--json");

	list_commands();
	CHECK_CLI(c, 2, "{\"event\":\"error\",\"text\":\"no command: ");
	CHECK_CLI(other, 2, "{\"event\":\"error\",\"text\":\"no command 'walk'");
	for (size_t i = 0; commands[i]; i++) {
		c = cli(commands[i], "--nonsense", "--json");
		CHECK_CLI(c, 2, "{\"event\":\"error\",\"text\":\"no option '--nonsense': ");
	}
}

/* What others have named as they like is shown as it is to a machine, and harmless to a terminal. */
TEST(strange_names)
{
	struct cli c = cli("stat", "/\033[31m\n\303\251\302\233\377\"");

	CHECK_CLI(c, 1, "/\\x1b[31m\\x0a\303\251\\xc2\\x9b\\xff\": No such file");
	c = cli("stat", "--json", "/\033[31m\n\303\251\302\233\377\"");
	CHECK_CLI(c, 1, "\"/\\u001b[31m\\n\303\251\\\\xc2\\\\x9b\\\\xff\\\": No such file");
}

static const struct lost {
	const char *label;
	const char *command;
} losts[] = {
	{ "help", "--help" },
	{ "command_help", "stat --help" },
	{ "version", "--version" },
	{ "version_json", "--version --json" },
	{ "doctor", "doctor" },
	{ "doctor_json", "doctor --json" },
	{ "stat", "stat" },
	{ "stat_json", "stat --json" },
	{ "complete", "complete st" },
};

/* Nobody gets what is printed. */
TEST_EACH(lost_output, struct lost, losts)
{
	char command[128];
	struct cli c;

	snprintf(command, sizeof(command), "exec %s %s >/dev/full", cli_program, row->command);
	cli_program = BUSYBOX;
	c = cli("sh", "-c", command);
	CHECK_CLI(c, 1, "cannot write to stdout: No space left on device");
}

/* --help behind a command line that is somebody else's is theirs. */
TEST(options_of_others)
{
	struct cli c = cli("run", "--image", "/nowhere", "--", "true", "{fd}", "--help");

	CHECK_CLI(c, 1, "cannot open the image /nowhere");
	c = cli("run", "--image", "/nowhere", "true", "{fd}", "--version");
	CHECK_CLI(c, 1, "cannot open the image /nowhere");
	c = cli("run", "--image", "--help");
	CHECK_CLI(c, 2, "no command");
}

TEST(completion)
{
	struct cli c = cli("complete", "s");

	CHECK_CLI(c, 0, NULL);
	CHECK(!strncmp(c.out, "serve\t", 6));
	CHECK(strstr(c.out, "\nstat\t"));
	CHECK(!strstr(c.out, "run\t"));
	c = cli("complete", "run", "--po");
	CHECK(!strncmp(c.out, "--policy\t", 9));
	c = cli("complete", "run", "--policy", "h");
	CHECK(!strncmp(c.out, "hold\t", 5));
	c = cli("complete", "run", "--policy=h");
	CHECK(!strncmp(c.out, "--policy=hold\t", 14));
	c = cli("complete", "run", "--image=x");
	CHECK(!strcmp(c.out, ":file\n"));
	c = cli("complete", "run", "--image", "");
	CHECK(!strcmp(c.out, ":file\n"));
	c = cli("complete", "run", "--image", "x", "--", "");
	CHECK(!strcmp(c.out, ":command\n"));
	c = cli("complete", "doctor", "--root", "");
	CHECK(!strcmp(c.out, ":dir\n"));
	c = cli("complete", "nonsense", "");
	CHECK_CLI(c, 0, NULL);
	CHECK(!*c.out);
}
