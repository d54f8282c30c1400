// SPDX-License-Identifier: GPL-2.0-only
/*
 * A caller of the library in C++, compiled once for each standard that cplusplus.c runs; ENTRY is what it calls. All of
 * the header is used that is not only declarations.
 */
#include <gmemfd.h>

#include <sys/mman.h>
#include <unistd.h>

extern "C" int ENTRY(void);

/* The line at which something was not as it should, or 0. */
int ENTRY(void)
{
	const size_t page = sysconf(_SC_PAGESIZE), bytes = 8 * page;
	static char content[1 << 16];
	struct gmemfd_range ops[6];
	struct gmemfd_stats stats;
	struct gmemfd_info info;
	uint64_t done = 0;
	void *map = nullptr;

	int dev = gmemfd_open(nullptr);
	if (dev < 0 || gmemfd_info(dev, &info, sizeof(info)) || info.abi != GMEMFD_ABI_VERSION)
		return __LINE__;

	gmemfd_create_opts create = {};
	create.sz = sizeof(create);
	create.policy = GMEMFD_POLICY_RELEASE;
	int fd = gmemfd_create(dev, bytes, &create);
	int context = gmemfd_context(dev, 0);
	if (fd < 0 || context < 0 || gmemfd_map(fd, 0, bytes, 0, &map))
		return __LINE__;

	gmemfd_watch_opts watch = {};
	watch.sz = sizeof(watch);
	watch.modes = GMEMFD_MODE_ALL;
	if (gmemfd_watch(fd, context, 0, bytes, &watch))
		return __LINE__;
	content[page] = 5;
	if (gmemfd_copy(fd, 0, content, 2 * page, GMEMFD_RANGE_CLOSED, &done) || done != 2 * page)
		return __LINE__;
	gmemfd_prep_continue(&ops[0], 0, 2 * page, 0);
	gmemfd_prep_copy(&ops[1], 2 * page, content + page, page, 0);
	gmemfd_prep_zero(&ops[2], 3 * page, page, 0);
	gmemfd_prep_poison(&ops[3], 4 * page, page, 0);
	gmemfd_prep_fill(&ops[4], 5 * page, -1, 0, page, 0);
	gmemfd_prep_wake(&ops[5], 0, bytes);
	if (gmemfd_resolve(fd, ops, 6, GMEMFD_RESOLVE_KEEP_GOING, nullptr) != 1)
		return __LINE__;
	if (static_cast<char *>(map)[page] != 5 || static_cast<char *>(map)[2 * page] != 5)
		return __LINE__;
	if (gmemfd_stats(fd, &stats, sizeof(stats)) || stats.continued != 2 * page)
		return __LINE__;
	munmap(map, bytes);
	close(context);
	close(fd);
	close(dev);
	return 0;
}
