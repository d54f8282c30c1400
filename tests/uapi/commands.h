/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every command of the private ABI as data, and a state of things in which each of them succeeds: what the tests of the
 * contract run over. A command that is not in this table fails uapi-contract.
 */
#ifndef GMEMFD_TESTS_COMMANDS_H
#define GMEMFD_TESTS_COMMANDS_H

#include "gmem.h"
#include "guest.h"

#define FIXTURE_PAGES 16

/*
 * A file of 16 pages: 0 to 7 watched in both modes, 0 closed, 12 and 13 watched by an orphan (HOLD), 15 present, all
 * others absent. For commands that are about a VM there is one, whose memslot 0 is the file, bound, and whose memslot 1
 * is the second half of it, not bound; its vCPU has just been sent back with a fault for page 3.
 */
struct fixture {
	int file;
	int read_only;		/* the same file, not open for writing */
	int context;
	int source;		/* a file of two pages */
	void *memory;		/* two pages */
	struct gmemfd_range *op;	/* for RESOLVE: ZERO of page 9 */
	struct gmemfd_binding *entries;	/* for BINDINGS: room for two */
	bool has_vm;
	struct guest guest;
	unsigned char *map;		/* of the file */
};

enum kind { ON_DEVICE, ON_FILE, ON_CONTEXT };

struct command {
	const char *label;
	const char *type;	/* name of the struct, as in the header */
	unsigned int cmd;
	uint32_t size;
	enum kind kind;
	bool writes;		/* needs a descriptor that is open for writing */
	bool returns_fd;
	bool is_range;		/* struct gmemfd_range: has a result in done */
	bool has_range;		/* offset and len, at 16 and 24 */
	bool needs_vm;
	bool repeats;		/* called on another fixture it answers the same */
	uint64_t flags;		/* known bits of flags, which are at 8 in every struct */
	void (*fill)(const struct fixture *f, void *args);
};

/* All structs have it there: what is common to them is tested in common. */
#define FLAGS_AT 8
#define OFFSET_AT 16
#define LEN_AT 24

#define FIXTURE_VCPU_PAGE 3
#define FIXTURE_CODE_PAGE 15
GUEST_CODE(fixture_code, ".code16", "	movb 0x3000, %al\n	hlt");

static inline void fixture_make_vm(struct fixture *f)
{
	size_t ps = page_size();
	const struct guest_exit *e;

	f->has_vm = true;
	guest_create(&f->guest);
	f->map = xmmap(NULL, FIXTURE_PAGES * ps, PROT_READ | PROT_WRITE, MAP_SHARED, f->file, 0);
	memcpy(f->map + FIXTURE_CODE_PAGE * ps, fixture_code, GUEST_CODE_SIZE(fixture_code));
	REQUIRE_EQ(guest_add_memory(&f->guest, 0, f->map, FIXTURE_PAGES * ps), 0);
	REQUIRE_EQ(guest_add_memory(&f->guest, 1 << 20, f->map + 8 * ps, 8 * ps), 1);
	guest_add_vcpu(&f->guest);
	guest_real_mode(&f->guest, 0, FIXTURE_CODE_PAGE * ps);
	REQUIRE_OK(gmem_bind(f->file, f->guest.vm, 0, 0, 0, FIXTURE_PAGES * ps, 9));
	e = guest_run(&f->guest, 0);
	REQUIRE_EQ(e->err, EFAULT);
}

/* What a command needs; for NULL, what all but those that are about a VM need. */
static inline struct fixture fixture_make(const struct command *c)
{
	size_t ps = page_size();
	struct fixture f = { .has_vm = false };
	char path[64];
	int lost;

	f.file = xgmem(FIXTURE_PAGES * ps);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f.file);
	f.read_only = REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC));
	f.context = xgmem_context();
	f.source = REQUIRE_FD(memfd_create("source", MFD_CLOEXEC));
	f.memory = xmmap_anon(3 * ps);
	pattern_fill(f.memory, 2 * ps, 1);
	REQUIRE_EQ(write(f.source, f.memory, 2 * ps), 2 * ps);
	f.op = (void *)((char *)f.memory + 2 * ps);
	*f.op = (struct gmemfd_range){
		.size = sizeof(*f.op), .op = GMEMFD_OP_ZERO, .offset = 9 * ps, .len = ps };
	f.entries = (void *)(f.op + 1);

	REQUIRE_OK(gmem_watch_exit(f.file, f.context, 0, 8 * ps, GMEMFD_MODE_ALL, 7, 0));
	REQUIRE_OK(gmem_copy(f.file, 0, ps, f.memory, GMEMFD_RANGE_CLOSED));
	REQUIRE_OK(gmem_copy(f.file, 15 * ps, ps, f.memory, 0));
	lost = xgmem_context();
	REQUIRE_OK(gmem_watch(f.file, lost, 12 * ps, 2 * ps, GMEMFD_MODE_MISSING, 8, GMEMFD_POLICY_HOLD));
	close(lost);
	if (c && c->needs_vm)
		fixture_make_vm(&f);
	return f;
}

static inline void fixture_drop(struct fixture *f)
{
	if (f->has_vm) {
		guest_destroy(&f->guest);
		munmap(f->map, FIXTURE_PAGES * page_size());
	}
	close(f->file);
	close(f->read_only);
	close(f->context);
	close(f->source);
	munmap(f->memory, 3 * page_size());
}

/* Everything that a refused call must leave as it was; the lowest free descriptor stands for all of them. */
struct state {
	struct gmemfd_stats stats;
	int free_fd;
};

static inline struct state fixture_state(const struct fixture *f)
{
	struct state state = { .stats = xgmem_stats(f->file) };

	state.free_fd = REQUIRE_FD(dup(f->file));
	close(state.free_fd);
	return state;
}

static inline bool state_same(const struct state *a, const struct state *b)
{
	return !memcmp(&a->stats, &b->stats, sizeof(a->stats)) && a->free_fd == b->free_fd;
}

static inline int command_fd(const struct fixture *f, const struct command *c)
{
	return c->kind == ON_DEVICE ? gmem_dev() : c->kind == ON_FILE ? f->file : f->context;
}

#define FILL(name, type) static inline void fill_##name(const struct fixture *f, struct gmemfd_##type *a)

FILL(info, info) { }

FILL(create, create) { a->bytes = page_size(); }

FILL(context, context) { }

FILL(watch, watch)
{
	a->context = f->context;
	a->offset = 9 * page_size();
	a->len = page_size();
	a->modes = GMEMFD_MODE_MISSING;
}

FILL(unwatch, range) { a->len = 8 * page_size(); }

FILL(attach, attach)
{
	a->context = f->context;
	a->offset = 12 * page_size();
	a->len = 2 * page_size();
}

FILL(policy, policy)
{
	a->policy = GMEMFD_POLICY_HOLD;
	a->len = 8 * page_size();
}

FILL(stats, stats) { }

FILL(absent, range)
{
	a->offset = 9 * page_size();
	a->len = page_size();
}

FILL(copy, range)
{
	fill_absent(f, a);
	a->src = (uintptr_t)f->memory;
}

FILL(continue, range) { a->len = page_size(); }

FILL(fill, range)
{
	fill_absent(f, a);
	a->src_fd = f->source;
}

FILL(resolve, resolve)
{
	a->nr = 1;
	a->ops = (uintptr_t)f->op;
}

FILL(bind, bind)
{
	a->vm_fd = f->guest.vm;
	a->slot = 1;
	a->gpa = 1 << 20;
	a->offset = 8 * page_size();
	a->len = 8 * page_size();
}

FILL(unbind, bind) { a->vm_fd = f->guest.vm; }

FILL(bindings, bindings)
{
	a->nr = 2;
	a->entries = (uintptr_t)f->entries;
	a->entry_size = sizeof(*f->entries);
}

FILL(vcpu_fault, vcpu_fault) { a->vcpu_fd = f->guest.vcpus[0].fd; }

#define COMMAND(_cmd, _type, _fill, ...) {					\
	.label = #_cmd, .type = "gmemfd_" #_type, .cmd = GMEMFD_##_cmd,		\
	.size = sizeof(struct gmemfd_##_type),					\
	.fill = (void (*)(const struct fixture *, void *))fill_##_fill, __VA_ARGS__ }
#define RANGE(_cmd, _fill, _flags)						\
	COMMAND(_cmd, range, _fill, .kind = ON_FILE, .writes = true,		\
		.is_range = true, .has_range = true, .flags = _flags)

static const struct command commands[] = {
	COMMAND(INFO, info, info, .kind = ON_DEVICE, .repeats = true),
	COMMAND(CREATE, create, create, .kind = ON_DEVICE, .returns_fd = true, .flags = GMEMFD_CREATE_ALL),
	COMMAND(CONTEXT, context, context, .kind = ON_DEVICE, .returns_fd = true),
	COMMAND(WATCH, watch, watch, .kind = ON_FILE, .writes = true, .has_range = true,
		.flags = GMEMFD_WATCH_VCPU_EXIT),
	RANGE(UNWATCH, unwatch, 0),
	COMMAND(ATTACH, attach, attach, .kind = ON_FILE, .writes = true, .has_range = true),
	COMMAND(POLICY, policy, policy, .kind = ON_FILE, .writes = true, .has_range = true),
	COMMAND(STATS, stats, stats, .kind = ON_FILE, .repeats = true),
	RANGE(COPY, copy, GMEMFD_RANGE_ALL),
	RANGE(CONTINUE, continue, GMEMFD_RANGE_DONTWAKE),
	RANGE(ZERO, absent, GMEMFD_RANGE_ALL),
	RANGE(POISON, absent, GMEMFD_RANGE_DONTWAKE),
	RANGE(WAKE, continue, 0),
	RANGE(FILL, fill, GMEMFD_RANGE_ALL),
	COMMAND(RESOLVE, resolve, resolve, .kind = ON_FILE, .writes = true, .flags = GMEMFD_RESOLVE_ALL),
	COMMAND(BIND, bind, bind, .kind = ON_FILE, .writes = true, .needs_vm = true, .flags = GMEMFD_BIND_ALL),
	COMMAND(UNBIND, bind, unbind, .kind = ON_FILE, .writes = true, .needs_vm = true, .flags = GMEMFD_BIND_SET),
	COMMAND(BINDINGS, bindings, bindings, .kind = ON_FILE, .needs_vm = true),
	COMMAND(VCPU_FAULT, vcpu_fault, vcpu_fault, .kind = ON_CONTEXT, .needs_vm = true),
};

/* The struct as a caller of today would fill it. */
static inline void command_fill(const struct fixture *f, const struct command *c, void *args)
{
	memset(args, 0, c->size);
	*(uint32_t *)args = c->size;
	c->fill(f, args);
}

#endif
