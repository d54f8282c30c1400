// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memslots and vCPUs through the library: binding, listing, and a vCPU that provides its own pages.
 */
#include "guest.h"
#include "lib.h"

#define PAGES 16
#define CODE 0x1000
#define DATA 0x3000
#define VM_COOKIE 0x1234567890ull

/* si: bytes a page apart, cx: how many; their sum goes to the port. */
GUEST_CODE(sums, ".code16",
	   "	xorw %ax, %ax\n"
	   "1:	addb (%si), %al\n"
	   "	addw $4096, %si\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outw %ax, %dx\n"
	   "	hlt");

/* All of the file, at the beginning of the guest's memory. */
static struct gmemfd_memslot memslot(const struct lib_rig *rig, uint64_t flags)
{
	return (struct gmemfd_memslot){
		.sz = sizeof(struct gmemfd_memslot), .flags = flags, .vm = VM_COOKIE, .len = rig->bytes,
	};
}

/* A vCPU that is about to sum so many pages from DATA on. */
static void set_out(struct guest *g, unsigned char *memory, int pages)
{
	struct kvm_regs regs;

	memcpy(memory + CODE, sums, GUEST_CODE_SIZE(sums));
	guest_add_vcpu(g);
	guest_real_mode(g, 0, CODE);
	regs = guest_get_regs(g, 0);
	regs.rsi = DATA;
	regs.rcx = pages;
	guest_set_regs(g, 0, &regs);
}

TEST(bind_makes_the_memslot)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct gmemfd_memslot slot = memslot(&rig, GMEMFD_BIND_SET);
	void *address = NULL;
	struct guest g;

	guest_create(&g);
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &slot, &address), 0);
	REQUIRE(address && address != rig.map);
	CHECK_EQ(lib_stats(rig.fd).bindings, 1);
	rig.map[DATA] = 3;
	rig.map[DATA + rig.page] = 4;
	CHECK_EQ(*((unsigned char *)address + DATA), 3);
	set_out(&g, rig.map, 2);
	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_IO);
	CHECK_EQ(g.vcpus[0].last.value, 7);
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &slot, NULL), -EEXIST);
	CHECK_EQ(gmemfd_unbind(rig.fd, g.vm, 0, GMEMFD_BIND_SET), 0);
	CHECK_EQ(TOUCH_READ(address), SIGSEGV);
	CHECK_EQ(gmemfd_unbind(rig.fd, g.vm, 0, GMEMFD_BIND_SET), -ENOENT);
	/* Who does not want to know where it is need not. */
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &slot, NULL), 0);
	guest_destroy(&g);
}

TEST(bind_a_clone)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct gmemfd_memslot slot = memslot(&rig, GMEMFD_BIND_SET | GMEMFD_BIND_PRIVATE);
	void *address = NULL;
	struct guest g;

	guest_create(&g);
	rig.map[DATA] = 1;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &slot, &address), 0);
	CHECK_EQ(TOUCH_WRITE((unsigned char *)address + DATA, 2), 0);
	CHECK_EQ(rig.map[DATA], 1);
	guest_destroy(&g);
}

TEST(bind_what_is_there)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct gmemfd_memslot slot = memslot(&rig, 0);
	struct gmemfd_binding entry;
	void *address = NULL;
	struct guest g;

	guest_create(&g);
	slot.gpa = 0x100000;
	slot.offset = 4 * rig.page;
	slot.len = 8 * rig.page;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &slot, &address), -ENOENT);
	CHECK(!address);
	slot.slot = guest_add_memory(&g, slot.gpa, rig.map + slot.offset, slot.len);
	slot.gpa += rig.page;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &slot, &address), -EINVAL);
	slot.gpa -= rig.page;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &slot, &address), 0);
	CHECK(address == rig.map + slot.offset);
	CHECK_EQ(gmemfd_bindings(rig.fd, 0, &entry, 1, sizeof(entry)), 1);
	CHECK(entry.id > 0);
	CHECK_EQ(entry.flags, 0);
	CHECK_EQ(entry.offset, slot.offset);
	CHECK_EQ(entry.len, slot.len);
	CHECK_EQ(entry.vm, VM_COOKIE);
	CHECK_EQ(entry.gpa, slot.gpa);
	CHECK_EQ(entry.address, (uintptr_t)address);
	CHECK_EQ(entry.slot, slot.slot);
	CHECK_EQ(entry.pid, getpid());
	CHECK_EQ(gmemfd_unbind(rig.fd, g.vm, slot.slot, 0), 0);
	CHECK_EQ(gmemfd_bindings(rig.fd, 0, &entry, 1, sizeof(entry)), 0);
	CHECK_EQ(TOUCH_READ(address), 0);
	guest_destroy(&g);
}

TEST(bind_refuses)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct {
		struct gmemfd_memslot slot;
		unsigned char more[64];
	} room = { .slot = memslot(&rig, GMEMFD_BIND_SET) };
	size_t first = sizeof(room.slot);
	struct guest g;

	guest_create(&g);
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, NULL, NULL), -EINVAL);
	CHECK_EQ(gmemfd_bind(rig.fd, rig.dev, &room.slot, NULL), -EBADF);
	CHECK_EQ(gmemfd_bind(rig.fd, -1, &room.slot, NULL), -EBADF);
	CHECK_EQ(gmemfd_bind(-1, g.vm, &room.slot, NULL), -EBADF);
	CHECK_EQ(gmemfd_bind(rig.dev, g.vm, &room.slot, NULL), -ENOTTY);
	CHECK_EQ(gmemfd_bind(lib_read_only(rig.fd), g.vm, &room.slot, NULL), -EBADF);
	room.slot.flags = 1ull << 63;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &room.slot, NULL), -EINVAL);
	room.slot.flags = GMEMFD_BIND_PRIVATE;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &room.slot, NULL), -EINVAL);
	room.slot.flags = GMEMFD_BIND_SET;
	for (room.slot.sz = 0; room.slot.sz < first; room.slot.sz++)
		CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &room.slot, NULL), -EINVAL);
	room.slot.sz = sizeof(room);
	room.more[63] = 1;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &room.slot, NULL), -E2BIG);
	CHECK_EQ(lib_stats(rig.fd).bindings, 0);
	room.more[63] = 0;
	CHECK_EQ(gmemfd_bind(rig.fd, g.vm, &room.slot, NULL), 0);
	CHECK_EQ(gmemfd_unbind(rig.fd, g.vm, 0, 1ull << 63), -EINVAL);
	CHECK_EQ(gmemfd_unbind(rig.fd, g.vm, 1, 0), -ENOENT);
	CHECK_EQ(gmemfd_unbind(rig.fd, rig.dev, 0, 0), -EBADF);
	CHECK_EQ(lib_stats(rig.fd).bindings, 1);
	guest_destroy(&g);
}

TEST(bindings_are_listed_in_pieces)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct gmemfd_memslot slot = memslot(&rig, GMEMFD_BIND_SET);
	struct gmemfd_binding entries[4];
	struct guest g;

	guest_create(&g);
	slot.len = rig.page;
	for (slot.slot = 0; slot.slot < 3; slot.slot++) {
		slot.gpa = 0x10000 * slot.slot;
		REQUIRE_EQ(gmemfd_bind(rig.fd, g.vm, &slot, NULL), 0);
	}
	memset(entries, 0xa5, sizeof(entries));
	CHECK_EQ(gmemfd_bindings(rig.fd, 0, entries, 2, sizeof(entries[0])), 2);
	CHECK(all_bytes_are(&entries[2], 2 * sizeof(entries[0]), 0xa5));
	CHECK_EQ(entries[0].slot, 0);
	CHECK_EQ(entries[1].slot, 1);
	CHECK_EQ(gmemfd_bindings(lib_read_only(rig.fd), entries[1].id, entries, 2, sizeof(entries[0])), 1);
	CHECK_EQ(entries[0].slot, 2);
	CHECK_EQ(gmemfd_bindings(rig.fd, entries[0].id, entries, 2, sizeof(entries[0])), 0);
	CHECK_EQ(gmemfd_bindings(rig.fd, 0, entries, 0, sizeof(entries[0])), -EINVAL);
	CHECK_EQ(gmemfd_bindings(rig.fd, 0, entries, 1, sizeof(entries[0]) - 1), -EINVAL);
	CHECK_EQ(gmemfd_bindings(rig.fd, 0, entries, 1, SIZE_MAX), -EINVAL);
	CHECK_EQ(gmemfd_bindings(rig.dev, 0, entries, 1, sizeof(entries[0])), -ENOTTY);
	CHECK_EQ(gmemfd_bindings(-1, 0, entries, 1, sizeof(entries[0])), -EBADF);
	guest_destroy(&g);
}

/* A handler in another thread: the event says where in the guest it was. */
TEST(event_tells_of_the_guest)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct gmemfd_memslot slot = memslot(&rig, GMEMFD_BIND_SET);
	unsigned char *page = xmmap_anon(rig.page);
	struct gmemfd_event event;
	struct guest g;

	guest_create(&g);
	REQUIRE_EQ(gmemfd_bind(rig.fd, g.vm, &slot, NULL), 0);
	set_out(&g, rig.map, 1);
	MUST(gmemfd_watch(rig.fd, rig.context, DATA, rig.page, NULL));
	guest_start(&g, 0);
	event = lib_event(rig.context);
	CHECK_EQ(event.flags, GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST | GMEMFD_FAULT_KERNEL);
	CHECK_EQ(event.offset, DATA);
	CHECK_EQ(event.gpa, DATA);
	CHECK_EQ(event.vm, VM_COOKIE);
	CHECK_EQ(event.slot, 0);
	CHECK_EQ(event.vcpu, 0);
	page[0] = 9;
	CHECK_EQ(gmemfd_copy(rig.fd, DATA, page, rig.page, 0, NULL), 0);
	REQUIRE(guest_join(&g, 0, 10));
	CHECK_EQ(g.vcpus[0].last.value, 9);
	guest_destroy(&g);
}

TEST(vcpu_provides_its_own_pages)
{
	struct lib_rig rig = lib_rig(PAGES);
	struct gmemfd_memslot slot = memslot(&rig, GMEMFD_BIND_SET);
	struct gmemfd_watch_opts opts = { .sz = sizeof(opts), .flags = GMEMFD_WATCH_VCPU_EXIT, .cookie = 7 };
	unsigned char *page = xmmap_anon(rig.page);
	const struct guest_exit *last;
	struct gmemfd_event event;
	struct gmemfd_info info;
	unsigned int exits = 0;
	struct guest g;

	guest_create(&g);
	MUST(gmemfd_info(rig.dev, &info, sizeof(info)));
	if (!(info.watch_flags & GMEMFD_WATCH_VCPU_EXIT))
		SKIP("this kernel has no vCPU exits");
	REQUIRE_EQ(gmemfd_bind(rig.fd, g.vm, &slot, NULL), 0);
	set_out(&g, rig.map, 4);
	MUST(gmemfd_watch(rig.fd, rig.context, DATA, 4 * rig.page, &opts));
	memset(&event, 0xa5, sizeof(event));
	CHECK_EQ(gmemfd_vcpu_fault(rig.context, g.vcpus[0].fd, &event), -ENOENT);
	CHECK(all_bytes_are(&event, sizeof(event), 0xa5));
	for (;;) {
		last = guest_run(&g, 0);
		if (!last->err)
			break;
		REQUIRE(last->err == EFAULT || last->err == EINTR);
		REQUIRE_EQ(gmemfd_vcpu_fault(rig.context, g.vcpus[0].fd, &event), 0);
		CHECK_EQ(event.type, GMEMFD_EVENT_FAULT);
		CHECK_EQ(event.offset, DATA + exits * rig.page);
		CHECK_EQ(event.gpa, DATA + exits * rig.page);
		CHECK_EQ(event.cookie, 7);
		page[0] = ++exits;
		REQUIRE_EQ(gmemfd_copy(rig.fd, event.offset, page, event.len, 0, NULL), 0);
		REQUIRE(exits <= 4);
	}
	CHECK_EQ(exits, 4);
	CHECK_EQ(last->exit, KVM_EXIT_IO);
	CHECK_EQ(last->value, 1 + 2 + 3 + 4);
	CHECK_EQ(gmemfd_read_events(rig.context, &event, 1), -EAGAIN);
	CHECK_EQ(gmemfd_vcpu_fault(rig.context, rig.fd, &event), -EBADF);
	CHECK_EQ(gmemfd_vcpu_fault(rig.context, -1, &event), -EBADF);
	CHECK_EQ(gmemfd_vcpu_fault(rig.fd, g.vcpus[0].fd, &event), -ENOTTY);
	CHECK_EQ(gmemfd_vcpu_fault(-1, g.vcpus[0].fd, &event), -EBADF);
	guest_destroy(&g);
}
