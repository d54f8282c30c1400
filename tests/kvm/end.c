// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a VM ends while somebody waits for its memory: its descriptors are closed, or its process is killed. Nothing
 * hangs, nothing is left behind, and the next VM goes on with the file.
 */
#include <sys/socket.h>
#include <sys/syscall.h>

#include "lazy.h"
#include "peer.h"
#include "trap.h"

#define PAGE 4096ul
#define A LAZY_DATA
#define REFERENCES "/sys/module/gmemfd/refcnt"

static void nothing(int sig)
{
	(void)sig;
}

/* Who waits. */
enum waiter {
	VCPU,		/* the thread of a vCPU */
	KTHREAD,	/* one of KVM's, for a vCPU that halts */
	CALL,		/* a system call of the VMM's */
};

static unsigned int options(enum waiter waiter)
{
	return LAZY_HOLD | (waiter == KTHREAD ? LAZY_IRQCHIP : 0);
}

static void *set_wall_clock(void *arg)
{
	guest_set_msr(arg, 0, MSR_KVM_WALL_CLOCK_NEW, A);
	return NULL;
}

static void begin(struct lazy_vm *vm, const struct arrangement *how, enum waiter waiter)
{
	lazy_vm(vm, how, 1, LAZY_CODE_OF(reads), options(waiter));
	lazy_ready(&vm->m, (uint64_t[]){ A }, 1);
	lazy_regs(vm, 0, A, 0, 0, 0);
	if (waiter == CALL) {
		vm->g.vcpus[0].thread = thread_start(set_wall_clock, &vm->g);
		return;
	}
	if (waiter == KTHREAD) {
		guest_use_descriptors(&vm->g, 0, LAZY_DESCRIPTORS);
		guest_use_apic(&vm->g, 0);
	}
	guest_start(&vm->g, 0);
}

static void close_vm(struct guest *g)
{
	REQUIRE_OK(munmap(g->vcpus[0].run, g->run_size));
	REQUIRE_OK(close(g->vcpus[0].fd));
	REQUIRE_OK(close(g->vm));
	REQUIRE_OK(close(g->kvm));
}

static long closes_vm(void *arg)
{
	close_vm(arg);
	return 0;
}

/* In a thread that has got so far as to wait for KVM's. */
static void start_to_close(struct trap_task *task, struct guest *g)
{
	trap_start(task, closes_vm, g);
	REQUIRE(task_sleeps_in(task->tid, SYS_close));
}

/* A halted vCPU comes back for a signal, on every kernel. */
static void take_vcpu_back(struct guest *g)
{
	struct sigaction sa = { .sa_handler = nothing };

	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	REQUIRE_EQ(pthread_kill(g->vcpus[0].thread, SIGUSR1), 0);
	REQUIRE(guest_join(g, 0, 10));
	REQUIRE_EQ(g->vcpus[0].last.err, EINTR);
}

/* --- Closing ---------------------------------------------------------------------------------------------- */

/* The call goes on with what it has, and comes back when the page is there. */
TEST_ARRANGED(closed_while_a_vcpu_waits)
{
	struct lazy_vm vm;

	begin(&vm, how, VCPU);
	lazy_trapped(&vm.m, A);
	REQUIRE_OK(close(vm.g.vcpus[0].fd));
	REQUIRE_OK(close(vm.g.vm));
	CHECK(lazy_waits(&vm, 0));
	lazy_resolve(&vm.m, A);
	lazy_says(&vm, 0, lazy_word(&vm.m, A));
	REQUIRE_OK(munmap(vm.g.vcpus[0].run, vm.g.run_size));
	CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 0);
	CHECK(lazy_same(&vm.m, 0, LAZY_TABLES));
}

/* The vCPU has come back, but KVM's thread still waits for it: the last close waits for that. */
TEST_ARRANGED(closed_while_a_thread_of_kvm_waits)
{
	struct trap_task task;
	struct lazy_vm vm;

	begin(&vm, how, KTHREAD);
	lazy_trapped(&vm.m, A);
	take_vcpu_back(&vm.g);
	start_to_close(&task, &vm.g);
	CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 1);
	lazy_resolve(&vm.m, A);
	trap_result(&task);
	CHECK(wait_for(xgmem_stats(vm.m.fd).waiters == 0, 10));
	CHECK(lazy_same(&vm.m, A, PAGE));
}

/* --- Killing ---------------------------------------------------------------------------------------------- */

static const struct killed_row {
	const char *label;
	enum waiter waiter;
	bool unread;		/* nobody has read of it yet */
	bool closing;		/* it has begun to close the VM */
} killeds[] = {
	{ "vcpu_waits", VCPU, false, false },
	{ "vcpu_waits_unread", VCPU, true, false },
	{ "thread_of_kvm_waits", KTHREAD, false, false },
	{ "thread_of_kvm_waits_for_the_last_time", KTHREAD, false, true },
	{ "call_waits", CALL, false, false },
};

static void vmm(struct lazy_vm *vm, const struct arrangement *how, const struct killed_row *row, int sock)
{
	struct trap_task task;

	begin(vm, how, row->waiter);
	REQUIRE(trap_waiters(vm->m.fd, 1));
	if (row->closing) {
		take_vcpu_back(&vm->g);
		start_to_close(&task, &vm->g);
	}
	REQUIRE_OK(trap_send_fd(sock, vm->m.fd));
	REQUIRE_OK(trap_send_fd(sock, vm->m.context));
	for (;;)
		pause();
}

/* Another VM with the memory of the one that was killed; a context belongs to its process, a watch to the file. */
static void next_vm(struct lazy *m)
{
	struct lazy_vm vm = { .m = *m };

	vm.m.options = 0;
	if (m->how->mapping) {
		int context = xuffd_gmem(0);

		REQUIRE_OK(fcntl(context, F_SETFL, O_NONBLOCK));
		lazy_arrange(&vm.m, m->fd, context);
	} else {
		vm.m.map = xmmap(NULL, vm.m.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	}
	lazy_handler_start(&vm.m);
	lazy_vm_on(&vm, 1);
	lazy_regs(&vm, 0, A, 0, 0, 0);
	guest_start(&vm.g, 0);
	lazy_says(&vm, 0, lazy_word(m, A));
	lazy_handler_stop(&vm.m);
	CHECK_EQ(vm.m.met[A / PAGE], 1);
	guest_destroy(&vm.g);
	CHECK_EQ(xgmem_stats(m->fd).faults_zero, 0);
	REQUIRE_OK(munmap(vm.m.map, vm.m.bytes));
	if (m->how->mapping)
		REQUIRE_OK(close(vm.m.context));
}

TEST_ARRANGED_EACH(killed_while, struct killed_row, killeds)
{
	struct lazy_vm *vm = xmmap(NULL, sizeof(*vm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int pair[2], status, fd, context;
	long long references;
	struct lazy m;
	pid_t child;

	if (access("/dev/kvm", F_OK))
		SKIP("this machine has no KVM");
	/* What the case before had may be let go of late. */
	REQUIRE(wait_for(read_number(REFERENCES) == 0, 10));
	REQUIRE(gmem_dev() >= 0);
	references = read_number(REFERENCES);
	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	child = REQUIRE_OK(fork());
	if (!child) {
		vmm(vm, how, row, pair[1]);
		_exit(1);
	}
	close(pair[1]);
	fd = REQUIRE_FD(trap_receive_fd(pair[0]));
	context = REQUIRE_FD(trap_receive_fd(pair[0]));
	close(pair[0]);
	/* The VMM's, but for what belongs to a process. */
	m = vm->m;
	m.fd = fd;
	m.context = context;
	m.image = xmmap_anon(m.bytes);
	for (size_t at = 0; at < m.bytes; at += PAGE)
		pattern_fill(m.image + at, PAGE, at);

	if (!row->unread)
		lazy_trapped(&m, A);
	REQUIRE_OK(kill(child, SIGKILL));
	status = child_wait(child, 10);
	if (!CHECK(status != -1)) {
		/* Hopeless; let it go. */
		gmem_copy(m.fd, A, PAGE, m.image + A, 0);
		return;
	}
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(wait_for(xgmem_stats(m.fd).waiters == 0, 10));
	CHECK(lazy_quiet(&m));
	next_vm(&m);
	REQUIRE_OK(close(m.context));
	REQUIRE_OK(close(m.fd));
	CHECK(wait_for(read_number(REFERENCES) == references, 10));
}
