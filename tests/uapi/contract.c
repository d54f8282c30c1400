// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is promised for every command whatever it does: sizes of the struct, addresses, numbers, kinds and modes of
 * descriptors. Runs over all commands by itself; a command that the table, the header or the kernel alone knows is
 * a failure.
 */
#include "commands.h"

#include <ctype.h>

/* The header's text as it was when this was compiled. */
__asm__(".pushsection .rodata\n"
	"header_text: .incbin \"include/uapi/linux/gmemfd.h\"\n"
	".byte 0\n"
	".popsection\n");
extern const char header_text[];

#define TYPE GMEMFD_IOC

static const struct command *find_command(const char *label, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strlen(commands[i].label) == len && !memcmp(commands[i].label, label, len))
			return &commands[i];
	return NULL;
}

TEST(header_and_table_agree)
{
	static const char define[] = "\n#define GMEMFD_";
	const char *at = header_text;
	size_t found = 0;

	while ((at = strstr(at, define))) {
		char name[64], macro[16], type[64], want[80];
		const struct command *c;
		unsigned int nr;

		at += strlen(define);
		if (sscanf(at, "%63[A-Z0-9_] %15[A-Z_](GMEMFD_IOC, 0x%x, struct %63[a-z_])",
			   name, macro, &nr, type) != 4)
			continue;
		found++;
		c = find_command(name, strlen(name));
		if (!tap_check(c, false, __FILE__, __LINE__, "%s of the header is in the table", name))
			continue;
		CHECK_EQ(_IOC_NR(c->cmd), nr);
		CHECK_EQ(_IOC_SIZE(c->cmd), c->size);
		snprintf(want, sizeof(want), "%s", c->type);
		CHECK(!strcmp(type, want));
		CHECK(!strcmp(macro, _IOC_DIR(c->cmd) == _IOC_WRITE ? "_IOW" : "_IOWR"));
	}
	CHECK_EQ(found, ARRAY_SIZE(commands));
}

TEST(kernel_and_table_agree)
{
	struct gmemfd_info info = { .size = sizeof(info) };
	uint64_t masks[3] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		CHECK_EQ(_IOC_TYPE(commands[i].cmd), TYPE);
		masks[commands[i].kind] |= 1ull << _IOC_NR(commands[i].cmd);
	}
	REQUIRE_OK(ioctl(gmem_dev(), GMEMFD_INFO, &info));
	CHECK_EQ(info.device_cmds, masks[ON_DEVICE]);
	CHECK_EQ(info.file_cmds, masks[ON_FILE]);
	CHECK_EQ(info.context_cmds, masks[ON_CONTEXT]);
}

/* Calls; what a refused call leaves changed is a failure. */
static void refused(const struct fixture *f, int fd, unsigned long cmd, void *args, int err, const char *what)
{
	struct state before = fixture_state(f), after;
	int ret;

	errno = 0;
	ret = ioctl(fd, cmd, args);
	tap_check_errno(ret, errno, err, false, __FILE__, __LINE__, what);
	after = fixture_state(f);
	tap_check(state_same(&before, &after), false, __FILE__, __LINE__, "nothing changed after %s", what);
}

/* Calls on a new fixture, where it has to succeed; leaves the struct as the kernel left it. */
static void granted(const struct command *c, unsigned long cmd, uint32_t size, unsigned char *args, const char *what)
{
	struct fixture f = fixture_make(c);
	int ret;

	command_fill(&f, c, args);
	memset(args + c->size, 0, size - c->size);
	*(uint32_t *)args = size;
	errno = 0;
	ret = ioctl(command_fd(&f, c), cmd, args);
	tap_check_ok(ret, errno, false, __FILE__, __LINE__, what);
	if (c->returns_fd && ret >= 0) {
		tap_check(fcntl(ret, F_GETFD) == FD_CLOEXEC, false, __FILE__, __LINE__, "%s: a new descriptor", what);
		close(ret);
	} else {
		tap_check_eq(ret, 0, false, __FILE__, __LINE__, what, "0");
	}
	/* What depends on the fixture's addresses and descriptors is input. */
	fixture_drop(&f);
}

TEST_EACH(short_struct, struct command, commands)
{
	struct fixture f = fixture_make(row);
	unsigned char *args = xmmap_anon(page_size());
	unsigned char before[sizeof(struct gmemfd_stats)];

	for (uint32_t size = 0; size < row->size; size++) {
		command_fill(&f, row, args);
		*(uint32_t *)args = size;
		memcpy(before, args, row->size);
		refused(&f, command_fd(&f, row), row->cmd, args, EINVAL, "a struct too short");
		CHECK(!memcmp(before, args, row->size));
	}
}

TEST_EACH(longer_struct_of_zeros, struct command, commands)
{
	uint32_t page = page_size();
	uint32_t more[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 63, 1000, page - row->size - 1, page - row->size };
	unsigned char *exact = xmmap_anon(2 * page), *args = xmmap_anon(2 * page);

	granted(row, row->cmd, row->size, exact, "exact size");
	CHECK_EQ(*(uint32_t *)exact, row->size);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		uint32_t size = row->size + more[i];

		memset(args + size, 0xa5, 2 * page - size);
		granted(row, row->cmd, size, args, "longer size");
		CHECK_EQ(*(uint32_t *)args, size);
		CHECK(all_bytes_are(args + row->size, more[i], 0));
		CHECK(all_bytes_are(args + size, 2 * page - size, 0xa5));
		if (row->repeats)
			CHECK(!memcmp(args + 4, exact + 4, row->size - 4));
		if (row->is_range)
			CHECK_EQ(((struct gmemfd_range *)args)->done, ((struct gmemfd_range *)exact)->done);
		if (row->cmd == GMEMFD_RESOLVE)
			CHECK_EQ(((struct gmemfd_resolve *)args)->done, 1);
	}
}

TEST_EACH(longer_struct_with_a_byte_set, struct command, commands)
{
	struct fixture f = fixture_make(row);
	uint32_t page = page_size();
	unsigned char *args = xmmap_anon(page), *want = xmmap_anon(page);
	struct state before = fixture_state(&f), after;
	int wrong = 0;

	command_fill(&f, row, args);
	*(uint32_t *)args = page;
	for (uint32_t at = row->size; at < page; at++) {
		args[at] = 1 << (at & 7);
		memcpy(want, args, page);
		errno = 0;
		wrong += ioctl(command_fd(&f, row), row->cmd, args) != -1 || errno != E2BIG || memcmp(want, args, page);
		args[at] = 0;
	}
	CHECK_EQ(wrong, 0);
	after = fixture_state(&f);
	CHECK(state_same(&before, &after));

	*(uint32_t *)args = row->size + 1;
	args[row->size] = 0x80;
	refused(&f, command_fd(&f, row), row->cmd, args, E2BIG, "one byte too many");
}

TEST_EACH(longer_than_a_page, struct command, commands)
{
	static const uint32_t more[] = { 1, 2, 3, 4, 8, 4096 };
	struct fixture f = fixture_make(row);
	uint32_t page = page_size();
	unsigned char *args = xmmap_anon(3 * page);

	command_fill(&f, row, args);
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		*(uint32_t *)args = page + more[i];
		refused(&f, command_fd(&f, row), row->cmd, args, E2BIG, "longer than a page");
	}
	*(uint32_t *)args = UINT32_MAX;
	refused(&f, command_fd(&f, row), row->cmd, args, E2BIG, "as long as can be");
}

TEST_EACH(bad_address, struct command, commands)
{
	struct fixture f = fixture_make(row);
	size_t page = page_size();
	unsigned char *args = xmmap_anon(2 * page), buf[sizeof(struct gmemfd_stats)];
	int fd = command_fd(&f, row);

	command_fill(&f, row, buf);
	refused(&f, fd, row->cmd, NULL, EFAULT, "NULL");
	refused(&f, fd, row->cmd, (void *)1, EFAULT, "an odd address");
	refused(&f, fd, row->cmd, (void *)0x8000000000000000ul, EFAULT, "no address");
	refused(&f, fd, row->cmd, (void *)0xffffffff81000000ul, EFAULT, "an address of the kernel");
	REQUIRE_OK(munmap(args + page, page));
	refused(&f, fd, row->cmd, args + page, EFAULT, "unmapped");
	/* The size is there, the rest is there but for N bytes. */
	for (uint32_t missing = 1; missing <= row->size; missing += missing < 8 ? 1 : 8) {
		memcpy(args + page - row->size + missing, buf, row->size - missing);
		refused(&f, fd, row->cmd, args + page - row->size + missing, EFAULT, "over the end of a mapping");
	}
	memset(args, 0, page);
	memcpy(args, buf, row->size);
	REQUIRE_OK(mprotect(args, page, PROT_NONE));
	refused(&f, fd, row->cmd, args, EFAULT, "PROT_NONE");
}

/* Exactly at the end of a mapping: nothing more is read or written. */
TEST_EACH(struct_at_the_end_of_a_mapping, struct command, commands)
{
	size_t page = page_size();
	unsigned char *args = xmmap_anon(2 * page);

	REQUIRE_OK(munmap(args + page, page));
	memset(args, 0xa5, page);
	granted(row, row->cmd, row->size, args + page - row->size, "at the end");
	CHECK(all_bytes_are(args, page - row->size, 0xa5));
}

TEST_EACH(memory_that_cannot_be_written, struct command, commands)
{
	struct fixture f = fixture_make(row);
	unsigned char *args = xmmap_anon(page_size());
	int ret;

	command_fill(&f, row, args);
	REQUIRE_OK(mprotect(args, page_size(), PROT_READ));
	if (_IOC_DIR(row->cmd) & _IOC_READ) {
		CHECK_ERRNO(ioctl(command_fd(&f, row), row->cmd, args), EFAULT);
	} else {
		ret = CHECK_OK(ioctl(command_fd(&f, row), row->cmd, args));
		if (row->returns_fd)
			close(ret);
	}
}

TEST_EACH(size_in_the_number_is_ignored, struct command, commands)
{
	static const unsigned int sizes[] = { 0, 1, 4, 8, 24, 128, 4096, _IOC_SIZEMASK };
	unsigned char *args = xmmap_anon(page_size());

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		granted(row, _IOC(_IOC_DIR(row->cmd), TYPE, _IOC_NR(row->cmd), sizes[i]), row->size, args,
			"another size in the number");
}

TEST_EACH(direction_matters, struct command, commands)
{
	struct fixture f = fixture_make(row);
	unsigned char args[sizeof(struct gmemfd_stats)];

	command_fill(&f, row, args);
	for (unsigned int dir = 0; dir < 4; dir++)
		if (dir != _IOC_DIR(row->cmd))
			refused(&f, command_fd(&f, row), _IOC(dir, TYPE, _IOC_NR(row->cmd), row->size), args, ENOTTY,
				"another direction");
	refused(&f, command_fd(&f, row), _IOC(_IOC_DIR(row->cmd), TYPE + 1, _IOC_NR(row->cmd), row->size), args, ENOTTY,
		"the type above");
	refused(&f, command_fd(&f, row), _IOC(_IOC_DIR(row->cmd), TYPE - 1, _IOC_NR(row->cmd), row->size), args, ENOTTY,
		"the type below");
}

TEST_EACH(other_kinds_of_descriptor, struct command, commands)
{
	struct fixture f = fixture_make(row);
	unsigned char args[sizeof(struct gmemfd_stats)];

	command_fill(&f, row, args);
	if (row->kind != ON_DEVICE)
		refused(&f, gmem_dev(), row->cmd, args, ENOTTY, "on the device");
	if (row->kind != ON_FILE) {
		refused(&f, f.file, row->cmd, args, ENOTTY, "on a file");
		refused(&f, f.read_only, row->cmd, args, ENOTTY, "on a file open for reading");
	}
	if (row->kind != ON_CONTEXT)
		refused(&f, f.context, row->cmd, args, ENOTTY, "on a context");
}

TEST_EACH(file_open_for_reading, struct command, commands)
{
	struct fixture f = fixture_make(row);
	unsigned char args[sizeof(struct gmemfd_stats)];

	if (row->kind != ON_FILE) {
		CHECK(!row->writes);
		return;
	}
	command_fill(&f, row, args);
	if (row->writes)
		refused(&f, f.read_only, row->cmd, args, EBADF, "on a file open for reading");
	else
		CHECK_OK(ioctl(f.read_only, row->cmd, args));
}

static bool is_command(enum kind kind, unsigned int dir, unsigned int nr)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].kind == kind && _IOC_NR(commands[i].cmd) == nr && _IOC_DIR(commands[i].cmd) == dir)
			return true;
	return false;
}

TEST(unknown_numbers)
{
	struct fixture f = fixture_make(NULL);
	struct { const char *what; int fd; enum kind kind; } fds[] = {
		{ "device", gmem_dev(), ON_DEVICE },
		{ "file", f.file, ON_FILE },
		{ "file open for reading", f.read_only, ON_FILE },
		{ "context", f.context, ON_CONTEXT },
	};
	unsigned char args[256] = { sizeof(args) - 1 };
	struct state before = fixture_state(&f), after;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		int wrong = 0;

		for (unsigned int nr = 0; nr < 256; nr++)
			for (unsigned int dir = 0; dir < 4; dir++) {
				if (is_command(fds[i].kind, dir, nr))
					continue;
				errno = 0;
				if (ioctl(fds[i].fd, _IOC(dir, TYPE, nr, 64), args) != -1 || errno != ENOTTY) {
					tap_diag("%s: number 0x%x, direction %u: %s", fds[i].what, nr, dir,
						 strerror(errno));
					wrong++;
				}
			}
		CHECK_EQ(wrong, 0);
	}
	after = fixture_state(&f);
	CHECK(state_same(&before, &after));
}
