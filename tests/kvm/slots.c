// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that changes under a running guest: holes are punched, slots go, come and move, and KVM is told to map pages
 * before the guest touches them.
 */
#include "lazy.h"
#include "peer.h"
#include "trap.h"

#include <sys/syscall.h>

#define PAGE 4096ul
#define A LAZY_DATA
#define PAGES 8
#define STOP (LAZY_DATA + 0x10 * PAGE)
#define FILL 0x5a
#define NOTHING 0xffffffffu
#define GOOD 0x600d
#define ROUNDS 40

/*
 * Reads all of rcx pages at rdi, over and over, until the word at rsi is not 0: no word is zero, and none is less than
 * the one before it in its page.
 */
GUEST_CODE(scans, ".code64",
	   "1:	movq %rdi, %r8\n"
	   "	movl %ecx, %r9d\n"
	   "2:	movl $1024, %ebp\n"
	   "	movl $1, %ebx\n"
	   "3:	movl (%r8), %eax\n"
	   "	cmpl %ebx, %eax\n"
	   "	jb 9f\n"
	   "	movl %eax, %ebx\n"
	   "	addq $4, %r8\n"
	   "	decl %ebp\n"
	   "	jnz 3b\n"
	   "	decl %r9d\n"
	   "	jnz 2b\n"
	   "	cmpl $0, (%rsi)\n"
	   "	je 1b\n"
	   "	movl $0x600d, %eax\n"
	   "9:	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* Reads a word of each of rcx pages at rdi and at rax, until the word at rsi is not 0: what is there is 0x5a5a5a5a. */
GUEST_CODE(looks, ".code64",
	   "	movq %rax, %r11\n"
	   "1:	movl %ecx, %r9d\n"
	   "	xorl %r8d, %r8d\n"
	   "2:	movl (%rdi,%r8), %eax\n"
	   "	cmpl $0x5a5a5a5a, %eax\n"
	   "	je 3f\n"
	   "	cmpl $0xffffffff, %eax\n"
	   "	jne 9f\n"
	   "3:	movl (%r11,%r8), %eax\n"
	   "	cmpl $0x5a5a5a5a, %eax\n"
	   "	je 4f\n"
	   "	cmpl $0xffffffff, %eax\n"
	   "	jne 9f\n"
	   "4:	addq $4096, %r8\n"
	   "	decl %r9d\n"
	   "	jnz 2b\n"
	   "	cmpl $0, (%rsi)\n"
	   "	je 1b\n"
	   "	movl $0x600d, %eax\n"
	   "9:	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static void stop_guest(struct lazy_vm *vm)
{
	__atomic_store_n((uint32_t *)(vm->m.map + STOP), 1, __ATOMIC_RELEASE);
}

static void fill_words(struct lazy *m, uint64_t gpa, uint32_t word)
{
	for (uint64_t at = gpa; at < gpa + PAGE; at += 4)
		memcpy(m->image + at, &word, 4);
}

/* A hole is punched, and closed content put into it where the arrangement has it; a fault may be faster. */
static void punch(struct lazy *m, uint64_t gpa)
{
	REQUIRE_OK(gmem_punch(m->fd, gpa, PAGE));
	if (m->how->minor && gmem_copy(m->fd, gpa, PAGE, m->image + gpa, m->how->mapping ? 0 : GMEMFD_RANGE_CLOSED))
		CHECK_EQ(errno, EEXIST);
}

/* Two vCPUs look: what they see is the old content or the new, never a mixture that goes back, never zeros. */
TEST_ARRANGED(holes_under_a_running_guest)
{
	unsigned int met = 0;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 2, LAZY_CODE_OF(scans), LAZY_BOTH);
	memset(vm.m.image + STOP, 0, PAGE);
	for (int i = 0; i < PAGES; i++)
		fill_words(&vm.m, A + i * PAGE, 1);
	lazy_ready(&vm.m, NULL, 0);
	lazy_handler_start(&vm.m);
	for (int i = 0; i < 2; i++) {
		lazy_regs(&vm, i, A, STOP, PAGES, 0);
		guest_start(&vm.g, i);
	}
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t gpa = A + round * 5 % PAGES * PAGE;
		volatile unsigned int *seen = &vm.m.met[gpa / PAGE];
		unsigned int before = *seen;

		fill_words(&vm.m, gpa, 2 + round);
		punch(&vm.m, gpa);
		/* Both come by, and one of them asks. */
		REQUIRE(wait_for(*seen != before, 10));
		REQUIRE(wait_for(gmem_has_content(vm.m.fd, gpa), 10));
	}
	stop_guest(&vm);
	for (int i = 0; i < 2; i++)
		lazy_says(&vm, i, GOOD);
	/* A page may be closed still. */
	CHECK(lazy_same(&vm.m, A, PAGES * PAGE));
	lazy_handler_stop(&vm.m);
	for (int i = 0; i < PAGES; i++)
		met += vm.m.met[A / PAGE + i];
	CHECK(met >= ROUNDS);
	lazy_vm_end(&vm);
}

/* --- Slots ------------------------------------------------------------------------------------------------ */

/* Runs the vCPU to its end; where it meets no memory it gets NOTHING. Returns how often it did. */
static void *run_to_end(void *arg)
{
	struct guest *g = arg;
	long nothing = 0;

	while (guest_run(g, 0)->exit == KVM_EXIT_MMIO) {
		CHECK(!g->vcpus[0].last.is_write);
		guest_answer(g, 0, NOTHING);
		nothing++;
	}
	return (void *)nothing;
}

static const struct change_row {
	const char *label;
	uint64_t to;		/* where the slot goes, 0: away */
	bool punch;		/* what is in it has to be fetched anew each time */
} changes[] = {
	{ "goes_and_comes", 0, false },
	{ "moves", LAZY_HOLE + LAZY_SIZE, false },
	{ "goes_and_comes_with_holes", 0, true },
	{ "moves_with_holes", LAZY_HOLE + LAZY_SIZE, true },
};

TEST_ARRANGED_EACH(slot, struct change_row, changes)
{
	struct lazy_vm vm;
	pthread_t thread;
	int slot;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(looks), LAZY_BOTH);
	memset(vm.m.image + STOP, 0, PAGE);
	memset(vm.m.image + A, FILL, PAGES * PAGE);
	lazy_present(&vm.m, 0, A);
	lazy_present(&vm.m, STOP, PAGE);
	lazy_trap(&vm.m, A, PAGES * PAGE);
	lazy_handler_start(&vm.m);
	slot = guest_add_memory(&vm.g, LAZY_HOLE, vm.m.map + A, PAGES * PAGE);
	lazy_regs(&vm, 0, LAZY_HOLE, STOP, PAGES, LAZY_HOLE + LAZY_SIZE);
	thread = thread_start(run_to_end, &vm.g);
	/* It is at it, before the slot moves on without it. */
	REQUIRE(wait_for(*(volatile unsigned int *)&vm.m.met[A / PAGE], 10));
	for (int i = 0; i < 12; i++) {
		sleep_seconds(0.003);
		if (row->punch)
			for (int k = i & 1; k < PAGES; k += 2)
				punch(&vm.m, A + k * PAGE);
		if (row->to)
			guest_move_memory(&vm.g, slot, i & 1 ? LAZY_HOLE : row->to);
		else if (i & 1)
			guest_move_memory(&vm.g, slot, LAZY_HOLE);
		else
			guest_remove_memory(&vm.g, slot);
	}
	REQUIRE(wait_for(gmem_has_content(vm.m.fd, A + (PAGES - 1) * PAGE), 10));
	stop_guest(&vm);
	CHECK((long)thread_join(thread) > 0);
	lazy_said(&vm.g.vcpus[0].last, GOOD);
	CHECK(lazy_same(&vm.m, A + (PAGES - 1) * PAGE, PAGE));
	lazy_handler_stop(&vm.m);
	CHECK(vm.m.met[A / PAGE] >= 1);
	lazy_vm_end(&vm);
}

struct removal {
	struct lazy_vm *vm;
	int slot;
};

static long remove_slot(void *arg)
{
	struct removal *r = arg;

	guest_remove_memory(&r->vm->g, r->slot);
	return 0;
}

/* The slot is deleted while a vCPU waits for a page of it: both come to their end when the page is there. */
TEST_ARRANGED(slot_goes_while_a_vcpu_waits)
{
	const struct guest_exit *e;
	struct removal removal;
	struct trap_task task;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(reads), 0);
	removal.vm = &vm;
	removal.slot = guest_add_memory(&vm.g, LAZY_HOLE, vm.m.map, LAZY_SIZE);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	lazy_regs(&vm, 0, LAZY_HOLE + A, 0, 0, 0);
	guest_start(&vm.g, 0);
	lazy_trapped(&vm.m, A);
	trap_start(&task, remove_slot, &removal);
	REQUIRE(task_sleeps_in(task.tid, SYS_ioctl));
	CHECK(lazy_waits(&vm, 0));
	lazy_resolve(&vm.m, A);
	trap_result(&task);
	e = guest_join(&vm.g, 0, 10);
	REQUIRE(e);
	/* It was there still, or it was not any more. */
	if (e->exit == KVM_EXIT_MMIO)
		CHECK_EQ(e->gpa, LAZY_HOLE + A);
	else
		lazy_said(e, lazy_word(&vm.m, A));
	lazy_vm_end(&vm);
}

/* --- KVM_PRE_FAULT_MEMORY --------------------------------------------------------------------------------- */

struct prefault {
	int fd;
	struct kvm_pre_fault_memory args;
	int ret, err;
};

static void *prefault(void *arg)
{
	struct prefault *p = arg;

	errno = 0;
	p->ret = ioctl(p->fd, KVM_PRE_FAULT_MEMORY, &p->args);
	p->err = errno;
	return NULL;
}

static void make_prefault(struct lazy_vm *vm, struct prefault *p, const struct arrangement *how)
{
	lazy_vm(vm, how, 1, LAZY_CODE_OF(reads), 0);
	if (guest_has(&vm->g, KVM_CAP_PRE_FAULT_MEMORY) <= 0)
		SKIP("KVM_CAP_PRE_FAULT_MEMORY is not offered");
	lazy_ready(&vm->m, (uint64_t[]){ A, A + 2 * PAGE }, 2);
	memset(p, 0, sizeof(*p));
	p->fd = vm->g.vcpus[0].fd;
	p->args.gpa = A;
	p->args.size = 3 * PAGE;
}

/* Pages that are absent are waited for; the guest finds all of them mapped. */
TEST_ARRANGED(prefault_waits)
{
	struct prefault p;
	pthread_t thread;
	struct lazy_vm vm;

	make_prefault(&vm, &p, how);
	thread = thread_start(prefault, &p);
	for (int i = 0; i < 3; i += 2) {
		lazy_trapped(&vm.m, A + i * PAGE);
		CHECK(!thread_join_for(thread, 0.001));
		CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 1);
		lazy_resolve(&vm.m, A + i * PAGE);
	}
	REQUIRE(thread_join_for(thread, 10));
	CHECK_EQ(p.ret, 0);
	CHECK_EQ(p.args.size, 0);
	CHECK_EQ(p.args.gpa, A + 3 * PAGE);
	lazy_regs(&vm, 0, A + 2 * PAGE, 0, 0, 0);
	lazy_said(guest_run(&vm.g, 0), lazy_word(&vm.m, A + 2 * PAGE));
	lazy_vm_end(&vm);
}

static void nothing(int sig)
{
	(void)sig;
}

/*
 * A signal ends the wait for the second page, where it does with userfaultfd; else it is looked at when the page is
 * there. What was done is told.
 */
TEST_ARRANGED(prefault_meets_a_signal)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct prefault p;
	pthread_t thread;
	struct lazy_vm vm;
	bool back;

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	make_prefault(&vm, &p, how);
	back = peer_kvm_is_interruptible(true);
	thread = thread_start(prefault, &p);
	lazy_serve(&vm.m, A);
	lazy_trapped(&vm.m, A + 2 * PAGE);
	REQUIRE_EQ(pthread_kill(thread, SIGUSR1), 0);
	if (back)
		REQUIRE(thread_join_for(thread, 10));
	else
		CHECK(!thread_join_for(thread, 0.05));
	lazy_resolve(&vm.m, A + 2 * PAGE);
	if (!back)
		REQUIRE(thread_join_for(thread, 10));
	/* Success, since something was done. */
	CHECK_EQ(p.ret, 0);
	if (back)
		CHECK_EQ(p.args.size, PAGE);
	CHECK_EQ(p.args.gpa + p.args.size, A + 3 * PAGE);
	lazy_vm_end(&vm);
}
