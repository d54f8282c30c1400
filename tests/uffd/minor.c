// SPDX-License-Identifier: GPL-2.0-only
/*
 * UFFDIO_REGISTER_MODE_MINOR: pages that are in the file but not in this mapping's page table trap, UFFDIO_CONTINUE
 * maps them.
 */
#include "uffd.h"
#include "gmem.h"

static const struct parity_diff diffs[] = {
	{ "continue_results", "WP*", "EINVAL, field -EINVAL", "6.1 knows no such mode" },
	{ "continue_results", "not registered, WP", "ENOENT, field -ENOENT", "6.1 knows no such mode" },
};

PARITY_DIFFS(diffs);

PARITY(content_traps_until_continued)
{
	struct poke a, b;

	s_rig(s, 4, MINOR, 0);
	s_write(s, 0, 4);
	s_poke(&a, s_at(s, 0) + 9);
	s_msg(s, "read", s->uffd);
	s_poke_write(&b, s_at(s, 1));
	s_msg(s, "write", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_poked(s, "read", &a);
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "write", &b);
	s_touch(s, "written", s_at(s, 1));
	s_log(s, "neighbour byte", "0x%02x", s->map[s->ps + 1]);
	/* It is mapped for writing as well: no second fault. */
	s_poke_write(&a, s_at(s, 0));
	s_poked(s, "write", &a);
	s_quiet(s, "no more", s->uffd);
}

/* Not a page beside the one that was continued. */
PARITY(no_fault_around)
{
	struct poke poke;

	s_rig(s, 32, MINOR, 0);
	s_write(s, 0, 32);
	for (size_t i = 16; i < 19; i++) {
		s_poke(&poke, s_at(s, i));
		s_msg(s, "fault", s->uffd);
		s_continue(s, "continue", s->uffd, s_at(s, i), s->ps, 0);
		s_poked(s, "saw", &poke);
	}
	s_poke(&poke, s_at(s, 15));
	s_msg(s, "before", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 15), s->ps, 0);
	s_poked(s, "saw", &poke);
}

PARITY(zapped_traps_again)
{
	struct poke poke;

	s_rig(s, 4, MINOR, 0);
	s_write(s, 0, 4);
	s_continue(s, "continue", s->uffd, s_at(s, 0), 4 * s->ps, 0);
	s_touch(s, "mapped", s_at(s, 1));
	REQUIRE_OK(madvise(s->map + s->ps, s->ps, MADV_DONTNEED));
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "zapped", s->uffd);
	s_touch(s, "beside", s_at(s, 2));
	s_continue(s, "continue beside", s->uffd, s_at(s, 2), s->ps, 0);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_quiet(s, "no more", s->uffd);
}

PARITY(alias_does_not_trap)
{
	struct poke poke;
	unsigned char *alias;

	s_rig(s, 4, MINOR, 0);
	alias = xmmap(NULL, 4 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED, s->file, 0);
	memset(alias + s->ps, 0x77, s->ps);
	s_touch(s, "alias", (uintptr_t)alias + 2 * s->ps);
	s_quiet(s, "no message", s->uffd);
	s_poke(&poke, s_at(s, 1) + 3);
	s_msg(s, "populated through the alias", s->uffd);
	/* It can still be changed there before it is continued. */
	memset(alias + s->ps, 0x78, s->ps);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_poke(&poke, s_at(s, 2));
	s_msg(s, "read through the alias", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 2), s->ps, 0);
	s_poked(s, "saw", &poke);
	s->map[s->ps] = 0x79;
	s_touch(s, "the same page", (uintptr_t)alias + s->ps);
}

PARITY(absent_is_zeros)
{
	s_rig(s, 4, MINOR, 0);
	s_touch(s, "read", s_at(s, 0));
	s->map[s->ps] = 3;
	s_touch(s, "written", s_at(s, 1));
	s_quiet(s, "no message", s->uffd);
	s_log(s, "content", "%d%d%d", s_has_content(s, 0), s_has_content(s, 1), s_has_content(s, 2));
	s_continue(s, "continue what is mapped", s->uffd, s_at(s, 0), s->ps, 0);
	s_continue(s, "continue what is absent", s->uffd, s_at(s, 2), s->ps, 0);
}

PARITY(continue_results)
{
	s_rig(s, 8, MINOR, 0);
	s_write(s, 0, 3);
	s_write(s, 4, 2);
	s_continue(s, "up to an absent page", s->uffd, s_at(s, 0), 4 * s->ps, 0);
	s_continue(s, "from an absent page", s->uffd, s_at(s, 3), 2 * s->ps, 0);
	s_continue(s, "mapped", s->uffd, s_at(s, 1), s->ps, 0);
	s_continue(s, "from a mapped page", s->uffd, s_at(s, 2), 3 * s->ps, 0);
	s_continue(s, "last of it", s->uffd, s_at(s, 5), s->ps, 0);
	s_continue(s, "up to a mapped page", s->uffd, s_at(s, 4), 2 * s->ps, 0);
	s_continue(s, "WP", s->uffd, s_at(s, 7), s->ps, 2);
	s_continue(s, "WP, mapped", s->uffd, s_at(s, 0), s->ps, 2);
	s_continue(s, "not registered, WP", s->uffd, (uintptr_t)s->src, s->ps, 2);
	s_touch(s, "first", s_at(s, 0));
	s_touch(s, "fifth", s_at(s, 4));
}

/* It ends there: what lies behind is not mapped along with what lies before, and who waits for it goes on waiting. */
PARITY(continue_over_a_hole)
{
	struct poke first, behind;

	s_rig(s, 16, MINOR, 0);
	s_write(s, 0, 3);
	s_write(s, 4, 2);
	s_poke(&behind, s_at(s, 4));
	s_msg(s, "behind", s->uffd);
	s_poke(&first, s_at(s, 0));
	s_msg(s, "first", s->uffd);
	s_continue(s, "all", s->uffd, s_at(s, 0), 6 * s->ps, 0);
	s_poked(s, "first", &first);
	s_log(s, "wait", "%ld, %ld unread", s_total(s->uffd), s_pending(s->uffd));
	s_continue(s, "behind", s->uffd, s_at(s, 4), 2 * s->ps, 0);
	s_poked(s, "behind", &behind);
	s_touch(s, "beside it", s_at(s, 5));
	s_quiet(s, "no more", s->uffd);
}

PARITY(continue_many)
{
	const size_t pages = 700;
	size_t bad = 0;

	s_rig(s, pages, MINOR, 0);
	for (size_t i = 0; i < pages; i++)
		pattern_fill(s->src + i * s->ps, s->ps, i);
	s_write(s, 0, pages);
	s_continue(s, "all", s->uffd, s_at(s, 0), pages * s->ps, 0);
	for (size_t i = 0; i < pages; i++)
		bad += !pattern_is(s->map + i * s->ps, s->ps, i);
	s_log(s, "bad", "%zu", bad);
	s_quiet(s, "no message", s->uffd);
}

/*
 * However the content lies in memory, a page that is not continued is not mapped: written in one go, it may lie in
 * large pages, which the kernel likes to map as a whole.
 */
PARITY(continue_one_by_one)
{
	const size_t pages = 700;
	size_t table = HPAGE_SIZE / page_size(), offsets[] = { 0, 113, 300 };

	s_rig(s, 1, 0, 0);
	s->src = xmmap_anon(pages * s->ps);
	for (size_t i = 0; i < pages; i++)
		pattern_fill(s->src + i * s->ps, s->ps, i);
	s->pages = pages;
	s->file = s_file(s, pages * s->ps);
	s_write(s, 0, pages);
	for (size_t o = 0; o < ARRAY_SIZE(offsets); o++) {
		unsigned char *at = xmmap(NULL, 4 * HPAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		size_t done = 0, bad = 0;

		at = (unsigned char *)(((uintptr_t)at + HPAGE_SIZE) & ~(HPAGE_SIZE - 1)) + offsets[o] % table * s->ps;
		s->map = xmmap(at, pages * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 0);
		s_register(s, "register", s->uffd, s_at(s, 0), pages * s->ps, MINOR);
		for (size_t i = 0; i < pages; i++) {
			struct uffdio_continue args = { .range = { s_at(s, i), s->ps } };

			done += !ioctl(s->uffd, UFFDIO_CONTINUE, &args);
			/* What is mapped by now must not wait, nor be anything else. */
			bad += !pattern_is(s->map + i * s->ps, s->ps, i);
		}
		s_log(s, "continued", "%zu", done);
		s_log(s, "bad", "%zu", bad);
		s_quiet(s, "no message", s->uffd);
	}
}

PARITY(continue_dontwake)
{
	struct poke poke;

	s_rig(s, 2, MINOR, 0);
	s_write(s, 0, 2);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "fault", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, UFFDIO_CONTINUE_MODE_DONTWAKE);
	s_log(s, "wait", "%ld", s_total(s->uffd));
	s_touch(s, "another", s_at(s, 0));
	s_wake(s, "wake", s->uffd, s_at(s, 0), s->ps);
	s_poked(s, "saw", &poke);
}

PARITY(both_modes)
{
	struct poke poke;

	s_rig(s, 4, MISSING | MINOR, 0);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "absent", s->uffd);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	s_quiet(s, "COPY maps", s->uffd);
	s_write(s, 1, 1);
	s_poke_write(&poke, s_at(s, 1));
	s_msg(s, "content", s->uffd);
	s_fill(s, "copy where content is", 1, 1);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_poked(s, "wrote", &poke);
	/* A page that becomes content while somebody waits for it as absent. */
	s_poke(&poke, s_at(s, 2));
	s_msg(s, "absent", s->uffd);
	s_write(s, 2, 1);
	/* For theirs; ours has looked again when the page came. */
	s_wake(s, "wake", s->uffd, s_at(s, 2), s->ps);
	s_msg(s, "now content", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 2), s->ps, 0);
	s_poked(s, "saw", &poke);
	/* What COPY has mapped, once zapped, is content. */
	REQUIRE_OK(madvise(s->map, s->ps, MADV_DONTNEED));
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "zapped", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_poked(s, "saw", &poke);
}

/* COPY and ZEROPAGE do not ask for MISSING, nor CONTINUE for MINOR. */
PARITY(other_modes_commands)
{
	s_rig(s, 4, MINOR, 0);
	s_fill(s, "copy", 0, 1);
	s_zero(s, "zero", s->uffd, s_at(s, 1), s->ps, 0);
	s_touch(s, "copied", s_at(s, 0));
	s_touch(s, "zeroed", s_at(s, 1));
	s_register(s, "MISSING", s->uffd, s_at(s, 0), 4 * s->ps, MISSING);
	s_write(s, 2, 1);
	s_continue(s, "continue", s->uffd, s_at(s, 2), s->ps, 0);
	s_continue(s, "continue again", s->uffd, s_at(s, 2), s->ps, 0);
	s_touch(s, "continued", s_at(s, 2));
	s_quiet(s, "no message", s->uffd);
}

PARITY(holes_take_it_back)
{
	struct poke poke;

	s_rig(s, 4, MISSING | MINOR, 0);
	s_write(s, 0, 2);
	s_continue(s, "continue", s->uffd, s_at(s, 0), 2 * s->ps, 0);
	s_touch(s, "mapped", s_at(s, 0));
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, s->ps));
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "punched", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &poke);
	/* REGISTER alone would leave MISSING on. */
	s_unregister(s, "unregister", s->uffd, s_at(s, 0), 4 * s->ps);
	s_register(s, "MINOR alone", s->uffd, s_at(s, 0), 4 * s->ps, MINOR);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, s->ps, s->ps));
	s_touch(s, "punched", s_at(s, 1));
	/* Punched while somebody waits for it as content. */
	s_write(s, 2, 1);
	s_poke(&poke, s_at(s, 2));
	s_msg(s, "content", s->uffd);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * s->ps, s->ps));
	/* Ours has looked again when the page went; theirs is told to. */
	s_wake(s, "wake", s->uffd, s_at(s, 2), s->ps);
	s_poked(s, "saw", &poke);
}

PARITY(read_only_mapping)
{
	struct poke poke;

	s_rig(s, 4, 0, 0);
	REQUIRE_OK(mprotect(s->map, 4 * s->ps, PROT_READ));
	s_register(s, "register", s->uffd, s_at(s, 0), 4 * s->ps, MISSING | MINOR);
	s_write(s, 0, 1);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "content", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "absent", s->uffd);
	s_fill(s, "copy", 1, 1);
	s_poked(s, "saw", &poke);
	s_poke_write(&poke, s_at(s, 0));
	s_poked(s, "write", &poke);
	s_poke_write(&poke, s_at(s, 2));
	s_poked(s, "write to what is absent", &poke);
	REQUIRE_OK(mprotect(s->map, 4 * s->ps, PROT_READ | PROT_WRITE));
	s_poke_write(&poke, s_at(s, 0));
	s_poked(s, "write, allowed", &poke);
	s_quiet(s, "no more", s->uffd);
}

/* By a child: some kernels send SIGBUS to who asks for it. */
static void lose_page(struct side *s, size_t page)
{
	pid_t pid = REQUIRE_OK(fork());
	int status;

	if (pid == 0)
		_exit(madvise(s->map + page * s->ps, s->ps, MADV_HWPOISON) ? errno : 0);
	status = child_wait(pid, S_SECONDS);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		s_log(s, "lose it", "%s", s_errno(WEXITSTATUS(status)));
	else
		REQUIRE(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
}

/* The hardware has lost a page: that is told, not that the page is mapped, or absent. */
PARITY(continue_what_is_lost)
{
	s_rig(s, 4, MINOR, 0);
	s_write(s, 0, 3);
	s_continue(s, "map it", s->uffd, s_at(s, 0), 2 * s->ps, 0);
	s_touch(s, "mapped", s_at(s, 1));
	lose_page(s, 1);
	s_continue(s, "continue", s->uffd, s_at(s, 1), s->ps, 0);
	s_continue(s, "up to it", s->uffd, s_at(s, 0), 2 * s->ps, 0);
	REQUIRE_OK(madvise(s->map, s->ps, MADV_DONTNEED));
	s_continue(s, "up to it, then", s->uffd, s_at(s, 0), 3 * s->ps, 0);
}

/*
 * A file whose content lies in 2 MiB pages, where the side can have such: the mapping traps by 4 KiB none the less, and
 * what has been continued is what it was.
 */
PARITY(content_in_huge_pages)
{
	const size_t pages = HPAGE_SIZE / page_size();
	unsigned char *at = NULL;
	struct poke poke;
	size_t bad = 0;

	s_rig(s, 1, 0, 0);
	s->pages = 2 * pages;
	s->src = xmmap_anon(2 * HPAGE_SIZE);
	for (size_t i = 0; i < 2 * pages; i++)
		pattern_fill(s->src + i * s->ps, s->ps, i);
	s->file = s_file(s, 2 * HPAGE_SIZE);
	if (s->ours)
		REQUIRE_OK(gmem_copy(s->file, 0, 2 * HPAGE_SIZE, s->src, 0));
	else
		s_write(s, 0, 2 * pages);
	/* Aligned, so that they could be mapped as a whole. */
	at = xmmap(NULL, 4 * HPAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	at = (unsigned char *)(((uintptr_t)at + HPAGE_SIZE) & ~(HPAGE_SIZE - 1));
	s->map = xmmap(at, 2 * HPAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, 0);
	s_register(s, "register", s->uffd, s_at(s, 0), 2 * HPAGE_SIZE, MINOR);
	s_poke(&poke, s_at(s, 3));
	s_msg(s, "fault", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 3), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_poke_write(&poke, s_at(s, 4));
	s_msg(s, "beside it", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 4), s->ps, 0);
	s_poked(s, "write", &poke);
	s->map[4 * s->ps] = s->src[4 * s->ps];
	s_continue(s, "across both", s->uffd, s_at(s, 5), (2 * pages - 6) * s->ps, 0);
	s_poke(&poke, s_at(s, 2 * pages - 1));
	s_msg(s, "the last", s->uffd);
	s_continue(s, "continue", s->uffd, s_at(s, 2 * pages - 1), s->ps, 0);
	s_poked(s, "saw", &poke);
	s_continue(s, "the first", s->uffd, s_at(s, 0), 3 * s->ps, 0);
	for (size_t i = 0; i < 2 * pages; i++)
		bad += !pattern_is(s->map + i * s->ps, s->ps, i);
	s_log(s, "bad", "%zu", bad);
	REQUIRE_OK(madvise(s->map, HPAGE_SIZE, MADV_DONTNEED));
	s_continue(s, "a whole one", s->uffd, s_at(s, 0), HPAGE_SIZE, 0);
	s_touch(s, "saw", s_at(s, 7));
	s_continue(s, "again", s->uffd, s_at(s, 0), HPAGE_SIZE, 0);
	s_quiet(s, "no message", s->uffd);
}
