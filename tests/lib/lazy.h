/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A KVM guest on memory that traps, in four arrangements: the pages are absent or closed, and the handler is told by a
 * watch of the file or by what a mapping has registered. A case is written once and runs in all of them:
 *
 *	TEST_ARRANGED(reads)
 *	{
 *		struct lazy_vm vm;
 *
 *		lazy_vm(&vm, how, 1, LAZY_CODE_OF(reads_code), 0);
 *		lazy_ready(&vm.m, (uint64_t[]){ LAZY_DATA }, 1);	all is there but this page
 *		lazy_regs(&vm, 0, LAZY_DATA, 0, 0, 0);
 *		guest_start(&vm.g, 0);
 *		lazy_serve(&vm.m, LAZY_DATA);				it traps; now it is provided
 *		lazy_says(&vm, 0, 0x1234);
 *		lazy_vm_end(&vm);					and nothing else has trapped
 *	}
 */
#ifndef GMEMFD_TESTS_LAZY_H
#define GMEMFD_TESTS_LAZY_H

#include "gmem.h"
#include "guest.h"

/* --- Arrangements -------------------------------------------------------------------------------------- */

struct arrangement {
	const char *label;
	bool mapping;		/* UFFDIO_REGISTER; else GMEMFD_WATCH */
	bool minor;		/* the pages are there, closed or unmapped; else absent */
};

/* The body gets the arrangement as `how`; the case is called name.arrangement. */
#define TEST_ARRANGED(name)							\
	static void name(const struct arrangement *how);			\
	static void name##_run(const struct arrangement *how, const void *row)	\
	{									\
		(void)row;							\
		name(how);							\
	}									\
	__attribute__((constructor)) static void name##_register(void)		\
	{									\
		lazy_register(#name, name##_run, NULL, 0, 1);			\
	}									\
	static void name(const struct arrangement *how)

/* The same for each row of an array, whose first member is the label: name.label.arrangement. */
#define TEST_ARRANGED_EACH(name, type, table)					\
	static void name(const struct arrangement *how, type const *row);	\
	static void name##_run(const struct arrangement *how, const void *row)	\
	{									\
		name(how, row);							\
	}									\
	_Static_assert(offsetof(type, label) == 0, "the label comes first");	\
	__attribute__((constructor)) static void name##_register(void)		\
	{									\
		lazy_register(#name, name##_run, table, sizeof((table)[0]),	\
			      ARRAY_SIZE(table));				\
	}									\
	static void name(const struct arrangement *how, type const *row)

void lazy_register(const char *name, void (*run)(const struct arrangement *how, const void *row), const void *rows,
		   size_t row_size, size_t nr);

/* --- Memory -------------------------------------------------------------------------------------------- */

/* Options. */
#define LAZY_BOTH (1u << 0)		/* MISSING is asked for where the arrangement says MINOR, too */
#define LAZY_THREAD_ID (1u << 1)	/* a mapping's context is to tell threads apart */
#define LAZY_HUGE (1u << 2)		/* the granule is 2 MiB */
#define LAZY_HOLD (1u << 3)		/* policy of a watch */
#define LAZY_IRQCHIP (1u << 4)		/* of the VM: see guest_irqchip() */

struct lazy {
	const struct arrangement *how;
	unsigned int options;
	int fd;
	int context;
	size_t granule;
	size_t step;			/* bytes that are provided at a time; the granule, unless the test wants more */
	size_t bytes;
	unsigned char *map;		/* all of the file, shared */
	unsigned char *image;		/* what pages are provided with; patterns, until the test writes to it */
	uint64_t events;		/* that were read */
	/* Of the handler's thread. */
	bool handled;
	pthread_t thread;
	int stop[2];
	unsigned int *met;		/* events by granule */
};

struct lazy_event {
	uint64_t offset;
	bool minor;
	bool write;
	uint32_t tid;			/* 0 if the context does not tell */
};

void lazy_memory(struct lazy *m, const struct arrangement *how, size_t bytes, unsigned int options);
/* The same for a file and a context that are there already; the mapping is new. */
void lazy_arrange(struct lazy *m, int fd, int context);

/* These pages are there, with what the image has; none may be there yet. */
void lazy_present(struct lazy *m, uint64_t offset, size_t len);
/* These trap; none may be there yet. */
void lazy_trap(struct lazy *m, uint64_t offset, size_t len);
/* All is there but these pages, which trap. */
void lazy_ready(struct lazy *m, const uint64_t *pages, size_t nr);
/* The content goes and the page traps once more; it gets what the image has now. */
void lazy_again(struct lazy *m, uint64_t offset);
/* What the context says to a fault: the page with what the image has, or just opened. */
void lazy_resolve(struct lazy *m, uint64_t offset);

/* The next event, which has to come. */
struct lazy_event lazy_event(struct lazy *m);
bool lazy_quiet(struct lazy *m);
/* The next event, which has to be about this page and of the arrangement's kind; it is alone. */
struct lazy_event lazy_trapped(struct lazy *m, uint64_t offset);
/* The same, and the page is provided. */
struct lazy_event lazy_serve(struct lazy *m, uint64_t offset);
/* Events about each of these pages, one each, in any order; all are provided. */
void lazy_serve_all(struct lazy *m, const uint64_t *pages, size_t nr);

/* Whether the file holds what the image has in this range: read by system calls, so that nothing can trap. */
bool lazy_same(struct lazy *m, uint64_t offset, size_t len);

/* A thread that provides what is asked for and counts it in `met`. */
void lazy_handler_start(struct lazy *m);
void lazy_handler_stop(struct lazy *m);

/* --- The guest ------------------------------------------------------------------------------------------- */

/* Where things are in guest memory; each but the tables has a page, or more, to itself. */
#define LAZY_CODE 0x1000ul
#define LAZY_HANDLER 0x4000ul		/* of exceptions and interrupts, if there are any: the second one a page on */
#define LAZY_TABLES 0x10000ul		/* as of guest_build_small_tables() */
#define LAZY_DESCRIPTORS 0x18000ul	/* as of guest_build_descriptors() */
#define LAZY_STACK 0x30000ul		/* grows down into the page before; 4 KiB for each vCPU */
#define LAZY_DATA 0x40000ul		/* from here to the end all is the test's */
#define LAZY_SIZE 0x70000ul
#define LAZY_HOLE 0xd0000000ul		/* MMIO */
#define LAZY_PORT 0x10

struct lazy_vm {
	struct guest g;
	struct lazy m;
};

/*
 * A VM of LAZY_SIZE, with vCPUs in 64-bit mode at LAZY_CODE; code, tables and descriptors are in the image, but no page
 * is provided yet.
 */
#define LAZY_CODE_OF(name) name, GUEST_CODE_SIZE(name)
void lazy_vm(struct lazy_vm *vm, const struct arrangement *how, int vcpus, const unsigned char *code, size_t len,
	     unsigned int options);
/* The same on memory that the test has made and filled. */
void lazy_vm_on(struct lazy_vm *vm, int vcpus);
/* Code, tables and descriptors into the image. */
void lazy_image(struct lazy *m, const unsigned char *code, size_t len);
/* Starts over at LAZY_CODE with these registers. */
void lazy_regs(struct lazy_vm *vm, int vcpu, uint64_t rdi, uint64_t rsi, uint64_t rcx, uint64_t rax);
/* The vCPU, started before, comes back within some seconds with a write of this value to LAZY_PORT. */
void lazy_says(struct lazy_vm *vm, int vcpu, uint32_t value);
/* The same for one that has come back. */
void lazy_said(const struct guest_exit *e, uint32_t value);
/* The vCPU does not come back yet, and somebody waits for a page of the file. */
bool lazy_waits(struct lazy_vm *vm, int vcpu);
/* The end of the VM, and the test's account: every event was read, and nobody got zeros for want of a handler. */
void lazy_vm_end(struct lazy_vm *vm);

static inline uint32_t lazy_word(struct lazy *m, uint64_t gpa)
{
	uint32_t word;

	memcpy(&word, m->image + gpa, sizeof(word));
	return word;
}

#endif
