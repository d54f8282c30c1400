// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opening the device and gmem files, with words for everything that can be in the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gmemctl.h"

uint64_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

int open_device(struct gmemfd_info *info)
{
	struct gmemfd_info unused;
	int dev = gmemfd_open(NULL), err;

	switch (dev) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return -fail(UNSUPPORTED, NOT_LOADED);
	case -EACCES:
	case -EPERM:
		return -fail(FAILED, "no right to open " GMEMFD_DEVICE ": run as root, or see 'gmemctl doctor'");
	case -EPROTONOSUPPORT:
		return -fail(UNSUPPORTED, "the module that is loaded and this gmemctl (" GMEMFD_VERSION
			     ") are of different versions: install the same of both, and load the module anew");
	case -ENOTTY:
		return -fail(UNSUPPORTED, GMEMFD_DEVICE " is no device of gmemfd: remove it, and load the module anew");
	}
	if (dev < 0)
		return -fail_errno(FAILED, dev, "cannot open " GMEMFD_DEVICE " (see 'gmemctl doctor')");
	if (!info)
		info = &unused;
	err = gmemfd_info(dev, info, sizeof(*info));
	if (err) {
		close(dev);
		return -fail_errno(FAILED, err, GMEMFD_DEVICE " does not tell what it can do (see 'gmemctl doctor')");
	}
	return dev;
}

int open_gmem(const char *path, int flags, struct gmemfd_stats *stats)
{
	struct gmemfd_stats unused;
	int fd, err;

	/* Not to wait for whoever is at the other end of a FIFO. */
	fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && !strncmp(path, "/proc/", 6))
		return -fail(FAILED, "%s: there is no such process or descriptor (see 'gmemctl stat')", path);
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return -fail(FAILED, "%s: no right to open it: run as root, or as the user of that process", path);
	if (fd < 0)
		return -fail_errno(FAILED, errno, "%s", path);
	err = gmemfd_stats(fd, stats ? stats : &unused, sizeof(*stats));
	if (err) {
		close(fd);
		if (err == -ENOTTY)
			return -fail(FAILED, "%s is no gmem file: 'gmemctl stat' lists those that there are", path);
		return -fail_errno(FAILED, err, "%s: cannot be asked for its state", path);
	}
	return fd;
}

char *read_fdinfo(pid_t pid, int fd)
{
	char *path = pid ? xasprintf("/proc/%d/fdinfo/%d", pid, fd) : xasprintf("/proc/self/fdinfo/%d", fd);
	char *text = read_small(path);

	free(path);
	return text;
}

uint64_t fdinfo_number(const char *text, const char *key)
{
	size_t len = strlen(key);
	const char *line;

	for (line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len) && line[len] == ':')
			return strtoull(line + len + 1, NULL, 10);
	}
	return 0;
}

uint64_t gmem_granule(int fd)
{
	char *text = read_fdinfo(0, fd);
	uint64_t granule = fdinfo_number(text, "gmemfd-granule");

	free(text);
	return granule;
}

struct waits waits_of(const struct gmemfd_stats *stats)
{
	struct waits waits = { .ns = stats->wait_ns };
	unsigned int i;

	for (i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		waits.nr += stats->wait_log2[i];
	return waits;
}
