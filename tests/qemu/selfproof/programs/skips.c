// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the self-proof of the bench: every case is skipped.
 */
#include "tap.h"

TEST(skipped)
{
	SKIP("there is nothing to see");
}
