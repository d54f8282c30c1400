// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a VMM asks of its memory slots besides: which pages were written, by log and by ring, and that none is. A page
 * that a handler has provided is dirty if the guest or KVM wrote to it, and only then.
 */
#include "lazy.h"

#define PAGE 4096ul
#define A LAZY_DATA
#define B (LAZY_DATA + 0x10 * PAGE)
#define BITS (LAZY_SIZE / PAGE)
#define RING_ENTRIES 1024

/* Reads at rsi, writes eax to rdi, says so; begins again. */
GUEST_CODE(reads_and_writes, ".code64",
	   "1:	movl (%rsi), %ecx\n"
	   "	movl %eax, (%rdi)\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	jmp 1b");

/* Writes eax to each of rcx pages from rdi on, and says so. */
GUEST_CODE(writes_many, ".code64",
	   "1:	movl %eax, (%rdi)\n"
	   "	addq $4096, %rdi\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

struct log {
	uint64_t bits[(BITS + 63) / 64];
};

static struct log get_log(struct guest *g)
{
	struct log log = { { 0 } };
	struct kvm_dirty_log args = { .slot = 0, .dirty_bitmap = &log };

	REQUIRE_OK(ioctl(g->vm, KVM_GET_DIRTY_LOG, &args));
	return log;
}

static void clear_log(struct guest *g, struct log *log)
{
	struct kvm_clear_dirty_log args = { .slot = 0, .num_pages = BITS, .dirty_bitmap = log };

	REQUIRE_OK(ioctl(g->vm, KVM_CLEAR_DIRTY_LOG, &args));
}

static bool is_dirty(const struct log *log, uint64_t gpa)
{
	return log->bits[gpa / PAGE / 64] >> gpa / PAGE % 64 & 1;
}

/* The pages in the test's part of memory: tables are dirty with the vCPU's marks in them. */
static int count_dirty(const struct log *log)
{
	int n = 0;

	for (uint64_t gpa = LAZY_DATA; gpa < LAZY_SIZE; gpa += PAGE)
		n += is_dirty(log, gpa);
	return n;
}

static const struct log_row {
	const char *label;
	bool manual;		/* the log is cleared by a call of its own */
} logs[] = {
	{ "log", false },
	{ "log_with_clear", true },
};

TEST_ARRANGED_EACH(written_pages_are_in_the, struct log_row, logs)
{
	struct log log;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(reads_and_writes), 0);
	if (row->manual) {
		if (!(guest_has(&vm.g, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE))
			SKIP("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is not offered");
		guest_enable(&vm.g, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	}
	guest_set_memory_flags(&vm.g, 0, KVM_MEM_LOG_DIRTY_PAGES);
	lazy_ready(&vm.m, (uint64_t[]){ A, B }, 2);
	lazy_regs(&vm, 0, A, B, 0, 0x1111);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, B);
	lazy_serve(&vm.m, A);
	lazy_says(&vm, 0, 0x1111);
	for (int i = 0; i < 3; i++) {
		log = get_log(&vm.g);
		CHECK(is_dirty(&log, A));
		/* KVM may map a page for writing when it is read first. */
		CHECK_EQ(count_dirty(&log), 1 + (i == 0 && is_dirty(&log, B)));
		if (row->manual)
			clear_log(&vm.g, &log);
		log = get_log(&vm.g);
		CHECK_EQ(count_dirty(&log), 0);
		/* It writes again: where it is, and where a hole was punched. */
		if (i == 1)
			lazy_again(&vm.m, A);
		guest_start(&vm.g, 0);
		if (i == 1)
			lazy_serve(&vm.m, A);
		lazy_says(&vm, 0, 0x1111);
	}
	lazy_vm_end(&vm);
}

/* The wall clock is written by KVM in the guest's place. */
TEST_ARRANGED(pages_that_kvm_writes_are_in_the_log)
{
	struct log log;
	struct lazy_vm vm;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(reads), 0);
	if (!guest_offers(&vm.g, KVM_FEATURE_CLOCKSOURCE2))
		SKIP("KVM_FEATURE_CLOCKSOURCE2 is not offered");
	guest_set_memory_flags(&vm.g, 0, KVM_MEM_LOG_DIRTY_PAGES);
	lazy_ready(&vm.m, NULL, 0);
	lazy_again(&vm.m, A);
	lazy_handler_start(&vm.m);
	CHECK(guest_set_msr(&vm.g, 0, MSR_KVM_WALL_CLOCK_NEW, A));
	lazy_handler_stop(&vm.m);
	CHECK_EQ(vm.m.met[A / PAGE], 1);
	log = get_log(&vm.g);
	CHECK(is_dirty(&log, A));
	CHECK_EQ(count_dirty(&log), 1);
	lazy_vm_end(&vm);
}

/* --- The ring -------------------------------------------------------------------------------------------- */

static struct kvm_dirty_gfn *map_ring(struct guest *g, size_t bytes)
{
	return xmmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpus[0].fd,
		     KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
}

/* Marks all entries as seen and gives them back; counts those of each page. */
static void harvest(struct guest *g, struct kvm_dirty_gfn *ring, uint32_t entries, uint32_t *next, int *counts,
		    size_t pages)
{
	uint32_t n = 0;

	for (;; n++, (*next)++) {
		struct kvm_dirty_gfn *gfn = &ring[*next % entries];

		if (__atomic_load_n(&gfn->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		REQUIRE(gfn->offset < pages);
		counts[gfn->offset]++;
		__atomic_store_n(&gfn->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	CHECK_EQ(ioctl(g->vm, KVM_RESET_DIRTY_RINGS, 0), n);
}

TEST_ARRANGED(written_pages_are_in_the_ring)
{
	const size_t bytes = RING_ENTRIES * sizeof(struct kvm_dirty_gfn);
	struct kvm_dirty_gfn *ring;
	uint32_t next = 0;
	struct lazy_vm vm;

	lazy_memory(&vm.m, how, LAZY_SIZE, 0);
	lazy_image(&vm.m, LAZY_CODE_OF(reads_and_writes));
	lazy_vm_on(&vm, 0);
	if (guest_has(&vm.g, KVM_CAP_DIRTY_LOG_RING) < (int)bytes) {
		guest_destroy(&vm.g);
		SKIP("KVM_CAP_DIRTY_LOG_RING is not offered with %d entries", RING_ENTRIES);
	}
	guest_enable(&vm.g, KVM_CAP_DIRTY_LOG_RING, bytes);
	guest_set_memory_flags(&vm.g, 0, KVM_MEM_LOG_DIRTY_PAGES);
	guest_add_vcpu(&vm.g);
	ring = map_ring(&vm.g, bytes);
	lazy_ready(&vm.m, (uint64_t[]){ A, B }, 2);
	lazy_regs(&vm, 0, A, B, 0, 0x1111);
	for (int i = 0; i < 3; i++) {
		int counts[BITS] = { 0 };

		if (i == 2)
			lazy_again(&vm.m, A);
		guest_start(&vm.g, 0);
		if (i == 0)
			lazy_serve(&vm.m, B);
		if (i != 1)
			lazy_serve(&vm.m, A);
		lazy_says(&vm, 0, 0x1111);
		harvest(&vm.g, ring, RING_ENTRIES, &next, counts, BITS);
		CHECK_EQ(counts[A / PAGE], 1);
		/* KVM may map a page for writing when it is read first. */
		CHECK(counts[B / PAGE] <= (i == 0));
	}
	REQUIRE_OK(munmap(ring, bytes));
	lazy_vm_end(&vm);
}

#define SMALL_RING 256		/* of which KVM keeps 64 in reserve */
#define MANY 220

/* A ring that is full brings the vCPU back, with nothing lost. */
TEST_ARRANGED(ring_fills_up)
{
	const size_t bytes = SMALL_RING * sizeof(struct kvm_dirty_gfn), size = LAZY_SIZE + MANY * PAGE;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { bytes } };
	int counts[BITS + MANY] = { 0 }, full = 0;
	struct kvm_dirty_gfn *ring;
	const struct guest_exit *e;
	uint32_t next = 0;
	struct lazy_vm vm;

	lazy_memory(&vm.m, how, size, 0);
	lazy_image(&vm.m, LAZY_CODE_OF(writes_many));
	lazy_vm_on(&vm, 0);
	/* Where the CPU itself keeps a log, more is kept in reserve. */
	if (guest_has(&vm.g, KVM_CAP_DIRTY_LOG_RING) < (int)bytes || ioctl(vm.g.vm, KVM_ENABLE_CAP, &cap)) {
		guest_destroy(&vm.g);
		SKIP("KVM_CAP_DIRTY_LOG_RING is not offered with %d entries", SMALL_RING);
	}
	guest_set_memory_flags(&vm.g, 0, KVM_MEM_LOG_DIRTY_PAGES);
	guest_add_vcpu(&vm.g);
	ring = map_ring(&vm.g, bytes);
	lazy_present(&vm.m, 0, LAZY_SIZE);
	lazy_trap(&vm.m, LAZY_SIZE, MANY * PAGE);
	lazy_handler_start(&vm.m);
	lazy_regs(&vm, 0, LAZY_SIZE, 0, MANY, 0x3333);
	for (;;) {
		guest_start(&vm.g, 0);
		e = guest_join(&vm.g, 0, 20);
		REQUIRE(e);
		harvest(&vm.g, ring, SMALL_RING, &next, counts, ARRAY_SIZE(counts));
		if (e->exit != KVM_EXIT_DIRTY_RING_FULL)
			break;
		full++;
	}
	lazy_said(e, 0x3333);
	CHECK(full);
	lazy_handler_stop(&vm.m);
	for (size_t i = BITS; i < ARRAY_SIZE(counts); i++) {
		/* One that found the ring full is written once more. */
		CHECK(counts[i] == 1 || counts[i] == 2);
		CHECK_EQ(vm.m.met[i], 1);
	}
	REQUIRE_OK(munmap(ring, bytes));
	lazy_vm_end(&vm);
}

/* --- Slots that the guest may only read ------------------------------------------------------------------ */

TEST_ARRANGED(read_only_slot)
{
	const struct guest_exit *e;
	struct lazy_vm vm;
	int slot;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(reads_and_writes), 0);
	if (guest_has(&vm.g, KVM_CAP_READONLY_MEM) <= 0)
		SKIP("KVM_CAP_READONLY_MEM is not offered");
	/* The same memory twice. */
	slot = guest_add_memory_flags(&vm.g, LAZY_HOLE, vm.m.map, LAZY_SIZE, KVM_MEM_READONLY);
	lazy_ready(&vm.m, (uint64_t[]){ A, B }, 2);
	lazy_regs(&vm, 0, LAZY_HOLE + A, LAZY_HOLE + B, 0, 0x2222);
	guest_start(&vm.g, 0);
	CHECK(!lazy_serve(&vm.m, B).write);
	/* A write is MMIO, and touches nothing. */
	e = guest_join(&vm.g, 0, 10);
	REQUIRE(e);
	REQUIRE_EQ(e->exit, KVM_EXIT_MMIO);
	CHECK_EQ(e->gpa, LAZY_HOLE + A);
	CHECK(e->is_write);
	CHECK_EQ(e->value, 0x2222);
	CHECK(lazy_quiet(&vm.m));
	lazy_said(guest_run(&vm.g, 0), 0x2222);

	/* Once it may write, it waits. */
	guest_remove_memory(&vm.g, slot);
	guest_set_memory_flags(&vm.g, slot, 0);
	guest_start(&vm.g, 0);
	lazy_serve(&vm.m, A);
	lazy_says(&vm, 0, 0x2222);
	memcpy(vm.m.image + A, "\x22\x22\0\0", 4);
	CHECK(lazy_same(&vm.m, A, PAGE));
	lazy_vm_end(&vm);
}

/* A slot on a mapping that the VMM itself may only read. */
TEST_ARRANGED(read_only_mapping)
{
	struct lazy_vm vm;

	lazy_memory(&vm.m, how, LAZY_SIZE, 0);
	lazy_image(&vm.m, LAZY_CODE_OF(reads));
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	lazy_vm_on(&vm, 1);
	if (guest_has(&vm.g, KVM_CAP_READONLY_MEM) <= 0)
		SKIP("KVM_CAP_READONLY_MEM is not offered");
	REQUIRE_OK(mprotect(vm.m.map + LAZY_DATA, LAZY_SIZE - LAZY_DATA, PROT_READ));
	guest_add_memory_flags(&vm.g, LAZY_HOLE, vm.m.map + LAZY_DATA, LAZY_SIZE - LAZY_DATA, KVM_MEM_READONLY);
	lazy_regs(&vm, 0, LAZY_HOLE + 0x40, 0, 0, 0);
	guest_start(&vm.g, 0);
	CHECK(!lazy_serve(&vm.m, A).write);
	lazy_says(&vm, 0, lazy_word(&vm.m, A + 0x40));
	lazy_vm_end(&vm);
}
