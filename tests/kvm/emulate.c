// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM touches when it does the work of a vCPU: operands of the instructions that it emulates, their code, the
 * guest's page tables, the state that it keeps in guest memory for system management mode and for nested guests.
 */
#include "lazy.h"

#define PAGE 4096ul
#define A LAZY_DATA
#define STACK_PAGE (LAZY_STACK - PAGE)
#define ANSWER 0x5aa51234u
#define LEVEL(n) (LAZY_TABLES + (n) * PAGE)

/* --- Operands: MMIO and ports --------------------------------------------------------------------------- */

GUEST_CODE(pushes_mmio, ".code64",
	   "	pushq (%rsi)\n"
	   "	movl $7, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(moves, ".code64",
	   "	movsl\n"
	   "	movl $7, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(stores_to_mmio, ".code64",
	   "	movsl\n"
	   "	hlt");

/* Whether what is in memory is the same as what MMIO says. */
GUEST_CODE(compares, ".code64",
	   "	xorl %eax, %eax\n"
	   "	cmpsl\n"
	   "	setz %al\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(ins, ".code64",
	   "	movw $0x20, %dx\n"
	   "	insl\n"
	   "	movl $7, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(outs, ".code64",
	   "	movw $0x10, %dx\n"
	   "	outsl\n"
	   "	hlt");

static const struct into_row {
	const char *label;
	const unsigned char *code, *code_end;
	uint64_t rdi, rsi;
	uint64_t trapped[2];
	size_t nr;
	uint64_t lands;
	int exit;
} intos[] = {
	{ "push", pushes_mmio, pushes_mmio_end, 0, LAZY_HOLE, { STACK_PAGE }, 1, LAZY_STACK - 8, KVM_EXIT_MMIO },
	{ "movs", moves, moves_end, A + 0x10, LAZY_HOLE, { A }, 1, A + 0x10, KVM_EXIT_MMIO },
	{ "movs_to_two_pages", moves, moves_end, A + PAGE - 1, LAZY_HOLE, { A, A + PAGE }, 2, A + PAGE - 1,
	  KVM_EXIT_MMIO },
	{ "ins", ins, ins_end, A + 0x20, 0, { A }, 1, A + 0x20, KVM_EXIT_IO },
};

/* KVM puts what it was answered into memory that traps. */
TEST_ARRANGED_EACH(answer_goes_into_memory, struct into_row, intos)
{
	const struct guest_exit *e;
	struct lazy_vm vm;
	uint64_t stack;

	lazy_vm(&vm, how, 1, row->code, row->code_end - row->code, 0);
	lazy_ready(&vm.m, row->trapped, row->nr);
	lazy_regs(&vm, 0, row->rdi, row->rsi, 0, 0);
	e = guest_run(&vm.g, 0);
	REQUIRE_EQ(e->exit, row->exit);
	CHECK(!e->is_write);
	CHECK(lazy_quiet(&vm.m));
	guest_answer(&vm.g, 0, ANSWER);
	guest_start(&vm.g, 0);
	for (size_t i = 0; i < row->nr; i++) {
		struct lazy_event event = lazy_trapped(&vm.m, row->trapped[i]);

		CHECK(event.write);
		CHECK(lazy_waits(&vm, 0));
		lazy_resolve(&vm.m, event.offset);
	}
	lazy_says(&vm, 0, 7);
	stack = ANSWER;
	memcpy(vm.m.image + row->lands, &stack, row->code == pushes_mmio ? 8 : 4);
	for (size_t i = 0; i < row->nr; i++)
		CHECK(lazy_same(&vm.m, row->trapped[i], PAGE));
	lazy_vm_end(&vm);
}

/* An operand that traps goes to a port, and to MMIO. */
TEST_ARRANGED(memory_goes_to_a_port)
{
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(outs), 0);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	lazy_regs(&vm, 0, 0, A + 0x30, 0, 0);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, A);
	lazy_says(&vm, 0, lazy_word(&vm.m, A + 0x30));
	lazy_vm_end(&vm);
}

TEST_ARRANGED(memory_goes_to_mmio)
{
	const struct guest_exit *e;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(stores_to_mmio), 0);
	lazy_ready(&vm.m, (uint64_t[]){ A, A + PAGE }, 2);
	lazy_regs(&vm, 0, LAZY_HOLE + 8, A + PAGE - 2, 0, 0);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, A);
	lazy_serve(&vm.m, A + PAGE);
	e = guest_join(&vm.g, 0, 10);
	REQUIRE(e);
	REQUIRE_EQ(e->exit, KVM_EXIT_MMIO);
	CHECK_EQ(e->gpa, LAZY_HOLE + 8);
	CHECK(e->is_write);
	CHECK_EQ((uint32_t)e->value, lazy_word(&vm.m, A + PAGE - 2));
	lazy_vm_end(&vm);
}

/* The instruction meets MMIO first, so it is KVM that reads the operand. */
TEST_ARRANGED(memory_is_compared_with_mmio)
{
	const struct guest_exit *e;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(compares), 0);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	lazy_regs(&vm, 0, LAZY_HOLE, A + 4, 0, 0);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, A);
	e = guest_join(&vm.g, 0, 10);
	REQUIRE(e);
	REQUIRE_EQ(e->exit, KVM_EXIT_MMIO);
	CHECK(!e->is_write);
	guest_answer(&vm.g, 0, lazy_word(&vm.m, A + 4));
	guest_start(&vm.g, 0);
	lazy_says(&vm, 0, 1);
	lazy_vm_end(&vm);
}

/* --- Code ------------------------------------------------------------------------------------------------- */

/* KVM's own sign for "emulate the next instruction". */
GUEST_CODE(is_emulated, ".code64",
	   "	ud2\n"
	   "	.ascii \"kvm\"\n"
	   "	addl $1, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

#define PREFIX_PARAMETER "/sys/module/kvm/parameters/force_emulation_prefix"

/* The vCPU itself stops at the first instruction; the page behind it is read by KVM alone. */
TEST_ARRANGED(code_is_fetched_by_kvm)
{
	const uint64_t at = PAGE - 2;
	struct kvm_regs regs;
	long long before;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(is_emulated), 0);
	if (access(PREFIX_PARAMETER, R_OK | W_OK))
		SKIP("KVM's parameter force_emulation_prefix cannot be set");
	before = read_number(PREFIX_PARAMETER);
	REQUIRE_OK(write_file(PREFIX_PARAMETER, "1"));
	memcpy(vm.m.image + LAZY_CODE + at, is_emulated, GUEST_CODE_SIZE(is_emulated));
	lazy_ready(&vm.m, (uint64_t[]){ LAZY_CODE + PAGE }, 1);
	lazy_regs(&vm, 0, 0, 0, 0, 0x41);
	regs = guest_get_regs(&vm.g, 0);
	regs.rip += at;
	guest_set_regs(&vm.g, 0, &regs);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, LAZY_CODE + PAGE);
	lazy_says(&vm, 0, 0x42);
	lazy_vm_end(&vm);
	CHECK_OK(write_file(PREFIX_PARAMETER, "%lld", before));
}

/* --- Page tables ------------------------------------------------------------------------------------------ */

static const struct level_row {
	const char *label;
	int level;
} levels[] = {
	{ "level_4", 0 },
	{ "level_3", 1 },
	{ "level_2", 2 },
	{ "level_1", 3 },
};

struct translation {
	int fd;
	struct kvm_translation args;
};

static void *translate(void *arg)
{
	struct translation *t = arg;

	return (void *)(long)ioctl(t->fd, KVM_TRANSLATE, &t->args);
}

/* KVM walks the guest's tables in its own way. */
TEST_ARRANGED_EACH(tables_are_walked_by_kvm, struct level_row, levels)
{
	struct translation t = { .args.linear_address = A + 0x123 };
	pthread_t thread;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(moves), 0);
	lazy_ready(&vm.m, (uint64_t[]){ LEVEL(row->level) }, 1);
	t.fd = vm.g.vcpus[0].fd;
	thread = thread_start(translate, &t);
	lazy_trapped(&vm.m, LEVEL(row->level));
	CHECK(!thread_join_for(thread, 0.001));
	CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 1);
	lazy_resolve(&vm.m, LEVEL(row->level));
	CHECK(!thread_join(thread));
	CHECK_EQ(t.args.physical_address, A + 0x123);
	CHECK(t.args.valid);
	lazy_vm_end(&vm);
}

struct pae {
	struct lazy_vm *vm;
	struct kvm_sregs sregs;
};

static void *enter_pae(void *arg)
{
	struct pae *pae = arg;

	return (void *)(long)ioctl(pae->vm->g.vcpus[0].fd, KVM_SET_SREGS, &pae->sregs);
}

/* With PAE the four entries of the top table are read when the vCPU is told where it is. */
TEST_ARRANGED(pae_entries)
{
	struct kvm_sregs2 sregs2 = { 0 };
	struct lazy_vm vm;
	struct pae pae = { .vm = &vm };
	uint64_t *entries;
	pthread_t thread;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(moves), 0);
	if (guest_has(&vm.g, KVM_CAP_SREGS2) <= 0)
		SKIP("KVM_CAP_SREGS2 is not offered");
	entries = (uint64_t *)(vm.m.image + A + 0x20);
	for (int i = 0; i < 4; i++)
		entries[i] = (A + i * PAGE) | 1;
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	REQUIRE_OK(ioctl(vm.g.vcpus[0].fd, KVM_GET_SREGS, &pae.sregs));
	pae.sregs.cs.l = 0;
	pae.sregs.cs.db = 1;
	pae.sregs.efer = 0;
	pae.sregs.cr3 = A + 0x20;
	thread = thread_start(enter_pae, &pae);
	lazy_serve(&vm.m, A);
	REQUIRE(!thread_join(thread));
	REQUIRE_OK(ioctl(vm.g.vcpus[0].fd, KVM_GET_SREGS2, &sregs2));
	CHECK_EQ(sregs2.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
	CHECK(!memcmp(sregs2.pdptrs, entries, 32));
	lazy_vm_end(&vm);
}

/* --- System management mode ---------------------------------------------------------------------------------- */

/* Where a vCPU goes, and where KVM saves its state, unless it is told otherwise. */
#define SMM_CODE 0x38000ul
#define SMM_STATE 0x3f000ul

GUEST_CODE(manages, ".code16",
	   "	movw $0x10, %dx\n"
	   "	movl $0x5151, %eax\n"
	   "	outl %eax, %dx\n"
	   "	rsm");

GUEST_CODE(goes_on, ".code64",
	   "	movl $0x6262, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

TEST_ARRANGED(state_is_saved_for_smm)
{
	struct kvm_userspace_memory_region managed;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(goes_on), 0);
	if (guest_has(&vm.g, KVM_CAP_X86_SMM) <= 0)
		SKIP("KVM_CAP_X86_SMM is not offered");
	/* That mode has memory slots of its own. */
	managed = vm.g.slots[0];
	managed.slot |= 1 << 16;
	REQUIRE_OK(ioctl(vm.g.vm, KVM_SET_USER_MEMORY_REGION, &managed));
	memcpy(vm.m.image + SMM_CODE, manages, GUEST_CODE_SIZE(manages));
	lazy_ready(&vm.m, (uint64_t[]){ SMM_CODE, SMM_STATE }, 2);
	REQUIRE_OK(ioctl(vm.g.vcpus[0].fd, KVM_SMI, 0));
	guest_start(&vm.g, 0);
	CHECK(lazy_serve(&vm.m, SMM_STATE).write);
	lazy_serve(&vm.m, SMM_CODE);
	lazy_says(&vm, 0, 0x5151);

	/* The state is taken away and brought back when it is needed. */
	REQUIRE_EQ(pread(vm.m.fd, vm.m.image + SMM_STATE, PAGE, SMM_STATE), PAGE);
	lazy_again(&vm.m, SMM_STATE);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, SMM_STATE);
	lazy_says(&vm, 0, 0x6262);
	lazy_vm_end(&vm);
}

/* --- Nested guests ---------------------------------------------------------------------------------------------- */

#define VMCB A
#define MSR_MAP (A + 4 * PAGE)	/* two pages */
#define IO_MAP (A + 8 * PAGE)	/* three pages */
#define SVM_BIT (1u << 2)	/* of leaf 0x80000001, ecx */
#define EFER_SVME (1ul << 12)
#define MSR_HSAVE 0xc0010117u
#define EXIT_VMMCALL 0x81
/* Offsets in the VMCB. */
#define CONTROL_INTERCEPT3 0x0c
#define CONTROL_INTERCEPT4 0x10
#define CONTROL_IOPM 0x40
#define CONTROL_MSRPM 0x48
#define CONTROL_ASID 0x58
#define CONTROL_EXIT_CODE 0x70
#define SAVE_CS 0x410
#define SAVE_EFER 0x4d0
#define SAVE_CR4 0x548
#define SAVE_CR3 0x550
#define SAVE_CR0 0x558
#define SAVE_DR7 0x560
#define SAVE_DR6 0x568
#define SAVE_RFLAGS 0x570
#define SAVE_RIP 0x578
#define SAVE_RSP 0x5d8

GUEST_CODE(runs_guest, ".code64",
	   "	vmrun %rax\n"
	   "	movl 0x70(%rdi), %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(calls, ".code64", "	vmmcall");

GUEST_CODE(loads_and_saves, ".code64",
	   "	vmload %rax\n"
	   "	movq %rdi, %rax\n"
	   "	vmsave %rax\n"
	   "	movl $9, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static void put(unsigned char *vmcb, size_t at, uint64_t value, size_t size)
{
	memcpy(vmcb + at, &value, size);
}

static void make_nested(struct lazy_vm *vm, const struct arrangement *how, const unsigned char *code, size_t len)
{
	struct kvm_cpuid_entry2 leaf;
	unsigned char *vmcb;

	lazy_vm(vm, how, 1, code, len, 0);
	if (!guest_cpuid(&vm->g, 0x80000001, 0, &leaf) || !(leaf.ecx & SVM_BIT))
		SKIP("this KVM does not offer SVM to its guests");
	memcpy(vm->m.image + LAZY_HANDLER, calls, GUEST_CODE_SIZE(calls));
	vmcb = vm->m.image + VMCB;
	memset(vmcb, 0, PAGE);
	memset(vm->m.image + MSR_MAP, 0, 2 * PAGE);
	memset(vm->m.image + IO_MAP, 0, 3 * PAGE);
	put(vmcb, CONTROL_INTERCEPT3, 1u << 28, 4);	/* MSRs, by the map */
	put(vmcb, CONTROL_INTERCEPT4, 3, 4);		/* VMRUN, VMMCALL */
	put(vmcb, CONTROL_IOPM, IO_MAP, 8);
	put(vmcb, CONTROL_MSRPM, MSR_MAP, 8);
	put(vmcb, CONTROL_ASID, 1, 4);
	/* Segments: ES, CS, SS, DS are next to each other; 64-bit code, and data. */
	for (int i = 0; i < 4; i++) {
		put(vmcb, 0x400 + i * 16, i == 1 ? 8 : 16, 2);
		put(vmcb, 0x402 + i * 16, i == 1 ? 0xa9b : 0xc93, 2);
		put(vmcb, 0x404 + i * 16, 0xffffffff, 4);
	}
	put(vmcb, SAVE_EFER, EFER_SVME | 1 << 8 | 1 << 10, 8);
	put(vmcb, SAVE_CR0, 0x80010011, 8);
	put(vmcb, SAVE_CR3, LAZY_TABLES, 8);
	put(vmcb, SAVE_CR4, 1 << 5, 8);
	put(vmcb, SAVE_DR6, 0xffff0ff0, 8);
	put(vmcb, SAVE_DR7, 0x400, 8);
	put(vmcb, SAVE_RFLAGS, 2, 8);
	put(vmcb, SAVE_RIP, LAZY_HANDLER, 8);
	put(vmcb, SAVE_RSP, LAZY_STACK, 8);
}

static void start_nested(struct lazy_vm *vm, uint64_t rdi)
{
	struct kvm_sregs sregs;

	lazy_regs(vm, 0, rdi, 0, 0, VMCB);
	REQUIRE_OK(ioctl(vm->g.vcpus[0].fd, KVM_GET_SREGS, &sregs));
	sregs.efer |= EFER_SVME;
	REQUIRE_OK(ioctl(vm->g.vcpus[0].fd, KVM_SET_SREGS, &sregs));
	REQUIRE(guest_set_msr(&vm->g, 0, MSR_HSAVE, A + 0x10 * PAGE));
	guest_start(&vm->g, 0);
}

static const struct nested_row {
	const char *label;
	uint64_t page;
} nesteds[] = {
	{ "vmcb", VMCB },
	{ "map_of_msrs", MSR_MAP },
	{ "code", LAZY_HANDLER },
	{ "top_table", LEVEL(0) },
};

TEST_ARRANGED_EACH(nested_guest, struct nested_row, nesteds)
{
	struct lazy_vm vm;

	make_nested(&vm, how, LAZY_CODE_OF(runs_guest));
	lazy_ready(&vm.m, &row->page, 1);
	start_nested(&vm, VMCB);
	lazy_serve(&vm.m, row->page);
	lazy_says(&vm, 0, EXIT_VMMCALL);
	lazy_vm_end(&vm);
}

/* KVM takes the page of the one as its own, and fills that of the other. */
TEST_ARRANGED(nested_state_is_loaded_and_saved)
{
	const uint64_t to = A + PAGE;
	struct lazy_vm vm;
	uint64_t star;

	make_nested(&vm, how, LAZY_CODE_OF(loads_and_saves));
	put(vm.m.image + VMCB, 0x600, 0x1234567800000000, 8);	/* STAR */
	lazy_ready(&vm.m, (uint64_t[]){ VMCB, to }, 2);
	start_nested(&vm, to);
	lazy_serve(&vm.m, VMCB);
	lazy_serve(&vm.m, to);
	lazy_says(&vm, 0, 9);
	REQUIRE_EQ(pread(vm.m.fd, &star, sizeof(star), to + 0x600), sizeof(star));
	CHECK_EQ(star, 0x1234567800000000);
	lazy_vm_end(&vm);
}
