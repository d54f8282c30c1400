// SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT)
/*
 * Owns the two ways in which a struct crosses between a caller and a library of different versions: options that come
 * in, and answers of the kernel that go out.
 */
#include <string.h>

#include "internal.h"

/* No struct of the library comes near to it: the caller has not set the size. */
#define MAX_SIZE 4096

/**
 * gmemfd_opts_take - bring a caller's options into this library's struct
 * @mine: the struct as this library knows it; zero where the caller says nothing
 * @mine_size: its size
 * @first_size: its size in the first version of the library that had it
 * @opts: the caller's, which begin with their size; NULL: all zero
 *
 * Return: 0; -EINVAL when it is too short; -E2BIG when it says something that this library does not know.
 */
int gmemfd_opts_take(void *mine, size_t mine_size, size_t first_size, const void *opts)
{
	const unsigned char *bytes = opts;
	size_t size;

	memset(mine, 0, mine_size);
	if (!opts)
		return 0;
	memcpy(&size, opts, sizeof(size));
	if (size < first_size)
		return -EINVAL;
	if (size > MAX_SIZE)
		return -E2BIG;
	for (size_t i = mine_size; i < size; i++)
		if (bytes[i])
			return -E2BIG;
	memcpy(mine, opts, size < mine_size ? size : mine_size);
	return 0;
}

/**
 * gmemfd_call_filled - call a command that fills a struct and takes nothing
 * @fd: descriptor
 * @cmd: the command
 * @out: the struct; it begins with 32 bits of its size
 * @size: its size, as the caller knows it
 *
 * What the kernel does not know stays zero.
 *
 * Return: 0 or -errno.
 */
int gmemfd_call_filled(int fd, unsigned long cmd, void *out, size_t size)
{
	uint32_t head = size;

	if (size < sizeof(head))
		return -EINVAL;
	if (size > MAX_SIZE)
		return -E2BIG;
	memset(out, 0, size);
	memcpy(out, &head, sizeof(head));
	return gmemfd_call(fd, cmd, out);
}
