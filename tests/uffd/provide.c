// SPDX-License-Identifier: GPL-2.0-only
/*
 * UFFDIO_COPY, ZEROPAGE and POISON: what they refuse, what they write to their last field, what those who wait then
 * see.
 */
#include "uffd.h"

#define NOT_MOVED "a module is not told from where, and must not forget poison"
#define LATE "older kernels put it where it is registered by then"

static const struct parity_diff diffs[] = {
	{ "copy_sources", "beyond the end", "EINVAL, field untouched", "6.1 lets the copying itself fail" },
	{ "copy_sources", "kernel", "EINVAL, field untouched", "6.1 lets the copying itself fail" },
	{ "beyond_the_end_of_the_file", "copy beyond", "EFAULT, field -EFAULT", "ENOMEM from 7.x on" },
	{ "beyond_the_end_of_the_file", "zero beyond", "EFAULT, field -EFAULT", "ENOMEM from 7.x on" },
	{ "poison_moves", "move it", "EINVAL", NOT_MOVED },
	{ "poison_moves", "old place", "SIGBUS code 4 lsb 12 at +1", NOT_MOVED },
	{ "poison_moves", "new place", "SIGSEGV code 1 at elsewhere", NOT_MOVED },
	{ "poison_goes", "and then", "SIGBUS code 4 lsb 12 at +2", "a module is not told of MADV_DONTNEED" },
	{ "beyond_the_end_of_the_file", "continue beyond", "EFAULT, field -EFAULT", "EINVAL before 7.3" },
	{ "destination_changes_while_the_source_traps", "another *", "EAGAIN, field -11, content 0", LATE },
	{ "destination_changes_while_the_source_traps", "the other page", "0", LATE },
	{ "copy_sources", "wraps", "EINVAL, field untouched", "6.1 lets the copying itself fail" },
};

PARITY_DIFFS(diffs);

PARITY(copy)
{
	struct poke poke;

	s_rig(s, 8, MISSING, 0);
	s_poke(&poke, s_at(s, 0) + 5);
	s_msg(s, "fault", s->uffd);
	s_fill(s, "one page", 0, 1);
	s_poked(s, "saw", &poke);
	s_fill(s, "three, of which nobody waits", 1, 3);
	s_touch(s, "second", s_at(s, 2) + s->ps - 1);
	s_fill(s, "all there", 0, 2);
	s_fill(s, "first there", 3, 2);
	s_fill(s, "up to one that is there, nothing", 3, 1);
	s_fill(s, "room", 5, 1);
	s_fill(s, "a part", 4, 4);
	s_touch(s, "of the part", s_at(s, 4));
	s_log(s, "content", "%d%d%d%d", s_has_content(s, 4), s_has_content(s, 5), s_has_content(s, 6),
	      s_has_content(s, 7));
	s_quiet(s, "no message", s->uffd);
}

PARITY(copy_of_unaligned_source)
{
	s_rig(s, 4, MISSING, 0);
	for (size_t i = 0; i < 4 * s->ps; i++)
		s->src[i] = i % 251;
	s_copy(s, "copy", s->uffd, s_at(s, 1), (uintptr_t)s->src + 77, 2 * s->ps, 0);
	s_log(s, "same", "%d", !memcmp(s->map + s->ps, s->src + 77, 2 * s->ps));
}

PARITY(copy_sources)
{
	unsigned char *two = xmmap_anon(2 * (s->ps = page_size())), *ro;
	struct poke poke;

	s_rig(s, 8, MISSING, 0);
	REQUIRE_OK(munmap(two + s->ps, s->ps));
	s_copy(s, "nothing there", s->uffd, s_at(s, 0), (uintptr_t)two + s->ps, s->ps, 0);
	s_copy(s, "ends too soon", s->uffd, s_at(s, 0), (uintptr_t)two + 1, s->ps, 0);
	s_copy(s, "first page only", s->uffd, s_at(s, 0), (uintptr_t)two, 2 * s->ps, 0);
	s_copy(s, "null", s->uffd, s_at(s, 1), 0, s->ps, 0);
	s_copy(s, "beyond the end", s->uffd, s_at(s, 1), 1ull << 63, s->ps, 0);
	s_copy(s, "kernel", s->uffd, s_at(s, 1), -2ull << 30, s->ps, 0);
	s_copy(s, "wraps", s->uffd, s_at(s, 1), -s->ps, 2 * s->ps, 0);
	ro = xmmap(NULL, s->ps, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s_copy(s, "not readable", s->uffd, s_at(s, 1), (uintptr_t)ro, s->ps, 0);
	/* The zero page, and one that has to be faulted in. */
	ro = xmmap(NULL, s->ps, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s_copy(s, "untouched", s->uffd, s_at(s, 1), (uintptr_t)ro, s->ps, 0);
	s_touch(s, "of it", s_at(s, 1));
	/* A page that is there, of the same mapping. */
	s_copy(s, "destination's own mapping", s->uffd, s_at(s, 2), s_at(s, 1), s->ps, 0);
	s_touch(s, "of it", s_at(s, 2));
	s_poke(&poke, s_at(s, 3));
	s_msg(s, "fault", s->uffd);
	s_copy(s, "fails", s->uffd, s_at(s, 3), 0, s->ps, 0);
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_fill(s, "copy", 3, 1);
	s_poked(s, "saw", &poke);
}

/* The source itself traps: COPY waits for it like any reader, and this needs nothing of the destination. */
static long copy_from_trapped(struct poke *poke)
{
	struct side *s = (struct side *)poke->arg;
	struct uffdio_copy args = { .dst = s_at(s, 2), .src = (uintptr_t)poke->at, .len = s->ps };

	return ioctl(s->uffd, UFFDIO_COPY, &args);
}

PARITY(copy_from_a_source_that_traps)
{
	struct poke poke;

	s_rig(s, 4, MISSING, 0);
	s_poke_call(&poke, copy_from_trapped, s_at(s, 1), (uintptr_t)s);
	s_msg(s, "fault", s->uffd);
	s_fill(s, "copy of the source", 1, 1);
	s_poked(s, "copy from it", &poke);
	s_touch(s, "saw", s_at(s, 2));
}

/* Page by page, so that a page that was copied to can be the source of the next. */
PARITY(copy_of_its_own_destination)
{
	static const uint64_t modes[] = { MISSING, MISSING | MINOR };

	for (size_t m = 0; m < ARRAY_SIZE(modes); m++) {
		s_rig(s, 32, modes[m], 0);
		s_fill(s, "first", 15, 1);
		s_copy(s, "each to the next", s->uffd, s_at(s, 16), s_at(s, 15), 16 * s->ps, 0);
		s_touch(s, "last", s_at(s, 31));
		s_touch(s, "one of them", s_at(s, 20));
		close(s->uffd);
	}
}

struct late_copy {
	struct side *s;
	size_t to;
	struct uffdio_copy args;
	struct poke poke;
};

static long copy_late(struct poke *poke)
{
	struct late_copy *copy = (struct late_copy *)poke->arg;
	struct side *s = copy->s;

	copy->args = (struct uffdio_copy){ .dst = s_at(s, copy->to), .src = (uintptr_t)poke->at, .len = s->ps };
	return ioctl(s->uffd, UFFDIO_COPY, &copy->args);
}

/* A COPY to page 4 + i that waits for its source, page i, to be there. */
static void begin_copy(struct side *s, struct late_copy *copy, size_t i)
{
	copy->s = s;
	copy->to = 4 + i;
	s_poke_call(&copy->poke, copy_late, s_at(s, i), (uintptr_t)copy);
	s_msg(s, "source", s->uffd);
}

static void end_copy(struct side *s, const char *key, struct late_copy *copy)
{
	size_t i = copy->to - 4;

	s_fill(s, "source", i, 1);
	REQUIRE(thread_join_for(copy->poke.thread, S_SECONDS));
	s_log(s, key, "%s, field %lld, content %d", s_errno(copy->poke.err), (long long)copy->args.copy,
	      s_has_content(s, copy->to));
}

/* While COPY waits for its source the destination goes: nothing must arrive where nobody has registered any more. */
PARITY(destination_goes_while_the_source_traps)
{
	struct late_copy copies[4];
	unsigned char *to;

	s_rig(s, 8, MISSING, 0);
	to = xmmap_anon(s->ps);
	for (size_t i = 0; i < 4; i++)
		begin_copy(s, &copies[i], i);
	s_unregister(s, "unregister", s->uffd, s_at(s, 4), s->ps);
	REQUIRE_OK(munmap(s->map + 5 * s->ps, s->ps));
	xmmap(s->map + 6 * s->ps, s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 6 * s->ps);
	REQUIRE(mremap(s->map + 7 * s->ps, s->ps, s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	end_copy(s, "unregistered", &copies[0]);
	end_copy(s, "unmapped", &copies[1]);
	end_copy(s, "mapped over", &copies[2]);
	end_copy(s, "moved", &copies[3]);
	s_quiet(s, "no more", s->uffd);
}

PARITY(destination_changes_while_the_source_traps)
{
	struct late_copy copies[2];

	s_rig(s, 8, MISSING, 0);
	for (size_t i = 0; i < 2; i++)
		begin_copy(s, &copies[i], i);
	xmmap(s->map + 4 * s->ps, s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 7 * s->ps);
	s_register(s, "register", s->uffd, s_at(s, 4), s->ps, MISSING);
	s_register(s, "register", s->uffd, s_at(s, 5), s->ps, MISSING | MINOR);
	end_copy(s, "another page", &copies[0]);
	end_copy(s, "another mode", &copies[1]);
	s_log(s, "the other page", "%d", s_has_content(s, 7));
}

static const struct {
	const char *key;
	uint64_t mode;
} modes[] = {
	{ "unknown 2", 1 << 2 }, { "unknown 3", 1 << 3 }, { "unknown 63", 1ull << 63 }, { "unknown 32", 1ull << 32 },
	{ "DONTWAKE and unknown", 1 | 1 << 4 },
};

PARITY(unknown_modes)
{
	s_rig(s, 4, MISSING | MINOR, 0);
	s_write(s, 3, 1);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		s_copy(s, modes[i].key, s->uffd, s_at(s, 0), (uintptr_t)s->src, s->ps, modes[i].mode);
		s_zero(s, modes[i].key, s->uffd, s_at(s, 0), s->ps, modes[i].mode);
		s_continue(s, modes[i].key, s->uffd, s_at(s, 3), s->ps, modes[i].mode);
	}
	s_zero(s, "unknown 1", s->uffd, s_at(s, 0), s->ps, 2);
	s_log(s, "content", "%d", s_has_content(s, 0));
}

/* Told after all else: where nothing is registered, that is the answer. */
PARITY(copy_mode_wp_where_no_wp_is)
{
	s_rig(s, 4, MISSING, 0);
	s_unregister(s, "unregister", s->uffd, s_at(s, 2), 2 * s->ps);
	s_copy(s, "WP, not registered", s->uffd, s_at(s, 2), (uintptr_t)s->src, s->ps, UFFDIO_COPY_MODE_WP);
	s_copy(s, "WP, over the end", s->uffd, s_at(s, 1), (uintptr_t)s->src, 2 * s->ps, UFFDIO_COPY_MODE_WP);
	s_copy(s, "WP, source not there", s->uffd, s_at(s, 0), s->ps, s->ps, UFFDIO_COPY_MODE_WP);
	s_copy(s, "WP", s->uffd, s_at(s, 0), (uintptr_t)s->src, s->ps, UFFDIO_COPY_MODE_WP);
	s_copy(s, "WP and DONTWAKE", s->uffd, s_at(s, 0), (uintptr_t)s->src, s->ps, UFFDIO_COPY_MODE_WP | 1);
	s_log(s, "content", "%d", s_has_content(s, 0));
}

PARITY(zero)
{
	struct poke poke;

	s_rig(s, 8, MISSING, 0);
	s_poke(&poke, s_at(s, 0) + 5);
	s_msg(s, "fault", s->uffd);
	s_zero(s, "one page", s->uffd, s_at(s, 0), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_zero(s, "again", s->uffd, s_at(s, 0), s->ps, 0);
	s_fill(s, "copy over it", 0, 1);
	s_fill(s, "copy", 5, 1);
	s_zero(s, "a part", s->uffd, s_at(s, 3), 4 * s->ps, 0);
	s_zero(s, "over content", s->uffd, s_at(s, 5), s->ps, 0);
	s_touch(s, "of the part", s_at(s, 4));
	s_log(s, "content", "%d%d%d%d", s_has_content(s, 3), s_has_content(s, 4), s_has_content(s, 5),
	      s_has_content(s, 6));
	/* A page of zeros is one like any other. */
	s->map[3 * s->ps] = 7;
	s_touch(s, "written", s_at(s, 3));
	s_touch(s, "beside", s_at(s, 4));
}

PARITY(nothing_registered_there)
{
	unsigned char *anon = xmmap_anon(page_size());
	int other;

	s_rig(s, 4, 0, 0);
	other = s_uffd(s, 0);
	s_fill(s, "copy", 0, 1);
	s_zero(s, "zero", s->uffd, s_at(s, 0), s->ps, 0);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_register(s, "register", s->uffd, s_at(s, 1), 2 * s->ps, MISSING);
	s_fill(s, "over the start", 0, 2);
	s_fill(s, "over the end", 2, 2);
	s_fill(s, "around", 0, 4);
	s_zero(s, "zero over the end", s->uffd, s_at(s, 2), 2 * s->ps, 0);
	s_copy(s, "anonymous", s->uffd, (uintptr_t)anon, (uintptr_t)s->src, s->ps, 0);
	s_copy(s, "nothing there", s->uffd, s->ps, (uintptr_t)s->src, s->ps, 0);
	s_zero(s, "zero where nothing is", s->uffd, s->ps, s->ps, 0);
	s_continue(s, "continue where nothing is", s->uffd, s->ps, s->ps, 0);
	s_copy(s, "by another context", other, s_at(s, 1), (uintptr_t)s->src, s->ps, 0);
	s_log(s, "content", "%d%d%d%d", s_has_content(s, 0), s_has_content(s, 1), s_has_content(s, 2),
	      s_has_content(s, 3));
}

PARITY(beyond_the_end_of_the_file)
{
	unsigned char *map;

	s_rig(s, 2, 0, 0);
	map = xmmap(NULL, 4 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED, s->file, 0);
	s_register(s, "register", s->uffd, (uintptr_t)map, 4 * s->ps, MISSING);
	s_copy(s, "copy beyond", s->uffd, (uintptr_t)map + 2 * s->ps, (uintptr_t)s->src, s->ps, 0);
	s_zero(s, "zero beyond", s->uffd, (uintptr_t)map + 2 * s->ps, s->ps, 0);
	s_continue(s, "continue beyond", s->uffd, (uintptr_t)map + 2 * s->ps, s->ps, 0);
	s_copy(s, "copy across", s->uffd, (uintptr_t)map + s->ps, (uintptr_t)s->src, 2 * s->ps, 0);
	s_touch(s, "touch beyond", (uintptr_t)map + 3 * s->ps);
	s_quiet(s, "message", s->uffd);
}

PARITY(dontwake)
{
	struct poke a, b;

	s_rig(s, 4, MISSING, 0);
	s_poke(&a, s_at(s, 0));
	s_msg(s, "fault", s->uffd);
	s_poke(&b, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	s_copy(s, "copy", s->uffd, s_at(s, 0), (uintptr_t)s->src, s->ps, UFFDIO_COPY_MODE_DONTWAKE);
	s_zero(s, "zero", s->uffd, s_at(s, 1), s->ps, UFFDIO_ZEROPAGE_MODE_DONTWAKE);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	/* Content is there for everybody else. */
	s_touch(s, "another", s_at(s, 0));
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_wake(s, "wake", s->uffd, s_at(s, 0), 2 * s->ps);
	s_poked(s, "first", &a);
	s_poked(s, "second", &b);
	s_quiet(s, "nothing new", s->uffd);
}

/* Of what was done the waiters are woken, and no others. */
PARITY(a_part_wakes_its_own)
{
	struct poke pokes[4];

	s_rig(s, 6, MISSING, 0);
	s_fill(s, "in the way", 2, 1);
	for (size_t i = 0; i < 4; i++) {
		s_poke(&pokes[i], s_at(s, i < 2 ? i : i + 1));
		s_msg(s, "fault", s->uffd);
	}
	s_fill(s, "copy", 0, 5);
	s_poked(s, "first", &pokes[0]);
	s_poked(s, "second", &pokes[1]);
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_zero(s, "zero", s->uffd, s_at(s, 3), 2 * s->ps, 0);
	s_poked(s, "third", &pokes[2]);
	s_poked(s, "fourth", &pokes[3]);
	s_quiet(s, "nothing new", s->uffd);
}

PARITY(copy_of_many)
{
	const size_t pages = 1200;
	size_t bad = 0;

	s_rig(s, pages, MISSING, 0);
	for (size_t i = 0; i < pages; i++)
		pattern_fill(s->src + i * s->ps, s->ps, i);
	s_fill(s, "all", 0, pages);
	for (size_t i = 0; i < pages; i++)
		bad += !pattern_is(s->map + i * s->ps, s->ps, i);
	s_log(s, "bad", "%zu", bad);
	s_quiet(s, "no message", s->uffd);
}

PARITY(file_content_appears_to_all)
{
	unsigned char *alias, buf[2];

	s_rig(s, 2, MISSING, 0);
	alias = xmmap(NULL, 2 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED, s->file, 0);
	s_fill(s, "copy", 0, 1);
	s_touch(s, "alias", (uintptr_t)alias);
	REQUIRE_EQ(pread(s->file, buf, 1, 0), 1);
	s_log(s, "pread", "0x%02x", buf[0]);
	/* And the other way: content that is there does not trap in MISSING. */
	alias[s->ps] = 9;
	s_touch(s, "written through the alias", s_at(s, 1));
	s_fill(s, "copy there", 1, 1);
	s_quiet(s, "no message", s->uffd);
}

static long write_out(struct poke *poke)
{
	return write((int)poke->arg, (const void *)poke->at, 1);
}

static const char poison_trace[] =
	"fault: fault at +0\n"
	"poison: 0, field 1 pages\n"
	"saw: SIGBUS code 4 lsb 12 at +0\n"
	"again: SIGBUS code 4 lsb 12 at +0\n"
	"write: SIGBUS code 4 lsb 12 at +0\n"
	"no message: none\n"
	"poison again: EEXIST, field -EEXIST\n"
	"fill: 0, field 1 pages\n"
	"poison content: EEXIST, field -EEXIST\n"
	"a part: EAGAIN, field 2 pages\n"
	"poisoned: SIGBUS code 4 lsb 12 at +3\n"
	"system call: EFAULT\n"
	"DONTWAKE: 0, field 1 pages\n"
	"wait: 1\n"
	"wake: 0\n"
	"woken: SIGBUS code 4 lsb 12 at +1\n"
	"unknown mode: EINVAL, field untouched\n"
	"unaligned: EINVAL, field untouched\n"
	"empty: EINVAL, field untouched\n"
	"not registered: ENOENT, field -ENOENT\n"
	"no struct: EFAULT\n";

PARITY_SINCE(poison, UFFD_FEATURE_POISON, poison_trace)
{
	struct poke poke;
	int pipes[2];

	s_rig(s, 8, MISSING, 0);
	REQUIRE_OK(pipe(pipes));
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "fault", s->uffd);
	s_poison(s, "poison", s->uffd, s_at(s, 0), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_touch(s, "again", s_at(s, 0));
	s_poke_write(&poke, s_at(s, 0));
	s_poked(s, "write", &poke);
	s_quiet(s, "no message", s->uffd);
	s_poison(s, "poison again", s->uffd, s_at(s, 0), s->ps, 0);
	s_fill(s, "fill", 4, 1);
	s_poison(s, "poison content", s->uffd, s_at(s, 4), s->ps, 0);
	s_poison(s, "a part", s->uffd, s_at(s, 2), 4 * s->ps, 0);
	s_touch(s, "poisoned", s_at(s, 3));
	s_poke_call(&poke, write_out, s_at(s, 2), pipes[1]);
	s_poked(s, "system call", &poke);
	s_poke(&poke, s_at(s, 1));
	s_await(s->uffd, 1);
	s_poison(s, "DONTWAKE", s->uffd, s_at(s, 1), s->ps, UFFDIO_POISON_MODE_DONTWAKE);
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_wake(s, "wake", s->uffd, s_at(s, 1), s->ps);
	s_poked(s, "woken", &poke);
	s_poison(s, "unknown mode", s->uffd, s_at(s, 6), s->ps, 2);
	s_poison(s, "unaligned", s->uffd, s_at(s, 6) + 1, s->ps, 0);
	s_poison(s, "empty", s->uffd, s_at(s, 6), 0, 0);
	s_poison(s, "not registered", s->uffd, (uintptr_t)s->src, s->ps, 0);
	s_log_ret(s, "no struct", ioctl(s->uffd, UFFDIO_POISON, NULL));
}

static const char poison_goes_trace[] =
	"register: 0\n"
	"poison: 0, field 3 pages\n"
	"poison: 0, field 1 pages\n"
	"poison: 0, field 1 pages\n"
	"copy: 0, field 1 pages\n"
	"saw: 0x40\n"
	"zero: 0, field 1 pages\n"
	"saw: 0x00\n"
	"alias: 0x00\n"
	"still poisoned: SIGBUS code 4 lsb 12 at +2\n"
	"and then: 0x00\n"
	"content: SIGBUS code 4 lsb 12 at +3\n"
	"continue: 0, field 1 pages\n"
	"saw: 0x43\n"
	"unregister: 0\n"
	"poison stays: SIGBUS code 4 lsb 12 at +4\n";

/* It is poison of this mapping only; whatever is provided there takes its place, and MADV_DONTNEED takes it away. */
PARITY_SINCE(poison_goes, UFFD_FEATURE_POISON, poison_goes_trace)
{
	unsigned char *alias;

	s_rig(s, 5, MISSING, 0);
	alias = xmmap(NULL, 5 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED, s->file, 0);
	s_write(s, 3, 1);
	s_register(s, "register", s->uffd, s_at(s, 3), s->ps, MISSING | MINOR);
	s_poison(s, "poison", s->uffd, s_at(s, 0), 3 * s->ps, 0);
	s_poison(s, "poison", s->uffd, s_at(s, 3), s->ps, 0);
	s_poison(s, "poison", s->uffd, s_at(s, 4), s->ps, 0);
	s_fill(s, "copy", 0, 1);
	s_touch(s, "saw", s_at(s, 0));
	s_zero(s, "zero", s->uffd, s_at(s, 1), s->ps, 0);
	s_touch(s, "saw", s_at(s, 1));
	s_touch(s, "alias", (uintptr_t)alias + 2 * s->ps);
	s_touch(s, "still poisoned", s_at(s, 2));
	REQUIRE_OK(madvise(s->map + 2 * s->ps, s->ps, MADV_DONTNEED));
	s_touch(s, "and then", s_at(s, 2));
	s_touch(s, "content", s_at(s, 3));
	s_continue(s, "continue", s->uffd, s_at(s, 3), s->ps, 0);
	s_touch(s, "saw", s_at(s, 3));
	s_unregister(s, "unregister", s->uffd, s_at(s, 0), 5 * s->ps);
	s_touch(s, "poison stays", s_at(s, 4));
}

static const char poison_outlives_a_hole_trace[] =
	"poison: 0, field 1 pages\n"
	"punched: SIGBUS code 4 lsb 12 at +1\n"
	"removed: SIGBUS code 4 lsb 12 at +1\n"
	"content: SIGBUS code 4 lsb 12 at +1\n"
	"no message: none\n";

PARITY_SINCE(poison_outlives_a_hole, UFFD_FEATURE_POISON, poison_outlives_a_hole_trace)
{
	s_rig(s, 4, MISSING, 0);
	s_poison(s, "poison", s->uffd, s_at(s, 1), s->ps, 0);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * s->ps));
	s_touch(s, "punched", s_at(s, 1));
	s_write(s, 1, 1);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, s->ps, s->ps));
	s_touch(s, "removed", s_at(s, 1));
	s_write(s, 1, 1);
	s_touch(s, "content", s_at(s, 1));
	s_quiet(s, "no message", s->uffd);
}

static const char poison_moves_trace[] =
	"poison: 0, field 1 pages\n"
	"move another part: 0\n"
	"move it: 0\n"
	"old place: SIGSEGV code 1 at +1\n"
	"new place: SIGBUS code 4 lsb 12 at elsewhere\n"
	"no message: none\n";

static int move_page(struct side *s, size_t page, unsigned char *to)
{
	return mremap(s->map + page * s->ps, s->ps, s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to ? 0 : -1;
}

PARITY_SINCE(poison_moves, UFFD_FEATURE_POISON, poison_moves_trace)
{
	unsigned char *to = xmmap_anon(4 * page_size());

	s_rig(s, 4, MISSING, 0);
	s_poison(s, "poison", s->uffd, s_at(s, 1), s->ps, 0);
	s_log_ret(s, "move another part", move_page(s, 3, to));
	s_log_ret(s, "move it", move_page(s, 1, to + 2 * s->ps));
	s_touch(s, "old place", s_at(s, 1));
	s_touch(s, "new place", (uintptr_t)to + 2 * s->ps);
	s_quiet(s, "no message", s->uffd);
}
