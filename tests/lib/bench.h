/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every benchmark program shares: counting instructions, running ours and theirs in turns, and printing the
 * medians. Works only where time is instructions: under QEMU with -icount shift=0 and one CPU, as tests/bench/run
 * boots it; it ends the program anywhere else. A program is one C file with a table and a main() of its own:
 *
 *	static const struct bench benches[] = { { "missing", missing_ours, missing_theirs, 0 }, ... };
 *
 *	int main(void)
 *	{
 *		return bench_main(benches, ARRAY_SIZE(benches));
 *	}
 *
 * It prints for each row: name, median of ours, median of theirs, and of both the spread over the rounds (largest less
 * smallest, in per cent of the median), separated by tabs.
 */
#ifndef GMEMFD_TESTS_BENCH_H
#define GMEMFD_TESTS_BENCH_H

#include "tap.h"

struct bench {
	const char *name;
	/*
	 * One round from nothing, its own warming up included: instructions for one operation, or one page. What 'how'
	 * means is the program's own affair.
	 */
	double (*ours)(int how);
	double (*theirs)(int how);
	int how;
};

int bench_main(const struct bench *table, size_t rows);

/*
 * Instructions that this CPU has executed since some moment, at both ends of what is measured. The no-operations mark
 * the two places for whoever counts from outside.
 */
static inline uint64_t bench_begin(void)
{
	__asm__ volatile("nopl 0x62334711(%%rax)" : : : "memory");
	return __builtin_ia32_rdtsc();
}

static inline uint64_t bench_end(uint64_t began)
{
	uint64_t took = __builtin_ia32_rdtsc() - began;

	__asm__ volatile("nopl 0x62334722(%%rax)" : : : "memory");
	return took;
}

/*
 * A KVM guest touches warm pages and then more of [map, map + warm + pages), in order, with nothing else in its way:
 * instructions that these others took.
 */
uint64_t bench_guest(void *map, size_t warm, size_t pages, bool write);

/* The same with more said of the VM; what is NULL or false is left out. */
struct bench_vm {
	bool irqchip;		/* interrupt controllers in the kernel, interrupts on */
	/* The memslot has just been made. */
	void (*made)(void *arg, int vm, uint32_t slot, uint64_t gpa);
	/* KVM_RUN has failed: provide what it failed for. */
	void (*failed)(void *arg, int vcpu);
	void *arg;
};

uint64_t bench_vm(void *map, size_t warm, size_t pages, bool write, const struct bench_vm *how);

/* Reads or writes a byte of every page of [map, map + pages), in order. */
void bench_read(const volatile unsigned char *map, size_t pages);
void bench_write(volatile unsigned char *map, size_t pages);

#endif
