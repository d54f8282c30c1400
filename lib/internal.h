/* SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT) */
/*
 * What the files of the library share: the call into the kernel, and how structs that may grow are taken from callers
 * that were compiled with another version of the header.
 */
#ifndef GMEMFD_INTERNAL_H
#define GMEMFD_INTERNAL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "gmemfd.h"

/* ioctl() with the error as result. */
static inline int gmemfd_call(int fd, unsigned long cmd, void *args)
{
	int ret = ioctl(fd, cmd, args);

	return ret < 0 ? -errno : ret;
}

int gmemfd_opts_take(void *mine, size_t mine_size, size_t first_size, const void *opts);
int gmemfd_call_filled(int fd, unsigned long cmd, void *out, size_t size);

#endif
