// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a vCPU touches by itself: code, data, strings over the borders of pages, its page tables, descriptors and stack.
 * Each page that traps is asked for once, none other is, and the guest sees and leaves what it would without traps.
 */
#include "lazy.h"

#define PAGE 4096ul
#define A (LAZY_DATA + 0x10 * PAGE)	/* where strings come from */
#define B (LAZY_DATA + 0x20 * PAGE)	/* where they go to */
#define MAX_TRAPPED 8
#define LEN (2 * PAGE)

/* Says what was there, and adds to it. */
GUEST_CODE(adds, ".code64",
	   "	lock xaddl %eax, (%rdi)\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(moves, ".code64",
	   "	cld\n"
	   "	rep movsb\n"
	   "	movl %ecx, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* The same from the end, by words. */
GUEST_CODE(moves_down, ".code64",
	   "	std\n"
	   "	rep movsq\n"
	   "	movl %ecx, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(stores, ".code64",
	   "	cld\n"
	   "	rep stosb\n"
	   "	movl %ecx, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* What is left to compare when two strings part. */
GUEST_CODE(compares, ".code64",
	   "	cld\n"
	   "	repe cmpsb\n"
	   "	movl %ecx, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(pushes, ".code64",
	   "	pushq %rax\n"
	   "	xorl %eax, %eax\n"
	   "	popq %rax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* Its first instruction has ten bytes. */
GUEST_CODE(says_constant, ".code64",
	   "	movabsq $0x1122334455667788, %rax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(excepts, ".code64", "	ud2");

GUEST_CODE(handles, ".code64",
	   "	movl (%rsp), %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

struct access_row {
	const char *label;
	const unsigned char *code, *code_end;
	uint64_t trapped[MAX_TRAPPED];	/* as many as are not 0 */
	uint64_t rdi, rsi, rcx, rax;
	uint64_t at;			/* where in its page the code begins */
	/* What the guest is to say, and what it does to its memory. */
	uint32_t (*says)(struct lazy *m, const struct access_row *row);
	void (*does)(struct lazy *m, const struct access_row *row);
};

static uint32_t there(struct lazy *m, const struct access_row *row)
{
	return lazy_word(m, row->rdi);
}

static uint32_t behind(struct lazy *m, const struct access_row *row)
{
	return lazy_word(m, row->rdi + 4);
}

static uint32_t eax(struct lazy *m, const struct access_row *row)
{
	return row->rax;
}

static uint32_t zero(struct lazy *m, const struct access_row *row)
{
	return 0;
}

static uint32_t constant(struct lazy *m, const struct access_row *row)
{
	return 0x55667788;
}

static uint32_t code(struct lazy *m, const struct access_row *row)
{
	return LAZY_CODE;
}

static void write_there(struct lazy *m, const struct access_row *row)
{
	memcpy(m->image + row->rdi, &row->rax, 4);
}

static void add_there(struct lazy *m, const struct access_row *row)
{
	uint32_t sum = lazy_word(m, row->rdi) + row->rax;

	memcpy(m->image + row->rdi, &sum, 4);
}

static void move(struct lazy *m, const struct access_row *row)
{
	memcpy(m->image + row->rdi, m->image + row->rsi, row->rcx);
}

static void move_down(struct lazy *m, const struct access_row *row)
{
	uint64_t before = row->rcx * 8 - 8;

	memcpy(m->image + row->rdi - before, m->image + row->rsi - before, row->rcx * 8);
}

static void store(struct lazy *m, const struct access_row *row)
{
	memset(m->image + row->rdi, row->rax, row->rcx);
}

/* Up to the last byte but 10, which is made to differ. */
static uint32_t differs(struct lazy *m, const struct access_row *row)
{
	return 10;
}

#define CODE_OF(name) .code = name, .code_end = name##_end
#define LEVEL(n) (LAZY_TABLES + (n) * PAGE)
#define STACK_PAGE (LAZY_STACK - PAGE)

static const struct access_row accesses[] = {
	{ "fetch", CODE_OF(reads), { LAZY_CODE }, .rdi = A, .says = there },
	{ "fetch_over_border", CODE_OF(says_constant), { LAZY_CODE + PAGE }, .at = PAGE - 5, .says = constant },
	{ "fetch_from_both", CODE_OF(says_constant), { LAZY_CODE, LAZY_CODE + PAGE }, .at = PAGE - 1,
	  .says = constant },
	{ "read", CODE_OF(reads), { A }, .rdi = A + 0x124, .says = there },
	{ "read_over_border", CODE_OF(reads), { A + PAGE }, .rdi = A + PAGE - 2, .says = there },
	{ "read_from_both", CODE_OF(reads), { A, A + PAGE }, .rdi = A + PAGE - 1, .says = there },
	{ "write", CODE_OF(writes), { A }, .rdi = A + 0x124, .rax = 0x12345678, .says = behind, .does = write_there },
	{ "write_over_border", CODE_OF(writes), { A + PAGE }, .rdi = A + PAGE - 2, .rax = 0x12345678,
	  .says = behind, .does = write_there },
	{ "write_to_both", CODE_OF(writes), { A, A + PAGE }, .rdi = A + PAGE - 3, .rax = 0x12345678,
	  .says = behind, .does = write_there },
	{ "atomic_add", CODE_OF(adds), { A }, .rdi = A + 8, .rax = 0x11111111, .says = there, .does = add_there },
	{ "movs_from", CODE_OF(moves), { A + PAGE, A + 2 * PAGE }, .rdi = B + 3, .rsi = A + 0xff0, .rcx = LEN,
	  .says = zero, .does = move },
	{ "movs_to", CODE_OF(moves), { B + PAGE, B + 2 * PAGE }, .rdi = B + 0xff0, .rsi = A + 5, .rcx = LEN,
	  .says = zero, .does = move },
	{ "movs_from_and_to", CODE_OF(moves), { A, A + PAGE, A + 2 * PAGE, B, B + PAGE, B + 2 * PAGE },
	  .rdi = B + 0xff8, .rsi = A + 0x7, .rcx = LEN, .says = zero, .does = move },
	{ "movs_down", CODE_OF(moves_down), { A, A + PAGE, B, B + PAGE }, .rdi = B + PAGE + 0x800,
	  .rsi = A + PAGE + 0x7f8, .rcx = 0x300, .says = zero, .does = move_down },
	{ "stos", CODE_OF(stores), { B + PAGE, B + 2 * PAGE }, .rdi = B + 0xff0, .rcx = LEN, .rax = 0x5c,
	  .says = zero, .does = store },
	{ "cmps", CODE_OF(compares), { A, A + PAGE, B, B + PAGE }, .rdi = B, .rsi = A, .rcx = LEN, .says = differs },
	{ "stack", CODE_OF(pushes), { STACK_PAGE }, .rax = 0x7766, .says = eax },
	{ "table_level_4", CODE_OF(reads), { LEVEL(0) }, .rdi = A, .says = there },
	{ "table_level_3", CODE_OF(reads), { LEVEL(1) }, .rdi = A, .says = there },
	{ "table_level_2", CODE_OF(reads), { LEVEL(2) }, .rdi = A, .says = there },
	{ "table_level_1", CODE_OF(reads), { LEVEL(3) }, .rdi = A, .says = there },
	{ "all_that_a_read_needs", CODE_OF(reads), { LEVEL(0), LEVEL(1), LEVEL(2), LEVEL(3), LAZY_CODE, A }, .rdi = A,
	  .says = there },
	{ "all_that_an_exception_needs", CODE_OF(excepts), { LAZY_DESCRIPTORS, LAZY_DESCRIPTORS + PAGE, LAZY_HANDLER,
	  STACK_PAGE, LAZY_CODE }, .says = code },
};

static size_t nr_trapped(const struct access_row *row)
{
	size_t nr = 0;

	while (nr < MAX_TRAPPED && row->trapped[nr])
		nr++;
	return nr;
}

TEST_ARRANGED_EACH(vcpu_touches, struct access_row, accesses)
{
	struct lazy_vm vm;
	struct kvm_regs regs;
	uint32_t said;

	lazy_vm(&vm, how, 1, excepts, GUEST_CODE_SIZE(excepts), 0);
	memcpy(vm.m.image + LAZY_CODE + row->at, row->code, row->code_end - row->code);
	memcpy(vm.m.image + LAZY_HANDLER, handles, GUEST_CODE_SIZE(handles));
	guest_set_gate(vm.m.image + LAZY_DESCRIPTORS, 6, LAZY_HANDLER);
	if (row->says == differs) {
		memcpy(vm.m.image + B, vm.m.image + A, LEN);
		vm.m.image[B + LEN - 11] ^= 1;
	}
	said = row->says(&vm.m, row);
	lazy_ready(&vm.m, row->trapped, nr_trapped(row));
	lazy_regs(&vm, 0, row->rdi, row->rsi, row->rcx, row->rax);
	guest_use_descriptors(&vm.g, 0, LAZY_DESCRIPTORS);
	regs = guest_get_regs(&vm.g, 0);
	regs.rip += row->at;
	guest_set_regs(&vm.g, 0, &regs);

	guest_start(&vm.g, 0);
	REQUIRE(gmem_waiters(vm.m.fd, 1, 10));
	CHECK(lazy_waits(&vm, 0));
	lazy_serve_all(&vm.m, row->trapped, nr_trapped(row));
	lazy_says(&vm, 0, said);
	if (row->does)
		row->does(&vm.m, row);
	CHECK(lazy_same(&vm.m, LAZY_DATA, LAZY_SIZE - LAZY_DATA));
	lazy_vm_end(&vm);
}

/* The first page is taken away when the second is waited for: the instruction starts over and both trap again. */
TEST_ARRANGED(page_goes_in_the_middle_of_an_instruction)
{
	struct lazy_vm vm;
	uint32_t said;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(reads), 0);
	lazy_ready(&vm.m, (uint64_t[]){ A, A + PAGE }, 2);
	lazy_regs(&vm, 0, A + PAGE - 2, 0, 0, 0);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, A);
	CHECK_EQ(lazy_trapped(&vm.m, A + PAGE).offset, A + PAGE);
	memset(vm.m.image + A, 0x77, PAGE);
	lazy_again(&vm.m, A);
	lazy_resolve(&vm.m, A + PAGE);
	said = lazy_word(&vm.m, A + PAGE - 2);
	CHECK_EQ(said & 0xffff, 0x7777);
	lazy_serve(&vm.m, A);
	lazy_says(&vm, 0, said);
	lazy_vm_end(&vm);
}
