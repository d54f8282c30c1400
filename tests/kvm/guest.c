// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM guests on ordinary memory: shows that this machine runs guests and that the guest library does what it
 * says, so that a failure of another test in the group is about gmemfd.
 */
#include "guest.h"

#define CODE 0x1000
#define NUMBERS 0x2000
#define SHARED 0x3000
#define TABLES 0x10000
#define STACK 0x30000
#define DESCRIPTORS 0x8000
#define HANDLER 0xa000
#define VECTOR 0x40
#define UD_VECTOR 6
#define X2APIC_BIT (1u << 21)	/* of leaf 1, ecx */
#define SIZE (4ul << 20)
#define HOLE 0xd0000000ul
#define PORT 0x10
#define COUNT 100

/* si: 16-bit numbers, cx: how many; their sum goes to the port. */
GUEST_CODE(adds16, ".code16",
	   "	xorw %ax, %ax\n"
	   "1:	addw (%si), %ax\n"
	   "	addw $2, %si\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outw %ax, %dx\n"
	   "	hlt");

/* rsi: 32-bit numbers, rcx: how many; their sum goes to the port, by way of the stack. */
GUEST_CODE(adds64, ".code64",
	   "	xorl %eax, %eax\n"
	   "1:	addl (%rsi), %eax\n"
	   "	addq $4, %rsi\n"
	   "	loop 1b\n"
	   "	pushq %rax\n"
	   "	popq %rax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* rdi: a counter; waits until as many vCPUs as rcx says have come by. */
GUEST_CODE(meets, ".code64",
	   "	lock incl (%rdi)\n"
	   "1:	pause\n"
	   "	cmpl %ecx, (%rdi)\n"
	   "	jb 1b\n"
	   "	movw $0x10, %dx\n"
	   "	movl %ecx, %eax\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* rdi: where nothing is; reads there and writes one more than it read. */
GUEST_CODE(touches, ".code64",
	   "	movl (%rdi), %eax\n"
	   "	incl %eax\n"
	   "	movl %eax, (%rdi)\n"
	   "	hlt");

/* Says what CPUID says of leaf eax. */
GUEST_CODE(identifies, ".code64",
	   "	cpuid\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* Waits for an interrupt, and says what its handler has written to rdi. */
GUEST_CODE(is_interrupted, ".code64",
	   "1:	pause\n"
	   "	movl (%rdi), %eax\n"
	   "	testl %eax, %eax\n"
	   "	jz 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(handles_interrupt, ".code64",
	   "	addl $5, (%rdi)\n"
	   "	pushq %rax\n"
	   "	movl $0x80b, %ecx\n"
	   "	xorl %eax, %eax\n"
	   "	xorl %edx, %edx\n"
	   "	wrmsr\n"
	   "	popq %rax\n"
	   "	iretq");

/* The address that the exception came from. */
GUEST_CODE(handles_exception, ".code64",
	   "	movl (%rsp), %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static unsigned char *make_with(struct guest *g, int vcpus, bool irqchip)
{
	unsigned char *memory = xmmap_anon(SIZE);

	guest_create(g);
	if (irqchip)
		guest_irqchip(g);
	guest_add_memory(g, 0, memory, SIZE);
	for (int i = 0; i < vcpus; i++)
		guest_add_vcpu(g);
	guest_build_tables(memory + TABLES, TABLES);
	return memory;
}

static unsigned char *make(struct guest *g, int vcpus)
{
	return make_with(g, vcpus, false);
}

static void check_port(const struct guest_exit *e, uint64_t value)
{
	REQUIRE(e);
	CHECK_EQ(e->err, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_IO);
	CHECK_EQ(e->port, PORT);
	CHECK(e->is_write);
	CHECK_EQ(e->value, value);
}

TEST(real_mode_adds)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);
	uint16_t *numbers = (uint16_t *)(memory + NUMBERS), sum = 0;
	struct kvm_regs regs;

	memcpy(memory + CODE, adds16, GUEST_CODE_SIZE(adds16));
	for (int i = 0; i < COUNT; i++)
		sum += numbers[i] = i * 7 + 1;
	guest_real_mode(&g, 0, CODE);
	regs = guest_get_regs(&g, 0);
	regs.rsi = NUMBERS;
	regs.rcx = COUNT;
	guest_set_regs(&g, 0, &regs);

	check_port(guest_run(&g, 0), sum);
	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_HLT);
	guest_destroy(&g);
}

TEST(long_mode_adds)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);
	uint32_t *numbers = (uint32_t *)(memory + NUMBERS), sum = 0;
	struct kvm_regs regs;

	memcpy(memory + CODE, adds64, GUEST_CODE_SIZE(adds64));
	for (int i = 0; i < COUNT; i++)
		sum += numbers[i] = i * 100003 + 1;
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	regs = guest_get_regs(&g, 0);
	regs.rsi = NUMBERS;
	regs.rcx = COUNT;
	guest_set_regs(&g, 0, &regs);

	check_port(guest_run(&g, 0), sum);
	CHECK_EQ(*(uint32_t *)(memory + STACK - 8), sum);
	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_HLT);
	guest_destroy(&g);
}

TEST(two_vcpus_run_at_once)
{
	struct guest g;
	unsigned char *memory = make(&g, 2);

	memcpy(memory + CODE, meets, GUEST_CODE_SIZE(meets));
	for (int i = 0; i < 2; i++) {
		struct kvm_regs regs;

		guest_long_mode(&g, i, TABLES, CODE, STACK + i * 0x1000);
		regs = guest_get_regs(&g, i);
		regs.rdi = SHARED;
		regs.rcx = 2;
		guest_set_regs(&g, i, &regs);
		guest_start(&g, i);
	}
	for (int i = 0; i < 2; i++)
		check_port(guest_join(&g, i, 10), 2);
	CHECK_EQ(*(uint32_t *)(memory + SHARED), 2);
	guest_destroy(&g);
}

TEST(access_without_memory_is_mmio)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);
	const struct guest_exit *e;
	struct kvm_regs regs;

	memcpy(memory + CODE, touches, GUEST_CODE_SIZE(touches));
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	regs = guest_get_regs(&g, 0);
	regs.rdi = HOLE;
	guest_set_regs(&g, 0, &regs);

	e = guest_run(&g, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_MMIO);
	CHECK_EQ(e->gpa, HOLE);
	CHECK(!e->is_write);
	guest_answer(&g, 0, 41);
	e = guest_run(&g, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_MMIO);
	CHECK(e->is_write);
	CHECK_EQ(e->value, 42);
	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_HLT);
	guest_destroy(&g);
}

TEST(exception_is_a_shutdown)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);

	memory[CODE] = 0x0f;	/* ud2 */
	memory[CODE + 1] = 0x0b;
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_SHUTDOWN);
	guest_destroy(&g);
}

TEST(statistics_count_pages)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);

	memcpy(memory + CODE, touches, GUEST_CODE_SIZE(touches));
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	CHECK_EQ(guest_stat(&g, "pages_4k"), 0);
	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_HLT);
	CHECK(guest_stat(&g, "pages_4k") + guest_stat(&g, "pages_2m") > 0);
	guest_destroy(&g);
}

TEST(exception_reaches_its_handler)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);

	memory[CODE] = 0x90;	/* nop */
	memory[CODE + 1] = 0x0f;	/* ud2 */
	memory[CODE + 2] = 0x0b;
	memcpy(memory + HANDLER, handles_exception, GUEST_CODE_SIZE(handles_exception));
	guest_build_descriptors(memory + DESCRIPTORS, DESCRIPTORS);
	guest_set_gate(memory + DESCRIPTORS, UD_VECTOR, HANDLER);
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	guest_use_descriptors(&g, 0, DESCRIPTORS);
	check_port(guest_run(&g, 0), CODE + 1);
	guest_destroy(&g);
}

/* What a guest does wrong is told: by the CPU's vector, with its error code, and with what the guest had. */
static const struct fault_row {
	const char *label;
	unsigned char code[4];
	uint64_t rdi, vector, error, cr2;
} faults[] = {
	{ "breakpoint", { 0xcc }, 0, 3, 0, 0 },
	{ "ud2", { 0x0f, 0x0b }, 0, 6, 0, 0 },
	/* movl (%rdi), %eax: not a canonical address; not mapped */
	{ "protection", { 0x8b, 0x07 }, 1ul << 63, 13, 0, 0 },
	{ "page_fault", { 0x8b, 0x07 }, 1ul << 38, 14, 0, 1ul << 38 },
	/* movl %eax, (%rdi) */
	{ "page_fault.write", { 0x89, 0x07 }, 1ul << 38, 14, 2, 1ul << 38 },
};

TEST_EACH(exception_is_told, struct fault_row, faults)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);
	struct guest_exception x;
	struct kvm_regs regs;

	memory[CODE] = 0x90;	/* nop */
	memcpy(memory + CODE + 1, row->code, sizeof(row->code));
	guest_build_descriptors(memory + DESCRIPTORS, DESCRIPTORS);
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	guest_use_descriptors(&g, 0, DESCRIPTORS);
	regs = guest_get_regs(&g, 0);
	regs.rdi = row->rdi;
	regs.rax = 0x1234;
	regs.rdx = 0x5678;
	guest_set_regs(&g, 0, &regs);
	for (int i = 0; i < 2; i++) {
		const struct guest_exit *e = guest_run(&g, 0);

		CHECK_EQ((uint32_t)e->value, row->vector);
		REQUIRE(guest_exception(e, &x));
		CHECK_EQ(x.vector, row->vector);
		CHECK_EQ(x.error, row->error);
		CHECK_EQ(x.rip, CODE + 1 + (row->vector == 3));
		CHECK_EQ(x.cr2, row->cr2);
		CHECK_EQ(x.rsp, STACK);
		CHECK_EQ(x.rax, 0x1234);
		CHECK_EQ(x.rdx, 0x5678);
		/* But for RF, which a CPU may set. */
		CHECK_EQ(x.rflags & ~(1ul << 16), 2);
		CHECK_EQ(guest_get_regs(&g, 0).rdi, row->rdi);
	}
	guest_destroy(&g);
}

static const struct vcpus_row {
	const char *label;
	int nr;
} vcpus[] = {
	{ "first_vcpu", 0 },
	{ "second_vcpu", 1 },
};

TEST_EACH(interrupt_reaches_its_handler, struct vcpus_row, vcpus)
{
	struct kvm_cpuid_entry2 leaf;
	struct guest g;
	unsigned char *memory = make_with(&g, 2, true);
	struct kvm_regs regs;

	REQUIRE(guest_cpuid(&g, 1, 0, &leaf));
	REQUIRE(leaf.ecx & X2APIC_BIT);
	memcpy(memory + CODE, is_interrupted, GUEST_CODE_SIZE(is_interrupted));
	memcpy(memory + HANDLER, handles_interrupt, GUEST_CODE_SIZE(handles_interrupt));
	guest_build_descriptors(memory + DESCRIPTORS, DESCRIPTORS);
	guest_set_gate(memory + DESCRIPTORS, VECTOR, HANDLER);
	guest_long_mode(&g, row->nr, TABLES, CODE, STACK);
	guest_use_descriptors(&g, row->nr, DESCRIPTORS);
	guest_use_apic(&g, row->nr);
	regs = guest_get_regs(&g, row->nr);
	regs.rdi = SHARED;
	guest_set_regs(&g, row->nr, &regs);
	guest_start(&g, row->nr);
	CHECK(!guest_join(&g, row->nr, 0.02));
	guest_interrupt(&g, row->nr, VECTOR);
	check_port(guest_join(&g, row->nr, 10), 5);
	CHECK_EQ(*(uint32_t *)(memory + SHARED), 5);
	guest_destroy(&g);
}

TEST(small_pages)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);
	uint64_t *lowest = (uint64_t *)(memory + TABLES + 3 * 4096);
	struct kvm_regs regs;

	memcpy(memory + CODE, touches, GUEST_CODE_SIZE(touches));
	guest_build_small_tables(memory + TABLES, TABLES);
	/* SHARED in the place of NUMBERS: that it is this table that counts. */
	lowest[NUMBERS / 4096] = lowest[SHARED / 4096];
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	regs = guest_get_regs(&g, 0);
	regs.rdi = NUMBERS;
	guest_set_regs(&g, 0, &regs);
	*(uint32_t *)(memory + SHARED) = 70;
	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_HLT);
	CHECK_EQ(*(uint32_t *)(memory + SHARED), 71);
	CHECK_EQ(*(uint32_t *)(memory + NUMBERS), 0);
	guest_destroy(&g);
}

TEST(slot_goes_moves_and_comes_back)
{
	struct guest g;
	unsigned char *memory = make(&g, 1), *more = xmmap_anon(SIZE);
	int slot = guest_add_memory(&g, HOLE, more, SIZE);
	struct kvm_regs regs;

	memcpy(memory + CODE, touches, GUEST_CODE_SIZE(touches));
	for (int i = 0; i < 4; i++) {
		guest_long_mode(&g, 0, TABLES, CODE, STACK);
		regs = guest_get_regs(&g, 0);
		regs.rdi = HOLE;
		guest_set_regs(&g, 0, &regs);
		if (i == 1)
			guest_remove_memory(&g, slot);
		if (i == 2)
			guest_move_memory(&g, slot, HOLE + SIZE);
		if (i == 3)
			guest_move_memory(&g, slot, HOLE);
		CHECK_EQ(guest_run(&g, 0)->exit, i == 1 || i == 2 ? KVM_EXIT_MMIO : KVM_EXIT_HLT);
	}
	CHECK_EQ(*(uint32_t *)more, 2);
	guest_destroy(&g);
}

TEST(msr_is_set_and_refused)
{
	struct guest g;

	make(&g, 1);
	CHECK(guest_set_msr(&g, 0, MSR_KVM_WALL_CLOCK_NEW, 0));
	CHECK(guest_set_msr(&g, 0, MSR_KVM_SYSTEM_TIME_NEW, SHARED));
	CHECK_EQ(guest_get_msr(&g, 0, MSR_KVM_SYSTEM_TIME_NEW), SHARED);
	/* Reserved bits. */
	CHECK(!guest_set_msr(&g, 0, MSR_KVM_STEAL_TIME, 0x3e));
	guest_destroy(&g);
}

TEST(hyperv_instead_of_kvm)
{
	struct guest g;
	unsigned char *memory = make(&g, 1);
	struct kvm_regs regs;

	if (!guest_hyperv(&g, 0))
		SKIP("KVM_CAP_SYS_HYPERV_CPUID is not offered");
	memcpy(memory + CODE, identifies, GUEST_CODE_SIZE(identifies));
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	regs = guest_get_regs(&g, 0);
	regs.rax = 0x40000001;
	guest_set_regs(&g, 0, &regs);
	check_port(guest_run(&g, 0), 0x31237648);	/* "Hv#1" */
	guest_destroy(&g);
}
