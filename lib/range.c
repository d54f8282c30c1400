// SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT)
/*
 * Owns the operations on a range, by which a handler provides pages, one by one and many in one call.
 */
#include "internal.h"

/*
 * The kernel does what it can and tells how far it came, but why it stopped there it only says to who asks for the
 * rest. So the rest is asked for, until all is done or nothing more can be.
 */
static int resolve_range(int fd, unsigned long cmd, struct gmemfd_range *args, uint64_t *done)
{
	uint64_t first = args->offset;
	int err;

	args->size = sizeof(*args);
	for (;;) {
		err = gmemfd_call(fd, cmd, args);
		if (!err) {
			args->offset += args->len;
			break;
		}
		/* EAGAIN is also what a source may say; then nothing was done. */
		if (err != -EAGAIN || args->done <= 0 || (uint64_t)args->done >= args->len)
			break;
		args->offset += args->done;
		args->len -= args->done;
		if (cmd == GMEMFD_COPY || cmd == GMEMFD_FILL)
			args->src += args->done;
	}
	if (done)
		*done = args->offset - first;
	return err;
}

int gmemfd_copy(int fd, uint64_t offset, const void *src, uint64_t len, uint64_t flags, uint64_t *done)
{
	struct gmemfd_range args = { .flags = flags, .offset = offset, .len = len, .src = (uintptr_t)src };

	return resolve_range(fd, GMEMFD_COPY, &args, done);
}

int gmemfd_fill(int fd, uint64_t offset, int src_fd, uint64_t src_offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	struct gmemfd_range args = {
		.flags = flags, .offset = offset, .len = len, .src = src_offset, .src_fd = src_fd,
	};

	return resolve_range(fd, GMEMFD_FILL, &args, done);
}

int gmemfd_zero(int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	struct gmemfd_range args = { .flags = flags, .offset = offset, .len = len };

	return resolve_range(fd, GMEMFD_ZERO, &args, done);
}

int gmemfd_continue(int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	struct gmemfd_range args = { .flags = flags, .offset = offset, .len = len };

	return resolve_range(fd, GMEMFD_CONTINUE, &args, done);
}

int gmemfd_poison(int fd, uint64_t offset, uint64_t len, uint64_t flags, uint64_t *done)
{
	struct gmemfd_range args = { .flags = flags, .offset = offset, .len = len };

	return resolve_range(fd, GMEMFD_POISON, &args, done);
}

int gmemfd_wake(int fd, uint64_t offset, uint64_t len)
{
	struct gmemfd_range args = { .size = sizeof(args), .offset = offset, .len = len };

	return gmemfd_call(fd, GMEMFD_WAKE, &args);
}

int gmemfd_resolve(int fd, struct gmemfd_range *ops, unsigned int nr, uint64_t flags, unsigned int *tried)
{
	struct gmemfd_resolve args = { .size = sizeof(args), .nr = nr, .flags = flags, .ops = (uintptr_t)ops };
	int err = gmemfd_call(fd, GMEMFD_RESOLVE, &args);

	if (tried)
		*tried = args.done;
	return err ? err : (int)args.failed;
}
