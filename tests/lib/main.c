// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns main() of every test program; apart from the rest, so that a benchmark can have its own.
 */
#include "tap.h"

int main(int argc, char **argv)
{
	return tap_main(argc, argv);
}
