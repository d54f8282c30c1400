// SPDX-License-Identifier: GPL-2.0-only
/*
 * Must not compile: it calls what no kernel declares. When it does compile, undeclared functions
 * pass for present, and every other 'yes' means nothing.
 */
#include <linux/mm.h>

static inline void probe(struct folio *folio)
{
	gmemfd_no_kernel_declares_this(folio);
}
