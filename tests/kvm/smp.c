// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests with several vCPUs that touch one page, or several, at once: each sees whole pages, and one event stands for
 * all who wait for a page, unless the context tells threads apart.
 */
#include "lazy.h"
#include "trap.h"

#define PAGE 4096ul
#define A LAZY_DATA
#define MAX_VCPUS 4
#define SWEPT 40

/* Sums up the page at rdi. */
GUEST_CODE(sums, ".code64",
	   "	xorl %eax, %eax\n"
	   "	movl $1024, %ecx\n"
	   "1:	addl (%rdi), %eax\n"
	   "	addq $4, %rdi\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* Adds eax to each word of the page at rdi. */
GUEST_CODE(adds, ".code64",
	   "	movl $1024, %ecx\n"
	   "1:	lock addl %eax, (%rdi)\n"
	   "	addq $4, %rdi\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/* Sums up the last words of rcx pages from rdi on, in steps of rsi bytes that wrap round. */
GUEST_CODE(sweeps, ".code64",
	   "	movq %rax, %rbx\n"
	   "	xorl %eax, %eax\n"
	   "	movl %ecx, %ebp\n"
	   "1:	movl %ebx, %edx\n"
	   "	shlq $12, %rdx\n"
	   "	addl 4092(%rdi,%rdx), %eax\n"
	   "	addl %esi, %ebx\n"
	   "	cmpl %ebp, %ebx\n"
	   "	jb 2f\n"
	   "	subl %ebp, %ebx\n"
	   "2:	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static uint32_t sum_of(struct lazy *m, uint64_t gpa)
{
	uint32_t sum = 0;

	for (uint64_t at = gpa; at < gpa + PAGE; at += 4)
		sum += lazy_word(m, at);
	return sum;
}

static const struct vcpus_row {
	const char *label;
	int nr;
} vcpus[] = {
	{ "of_2", 2 },
	{ "of_4", 4 },
};

TEST_ARRANGED_EACH(same_page, struct vcpus_row, vcpus)
{
	struct lazy_vm vm;

	lazy_vm(&vm, how, row->nr, LAZY_CODE_OF(sums), 0);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	for (int i = 0; i < row->nr; i++) {
		lazy_regs(&vm, i, A, 0, 0, 0);
		guest_start(&vm.g, i);
	}
	REQUIRE(trap_waiters(vm.m.fd, row->nr));
	lazy_serve(&vm.m, A);
	for (int i = 0; i < row->nr; i++)
		lazy_says(&vm, i, sum_of(&vm.m, A));
	lazy_vm_end(&vm);
}

/* A mapping's context that tells threads apart: an event for each, and still one resolve for all. */
TEST_ARRANGED(same_page_by_thread)
{
	uint32_t seen[MAX_VCPUS] = { 0 };
	struct lazy_vm vm;
	int nr = MAX_VCPUS;

	lazy_vm(&vm, how, nr, LAZY_CODE_OF(sums), LAZY_THREAD_ID);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	for (int i = 0; i < nr; i++) {
		lazy_regs(&vm, i, A, 0, 0, 0);
		guest_start(&vm.g, i);
	}
	REQUIRE(trap_waiters(vm.m.fd, nr));
	for (int i = 0; i < (how->mapping ? nr : 1); i++) {
		struct lazy_event event = lazy_event(&vm.m);
		char path[64];

		CHECK_EQ(event.offset, A);
		CHECK_EQ(event.minor, how->minor);
		for (int k = 0; k < i; k++)
			CHECK(seen[k] != event.tid);
		seen[i] = event.tid;
		/* One of our threads, that of a vCPU. */
		snprintf(path, sizeof(path), "/proc/self/task/%u", event.tid);
		CHECK(event.tid != (uint32_t)getpid() && !access(path, F_OK));
	}
	CHECK(lazy_quiet(&vm.m));
	lazy_resolve(&vm.m, A);
	for (int i = 0; i < nr; i++)
		lazy_says(&vm, i, sum_of(&vm.m, A));
	lazy_vm_end(&vm);
}

TEST_ARRANGED_EACH(same_page_written, struct vcpus_row, vcpus)
{
	struct lazy_vm vm;

	lazy_vm(&vm, how, row->nr, LAZY_CODE_OF(adds), 0);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	for (int i = 0; i < row->nr; i++) {
		lazy_regs(&vm, i, A, 0, 0, 0x10001 << i);
		guest_start(&vm.g, i);
	}
	REQUIRE(trap_waiters(vm.m.fd, row->nr));
	CHECK(lazy_serve(&vm.m, A).write);
	for (int i = 0; i < row->nr; i++)
		lazy_says(&vm, i, 0x10001 << i);
	for (uint64_t at = A; at < A + PAGE; at += 4) {
		uint32_t word = lazy_word(&vm.m, at) + 0x10001 * ((1 << row->nr) - 1);

		memcpy(vm.m.image + at, &word, 4);
	}
	CHECK(lazy_same(&vm.m, A, PAGE));
	lazy_vm_end(&vm);
}

TEST_ARRANGED_EACH(different_pages, struct vcpus_row, vcpus)
{
	uint64_t seen = 0, pages[MAX_VCPUS];
	struct lazy_vm vm;

	lazy_vm(&vm, how, row->nr, LAZY_CODE_OF(sums), 0);
	for (int i = 0; i < row->nr; i++)
		pages[i] = A + i * PAGE;
	lazy_ready(&vm.m, pages, row->nr);
	for (int i = 0; i < row->nr; i++) {
		lazy_regs(&vm, i, pages[i], 0, 0, 0);
		guest_start(&vm.g, i);
	}
	for (int i = 0; i < row->nr; i++) {
		struct lazy_event event = lazy_event(&vm.m);

		CHECK_EQ(event.minor, how->minor);
		CHECK(event.offset >= A && event.offset < A + row->nr * PAGE);
		seen |= 1 << (event.offset - A) / PAGE;
	}
	CHECK_EQ(seen, (1 << row->nr) - 1);
	REQUIRE(trap_waiters(vm.m.fd, row->nr));
	/* Each resolve lets one of them go on. */
	for (int i = row->nr - 1; i >= 0; i--) {
		lazy_resolve(&vm.m, pages[i]);
		lazy_says(&vm, i, sum_of(&vm.m, pages[i]));
		for (int k = 0; k < i; k++)
			CHECK(lazy_waits(&vm, k));
		CHECK_EQ(xgmem_stats(vm.m.fd).waiters, i);
	}
	lazy_vm_end(&vm);
}

/* All vCPUs sweep over the same pages, each in its own order, and a handler serves them. */
TEST_ARRANGED_EACH(sweep, struct vcpus_row, vcpus)
{
	static const int steps[MAX_VCPUS] = { 1, 3, 7, 39 };	/* none has a divisor with SWEPT in common */
	uint64_t pages[SWEPT];
	struct lazy_vm vm;
	uint32_t sum = 0;

	lazy_vm(&vm, how, row->nr, LAZY_CODE_OF(sweeps), 0);
	for (int i = 0; i < SWEPT; i++) {
		pages[i] = A + i * PAGE;
		sum += lazy_word(&vm.m, pages[i] + PAGE - 4);
	}
	lazy_ready(&vm.m, pages, SWEPT);
	lazy_handler_start(&vm.m);
	for (int i = 0; i < row->nr; i++) {
		lazy_regs(&vm, i, A, steps[i], SWEPT, i * 10);
		guest_start(&vm.g, i);
	}
	for (int i = 0; i < row->nr; i++)
		lazy_says(&vm, i, sum);
	lazy_handler_stop(&vm.m);
	/* Of one that comes when the page has just been resolved, an event may be seen too. */
	for (int i = 0; i < SWEPT; i++) {
		unsigned int met = vm.m.met[pages[i] / PAGE];

		CHECK(met >= 1 && met <= (unsigned int)row->nr);
	}
	CHECK(lazy_same(&vm.m, A, SWEPT * PAGE));
	lazy_vm_end(&vm);
}
