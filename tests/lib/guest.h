/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small KVM guest for tests: memory slots over any host memory, vCPUs in real mode or in 64-bit mode with
 * paging, a blob of code, and what made the vCPU come back; where wanted with interrupt controllers in the kernel,
 * exceptions and interrupts. What goes wrong ends the case; a machine without KVM skips it.
 *
 *	GUEST_CODE(adds, ".code16", "addw %bx, %ax; movw $0x10, %dx; outw %ax, %dx; hlt");
 *
 *	guest_create(&g);
 *	guest_add_memory(&g, 0, memory, size);
 *	guest_add_vcpu(&g);
 *	memcpy(memory + 0x1000, adds, GUEST_CODE_SIZE(adds));
 *	guest_real_mode(&g, 0, 0x1000);
 *	CHECK_EQ(guest_run(&g, 0)->exit, KVM_EXIT_IO);
 *
 * Memory that traps must not be written by the library behind the test's back: it writes nowhere but into buffers
 * that it is given.
 */
#ifndef GMEMFD_TESTS_GUEST_H
#define GMEMFD_TESTS_GUEST_H

#include "tap.h"

#include <linux/kvm.h>
#include <linux/kvm_para.h>

#define GUEST_MAX_VCPUS 16
#define GUEST_MAX_SLOTS 32

/* Why KVM_RUN came back. */
struct guest_exit {
	struct guest *guest;	/* and which vCPU's */
	int vcpu;
	int err;		/* errno of KVM_RUN: 0, EINTR, EFAULT, ... */
	int exit;		/* KVM_EXIT_*, also set where err is EFAULT; -1 if err is another */
	uint16_t port;		/* KVM_EXIT_IO */
	bool is_write;		/* KVM_EXIT_IO, KVM_EXIT_MMIO */
	uint64_t gpa;		/* KVM_EXIT_MMIO */
	uint64_t value;		/* what was written, by either; where read, put the answer in with guest_answer() */
};

struct guest_vcpu {
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	pid_t tid;		/* of the thread, once it has begun */
	struct guest_exit last;
};

struct guest {
	int kvm;
	int vm;
	int nr_vcpus;
	bool irqchip;
	size_t run_size;
	struct guest_vcpu vcpus[GUEST_MAX_VCPUS];
	struct kvm_userspace_memory_region slots[GUEST_MAX_SLOTS];
	int nr_slots;
	void (*tell)(struct guest *g);	/* for guest_tell(): what the owner of the memory has to add; may be NULL */
};

void guest_create(struct guest *g);
void guest_destroy(struct guest *g);

/* What KVM_CHECK_EXTENSION says of the VM. */
int guest_has(struct guest *g, int capability);
/* KVM_ENABLE_CAP of the VM. */
void guest_enable(struct guest *g, uint32_t capability, uint64_t arg);

/*
 * What this KVM offers to guests in CPUID: false if there is no such leaf. guest_offers() looks for one of the
 * KVM_FEATURE_* bits.
 */
bool guest_cpuid(struct guest *g, uint32_t function, uint32_t index, struct kvm_cpuid_entry2 *entry);
bool guest_offers(struct guest *g, int feature);

/* Returns the slot's number. Flags as of struct kvm_userspace_memory_region. */
int guest_add_memory(struct guest *g, uint64_t gpa, void *host, size_t len);
int guest_add_memory_flags(struct guest *g, uint64_t gpa, void *host, size_t len, uint32_t flags);
void guest_remove_memory(struct guest *g, int slot);
/* The slot, which may have been removed, at another place; the same memory and flags. */
void guest_move_memory(struct guest *g, int slot, uint64_t gpa);
void guest_set_memory_flags(struct guest *g, int slot, uint32_t flags);

/*
 * Interrupt controllers in the kernel; before the first vCPU. HLT waits for an interrupt then, and is no exit, and
 * KVM handles some of its own faults asynchronously.
 */
void guest_irqchip(struct guest *g);

/* Returns the vCPU's number, from 0. */
int guest_add_vcpu(struct guest *g);

/* The vCPU is to see Hyper-V instead of KVM; false if this KVM does not offer that. Before it runs. */
bool guest_hyperv(struct guest *g, int vcpu);

/* Whether KVM took the value: what the guest's WRMSR would do. Reading ends the case if it fails. */
bool guest_set_msr(struct guest *g, int vcpu, uint32_t msr, uint64_t value);
uint64_t guest_get_msr(struct guest *g, int vcpu, uint32_t msr);

/* Start in real mode, flat, at a guest physical address below 64 KiB. All other registers are 0. */
void guest_real_mode(struct guest *g, int vcpu, uint16_t ip);

/*
 * Page tables that map the first 4 GiB one to one with 2 MiB pages, written to a buffer of GUEST_TABLES_SIZE
 * that the guest will see at gpa (aligned to a page).
 */
#define GUEST_TABLES_SIZE (6 * 4096)
void guest_build_tables(void *buf, uint64_t gpa);

/*
 * The same with pages of 4 KiB, for the first 2 MiB: four levels, a page each, from the top down; and one more for the
 * fourth GiB, with pages of 2 MiB.
 */
#define GUEST_SMALL_TABLES_SIZE (5 * 4096)
void guest_build_small_tables(void *buf, uint64_t gpa);

/*
 * Start in 64-bit mode, ring 0, with these tables. No IDT: any exception is KVM_EXIT_SHUTDOWN, until
 * guest_use_descriptors() is called.
 */
void guest_long_mode(struct guest *g, int vcpu, uint64_t tables_gpa, uint64_t rip, uint64_t rsp);

/*
 * For exceptions and interrupts in 64-bit mode: a page with the IDT and one with the GDT, written to a buffer of
 * GUEST_DESCRIPTORS_SIZE that the guest will see at gpa. guest_set_gate() names the handler of a vector in such a
 * buffer; guest_use_descriptors() makes a vCPU in 64-bit mode use what it will see at gpa.
 *
 * An exception that has no handler of the test's writes its vector to GUEST_EXCEPTION_PORT, again and again;
 * guest_exception() is what there is to know of it then.
 */
#define GUEST_DESCRIPTORS_SIZE (2 * 4096)
#define GUEST_EXCEPTIONS 32
#define GUEST_EXCEPTION_PORT 0x11
void guest_build_descriptors(void *buf, uint64_t gpa);
void guest_set_gate(void *buf, int vector, uint64_t rip);
void guest_use_descriptors(struct guest *g, int vcpu, uint64_t gpa);

/* What the vCPU had when it happened; the other registers are as they were. */
struct guest_exception {
	__u64 vector, error, rip, cr2, rflags, rsp, rax, rdx;
};

/* False if it came back for something else. */
bool guest_exception(const struct guest_exit *e, struct guest_exception *x);

/*
 * Turns the local APIC of a vCPU on, with registers as MSRs (x2APIC), and lets the vCPU take interrupts; sends it one.
 * The interrupt controllers have to be in the kernel.
 */
#define GUEST_X2APIC_EOI 0x80b
void guest_use_apic(struct guest *g, int vcpu);
void guest_interrupt(struct guest *g, int vcpu, uint8_t vector);

struct kvm_regs guest_get_regs(struct guest *g, int vcpu);
void guest_set_regs(struct guest *g, int vcpu, const struct kvm_regs *regs);

/* Run until it comes back; the result is valid until it is run again. */
const struct guest_exit *guest_run(struct guest *g, int vcpu);

/* The value that the read from a port or from MMIO, which it came back for, is to see. */
void guest_answer(struct guest *g, int vcpu, uint64_t value);

/* The same in a thread of its own; join within so many seconds (times TEST_SLOW), NULL if it still runs. */
void guest_start(struct guest *g, int vcpu);
const struct guest_exit *guest_join(struct guest *g, int vcpu, double seconds);

/* For an exit that was not expected: all there is to know of it, in the output of the case. */
void guest_tell(const struct guest_exit *e);

/* A figure of the VM's directory in debugfs (pages_2m, pages_4k, ...); -1 if this kernel has none of that name. */
long long guest_stat(struct guest *g, const char *name);

/* Guest code: bits is ".code16" or ".code64", text is assembler in AT&T syntax. Position independent, please. */
#define GUEST_CODE(name, bits, text)						\
	extern const unsigned char name[], name##_end[];			\
	__asm__(".pushsection .rodata\n"					\
		#name ":\n" bits "\n" text "\n"					\
		#name "_end:\n"							\
		".code64\n"							\
		".popsection\n")
#define GUEST_CODE_SIZE(name) ((size_t)(name##_end - (name)))

/* What many guests do, in guest.c: 64 bit code that tells port 0x10 of eax, and halts. */
extern const unsigned char reads[], reads_end[];	/* from rdi to eax */
extern const unsigned char writes[], writes_end[];	/* eax to rdi; tells what is behind that */
extern const unsigned char jumps[], jumps_end[];	/* to rdi; tells nothing by itself */
extern const unsigned char landed[], landed_end[];	/* where a jump may go to; tells eax as it is */

#endif
