// SPDX-License-Identifier: GPL-2.0-only
/*
 * GMEMFD_WATCH_VCPU_EXIT: a guest's access to what is missing makes KVM_RUN fail, and the vCPU's own thread finds out
 * what is wanted, provides it and runs on.
 */
#include "guest.h"
#include "trap.h"

#define CODE 0x1000ul
#define TABLES 0x10000ul
#define DATA 0x40000ul
#define SIZE (1ul << 20)
#define VM_COOKIE 0x1234567890ull

/* rdi: the first of rcx pages, of which one word each is summed and written back. */
GUEST_CODE(sums, ".code64",
	   "	xorl %eax, %eax\n"
	   "1:	addl (%rdi), %eax\n"
	   "	movl %eax, 8(%rdi)\n"
	   "	addq $4096, %rdi\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static int bind(const struct guest *g, int fd, int slot, uint64_t gpa, uint64_t offset, uint64_t len)
{
	struct gmemfd_bind args = { .size = sizeof(args), .vm_fd = g->vm, .offset = offset, .vm = VM_COOKIE,
				    .slot = slot, .gpa = gpa, .len = len };

	return ioctl(fd, GMEMFD_BIND, &args);
}

TEST(smoke)
{
	struct gmemfd_watch watch = { .size = sizeof(watch) };
	struct trap_rig rig = trap_rig(SIZE / page_size(), 0, 0);
	static unsigned char page[4096];
	struct kvm_regs regs;
	struct guest g;
	unsigned int exits = 0;
	int slot;

	guest_create(&g);
	slot = guest_add_memory(&g, 0x100000, rig.map, SIZE);
	guest_add_vcpu(&g);
	REQUIRE_OK(bind(&g, rig.fd, slot, 0x100000, 0, SIZE));

	memcpy(rig.map + CODE, sums, GUEST_CODE_SIZE(sums));
	guest_build_tables(rig.map + TABLES, 0x100000 + TABLES);
	watch.context = rig.context;
	watch.flags = GMEMFD_WATCH_VCPU_EXIT;
	watch.offset = DATA;
	watch.len = 16 * 4096;
	watch.modes = GMEMFD_MODE_MISSING;
	watch.cookie = 99;
	REQUIRE_OK(ioctl(rig.fd, GMEMFD_WATCH, &watch));

	guest_long_mode(&g, 0, 0x100000 + TABLES, 0x100000 + CODE, 0x100000 + 0x30000);
	regs = guest_get_regs(&g, 0);
	regs.rdi = 0x100000 + DATA;
	regs.rcx = 16;
	guest_set_regs(&g, 0, &regs);
	for (;;) {
		const struct guest_exit *e = guest_run(&g, 0);
		struct gmemfd_vcpu_fault fault = { .size = sizeof(fault), .vcpu_fd = g.vcpus[0].fd };

		if (!e->err) {
			CHECK_EQ(e->exit, KVM_EXIT_IO);
			CHECK_EQ(e->value, 16 * 17 / 2);
			break;
		}
		REQUIRE_EQ(e->err, EFAULT);
		REQUIRE_OK(ioctl(rig.context, GMEMFD_VCPU_FAULT, &fault));
		CHECK_EQ(fault.event.offset, DATA + exits * 4096);
		CHECK_EQ(fault.event.gpa, 0x100000 + DATA + exits * 4096);
		CHECK_EQ(fault.event.vm, VM_COOKIE);
		CHECK_EQ(fault.event.cookie, 99);
		*(uint32_t *)page = ++exits;
		REQUIRE_OK(gmem_copy(rig.fd, fault.event.offset, 4096, page, 0));
		CHECK_ERRNO(ioctl(rig.context, GMEMFD_VCPU_FAULT, &fault), ENOENT);
		REQUIRE(exits < 20);
	}
	CHECK_EQ(exits, 16);
	guest_destroy(&g);
}
