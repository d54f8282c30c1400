// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each field of each command's struct: unknown bits and values, fields that must be zero, ranges, descriptors, and what
 * INFO tells. A refused call changes nothing and says why in done.
 */
#include "commands.h"

static uint64_t *field64(void *args, size_t at)
{
	return (uint64_t *)((char *)args + at);
}

static uint32_t *field32(void *args, size_t at)
{
	return (uint32_t *)((char *)args + at);
}

static void refused(const struct fixture *f, const struct command *c, void *args, int err, const char *what)
{
	struct state before = fixture_state(f), after;
	int ret;
	char text[128];

	snprintf(text, sizeof(text), "%s with %s", c->label, what);
	errno = 0;
	ret = ioctl(command_fd(f, c), c->cmd, args);
	tap_check_errno(ret, errno, err, false, __FILE__, __LINE__, text);
	if (c->is_range)
		tap_check_eq(((struct gmemfd_range *)args)->done, -err, false, __FILE__, __LINE__, text,
			     "-errno in done");
	after = fixture_state(f);
	tap_check(state_same(&before, &after), false, __FILE__, __LINE__, "nothing changed after %s", text);
}

static const struct command *command_of(unsigned int cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].cmd == cmd)
			return &commands[i];
	REQUIRE(!"a command that is in the table");
	return NULL;
}

TEST_EACH(unknown_flags, struct command, commands)
{
	struct fixture f = fixture_make(row);
	unsigned char args[sizeof(struct gmemfd_stats)];

	for (int bit = 0; bit < 64; bit++) {
		if (row->flags & (1ull << bit))
			continue;
		command_fill(&f, row, args);
		*field64(args, FLAGS_AT) = 1ull << bit;
		refused(&f, row, args, EINVAL, "an unknown flag");
		command_fill(&f, row, args);
		*field64(args, FLAGS_AT) = 1ull << bit | row->flags;
		refused(&f, row, args, EINVAL, "an unknown flag beside known ones");
	}
}

TEST(known_flags)
{
	size_t ps = page_size();
	struct gmemfd_create create = { .size = sizeof(create), .bytes = HPAGE_SIZE };

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		struct gmemfd_range range;

		if (!c->is_range)
			continue;
		for (int bit = 0; bit < 64; bit++) {
			struct fixture f;

			if (!(c->flags & (1ull << bit)))
				continue;
			f = fixture_make(c);
			command_fill(&f, c, &range);
			range.flags = 1ull << bit;
			if (range.flags == GMEMFD_RANGE_CLOSED) {
				/* Page 9 is not watched: nobody could open it. */
				refused(&f, c, &range, EINVAL, "CLOSED where no watch is");
				range.offset = 12 * ps;
				refused(&f, c, &range, EINVAL, "CLOSED where the watch is not for it");
				range.offset = ps;
			}
			CHECK_OK(ioctl(f.file, c->cmd, &range));
			CHECK_EQ(range.done, range.len);
			fixture_drop(&f);
		}
	}
	for (uint64_t flags = 0; flags <= GMEMFD_WATCH_VCPU_EXIT; flags++) {
		struct fixture f = fixture_make(NULL);
		struct gmemfd_watch watch;

		command_fill(&f, command_of(GMEMFD_WATCH), &watch);
		watch.flags = flags;
		CHECK_OK(ioctl(f.file, GMEMFD_WATCH, &watch));
		fixture_drop(&f);
	}
	for (uint64_t flags = 0; flags <= GMEMFD_CREATE_ALL; flags++) {
		create.flags = flags;
		CHECK_OK(close(CHECK_OK(ioctl(gmem_dev(), GMEMFD_CREATE, &create))));
	}
}

/* Fields that must be 0 for a command: every bit of them. */
struct zero_field {
	const char *label;
	unsigned int cmd;
	size_t at;
	size_t len;
};

#define ZERO_FIELD(_cmd, _type, _field) { #_cmd "." #_field, GMEMFD_##_cmd, offsetof(struct gmemfd_##_type, _field), \
					  sizeof(((struct gmemfd_##_type *)NULL)->_field) }
#define ZERO_RANGE(_cmd) ZERO_FIELD(_cmd, range, op), ZERO_FIELD(_cmd, range, pad)
#define ZERO_SRC(_cmd) ZERO_FIELD(_cmd, range, src), ZERO_FIELD(_cmd, range, src_fd)

static const struct zero_field zero_fields[] = {
	ZERO_FIELD(CREATE, create, node), ZERO_FIELD(CREATE, create, pad),
	ZERO_FIELD(CONTEXT, context, pad),
	ZERO_FIELD(WATCH, watch, pad),
	ZERO_RANGE(UNWATCH), ZERO_SRC(UNWATCH),
	ZERO_FIELD(STATS, stats, pad),
	ZERO_FIELD(BIND, bind, slot_flags), ZERO_FIELD(BIND, bind, address),
	ZERO_FIELD(UNBIND, bind, offset), ZERO_FIELD(UNBIND, bind, vm), ZERO_FIELD(UNBIND, bind, slot_flags),
	ZERO_FIELD(UNBIND, bind, gpa), ZERO_FIELD(UNBIND, bind, len), ZERO_FIELD(UNBIND, bind, address),
	ZERO_FIELD(BINDINGS, bindings, pad),
	ZERO_RANGE(COPY), ZERO_FIELD(COPY, range, src_fd),
	ZERO_RANGE(CONTINUE), ZERO_SRC(CONTINUE),
	ZERO_RANGE(ZERO), ZERO_SRC(ZERO),
	ZERO_RANGE(POISON), ZERO_SRC(POISON),
	ZERO_RANGE(WAKE), ZERO_SRC(WAKE),
	ZERO_RANGE(FILL),
};

TEST_EACH(must_be_zero, struct zero_field, zero_fields)
{
	const struct command *c = command_of(row->cmd);
	struct fixture f = fixture_make(c);
	unsigned char args[sizeof(struct gmemfd_stats)];

	for (size_t bit = 0; bit < row->len * 8; bit++) {
		command_fill(&f, c, args);
		args[row->at + bit / 8] |= 1 << bit % 8;
		refused(&f, c, args, EINVAL, row->label);
	}
}

TEST(modes)
{
	const struct command *c = command_of(GMEMFD_WATCH);
	struct fixture f = fixture_make(c);
	struct gmemfd_watch watch;

	command_fill(&f, c, &watch);
	watch.modes = 0;
	refused(&f, c, &watch, EINVAL, "no mode");
	for (int bit = 0; bit < 64; bit++) {
		if (GMEMFD_MODE_ALL & (1ull << bit))
			continue;
		watch.modes = 1ull << bit;
		refused(&f, c, &watch, EINVAL, "an unknown mode");
		watch.modes |= GMEMFD_MODE_ALL;
		refused(&f, c, &watch, EINVAL, "an unknown mode beside known ones");
	}
	for (watch.modes = 1; watch.modes <= GMEMFD_MODE_ALL; watch.modes++) {
		CHECK_OK(ioctl(f.file, GMEMFD_WATCH, &watch));
		CHECK_OK(gmem_unwatch(f.file, watch.offset, watch.len));
	}
}

TEST(policies)
{
	static const struct { unsigned int cmd; size_t at; uint32_t first; } where[] = {
		{ GMEMFD_CREATE, offsetof(struct gmemfd_create, policy), GMEMFD_POLICY_DEFAULT },
		{ GMEMFD_WATCH, offsetof(struct gmemfd_watch, policy), GMEMFD_POLICY_DEFAULT },
		{ GMEMFD_POLICY, offsetof(struct gmemfd_policy, policy), GMEMFD_POLICY_RELEASE },
	};
	static const uint32_t unknown[] = { 4, 5, 7, 8, 255, 256, 0x10001, 0x7fffffff, 0x80000000, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
		const struct command *c = command_of(where[i].cmd);
		unsigned char args[sizeof(struct gmemfd_stats)];
		struct fixture f = fixture_make(c);

		for (size_t j = 0; j < ARRAY_SIZE(unknown); j++) {
			command_fill(&f, c, args);
			*field32(args, where[i].at) = unknown[j];
			refused(&f, c, args, EINVAL, "an unknown policy");
		}
		for (uint32_t policy = 0; policy <= GMEMFD_POLICY_HOLD; policy++) {
			command_fill(&f, c, args);
			*field32(args, where[i].at) = policy;
			if (policy < where[i].first) {
				refused(&f, c, args, EINVAL, "policy DEFAULT");
				continue;
			}
			CHECK_OK(ioctl(command_fd(&f, c), c->cmd, args));
			if (c->cmd == GMEMFD_WATCH)
				CHECK_OK(gmem_unwatch(f.file, *field64(args, OFFSET_AT), *field64(args, LEN_AT)));
		}
	}
}

TEST_EACH(ranges, struct command, commands)
{
	uint64_t ps = page_size(), size = FIXTURE_PAGES * ps;
	const struct { const char *what; uint64_t offset, len; } bad[] = {
		{ "an empty range", 0, 0 },
		{ "an empty range at the end", size, 0 },
		{ "an unaligned offset", 1, ps },
		{ "an unaligned length", 9 * ps, 1 },
		{ "nearly a page", 9 * ps, ps - 1 },
		{ "more than a page", 9 * ps, ps + 512 },
		{ "a range beyond the end", size, ps },
		{ "a range over the end", size - ps, 2 * ps },
		{ "a range over the end from 0", 0, size + ps },
		{ "a range far beyond", 1ull << 62, ps },
		{ "a range that wraps to 0", -ps, ps },
		{ "a range that wraps", -ps, 2 * ps },
		{ "a negative length", 9 * ps, -ps },
		{ "a negative length from 0", 0, -ps },
		{ "the sign bit", 1ull << 63, 1ull << 63 },
	};
	unsigned char args[sizeof(struct gmemfd_stats)];
	struct fixture f = fixture_make(row);

	if (!row->has_range) {
		CHECK(!row->is_range);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		command_fill(&f, row, args);
		*field64(args, OFFSET_AT) = bad[i].offset;
		*field64(args, LEN_AT) = bad[i].len;
		refused(&f, row, args, EINVAL, bad[i].what);
	}
}

/* In a huge file, a page alone is no range. */
TEST_EACH(ranges_of_a_huge_file, struct command, commands)
{
	uint64_t ps = page_size();
	const struct { uint64_t offset, len; } bad[] = {
		{ 0, ps }, { ps, HPAGE_SIZE }, { HPAGE_SIZE - ps, ps }, { 0, HPAGE_SIZE - ps }, { 0, HPAGE_SIZE + ps },
		{ HPAGE_SIZE, HPAGE_SIZE + ps }, { 2 * HPAGE_SIZE, HPAGE_SIZE },
	};
	unsigned char args[sizeof(struct gmemfd_stats)];
	struct fixture f = fixture_make(row);
	int huge;

	if (!row->has_range) {
		CHECK(!row->is_range);
		return;
	}
	huge = xgmem_huge(2 * HPAGE_SIZE);
	REQUIRE_EQ(dup2(huge, f.file), f.file);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		command_fill(&f, row, args);
		*field64(args, OFFSET_AT) = bad[i].offset;
		*field64(args, LEN_AT) = bad[i].len;
		refused(&f, row, args, EINVAL, "a range that is not of granules");
	}
}

TEST(descriptors_of_contexts)
{
	static const unsigned int cmds[] = { GMEMFD_WATCH, GMEMFD_ATTACH };
	size_t at = offsetof(struct gmemfd_watch, context);
	struct fixture f = fixture_make(NULL);
	int closed = xgmem_context();
	int bad[] = { -1, INT32_MIN, INT32_MAX, 1000000, closed, f.file, f.read_only, f.source, gmem_dev() };
	unsigned char args[sizeof(struct gmemfd_stats)];

	CHECK_EQ(offsetof(struct gmemfd_attach, context), at);
	close(closed);
	for (size_t i = 0; i < ARRAY_SIZE(cmds); i++)
		for (size_t j = 0; j < ARRAY_SIZE(bad); j++) {
			command_fill(&f, command_of(cmds[i]), args);
			*field32(args, at) = bad[j];
			refused(&f, command_of(cmds[i]), args, EBADF, "a descriptor that is no context");
		}
}

/* What BIND is told of the memslot. Whether it is so is another matter: see tests/kvm. */
TEST(ranges_of_memslots)
{
	const struct command *c = command_of(GMEMFD_BIND);
	uint64_t ps = page_size(), size = FIXTURE_PAGES * ps;
	const struct { const char *what; uint64_t offset, len, gpa; } bad[] = {
		{ "no length", 8 * ps, 0, 1 << 20 },
		{ "an unaligned offset", 8 * ps + 1, 8 * ps, 1 << 20 },
		{ "an unaligned length", 8 * ps, 8 * ps - 512, 1 << 20 },
		{ "an unaligned address", 8 * ps, 8 * ps, (1 << 20) + 2048 },
		{ "a range over the end", 9 * ps, 8 * ps, 1 << 20 },
		{ "a range at the end", size, 8 * ps, 1 << 20 },
		{ "a range beyond the end", size + 8 * ps, 8 * ps, 1 << 20 },
		{ "a range that wraps to 0", -8 * ps, 8 * ps, 1 << 20 },
		{ "a range that wraps", -ps, 8 * ps, 1 << 20 },
		{ "a negative length", 8 * ps, -8 * ps, 1 << 20 },
		{ "the sign bit", 1ull << 63, 1ull << 63, 1 << 20 },
		{ "an address that wraps to 0", 8 * ps, 8 * ps, -8 * ps },
		{ "an address that wraps", 8 * ps, 8 * ps, -ps },
	};
	struct fixture f = fixture_make(c);

	for (int set = 0; set < 2; set++)
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			struct gmemfd_bind bind;

			command_fill(&f, c, &bind);
			bind.slot += set;
			bind.flags = set ? GMEMFD_BIND_SET : 0;
			bind.offset = bad[i].offset;
			bind.len = bad[i].len;
			bind.gpa = bad[i].gpa;
			refused(&f, c, &bind, EINVAL, bad[i].what);
		}
}

TEST(descriptors_of_kvm)
{
	static const unsigned int cmds[] = { GMEMFD_BIND, GMEMFD_UNBIND, GMEMFD_VCPU_FAULT };
	size_t at = offsetof(struct gmemfd_bind, vm_fd);
	struct fixture f = fixture_make(command_of(GMEMFD_BIND));
	int closed = xgmem_context(), vcpu = f.guest.vcpus[0].fd;
	int stats = REQUIRE_FD(ioctl(f.guest.vm, KVM_GET_STATS_FD, NULL));
	int vcpu_stats = REQUIRE_FD(ioctl(vcpu, KVM_GET_STATS_FD, NULL));
	int bad[] = { -1, INT32_MIN, INT32_MAX, 1000000, closed, f.file, f.read_only, f.source, f.context, gmem_dev(),
		      f.guest.kvm, stats, vcpu_stats, 0 };
	unsigned char args[sizeof(struct gmemfd_stats)];

	CHECK_EQ(offsetof(struct gmemfd_vcpu_fault, vcpu_fd), at);
	close(closed);
	for (size_t i = 0; i < ARRAY_SIZE(cmds); i++)
		for (size_t j = 0; j < ARRAY_SIZE(bad); j++) {
			/* Last, what another of the commands wants. */
			if (j == ARRAY_SIZE(bad) - 1)
				bad[j] = cmds[i] == GMEMFD_VCPU_FAULT ? f.guest.vm : vcpu;
			command_fill(&f, command_of(cmds[i]), args);
			*field32(args, at) = bad[j];
			refused(&f, command_of(cmds[i]), args, EBADF, "a descriptor of another kind");
		}
}

TEST(bindings)
{
	const struct command *c = command_of(GMEMFD_BINDINGS);
	static const uint32_t sizes[] = { 0, 1, sizeof(struct gmemfd_binding) - 8, sizeof(struct gmemfd_binding) + 8,
					  4096, UINT32_MAX };
	struct fixture f = fixture_make(c);
	struct gmemfd_bindings bindings;

	command_fill(&f, c, &bindings);
	bindings.nr = 0;
	refused(&f, c, &bindings, EINVAL, "no room");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		command_fill(&f, c, &bindings);
		bindings.entry_size = sizes[i];
		refused(&f, c, &bindings, EINVAL, "entries of another size");
	}
	command_fill(&f, c, &bindings);
	bindings.entries = 0;
	refused(&f, c, &bindings, EFAULT, "entries at NULL");
	bindings.entries = 1ull << 63;
	bindings.nr = 1;
	refused(&f, c, &bindings, EFAULT, "entries at no address");
	command_fill(&f, c, &bindings);
	memset(f.entries, 0xa5, 2 * sizeof(*f.entries));
	CHECK_OK(ioctl(f.read_only, GMEMFD_BINDINGS, &bindings));
	CHECK_EQ(bindings.nr, 1);
	CHECK_EQ(bindings.after, 0);
	CHECK(f.entries[0].id);
	CHECK_EQ(f.entries[0].flags, 0);
	CHECK_EQ(f.entries[0].offset, 0);
	CHECK_EQ(f.entries[0].len, FIXTURE_PAGES * page_size());
	CHECK_EQ(f.entries[0].vm, 9);
	CHECK_EQ(f.entries[0].gpa, 0);
	CHECK_EQ(f.entries[0].address, (uintptr_t)f.map);
	CHECK_EQ(f.entries[0].slot, 0);
	CHECK_EQ(f.entries[0].pid, getpid());
	CHECK(all_bytes_are(&f.entries[1], sizeof(f.entries[1]), 0xa5));
	/* No more entries than there is room for, and none is written where there are none. */
	bindings.nr = UINT32_MAX;
	bindings.after = f.entries[0].id;
	bindings.entries = 0;
	CHECK_OK(ioctl(f.file, GMEMFD_BINDINGS, &bindings));
	CHECK_EQ(bindings.nr, 0);
}

TEST(vcpu_fault)
{
	const struct command *c = command_of(GMEMFD_VCPU_FAULT);
	struct fixture f = fixture_make(c);
	struct gmemfd_vcpu_fault fault;

	command_fill(&f, c, &fault);
	memset(&fault.event, 0xa5, sizeof(fault.event));
	CHECK_OK(ioctl(f.context, GMEMFD_VCPU_FAULT, &fault));
	CHECK_EQ(fault.event.type, GMEMFD_EVENT_FAULT);
	CHECK_EQ(fault.event.flags & ~GMEMFD_FAULT_WRITE,
		 GMEMFD_FAULT_KERNEL | GMEMFD_FAULT_VM | GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST);
	CHECK_EQ(fault.event.offset, FIXTURE_VCPU_PAGE * page_size());
	CHECK_EQ(fault.event.len, page_size());
	CHECK_EQ(fault.event.cookie, 7);
	CHECK_EQ(fault.event.tid, gettid());
	CHECK_EQ(fault.event.slot, 0);
	CHECK_EQ(fault.event.gpa, FIXTURE_VCPU_PAGE * page_size());
	CHECK_EQ(fault.event.vm, 9);
	CHECK_EQ(fault.event.vcpu, 0);
	CHECK_EQ(fault.event.reserved, 0);
}

/* Each field of STATS that is about VMs. */
TEST(stats_of_bindings)
{
	struct fixture f = fixture_make(command_of(GMEMFD_BIND));
	struct gmemfd_stats stats = xgmem_stats(f.file);

	CHECK_EQ(stats.bindings, 1);
	CHECK_EQ(stats.vcpu_exits, 1);
	CHECK_EQ(stats.events, 0);
	CHECK_EQ(stats.faults_missing, 0);
	/* An exit is none, but KVM of some kernels looks once more whether the page is poisoned. */
	CHECK(stats.faults_sigbus <= 1);
	CHECK_EQ(stats.waiters, 0);
	CHECK_OK(gmem_bind(f.file, f.guest.vm, 1, 1 << 20, 8 * page_size(), 8 * page_size(), 0));
	CHECK_EQ(xgmem_stats(f.file).bindings, 2);
	CHECK_OK(gmem_unbind(f.file, f.guest.vm, 0, 0));
	CHECK_OK(gmem_unbind(f.file, f.guest.vm, 1, 0));
	CHECK_EQ(xgmem_stats(f.file).bindings, 0);
}

TEST(resolve)
{
	const struct command *c = command_of(GMEMFD_RESOLVE);
	struct gmemfd_info info = { .size = sizeof(info) };
	struct fixture f = fixture_make(c);
	struct gmemfd_resolve resolve;
	uint32_t bad[] = { 0, 0, UINT32_MAX };

	REQUIRE_OK(ioctl(gmem_dev(), GMEMFD_INFO, &info));
	bad[1] = info.max_ops + 1;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		command_fill(&f, c, &resolve);
		resolve.nr = bad[i];
		refused(&f, c, &resolve, EINVAL, "no number of entries");
	}
	command_fill(&f, c, &resolve);
	resolve.done = 77;
	resolve.failed = 78;
	CHECK_OK(ioctl(f.file, GMEMFD_RESOLVE, &resolve));
	CHECK_EQ(resolve.done, 1);
	CHECK_EQ(resolve.failed, 0);
	CHECK_EQ(f.op->done, page_size());
}

TEST(info)
{
	struct gmemfd_info info;
	char *version = read_file("/sys/module/gmemfd/version");

	memset(&info, 0xa5, sizeof(info));
	info.size = sizeof(info);
	info.flags = 0;
	REQUIRE_OK(ioctl(gmem_dev(), GMEMFD_INFO, &info));
	CHECK_EQ(info.size, sizeof(info));
	CHECK_EQ(info.abi, GMEMFD_ABI_VERSION);
	CHECK_EQ(info.flags, 0);
	CHECK_EQ(info.features & ~(GMEMFD_FEATURE_MEMCG | GMEMFD_FEATURE_VMA_LOCK | GMEMFD_FEATURE_USERFAULTFD |
				   GMEMFD_FEATURE_KVM), 0);
	/* All kernels that are tested have KVM. */
	CHECK(info.features & GMEMFD_FEATURE_KVM);
	CHECK_EQ(info.watch_flags, GMEMFD_WATCH_VCPU_EXIT);
	CHECK_EQ(info.bind_flags, GMEMFD_BIND_ALL);
	CHECK_EQ(!!(info.features & GMEMFD_FEATURE_MEMCG), !access("/sys/fs/cgroup/cgroup.controllers", F_OK) &&
		 strstr(read_file("/sys/fs/cgroup/cgroup.controllers"), "memory"));
	CHECK_EQ(info.create_flags, GMEMFD_CREATE_ALL);
	CHECK_EQ(info.watch_modes, GMEMFD_MODE_ALL);
	CHECK_EQ(info.policies, 0xf);
	CHECK_EQ(info.range_flags, GMEMFD_RANGE_ALL);
	CHECK_EQ(info.huge_size, GMEMFD_HUGE_SIZE);
	CHECK_EQ(info.event_size, sizeof(struct gmemfd_event));
	CHECK(info.max_ops >= 64);
	CHECK_EQ(info.max_bytes % page_size(), 0);
	REQUIRE(version);
	version[strcspn(version, "\n")] = '\0';
	CHECK(memchr(info.version, '\0', sizeof(info.version)));
	CHECK(!strcmp(info.version, version));
	CHECK(all_bytes_are((unsigned char *)info.version + strlen(info.version),
			    sizeof(info.version) - strlen(info.version), 0));
}
