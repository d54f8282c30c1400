// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the guest on a bound memslot that bound.h promises.
 */
#include "bound.h"

#include <poll.h>

#define PATIENCE 10

static uint32_t policy(unsigned int options)
{
	if (options & BOUND_HOLD)
		return GMEMFD_POLICY_HOLD;
	return options & BOUND_RELEASE ? GMEMFD_POLICY_RELEASE : GMEMFD_POLICY_POISON;
}

static void make_image(struct bound *b, const unsigned char *code, size_t len)
{
	b->image = xmmap_anon(b->bytes);
	for (size_t at = 0; at < b->bytes; at += page_size())
		pattern_fill(b->image + at, page_size(), at);
	memcpy(b->image + BOUND_CODE, code, len);
	guest_build_small_tables(b->image + BOUND_TABLES, BOUND_GPA + BOUND_TABLES);
	guest_build_descriptors(b->image + BOUND_DESCRIPTORS, BOUND_GPA + BOUND_DESCRIPTORS);
}

/* Looks only at what is in the page table of the process, which traps no more. */
static bool is_mapped(const void *at)
{
	int fd = REQUIRE_FD(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	uint64_t entry = 0;

	REQUIRE_EQ(pread(fd, &entry, 8, (uintptr_t)at / page_size() * 8), 8);
	REQUIRE_OK(close(fd));
	return entry >> 63;
}

/* The CPU marks the entries of tables that it has used. */
#define TABLE_MARKS (1ul << 5 | 1ul << 6)

static void tell_page(struct bound *b, uint64_t at, uint64_t marks)
{
	const uint64_t *is = (uint64_t *)(b->map + at), *was = (uint64_t *)(b->image + at);
	unsigned int differ = 0;

	if (!is_mapped(is)) {
		tap_diag("page 0x%lx: not mapped", at);
		return;
	}
	for (size_t i = 0; i < page_size() / 8; i++)
		if (((is[i] ^ was[i]) & ~marks) && !differ++)
			tap_diag("page 0x%lx: 0x%lx at 0x%zx instead of 0x%lx", at, is[i], i * 8, was[i]);
	tap_diag("page 0x%lx: %u words differ from the image", at, differ);
}

/* What a guest rests on, and does not write. */
static void tell(struct guest *g)
{
	struct bound *b = (struct bound *)((char *)g - offsetof(struct bound, g));
	struct gmemfd_stats stats = xgmem_stats(b->fd);

	tell_page(b, BOUND_CODE, 0);
	for (uint64_t at = 0; at < GUEST_SMALL_TABLES_SIZE; at += page_size())
		tell_page(b, BOUND_TABLES + at, TABLE_MARKS);
	for (uint64_t at = 0; at < GUEST_DESCRIPTORS_SIZE; at += page_size())
		tell_page(b, BOUND_DESCRIPTORS + at, 0);
	tap_diag("the file: %llu waiters, %llu events, %llu vcpu_exits, %llu faults_sigbus, %llu faults_zero",
		 stats.waiters, stats.events, stats.vcpu_exits, stats.faults_sigbus, stats.faults_zero);
}

void bound_make(struct bound *b, int vcpus, const unsigned char *code, size_t len, unsigned int options)
{
	uint64_t modes = options & BOUND_MINOR ? GMEMFD_MODE_MINOR : GMEMFD_MODE_MISSING;

	memset(b, 0, sizeof(*b));
	guest_create(&b->g);
	b->g.tell = tell;
	if (options & BOUND_IRQCHIP)
		guest_irqchip(&b->g);
	b->options = options;
	b->bytes = BOUND_SIZE;
	b->fd = xgmem(BOUND_OFFSET + b->bytes);
	b->context = xgmem_context();
	REQUIRE_OK(fcntl(b->context, F_SETFL, O_NONBLOCK));
	b->map = xmmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, BOUND_OFFSET);
	b->slot = guest_add_memory(&b->g, BOUND_GPA, b->map, b->bytes);
	for (int i = 0; i < vcpus; i++)
		guest_add_vcpu(&b->g);
	if (!(options & BOUND_LOOSE))
		REQUIRE_OK(gmem_bind(b->fd, b->g.vm, b->slot, BOUND_GPA, BOUND_OFFSET, b->bytes, BOUND_VM));
	REQUIRE_OK((options & BOUND_EXIT ? gmem_watch_exit : gmem_watch)(b->fd, b->context, BOUND_OFFSET, b->bytes,
									 modes, BOUND_COOKIE, policy(options)));
	make_image(b, code, len);
	for (int i = 0; i < vcpus; i++)
		bound_regs(b, i, 0, 0, 0, 0);
}

static bool is_one_of(uint64_t page, const uint64_t *pages, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (pages[i] == page)
			return true;
	return false;
}

static void make_trap(struct bound *b, uint64_t at)
{
	if (b->options & BOUND_MINOR)
		REQUIRE_OK(gmem_copy(b->fd, BOUND_OFFSET + at, page_size(), b->image + at, GMEMFD_RANGE_CLOSED));
}

void bound_ready(struct bound *b, const uint64_t *pages, size_t nr)
{
	uint64_t at, from = 0;

	for (at = 0; at <= b->bytes; at += page_size()) {
		bool traps = at < b->bytes && is_one_of(at, pages, nr);

		if (!traps && at < b->bytes)
			continue;
		if (from < at)
			REQUIRE_OK(gmem_copy(b->fd, BOUND_OFFSET + from, at - from, b->image + from, 0));
		if (traps)
			make_trap(b, at);
		from = at + page_size();
	}
}

void bound_regs(struct bound *b, int vcpu, uint64_t rdi, uint64_t rsi, uint64_t rcx, uint64_t rax)
{
	struct kvm_regs regs;

	guest_long_mode(&b->g, vcpu, BOUND_GPA + BOUND_TABLES, BOUND_GPA + BOUND_CODE,
			BOUND_GPA + BOUND_STACK - vcpu * page_size());
	guest_use_descriptors(&b->g, vcpu, BOUND_GPA + BOUND_DESCRIPTORS);
	if (b->options & BOUND_IRQCHIP)
		guest_use_apic(&b->g, vcpu);
	regs = guest_get_regs(&b->g, vcpu);
	regs.rdi = rdi;
	regs.rsi = rsi;
	regs.rcx = rcx;
	regs.rax = rax;
	guest_set_regs(&b->g, vcpu, &regs);
}

int bound_provide(struct bound *b, uint64_t at)
{
	if (b->options & BOUND_MINOR)
		return gmem_continue(b->fd, BOUND_OFFSET + at, page_size(), 0);
	return gmem_copy(b->fd, BOUND_OFFSET + at, page_size(), b->image + at, 0);
}

void bound_again(struct bound *b, uint64_t at)
{
	REQUIRE_OK(gmem_punch(b->fd, BOUND_OFFSET + at, page_size()));
	make_trap(b, at);
}

uint32_t bound_word(struct bound *b, uint64_t at)
{
	uint32_t word;

	memcpy(&word, b->image + at, sizeof(word));
	return word;
}

/* What a handler, which knows offsets alone, is to provide. */
static const unsigned char *handled_image;

static void from_image(void *buf, size_t len, uint64_t offset)
{
	memcpy(buf, handled_image + offset - BOUND_OFFSET, len);
}

void bound_handler_start(struct bound *b)
{
	handled_image = b->image;
	b->handler = (struct gmem_handler){ .fd = b->fd, .context = b->context, .content = from_image };
	gmem_handler_start(&b->handler);
}

void bound_handler_stop(struct bound *b)
{
	gmem_handler_stop(&b->handler);
}

static void check_event(struct bound *b, const struct gmemfd_event *event)
{
	CHECK_EQ(event->type, GMEMFD_EVENT_FAULT);
	CHECK_EQ(event->len, page_size());
	CHECK_EQ(event->cookie, BOUND_COOKIE);
	CHECK_EQ(event->reserved, 0);
	CHECK_EQ(!!(event->flags & GMEMFD_FAULT_MINOR), !!(b->options & BOUND_MINOR));
	if (event->flags & GMEMFD_FAULT_VM) {
		CHECK_EQ(event->vm, BOUND_VM);
		CHECK_EQ(event->slot, b->slot);
		CHECK_EQ(event->gpa & ~(page_size() - 1), event->offset - BOUND_OFFSET + BOUND_GPA);
	} else {
		CHECK_EQ(event->vm, 0);
		CHECK_EQ(event->slot, 0);
		CHECK_EQ(event->gpa, 0);
	}
	if (!(event->flags & GMEMFD_FAULT_VCPU))
		CHECK_EQ(event->vcpu, 0);
}

struct gmemfd_event bound_fault(struct bound *b, int vcpu)
{
	const uint32_t want = GMEMFD_FAULT_KERNEL | GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST;
	struct gmemfd_event event;

	REQUIRE_OK(gmem_vcpu_fault(b->context, b->g.vcpus[vcpu].fd, &event));
	check_event(b, &event);
	CHECK_EQ(event.flags & ~(GMEMFD_FAULT_WRITE | GMEMFD_FAULT_MINOR), want);
	CHECK_EQ(event.vcpu, vcpu);
	return event;
}

struct gmemfd_event bound_event(struct bound *b)
{
	struct gmemfd_event event;

	REQUIRE(gmem_event(b->context, &event, PATIENCE));
	check_event(b, &event);
	return event;
}

bool bound_quiet(struct bound *b)
{
	struct pollfd fd = { .fd = b->context, .events = POLLIN };

	return poll(&fd, 1, 0) == 0;
}

bool bound_said(const struct guest_exit *e, uint32_t value)
{
	return !e->err && e->exit == KVM_EXIT_IO && e->port == BOUND_PORT && e->is_write && (uint32_t)e->value == value;
}

void bound_says(const struct guest_exit *e, uint32_t value)
{
	REQUIRE(e);
	if (!bound_said(e, value))
		guest_tell(e);
	CHECK_EQ(e->err, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_IO);
	CHECK_EQ(e->port, BOUND_PORT);
	CHECK(e->is_write);
	CHECK_EQ((uint32_t)e->value, value);
}

const struct guest_exit *bound_run(struct bound *b, int vcpu, unsigned int *exits)
{
	for (;;) {
		const struct guest_exit *e = guest_run(&b->g, vcpu);
		struct gmemfd_event event;

		if (e->err != EFAULT && e->err != EINTR)
			return e;
		/* Somebody else may have provided it meanwhile. */
		if (gmem_vcpu_fault(b->context, b->g.vcpus[vcpu].fd, &event)) {
			REQUIRE_EQ(errno, ENOENT);
			continue;
		}
		check_event(b, &event);
		if (exits)
			++*exits;
		if (bound_provide(b, event.offset - BOUND_OFFSET))
			REQUIRE_EQ(errno, EEXIST);
	}
}

void bound_end(struct bound *b)
{
	struct gmemfd_stats stats;

	guest_destroy(&b->g);
	/* KVM's thread for asynchronous page faults may be on its way yet. */
	CHECK(wait_for(xgmem_stats(b->fd).waiters == 0, 10));
	stats = xgmem_stats(b->fd);
	CHECK_EQ(stats.faults_zero, 0);
	/* KVM of some kernels looks once more whether a page that it was refused is poisoned. */
	CHECK(stats.faults_sigbus <= stats.vcpu_exits);
	CHECK(bound_quiet(b));
	REQUIRE_OK(munmap(b->map, b->bytes));
	REQUIRE_OK(munmap(b->image, BOUND_SIZE));
	REQUIRE_OK(close(b->fd));
	REQUIRE_OK(close(b->context));
}
