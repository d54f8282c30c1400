/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A KVM guest whose memory is a bound memslot of a watched gmem file. Where a thing is in the file, in the guest and in
 * the process are three different numbers. Everything is there but the pages that the test names.
 *
 *	struct bound b;
 *
 *	bound_make(&b, 1, BOUND_CODE_OF(reads), BOUND_EXIT);
 *	bound_ready(&b, (uint64_t[]){ BOUND_DATA }, 1);
 *	bound_regs(&b, 0, BOUND_GPA + BOUND_DATA, 0, 0, 0);
 *	CHECK_EQ(guest_run(&b.g, 0)->err, EFAULT);
 *	event = bound_fault(&b, 0);
 *	bound_provide(&b, BOUND_DATA);
 *	bound_says(guest_run(&b.g, 0), bound_word(&b, BOUND_DATA));
 *	bound_end(&b);
 */
#ifndef GMEMFD_TESTS_BOUND_H
#define GMEMFD_TESTS_BOUND_H

#include "gmem.h"
#include "guest.h"

/* Where things are in the memslot; each but the tables has a page, or more, to itself. */
#define BOUND_CODE 0x1000ul
#define BOUND_HANDLER 0x4000ul		/* of exceptions and interrupts: a page for each, from here on */
#define BOUND_TABLES 0x10000ul		/* as of guest_build_small_tables() */
#define BOUND_DESCRIPTORS 0x18000ul	/* as of guest_build_descriptors() */
#define BOUND_STACK 0x30000ul		/* grows down into the page before; 4 KiB for each vCPU */
#define BOUND_DATA 0x40000ul		/* from here to the end all is the test's */
#define BOUND_SIZE 0x80000ul

#define BOUND_GPA 0x100000ul		/* of the memslot, */
#define BOUND_OFFSET 0x10000ul		/* and where it begins in the file */
#define BOUND_HOLE 0xd0000000ul		/* MMIO */
#define BOUND_PORT 0x10
#define BOUND_VM 0x564d00000000ul	/* cookie of the VM, and of the watch */
#define BOUND_COOKIE 0x77617463ul

/* Options. */
#define BOUND_EXIT (1u << 0)		/* the watch has GMEMFD_WATCH_VCPU_EXIT */
#define BOUND_MINOR (1u << 1)		/* pages that trap are closed, not absent */
#define BOUND_IRQCHIP (1u << 2)		/* of the VM: see guest_irqchip(); vCPUs take interrupts */
#define BOUND_LOOSE (1u << 3)		/* the memslot is not bound */
#define BOUND_HOLD (1u << 4)		/* policy of the watch; else POISON */
#define BOUND_RELEASE (1u << 5)

struct bound {
	struct guest g;		/* exceptions that the test has no handler for are told: see guest_exception() */
	unsigned int options;
	int slot;
	int fd;
	int context;		/* O_NONBLOCK */
	size_t bytes;		/* of the memslot */
	unsigned char *map;	/* of the memslot's range */
	unsigned char *image;	/* what pages are provided with; patterns, until the test writes something else */
	struct gmem_handler handler;
};

#define BOUND_CODE_OF(name) name, GUEST_CODE_SIZE(name)
void bound_make(struct bound *b, int vcpus, const unsigned char *code, size_t len, unsigned int options);
/* All is there but these pages. */
void bound_ready(struct bound *b, const uint64_t *pages, size_t nr);
/* Starts over at BOUND_CODE with these registers. */
void bound_regs(struct bound *b, int vcpu, uint64_t rdi, uint64_t rsi, uint64_t rcx, uint64_t rax);
/* The page as it is in the image; or, closed, just opened. Returns what the ioctl() returns. */
int bound_provide(struct bound *b, uint64_t at);
/* It traps again; it gets what the image has then. */
void bound_again(struct bound *b, uint64_t at);
uint32_t bound_word(struct bound *b, uint64_t at);
/* A thread that provides what the context reports. */
void bound_handler_start(struct bound *b);
void bound_handler_stop(struct bound *b);

/* The fault that made the vCPU come back, which has to be there, and to be one of this VM and watch. */
struct gmemfd_event bound_fault(struct bound *b, int vcpu);
/* The next record of the context, which has to come. */
struct gmemfd_event bound_event(struct bound *b);
bool bound_quiet(struct bound *b);

/* A vCPU came back with a write of this value to BOUND_PORT; if it did not, bound_says() tells all there is to know. */
bool bound_said(const struct guest_exit *e, uint32_t value);
void bound_says(const struct guest_exit *e, uint32_t value);
/* Runs a vCPU in this thread, which provides what it comes back for, until it has something else to say. */
const struct guest_exit *bound_run(struct bound *b, int vcpu, unsigned int *exits);
/* The end of the VM and of the test's account: nobody waits, nothing is unread, nobody got zeros or SIGBUS. */
void bound_end(struct bound *b);

#endif
