// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the self-proof of the bench: stops before its plan is met, and says that all is well.
 */
#include <stdio.h>

int main(void)
{
	puts("1..3\nok 1 - first");
	return 0;
}
