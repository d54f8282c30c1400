// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the self-proof of the bench: never ends, whatever the harness thinks of it.
 */
#include <unistd.h>

int main(void)
{
	for (;;)
		pause();
}
