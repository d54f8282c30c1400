// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preloaded by tests/cli/without-module: a /dev/gmemfd whose module speaks another ABI than everybody else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/gmemfd.h>

int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...);
int ioctl(int fd, unsigned long cmd, ...);

int open(const char *path, int flags, ...)
{
	int mode = 0;
	va_list ap;

	if (flags & O_CREAT) {
		va_start(ap, flags);
		mode = va_arg(ap, int);
		va_end(ap);
	}
	return syscall(SYS_openat, AT_FDCWD, strcmp(path, "/dev/gmemfd") ? path : "/dev/null", flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int ioctl(int fd, unsigned long cmd, ...)
{
	struct gmemfd_info *info;
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (cmd != GMEMFD_INFO)
		return syscall(SYS_ioctl, fd, cmd, arg);
	info = arg;
	info->abi = GMEMFD_ABI_VERSION + 1;
	return 0;
}
