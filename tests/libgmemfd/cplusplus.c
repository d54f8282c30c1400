// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library called from C++: caller.cc, as each standard has it. tests.mk compiles it with all warnings as errors.
 */
#include "tap.h"

int called_from_cxx11(void);
int called_from_cxx20(void);

static const struct standard_row {
	const char *label;
	int (*call)(void);
} standards[] = {
	{ "cxx11", called_from_cxx11 },
	{ "cxx20", called_from_cxx20 },
};

TEST_EACH(works, struct standard_row, standards)
{
	/* Else the line of caller.cc. */
	CHECK_EQ(row->call(), 0);
}
