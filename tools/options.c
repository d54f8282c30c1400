// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads options by the tables that the help and the shells' completion are made of.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <limits.h>

#include "gmemctl.h"

struct common_options common;

bool parse_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMGT";
	unsigned int shift = 0;
	const char *unit;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*size = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, *end & ~0x20);
		if (!unit || !*unit)
			return false;
		shift = 10 * (unit - units + 1);
		end++;
		if (!strcmp(end, "iB") || !strcmp(end, "B"))
			end += strlen(end);
	}
	if (*end || *size > UINT64_MAX >> shift)
		return false;
	*size <<= shift;
	return true;
}

const char *policy_name(uint32_t policy)
{
	switch (policy) {
	case GMEMFD_POLICY_RELEASE:
		return "release";
	case GMEMFD_POLICY_POISON:
		return "poison";
	case GMEMFD_POLICY_HOLD:
		return "hold";
	}
	return "default";
}

static bool parse_number(const char *text, int base, unsigned long min, unsigned long max, unsigned long *value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoul(text, &end, base);
	return !errno && !*end && *value >= min && *value <= max;
}

/* Sets one option; false after it has said what is wrong. */
static bool set_option(const struct option_row *row, const char *text, void *into)
{
	void *value = (char *)into + row->offset;
	unsigned long number;

	switch (row->kind) {
	case OPT_FLAG:
		*(bool *)value = true;
		return true;
	case OPT_STRING:
	case OPT_FILE:
	case OPT_DIR:
		if (*text) {
			*(const char **)value = text;
			return true;
		}
		fail(USAGE, "--%s: %s is empty", row->name, row->arg);
		return false;
	case OPT_RATE:
		if (!strcmp(text, "unlimited")) {
			*(uint64_t *)value = UINT64_MAX;
			return true;
		}
		if (parse_size(text, value) && *(uint64_t *)value)
			return true;
		fail(USAGE, "--%s: '%s' is no rate: say bytes a second, as a number with K, M, G or T, or unlimited",
		     row->name, text);
		return false;
	case OPT_SIZE:
		if (parse_size(text, value) && *(uint64_t *)value)
			return true;
		fail(USAGE, "--%s: '%s' is no size: say bytes, or a number with K, M, G or T", row->name, text);
		return false;
	case OPT_COUNT:
		if (parse_number(text, 10, 1, 4096, &number)) {
			*(unsigned int *)value = number;
			return true;
		}
		fail(USAGE, "--%s: '%s' is no number from 1 to 4096", row->name, text);
		return false;
	case OPT_PID:
		if (parse_number(text, 10, 1, INT_MAX, &number)) {
			*(pid_t *)value = number;
			return true;
		}
		fail(USAGE, "--%s: '%s' is no process id", row->name, text);
		return false;
	case OPT_FD:
		if (parse_number(text, 10, 0, INT_MAX, &number)) {
			*(int *)value = number;
			return true;
		}
		fail(USAGE, "--%s: '%s' is no descriptor's number", row->name, text);
		return false;
	case OPT_MODE:
		if (parse_number(text, 8, 0, 0777, &number)) {
			*(mode_t *)value = number;
			return true;
		}
		fail(USAGE, "--%s: '%s' is no octal mode such as 0660", row->name, text);
		return false;
	case OPT_POLICY:
		if (!strcmp(text, "poison"))
			*(uint32_t *)value = GMEMFD_POLICY_POISON;
		else if (!strcmp(text, "hold"))
			*(uint32_t *)value = GMEMFD_POLICY_HOLD;
		else if (!strcmp(text, "release"))
			return !fail(USAGE, "--%s: 'release' would show zeros, not the image: say poison or hold",
				     row->name);
		else
			return !fail(USAGE, "--%s: '%s' is no policy: say poison or hold", row->name, text);
		return true;
	case OPT_END:
		break;
	}
	return false;
}

const struct option_row *next_option(const struct command *of, const struct option_row *row)
{
	row = row ? row + 1 : of->options;
	/* The end of its own: the common ones follow. Theirs has a kind that no other end has. */
	if (!row->name && row->kind == OPT_FLAG && of->serves)
		row = serving_options;
	return row->name ? row : NULL;
}

static const struct option_row *find_option(const char *name, size_t len)
{
	const struct option_row *row = NULL;

	while ((row = next_option(command, row)))
		if (strlen(row->name) == len && !strncmp(row->name, name, len))
			return row;
	return NULL;
}

int parse_options(int argc, char **argv, void *into)
{
	const struct option_row *row;
	const char *equals, *name;
	int i, operands = 0;
	size_t len;

	for (i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if (argv[i][0] != '-' || !argv[i][1]) {
			if (command->stops)
				break;
			argv[operands++] = argv[i];
			continue;
		}
		if (!strcmp(argv[i], "--json")) {
			common.json = true;
			continue;
		}
		name = argv[i] + 2;
		equals = strchr(name, '=');
		len = equals ? (size_t)(equals - name) : strlen(name);
		row = argv[i][1] == '-' ? find_option(name, len) : NULL;
		if (!row) {
			fail(USAGE, "no option '%s': 'gmemctl %s --help' lists them", argv[i], command->name);
			return -1;
		}
		if (row->kind == OPT_FLAG && equals) {
			fail(USAGE, "--%s takes no argument", row->name);
			return -1;
		}
		if (row->kind != OPT_FLAG && !equals && i + 1 >= argc) {
			fail(USAGE, "--%s: %s is missing", row->name, row->arg);
			return -1;
		}
		if (!set_option(row, row->kind == OPT_FLAG ? NULL : equals ? equals + 1 : argv[++i], into))
			return -1;
	}
	while (i < argc)
		argv[operands++] = argv[i++];
	return operands;
}
