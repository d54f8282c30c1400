// SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT)
/*
 * Owns the gmem file as a file: making it, mapping it, punching holes into it, and its counters.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "internal.h"

#define MAP_FLAGS (GMEMFD_MAP_PRIVATE | GMEMFD_MAP_READ_ONLY | GMEMFD_MAP_AT | GMEMFD_MAP_REPLACE)

int gmemfd_create(int dev, uint64_t bytes, const struct gmemfd_create_opts *opts)
{
	struct gmemfd_create args = { .size = sizeof(args), .bytes = bytes };
	const size_t first_size = offsetof(struct gmemfd_create_opts, node) + sizeof(uint32_t);
	struct gmemfd_create_opts mine;
	int err;

	err = gmemfd_opts_take(&mine, sizeof(mine), first_size, opts);
	if (err)
		return err;
	args.flags = mine.flags;
	args.policy = mine.policy;
	args.node = mine.node;
	return gmemfd_call(dev, GMEMFD_CREATE, &args);
}

int gmemfd_map(int fd, uint64_t offset, size_t len, uint32_t flags, void **address)
{
	int prot = PROT_READ, how = MAP_SHARED;
	void *at = NULL;

	if (flags & ~MAP_FLAGS || (flags & GMEMFD_MAP_REPLACE && !(flags & GMEMFD_MAP_AT)) || offset > INT64_MAX)
		return -EINVAL;
	if (!(flags & GMEMFD_MAP_READ_ONLY))
		prot |= PROT_WRITE;
	/* What a clone will write is seldom all of it; a reservation would count all. */
	if (flags & GMEMFD_MAP_PRIVATE)
		how = MAP_PRIVATE | MAP_NORESERVE;
	if (flags & GMEMFD_MAP_AT) {
		at = *address;
		how |= flags & GMEMFD_MAP_REPLACE ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	}
	at = mmap(at, len, prot, how, fd, (off_t)offset);
	if (at == MAP_FAILED)
		return -errno;
	*address = at;
	return 0;
}

int gmemfd_punch(int fd, uint64_t offset, uint64_t len)
{
	if (offset > INT64_MAX || len > INT64_MAX)
		return -EINVAL;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) ? -errno : 0;
}

int gmemfd_stats(int fd, struct gmemfd_stats *stats, size_t size)
{
	return gmemfd_call_filled(fd, GMEMFD_STATS, stats, size);
}
