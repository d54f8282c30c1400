// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the self-proof of the bench: a case of a nested guest, by its name, that always fails.
 */
#include "tap.h"

TEST(never_passes)
{
	CHECK(false);
}

TEST(passes)
{
	CHECK(true);
}
