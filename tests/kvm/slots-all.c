// SPDX-License-Identifier: GPL-2.0-only
/*
 * As many memslots as KVM allows, each of them a page and bound: they are listed in full, events tell them apart, and
 * they end. That takes KVM a while, which is told; what of it is ours must not grow with what is bound.
 */
#include "bind.h"
#include "trap.h"

#define CODE 1ul		/* pages of the guest */
#define TABLES 2ul
#define VM(page) (COOKIE + (page))

GUEST_CODE(reads, ".code64",
	   "	movl (%rdi), %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

/*
 * Slots are counted from the end of the guest's memory, which begins in the middle of the file: where a page is in the
 * guest and in the file and its slot are three different numbers.
 */
struct all {
	struct guest g;
	int fd;
	int context;
	size_t nr;
};

static uint32_t slot_of(const struct all *a, size_t page)
{
	return a->nr - 1 - page;
}

static uint64_t offset_of(const struct all *a, size_t page)
{
	return (page + a->nr / 2) % a->nr * PAGE;
}

/* The first page whose memslot is set by GMEMFD_BIND. */
static size_t set_from(const struct all *a)
{
	return a->nr / 2 + a->nr / 4;
}

static double lap(const char *what, double began)
{
	double now = now_seconds();

	tap_diag("%s in %.2f s", what, now - began);
	return now;
}

/* Most memslots are the test's own, of two mappings. GMEMFD_BIND sets the others, each with a mapping of its own. */
static void bind_them(struct all *a)
{
	unsigned char *map = xmmap_anon(a->nr * PAGE);
	size_t half = a->nr / 2, from = set_from(a);
	double began = now_seconds();

	xmmap(map, half * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->fd, half * PAGE);
	xmmap(map + half * PAGE, half * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->fd, 0);
	for (size_t page = 0; page < from; page++) {
		struct kvm_userspace_memory_region region = {
			.slot = slot_of(a, page), .guest_phys_addr = page * PAGE, .memory_size = PAGE,
			.userspace_addr = (uintptr_t)map + page * PAGE,
		};

		REQUIRE_OK(ioctl(a->g.vm, KVM_SET_USER_MEMORY_REGION, &region));
	}
	began = lap("three quarters of them set by KVM", began);
	for (size_t page = 0; page < from; page++)
		REQUIRE_OK(gmem_bind(a->fd, a->g.vm, slot_of(a, page), page * PAGE, offset_of(a, page), PAGE,
				     VM(page)));
	began = lap("these bound", began);
	for (size_t page = from; page < a->nr; page++)
		REQUIRE(gmem_bind_set(a->fd, a->g.vm, slot_of(a, page), page * PAGE, offset_of(a, page), PAGE, VM(page),
				      0));
	lap("the others set and bound", began);
	CHECK_EQ(nr_bindings(a->fd), a->nr);
	CHECK(!gmem_bind_set(a->fd, a->g.vm, a->nr, a->nr * PAGE, 0, PAGE, 0, 0));
	CHECK_EQ(errno, EINVAL);
}

/* All of them, so many at a time: how long it took. */
static double list_them(struct all *a, unsigned int room)
{
	struct gmemfd_binding *entries = calloc(room, sizeof(*entries));
	double began = now_seconds(), took;
	uint64_t after = 0;
	size_t page = 0;
	int nr;

	REQUIRE(entries);
	do {
		nr = REQUIRE_OK(gmem_bindings(a->fd, entries, room, after));
		REQUIRE(page + nr <= a->nr);
		for (int i = 0; i < nr; i++, page++) {
			REQUIRE(entries[i].id > after);
			after = entries[i].id;
			REQUIRE_EQ(entries[i].slot, slot_of(a, page));
			REQUIRE_EQ(entries[i].gpa, page * PAGE);
			REQUIRE_EQ(entries[i].offset, offset_of(a, page));
			REQUIRE_EQ(entries[i].len, PAGE);
			REQUIRE_EQ(entries[i].vm, VM(page));
			REQUIRE_EQ(entries[i].flags, page < set_from(a) ? 0 : GMEMFD_BIND_SET);
		}
	} while (nr == (int)room);
	CHECK_EQ(page, a->nr);
	took = now_seconds() - began;
	tap_diag("listed %u at a time in %.3f s", room, took);
	free(entries);
	return took;
}

/* The vCPU reads a page that traps. */
static void fault_in(struct all *a, size_t page)
{
	struct kvm_regs regs = { .rip = CODE * PAGE, .rflags = 2, .rdi = page * PAGE };
	struct gmemfd_event event;
	uint32_t content;

	guest_set_regs(&a->g, 0, &regs);
	guest_start(&a->g, 0);
	event = trap_event(a->context);
	CHECK_EQ(event.offset, offset_of(a, page));
	CHECK_EQ(event.slot, slot_of(a, page));
	CHECK_EQ(event.gpa, page * PAGE);
	CHECK_EQ(event.vm, VM(page));
	CHECK_EQ(event.flags & (GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST),
		 GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST);
	CHECK_OK(trap_copy(a->fd, event.offset, PAGE, 0));
	REQUIRE(guest_join(&a->g, 0, 10));
	REQUIRE_EQ(pread(a->fd, &content, sizeof(content), event.offset), sizeof(content));
	CHECK_EQ(a->g.vcpus[0].last.exit, KVM_EXIT_IO);
	CHECK_EQ(a->g.vcpus[0].last.value, content);
}

static void run_in_them(struct all *a)
{
	const size_t pages[] = { 0, set_from(a) - 1, set_from(a), a->nr / 2, a->nr - 1 };
	unsigned char *content = xmmap_anon(PAGE + GUEST_TABLES_SIZE);

	memcpy(content, reads, GUEST_CODE_SIZE(reads));
	guest_build_tables(content + PAGE, TABLES * PAGE);
	REQUIRE_EQ(pwrite(a->fd, content, PAGE + GUEST_TABLES_SIZE, offset_of(a, CODE)), PAGE + GUEST_TABLES_SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		REQUIRE_OK(gmem_watch(a->fd, a->context, offset_of(a, pages[i]), PAGE, GMEMFD_MODE_MISSING,
				      TRAP_COOKIE, 0));
	guest_add_vcpu(&a->g);
	guest_long_mode(&a->g, 0, TABLES * PAGE, CODE * PAGE, 0);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		fault_in(a, pages[i]);
	CHECK(trap_quiet(a->context));
}

static void unbind_some(struct all *a)
{
	size_t ended = 0;

	for (size_t page = 0; page < a->nr; page += a->nr / 100, ended++)
		CHECK_OK(gmem_unbind(a->fd, a->g.vm, slot_of(a, page), page < set_from(a) ? 0 : GMEMFD_BIND_SET));
	CHECK_EQ(nr_bindings(a->fd), a->nr - ended);
}

static void use_them(struct all *a)
{
	double each, all;

	guest_create(&a->g);
	bind_them(a);
	each = list_them(a, 1);
	list_them(a, 77);
	all = list_them(a, a->nr + 1);
	/* Where to go on has to be found, not counted off, which would be half a billion steps. */
	CHECK(each < 8 * all);
	run_in_them(a);
	unbind_some(a);
}

/* The process that has them all is killed. */
TEST_LIMIT(all_slots, 120)
{
	struct all a = { .fd = -1 };
	double began;
	int ready[2];
	pid_t pid;

	guest_create(&a.g);
	a.nr = guest_has(&a.g, KVM_CAP_NR_MEMSLOTS);
	guest_destroy(&a.g);
	tap_diag("KVM allows %zu memslots", a.nr);
	REQUIRE(a.nr >= 32764 && a.nr % 4 == 0);
	a.fd = xgmem(a.nr * PAGE);
	a.context = xgmem_context();
	REQUIRE_OK(pipe(ready));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		use_them(&a);
		REQUIRE_EQ(write(ready[1], "", 1), 1);
		pause();
	}
	close(ready[1]);
	REQUIRE_EQ(read(ready[0], &(char){ 0 }, 1), 1);
	began = now_seconds();
	REQUIRE_OK(kill(pid, SIGKILL));
	CHECK_EQ(child_wait(pid, 10), SIGKILL);
	lap("the process ended", began);
	CHECK_EQ(nr_bindings(a.fd), 0);
}
