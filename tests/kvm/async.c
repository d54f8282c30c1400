// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asynchronous page faults: with interrupt controllers in the kernel a thread of KVM's waits for the page instead of
 * the vCPU, which halts, or goes on with something else if the guest has asked to be told.
 */
#include "lazy.h"

#define PAGE 4096ul
#define A LAZY_DATA			/* what the guest reads */
#define REASON (LAZY_DATA + 4 * PAGE)	/* what KVM tells it of faults */
#define COUNTER (LAZY_DATA + 5 * PAGE)
#define VECTOR 0x42
#define FAULT_VECTOR 14
#define RFLAGS_IF (1ul << 9)
#define HANDLER2 (LAZY_HANDLER + PAGE)
#define WAKE_ALL 0xffffffffu		/* what KVM says first: whoever waits may go on */

/*
 * A page is not there: says so, clears the reason, and waits for interrupts as an idle guest would; the one that
 * says that the page is there comes back here, and the read is tried again.
 */
GUEST_CODE(is_not_there, ".code64",
	   "	pushq %rax\n"
	   "	pushq %rdx\n"
	   "	movl (%rsi), %eax\n"
	   "	movl $0, (%rsi)\n"
	   "	movl $0, 4096(%rsi)\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	sti\n"
	   "1:	pause\n"
	   "	cmpl $0, 4096(%rsi)\n"
	   "	je 1b\n"
	   "	cli\n"
	   "	popq %rdx\n"
	   "	popq %rax\n"
	   "	addq $8, %rsp\n"
	   "	iretq");

/* A page is there: says with which token, takes it, and ends the interrupt. */
GUEST_CODE(is_there, ".code64",
	   "	pushq %rax\n"
	   "	pushq %rcx\n"
	   "	pushq %rdx\n"
	   "	movl 4(%rsi), %eax\n"
	   "	movl $0, 4(%rsi)\n"
	   "	movl $1, 4096(%rsi)\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	xorl %edx, %edx\n"
	   "	movl $1, %eax\n"
	   "	movl $0x4b564d07, %ecx\n"
	   "	wrmsr\n"
	   "	xorl %eax, %eax\n"
	   "	movl $0x80b, %ecx\n"
	   "	wrmsr\n"
	   "	popq %rdx\n"
	   "	popq %rcx\n"
	   "	popq %rax\n"
	   "	iretq");

static void make(struct lazy_vm *vm, const struct arrangement *how)
{
	lazy_vm(vm, how, 1, LAZY_CODE_OF(reads), LAZY_IRQCHIP | LAZY_THREAD_ID);
}

static void start(struct lazy_vm *vm)
{
	struct kvm_regs regs;

	lazy_regs(vm, 0, A + 8, REASON, 0, 0);
	guest_use_descriptors(&vm->g, 0, LAZY_DESCRIPTORS);
	guest_use_apic(&vm->g, 0);
	/* Only a vCPU that takes interrupts may halt. */
	regs = guest_get_regs(&vm->g, 0);
	CHECK(regs.rflags & RFLAGS_IF);
	guest_start(&vm->g, 0);
}

/* A thread of this process? */
static bool is_ours(uint32_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%u", tid);
	return !access(path, F_OK);
}

/* The guest knows nothing of it: its vCPU halts until the page is there. */
TEST_ARRANGED(vcpu_halts)
{
	struct lazy_event event;
	struct lazy_vm vm;

	make(&vm, how);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	start(&vm);
	event = lazy_trapped(&vm.m, A);
	/* KVM's thread waits, not the vCPU's. */
	CHECK(event.tid);
	CHECK(!is_ours(event.tid));
	CHECK(lazy_waits(&vm, 0));
	CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 1);
	lazy_resolve(&vm.m, A);
	lazy_says(&vm, 0, lazy_word(&vm.m, A + 8));
	lazy_vm_end(&vm);
}

static void nothing(int sig)
{
	(void)sig;
}

/* Unlike one that waits by itself, on every kernel. */
TEST_ARRANGED(signal_brings_a_halted_vcpu_back)
{
	struct sigaction sa = { .sa_handler = nothing };
	const struct guest_exit *e;
	struct lazy_vm vm;

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	make(&vm, how);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	start(&vm);
	lazy_trapped(&vm.m, A);
	CHECK(lazy_waits(&vm, 0));
	REQUIRE_EQ(pthread_kill(vm.g.vcpus[0].thread, SIGUSR1), 0);
	e = guest_join(&vm.g, 0, 10);
	REQUIRE(e);
	CHECK_EQ(e->err, EINTR);
	/* KVM's thread waits on. */
	CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 1);
	lazy_resolve(&vm.m, A);
	lazy_said(guest_run(&vm.g, 0), lazy_word(&vm.m, A + 8));
	lazy_vm_end(&vm);
}

static const struct told_row {
	const char *label;
	bool reason_traps;	/* the page that KVM tells it in, too */
} tolds[] = {
	{ "of_a_page", false },
	{ "in_a_page_that_traps", true },
};

TEST_ARRANGED_EACH(guest_is_told, struct told_row, tolds)
{
	const uint64_t trapped[] = { A, REASON };
	uint32_t token;
	struct lazy_vm vm;

	make(&vm, how);
	if (!guest_offers(&vm.g, KVM_FEATURE_ASYNC_PF) || !guest_offers(&vm.g, KVM_FEATURE_ASYNC_PF_INT))
		SKIP("KVM_FEATURE_ASYNC_PF and KVM_FEATURE_ASYNC_PF_INT are not offered");
	memcpy(vm.m.image + LAZY_HANDLER, is_not_there, GUEST_CODE_SIZE(is_not_there));
	memcpy(vm.m.image + HANDLER2, is_there, GUEST_CODE_SIZE(is_there));
	guest_set_gate(vm.m.image + LAZY_DESCRIPTORS, FAULT_VECTOR, LAZY_HANDLER);
	guest_set_gate(vm.m.image + LAZY_DESCRIPTORS, VECTOR, HANDLER2);
	memset(vm.m.image + REASON, 0, PAGE);
	memset(vm.m.image + COUNTER, 0, PAGE);
	lazy_ready(&vm.m, trapped, row->reason_traps ? 2 : 1);
	REQUIRE(guest_set_msr(&vm.g, 0, MSR_KVM_ASYNC_PF_INT, VECTOR));
	REQUIRE(guest_set_msr(&vm.g, 0, MSR_KVM_ASYNC_PF_EN,
			      REASON | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_SEND_ALWAYS |
			      KVM_ASYNC_PF_DELIVERY_AS_INT));
	start(&vm);
	if (row->reason_traps) {
		CHECK(is_ours(lazy_trapped(&vm.m, REASON).tid));
		lazy_resolve(&vm.m, REASON);
	}
	lazy_says(&vm, 0, WAKE_ALL);
	if (row->reason_traps)
		lazy_again(&vm.m, REASON);
	guest_start(&vm.g, 0);
	if (row->reason_traps) {
		/* That of the page may be read before or after it. */
		for (int i = 0; i < 2; i++) {
			struct lazy_event event = lazy_event(&vm.m);

			CHECK(event.offset == A || event.offset == REASON);
			if (event.offset == REASON) {
				CHECK(is_ours(event.tid));
				lazy_resolve(&vm.m, REASON);
			}
		}
	} else {
		CHECK(!is_ours(lazy_trapped(&vm.m, A).tid));
	}
	/* The vCPU goes on while the page is absent. */
	lazy_says(&vm, 0, KVM_PV_REASON_PAGE_NOT_PRESENT);
	CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 1);
	guest_start(&vm.g, 0);
	CHECK(lazy_waits(&vm, 0));
	lazy_resolve(&vm.m, A);
	/* And is told when it is there, by the token that came with the fault. */
	token = guest_join(&vm.g, 0, 10) ? vm.g.vcpus[0].last.value : 0;
	CHECK_EQ(vm.g.vcpus[0].last.exit, KVM_EXIT_IO);
	CHECK(token);
	lazy_said(guest_run(&vm.g, 0), lazy_word(&vm.m, A + 8));
	lazy_vm_end(&vm);
}

/* A page that goes while KVM's thread waits for another: each is there when the guest gets to it. */
TEST_ARRANGED(page_goes_while_a_vcpu_halts)
{
	struct lazy_vm vm;

	make(&vm, how);
	lazy_ready(&vm.m, (uint64_t[]){ A, LAZY_CODE }, 2);
	start(&vm);
	lazy_serve(&vm.m, LAZY_CODE);
	lazy_trapped(&vm.m, A);
	lazy_again(&vm.m, LAZY_CODE);
	lazy_resolve(&vm.m, A);
	lazy_serve(&vm.m, LAZY_CODE);
	lazy_says(&vm, 0, lazy_word(&vm.m, A + 8));
	lazy_vm_end(&vm);
}
