/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tests of bindings: a VM with a memslot that can be bound, and looks at what there is.
 */
#ifndef GMEMFD_TESTS_KVM_BIND_H
#define GMEMFD_TESTS_KVM_BIND_H

#include "gmem.h"
#include "guest.h"

#define PAGE 4096ul
#define PAGES 16ul
#define SIZE (PAGES * PAGE)
#define GPA 0x100000ul
#define COOKIE 0xc00c1e5ul

struct rig {
	struct guest g;
	int fd;
	unsigned char *map;
	int slot;
};

/* A file, all of it mapped and in a memslot. */
static inline struct rig rig(void)
{
	struct rig r;

	guest_create(&r.g);
	r.fd = xgmem(SIZE);
	r.map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, 0);
	r.slot = guest_add_memory(&r.g, GPA, r.map, SIZE);
	return r;
}

static inline int bind_all(struct rig *r)
{
	return gmem_bind(r->fd, r->g.vm, r->slot, GPA, 0, SIZE, COOKIE);
}

static inline unsigned int nr_bindings(int fd)
{
	return xgmem_stats(fd).bindings;
}

/* How many the list has; what is not any more ends with that. */
static inline int listed(int fd)
{
	struct gmemfd_binding entries[16];

	return REQUIRE_OK(gmem_bindings(fd, entries, ARRAY_SIZE(entries), 0));
}

static inline struct gmemfd_binding only_binding(int fd)
{
	struct gmemfd_binding entries[2];

	REQUIRE_EQ(gmem_bindings(fd, entries, 2, 0), 1);
	return entries[0];
}

/* KVM has a memslot of that number. */
static inline bool has_slot(struct guest *g, uint32_t slot)
{
	int fd = xgmem(PAGE), ret = gmem_bind(fd, g->vm, slot, GPA, 0, PAGE, 0), err = errno;

	REQUIRE_EQ(ret, -1);
	REQUIRE(err == ENOENT || err == EINVAL || err == EEXIST);
	close(fd);
	return err != ENOENT;
}

static inline bool is_mapped(const void *at)
{
	unsigned char resident;

	return !mincore((void *)((uintptr_t)at & ~(PAGE - 1)), PAGE, &resident);
}

static inline long address_space(void)
{
	return read_field("/proc/self/status", "VmSize:");
}

#endif
