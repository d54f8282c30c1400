// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the self-proof of the bench: meets its plan and exits with an error.
 */
#include <stdio.h>

int main(void)
{
	puts("1..1\nok 1 - first");
	return 3;
}
