// SPDX-License-Identifier: GPL-2.0-only
/*
 * `gmemctl complete WORD...`: what can stand in the place of the last word, for the completion of shells. Prints lines
 * "word<TAB>what it is"; a line ":file" or ":dir" or ":command" says that names of that kind are wanted, behind the '='
 * where the word is "--option=...".
 */
#include <string.h>

#include "gmemctl.h"

const struct option_row complete_options[] = { {} };

static void offer(const char *word, const char *dashes, const char *candidate, const char *what)
{
	size_t len = strlen(dashes);

	/* What has been typed has to begin the candidate, dashes included. */
	if (!strncmp(word, dashes, strlen(word) < len ? strlen(word) : len) &&
	    (strlen(word) <= len || !strncmp(word + len, candidate, strlen(word) - len)))
		printf("%s%s\t%s\n", dashes, candidate, what);
}

/* @before is what of the word stands before the value: "--NAME=", or nothing. */
static void offer_value(const struct option_row *row, const char *before, const char *word)
{
	switch (row->kind) {
	case OPT_POLICY:
		offer(word, before, "poison", "who touches what is missing gets SIGBUS");
		offer(word, before, "hold", "who touches what is missing waits for the next server");
		break;
	case OPT_FILE:
		puts(":file");
		break;
	case OPT_DIR:
		puts(":dir");
		break;
	default:
		break;
	}
}

int cmd_complete(int argc, char **argv)
{
	const struct option_row *row = NULL, *last = NULL;
	const struct command *of;
	const char *word = argc ? argv[argc - 1] : "";
	char before[64];
	int i;

	if (argc <= 1) {
		for (of = commands; of < commands_end; of++)
			if (!of->hidden)
				offer(word, "", of->name, of->summary);
		offer(word, "--", "help", "what there is");
		offer(word, "--", "version", "the version");
		offer(word, "--", "json", "speak JSON");
		return flush_stdout();
	}
	for (of = commands; of < commands_end; of++)
		if (!strcmp(of->name, argv[0]) && !of->hidden)
			break;
	if (of == commands_end)
		return DONE;
	for (i = 1; i < argc - 1; i++) {
		if (last) {
			last = NULL;
			continue;
		}
		if (!strcmp(argv[i], "--") || (of->stops && argv[i][0] != '-')) {
			puts(of->stops ? ":command" : ":file");
			return flush_stdout();
		}
		row = NULL;
		while ((row = next_option(of, row)))
			if (row->arg && !strncmp(argv[i], "--", 2) && !strcmp(argv[i] + 2, row->name))
				last = row;
	}
	if (last) {
		offer_value(last, "", word);
		return flush_stdout();
	}
	row = NULL;
	while ((row = next_option(of, row))) {
		snprintf(before, sizeof(before), "--%s=", row->name);
		if (row->arg && !strncmp(word, before, strlen(before))) {
			offer_value(row, before, word);
			return flush_stdout();
		}
	}
	row = NULL;
	while ((row = next_option(of, row)))
		offer(word, "--", row->name, row->help);
	offer(word, "--", "json", "speak JSON");
	offer(word, "--", "help", "what the command takes");
	if (*word != '-' && of->stops)
		puts(":command");
	else if (*word != '-' && *of->operands && *of->operands != '-')
		puts(":file");
	return flush_stdout();
}
