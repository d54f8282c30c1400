// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a KVM guest whose memory is a gmem file: it runs from nothing, loses a page, is stopped by a signal.
 */
#include "guest.h"
#include "peer.h"
#include "trap.h"

#define CODE 0x1000ul
#define DATA 0x2000ul
#define DATA2 0x3000ul
#define TABLES 0x10000ul
#define STACK 0x30000ul		/* grows down into the page before */
#define SIZE (1ul << 20)
#define PORT 0x10

/* The words of two pages are summed by way of the stack. */
GUEST_CODE(works, ".code64",
	   "	movl (%rdi), %eax\n"
	   "	addl 4096(%rdi), %eax\n"
	   "	pushq %rax\n"
	   "	popq %rbx\n"
	   "	movl %ebx, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static unsigned char *image;

/* What the guest's memory is to hold: code, tables, and patterns everywhere else. */
static void make_image(const unsigned char *code, size_t len)
{
	image = xmmap_anon(SIZE);
	for (size_t at = 0; at < SIZE; at += page_size())
		pattern_fill(image + at, page_size(), at);
	memcpy(image + CODE, code, len);
	guest_build_tables(image + TABLES, TABLES);
}

static uint32_t word(uint64_t gpa)
{
	uint32_t w;

	memcpy(&w, image + gpa, sizeof(w));
	return w;
}

static void from_image(void *buf, size_t len, uint64_t offset)
{
	memcpy(buf, image + offset, len);
}

struct vm {
	struct trap_rig rig;
	struct guest g;
};

static void make_vm(struct vm *vm, int vcpus, const unsigned char *code, size_t len)
{
	guest_create(&vm->g);
	vm->rig = trap_rig(SIZE / page_size(), GMEMFD_MODE_MISSING, 0);
	make_image(code, len);
	guest_add_memory(&vm->g, 0, vm->rig.map, SIZE);
	for (int i = 0; i < vcpus; i++) {
		guest_add_vcpu(&vm->g);
		guest_long_mode(&vm->g, i, TABLES, CODE, STACK - i * 0x1000);
	}
}

static void set_data(struct vm *vm, int vcpu, uint64_t gpa)
{
	struct kvm_regs regs = guest_get_regs(&vm->g, vcpu);

	regs.rdi = gpa;
	regs.rax = 0x11223344;
	guest_set_regs(&vm->g, vcpu, &regs);
}

/* All of the image but one page. */
static void provide_but(struct vm *vm, uint64_t gpa)
{
	if (gpa)
		REQUIRE_OK(gmem_copy(vm->rig.fd, 0, gpa, image, 0));
	gpa += page_size();
	REQUIRE_OK(gmem_copy(vm->rig.fd, gpa, SIZE - gpa, image + gpa, 0));
}

static void resolve(struct vm *vm, uint64_t gpa)
{
	CHECK_OK(gmem_copy(vm->rig.fd, gpa, page_size(), image + gpa, 0));
}

static void check_port(const struct guest_exit *e, uint32_t value)
{
	REQUIRE(e);
	CHECK_EQ(e->err, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_IO);
	CHECK_EQ(e->port, PORT);
	CHECK_EQ((uint32_t)e->value, value);
}

/* Nothing is there when the guest starts: a handler thread brings what it touches, and no more. */
TEST(guest_runs_from_nothing)
{
	struct gmem_handler handler;
	struct vm vm;
	size_t ps = page_size();

	make_vm(&vm, 1, works, GUEST_CODE_SIZE(works));
	set_data(&vm, 0, DATA);
	handler = (struct gmem_handler){ .fd = vm.rig.fd, .context = vm.rig.context, .content = from_image };
	gmem_handler_start(&handler);
	guest_start(&vm.g, 0);
	check_port(guest_join(&vm.g, 0, 20), word(DATA) + word(DATA2));
	gmem_handler_stop(&handler);
	/* Code, two pages of data, the stack, and three levels of tables. */
	CHECK_EQ(handler.events, 7);
	CHECK_EQ(xgmem_stats(vm.rig.fd).allocated, 7 * ps);
	CHECK(!memcmp(vm.rig.map + DATA, image + DATA, 2 * ps));
	CHECK_EQ(xgmem_stats(vm.rig.fd).faults_zero, 0);
	guest_destroy(&vm.g);
}

/* The page is taken away from the running guest: it traps again, through its nested tables. */
TEST(punched_page_traps_the_guest_again)
{
	struct vm vm;
	const struct guest_exit *e;

	make_vm(&vm, 1, reads, GUEST_CODE_SIZE(reads));
	set_data(&vm, 0, DATA);
	REQUIRE_OK(gmem_copy(vm.rig.fd, 0, SIZE, image, 0));
	check_port(guest_run(&vm.g, 0), word(DATA));
	CHECK_OK(gmem_punch(vm.rig.fd, DATA, page_size()));
	guest_long_mode(&vm.g, 0, TABLES, CODE, STACK);
	set_data(&vm, 0, DATA);
	/* The port's instruction is finished first. */
	guest_start(&vm.g, 0);
	CHECK_EQ(trap_event(vm.rig.context).offset, DATA);
	memset(image + DATA, 0x33, page_size());
	resolve(&vm, DATA);
	e = guest_join(&vm.g, 0, 10);
	check_port(e, 0x33333333);
	guest_destroy(&vm.g);
}

static void nothing(int sig)
{
	(void)sig;
}

/* The waiting vCPU comes back with EINTR for a signal, and runs and waits again; or it waits on. */
static void kick(struct vm *vm, bool comes_back)
{
	const struct guest_exit *e;

	CHECK(wait_for(task_state(vm->g.vcpus[0].tid) == (comes_back ? 'S' : 'D'), 10));
	REQUIRE_EQ(pthread_kill(vm->g.vcpus[0].thread, SIGUSR1), 0);
	if (!comes_back) {
		CHECK(!guest_join(&vm->g, 0, 0.05));
		CHECK_EQ(xgmem_stats(vm->rig.fd).waiters, 1);
		return;
	}
	e = guest_join(&vm->g, 0, 10);
	REQUIRE(e);
	CHECK_EQ(e->err, EINTR);
	CHECK_EQ(xgmem_stats(vm->rig.fd).waiters, 0);
	guest_start(&vm->g, 0);
	CHECK_EQ(trap_event(vm->rig.context).offset, DATA);
}

/* A VMM stops its vCPUs with signals. Kernels of before KVM learnt to break off go on waiting, whatever the memory. */
TEST(signal_brings_the_vcpu_back)
{
	struct sigaction sa = { .sa_handler = nothing };
	bool comes_back = peer_kvm_is_interruptible(false);
	const struct guest_exit *e;
	struct vm vm;

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	make_vm(&vm, 1, reads, GUEST_CODE_SIZE(reads));
	set_data(&vm, 0, DATA);
	provide_but(&vm, DATA);
	guest_start(&vm.g, 0);
	CHECK_EQ(trap_event(vm.rig.context).offset, DATA);
	kick(&vm, comes_back);
	/* So it does after it was woken for nothing. */
	CHECK_OK(gmem_wake(vm.rig.fd, DATA, page_size()));
	CHECK_EQ(trap_event(vm.rig.context).offset, DATA);
	kick(&vm, comes_back);
	resolve(&vm, DATA);
	e = guest_join(&vm.g, 0, 10);
	/* The signal that it waited on for is looked at now. */
	if (e && !comes_back && e->err == EINTR)
		e = guest_run(&vm.g, 0);
	check_port(e, word(DATA));
	guest_destroy(&vm.g);
}
