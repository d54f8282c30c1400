// SPDX-License-Identifier: (LGPL-2.1-or-later OR MIT)
/*
 * Owns what the library has to do with KVM: memslots that are bound to gmem files, and the faults of vCPUs.
 */
#include "internal.h"

int gmemfd_bind(int fd, int vm_fd, const struct gmemfd_memslot *memslot, void **address)
{
	const size_t first_size = offsetof(struct gmemfd_memslot, len) + sizeof(uint64_t);
	struct gmemfd_bind args = { .size = sizeof(args), .vm_fd = vm_fd };
	struct gmemfd_memslot mine;
	int err;

	err = gmemfd_opts_take(&mine, sizeof(mine), first_size, memslot);
	if (err)
		return err;
	args.flags = mine.flags;
	args.offset = mine.offset;
	args.vm = mine.vm;
	args.slot = mine.slot;
	args.slot_flags = mine.slot_flags;
	args.gpa = mine.gpa;
	args.len = mine.len;
	err = gmemfd_call(fd, GMEMFD_BIND, &args);
	if (!err && address)
		*address = (void *)(uintptr_t)args.address;
	return err;
}

int gmemfd_unbind(int fd, int vm_fd, uint32_t slot, uint64_t flags)
{
	struct gmemfd_bind args = { .size = sizeof(args), .vm_fd = vm_fd, .flags = flags, .slot = slot };

	return gmemfd_call(fd, GMEMFD_UNBIND, &args);
}

int gmemfd_bindings(int fd, uint64_t after, struct gmemfd_binding *entries, unsigned int nr, size_t size)
{
	struct gmemfd_bindings args = {
		.size = sizeof(args),
		.nr = nr <= INT32_MAX ? nr : INT32_MAX,
		.after = after,
		.entries = (uintptr_t)entries,
		.entry_size = (uint32_t)size,
	};
	int err;

	if (size > UINT32_MAX)
		return -EINVAL;
	err = gmemfd_call(fd, GMEMFD_BINDINGS, &args);
	return err ? err : (int)args.nr;
}

int gmemfd_vcpu_fault(int context, int vcpu_fd, struct gmemfd_event *event)
{
	struct gmemfd_vcpu_fault args = { .size = sizeof(args), .vcpu_fd = vcpu_fd };
	int err = gmemfd_call(context, GMEMFD_VCPU_FAULT, &args);

	if (!err)
		*event = args.event;
	return err;
}
