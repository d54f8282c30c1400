// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that a guest gives to KVM to write into: clocks, stolen time, ends of interrupts, Hyper-V's pages. Each traps
 * when it is enabled, by the guest or by the VMM that restores it, and once more after a hole was punched over it.
 */
#include "lazy.h"

#include <time.h>

#define PAGE 4096ul
#define A LAZY_DATA
#define HEAD 64			/* bytes at the beginning of a page that KVM may write */
#define HV_GUEST_OS_ID 0x40000000u
#define HV_HYPERCALL 0x40000001u
#define HV_REFERENCE_TSC 0x40000021u
#define HV_VP_ASSIST_PAGE 0x40000073u

/* ecx, eax: the MSR and its value; says 1, then 2 without having done anything, then begins again. */
GUEST_CODE(enables, ".code64",
	   "	movl %eax, %esi\n"
	   "1:	movl %esi, %eax\n"
	   "	xorl %edx, %edx\n"
	   "	wrmsr\n"
	   "	movw $0x10, %dx\n"
	   "	movl $1, %eax\n"
	   "	outl %eax, %dx\n"
	   "	movl $2, %eax\n"
	   "	outl %eax, %dx\n"
	   "	jmp 1b");

/* The interrupt's handler says whether KVM need not be told of its end, and tells it otherwise. */
GUEST_CODE(spins, ".code64",
	   "1:	pause\n"
	   "	jmp 1b");

GUEST_CODE(ends_interrupt, ".code64",
	   "	xorl %eax, %eax\n"
	   "	lock btrl $0, (%rdi)\n"
	   "	adcl $0x100, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	cmpl $0x101, %eax\n"
	   "	je 1f\n"
	   "	movl $0x80b, %ecx\n"
	   "	xorl %eax, %eax\n"
	   "	xorl %edx, %edx\n"
	   "	wrmsr\n"
	   "1:	iretq");

static uint32_t u32(const unsigned char *page, size_t at)
{
	uint32_t value;

	memcpy(&value, page + at, sizeof(value));
	return value;
}

/* Versions are odd while KVM writes; here they begin with what the image has. */
static bool new_version(const unsigned char *page, const unsigned char *image, size_t at)
{
	return !(u32(page, at) & 1) && u32(page, at) != u32(image, at);
}

static bool is_clock(const unsigned char *page, const unsigned char *image)
{
	return new_version(page, image, 0) && u32(page, 24) != u32(image, 24);
}

static bool is_wall_clock(const unsigned char *page, const unsigned char *image)
{
	int64_t since = time(NULL) - u32(page, 4);

	/* The time when the VM was made. */
	return new_version(page, image, 0) && since >= -1 && since < 120 * tap_slow();
}

static bool is_steal_time(const unsigned char *page, const unsigned char *image)
{
	return new_version(page, image, 8);
}

/* VMMCALL or VMCALL. */
static bool is_hypercall(const unsigned char *page, const unsigned char *image)
{
	return page[0] == 0x0f && page[1] == 0x01 && (page[2] == 0xd9 || page[2] == 0xc1);
}

static bool is_vp_assist(const unsigned char *page, const unsigned char *image)
{
	return u32(page, 0) == 0 && !memcmp(page + 4, image + 4, HEAD - 4);
}

/* With a clock that is not stable KVM says that it is not to be used: sequence 0. */
static bool is_reference_tsc(const unsigned char *page, const unsigned char *image)
{
	return u32(page, 0) != u32(image, 0) && (u32(page, 0) == 0 || u32(page, 8) != u32(image, 8));
}

enum update {
	BY_MSR,		/* when the guest enables it again */
	BY_CLOCK,	/* when the VMM sets the clock */
	BY_RUN,		/* whenever the vCPU goes on */
};

static const struct page_row {
	const char *label;
	int feature;		/* KVM_FEATURE_*, or -1: Hyper-V's */
	uint32_t msr;
	uint32_t bits;		/* beside the address */
	enum update update;
	bool (*good)(const unsigned char *page, const unsigned char *image);
} pages[] = {
	{ "system_time", KVM_FEATURE_CLOCKSOURCE2, MSR_KVM_SYSTEM_TIME_NEW, KVM_MSR_ENABLED, BY_CLOCK, is_clock },
	{ "wall_clock", KVM_FEATURE_CLOCKSOURCE2, MSR_KVM_WALL_CLOCK_NEW, 0, BY_MSR, is_wall_clock },
	{ "steal_time", KVM_FEATURE_STEAL_TIME, MSR_KVM_STEAL_TIME, KVM_MSR_ENABLED, BY_RUN, is_steal_time },
	{ "hyperv_hypercall", -1, HV_HYPERCALL, 1, BY_MSR, is_hypercall },
	{ "hyperv_vp_assist", -1, HV_VP_ASSIST_PAGE, 1, BY_MSR, is_vp_assist },
	{ "hyperv_reference_tsc", -1, HV_REFERENCE_TSC, 1, BY_MSR, is_reference_tsc },
};

static void make(struct lazy_vm *vm, const struct arrangement *how, const struct page_row *row)
{
	lazy_vm(vm, how, 1, LAZY_CODE_OF(enables), 0);
	if (row->feature >= 0 && !guest_offers(&vm->g, row->feature))
		SKIP("KVM does not offer feature bit %d in CPUID 0x40000001 (%s)", row->feature, row->label);
	if (row->feature < 0) {
		if (!guest_hyperv(&vm->g, 0))
			SKIP("KVM_CAP_SYS_HYPERV_CPUID is not offered");
		REQUIRE(guest_set_msr(&vm->g, 0, HV_GUEST_OS_ID, 0x8100000000000000));
	}
	lazy_ready(&vm->m, (uint64_t[]){ A }, 1);
	lazy_regs(vm, 0, 0, 0, row->msr, A | row->bits);
}

/* KVM has written what it should, and nothing else in the page. */
static void check_page(struct lazy_vm *vm, const struct page_row *row)
{
	unsigned char page[HEAD];

	REQUIRE_EQ(pread(vm->m.fd, page, HEAD, A), HEAD);
	if (!CHECK(row->good(page, vm->m.image + A)))
		for (int i = 0; i < HEAD; i += 8)
			tap_diag("%2d: %08x %08x", i, u32(page, i), u32(page, i + 4));
	/* Hyper-V's may be written to the end. */
	if (row->feature >= 0)
		CHECK(lazy_same(&vm->m, A + HEAD, PAGE - HEAD));
}

TEST_ARRANGED_EACH(guest_enables, struct page_row, pages)
{
	struct kvm_clock_data clock = { .clock = 1000000000000 };
	struct lazy_vm vm;

	make(&vm, how, row);
	guest_start(&vm.g, 0);
	lazy_trapped(&vm.m, A);
	CHECK(lazy_waits(&vm, 0));
	lazy_resolve(&vm.m, A);
	lazy_says(&vm, 0, 1);
	check_page(&vm, row);

	/* The hole: the next update traps. */
	pattern_fill(vm.m.image + A, PAGE, 77);
	lazy_again(&vm.m, A);
	if (row->update == BY_CLOCK)
		REQUIRE_OK(ioctl(vm.g.vm, KVM_SET_CLOCK, &clock));
	if (row->update == BY_MSR)
		lazy_said(guest_run(&vm.g, 0), 2);
	CHECK(lazy_quiet(&vm.m));
	guest_start(&vm.g, 0);
	lazy_trapped(&vm.m, A);
	CHECK(lazy_waits(&vm, 0));
	lazy_resolve(&vm.m, A);
	lazy_says(&vm, 0, row->update == BY_MSR ? 1 : 2);
	check_page(&vm, row);
	lazy_vm_end(&vm);
}

struct enabling {
	struct lazy_vm *vm;
	const struct page_row *row;
};

GUEST_CODE(says_one, ".code64",
	   "	movl $1, %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static void *enable(void *arg)
{
	struct enabling *e = arg;

	CHECK(guest_set_msr(&e->vm->g, 0, e->row->msr, A | e->row->bits));
	lazy_said(guest_run(&e->vm->g, 0), 1);
	return NULL;
}

/* A VMM that restores a guest sets the MSR itself, and then runs the vCPU. */
TEST_ARRANGED_EACH(vmm_enables, struct page_row, pages)
{
	struct enabling enabling = { .row = row };
	pthread_t thread;
	struct lazy_vm vm;

	make(&vm, how, row);
	memcpy(vm.m.map + LAZY_CODE, says_one, GUEST_CODE_SIZE(says_one));
	enabling.vm = &vm;
	thread = thread_start(enable, &enabling);
	lazy_serve(&vm.m, A);
	thread_join(thread);
	check_page(&vm, row);
	lazy_vm_end(&vm);
}

#define VECTOR 0x41

static uint32_t handled(const struct guest_exit *e)
{
	REQUIRE(e);
	REQUIRE_EQ(e->exit, KVM_EXIT_IO);
	CHECK_EQ(e->value & ~1u, 0x100);
	return e->value & 1;
}

/*
 * A bit is set when an interrupt is delivered, and cleared by the guest; or by KVM, if it has to break off before the
 * guest runs, which it may well have to after a wait.
 */
TEST_ARRANGED(end_of_interrupt)
{
	struct lazy_vm vm;
	int tries = 0;

	lazy_vm(&vm, how, 1, LAZY_CODE_OF(spins), LAZY_IRQCHIP);
	if (!guest_offers(&vm.g, KVM_FEATURE_PV_EOI))
		SKIP("KVM_FEATURE_PV_EOI is not offered");
	memcpy(vm.m.image + LAZY_HANDLER, ends_interrupt, GUEST_CODE_SIZE(ends_interrupt));
	guest_set_gate(vm.m.image + LAZY_DESCRIPTORS, VECTOR, LAZY_HANDLER);
	lazy_ready(&vm.m, (uint64_t[]){ A }, 1);
	lazy_regs(&vm, 0, A, 0, 0, 0);
	guest_use_descriptors(&vm.g, 0, LAZY_DESCRIPTORS);
	guest_use_apic(&vm.g, 0);
	REQUIRE(guest_set_msr(&vm.g, 0, MSR_KVM_PV_EOI_EN, A | KVM_MSR_ENABLED));
	for (int i = 0; i < 2; i++) {
		if (i) {
			pattern_fill(vm.m.image + A, PAGE, 78);
			lazy_again(&vm.m, A);
		}
		guest_start(&vm.g, 0);
		/* It spins. */
		CHECK(!guest_join(&vm.g, 0, 0.001));
		CHECK_EQ(xgmem_stats(vm.m.fd).waiters, 0);
		CHECK(lazy_quiet(&vm.m));
		guest_interrupt(&vm.g, 0, VECTOR);
		CHECK(lazy_serve(&vm.m, A).write);
		handled(guest_join(&vm.g, 0, 10));
		vm.m.image[A] = 0;
		CHECK(lazy_same(&vm.m, A, PAGE));
	}
	/* Nothing traps any more, and the guest gets to see it. */
	do
		guest_interrupt(&vm.g, 0, VECTOR);
	while (!handled(guest_run(&vm.g, 0)) && ++tries < 100);
	CHECK(tries < 100);
	CHECK(lazy_same(&vm.m, A, PAGE));
	lazy_vm_end(&vm);
}
