// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where in the guest, and who: what records of faults say of accesses to memory that is, or is not, a bound memslot.
 */
#include "bound.h"
#include "peer.h"
#include "trap.h"

#define PAGE 4096ul
#define A BOUND_DATA
#define B (BOUND_DATA + PAGE)
#define GPA(at) (BOUND_GPA + (at))
#define CLOCK (BOUND_DATA + 0x20 * PAGE)
#define REASON (BOUND_DATA + 0x21 * PAGE)	/* where KVM tells the guest of asynchronous page faults */
#define VECTOR 0x42
#define PF_VECTOR 14

#define KERNEL GMEMFD_FAULT_KERNEL
#define WRITE GMEMFD_FAULT_WRITE
#define VM GMEMFD_FAULT_VM
#define VCPU GMEMFD_FAULT_VCPU
#define GUEST GMEMFD_FAULT_GUEST
#define MINOR GMEMFD_FAULT_MINOR

/* KVM reads MMIO for it, and puts what it was answered on the stack itself. */
GUEST_CODE(pushes_mmio, ".code64",
	   "	pushq (%rdi)\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static uint32_t told(const struct gmemfd_event *event)
{
	return event->flags & (VM | VCPU | GUEST);
}

/* --- The guest's own ------------------------------------------------------------------------------- */

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
	{ "read.async", READS, BOUND_IRQCHIP },
	{ "write.async", WRITES, BOUND_IRQCHIP },
	{ "fetch.async", FETCHES, BOUND_IRQCHIP },
	{ "read.minor_async", READS, BOUND_MINOR | BOUND_IRQCHIP },
	{ "write.minor_async", WRITES, BOUND_MINOR | BOUND_IRQCHIP },
};

/* The second of two vCPUs; the words of its page are at an odd place. */
TEST_EACH(guest_accesses, struct access_row, accesses)
{
	struct gmemfd_event event;
	struct bound b;
	char path[64];

	switch (row->kind) {
	case READS:
		bound_make(&b, 2, BOUND_CODE_OF(reads), row->options);
		break;
	case WRITES:
		bound_make(&b, 2, BOUND_CODE_OF(writes), row->options);
		break;
	case FETCHES:
		bound_make(&b, 2, BOUND_CODE_OF(jumps), row->options);
		memcpy(b.image + A + 0x208, landed, GUEST_CODE_SIZE(landed));
		break;
	}
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 1, GPA(A) + 0x208, 0, 0, 0x1234);
	guest_start(&b.g, 1);
	event = bound_event(&b);
	CHECK_EQ(event.offset, BOUND_OFFSET + A);
	CHECK_EQ(event.gpa, GPA(A));
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	CHECK_EQ(event.vcpu, 1);
	CHECK(event.flags & KERNEL);
	if (row->kind == WRITES)
		CHECK(event.flags & WRITE);
	CHECK(event.tid);
	/* KVM's thread is none of ours. */
	snprintf(path, sizeof(path), "/proc/self/task/%u", event.tid);
	CHECK_EQ(access(path, F_OK) == 0, !(row->options & BOUND_IRQCHIP));
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_join(&b.g, 1, 10), row->kind == FETCHES ? 0x1234 :
		   row->kind == READS ? bound_word(&b, A + 0x208) : bound_word(&b, A + 0x20c));
	CHECK_EQ(xgmem_stats(b.fd).vcpu_exits, 0);
	bound_end(&b);
}

/* Tables are walked by the CPU, for the guest. */
static const struct table_row {
	const char *label;
	uint64_t at;
} tables[] = {
	{ "first_level", BOUND_TABLES },
	{ "second_level", BOUND_TABLES + PAGE },
	{ "third_level", BOUND_TABLES + 2 * PAGE },
	{ "last_level", BOUND_TABLES + 3 * PAGE },
	{ "code", BOUND_CODE },
};

TEST_EACH(guest_walks, struct table_row, tables)
{
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	bound_ready(&b, &row->at, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	guest_start(&b.g, 0);
	event = bound_event(&b);
	CHECK_EQ(event.gpa, GPA(row->at));
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	CHECK_OK(bound_provide(&b, row->at));
	bound_says(guest_join(&b.g, 0, 10), bound_word(&b, A));
	bound_end(&b);
}

/* An id that is not the place in KVM's list. */
static void add_vcpu_with_id(struct guest *g, int id)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entries[256]; } cpuid = { .head.nent = 256 };
	struct guest_vcpu *v = &g->vcpus[g->nr_vcpus++];

	v->fd = REQUIRE_FD(ioctl(g->vm, KVM_CREATE_VCPU, id));
	v->run = xmmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	REQUIRE_OK(ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid));
	REQUIRE_OK(ioctl(v->fd, KVM_SET_CPUID2, &cpuid));
}

TEST(two_vcpus)
{
	struct gmemfd_event events[2];
	uint64_t pages[2] = { A, B };
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	add_vcpu_with_id(&b.g, 7);
	bound_ready(&b, pages, 2);
	for (int i = 0; i < 2; i++) {
		bound_regs(&b, i, GPA(pages[i]), 0, 0, 0);
		guest_start(&b.g, i);
	}
	REQUIRE(trap_waiters(b.fd, 2));
	for (int i = 0; i < 2; i++) {
		int vcpu;

		events[i] = bound_event(&b);
		vcpu = events[i].offset == BOUND_OFFSET + B;
		CHECK_EQ(events[i].gpa, GPA(pages[vcpu]));
		CHECK_EQ(events[i].vcpu, vcpu ? 7 : 0);
		CHECK_EQ(told(&events[i]), VM | VCPU | GUEST);
	}
	CHECK(events[0].offset != events[1].offset);
	CHECK(events[0].tid != events[1].tid);
	for (int i = 0; i < 2; i++) {
		CHECK_OK(bound_provide(&b, pages[i]));
		bound_says(guest_join(&b.g, i, 10), bound_word(&b, pages[i]));
	}
	bound_end(&b);
}

/* One record for both, of the first. When that is taken back, the second's is told instead. */
TEST(two_vcpus_one_page)
{
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 2, BOUND_CODE_OF(reads), 0);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	for (int i = 1; i >= 0; i--) {
		bound_regs(&b, i, GPA(A) + 8 * i, 0, 0, 0);
		guest_start(&b.g, i);
		REQUIRE(trap_waiters(b.fd, 2 - i));
	}
	event = bound_event(&b);
	CHECK_EQ(event.vcpu, 1);
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	CHECK(bound_quiet(&b));
	CHECK_OK(bound_provide(&b, A));
	for (int i = 0; i < 2; i++)
		bound_says(guest_join(&b.g, i, 10), bound_word(&b, A + 8 * i));
	bound_end(&b);
}

/* --- KVM's own ------------------------------------------------------------------------------------- */

static const struct operand_row {
	const char *label;
	uint64_t at;
} operands[] = {
	{ "operand", BOUND_STACK - PAGE },
	{ "page_table", BOUND_TABLES + 3 * PAGE },
};

TEST_EACH(kvm_emulates, struct operand_row, operands)
{
	const struct guest_exit *e;
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(pushes_mmio), 0);
	bound_ready(&b, NULL, 0);
	bound_regs(&b, 0, BOUND_HOLE, 0, 0, 0x55);
	e = guest_run(&b.g, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_MMIO);
	guest_answer(&b.g, 0, 0x1122334455667788);
	bound_again(&b, row->at);
	guest_start(&b.g, 0);
	event = bound_event(&b);
	CHECK_EQ(event.gpa, GPA(row->at));
	CHECK_EQ(told(&event), VM | VCPU);
	CHECK_EQ(event.vcpu, 0);
	CHECK_OK(bound_provide(&b, row->at));
	bound_says(guest_join(&b.g, 0, 10), 0x55);
	bound_end(&b);
}

static long set_clock(void *arg)
{
	struct bound *b = arg;
	struct kvm_regs regs;

	CHECK(guest_set_msr(&b->g, 0, MSR_KVM_SYSTEM_TIME_NEW, GPA(CLOCK) | 1));
	/* It is written at the latest when the vCPU runs. */
	regs = guest_get_regs(&b->g, 0);
	guest_set_regs(&b->g, 0, &regs);
	bound_says(guest_run(&b->g, 0), bound_word(b, A));
	return 0;
}

TEST(kvm_writes_its_clock)
{
	struct gmemfd_event event;
	struct trap_task task;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	bound_ready(&b, (uint64_t[]){ CLOCK }, 1);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	trap_start(&task, set_clock, &b);
	event = bound_event(&b);
	CHECK_EQ(event.gpa, GPA(CLOCK));
	CHECK_EQ(told(&event), VM | VCPU);
	CHECK_EQ(event.vcpu, 0);
	CHECK_EQ(event.tid, task.tid);
	CHECK_OK(bound_provide(&b, CLOCK));
	CHECK_EQ(trap_result(&task), 0);
	CHECK(memcmp(b.map + CLOCK, b.image + CLOCK, 32));
	bound_end(&b);
}

static long set_wall_clock(void *arg)
{
	struct bound *b = arg;

	return guest_set_msr(&b->g, 0, MSR_KVM_WALL_CLOCK_NEW, GPA(A));
}

static void nothing(int sig)
{
	(void)sig;
}

/* The guest's wait for the very page was broken off: what comes then is KVM's own. */
TEST(kvm_writes_after_a_signal)
{
	struct sigaction sa = { .sa_handler = nothing };
	const struct guest_exit *e;
	struct gmemfd_event event;
	struct trap_task task;
	struct bound b;

	if (!peer_kvm_is_interruptible(false))
		SKIP("KVM of this kernel does not break off for a signal");
	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	bound_regs(&b, 0, GPA(A) + 0x800, 0, 0, 0);
	guest_start(&b.g, 0);
	event = bound_event(&b);
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	REQUIRE_EQ(pthread_kill(b.g.vcpus[0].thread, SIGUSR1), 0);
	e = guest_join(&b.g, 0, 10);
	REQUIRE(e);
	CHECK_EQ(e->err, EINTR);
	trap_start(&task, set_wall_clock, &b);
	event = bound_event(&b);
	CHECK_EQ(event.gpa, GPA(A));
	CHECK_EQ(told(&event), VM | VCPU);
	CHECK_EQ(event.tid, task.tid);
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(trap_result(&task), 1);
	CHECK(memcmp(b.map + A, b.image + A, 12));
	bound_says(guest_run(&b.g, 0), bound_word(&b, A + 0x800));
	bound_end(&b);
}

/*
 * KVM gives a page to its thread, and tells the guest of it before the thread begins: that is its own access, and the
 * thread's is the guest's all the same.
 */
TEST(kvm_tells_the_guest_meanwhile)
{
	const struct guest_exit *e;
	struct guest_exception x;
	struct gmemfd_event event;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_IRQCHIP);
	if (!guest_offers(&b.g, KVM_FEATURE_ASYNC_PF) || !guest_offers(&b.g, KVM_FEATURE_ASYNC_PF_INT))
		SKIP("KVM_FEATURE_ASYNC_PF and KVM_FEATURE_ASYNC_PF_INT are not offered");
	memcpy(b.image + BOUND_HANDLER, landed, GUEST_CODE_SIZE(landed));
	guest_set_gate(b.image + BOUND_DESCRIPTORS, VECTOR, GPA(BOUND_HANDLER));
	memset(b.image + REASON, 0, PAGE);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	REQUIRE(guest_set_msr(&b.g, 0, MSR_KVM_ASYNC_PF_INT, VECTOR));
	REQUIRE(guest_set_msr(&b.g, 0, MSR_KVM_ASYNC_PF_EN,
			      GPA(REASON) | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_SEND_ALWAYS |
			      KVM_ASYNC_PF_DELIVERY_AS_INT));
	/* It says first that whoever waits may go on. */
	bound_regs(&b, 0, GPA(A), 0, 0, 7);
	bound_says(guest_run(&b.g, 0), 7);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	bound_again(&b, REASON);
	guest_start(&b.g, 0);
	event = bound_event(&b);
	CHECK_EQ(event.gpa, GPA(REASON));
	CHECK_EQ(told(&event), VM | VCPU);
	CHECK_OK(bound_provide(&b, REASON));
	event = bound_event(&b);
	CHECK_EQ(event.gpa, GPA(A));
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	CHECK_EQ(event.vcpu, 0);
	e = guest_join(&b.g, 0, 10);
	REQUIRE(e);
	REQUIRE(guest_exception(e, &x));
	CHECK_EQ(x.vector, PF_VECTOR);
	CHECK_EQ(x.rip, GPA(BOUND_CODE));
	CHECK_OK(bound_provide(&b, A));
	bound_end(&b);
}

/* --- Others ---------------------------------------------------------------------------------------- */

static long send_it(void *arg)
{
	int pipe_fds[2];
	ssize_t n;

	REQUIRE_OK(pipe2(pipe_fds, O_CLOEXEC));
	n = write(pipe_fds[1], arg, 8);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return n;
}

TEST(monitor_itself)
{
	struct gmemfd_event event;
	struct trap_task task;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	trap_read(&task, b.map + A + 5);
	event = bound_event(&b);
	CHECK_EQ(event.flags, VM);
	CHECK_EQ(event.gpa, GPA(A));
	CHECK_EQ(event.tid, task.tid);
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(trap_result(&task), b.image[A + 5]);

	trap_write(&task, b.map + B);
	event = bound_event(&b);
	CHECK_EQ(event.flags, VM | WRITE);
	CHECK_OK(bound_provide(&b, B));
	CHECK_EQ(trap_result(&task), 0);

	trap_start(&task, send_it, b.map + CLOCK + 0x100);
	event = bound_event(&b);
	CHECK_EQ(event.flags, VM | KERNEL);
	CHECK_EQ(event.gpa, GPA(CLOCK));
	CHECK_OK(bound_provide(&b, CLOCK));
	CHECK_EQ(trap_result(&task), 8);
	bound_end(&b);
}

static long read_file_at(void *arg)
{
	struct bound *b = arg;
	unsigned char byte;

	return pread(b->fd, &byte, 1, BOUND_OFFSET + A) == 1 ? byte : -1;
}

/* A mapping of the process that is in no memslot, and the file itself. */
TEST(not_by_way_of_the_memslot)
{
	struct gmemfd_event event;
	struct trap_task task;
	unsigned char *other;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	other = xmmap(NULL, BOUND_SIZE, PROT_READ, MAP_SHARED, b.fd, BOUND_OFFSET);
	trap_read(&task, other + A);
	event = bound_event(&b);
	CHECK_EQ(event.flags, 0);
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(trap_result(&task), b.image[A]);
	bound_again(&b, A);
	trap_start(&task, read_file_at, &b);
	event = bound_event(&b);
	CHECK_EQ(event.flags, KERNEL);
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(trap_result(&task), b.image[A]);
	bound_end(&b);
}

/* Its mapping is the same, at the same address, and not the VM's. */
TEST(another_process)
{
	struct gmemfd_event event;
	struct bound b;
	pid_t pid;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	pid = REQUIRE_OK(fork());
	if (!pid)
		_exit(*(volatile unsigned char *)(b.map + A) != b.image[A]);
	event = bound_event(&b);
	CHECK_EQ(event.flags, 0);
	CHECK_EQ(event.tid, pid);
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(child_wait(pid, 10), 0);
	bound_end(&b);
}

/* --- Memslots that change, or are several ---------------------------------------------------------- */

/* What the record says of an access by this process; the page is punched again. */
static struct gmemfd_event touched(struct bound *b, const unsigned char *at, uint64_t offset)
{
	struct gmemfd_event event;
	struct trap_task task;

	trap_read(&task, at);
	REQUIRE(gmem_event(b->context, &event, 10));
	CHECK_EQ(event.offset, offset);
	REQUIRE_OK(trap_copy(b->fd, offset, PAGE, 0));
	CHECK_EQ(trap_result(&task), trap_byte(offset));
	REQUIRE_OK(gmem_punch(b->fd, offset, PAGE));
	return event;
}

TEST(slot_changes)
{
	const uint64_t at = BOUND_OFFSET + A;
	struct gmemfd_event event;
	unsigned char *map;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_LOOSE);
	CHECK_EQ(touched(&b, b.map + A, at).flags, 0);
	REQUIRE_OK(gmem_bind(b.fd, b.g.vm, b.slot, BOUND_GPA, BOUND_OFFSET, BOUND_SIZE, 3));
	event = touched(&b, b.map + A, at);
	CHECK_EQ(event.flags, VM);
	CHECK_EQ(event.vm, 3);
	guest_move_memory(&b.g, b.slot, 8 * BOUND_GPA);
	event = touched(&b, b.map + A, at);
	CHECK_EQ(event.flags, VM);
	CHECK_EQ(event.gpa, 8 * BOUND_GPA + A);
	/* The memslot goes, and comes back. */
	guest_remove_memory(&b.g, b.slot);
	CHECK_EQ(touched(&b, b.map + A, at).flags, 0);
	guest_move_memory(&b.g, b.slot, BOUND_GPA);
	event = touched(&b, b.map + A, at);
	CHECK_EQ(event.flags, VM);
	CHECK_EQ(event.gpa, GPA(A));

	/* Something else of the file is mapped in its place: the address is the memslot's, the page is not. */
	xmmap(b.map + A, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, b.fd, BOUND_OFFSET + B);
	CHECK_EQ(touched(&b, b.map + A, BOUND_OFFSET + B).flags, 0);
	CHECK_EQ(touched(&b, b.map + B, BOUND_OFFSET + B).flags, VM);
	xmmap(b.map + A, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, b.fd, at);
	CHECK_EQ(touched(&b, b.map + A, at).flags, VM);

	REQUIRE_OK(gmem_unbind(b.fd, b.g.vm, b.slot, 0));
	CHECK_EQ(touched(&b, b.map + A, at).flags, 0);

	/* A memslot of the same number over another mapping is not the one that was bound. */
	REQUIRE_OK(gmem_bind(b.fd, b.g.vm, b.slot, BOUND_GPA, BOUND_OFFSET, BOUND_SIZE, 3));
	guest_remove_memory(&b.g, b.slot);
	map = xmmap(NULL, BOUND_SIZE, PROT_READ, MAP_SHARED, b.fd, BOUND_OFFSET);
	b.g.slots[b.slot].userspace_addr = (uintptr_t)map;
	guest_move_memory(&b.g, b.slot, BOUND_GPA);
	CHECK_EQ(touched(&b, b.map + A, at).flags, 0);
	CHECK_EQ(touched(&b, map + A, at).flags, 0);
	bound_end(&b);
}

/* Another file's mapping in the middle of the memslot: the other file's faults are not the memslot's. */
TEST(other_file_in_the_slot)
{
	int other = xgmem(PAGE), context = xgmem_context();
	struct gmemfd_event event;
	struct trap_task task;
	unsigned char *map;
	struct guest g;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	/* It has bindings of its own, in another VM. */
	guest_create(&g);
	map = gmem_bind_set(other, g.vm, 0, 0, 0, PAGE, 8, 0);
	REQUIRE(map);
	REQUIRE_OK(gmem_watch(other, context, 0, PAGE, GMEMFD_MODE_MISSING, 0, 0));
	xmmap(b.map + A, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, other, 0);
	trap_read(&task, b.map + A);
	event = trap_event(context);
	CHECK_EQ(event.flags, 0);
	REQUIRE_OK(trap_copy(other, 0, PAGE, 0));
	CHECK_EQ(trap_result(&task), trap_byte(0));
	guest_destroy(&g);
	bound_end(&b);
}

/* The same page is in three memslots of two VMs; a vCPU's access is told as its own VM has it. */
TEST(vms_share_memory)
{
	struct gmemfd_event event;
	struct guest second;
	struct kvm_regs regs;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	guest_create(&second);
	/* First the one that is not what the vCPU uses. */
	guest_add_memory(&second, 64 * BOUND_GPA, b.map, BOUND_SIZE);
	guest_add_memory(&second, BOUND_GPA, b.map, BOUND_SIZE);
	guest_add_vcpu(&second);
	REQUIRE_OK(gmem_bind(b.fd, second.vm, 1, BOUND_GPA, BOUND_OFFSET, BOUND_SIZE, 22));
	bound_ready(&b, (uint64_t[]){ A }, 1);

	guest_long_mode(&second, 0, GPA(BOUND_TABLES), GPA(BOUND_CODE), GPA(BOUND_STACK));
	regs = guest_get_regs(&second, 0);
	regs.rdi = GPA(A);
	guest_set_regs(&second, 0, &regs);
	guest_start(&second, 0);
	REQUIRE(gmem_event(b.context, &event, 10));
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	CHECK_EQ(event.vm, 22);
	CHECK_EQ(event.slot, 1);
	CHECK_EQ(event.gpa, GPA(A));
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_join(&second, 0, 10), bound_word(&b, A));

	bound_again(&b, A);
	bound_regs(&b, 0, GPA(A), 0, 0, 0);
	guest_start(&b.g, 0);
	event = bound_event(&b);
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	CHECK_EQ(event.vm, BOUND_VM);
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_join(&b.g, 0, 10), bound_word(&b, A));
	guest_destroy(&second);
	bound_end(&b);
}

/* The vCPU's VM is not bound, another VM of the process that has the same mapping is: nothing is told of either. */
TEST(vcpu_of_a_vm_that_is_not_bound)
{
	struct gmemfd_event event;
	struct kvm_regs regs;
	struct guest second;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), 0);
	guest_create(&second);
	guest_add_memory(&second, BOUND_GPA, b.map, BOUND_SIZE);
	guest_add_vcpu(&second);
	bound_ready(&b, (uint64_t[]){ A }, 1);
	guest_long_mode(&second, 0, GPA(BOUND_TABLES), GPA(BOUND_CODE), GPA(BOUND_STACK));
	regs = guest_get_regs(&second, 0);
	regs.rdi = GPA(A);
	guest_set_regs(&second, 0, &regs);
	guest_start(&second, 0);
	event = bound_event(&b);
	CHECK(!(event.flags & (VCPU | GUEST)));
	CHECK_OK(bound_provide(&b, A));
	bound_says(guest_join(&second, 0, 10), bound_word(&b, A));
	guest_destroy(&second);
	bound_end(&b);
}

TEST(private_slot)
{
	struct gmemfd_event event;
	struct trap_task task;
	unsigned char *map;
	struct guest g;
	struct bound b;

	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_LOOSE);
	guest_create(&g);
	map = gmem_bind_set(b.fd, g.vm, 4, BOUND_GPA, BOUND_OFFSET, BOUND_SIZE, 44, GMEMFD_BIND_PRIVATE);
	REQUIRE(map);
	trap_write(&task, map + A);
	event = trap_event(b.context);
	CHECK_EQ(event.flags, VM | WRITE);
	CHECK_EQ(event.vm, 44);
	CHECK_EQ(event.slot, 4);
	CHECK_EQ(event.gpa, GPA(A));
	CHECK_OK(bound_provide(&b, A));
	CHECK_EQ(trap_result(&task), 0);
	CHECK_EQ(map[A], TRAP_WRITTEN);
	CHECK_EQ(b.map[A], b.image[A]);
	guest_destroy(&g);
	bound_end(&b);
}

/* --- Granules -------------------------------------------------------------------------------------- */

#define HUGE_CODE 0x1000ul
#define HUGE_TOUCHED (HPAGE_SIZE + 0x123000ul)

TEST(granule_of_2m)
{
	struct trap_rig rig = trap_rig(2, 0, GMEMFD_CREATE_HUGE);
	unsigned char *image = xmmap_anon(HPAGE_SIZE);
	struct gmemfd_event event;
	struct kvm_regs regs;
	struct guest g;

	guest_create(&g);
	guest_add_memory(&g, 0, rig.map, 2 * HPAGE_SIZE);
	guest_add_vcpu(&g);
	REQUIRE_OK(gmem_bind(rig.fd, g.vm, 0, 0, 0, 2 * HPAGE_SIZE, 5));
	memcpy(image + HUGE_CODE, reads, GUEST_CODE_SIZE(reads));
	guest_build_tables(image + 0x10000, 0x10000);
	REQUIRE_OK(gmem_copy(rig.fd, 0, HPAGE_SIZE, image, 0));
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 0, 2 * HPAGE_SIZE, GMEMFD_MODE_MISSING, 0, 0));
	guest_long_mode(&g, 0, 0x10000, HUGE_CODE, 0x30000);
	regs = guest_get_regs(&g, 0);
	regs.rdi = HUGE_TOUCHED + 0x10;
	guest_set_regs(&g, 0, &regs);
	guest_start(&g, 0);
	event = trap_event(rig.context);
	CHECK_EQ(event.offset, HPAGE_SIZE);
	CHECK_EQ(event.len, HPAGE_SIZE);
	CHECK_EQ(event.gpa, HUGE_TOUCHED);
	CHECK_EQ(told(&event), VM | VCPU | GUEST);
	CHECK_EQ(event.vm, 5);
	memset(image, 0x77, HPAGE_SIZE);
	CHECK_OK(gmem_copy(rig.fd, HPAGE_SIZE, HPAGE_SIZE, image, 0));
	bound_says(guest_join(&g, 0, 10), 0x77777777);
	guest_destroy(&g);
}
