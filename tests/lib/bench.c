// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counting instructions and printing medians: see bench.h.
 */
#include "bench.h"
#include "guest.h"

#define ROUNDS 7
#define CALIBRATION 1000000

/* A known number of instructions has to take as many ticks, up to a timer interrupt. */
static void calibrate(void)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		uint64_t began = __builtin_ia32_rdtsc(), took, n = CALIBRATION / 2;

		__asm__ volatile("1: decq %0; jnz 1b" : "+r"(n) : : "cc");
		took = __builtin_ia32_rdtsc() - began;
		if (took < best)
			best = took;
	}
	tap_check(best >= CALIBRATION && best < CALIBRATION + 1000, true, __FILE__, __LINE__,
		  "%d instructions took %llu ticks: time is not instructions here", CALIBRATION,
		  (unsigned long long)best);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, double *spread)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	*spread = (values[ROUNDS - 1] - values[0]) * 100 / values[ROUNDS / 2];
	return values[ROUNDS / 2];
}

int bench_main(const struct bench *table, size_t rows)
{
	double ours[ROUNDS], theirs[ROUNDS], o, t, ospread, tspread;

	REQUIRE_EQ(sysconf(_SC_NPROCESSORS_ONLN), 1);
	calibrate();
	for (const struct bench *b = table; b < table + rows; b++) {
		b->ours(b->how);
		b->theirs(b->how);
		for (int i = 0; i < ROUNDS; i++) {
			ours[i] = b->ours(b->how);
			theirs[i] = b->theirs(b->how);
		}
		o = median(ours, &ospread);
		t = median(theirs, &tspread);
		printf("%s\t%.1f\t%.1f\t%.2f\t%.2f\n", b->name, o, t, ospread, tspread);
		fflush(stdout);
	}
	return 0;
}

void bench_read(const volatile unsigned char *map, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		(void)map[i * 4096];
}

void bench_write(volatile unsigned char *map, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		map[i * 4096] = 1;
}

/* rdi: memory; touches ecx pages, comes out, touches ebx more, and comes out again. */
GUEST_CODE(bench_guest_reads, ".code64",
	   "1:	movb (%rdi), %al\n"
	   "	addq $4096, %rdi\n"
	   "	decl %ecx\n"
	   "	jnz 1b\n"
	   "	outb %al, $0x10\n"
	   "	movl %ebx, %ecx\n"
	   "	jmp 1b");
GUEST_CODE(bench_guest_writes, ".code64",
	   "1:	movb $1, (%rdi)\n"
	   "	addq $4096, %rdi\n"
	   "	decl %ecx\n"
	   "	jnz 1b\n"
	   "	outb %al, $0x10\n"
	   "	movl %ebx, %ecx\n"
	   "	jmp 1b");

#define GUEST_CODE_AT 0x1000
#define GUEST_TABLES 0x10000
#define GUEST_STACK 0x8000
#define GUEST_SIZE (1ul << 20)
#define GUEST_TRAPPED (16ul << 20)

/* Runs until the guest has something to say. */
static void run_vm(struct guest *g, const struct bench_vm *how)
{
	while (ioctl(g->vcpus[0].fd, KVM_RUN, 0)) {
		REQUIRE(how->failed);
		how->failed(how->arg, g->vcpus[0].fd);
	}
	REQUIRE_EQ(g->vcpus[0].run->exit_reason, KVM_EXIT_IO);
}

uint64_t bench_vm(void *map, size_t warm, size_t pages, bool write, const struct bench_vm *how)
{
	unsigned char *memory = xmmap_anon(GUEST_SIZE);
	struct kvm_regs regs;
	uint64_t took;
	struct guest g;
	int slot;

	guest_create(&g);
	if (how->irqchip)
		guest_irqchip(&g);
	guest_add_memory(&g, 0, memory, GUEST_SIZE);
	slot = guest_add_memory(&g, GUEST_TRAPPED, map, (warm + pages) * 4096);
	if (how->made)
		how->made(how->arg, g.vm, slot, GUEST_TRAPPED);
	guest_add_vcpu(&g);
	guest_build_tables(memory + GUEST_TABLES, GUEST_TABLES);
	if (write)
		memcpy(memory + GUEST_CODE_AT, bench_guest_writes, GUEST_CODE_SIZE(bench_guest_writes));
	else
		memcpy(memory + GUEST_CODE_AT, bench_guest_reads, GUEST_CODE_SIZE(bench_guest_reads));
	guest_long_mode(&g, 0, GUEST_TABLES, GUEST_CODE_AT, GUEST_STACK);
	if (how->irqchip)
		guest_use_apic(&g, 0);
	regs = guest_get_regs(&g, 0);
	regs.rdi = GUEST_TRAPPED;
	regs.rcx = warm;
	regs.rbx = pages;
	guest_set_regs(&g, 0, &regs);
	run_vm(&g, how);
	took = bench_begin();
	run_vm(&g, how);
	took = bench_end(took);
	REQUIRE_EQ(guest_get_regs(&g, 0).rdi, GUEST_TRAPPED + (warm + pages) * 4096);
	guest_destroy(&g);
	REQUIRE_OK(munmap(memory, GUEST_SIZE));
	return took;
}

uint64_t bench_guest(void *map, size_t warm, size_t pages, bool write)
{
	return bench_vm(map, warm, pages, write, &(struct bench_vm){ .irqchip = false });
}
