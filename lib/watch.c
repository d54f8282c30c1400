// SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT)
/*
 * Owns watches and what a handler reads of them: setting and ending a watch, taking it over, its policy, and events.
 */
#include <limits.h>
#include <unistd.h>

#include "internal.h"

int gmemfd_watch(int fd, int context, uint64_t offset, uint64_t len, const struct gmemfd_watch_opts *opts)
{
	struct gmemfd_watch args = { .size = sizeof(args), .context = context, .offset = offset, .len = len };
	const size_t first_size = offsetof(struct gmemfd_watch_opts, reserved) + sizeof(uint32_t);
	struct gmemfd_watch_opts mine;
	int err;

	err = gmemfd_opts_take(&mine, sizeof(mine), first_size, opts);
	if (err)
		return err;
	if (mine.reserved)
		return -EINVAL;
	args.flags = mine.flags;
	args.modes = mine.modes ? mine.modes : GMEMFD_MODE_MISSING;
	args.cookie = mine.cookie;
	args.policy = mine.policy;
	return gmemfd_call(fd, GMEMFD_WATCH, &args);
}

int gmemfd_unwatch(int fd, uint64_t offset, uint64_t len)
{
	struct gmemfd_range args = { .size = sizeof(args), .offset = offset, .len = len };

	return gmemfd_call(fd, GMEMFD_UNWATCH, &args);
}

int gmemfd_attach(int fd, int context, uint64_t offset, uint64_t len)
{
	struct gmemfd_attach args = { .size = sizeof(args), .context = context, .offset = offset, .len = len };

	return gmemfd_call(fd, GMEMFD_ATTACH, &args);
}

int gmemfd_set_policy(int fd, uint64_t offset, uint64_t len, uint32_t policy)
{
	struct gmemfd_policy args = { .size = sizeof(args), .policy = policy, .offset = offset, .len = len };

	return gmemfd_call(fd, GMEMFD_POLICY, &args);
}

int gmemfd_read_events(int context, struct gmemfd_event *events, unsigned int nr)
{
	unsigned int most = INT_MAX / sizeof(*events);
	ssize_t got;

	got = read(context, events, (nr < most ? nr : most) * sizeof(*events));
	if (got < 0)
		return -errno;
	/* Only what is no context at all answers so: the caller would wait for ever, or take rubbish for events. */
	if (!got || got % sizeof(*events))
		return -EPROTO;
	return got / sizeof(*events);
}
