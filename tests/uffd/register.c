// SPDX-License-Identifier: GPL-2.0-only
/*
 * UFFDIO_REGISTER, UNREGISTER and WAKE: what they refuse, and what is registered afterwards.
 */
#include "uffd.h"

#include <sys/auxv.h>

#define OWNERS "older kernels let any context end a registration"

static const struct parity_diff diffs[] = {
	{ "modes", "WP*", "EINVAL", "gmem has no write protection mode" },
	{ "modes", "all", "EINVAL", "gmem has no write protection mode" },
	{ "kinds_of_memory", "anonymous", "EINVAL", "only mappings of gmem files are registered" },
	{ "kinds_of_memory", "anonymous behind", "EINVAL", "only mappings of gmem files are registered" },
	{ "kinds_of_memory", "anonymous before", "EINVAL", "only mappings of gmem files are registered" },
	{ "kinds_of_memory", "the other's file", "EINVAL", "only mappings of gmem files are registered" },
	{ "kinds_of_memory", "unregister anonymous", "EINVAL", "only mappings of gmem files are registered" },
	{ "ioctls_that_a_range_takes", "MISSING", "WAKE COPY ZEROPAGE POISON", "MOVE and RWPROTECT are not offered" },
	{ "ioctls_that_a_range_takes", "MINOR", "WAKE COPY ZEROPAGE CONTINUE POISON",
	  "MOVE and RWPROTECT are not offered" },
	{ "ioctls_that_a_range_takes", "both", "WAKE COPY ZEROPAGE CONTINUE POISON",
	  "MOVE and RWPROTECT are not offered" },
	{ "mode_goes_while_a_thread_waits", "wait", "0", "no message can be answered any more" },
	{ "one_context_a_range", "second takes away from the first", "EINVAL", OWNERS },
	{ "one_context_a_range", "second takes all away", "EINVAL", OWNERS },
	{ "one_context_a_range", "nothing of that was done, either", "0, field 1 pages", OWNERS },
	{ "one_context_a_range", "second copies to the first's", "0, field 1 pages", OWNERS },
};

PARITY_DIFFS(diffs);

PARITY(modes)
{
	int refused = 0;

	s_rig(s, 2, 0, 0);
	s_register(s, "none", s->uffd, s_at(s, 0), s->ps, 0);
	for (int bit = 4; bit < 64; bit++)
		for (int known = 0; known < 2; known++) {
			struct uffdio_register args = {
				.range = { s_at(s, 0), s->ps },
				.mode = 1ull << bit | (known ? MISSING : 0),
			};

			refused += ioctl(s->uffd, UFFDIO_REGISTER, &args) && errno == EINVAL;
		}
	s_log(s, "unknown bits", "%d times EINVAL", refused);
	/* Not asked for with UFFDIO_API. */
	s_register(s, "RWP", s->uffd, s_at(s, 0), s->ps, UFFDIO_REGISTER_MODE_RWP);
	s_register(s, "RWP and MISSING", s->uffd, s_at(s, 0), s->ps, MISSING | UFFDIO_REGISTER_MODE_RWP);
	s_quiet(s, "nothing is registered", s->uffd);
	s_touch(s, "touch", s_at(s, 0));
	s_register(s, "MISSING", s->uffd, s_at(s, 0), s->ps, MISSING);
	s_register(s, "MINOR", s->uffd, s_at(s, 0), s->ps, MINOR);
	s_register(s, "both", s->uffd, s_at(s, 0), s->ps, MISSING | MINOR);
	s_register(s, "WP", s->uffd, s_at(s, 1), s->ps, UFFDIO_REGISTER_MODE_WP);
	s_register(s, "WP and MISSING", s->uffd, s_at(s, 1), s->ps, UFFDIO_REGISTER_MODE_WP | MISSING);
	s_register(s, "all", s->uffd, s_at(s, 1), s->ps, UFFDIO_REGISTER_MODE_WP | MISSING | MINOR);
}

PARITY(structs_that_cannot_be_read)
{
	struct uffdio_register *edge;
	unsigned char *two;

	s_rig(s, 2, 0, 0);
	s_log_ret(s, "register", ioctl(s->uffd, UFFDIO_REGISTER, NULL));
	s_log_ret(s, "unregister", ioctl(s->uffd, UFFDIO_UNREGISTER, NULL));
	s_log_ret(s, "wake", ioctl(s->uffd, UFFDIO_WAKE, NULL));
	s_log_ret(s, "copy", ioctl(s->uffd, UFFDIO_COPY, NULL));
	s_log_ret(s, "zero", ioctl(s->uffd, UFFDIO_ZEROPAGE, NULL));
	s_log_ret(s, "continue", ioctl(s->uffd, UFFDIO_CONTINUE, NULL));
	/* The last field is only written: of a struct that ends in a bad page all else is done. */
	two = xmmap_anon(2 * s->ps);
	REQUIRE_OK(mprotect(two + s->ps, s->ps, PROT_NONE));
	edge = (struct uffdio_register *)(two + s->ps - offsetof(struct uffdio_register, ioctls));
	edge->range.start = s_at(s, 0);
	edge->range.len = s->ps;
	edge->mode = MISSING;
	s_log_ret(s, "register, no room for ioctls", ioctl(s->uffd, UFFDIO_REGISTER, edge));
	s_copy(s, "and yet registered", s->uffd, s_at(s, 0), (uintptr_t)s->src, s->ps, 0);
}

/* Ranges that are none: the same for REGISTER, UNREGISTER and WAKE, which looks at nothing else. */
PARITY(ranges_that_are_none)
{
	uint64_t top;
	struct {
		const char *key;
		uint64_t addr, len;
	} rows[] = {
		{ "start not aligned", 1, s->ps },
		{ "start off by half", s->ps / 2, s->ps },
		{ "length not aligned", 0, s->ps + 1 },
		{ "length below a page", 0, s->ps - 1 },
		{ "empty", 0, 0 },
		{ "wraps to its start", 0, -s->ps },
		{ "wraps to 0", 0, 0 },
		{ "wraps", 0, 0 },
		{ "longest", 0, -s->ps },
		{ "beyond the end of all", 0, s->ps },
		{ "across the end of all", 0, 2 * s->ps },
		{ "highest page", 0, s->ps },
	};
	char key[64];

	s_rig(s, 4, MISSING, 0);
	/* The end of user memory: 47 bits here, with or without a fifth level. */
	top = (1ull << 47) - s->ps;
	for (size_t i = 0; i < 5; i++)
		rows[i].addr += s_at(s, 1);
	rows[5].addr = s->ps;
	rows[6].addr = s_at(s, 1);
	rows[6].len = -rows[6].addr;
	rows[7].addr = s_at(s, 1);
	rows[7].len = 1ull << 63;
	rows[9].addr = 1ull << 63;
	rows[10].addr = top - s->ps;
	rows[10].len = 4 * s->ps;
	rows[11].addr = -s->ps;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(key, sizeof(key), "register %s", rows[i].key);
		s_register(s, key, s->uffd, rows[i].addr, rows[i].len, MISSING);
		snprintf(key, sizeof(key), "unregister %s", rows[i].key);
		s_unregister(s, key, s->uffd, rows[i].addr, rows[i].len);
		snprintf(key, sizeof(key), "wake %s", rows[i].key);
		s_wake(s, key, s->uffd, rows[i].addr, rows[i].len);
		snprintf(key, sizeof(key), "copy %s", rows[i].key);
		s_copy(s, key, s->uffd, rows[i].addr, (uintptr_t)s->src, rows[i].len, 0);
		snprintf(key, sizeof(key), "zero %s", rows[i].key);
		s_zero(s, key, s->uffd, rows[i].addr, rows[i].len, 0);
		snprintf(key, sizeof(key), "continue %s", rows[i].key);
		s_continue(s, key, s->uffd, rows[i].addr, rows[i].len, 0);
	}
	/* WAKE does not ask whether anything is mapped there. */
	s_wake(s, "wake where nothing is", s->uffd, s->ps, s->ps);
	s_register(s, "register where nothing is", s->uffd, s->ps, s->ps, MISSING);
	s_unregister(s, "unregister where nothing is", s->uffd, s->ps, s->ps);
	/* All is as it was. */
	s_fill(s, "copy", 0, 4);
}

PARITY(holes_between_mappings)
{
	s_rig(s, 8, 0, 0);
	REQUIRE_OK(munmap(s->map + 2 * s->ps, 2 * s->ps));
	s_register(s, "in the hole", s->uffd, s_at(s, 2), 2 * s->ps, MISSING);
	s_unregister(s, "unregister in the hole", s->uffd, s_at(s, 2), 2 * s->ps);
	s_register(s, "across the hole", s->uffd, s_at(s, 1), 4 * s->ps, MISSING);
	s_fill(s, "copy before the hole", 1, 1);
	s_fill(s, "copy behind the hole", 4, 1);
	s_fill(s, "copy into the hole", 2, 1);
	s_fill(s, "copy across the edge", 1, 2);
	s_fill(s, "copy beside", 5, 1);
	s_register(s, "from the hole", s->uffd, s_at(s, 3), 4 * s->ps, MISSING);
	s_fill(s, "copy beside, now", 5, 1);
	s_unregister(s, "unregister across", s->uffd, s_at(s, 0), 8 * s->ps);
	s_fill(s, "copy, no longer", 6, 1);
}

PARITY(kinds_of_memory)
{
	unsigned char *anon, *all, *other, *private;
	int ro, theirs = REQUIRE_FD(memfd_create("other", MFD_CLOEXEC));
	char path[64];

	s_rig(s, 4, 0, 0);
	all = xmmap_anon(12 * s->ps);
	anon = all + 4 * s->ps;
	s_register(s, "anonymous", s->uffd, (uintptr_t)anon, s->ps, MISSING);
	s_unregister(s, "unregister anonymous", s->uffd, (uintptr_t)anon, s->ps);
	xmmap(all + 6 * s->ps, 2 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 0);
	s_register(s, "anonymous behind", s->uffd, (uintptr_t)all + 7 * s->ps, 2 * s->ps, MISSING);
	s_register(s, "anonymous before", s->uffd, (uintptr_t)all + 5 * s->ps, 2 * s->ps, MISSING);
	s_register(s, "the kernel's own", s->uffd, getauxval(AT_SYSINFO_EHDR) & -s->ps, s->ps, MISSING);
	REQUIRE_OK(ftruncate(theirs, s->ps));
	other = xmmap(NULL, s->ps, PROT_READ | PROT_WRITE, MAP_SHARED, theirs, 0);
	s_register(s, "the other's file", s->uffd, (uintptr_t)other, s->ps, MISSING);
	/* Not open for writing: a shared mapping of that cannot become writable. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->file);
	ro = REQUIRE_FD(open(path, O_RDONLY | O_CLOEXEC));
	other = xmmap(NULL, s->ps, PROT_READ, MAP_SHARED, ro, 0);
	s_register(s, "never writable", s->uffd, (uintptr_t)other, s->ps, MISSING);
	s_register(s, "never writable, MINOR", s->uffd, (uintptr_t)other, s->ps, MINOR);
	REQUIRE_OK(munmap(other, s->ps));
	other = xmmap(NULL, s->ps, PROT_READ, MAP_SHARED, s->file, 0);
	s_register(s, "not writable now", s->uffd, (uintptr_t)other, s->ps, MISSING);
	s_copy(s, "copy there", s->uffd, (uintptr_t)other, (uintptr_t)s->src, s->ps, 0);
	private = xmmap(NULL, s->ps, PROT_NONE, MAP_SHARED, s->file, s->ps);
	s_register(s, "not accessible now", s->uffd, (uintptr_t)private, s->ps, MISSING);
	s_copy(s, "copy there", s->uffd, (uintptr_t)private, (uintptr_t)s->src, s->ps, 0);
	s_log(s, "it has content", "%d", s_has_content(s, 1));
}

static const char *ioctls_of(struct side *s, uint64_t mode)
{
	static char text[128];
	struct uffdio_register args = { .range = { s_at(s, 0), s->ps }, .mode = mode };

	REQUIRE_OK(ioctl(s->uffd, UFFDIO_REGISTER, &args));
	snprintf(text, sizeof(text), "%s%s%s%s%s%s%s", args.ioctls & (1ull << _UFFDIO_WAKE) ? "WAKE" : "",
		 args.ioctls & (1ull << _UFFDIO_COPY) ? " COPY" : "",
		 args.ioctls & (1ull << _UFFDIO_ZEROPAGE) ? " ZEROPAGE" : "",
		 args.ioctls & (1ull << _UFFDIO_CONTINUE) ? " CONTINUE" : "",
		 args.ioctls & (1ull << _UFFDIO_WRITEPROTECT) ? " WRITEPROTECT" : "",
		 args.ioctls & (1ull << 8) ? " POISON" : "",
		 args.ioctls & ~(1ull << _UFFDIO_WAKE | 1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE |
				 1ull << _UFFDIO_CONTINUE | 1ull << _UFFDIO_WRITEPROTECT | 1ull << 8) ? " others" : "");
	return text;
}

PARITY(ioctls_that_a_range_takes)
{
	s_rig(s, 1, 0, 0);
	s_log(s, "MISSING", "%s", ioctls_of(s, MISSING));
	s_log(s, "MINOR", "%s", ioctls_of(s, MINOR));
	s_log(s, "both", "%s", ioctls_of(s, MISSING | MINOR));
}

PARITY(one_context_a_range)
{
	int second;

	s_rig(s, 8, 0, 0);
	second = s_uffd(s, 0);
	s_register(s, "first", s->uffd, s_at(s, 2), 4 * s->ps, MISSING);
	s_register(s, "second, same", second, s_at(s, 2), 4 * s->ps, MISSING);
	s_register(s, "second, other mode", second, s_at(s, 2), 4 * s->ps, MINOR);
	s_register(s, "second, inside", second, s_at(s, 3), s->ps, MISSING);
	s_register(s, "second, over its start", second, s_at(s, 1), 2 * s->ps, MISSING);
	s_register(s, "second, over its end", second, s_at(s, 5), 2 * s->ps, MISSING);
	s_register(s, "second, around", second, s_at(s, 0), 8 * s->ps, MISSING);
	s_copy(s, "nothing of that was done", second, s_at(s, 1), (uintptr_t)s->src, s->ps, 0);
	s_register(s, "second, before", second, s_at(s, 0), 2 * s->ps, MISSING);
	s_register(s, "second, behind", second, s_at(s, 6), 2 * s->ps, MISSING);
	s_unregister(s, "second takes away from the first", second, s_at(s, 2), s->ps);
	s_unregister(s, "second takes all away", second, s_at(s, 0), 8 * s->ps);
	s_fill(s, "nothing of that was done, either", 2, 1);
	/* Whose it is does matter to COPY only as far as it is registered at all. */
	s_copy(s, "second copies to the first's", second, s_at(s, 3), (uintptr_t)s->src, s->ps, 0);
	s_unregister(s, "first", s->uffd, s_at(s, 2), 4 * s->ps);
	s_register(s, "second, at last", second, s_at(s, 2), 4 * s->ps, MISSING);
	s_unregister(s, "second gives all back", second, s_at(s, 0), 8 * s->ps);
	s_unregister(s, "again", second, s_at(s, 0), 8 * s->ps);
}

/* COPY and its kin take what is registered in one way by one context. */
PARITY(across_registrations)
{
	int second;

	s_rig(s, 10, 0, 0);
	second = s_uffd(s, 0);
	s_register(s, "MISSING", s->uffd, s_at(s, 0), 2 * s->ps, MISSING);
	s_register(s, "both", s->uffd, s_at(s, 2), 2 * s->ps, MISSING | MINOR);
	s_register(s, "second, both", second, s_at(s, 4), 2 * s->ps, MISSING | MINOR);
	s_register(s, "second, both, beside", second, s_at(s, 6), 2 * s->ps, MISSING | MINOR);
	s_register(s, "second, MISSING", second, s_at(s, 8), 2 * s->ps, MISSING);
	s_fill(s, "copy over two modes", 1, 2);
	s_fill(s, "copy over two contexts", 3, 2);
	s_zero(s, "zero over two modes", s->uffd, s_at(s, 1), 2 * s->ps, 0);
	s_zero(s, "zero over two contexts", s->uffd, s_at(s, 3), 2 * s->ps, 0);
	s_fill(s, "copy over two of a kind", 5, 2);
	s_log(s, "content", "%d%d%d%d%d%d", s_has_content(s, 1), s_has_content(s, 2), s_has_content(s, 3),
	      s_has_content(s, 4), s_has_content(s, 5), s_has_content(s, 6));
	REQUIRE_OK(madvise(s->map, 10 * s->ps, MADV_DONTNEED));
	s_write(s, 0, 10);
	s_continue(s, "continue over two modes", s->uffd, s_at(s, 1), 2 * s->ps, 0);
	s_continue(s, "continue over two contexts", s->uffd, s_at(s, 3), 2 * s->ps, 0);
	s_continue(s, "continue over the second's modes", second, s_at(s, 7), 2 * s->ps, 0);
	s_continue(s, "continue over two of a kind", second, s_at(s, 5), 2 * s->ps, 0);
	s_continue(s, "continue before", s->uffd, s_at(s, 2), 2 * s->ps, 0);
}

static const char poison_across_trace[] =
	"both: 0\n"
	"second: 0\n"
	"over two modes: ENOENT, field -ENOENT\n"
	"over two contexts: ENOENT, field -ENOENT\n"
	"within one: 0, field 2 pages\n";

PARITY_SINCE(poison_across_registrations, UFFD_FEATURE_POISON, poison_across_trace)
{
	int second;

	s_rig(s, 6, MISSING, 0);
	second = s_uffd(s, 0);
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_UNREGISTER, &(struct uffdio_range){ s_at(s, 4), 2 * s->ps }));
	s_register(s, "both", s->uffd, s_at(s, 2), 2 * s->ps, MISSING | MINOR);
	s_register(s, "second", second, s_at(s, 4), 2 * s->ps, MISSING | MINOR);
	s_poison(s, "over two modes", s->uffd, s_at(s, 1), 2 * s->ps, 0);
	s_poison(s, "over two contexts", s->uffd, s_at(s, 3), 2 * s->ps, 0);
	s_poison(s, "within one", s->uffd, s_at(s, 2), 2 * s->ps, 0);
}

PARITY(modes_change_by_registering_again)
{
	struct poke poke;

	s_rig(s, 4, MISSING, 0);
	s_write(s, 1, 1);
	s_touch(s, "content, MISSING", s_at(s, 1));
	REQUIRE_OK(madvise(s->map, 4 * s->ps, MADV_DONTNEED));
	s_register(s, "MINOR", s->uffd, s_at(s, 0), 4 * s->ps, MINOR);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "content, MINOR", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "saw", &poke);
	/* Modes that are there already, and more: the kernel leaves it at these. */
	s_register(s, "both", s->uffd, s_at(s, 0), 4 * s->ps, MISSING | MINOR);
	s_register(s, "MISSING, of both", s->uffd, s_at(s, 0), 4 * s->ps, MISSING);
	REQUIRE_OK(madvise(s->map, 4 * s->ps, MADV_DONTNEED));
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "content", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_poke(&poke, s_at(s, 2));
	s_msg(s, "absent", s->uffd);
	s_fill(s, "copy", 2, 1);
	s_poked(s, "saw", &poke);
}

/* Each of the registrations that a range has keeps what it had, where that was more. */
PARITY(registering_less_over_several)
{
	struct poke poke;

	s_rig(s, 8, 0, 0);
	s_write(s, 0, 4);
	s_register(s, "both", s->uffd, s_at(s, 0), 2 * s->ps, MISSING | MINOR);
	s_register(s, "MISSING", s->uffd, s_at(s, 0), 4 * s->ps, MISSING);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "content, both", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_touch(s, "content, MISSING", s_at(s, 2));
	/* MINOR takes MISSING's place, and leaves both as they are. */
	s_register(s, "MINOR", s->uffd, s_at(s, 1), 7 * s->ps, MINOR);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 3 * s->ps));
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "absent, both", s->uffd);
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
	s_touch(s, "absent, MINOR", s_at(s, 2));
	s_touch(s, "absent, MINOR alone", s_at(s, 6));
	/* It may have been mapped along with the one before. */
	REQUIRE_OK(madvise(s->map + 3 * s->ps, s->ps, MADV_DONTNEED));
	s_poke(&poke, s_at(s, 3));
	s_msg(s, "content, MINOR", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 3), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_unregister(s, "unregister", s->uffd, s_at(s, 0), 8 * s->ps);
	s_touch(s, "absent", s_at(s, 0));
	s_quiet(s, "no more", s->uffd);
}

/* Who waits goes on waiting, and is not told of once more. */
PARITY(registering_more_while_a_thread_waits)
{
	struct poke absent, content;

	s_rig(s, 8, 0, 0);
	s_write(s, 2, 1);
	s_register(s, "MISSING", s->uffd, s_at(s, 0), 2 * s->ps, MISSING);
	s_register(s, "MINOR", s->uffd, s_at(s, 2), 2 * s->ps, MINOR);
	s_poke(&absent, s_at(s, 1));
	s_msg(s, "absent", s->uffd);
	s_poke(&content, s_at(s, 2));
	s_msg(s, "content", s->uffd);
	s_register(s, "the same", s->uffd, s_at(s, 0), 2 * s->ps, MISSING);
	s_register(s, "both", s->uffd, s_at(s, 1), 2 * s->ps, MISSING | MINOR);
	s_register(s, "more pages", s->uffd, s_at(s, 0), 8 * s->ps, MISSING | MINOR);
	/* Time for what should not come. */
	sleep_seconds(0.05);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_quiet(s, "no more", s->uffd);
	s_fill(s, "copy", 0, 2);
	s_poked(s, "absent", &absent);
	s_continue(s, "continue", s->uffd, s_at(s, 2), s->ps, 0);
	s_poked(s, "content", &content);
	s_quiet(s, "no more", s->uffd);
}

/* The mode that a thread waits for goes: theirs waits for WAKE, ours looks again. */
PARITY(mode_goes_while_a_thread_waits)
{
	struct poke absent, content;

	s_rig(s, 4, 0, 0);
	s_write(s, 2, 1);
	s_register(s, "MISSING", s->uffd, s_at(s, 0), 2 * s->ps, MISSING);
	s_register(s, "MINOR", s->uffd, s_at(s, 2), 2 * s->ps, MINOR);
	s_poke(&absent, s_at(s, 1));
	s_msg(s, "absent", s->uffd);
	s_poke(&content, s_at(s, 2));
	s_msg(s, "content", s->uffd);
	s_register(s, "MINOR", s->uffd, s_at(s, 0), 2 * s->ps, MINOR);
	s_register(s, "MISSING", s->uffd, s_at(s, 2), 2 * s->ps, MISSING);
	if (s->ours)
		REQUIRE(wait_for(!s_total(s->uffd), S_SECONDS));
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_wake(s, "wake", s->uffd, s_at(s, 0), 4 * s->ps);
	s_poked(s, "absent", &absent);
	s_poked(s, "content", &content);
	s_quiet(s, "no more", s->uffd);
}

PARITY(parts_of_a_mapping)
{
	struct poke poke;
	char key[32];

	s_rig(s, 8, 0, 0);
	s_register(s, "middle", s->uffd, s_at(s, 2), 4 * s->ps, MISSING);
	s_unregister(s, "middle of that", s->uffd, s_at(s, 3), 2 * s->ps);
	for (size_t i = 0; i < 8; i++) {
		bool traps = i == 2 || i == 5;

		snprintf(key, sizeof(key), "page %zu", i);
		s_poke(&poke, s_at(s, i));
		if (traps) {
			s_msg(s, key, s->uffd);
			s_fill(s, "copy", i, 1);
		}
		s_poked(s, key, &poke);
	}
	s_quiet(s, "no more", s->uffd);
	s_fill(s, "copy beside", 3, 1);
	s_fill(s, "copy at the end of it", 5, 2);
}

PARITY(several_mappings_and_files)
{
	int other;
	struct poke poke;

	s_rig(s, 8, 0, 0);
	other = s_file(s, 4 * s->ps);
	/* The file, another, the file again with other rights, then a page of it that the other hides. */
	xmmap(s->map + 2 * s->ps, 2 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, other, s->ps);
	REQUIRE_OK(mprotect(s->map + 5 * s->ps, s->ps, PROT_READ));
	xmmap(s->map + 7 * s->ps, s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 2 * s->ps);
	s_register(s, "all", s->uffd, s_at(s, 0), 8 * s->ps, MISSING);
	for (size_t i = 0; i < 8; i++) {
		s_poke(&poke, s_at(s, i));
		s_msg(s, "touched", s->uffd);
		s_fill(s, "copy", i, 1);
		s_poked(s, "saw", &poke);
	}
	s_log(s, "where content went", "%d %d", s_has_content(s, 1), s_has_content(s, 2));
	s_log(s, "and of the other", "%d", lseek(other, 0, SEEK_DATA) == (off_t)s->ps);
	/* COPY and the like take one mapping at a time. */
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * s->ps));
	s_fill(s, "copy over two mappings", 1, 2);
	s_fill(s, "copy over two rights", 4, 2);
	s_unregister(s, "all", s->uffd, s_at(s, 0), 8 * s->ps);
	s_fill(s, "copy", 0, 1);
}

PARITY(wake_and_unregister_wake)
{
	struct poke pokes[3];

	s_rig(s, 4, MISSING, 0);
	for (size_t i = 0; i < 3; i++) {
		s_poke(&pokes[i], s_at(s, i));
		s_msg(s, "fault", s->uffd);
	}
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	/* Woken for nothing: the fault is reported again. */
	s_wake(s, "wake the second", s->uffd, s_at(s, 1), s->ps);
	s_msg(s, "again", s->uffd);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_wake(s, "wake beside", s->uffd, s_at(s, 3), s->ps);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_quiet(s, "nothing new", s->uffd);
	s_unregister(s, "unregister the first two", s->uffd, s_at(s, 0), 2 * s->ps);
	s_poked(s, "first", &pokes[0]);
	s_poked(s, "second", &pokes[1]);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_unregister(s, "unregister the last", s->uffd, s_at(s, 0), 4 * s->ps);
	s_poked(s, "third", &pokes[2]);
}

PARITY(registering_changes_nothing_that_is_mapped)
{
	struct poke poke;

	s_rig(s, 4, 0, 0);
	s_write(s, 0, 2);
	s_touch(s, "before", s_at(s, 0));
	s_touch(s, "before, absent", s_at(s, 3));
	s_register(s, "MISSING and MINOR", s->uffd, s_at(s, 0), 4 * s->ps, MISSING | MINOR);
	s_touch(s, "mapped", s_at(s, 0));
	s_touch(s, "mapped zeros", s_at(s, 3));
	s_poke(&poke, s_at(s, 2));
	s_msg(s, "absent", s->uffd);
	s_zero(s, "zero", s->uffd, s_at(s, 2), s->ps, 0);
	s_poked(s, "saw", &poke);
}
