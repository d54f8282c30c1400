/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Failing on purpose, on a kernel with fault injection: the n-th allocation, or copy from or to user space, that this
 * thread makes in the kernel.
 */
#ifndef GMEMFD_TESTS_FAIL_H
#define GMEMFD_TESTS_FAIL_H

#include "tap.h"

enum fail_what {
	FAIL_MEMORY,		/* slab objects and pages */
	FAIL_USERCOPY,
};

/* Ends the case as skipped where the kernel cannot do it. Silences the kernel's own reports. */
void fail_prepare(enum fail_what what);

/* From here on the n-th of this thread fails. */
void fail_arm(unsigned int nth);
/* Not any more. Did it fail? */
bool fail_disarm(void);

/* The next n to try: every one of the first FAIL_ALL, fewer of the many alike that follow. */
#define FAIL_ALL 100
unsigned int fail_next(unsigned int nth);

/* All allocations of pages of this order and above fail, for this thread and those it makes; ~0: none. */
void fail_pages_from(unsigned int order);

#endif
