// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory in 2 MiB folios: KVM maps it by 2 MiB, in the second stage too, and by 4 KiB again where a hole was
 * punched into it.
 */
#include "guest.h"
#include "lazy.h"
#include "trap.h"

#define CODE 0x1000ul
#define TABLES 0x10000ul
#define STACK 0x30000ul
#define DATA (2ul * HPAGE_SIZE)
#define SIZE (4ul * HPAGE_SIZE)
#define PORT 0x10

/* rdi: adds rbx to the word there and says what it was. */
GUEST_CODE(adds, ".code64",
	   "	movl (%rdi), %eax\n"
	   "	addl %ebx, (%rdi)\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static void start(struct guest *g, uint64_t at)
{
	struct kvm_regs regs;

	guest_long_mode(g, 0, TABLES, CODE, STACK);
	regs = guest_get_regs(g, 0);
	regs.rdi = at;
	regs.rbx = 1;
	guest_set_regs(g, 0, &regs);
}

static void run_and_see(struct guest *g, uint64_t at, uint32_t value)
{
	const struct guest_exit *e;

	start(g, at);
	e = guest_run(g, 0);
	REQUIRE_EQ(e->err, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_IO);
	CHECK_EQ(e->port, PORT);
	CHECK_EQ(e->value, value);
}

static const struct kind_row {
	const char *label;
	uint64_t flags;
} kinds[] = {
	{ "granule_of_4k", 0 },
	{ "granule_of_2m", GMEMFD_CREATE_HUGE },
};

TEST_EACH(mapped_by_2m, struct kind_row, kinds)
{
	unsigned char *image = xmmap_anon(SIZE), *memory;
	uint32_t value = 0x1234;
	struct guest g;
	int fd;

	gmem_need_huge();
	fd = REQUIRE_FD(gmem_create(SIZE, row->flags, 0));
	memcpy(image + CODE, adds, GUEST_CODE_SIZE(adds));
	guest_build_tables(image + TABLES, TABLES);
	memcpy(image + DATA, &value, sizeof(value));
	REQUIRE_OK(gmem_copy(fd, 0, SIZE, image, 0));
	REQUIRE_EQ(xgmem_stats(fd).huge, SIZE / HPAGE_SIZE);
	memory = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE_EQ((uintptr_t)memory % HPAGE_SIZE, 0);

	guest_create(&g);
	guest_add_memory(&g, 0, memory, SIZE);
	guest_add_vcpu(&g);
	if (guest_stat(&g, "pages_2m") < 0)
		SKIP("this KVM does not tell how it maps");
	run_and_see(&g, DATA, value);
	CHECK(guest_stat(&g, "pages_2m") >= 1);
	CHECK_EQ(*(uint32_t *)(memory + DATA), value + 1);

	/* A hole in the guest's page: what is around it stays, and is seen by the guest. */
	if (row->flags)
		REQUIRE_OK(gmem_punch(fd, DATA + HPAGE_SIZE, HPAGE_SIZE));
	else
		REQUIRE_OK(gmem_punch(fd, DATA + 4 * page_size(), page_size()));
	run_and_see(&g, DATA, value + 1);
	run_and_see(&g, row->flags ? DATA + HPAGE_SIZE : DATA + 4 * page_size(), 0);
	CHECK_EQ(*(uint32_t *)(memory + DATA), value + 2);
	guest_destroy(&g);
}

/* Code and tables in the first 2 MiB, what traps in the second. */
#define TRAPPED HPAGE_SIZE
#define LAZY_BYTES (2 * HPAGE_SIZE)

static void touch(struct lazy_vm *vm, uint64_t at)
{
	struct kvm_regs regs;

	guest_long_mode(&vm->g, 0, TABLES, CODE, STACK);
	regs = guest_get_regs(&vm->g, 0);
	regs.rdi = at;
	guest_set_regs(&vm->g, 0, &regs);
	guest_start(&vm->g, 0);
}

/*
 * 2 MiB that trap as a whole: resolved as a whole, mapped as a whole, and in the second stage by 2 MiB. A hole takes
 * that mapping away: all of it traps again, or, in a file of small granules, the page does and the rest is there still.
 */
TEST_ARRANGED_EACH(trapped_by_2m, struct kind_row, kinds)
{
	uint64_t hole = row->flags ? TRAPPED : TRAPPED + 5 * page_size();
	struct lazy_vm vm;
	long long before;

	gmem_need_huge();
	lazy_memory(&vm.m, how, LAZY_BYTES, row->flags ? LAZY_HUGE : 0);
	vm.m.step = HPAGE_SIZE;
	REQUIRE_EQ((uintptr_t)vm.m.map % HPAGE_SIZE, 0);
	memcpy(vm.m.image + CODE, adds, GUEST_CODE_SIZE(adds));
	guest_build_tables(vm.m.image + TABLES, TABLES);
	lazy_ready(&vm.m, (uint64_t[]){ TRAPPED }, 1);
	lazy_vm_on(&vm, 1);
	if (guest_stat(&vm.g, "pages_2m") < 0)
		SKIP("this KVM does not tell how it maps");
	touch(&vm, TRAPPED);
	lazy_serve(&vm.m, TRAPPED);
	lazy_says(&vm, 0, lazy_word(&vm.m, TRAPPED));
	REQUIRE(xgmem_stats(vm.m.fd).huge);
	before = guest_stat(&vm.g, "pages_2m");
	CHECK(before >= 1);

	/* One page of a file with small granules, whatever it was provided in. */
	if (!row->flags)
		vm.m.step = page_size();
	memset(vm.m.image + hole, 0x3c, page_size());
	lazy_again(&vm.m, hole);
	CHECK_EQ(guest_stat(&vm.g, "pages_2m"), before - 1);
	touch(&vm, hole);
	lazy_serve(&vm.m, hole);
	lazy_says(&vm, 0, 0x3c3c3c3c);
	/* Under a mapping's MINOR pages of a folio that was split may trap once more: docs/userfaultfd.md. */
	if (!row->flags && !(how->mapping && how->minor)) {
		touch(&vm, TRAPPED);
		lazy_says(&vm, 0, lazy_word(&vm.m, TRAPPED));
	}
	lazy_vm_end(&vm);
}
