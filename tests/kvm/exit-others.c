// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs that come back for what traps, beside all that does not: what KVM does for the vCPU on its own account, which
 * waits for a handler and does not fail; interrupts that are on their way; other vCPUs; KVM_PRE_FAULT_MEMORY.
 */
#include "bound.h"
#include "trap.h"

#define PAGE 4096ul
#define A BOUND_DATA
#define B (BOUND_DATA + PAGE)
#define GPA(at) (BOUND_GPA + (at))
#define OFFSET(at) (BOUND_OFFSET + (at))
#define STACK_PAGE (BOUND_STACK - PAGE)
#define VECTOR 0x40

/* Reads MMIO, and then, if told, something else before. */
GUEST_CODE(pushes_mmio, ".code64",
	   "	movl (%rsi), %eax\n"
	   "	pushq (%rdi)\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(halts, ".code64",
	   "	hlt\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* As above, for who does not halt. */
GUEST_CODE(spins, ".code64",
	   "1:	pause\n"
	   "	testl %eax, %eax\n"
	   "	jz 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

GUEST_CODE(handles_interrupt, ".code64",
	   "	addl (%rdi), %eax\n"
	   "	pushq %rax\n"
	   "	movl $0x80b, %ecx\n"
	   "	xorl %eax, %eax\n"
	   "	xorl %edx, %edx\n"
	   "	wrmsr\n"
	   "	popq %rax\n"
	   "	iretq");

/* rdi: the first of rcx pages, of which one word each is summed. */
GUEST_CODE(sums, ".code64",
	   "	xorl %eax, %eax\n"
	   "1:	addl (%rdi), %eax\n"
	   "	addq $4096, %rdi\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static const struct arrangement_row {
	const char *label;
	unsigned int options;
} arrangements[] = {
	{ "missing", 0 },
	{ "minor", BOUND_MINOR },
	{ "missing_irqchip", BOUND_IRQCHIP },
	{ "minor_irqchip", BOUND_MINOR | BOUND_IRQCHIP },
};

static int ask(struct bound *b, int vcpu)
{
	struct gmemfd_event event;

	return gmem_vcpu_fault(b->context, b->g.vcpus[vcpu].fd, &event);
}

/* A fault of KVM's own for the first vCPU: it waits, and is for the handler. */
static void kvm_waits(struct bound *b, uint64_t at)
{
	struct gmemfd_event event = bound_event(b);

	CHECK_EQ(event.gpa, GPA(at));
	CHECK_EQ(event.flags & (GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST),
		 GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU);
	CHECK_EQ(event.vcpu, 0);
	CHECK(xgmem_stats(b->fd).waiters > 0);
}

/* --- KVM on its own account ------------------------------------------------------------------------ */

static const struct own_row {
	const char *label;
	unsigned int options;
	uint64_t at;
	bool exited;		/* the guest has just come back for the very page */
} owns[] = {
	{ "operand", 0, STACK_PAGE, false },
	{ "operand.minor", BOUND_MINOR, STACK_PAGE, false },
	{ "operand.irqchip", BOUND_IRQCHIP, STACK_PAGE, false },
	{ "operand.exited", 0, STACK_PAGE, true },
	{ "operand.exited_minor", BOUND_MINOR, STACK_PAGE, true },
	{ "operand.exited_irqchip", BOUND_IRQCHIP, STACK_PAGE, true },
	{ "page_table", 0, BOUND_TABLES + 3 * PAGE, false },
	{ "page_table.minor", BOUND_MINOR, BOUND_TABLES + 3 * PAGE, false },
	{ "page_table.irqchip", BOUND_IRQCHIP, BOUND_TABLES + 3 * PAGE, false },
};

/* KVM emulates an instruction: its operand, and the tables that lead there. */
TEST_EACH(kvm_emulates, struct own_row, owns)
{
	const struct guest_exit *e;
	struct bound b;
	uint64_t pushed;

	bound_make(&b, 1, BOUND_CODE_OF(pushes_mmio), row->options | BOUND_EXIT);
	bound_ready(&b, &row->at, row->exited);
	bound_regs(&b, 0, BOUND_HOLE, GPA(row->exited ? row->at + 0x80 : A), 0, 0);
	if (row->exited) {
		e = guest_run(&b.g, 0);
		REQUIRE(e->err == EFAULT || e->err == EINTR);
		CHECK_EQ(bound_fault(&b, 0).gpa, GPA(row->at));
		CHECK_OK(bound_provide(&b, row->at));
	}
	e = guest_run(&b.g, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_MMIO);
	guest_answer(&b.g, 0, 0x1122334455667788);
	bound_again(&b, row->at);
	guest_start(&b.g, 0);
	kvm_waits(&b, row->at);
	CHECK(!guest_join(&b.g, 0, 0.02));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	CHECK_OK(bound_provide(&b, row->at));
	/* Then the guest itself may want another page that traps. */
	bound_says(guest_join(&b.g, 0, 10), bound_word(&b, row->exited ? row->at + 0x80 : A));
	memcpy(&pushed, b.map + BOUND_STACK - 8, 8);
	CHECK_EQ(pushed, 0x1122334455667788);
	bound_end(&b);
}

static long set_clock(void *arg)
{
	struct bound *b = arg;

	CHECK(guest_set_msr(&b->g, 0, MSR_KVM_SYSTEM_TIME_NEW, GPA(A + 0x800) | 1));
	bound_says(guest_run(&b->g, 0), bound_word(b, A));
	return 0;
}

/* kvmclock is written to the page that the guest came back for a moment ago, and that nobody has provided. */
TEST_EACH(kvm_writes_its_clock, struct arrangement_row, arrangements)
{
	const struct guest_exit *e;
	struct gmemfd_event event;
	struct trap_task task;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), row->options | BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	e = guest_run(&b.g, 0);
	REQUIRE(e->err == EFAULT || e->err == EINTR);
	bound_fault(&b, 0);
	if (row->options & BOUND_IRQCHIP) {
		/* One record is for KVM's thread, which was given the access; the clock's is the same page's. */
		event = bound_event(&b);
		CHECK_EQ(event.gpa, GPA(A));
		CHECK(event.flags & GMEMFD_FAULT_GUEST);
		trap_start(&task, set_clock, &b);
		REQUIRE(trap_waiters(b.fd, 2));
	} else {
		trap_start(&task, set_clock, &b);
		kvm_waits(&b, A);
	}
	CHECK(!trap_done(&task, 0.02));
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(trap_result(&task), 0);
	bound_end(&b);
}

/* --- Interrupts ------------------------------------------------------------------------------------ */

static const struct interrupt_row {
	const char *label;
	uint64_t at;
	bool halts;
} interrupts[] = {
	{ "handler", BOUND_HANDLER, false },
	{ "its_data", A, false },
	{ "descriptors", BOUND_DESCRIPTORS, false },
	{ "segments", BOUND_DESCRIPTORS + PAGE, false },
	{ "stack", STACK_PAGE, false },
	{ "halted.handler", BOUND_HANDLER, true },
	{ "halted.its_data", A, true },
	{ "halted.descriptors", BOUND_DESCRIPTORS, true },
	{ "halted.segments", BOUND_DESCRIPTORS + PAGE, true },
	{ "halted.stack", STACK_PAGE, true },
};

static void *run_it(void *arg)
{
	bound_run(arg, 0, NULL);
	return NULL;
}

/* What is needed to take an interrupt traps; the interrupt is taken, once. */
TEST_EACH(interrupted, struct interrupt_row, interrupts)
{
	pthread_t thread;
	struct bound b;

	if (row->halts)
		bound_make(&b, 1, BOUND_CODE_OF(halts), BOUND_EXIT | BOUND_IRQCHIP);
	else
		bound_make(&b, 1, BOUND_CODE_OF(spins), BOUND_EXIT | BOUND_IRQCHIP);
	memcpy(b.image + BOUND_HANDLER, handles_interrupt, GUEST_CODE_SIZE(handles_interrupt));
	guest_set_gate(b.image + BOUND_DESCRIPTORS, VECTOR, GPA(BOUND_HANDLER));
	bound_ready(&b, &row->at, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	/* For KVM's own accesses on the way. */
	bound_handler_start(&b);
	thread = thread_start(run_it, &b);
	/* An interrupt that comes before HLT would not wake it. */
	REQUIRE(wait_for(guest_stat(&b.g, row->halts ? "halt_exits" : "exits") > 0, 10));
	guest_interrupt(&b.g, 0, VECTOR);
	if (!CHECK(thread_join_for(thread, 10))) {
		struct kvm_regs regs = guest_get_regs(&b.g, 0);

		tap_diag("rip 0x%llx, provided %d, exits %llu, waiters %llu", regs.rip,
			 gmem_has_content(b.fd, OFFSET(row->at)), xgmem_stats(b.fd).vcpu_exits,
			 xgmem_stats(b.fd).waiters);
		return;
	}
	bound_says(&b.g.vcpus[0].last, bound_word(&b, A));
	CHECK(gmem_has_content(b.fd, OFFSET(row->at)));
	bound_handler_stop(&b);
	bound_end(&b);
}

/* --- Several vCPUs --------------------------------------------------------------------------------- */

#define VCPUS 4
#define PAGES_EACH 8

struct runner {
	struct bound *b;
	int vcpu;
	unsigned int exits;
	pthread_t thread;
};

static void *run_vcpu(void *arg)
{
	struct runner *r = arg;

	bound_run(r->b, r->vcpu, &r->exits);
	return NULL;
}

static void run_all(struct bound *b, struct runner *runners)
{
	for (int i = 0; i < VCPUS; i++) {
		runners[i] = (struct runner){ .b = b, .vcpu = i };
		runners[i].thread = thread_start(run_vcpu, &runners[i]);
	}
	for (int i = 0; i < VCPUS; i++)
		REQUIRE(thread_join_for(runners[i].thread, 20));
}

static uint32_t sum_of(struct bound *b, uint64_t at, int pages)
{
	uint32_t sum = 0;

	for (int i = 0; i < pages; i++)
		sum += bound_word(b, at + i * PAGE);
	return sum;
}

/* Each has its own pages, and comes back for all of them and no other. */
TEST_EACH(vcpus_with_pages_of_their_own, struct arrangement_row, arrangements)
{
	uint64_t pages[VCPUS * PAGES_EACH];
	struct runner runners[VCPUS];
	struct bound b;

	bound_make(&b, VCPUS, BOUND_CODE_OF(sums), row->options | BOUND_EXIT);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		pages[i] = A + i * PAGE;
	bound_ready(&b, pages, ARRAY_SIZE(pages));
	for (int i = 0; i < VCPUS; i++)
		bound_regs(&b, i, GPA(pages[i * PAGES_EACH]), 0, PAGES_EACH, 0);
	run_all(&b, runners);
	for (int i = 0; i < VCPUS; i++) {
		bound_says(&b.g.vcpus[i].last, sum_of(&b, pages[i * PAGES_EACH], PAGES_EACH));
		CHECK_EQ(runners[i].exits, PAGES_EACH);
	}
	CHECK_EQ(xgmem_stats(b.fd).vcpu_exits, VCPUS * PAGES_EACH);
	bound_end(&b);
}

/* All want the same ones: each page is provided by one of them. */
TEST_EACH(vcpus_with_the_same_pages, struct arrangement_row, arrangements)
{
	uint64_t pages[PAGES_EACH];
	struct runner runners[VCPUS];
	struct gmemfd_stats stats;
	unsigned int exits = 0;
	struct bound b;

	bound_make(&b, VCPUS, BOUND_CODE_OF(sums), row->options | BOUND_EXIT);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		pages[i] = A + i * PAGE;
	bound_ready(&b, pages, ARRAY_SIZE(pages));
	for (int i = 0; i < VCPUS; i++)
		bound_regs(&b, i, GPA(A), 0, PAGES_EACH, 0);
	run_all(&b, runners);
	for (int i = 0; i < VCPUS; i++) {
		bound_says(&b.g.vcpus[i].last, sum_of(&b, A, PAGES_EACH));
		exits += runners[i].exits;
	}
	CHECK(exits >= PAGES_EACH);
	stats = xgmem_stats(b.fd);
	CHECK(stats.vcpu_exits >= exits);
	CHECK(stats.vcpu_exits <= VCPUS * PAGES_EACH);
	if (row->options & BOUND_MINOR)
		CHECK_EQ(stats.continued, PAGES_EACH * PAGE);
	else
		CHECK_EQ(stats.copied, BOUND_SIZE);
	bound_end(&b);
}

/* --- KVM_PRE_FAULT_MEMORY -------------------------------------------------------------------------- */

TEST_EACH(pre_fault, struct arrangement_row, arrangements)
{
	struct kvm_pre_fault_memory range = { .gpa = GPA(A - PAGE), .size = 4 * PAGE };
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), row->options | BOUND_EXIT);
	if (guest_has(&b.g, KVM_CAP_PRE_FAULT_MEMORY) <= 0)
		SKIP("KVM of this kernel has no KVM_PRE_FAULT_MEMORY");
	bound_ready(&b, (uint64_t[]){ A, B }, 2);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	for (int i = 0; i < 2; i++) {
		int ret;

		/* What was done is told first, and the fault with the next call. */
		while ((ret = ioctl(b.g.vcpus[0].fd, KVM_PRE_FAULT_MEMORY, &range)) == 0)
			REQUIRE(range.size);
		REQUIRE_EQ(errno, EFAULT);
		CHECK_EQ(range.gpa, GPA(i ? B : A));
		CHECK_EQ(bound_fault(&b, 0).gpa, GPA(i ? B : A));
		CHECK_OK(bound_provide(&b, i ? B : A));
		CHECK_ERRNO(ask(&b, 0), ENOENT);
	}
	while (range.size)
		REQUIRE_OK(ioctl(b.g.vcpus[0].fd, KVM_PRE_FAULT_MEMORY, &range));
	/* KVM tries once, and once more to say that it failed. */
	CHECK(xgmem_stats(b.fd).vcpu_exits >= 2);
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	bound_end(&b);
}
