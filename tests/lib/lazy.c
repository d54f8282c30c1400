// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns what lazy.h promises: the four arrangements of memory that traps, and a guest on it.
 */
#include "lazy.h"

#include <linux/userfaultfd.h>
#include <poll.h>

#include "peer.h"

#define PATIENCE 6

static const struct arrangement arrangements[] = {
	{ "file_missing", false, false },
	{ "file_minor", false, true },
	{ "mapping_missing", true, false },
	{ "mapping_minor", true, true },
};

struct lazy_case {
	void (*run)(const struct arrangement *how, const void *row);
	const struct arrangement *how;
	const void *row;
};

static void run_case(const void *arg)
{
	const struct lazy_case *one = arg;

	one->run(one->how, one->row);
}

/* Called before main(): what is allocated here is for the life of the program. */
void lazy_register(const char *name, void (*run)(const struct arrangement *how, const void *row), const void *rows,
		   size_t row_size, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		for (size_t k = 0; k < ARRAY_SIZE(arrangements); k++) {
			const void *row = rows ? (const char *)rows + i * row_size : NULL;
			struct lazy_case *one = malloc(sizeof(*one));
			const char *label = arrangements[k].label;
			char *text;

			if (!one || (row && asprintf(&text, "%s.%s", *(const char *const *)row, label) < 0))
				abort();
			*one = (struct lazy_case){ run, &arrangements[k], row };
			tap_register(name, row ? text : label, run_case, one, TEST_SECONDS);
		}
}

/* --- Memory -------------------------------------------------------------------------------------------- */

static void watch(struct lazy *m)
{
	uint64_t missing = !m->how->minor || m->options & LAZY_BOTH;

	if (m->how->mapping)
		xuffd_register(m->context, m->map, m->bytes,
			       (missing ? UFFDIO_REGISTER_MODE_MISSING : 0) |
			       (m->how->minor ? UFFDIO_REGISTER_MODE_MINOR : 0));
	else
		REQUIRE_OK(gmem_watch(m->fd, m->context, 0, m->bytes,
				      (missing ? GMEMFD_MODE_MISSING : 0) | (m->how->minor ? GMEMFD_MODE_MINOR : 0),
				      0, m->options & LAZY_HOLD ? GMEMFD_POLICY_HOLD : GMEMFD_POLICY_DEFAULT));
}

void lazy_arrange(struct lazy *m, int fd, int context)
{
	m->fd = fd;
	m->context = context;
	m->map = xmmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	watch(m);
}

void lazy_memory(struct lazy *m, const struct arrangement *how, size_t bytes, unsigned int options)
{
	int context;

	memset(m, 0, sizeof(*m));
	m->how = how;
	m->options = options;
	m->granule = options & LAZY_HUGE ? GMEMFD_HUGE_SIZE : page_size();
	m->step = m->granule;
	m->bytes = bytes;
	m->image = xmmap_anon(bytes);
	for (size_t at = 0; at < bytes; at += page_size())
		pattern_fill(m->image + at, page_size(), at);
	context = how->mapping ? xuffd_gmem(options & LAZY_THREAD_ID ? UFFD_FEATURE_THREAD_ID : 0) : xgmem_context();
	REQUIRE_OK(fcntl(context, F_SETFL, O_NONBLOCK));
	lazy_arrange(m, options & LAZY_HUGE ? xgmem_huge(bytes) : xgmem(bytes), context);
}

void lazy_present(struct lazy *m, uint64_t offset, size_t len)
{
	if (m->how->mapping && !m->how->minor)
		REQUIRE_OK(uffd_copy(m->context, m->map + offset, m->image + offset, len, 0));
	else
		REQUIRE_OK(gmem_copy(m->fd, offset, len, m->image + offset, 0));
	if (m->how->mapping && m->how->minor)
		REQUIRE_OK(uffd_continue(m->context, m->map + offset, len, 0));
}

void lazy_trap(struct lazy *m, uint64_t offset, size_t len)
{
	if (!m->how->minor)
		return;
	for (uint64_t at = offset; at < offset + len; at += m->step)
		REQUIRE_OK(gmem_copy(m->fd, at, m->step, m->image + at,
				     m->how->mapping ? 0 : GMEMFD_RANGE_CLOSED));
}

static bool is_one_of(uint64_t page, const uint64_t *pages, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (pages[i] == page)
			return true;
	return false;
}

void lazy_ready(struct lazy *m, const uint64_t *pages, size_t nr)
{
	uint64_t at, from = 0;

	for (at = 0; at < m->bytes; at += m->step) {
		if (!is_one_of(at, pages, nr))
			continue;
		if (from < at)
			lazy_present(m, from, at - from);
		lazy_trap(m, at, m->step);
		from = at + m->step;
	}
	if (from < at)
		lazy_present(m, from, at - from);
}

void lazy_again(struct lazy *m, uint64_t offset)
{
	REQUIRE_OK(gmem_punch(m->fd, offset, m->step));
	lazy_trap(m, offset, m->step);
}

static int resolve(struct lazy *m, uint64_t offset, bool minor)
{
	if (m->how->mapping)
		return minor ? uffd_continue(m->context, m->map + offset, m->step, 0) :
			       uffd_copy(m->context, m->map + offset, m->image + offset, m->step, 0);
	return minor ? gmem_continue(m->fd, offset, m->step, 0) :
		       gmem_copy(m->fd, offset, m->step, m->image + offset, 0);
}

void lazy_resolve(struct lazy *m, uint64_t offset)
{
	CHECK_OK(resolve(m, offset, m->how->minor));
}

/* False: there is none. */
static bool read_event(struct lazy *m, struct lazy_event *event)
{
	struct gmemfd_event ours;
	struct uffd_msg msg;

	memset(event, 0, sizeof(*event));
	if (m->how->mapping) {
		if (read(m->context, &msg, sizeof(msg)) != sizeof(msg))
			return false;
		REQUIRE_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
		event->offset = msg.arg.pagefault.address - (uintptr_t)m->map;
		event->minor = msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR;
		event->write = msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
		event->tid = msg.arg.pagefault.feat.ptid;
	} else {
		if (read(m->context, &ours, sizeof(ours)) != sizeof(ours))
			return false;
		REQUIRE_EQ(ours.type, GMEMFD_EVENT_FAULT);
		REQUIRE_EQ(ours.len, m->granule);
		/* KVM's, of whatever kind. */
		CHECK(ours.flags & GMEMFD_FAULT_KERNEL);
		event->offset = ours.offset;
		event->minor = ours.flags & GMEMFD_FAULT_MINOR;
		event->write = ours.flags & GMEMFD_FAULT_WRITE;
		event->tid = ours.tid;
	}
	REQUIRE(event->offset < m->bytes);
	event->offset -= event->offset % m->granule;
	return true;
}

struct lazy_event lazy_event(struct lazy *m)
{
	struct pollfd poll_fd = { .fd = m->context, .events = POLLIN };
	struct lazy_event event;

	REQUIRE_EQ(poll(&poll_fd, 1, PATIENCE * 1000 * tap_slow()), 1);
	REQUIRE(read_event(m, &event));
	m->events++;
	return event;
}

bool lazy_quiet(struct lazy *m)
{
	struct pollfd poll_fd = { .fd = m->context, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 0;
}

struct lazy_event lazy_trapped(struct lazy *m, uint64_t offset)
{
	struct lazy_event event = lazy_event(m);

	CHECK_EQ(event.offset, offset - offset % m->granule);
	CHECK_EQ(event.minor, m->how->minor);
	CHECK(lazy_quiet(m));
	return event;
}

struct lazy_event lazy_serve(struct lazy *m, uint64_t offset)
{
	struct lazy_event event = lazy_trapped(m, offset);

	lazy_resolve(m, event.offset);
	return event;
}

void lazy_serve_all(struct lazy *m, const uint64_t *pages, size_t nr)
{
	uint64_t seen = 0;

	REQUIRE(nr <= 64);
	for (size_t i = 0; i < nr; i++) {
		struct lazy_event event = lazy_event(m);
		size_t k = 0;

		while (k < nr && (pages[k] != event.offset || seen & 1ull << k))
			k++;
		if (!CHECK(k < nr))
			tap_diag("event %zu is about 0x%llx", i, (unsigned long long)event.offset);
		seen |= 1ull << k;
		CHECK_EQ(event.minor, m->how->minor);
		lazy_resolve(m, event.offset);
	}
}

bool lazy_same(struct lazy *m, uint64_t offset, size_t len)
{
	unsigned char *buf = malloc(len);
	bool same;

	REQUIRE(buf);
	REQUIRE_EQ(pread(m->fd, buf, len, offset), len);
	same = !memcmp(buf, m->image + offset, len);
	for (size_t i = 0; !same && i < len; i++)
		if (buf[i] != m->image[offset + i]) {
			tap_diag("byte 0x%zx is 0x%02x, not 0x%02x", offset + i, buf[i], m->image[offset + i]);
			break;
		}
	free(buf);
	return same;
}

static void *handle(void *arg)
{
	struct lazy *m = arg;
	struct lazy_event event;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = m->context, .events = POLLIN },
			{ .fd = m->stop[0], .events = POLLIN },
		};

		REQUIRE_OK(poll(fds, 2, -1));
		if (fds[1].revents)
			return NULL;
		while (read_event(m, &event)) {
			m->met[event.offset / m->granule]++;
			/* The test may have been faster: it is there, or it is gone again and there is a new event. */
			if (resolve(m, event.offset, event.minor))
				CHECK(errno == EEXIST || (errno == EFAULT && event.minor));
		}
	}
}

void lazy_handler_start(struct lazy *m)
{
	m->handled = true;
	m->met = calloc(m->bytes / m->granule, sizeof(*m->met));
	REQUIRE(m->met);
	REQUIRE_OK(pipe2(m->stop, O_CLOEXEC));
	m->thread = thread_start(handle, m);
}

void lazy_handler_stop(struct lazy *m)
{
	REQUIRE_EQ(write(m->stop[1], "", 1), 1);
	thread_join(m->thread);
	REQUIRE_OK(close(m->stop[0]));
	REQUIRE_OK(close(m->stop[1]));
}

/* --- The guest ------------------------------------------------------------------------------------------- */

void lazy_image(struct lazy *m, const unsigned char *code, size_t len)
{
	memcpy(m->image + LAZY_CODE, code, len);
	guest_build_small_tables(m->image + LAZY_TABLES, LAZY_TABLES);
	guest_build_descriptors(m->image + LAZY_DESCRIPTORS, LAZY_DESCRIPTORS);
}

void lazy_vm_on(struct lazy_vm *vm, int vcpus)
{
	guest_create(&vm->g);
	if (vm->m.options & LAZY_IRQCHIP)
		guest_irqchip(&vm->g);
	guest_add_memory(&vm->g, 0, vm->m.map, vm->m.bytes);
	for (int i = 0; i < vcpus; i++)
		guest_add_vcpu(&vm->g);
}

void lazy_vm(struct lazy_vm *vm, const struct arrangement *how, int vcpus, const unsigned char *code, size_t len,
	     unsigned int options)
{
	lazy_memory(&vm->m, how, LAZY_SIZE, options);
	lazy_image(&vm->m, code, len);
	lazy_vm_on(vm, vcpus);
	for (int i = 0; i < vcpus; i++)
		lazy_regs(vm, i, 0, 0, 0, 0);
}

void lazy_regs(struct lazy_vm *vm, int vcpu, uint64_t rdi, uint64_t rsi, uint64_t rcx, uint64_t rax)
{
	struct kvm_regs regs;

	guest_long_mode(&vm->g, vcpu, LAZY_TABLES, LAZY_CODE, LAZY_STACK - vcpu * page_size());
	regs = guest_get_regs(&vm->g, vcpu);
	regs.rdi = rdi;
	regs.rsi = rsi;
	regs.rcx = rcx;
	regs.rax = rax;
	guest_set_regs(&vm->g, vcpu, &regs);
}

void lazy_said(const struct guest_exit *e, uint32_t value)
{
	REQUIRE(e);
	if (e->err || e->exit != KVM_EXIT_IO || e->port != LAZY_PORT || (uint32_t)e->value != value)
		guest_tell(e);
	CHECK_EQ(e->err, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_IO);
	CHECK_EQ(e->port, LAZY_PORT);
	CHECK(e->is_write);
	CHECK_EQ((uint32_t)e->value, value);
}

void lazy_says(struct lazy_vm *vm, int vcpu, uint32_t value)
{
	lazy_said(guest_join(&vm->g, vcpu, PATIENCE), value);
}

bool lazy_waits(struct lazy_vm *vm, int vcpu)
{
	return !guest_join(&vm->g, vcpu, 0.001) && xgmem_stats(vm->m.fd).waiters;
}

void lazy_vm_end(struct lazy_vm *vm)
{
	struct gmemfd_stats stats;

	guest_destroy(&vm->g);
	stats = xgmem_stats(vm->m.fd);
	CHECK_EQ(stats.waiters, 0);
	CHECK_EQ(stats.faults_zero, 0);
	CHECK_EQ(stats.faults_sigbus, 0);
	/* A handler's thread may have resolved some before they could be read. */
	if (!vm->m.handled)
		CHECK_EQ(stats.events, vm->m.events);
	CHECK(lazy_quiet(&vm->m));
}
