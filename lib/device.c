// SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT)
/*
 * Owns the device: opening it, what the module can do, and the contexts that are made with it.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <unistd.h>

#include "internal.h"

/* Of kernels from 6.1 on; the headers of user space may be older. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* From dkms.conf, by way of the Makefile. */
const char *gmemfd_lib_version(void)
{
	return GMEMFD_LIB_VERSION;
}

int gmemfd_open(const char *path)
{
	struct gmemfd_info info;
	int dev, err;

	dev = open(path ? path : GMEMFD_DEVICE, O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;
	err = gmemfd_info(dev, &info, sizeof(info));
	if (!err && info.abi != GMEMFD_ABI_VERSION)
		err = -EPROTONOSUPPORT;
	if (err) {
		close(dev);
		return err;
	}
	return dev;
}

int gmemfd_info(int dev, struct gmemfd_info *info, size_t size)
{
	return gmemfd_call_filled(dev, GMEMFD_INFO, info, size);
}

int gmemfd_context(int dev, int flags)
{
	struct gmemfd_context args = { .size = sizeof(args) };
	int context, err;

	if (flags & ~(O_NONBLOCK | O_CLOEXEC))
		return -EINVAL;
	context = gmemfd_call(dev, GMEMFD_CONTEXT, &args);
	if (context >= 0 && flags & O_NONBLOCK && fcntl(context, F_SETFL, O_NONBLOCK)) {
		err = -errno;
		close(context);
		return err;
	}
	return context;
}

int gmemfd_userfaultfd(int dev, int flags)
{
	int context = ioctl(dev, USERFAULTFD_IOC_NEW, (unsigned long)(unsigned int)flags | O_CLOEXEC);

	return context < 0 ? -errno : context;
}
