// SPDX-License-Identifier: GPL-2.0-only
/*
 * What munmap, mmap, mremap, mprotect and madvise make of a registered range, while nobody waits and while somebody
 * does. The events that tell a handler of it are in events.c.
 */
#include "uffd.h"

#define NOT_TOLD "a module is not told of growth, and could not tell it from a new mapping that the kernel merged"

static const struct parity_diff diffs[] = {
	{ "grown", "added", "none", NOT_TOLD },
	{ "grown", "copy to what was added", "ENOENT, field -ENOENT", NOT_TOLD },
	{ "grown", "saw what was added", "0x00", NOT_TOLD },
	{ "grown", "copy across", "ENOENT, field -ENOENT", NOT_TOLD },
};

PARITY_DIFFS(diffs);

PARITY(unmapped)
{
	s_rig(s, 8, MISSING, 0);
	REQUIRE_OK(munmap(s->map + 2 * s->ps, 3 * s->ps));
	s_fill(s, "copy into it", 2, 1);
	s_fill(s, "copy across its start", 1, 2);
	s_fill(s, "copy before", 0, 2);
	s_fill(s, "copy behind", 5, 1);
	s_unregister(s, "unregister in it", s->uffd, s_at(s, 3), s->ps);
	/* The same file at the same place is another mapping. */
	xmmap(s->map + 3 * s->ps, s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 3 * s->ps);
	s_touch(s, "mapped again", s_at(s, 3));
	s_fill(s, "copy there", 3, 1);
	s_quiet(s, "no message", s->uffd);
	s_fill(s, "behind as before", 6, 1);
	REQUIRE_OK(munmap(s->map, 8 * s->ps));
	s_fill(s, "copy, all gone", 7, 1);
	s_unregister(s, "unregister, all gone", s->uffd, s_at(s, 0), 8 * s->ps);
}

PARITY(mapped_over)
{
	s_rig(s, 8, MISSING, 0);
	xmmap(s->map + 2 * s->ps, 2 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 2 * s->ps);
	xmmap(s->map + 5 * s->ps, s->ps, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	s_touch(s, "the same", s_at(s, 2));
	s_touch(s, "anonymous", s_at(s, 5));
	s_fill(s, "copy to the same", 3, 1);
	s_fill(s, "copy to anonymous", 5, 1);
	s_fill(s, "copy between", 4, 1);
	s_fill(s, "copy before", 0, 2);
	s_fill(s, "copy behind", 6, 2);
	s_quiet(s, "no message", s->uffd);
}

PARITY(unmapped_while_a_thread_waits)
{
	struct poke a, b;

	s_rig(s, 4, MISSING, 0);
	s_poke(&a, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	s_poke(&b, s_at(s, 3));
	s_msg(s, "another", s->uffd);
	REQUIRE_OK(munmap(s->map + s->ps, s->ps));
	s_fill(s, "copy", 1, 1);
	/* A handler that sees ENOENT wakes who waits, and that one sees what there is now. */
	s_wake(s, "wake", s->uffd, s_at(s, 1), s->ps);
	s_poked(s, "saw", &a);
	s_fill(s, "copy", 3, 1);
	s_poked(s, "saw", &b);
	s_quiet(s, "no more", s->uffd);
}

PARITY(replaced_while_a_thread_waits)
{
	unsigned char *other = xmmap_anon(4 * page_size());
	struct poke poke;

	s_rig(s, 4, MISSING, 0);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	/* In one go with its content: ours wakes who waited as soon as the mapping goes. */
	memset(other, 0x33, 4 * s->ps);
	REQUIRE(mremap(other, 4 * s->ps, 4 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, s->map) == s->map);
	s_wake(s, "wake", s->uffd, s_at(s, 1), s->ps);
	s_poked(s, "saw", &poke);
}

/* A place of so many pages to move to. */
static unsigned char *room(struct side *s, size_t pages)
{
	return (unsigned char *)xmmap(NULL, (pages + 2) * s->ps, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + s->ps;
}

static void moved(struct side *s, int flags)
{
	unsigned char *to;

	s_rig(s, 4, MISSING | MINOR, 0);
	to = room(s, 4);
	s_fill(s, "copy", 0, 1);
	s_write(s, 1, 1);
	REQUIRE(mremap(s->map, 4 * s->ps, 4 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to) == to);
	s_touch(s, "what was mapped", (uintptr_t)to);
	s_touch(s, "content", (uintptr_t)to + s->ps);
	s_touch(s, "absent", (uintptr_t)to + 2 * s->ps);
	s_quiet(s, "no message", s->uffd);
	s_copy(s, "copy to the new place", s->uffd, (uintptr_t)to + 3 * s->ps, (uintptr_t)s->src, s->ps, 0);
	s_unregister(s, "unregister there", s->uffd, (uintptr_t)to, 4 * s->ps);
	s_register(s, "register there", s->uffd, (uintptr_t)to, 4 * s->ps, MISSING);
	s_copy(s, "copy there", s->uffd, (uintptr_t)to + 3 * s->ps, (uintptr_t)s->src, s->ps, 0);
}

PARITY(moved_elsewhere)
{
	moved(s, 0);
	s_fill(s, "copy to the old place", 3, 1);
	s_touch(s, "the old place", s_at(s, 0));
}

PARITY(moved_but_not_unmapped)
{
	struct poke poke;

	moved(s, MREMAP_DONTUNMAP);
	s_quiet(s, "no message", s->uffd);
	/* The old place is registered as before, and nothing is mapped there. */
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "the old place", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_poked(s, "saw", &poke);
}

PARITY(a_part_moved)
{
	unsigned char *to;
	struct poke poke;

	s_rig(s, 8, MISSING, 0);
	to = room(s, 2);
	REQUIRE(mremap(s->map + 3 * s->ps, 2 * s->ps, 2 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	s_touch(s, "moved", (uintptr_t)to + s->ps);
	s_fill(s, "copy to the old place", 3, 1);
	s_poke(&poke, s_at(s, 2));
	s_msg(s, "before it", s->uffd);
	s_fill(s, "copy", 2, 1);
	s_poked(s, "saw", &poke);
	s_poke(&poke, s_at(s, 5));
	s_msg(s, "behind it", s->uffd);
	s_fill(s, "copy", 5, 1);
	s_poked(s, "saw", &poke);
}

PARITY(moved_and_back)
{
	unsigned char *to;

	s_rig(s, 4, MISSING, 0);
	to = room(s, 4);
	REQUIRE(mremap(s->map, 4 * s->ps, 4 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	REQUIRE(mremap(to, 4 * s->ps, 4 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, s->map) == s->map);
	s_touch(s, "absent", s_at(s, 0));
	s_fill(s, "copy", 1, 1);
	s_quiet(s, "no message", s->uffd);
}

PARITY(moved_while_a_thread_waits)
{
	unsigned char *to;
	struct poke poke;

	s_rig(s, 4, MISSING, 0);
	to = room(s, 4);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	REQUIRE(mremap(s->map, 4 * s->ps, 4 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	s_fill(s, "copy", 1, 1);
	s_wake(s, "wake", s->uffd, s_at(s, 1), s->ps);
	s_poked(s, "saw", &poke);
}

/*
 * In place. Theirs: what is added belongs to the same mapping, and so is registered. Ours: it is not, until
 * somebody does so; then both are the same.
 */
PARITY(grown)
{
	struct poke poke;

	s_rig(s, 8, 0, 0);
	REQUIRE_OK(munmap(s->map + 4 * s->ps, 4 * s->ps));
	s_register(s, "register", s->uffd, s_at(s, 0), 4 * s->ps, MISSING);
	REQUIRE(mremap(s->map, 4 * s->ps, 7 * s->ps, 0) == s->map);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "before", s->uffd);
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
	s_poke(&poke, s_at(s, 5));
	REQUIRE(wait_for(s_pending(s->uffd) || !task_state(poke.tid), S_SECONDS));
	s_quiet(s, "added", s->uffd);
	s_fill(s, "copy to what was added", 5, 1);
	s_poked(s, "saw what was added", &poke);
	s_fill(s, "copy across", 3, 2);
	s_register(s, "register what was added", s->uffd, s_at(s, 4), 3 * s->ps, MISSING);
	s_poke(&poke, s_at(s, 6));
	s_msg(s, "registered", s->uffd);
	s_fill(s, "copy", 6, 1);
	s_poked(s, "saw", &poke);
	s_quiet(s, "no more", s->uffd);
}

PARITY(grown_and_moved)
{
	unsigned char *to;

	s_rig(s, 8, 0, 0);
	to = room(s, 8);
	s_register(s, "register", s->uffd, s_at(s, 0), 4 * s->ps, MISSING);
	REQUIRE(mremap(s->map, 4 * s->ps, 6 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	s_touch(s, "moved", (uintptr_t)to);
	s_touch(s, "added", (uintptr_t)to + 5 * s->ps);
	s_copy(s, "copy", s->uffd, (uintptr_t)to + s->ps, (uintptr_t)s->src, s->ps, 0);
	s_touch(s, "what stayed", s_at(s, 6));
}

PARITY(shrunk)
{
	s_rig(s, 8, MISSING, 0);
	REQUIRE(mremap(s->map, 8 * s->ps, 5 * s->ps, 0) == s->map);
	s_fill(s, "copy, cut off", 5, 1);
	s_fill(s, "copy across", 4, 2);
	s_fill(s, "copy", 4, 1);
	s_touch(s, "cut off", s_at(s, 5));
}

PARITY(protected)
{
	struct poke poke;

	s_rig(s, 8, MISSING | MINOR, 0);
	REQUIRE_OK(mprotect(s->map + 2 * s->ps, 3 * s->ps, PROT_READ));
	REQUIRE_OK(mprotect(s->map + 6 * s->ps, s->ps, PROT_NONE));
	s_poke(&poke, s_at(s, 2));
	s_msg(s, "readable", s->uffd);
	s_fill(s, "copy", 2, 1);
	s_poked(s, "saw", &poke);
	s_touch(s, "not accessible", s_at(s, 6));
	s_fill(s, "copy, not accessible", 6, 1);
	s_fill(s, "copy across rights", 3, 3);
	s_fill(s, "copy before", 1, 1);
	s_fill(s, "copy behind", 7, 1);
	REQUIRE_OK(mprotect(s->map, 8 * s->ps, PROT_READ | PROT_WRITE));
	s_touch(s, "accessible again", s_at(s, 6));
	s_fill(s, "copy across", 3, 3);
	s_poke_write(&poke, s_at(s, 0));
	s_msg(s, "write", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "wrote", &poke);
	s_quiet(s, "no more", s->uffd);
}

PARITY(protected_while_a_thread_waits)
{
	struct poke a, b, c;

	s_rig(s, 4, MISSING, 0);
	s_poke(&a, s_at(s, 0));
	s_msg(s, "fault", s->uffd);
	s_poke_write(&b, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	s_poke(&c, s_at(s, 2));
	s_msg(s, "fault", s->uffd);
	REQUIRE_OK(mprotect(s->map, s->ps, PROT_NONE));
	REQUIRE_OK(mprotect(s->map + s->ps, s->ps, PROT_READ));
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_fill(s, "copy", 0, 1);
	s_fill(s, "copy", 1, 1);
	s_fill(s, "copy", 2, 1);
	s_poked(s, "none", &a);
	s_poked(s, "write", &b);
	s_poked(s, "read", &c);
}

PARITY(zapped)
{
	struct poke poke;

	s_rig(s, 4, MISSING, 0);
	s_fill(s, "copy", 0, 2);
	REQUIRE_OK(madvise(s->map, 2 * s->ps, MADV_DONTNEED));
	s_touch(s, "content stays", s_at(s, 0));
	REQUIRE_OK(madvise(s->map + s->ps, s->ps, MADV_REMOVE));
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "removed", s->uffd);
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * s->ps));
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "punched", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
}

PARITY(advice_that_changes_flags_of_the_mapping)
{
	struct poke poke;

	s_rig(s, 8, MISSING, 0);
	REQUIRE_OK(madvise(s->map + 2 * s->ps, 2 * s->ps, MADV_DONTDUMP));
	REQUIRE_OK(madvise(s->map + 3 * s->ps, 2 * s->ps, MADV_DONTFORK));
	REQUIRE_OK(madvise(s->map + 6 * s->ps, s->ps, MADV_RANDOM));
	for (size_t i = 1; i < 8; i += 2) {
		s_poke(&poke, s_at(s, i));
		s_msg(s, "fault", s->uffd);
		s_fill(s, "copy", i, 1);
		s_poked(s, "saw", &poke);
	}
	REQUIRE_OK(madvise(s->map, 8 * s->ps, MADV_DODUMP));
	REQUIRE_OK(madvise(s->map, 8 * s->ps, MADV_DOFORK));
	REQUIRE_OK(madvise(s->map, 8 * s->ps, MADV_NORMAL));
	s_fill(s, "copy", 0, 1);
	s_zero(s, "zero", s->uffd, s_at(s, 2), s->ps, 0);
	s_unregister(s, "unregister", s->uffd, s_at(s, 0), 8 * s->ps);
	s_touch(s, "absent", s_at(s, 4));
}

PARITY(split_and_joined_and_unregistered)
{
	s_rig(s, 16, MISSING, 0);
	for (size_t i = 0; i < 16; i += 2)
		REQUIRE_OK(mprotect(s->map + i * s->ps, s->ps, PROT_READ));
	s_unregister(s, "unregister a part", s->uffd, s_at(s, 3), 6 * s->ps);
	for (size_t i = 0; i < 16; i++)
		s_fill(s, "copy", i, 1);
	REQUIRE_OK(mprotect(s->map, 16 * s->ps, PROT_READ | PROT_WRITE));
	s_touch(s, "a page of the part", s_at(s, 4));
	s_register(s, "register all", s->uffd, s_at(s, 0), 16 * s->ps, MISSING | MINOR);
	s_fill(s, "copy", 5, 1);
}

/* It was absent and is: who waits is neither woken nor told of once more. */
PARITY(punched_while_waiting_as_absent)
{
	struct poke a, b;

	s_rig(s, 4, MISSING, 0);
	s_poke(&a, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * s->ps));
	s_poke(&b, s_at(s, 2));
	s_msg(s, "another", s->uffd);
	REQUIRE_OK(madvise(s->map, 4 * s->ps, MADV_REMOVE));
	/* Time for what should not come. */
	sleep_seconds(0.05);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_quiet(s, "no more", s->uffd);
	s_fill(s, "copy", 1, 2);
	s_poked(s, "saw", &a);
	s_poked(s, "saw", &b);
}
