// SPDX-License-Identifier: GPL-2.0-only
/*
 * Binding memslots of VMs to a gmem file: what is refused, what is made and unmade, and what becomes of a binding when
 * its memslot or its mapping changes or goes. What events say of it is tested in where.c.
 */
#include "bind.h"

#include <sys/resource.h>

/* --- A memslot that is there ----------------------------------------------------------------------- */

TEST(binds_and_unbinds)
{
	struct rig r = rig();
	struct gmemfd_bind bind = { .size = sizeof(bind), .vm_fd = r.g.vm, .slot = r.slot, .gpa = GPA, .len = SIZE,
				    .vm = COOKIE };
	struct gmemfd_binding entry;
	uint64_t id;

	REQUIRE_OK(ioctl(r.fd, GMEMFD_BIND, &bind));
	CHECK_EQ(bind.address, (uintptr_t)r.map);
	CHECK_EQ(nr_bindings(r.fd), 1);
	entry = only_binding(r.fd);
	id = entry.id;
	CHECK_EQ(entry.flags, 0);
	CHECK_EQ(entry.offset, 0);
	CHECK_EQ(entry.len, SIZE);
	CHECK_EQ(entry.vm, COOKIE);
	CHECK_EQ(entry.gpa, GPA);
	CHECK_EQ(entry.address, (uintptr_t)r.map);
	CHECK_EQ(entry.slot, r.slot);
	CHECK_EQ(entry.pid, getpid());
	CHECK_ERRNO(bind_all(&r), EEXIST);
	CHECK_EQ(only_binding(r.fd).id, id);
	CHECK_OK(gmem_unbind(r.fd, r.g.vm, r.slot, 0));
	CHECK_EQ(nr_bindings(r.fd), 0);
	CHECK_EQ(listed(r.fd), 0);
	CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, r.slot, 0), ENOENT);
	/* Both are where they were. */
	CHECK(is_mapped(r.map));
	CHECK(has_slot(&r.g, r.slot));
	CHECK_OK(bind_all(&r));
	CHECK(only_binding(r.fd).id > id);
	guest_destroy(&r.g);
}

TEST(slots_that_are_not_there)
{
	static const uint32_t slots[] = { 1, 2, 31, 0x7fff, 0xffff, 1 << 16, 2 << 16, 0xffff0000, 0x80000000,
					  UINT32_MAX };
	struct rig r = rig();

	for (size_t i = 0; i < ARRAY_SIZE(slots); i++) {
		CHECK_ERRNO(gmem_bind(r.fd, r.g.vm, slots[i], GPA, 0, SIZE, 0), ENOENT);
		CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, slots[i], 0), ENOENT);
		CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, slots[i], GMEMFD_BIND_SET), ENOENT);
	}
	CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, r.slot, 0), ENOENT);
	guest_remove_memory(&r.g, r.slot);
	CHECK_ERRNO(bind_all(&r), ENOENT);
	CHECK_EQ(nr_bindings(r.fd), 0);
	guest_destroy(&r.g);
}

TEST(slot_is_not_as_told)
{
	struct rig r = rig();
	int other = xgmem(SIZE), huge = xgmem_huge(HPAGE_SIZE);
	const struct { const char *what; int fd; uint64_t gpa, offset, len; } bad[] = {
		{ "shorter", r.fd, GPA, 0, SIZE - PAGE },
		{ "from the second page on", r.fd, GPA, PAGE, SIZE - PAGE },
		{ "the second page of the memslot", r.fd, GPA + PAGE, PAGE, SIZE - PAGE },
		{ "another address", r.fd, GPA + PAGE, 0, SIZE },
		{ "address 0", r.fd, 0, 0, SIZE },
		{ "another file", other, GPA, 0, SIZE },
		{ "a file of huge pages", huge, GPA, 0, SIZE },
		{ "somewhere in a file of huge pages", huge, GPA, 3 * PAGE, SIZE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t gpa = bad[i].gpa, offset = bad[i].offset, len = bad[i].len;

		if (!CHECK_ERRNO(gmem_bind(bad[i].fd, r.g.vm, r.slot, gpa, offset, len, 0), EINVAL))
			tap_diag("%s", bad[i].what);
	}
	CHECK_EQ(nr_bindings(r.fd) + nr_bindings(other) + nr_bindings(huge), 0);
	CHECK_OK(bind_all(&r));
	guest_destroy(&r.g);
}

/* What is mapped under the memslot, with a second file beside. */
enum under { ANON, OTHER_FILE, HALF_ANON, HALF_OTHER, HOLE_IN_IT, SWAPPED, TWO_MAPPINGS, PRIVATE, READ_ONLY, PROT_NOT };

static const struct under_row {
	const char *label;
	enum under under;
	int err;
} unders[] = {
	{ "anonymous", ANON, EINVAL },
	{ "another_file", OTHER_FILE, EINVAL },
	{ "half_anonymous", HALF_ANON, EINVAL },
	{ "half_another_file", HALF_OTHER, EINVAL },
	{ "page_unmapped", HOLE_IN_IT, EINVAL },
	{ "halves_swapped", SWAPPED, EINVAL },
	{ "two_mappings", TWO_MAPPINGS, 0 },
	{ "private", PRIVATE, 0 },
	{ "read_only", READ_ONLY, 0 },
	{ "no_access", PROT_NOT, 0 },
};

TEST_EACH(mapping_under_the_slot, struct under_row, unders)
{
	struct rig r = rig();
	int other = xgmem(SIZE), flags = MAP_SHARED | MAP_FIXED, prot = PROT_READ | PROT_WRITE;
	unsigned char *half = r.map + SIZE / 2;

	switch (row->under) {
	case ANON:
		xmmap(r.map, SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case OTHER_FILE:
		xmmap(r.map, SIZE, prot, flags, other, 0);
		break;
	case HALF_ANON:
		xmmap(half, SIZE / 2, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case HALF_OTHER:
		xmmap(r.map, SIZE / 2, prot, flags, other, 0);
		break;
	case HOLE_IN_IT:
		REQUIRE_OK(munmap(r.map + 5 * PAGE, PAGE));
		break;
	case SWAPPED:
		xmmap(r.map, SIZE / 2, prot, flags, r.fd, SIZE / 2);
		xmmap(half, SIZE / 2, prot, flags, r.fd, 0);
		break;
	case TWO_MAPPINGS:
		REQUIRE_OK(munmap(r.map, SIZE));
		xmmap(half, SIZE / 2, PROT_READ, flags, r.fd, SIZE / 2);
		xmmap(r.map, SIZE / 2, prot, flags, r.fd, 0);
		break;
	case PRIVATE:
		xmmap(r.map, SIZE, prot, MAP_PRIVATE | MAP_FIXED, r.fd, 0);
		break;
	case READ_ONLY:
		REQUIRE_OK(mprotect(r.map, SIZE, PROT_READ));
		break;
	case PROT_NOT:
		REQUIRE_OK(mprotect(r.map, SIZE, PROT_NONE));
		break;
	}
	if (row->err)
		CHECK_ERRNO(bind_all(&r), row->err);
	else
		CHECK_OK(bind_all(&r));
	CHECK_EQ(nr_bindings(r.fd), !row->err);
	CHECK_EQ(listed(r.fd), !row->err);
	if (row->under == OTHER_FILE)
		CHECK_OK(gmem_bind(other, r.g.vm, r.slot, GPA, 0, SIZE, 0));
	else
		CHECK_ERRNO(gmem_bind(other, r.g.vm, r.slot, GPA, 0, SIZE, 0), row->err ? EINVAL : EEXIST);
	guest_destroy(&r.g);
}

TEST(parts_of_huge_files)
{
	int fd = xgmem_huge(2 * HPAGE_SIZE);
	unsigned char *map;
	struct guest g;

	guest_create(&g);
	map = xmmap(NULL, 2 * HPAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	guest_add_memory(&g, GPA, map + 3 * PAGE, HPAGE_SIZE);
	CHECK_ERRNO(gmem_bind(fd, g.vm, 0, GPA, 0, HPAGE_SIZE, 0), EINVAL);
	CHECK_OK(gmem_bind(fd, g.vm, 0, GPA, 3 * PAGE, HPAGE_SIZE, 0));
	CHECK_EQ(only_binding(fd).offset, 3 * PAGE);
	guest_destroy(&g);
}

/* The address space that a vCPU in system management mode has. */
TEST(second_address_space)
{
	struct rig r = rig();
	struct kvm_userspace_memory_region region = {
		.slot = 1 << 16 | 5, .guest_phys_addr = GPA, .memory_size = SIZE / 2,
		.userspace_addr = (uintptr_t)r.map + SIZE / 2 };
	struct gmemfd_binding entries[3];

	if (guest_has(&r.g, KVM_CAP_MULTI_ADDRESS_SPACE) < 2)
		SKIP("KVM has one address space for memslots");
	REQUIRE_OK(ioctl(r.g.vm, KVM_SET_USER_MEMORY_REGION, &region));
	CHECK_ERRNO(gmem_bind(r.fd, r.g.vm, 5, GPA, SIZE / 2, SIZE / 2, 0), ENOENT);
	CHECK_OK(gmem_bind(r.fd, r.g.vm, region.slot, GPA, SIZE / 2, SIZE / 2, 1));
	CHECK_OK(bind_all(&r));
	CHECK(gmem_bind_set(r.fd, r.g.vm, 1 << 16 | 6, GPA + SIZE, 0, SIZE, 2, 0));
	REQUIRE_EQ(gmem_bindings(r.fd, entries, 3, 0), 3);
	CHECK_EQ(entries[0].slot, region.slot);
	CHECK_EQ(entries[0].gpa, GPA);
	CHECK_EQ(entries[1].slot, r.slot);
	CHECK_EQ(entries[2].slot, 1 << 16 | 6);
	CHECK_OK(gmem_unbind(r.fd, r.g.vm, 1 << 16 | 6, GMEMFD_BIND_SET));
	CHECK_OK(gmem_unbind(r.fd, r.g.vm, region.slot, 0));
	CHECK_EQ(listed(r.fd), 1);
	guest_destroy(&r.g);
}

/* --- GMEMFD_BIND_SET ------------------------------------------------------------------------------- */

TEST(set_makes_both_and_unbind_unmakes_both)
{
	struct guest g;
	int fd = xgmem(SIZE);
	unsigned char *map;

	guest_create(&g);
	map = gmem_bind_set(fd, g.vm, 3, GPA, 4 * PAGE, 8 * PAGE, COOKIE, 0);
	REQUIRE(map);
	CHECK(has_slot(&g, 3));
	CHECK_EQ(only_binding(fd).flags, GMEMFD_BIND_SET);
	CHECK_EQ(only_binding(fd).address, (uintptr_t)map);
	CHECK_EQ(only_binding(fd).offset, 4 * PAGE);
	map[PAGE] = 7;
	CHECK_EQ(pread(fd, map, 1, 5 * PAGE), 1);
	CHECK_EQ(map[0], 7);
	CHECK(!gmem_bind_set(fd, g.vm, 3, GPA, 4 * PAGE, 8 * PAGE, COOKIE, 0));
	CHECK_EQ(errno, EEXIST);
	CHECK_OK(gmem_unbind(fd, g.vm, 3, GMEMFD_BIND_SET));
	CHECK(!is_mapped(map));
	CHECK(!has_slot(&g, 3));
	CHECK_EQ(nr_bindings(fd), 0);
	guest_destroy(&g);
}

TEST(unbind_without_set_leaves_both)
{
	struct guest g;
	int fd = xgmem(SIZE);
	unsigned char *map;

	guest_create(&g);
	map = gmem_bind_set(fd, g.vm, 3, GPA, 0, SIZE, COOKIE, 0);
	REQUIRE(map);
	CHECK_OK(gmem_unbind(fd, g.vm, 3, 0));
	CHECK(is_mapped(map));
	CHECK(has_slot(&g, 3));
	/* It is the caller's now, and can be bound as it is, but not made once more. */
	CHECK(!gmem_bind_set(fd, g.vm, 3, GPA, 0, SIZE, COOKIE, 0));
	CHECK_EQ(errno, EEXIST);
	CHECK_EQ(nr_bindings(fd), 0);
	CHECK_OK(gmem_bind(fd, g.vm, 3, GPA, 0, SIZE, COOKIE));
	CHECK_ERRNO(gmem_unbind(fd, g.vm, 3, GMEMFD_BIND_SET), EINVAL);
	CHECK_EQ(listed(fd), 1);
	CHECK(is_mapped(map));
	guest_destroy(&g);
}

static const struct set_row {
	const char *label;
	int err;
	uint32_t slot;
	uint32_t slot_flags;
	uint64_t gpa;
} sets[] = {
	{ "overlaps", EEXIST, 7, 0, GPA + SIZE - PAGE },
	{ "number_is_taken", EEXIST, 0, 0, GPA + SIZE },
	{ "number_too_large", EINVAL, 0xffff, 0, GPA + SIZE },
	{ "no_such_address_space", EINVAL, 0x00070001, 0, GPA + SIZE },
	{ "unknown_flag", EINVAL, 7, 1 << 30, GPA + SIZE },
	{ "memory_of_guest_memfd", EINVAL, 7, 1 << 2, GPA + SIZE },
	{ "address_too_high", EINVAL, 7, 0, 1ull << 62 },
};

TEST_EACH(kvm_refuses_what_is_to_be_set, struct set_row, sets)
{
	struct rig r = rig();
	struct gmemfd_bind bind = { .size = sizeof(bind), .vm_fd = r.g.vm, .flags = GMEMFD_BIND_SET, .slot = row->slot,
				    .slot_flags = row->slot_flags, .gpa = row->gpa, .len = SIZE };
	long before;

	before = address_space();
	CHECK_ERRNO(ioctl(r.fd, GMEMFD_BIND, &bind), row->err);
	CHECK_EQ(address_space(), before);
	CHECK_EQ(nr_bindings(r.fd), 0);
	CHECK_EQ(has_slot(&r.g, row->slot), row->slot == 0);
	/* Nothing of it stands in the way of another. */
	CHECK(gmem_bind_set(r.fd, r.g.vm, 7, GPA + SIZE, 0, SIZE, 0, 0));
	guest_destroy(&r.g);
}

TEST(flags_of_the_slot)
{
	struct guest g;
	int fd = xgmem(SIZE);
	struct gmemfd_bind bind = { .size = sizeof(bind), .flags = GMEMFD_BIND_SET, .slot = 1, .gpa = GPA, .len = SIZE,
				    .slot_flags = KVM_MEM_LOG_DIRTY_PAGES };
	unsigned long bitmap[1] = { 0 };
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };

	guest_create(&g);
	bind.vm_fd = g.vm;
	REQUIRE_OK(ioctl(fd, GMEMFD_BIND, &bind));
	CHECK_OK(ioctl(g.vm, KVM_GET_DIRTY_LOG, &log));
	bind = (struct gmemfd_bind){ .size = sizeof(bind), .vm_fd = g.vm, .flags = GMEMFD_BIND_SET, .slot = 2,
				     .gpa = GPA + SIZE, .len = SIZE, .slot_flags = KVM_MEM_READONLY };
	REQUIRE_OK(ioctl(fd, GMEMFD_BIND, &bind));
	log.slot = 2;
	CHECK_ERRNO(ioctl(g.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
	CHECK_EQ(listed(fd), 2);
	guest_destroy(&g);
}

TEST(no_room_for_the_mapping)
{
	struct rlimit limit;
	struct guest g;
	uint64_t bytes = 64ul << 20;
	int fd = xgmem(bytes);
	long before;

	guest_create(&g);
	before = address_space();
	REQUIRE_OK(getrlimit(RLIMIT_AS, &limit));
	REQUIRE_OK(setrlimit(RLIMIT_AS, &(struct rlimit){ (before << 10) + (32ul << 20), limit.rlim_max }));
	CHECK(!gmem_bind_set(fd, g.vm, 1, GPA, 0, bytes, 0, 0));
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(address_space(), before);
	CHECK_EQ(nr_bindings(fd), 0);
	CHECK(!has_slot(&g, 1));
	REQUIRE_OK(setrlimit(RLIMIT_AS, &limit));
	CHECK(gmem_bind_set(fd, g.vm, 1, GPA, 0, bytes, 0, 0));
	guest_destroy(&g);
}

/* The kernel needs the struct itself to talk to KVM. */
TEST(struct_that_cannot_be_written)
{
	struct guest g;
	int fd = xgmem(SIZE);
	struct gmemfd_bind *bind = xmmap_anon(PAGE);
	unsigned char *map;
	long before;

	guest_create(&g);
	*bind = (struct gmemfd_bind){ .size = sizeof(*bind), .vm_fd = g.vm, .flags = GMEMFD_BIND_SET, .slot = 1,
				      .gpa = GPA, .len = SIZE };
	REQUIRE_OK(mprotect(bind, PAGE, PROT_READ));
	before = address_space();
	CHECK_ERRNO(ioctl(fd, GMEMFD_BIND, bind), EFAULT);
	CHECK_EQ(address_space(), before);
	CHECK_EQ(nr_bindings(fd), 0);
	CHECK(!has_slot(&g, 1));

	/* What it would unmake stays as it is. */
	map = gmem_bind_set(fd, g.vm, 1, GPA, 0, SIZE, 0, 0);
	REQUIRE(map);
	REQUIRE_OK(mprotect(bind, PAGE, PROT_READ | PROT_WRITE));
	*bind = (struct gmemfd_bind){ .size = sizeof(*bind), .vm_fd = g.vm, .flags = GMEMFD_BIND_SET, .slot = 1 };
	REQUIRE_OK(mprotect(bind, PAGE, PROT_READ));
	CHECK_ERRNO(ioctl(fd, GMEMFD_UNBIND, bind), EFAULT);
	CHECK_EQ(listed(fd), 1);
	CHECK(is_mapped(map));
	CHECK(has_slot(&g, 1));
	REQUIRE_OK(mprotect(bind, PAGE, PROT_READ | PROT_WRITE));
	CHECK_OK(ioctl(fd, GMEMFD_UNBIND, bind));
	CHECK_EQ(nr_bindings(fd), 0);
	CHECK(!is_mapped(map));
	guest_destroy(&g);
}

TEST(private_needs_set)
{
	struct rig r = rig();
	struct gmemfd_bind bind = { .size = sizeof(bind), .vm_fd = r.g.vm, .flags = GMEMFD_BIND_PRIVATE, .slot = r.slot,
				    .gpa = GPA, .len = SIZE };

	CHECK_ERRNO(ioctl(r.fd, GMEMFD_BIND, &bind), EINVAL);
	CHECK_EQ(nr_bindings(r.fd), 0);
	guest_destroy(&r.g);
}

#define CODE_PAGE 1
#define DATA_PAGE 2
/* Adds bx to what is there, and says what it is then. */
GUEST_CODE(adds, ".code16",
	   "	addw %bx, 0x2000\n"
	   "	movw 0x2000, %ax\n"
	   "	movw $0x10, %dx\n"
	   "	outw %ax, %dx\n"
	   "	hlt");

/* Two VMs are clones of one template, each writes for itself. */
TEST(private_clones)
{
	unsigned char page[PAGE] = { 100 }, content[SIZE];
	int fd = xgmem(SIZE);
	struct guest g[2];
	struct gmemfd_binding entries[3];
	unsigned char *map[2];

	memset(content, 0, sizeof(content));
	memcpy(content + CODE_PAGE * PAGE, adds, GUEST_CODE_SIZE(adds));
	memcpy(content + DATA_PAGE * PAGE, page, PAGE);
	REQUIRE_OK(gmem_copy(fd, 0, SIZE, content, 0));
	for (int i = 0; i < 2; i++) {
		struct kvm_regs regs;

		guest_create(&g[i]);
		map[i] = gmem_bind_set(fd, g[i].vm, 0, 0, 0, SIZE, i, GMEMFD_BIND_PRIVATE);
		REQUIRE(map[i]);
		guest_add_vcpu(&g[i]);
		guest_real_mode(&g[i], 0, CODE_PAGE * PAGE);
		regs = guest_get_regs(&g[i], 0);
		regs.rbx = 10 + i;
		guest_set_regs(&g[i], 0, &regs);
	}
	CHECK_EQ(listed(fd), 2);
	CHECK_EQ(xgmem_stats(fd).allocated, SIZE);
	for (int i = 0; i < 2; i++) {
		const struct guest_exit *e = guest_run(&g[i], 0);

		CHECK_EQ(e->exit, KVM_EXIT_IO);
		CHECK_EQ(e->value, 110 + i);
		CHECK_EQ(map[i][DATA_PAGE * PAGE], 110 + i);
	}
	CHECK_EQ(pread(fd, page, PAGE, DATA_PAGE * PAGE), PAGE);
	CHECK_EQ(page[0], 100);
	REQUIRE_EQ(gmem_bindings(fd, entries, 3, 0), 2);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(entries[i].flags, GMEMFD_BIND_SET | GMEMFD_BIND_PRIVATE);
		CHECK_EQ(entries[i].vm, i);
		CHECK_OK(gmem_unbind(fd, g[i].vm, 0, GMEMFD_BIND_SET));
		CHECK(!is_mapped(map[i]));
		guest_destroy(&g[i]);
	}
}

/* --- Behind our back ------------------------------------------------------------------------------- */

TEST(slot_is_deleted)
{
	struct rig r = rig();

	REQUIRE_OK(bind_all(&r));
	guest_remove_memory(&r.g, r.slot);
	CHECK_EQ(listed(r.fd), 0);
	CHECK_EQ(nr_bindings(r.fd), 0);
	CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, r.slot, 0), ENOENT);
	guest_destroy(&r.g);
}

TEST(slot_is_deleted_and_unbound)
{
	struct rig r = rig();

	REQUIRE_OK(bind_all(&r));
	guest_remove_memory(&r.g, r.slot);
	CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, r.slot, 0), ENOENT);
	CHECK_EQ(nr_bindings(r.fd), 0);
	guest_destroy(&r.g);
}

/* The old binding does not stand in the way of the new memslot's. */
TEST(slot_is_deleted_and_another_bound)
{
	struct rig r = rig();
	int other = xgmem(SIZE);
	unsigned char *map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	struct kvm_userspace_memory_region region = {
		.slot = r.slot, .guest_phys_addr = GPA, .memory_size = SIZE, .userspace_addr = (uintptr_t)map };

	REQUIRE_OK(bind_all(&r));
	guest_remove_memory(&r.g, r.slot);
	REQUIRE_OK(ioctl(r.g.vm, KVM_SET_USER_MEMORY_REGION, &region));
	CHECK_OK(gmem_bind(other, r.g.vm, r.slot, GPA, 0, SIZE, 0));
	CHECK_EQ(nr_bindings(r.fd), 0);
	CHECK_EQ(listed(r.fd), 0);
	CHECK_EQ(listed(other), 1);
	CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, r.slot, 0), ENOENT);
	CHECK_EQ(listed(other), 1);
	/* And one that the kernel is to make. */
	guest_remove_memory(&r.g, r.slot);
	CHECK(gmem_bind_set(r.fd, r.g.vm, r.slot, GPA, 0, SIZE, 0, 0));
	CHECK_EQ(nr_bindings(other), 0);
	CHECK_EQ(listed(r.fd), 1);
	guest_destroy(&r.g);
}

TEST(slot_moves)
{
	struct rig r = rig();
	uint64_t id;

	REQUIRE_OK(bind_all(&r));
	id = only_binding(r.fd).id;
	guest_move_memory(&r.g, r.slot, 4 * GPA);
	CHECK_EQ(only_binding(r.fd).gpa, 4 * GPA);
	CHECK_EQ(only_binding(r.fd).id, id);
	guest_set_memory_flags(&r.g, r.slot, KVM_MEM_LOG_DIRTY_PAGES);
	CHECK_EQ(only_binding(r.fd).id, id);
	CHECK_ERRNO(gmem_bind(r.fd, r.g.vm, r.slot, 4 * GPA, 0, SIZE, 0), EEXIST);
	CHECK_OK(gmem_unbind(r.fd, r.g.vm, r.slot, 0));
	guest_destroy(&r.g);
}

TEST(slot_is_made_anew_elsewhere)
{
	struct rig r = rig();
	unsigned char *map = xmmap(NULL, SIZE, PROT_READ, MAP_SHARED, r.fd, 0);
	struct kvm_userspace_memory_region region = {
		.slot = r.slot, .guest_phys_addr = GPA, .memory_size = SIZE, .userspace_addr = (uintptr_t)map };

	REQUIRE_OK(bind_all(&r));
	guest_remove_memory(&r.g, r.slot);
	REQUIRE_OK(ioctl(r.g.vm, KVM_SET_USER_MEMORY_REGION, &region));
	CHECK_EQ(listed(r.fd), 0);
	CHECK_OK(bind_all(&r));
	CHECK_EQ(only_binding(r.fd).address, (uintptr_t)map);
	/* Another length. */
	guest_remove_memory(&r.g, r.slot);
	region.memory_size = SIZE - PAGE;
	REQUIRE_OK(ioctl(r.g.vm, KVM_SET_USER_MEMORY_REGION, &region));
	CHECK_EQ(listed(r.fd), 0);
	guest_destroy(&r.g);
}

/* UNBIND with SET of a binding whose mapping has been replaced does not unmap what is not its own. */
TEST(mapping_is_replaced)
{
	struct guest g;
	int fd = xgmem(SIZE);
	unsigned char *map;

	guest_create(&g);
	map = gmem_bind_set(fd, g.vm, 1, GPA, 0, SIZE, 0, 0);
	REQUIRE(map);
	xmmap(map, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	map[5 * PAGE] = 77;
	CHECK_OK(gmem_unbind(fd, g.vm, 1, GMEMFD_BIND_SET));
	CHECK_EQ(map[5 * PAGE], 77);
	CHECK(!has_slot(&g, 1));
	CHECK_EQ(nr_bindings(fd), 0);
	guest_destroy(&g);
}
