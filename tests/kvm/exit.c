// SPDX-License-Identifier: GPL-2.0-only
/*
 * GMEMFD_WATCH_VCPU_EXIT: a guest's access to what traps makes KVM_RUN fail, and the vCPU's own thread finds out what
 * is wanted, provides it and runs on. What KVM does on its own account waits for a handler as ever.
 */
#include "bound.h"
#include "peer.h"
#include "trap.h"

#include <dirent.h>

#define PAGE 4096ul
#define A BOUND_DATA
#define B (BOUND_DATA + PAGE)
#define GPA(at) (BOUND_GPA + (at))
#define OFFSET(at) (BOUND_OFFSET + (at))

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

GUEST_CODE(spins, ".code64", "1:	pause\n	jmp 1b");

/* rcx bytes from rsi to rdi, which it says are 0 then. */
GUEST_CODE(moves, ".code64",
	   "	cld\n"
	   "	rep movsb\n"
	   "	movl %ecx, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* Those of the process itself, without KVM's. */
static int threads_of_this_process(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *d;
	int nr = 0;

	REQUIRE(dir);
	while ((d = readdir(dir))) {
		char path[300], *name;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", d->d_name);
		name = d->d_name[0] == '.' ? NULL : read_file(path);
		nr += name && strncmp(name, "kvm-nx", 6);
		free(name);
	}
	closedir(dir);
	return nr;
}

static int ask(struct bound *b, int vcpu)
{
	struct gmemfd_event event;
	int ret = gmem_vcpu_fault(b->context, b->g.vcpus[vcpu].fd, &event);

	if (ret)
		CHECK(all_bytes_are((unsigned char *)&event, sizeof(event), 0));
	return ret;
}

/* KVM_RUN fails for a guest's access, with the errno that the arrangement makes it have. */
static void exits(struct bound *b, int vcpu)
{
	const struct guest_exit *e = guest_run(&b->g, vcpu);

	if (b->options & BOUND_IRQCHIP)
		REQUIRE(e->err == EFAULT || e->err == EINTR);
	else
		REQUIRE_EQ(e->err, EFAULT);
}

/* --- One access ------------------------------------------------------------------------------------ */

enum kind { READS, WRITES, FETCHES };

static const struct access_row {
	const char *label;
	enum kind kind;
	unsigned int options;
} accesses[] = {
	{ "read", READS, 0 },
	{ "write", WRITES, 0 },
	{ "fetch", FETCHES, 0 },
	{ "read.minor", READS, BOUND_MINOR },
	{ "write.minor", WRITES, BOUND_MINOR },
	{ "fetch.minor", FETCHES, BOUND_MINOR },
	{ "read.irqchip", READS, BOUND_IRQCHIP },
	{ "write.irqchip", WRITES, BOUND_IRQCHIP },
	{ "fetch.irqchip", FETCHES, BOUND_IRQCHIP },
	{ "read.minor_irqchip", READS, BOUND_MINOR | BOUND_IRQCHIP },
	{ "write.minor_irqchip", WRITES, BOUND_MINOR | BOUND_IRQCHIP },
	{ "fetch.minor_irqchip", FETCHES, BOUND_MINOR | BOUND_IRQCHIP },
};

static void make_for(struct bound *b, enum kind which, int vcpus, unsigned int options)
{
	if (which == READS)
		bound_make(b, vcpus, BOUND_CODE_OF(reads), options | BOUND_EXIT);
	else if (which == WRITES)
		bound_make(b, vcpus, BOUND_CODE_OF(writes), options | BOUND_EXIT);
	else
		bound_make(b, vcpus, BOUND_CODE_OF(jumps), options | BOUND_EXIT);
	memcpy(b->image + A + 0x100, landed, GUEST_CODE_SIZE(landed));
}

/* The second vCPU; all by the one thread that there is. */
TEST_EACH(access_exits, struct access_row, accesses)
{
	bool irqchip = row->options & BOUND_IRQCHIP;
	uint64_t at = row->kind == FETCHES ? 0x100 : 0x200;
	struct kvm_regs before, after;
	struct gmemfd_event event;
	struct gmemfd_stats stats;
	struct bound b;

	make_for(&b, row->kind, 2, row->options);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 1, GPA(A) + at, 1, 2, 0x77);
	before = guest_get_regs(&b.g, 1);
	CHECK_EQ(guest_run(&b.g, 1)->err, irqchip ? EINTR : EFAULT);
	event = bound_fault(&b, 1);
	CHECK_EQ(event.offset, OFFSET(A));
	CHECK_EQ(event.gpa, GPA(A));
	CHECK_EQ(event.tid, gettid());
	if (row->kind == WRITES)
		CHECK(event.flags & GMEMFD_FAULT_WRITE);
	after = guest_get_regs(&b.g, 1);
	if (row->kind == FETCHES)
		before.rip = GPA(A) + at;
	CHECK(!memcmp(&before, &after, sizeof(before)));
	/* Nothing was taken by asking. */
	CHECK_EQ(bound_fault(&b, 1).gpa, GPA(A));
	stats = xgmem_stats(b.fd);
	CHECK_EQ(stats.vcpu_exits, 1);
	if (!irqchip) {
		CHECK_EQ(stats.events, 0);
		CHECK_EQ(stats.waiters, 0);
		CHECK_EQ(stats.faults_missing + stats.faults_minor, 0);
	}
	CHECK_EQ(threads_of_this_process(), 1);
	CHECK_OK(bound_provide(&b, A));
	CHECK_ERRNO(ask(&b, 1), ENOENT);
	bound_says(guest_run(&b.g, 1), row->kind == FETCHES ? 0x77 :
		   row->kind == READS ? bound_word(&b, A + 0x200) : bound_word(&b, A + 0x204));
	if (row->kind == WRITES)
		CHECK_EQ(b.map[A + 0x200], 0x77);
	CHECK_EQ(xgmem_stats(b.fd).vcpu_exits, 1);
	bound_end(&b);
}

/* With interrupts off KVM gives nothing away. */
TEST(interrupts_off)
{
	struct kvm_regs regs;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT | BOUND_IRQCHIP);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	regs = guest_get_regs(&b.g, 0);
	regs.rflags &= ~(1ul << 9);
	guest_set_regs(&b.g, 0, &regs);
	REQUIRE_EQ(guest_run(&b.g, 0)->err, EFAULT);
	bound_fault(&b, 0);
	CHECK_EQ(xgmem_stats(b.fd).waiters, 0);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	bound_end(&b);
}

static const struct many_row {
	const char *label;
	unsigned int options;
} arrangements[] = {
	{ "missing", 0 },
	{ "minor", BOUND_MINOR },
	{ "missing_irqchip", BOUND_IRQCHIP },
	{ "minor_irqchip", BOUND_MINOR | BOUND_IRQCHIP },
};

/* Tables, code, stack, data: nothing is there when the guest starts, and there is one thread. */
TEST_EACH(runs_from_nothing, struct many_row, arrangements)
{
	uint64_t pages[BOUND_SIZE / PAGE];
	unsigned int nr = 0;
	uint32_t sum = 0;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(sums), row->options | BOUND_EXIT);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		pages[i] = i * PAGE;
	bound_ready(&b, pages, ARRAY_SIZE(pages));
	bound_regs(&b, 0, GPA(A), 0, 16, 0);
	for (int i = 0; i < 16; i++)
		sum += bound_word(&b, A + i * PAGE);
	bound_says(bound_run(&b, 0, &nr), sum);
	/* Four tables, the code, the data; not the descriptors nor the stack. */
	CHECK_EQ(nr, 4 + 1 + 16);
	CHECK_EQ(xgmem_stats(b.fd).vcpu_exits, nr);
	CHECK_EQ(threads_of_this_process(), 1);
	bound_end(&b);
}

/* Instructions that go over the borders of pages, and strings, are taken up where they were. */
TEST_EACH(strings, struct many_row, arrangements)
{
	uint64_t pages[] = { A, A + PAGE, A + 2 * PAGE, A + 16 * PAGE, A + 17 * PAGE, A + 18 * PAGE };
	unsigned int nr = 0;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(moves), row->options | BOUND_EXIT);
	bound_ready(&b, pages, ARRAY_SIZE(pages));
	bound_regs(&b, 0, GPA(A) + 16 * PAGE + 7, GPA(A) + 3, 2 * PAGE + 5, 0);
	bound_says(bound_run(&b, 0, &nr), 0);
	CHECK_EQ(nr, 6);
	CHECK(!memcmp(b.map + A + 16 * PAGE + 7, b.image + A + 3, 2 * PAGE + 5));
	CHECK(!memcmp(b.map + A + 16 * PAGE, b.image + A + 16 * PAGE, 7));
	bound_end(&b);
}

/* --- Questions ------------------------------------------------------------------------------------- */

static void nothing(int sig)
{
	(void)sig;
}

TEST(nothing_to_tell)
{
	int context = xgmem_context();
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 2, BOUND_CODE_OF(reads), BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A, B }, 2);
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	/* The other vCPU's, another context's. */
	CHECK_ERRNO(ask(&b, 1), ENOENT);
	CHECK_ERRNO(gmem_vcpu_fault(context, b.g.vcpus[0].fd, &event), ENOENT);
	bound_fault(&b, 0);
	/* Somebody else has provided it. */
	CHECK_OK(bound_provide(&b, A));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	bound_end(&b);
}

/* The page that was asked for traps again, but it is not what KVM_RUN came back for. */
TEST(old_fault_is_not_told_again)
{
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	bound_again(&b, A);
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	bound_end(&b);
}

static const struct probe_row {
	const char *label;
	unsigned int options;
} probes[] = {
	{ "waits", 0 },
	{ "halts", BOUND_IRQCHIP },
};

/*
 * The page that was asked for traps again while the vCPU waits for another one, for which it does not come back: a
 * signal brings it back, and there is nothing to tell.
 */
TEST_EACH(old_fault_is_not_told_of_a_wait, struct probe_row, probes)
{
	struct sigaction sa = { .sa_handler = nothing };
	const struct guest_exit *e;
	struct bound b;

	/* A vCPU that halts does, which it does with an interrupt controller only. */
	if (!row->options && !peer_kvm_is_interruptible(false))
		SKIP("KVM of this kernel does not break off for a signal");
	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	bound_make(&b, 1, BOUND_CODE_OF(sums), row->options | BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A, B }, 2);
	REQUIRE_OK(gmem_unwatch(b.fd, OFFSET(B), PAGE));
	REQUIRE_OK(gmem_watch(b.fd, b.context, OFFSET(B), PAGE, GMEMFD_MODE_MISSING, BOUND_COOKIE, 0));
	bound_regs(&b, 0, GPA(A), 0, 2, 0);
	exits(&b, 0);
	bound_fault(&b, 0);
	CHECK_OK(bound_provide(&b, A));
	guest_start(&b.g, 0);
	REQUIRE_EQ(bound_event(&b).offset, OFFSET(B));
	bound_again(&b, A);
	REQUIRE_EQ(pthread_kill(b.g.vcpus[0].thread, SIGUSR1), 0);
	e = guest_join(&b.g, 0, 10);
	REQUIRE(e);
	CHECK_EQ(e->err, EINTR);
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	CHECK_OK(bound_provide(&b, A));
	CHECK_OK(bound_provide(&b, B));
	bound_says(guest_run(&b.g, 0), bound_word(&b, A) + bound_word(&b, B));
	bound_end(&b);
}

TEST(comes_back_for_nothing)
{
	struct sigaction sa = { .sa_handler = nothing };
	const struct guest_exit *e;
	struct bound b;

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	bound_make(&b, 1, BOUND_CODE_OF(spins), BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	b.g.vcpus[0].run->immediate_exit = 1;
	CHECK_EQ(guest_run(&b.g, 0)->err, EINTR);
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	b.g.vcpus[0].run->immediate_exit = 0;
	/* A signal; one that comes too early is in vain. */
	guest_start(&b.g, 0);
	do
		REQUIRE_EQ(pthread_kill(b.g.vcpus[0].thread, SIGUSR1), 0);
	while (!(e = guest_join(&b.g, 0, 0.01)));
	CHECK_EQ(e->err, EINTR);
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	CHECK_EQ(xgmem_stats(b.fd).vcpu_exits, 0);
	bound_end(&b);
}

/* The thread that ran the vCPU has gone; another one asks, provides, and runs it. */
TEST_EACH(threads_take_turns, struct many_row, arrangements)
{
	const struct guest_exit *e;
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(sums), row->options | BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A, B }, 2);
	bound_regs(&b, 0, GPA(A), 0, 2, 0);
	for (int i = 0; i < 2; i++) {
		guest_start(&b.g, 0);
		e = guest_join(&b.g, 0, 10);
		REQUIRE(e);
		REQUIRE(e->err == EFAULT || e->err == EINTR);
		event = bound_fault(&b, 0);
		CHECK_EQ(event.gpa, GPA(i ? B : A));
		CHECK(event.tid != (uint32_t)gettid());
		CHECK_OK(bound_provide(&b, i ? B : A));
	}
	bound_says(guest_run(&b.g, 0), bound_word(&b, A) + bound_word(&b, B));
	CHECK_EQ(xgmem_stats(b.fd).vcpu_exits, 2);
	bound_end(&b);
}

/* Run again without having provided anything. */
TEST_EACH(runs_again_for_nothing, struct many_row, arrangements)
{
	struct gmemfd_stats stats;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), row->options | BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	if (row->options & BOUND_IRQCHIP) {
		/* KVM's thread waits for the page, and the vCPU for KVM's thread. */
		REQUIRE(trap_waiters(b.fd, 1));
		guest_start(&b.g, 0);
		CHECK(!guest_join(&b.g, 0, 0.05));
		CHECK_OK(bound_provide(&b, A));
		bound_says(guest_join(&b.g, 0, 10), bound_word(&b, A));
	} else {
		for (int i = 0; i < 3; i++) {
			exits(&b, 0);
			CHECK_EQ(bound_fault(&b, 0).gpa, GPA(A));
		}
		stats = xgmem_stats(b.fd);
		CHECK_EQ(stats.vcpu_exits, 4);
		CHECK_OK(bound_provide(&b, A));
		bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	}
	bound_end(&b);
}

/* --- What comes in between ------------------------------------------------------------------------- */

TEST(unbound_in_between)
{
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	REQUIRE_OK(gmem_unbind(b.fd, b.g.vm, b.slot, 0));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	/* As ever, for a file that is not bound. */
	guest_start(&b.g, 0);
	event = bound_event(&b);
	CHECK(!(event.flags & (GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU)));
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_join(&b.g, 0, 10), bound_word(&b, A));
	/* And bound again. */
	REQUIRE_OK(gmem_bind(b.fd, b.g.vm, b.slot, BOUND_GPA, BOUND_OFFSET, BOUND_SIZE, BOUND_VM));
	bound_again(&b, A);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	bound_fault(&b, 0);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	bound_end(&b);
}

TEST(slot_moves_in_between)
{
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	guest_move_memory(&b.g, b.slot, 4 * BOUND_GPA);
	REQUIRE_OK(gmem_vcpu_fault(b.context, b.g.vcpus[0].fd, &event));
	CHECK_EQ(event.gpa, 4 * BOUND_GPA + A);
	CHECK_EQ(event.offset, OFFSET(A));
	guest_move_memory(&b.g, b.slot, BOUND_GPA);
	CHECK_EQ(bound_fault(&b, 0).gpa, GPA(A));
	guest_remove_memory(&b.g, b.slot);
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	guest_move_memory(&b.g, b.slot, BOUND_GPA);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	bound_end(&b);
}

TEST(punched_in_between)
{
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT | BOUND_MINOR);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	CHECK(bound_fault(&b, 0).flags & GMEMFD_FAULT_MINOR);
	/* What is absent does not trap here. */
	REQUIRE_OK(gmem_punch(b.fd, OFFSET(A), PAGE));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	/* Now it does. */
	REQUIRE_OK(gmem_unwatch(b.fd, OFFSET(0), BOUND_SIZE));
	REQUIRE_OK(gmem_watch_exit(b.fd, b.context, OFFSET(0), BOUND_SIZE, GMEMFD_MODE_ALL, 6, 0));
	REQUIRE_OK(gmem_vcpu_fault(b.context, b.g.vcpus[0].fd, &event));
	CHECK_EQ(event.cookie, 6);
	CHECK(!(event.flags & GMEMFD_FAULT_MINOR));
	CHECK_OK(gmem_copy(b.fd, OFFSET(A), PAGE, b.image + A, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(gmem_vcpu_fault(b.context, b.g.vcpus[0].fd, &event));
	CHECK(event.flags & GMEMFD_FAULT_MINOR);
	exits(&b, 0);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	bound_end(&b);
}

TEST(watch_changes_in_between)
{
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	REQUIRE_OK(gmem_unwatch(b.fd, OFFSET(A), PAGE));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	/* A watch that has no exits: the vCPU waits. */
	REQUIRE_OK(gmem_watch(b.fd, b.context, OFFSET(A), PAGE, GMEMFD_MODE_MISSING, BOUND_COOKIE, 0));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	guest_start(&b.g, 0);
	CHECK(bound_event(&b).flags & GMEMFD_FAULT_GUEST);
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_join(&b.g, 0, 10), bound_word(&b, A));
	bound_end(&b);
}

static const struct policy_row {
	const char *label;
	unsigned int options;
} policies[] = {
	{ "poison", 0 },
	{ "hold", BOUND_HOLD },
	{ "release", BOUND_RELEASE },
};

/* The handler goes after the vCPU has come back, and its policy decides. */
TEST_EACH(context_goes, struct policy_row, policies)
{
	const struct guest_exit *e;
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), row->options | BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A, B }, 2);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	REQUIRE_OK(close(b.context));
	b.context = xgmem_context();
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	if (row->options & BOUND_RELEASE) {
		bound_says(guest_run(&b.g, 0), 0);
		guest_destroy(&b.g);
		return;
	}
	if (row->options & BOUND_HOLD) {
		guest_start(&b.g, 0);
		REQUIRE(trap_waiters(b.fd, 1));
		CHECK(!guest_join(&b.g, 0, 0.02));
	} else {
		e = guest_run(&b.g, 0);
		CHECK_EQ(e->err, EFAULT);
		CHECK_ERRNO(ask(&b, 0), ENOENT);
	}
	REQUIRE_OK(gmem_attach(b.fd, b.context, OFFSET(0), BOUND_SIZE));
	if (row->options & BOUND_HOLD) {
		/* Who waits already goes on to wait, and is reported. */
		event = bound_event(&b);
		CHECK(event.flags & GMEMFD_FAULT_GUEST);
		CHECK_OK(bound_provide(&b, A));
		bound_says(guest_join(&b.g, 0, 10), bound_word(&b, A));
	} else {
		exits(&b, 0);
		bound_fault(&b, 0);
		CHECK_OK(bound_provide(&b, A));
		bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	}
	/* The next comes back to the new handler. */
	bound_regs(&b, 0, GPA(B), 0, 0, 0);
	exits(&b, 0);
	CHECK_EQ(bound_fault(&b, 0).gpa, GPA(B));
	CHECK_OK(bound_provide(&b, B));
	bound_says(guest_run(&b.g, 0), bound_word(&b, B));
	guest_destroy(&b.g);
}

TEST(not_bound)
{
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT | BOUND_LOOSE);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	guest_start(&b.g, 0);
	event = bound_event(&b);
	CHECK_EQ(event.flags & ~GMEMFD_FAULT_WRITE, GMEMFD_FAULT_KERNEL);
	CHECK(!guest_join(&b.g, 0, 0.02));
	CHECK_ERRNO(ask(&b, 0), ENOENT);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_join(&b.g, 0, 10), bound_word(&b, A));
	CHECK_EQ(xgmem_stats(b.fd).vcpu_exits, 0);
	bound_end(&b);
}

/* The VMM's threads, and other processes, have no KVM_RUN to come back from. */
TEST(others_wait)
{
	struct trap_task task;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	trap_read(&task, b.map + A);
	CHECK_EQ(bound_event(&b).flags, GMEMFD_FAULT_VM);
	/* The same page is wanted by a guest: it does not wait with the other. */
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	exits(&b, 0);
	bound_fault(&b, 0);
	CHECK_EQ(xgmem_stats(b.fd).waiters, 1);
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(trap_result(&task), b.image[A]);
	bound_says(guest_run(&b.g, 0), bound_word(&b, A));
	bound_end(&b);
}
