// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rows of the table in docs/userfaultfd.md that no other case shows: what differs on purpose, and how it does.
 */
#include "uffd.h"

#define NOT_MAPPED "COPY does not map in a range that is registered for MISSING alone"
#define WAKES "no message can be answered any more: who waits looks again"
#define CONTENT "who provides content wakes who waits for it, whatever way it comes"
#define FIRST_WAKES "the pages are there, whether that can be told or not"

static const struct parity_diff diffs[] = {
	{ "copied_but_not_mapped", "continue", "0, field 1 pages", NOT_MAPPED },
	{ "copied_but_not_mapped", "touched in MINOR", "fault MINOR at +32", NOT_MAPPED },
	{ "copied_but_not_mapped", "continue it", "0, field 1 pages", NOT_MAPPED },
	{ "poison_of_what_is_not_mapped", "poison", "EEXIST, field -EEXIST", NOT_MAPPED },
	{ "poison_of_what_is_not_mapped", "saw", "0x41", NOT_MAPPED },
	{ "unregistered_while_waiting_for_content", "wait", "0", WAKES },
	{ "content_by_another_way", "wait", "0", CONTENT },
	{ "result_that_cannot_be_written", "wait", "0", FIRST_WAKES },
	{ "moved_across_an_edge", "mremap", "0", "a registration does not split a mapping" },
	{ "moved_across_an_edge", "old place*", "SIGSEGV code 1 at +2", "a registration does not split a mapping" },
	{ "new_with_high_bits", "bit 32", "EINVAL", "unknown flags are refused, all of them" },
	{ "new_with_high_bits", "bit 63", "EINVAL", "unknown flags are refused, all of them" },
	{ "flags_in_smaps", "registered", "", "they are the kernel's own flags of a mapping" },
};

PARITY_DIFFS(diffs);

PARITY(copied_but_not_mapped)
{
	struct poke poke;

	/* So far apart that one is not mapped along with the other. */
	s_rig(s, 40, MISSING, 0);
	s_fill(s, "copy", 0, 1);
	s_fill(s, "copy", 32, 1);
	s_continue(s, "continue", s->uffd, s_at(s, 0), s->ps, 0);
	s_register(s, "MINOR as well", s->uffd, s_at(s, 0), 40 * s->ps, MISSING | MINOR);
	s_poke(&poke, s_at(s, 32));
	REQUIRE(wait_for(s_pending(s->uffd) || !task_state(poke.tid), S_SECONDS));
	s_quiet(s, "touched in MINOR", s->uffd);
	s_continue(s, "continue it", s->uffd, s_at(s, 32), s->ps, 0);
	s_poked(s, "saw", &poke);
}

static const char poison_of_what_is_not_mapped_trace[] =
	"poison: 0, field 1 pages\n"
	"saw: SIGBUS code 4 lsb 12 at +1\n";

PARITY_SINCE(poison_of_what_is_not_mapped, UFFD_FEATURE_POISON, poison_of_what_is_not_mapped_trace)
{
	s_rig(s, 4, MISSING, 0);
	s_write(s, 1, 1);
	s_poison(s, "poison", s->uffd, s_at(s, 1), s->ps, 0);
	s_touch(s, "saw", s_at(s, 1));
}

/* Ours has woken them all by then; theirs none. */
static void log_wait(struct side *s)
{
	if (s->ours)
		REQUIRE(wait_for(!s_total(s->uffd), S_SECONDS));
	s_log(s, "wait", "%ld", s_total(s->uffd));
}

PARITY(unregistered_while_waiting_for_content)
{
	struct poke poke;

	s_rig(s, 4, MINOR, 0);
	s_write(s, 1, 1);
	s_poke(&poke, s_at(s, 1));
	s_msg(s, "fault", s->uffd);
	s_unregister(s, "unregister", s->uffd, s_at(s, 0), 4 * s->ps);
	log_wait(s);
	s_wake(s, "wake", s->uffd, s_at(s, 0), 4 * s->ps);
	s_poked(s, "saw", &poke);
}

PARITY(content_by_another_way)
{
	unsigned char *alias;
	struct poke pokes[3];

	s_rig(s, 4, MISSING, 0);
	alias = s_map(s, s->file, 4, 0);
	s_register(s, "alias", s->uffd, (uintptr_t)alias + s->ps, s->ps, MISSING);
	for (size_t i = 0; i < 3; i++) {
		s_poke(&pokes[i], s_at(s, i));
		s_msg(s, "fault", s->uffd);
	}
	s_write(s, 0, 1);
	s_copy(s, "copy to the alias", s->uffd, (uintptr_t)alias + s->ps, (uintptr_t)s->src + s->ps, s->ps, 0);
	/* But a mere access wakes nobody. */
	alias[2 * s->ps] = 0x77;
	s_wake(s, "wake", s->uffd, s_at(s, 2), s->ps);
	s_poked(s, "third", &pokes[2]);
	log_wait(s);
	s_wake(s, "wake", s->uffd, s_at(s, 0), 2 * s->ps);
	s_poked(s, "first", &pokes[0]);
	s_poked(s, "second", &pokes[1]);
}

PARITY(result_that_cannot_be_written)
{
	struct uffdio_copy *edge;
	unsigned char *two;
	struct poke poke;

	s_rig(s, 2, MISSING, 0);
	s_poke(&poke, s_at(s, 0));
	s_msg(s, "fault", s->uffd);
	two = xmmap_anon(2 * s->ps);
	REQUIRE_OK(mprotect(two + s->ps, s->ps, PROT_NONE));
	edge = (struct uffdio_copy *)(two + s->ps - offsetof(struct uffdio_copy, copy));
	edge->dst = s_at(s, 0);
	edge->src = (uintptr_t)s->src;
	edge->len = s->ps;
	s_log_ret(s, "copy", ioctl(s->uffd, UFFDIO_COPY, edge));
	log_wait(s);
	s_wake(s, "wake", s->uffd, s_at(s, 0), s->ps);
	s_poked(s, "saw", &poke);
}

PARITY(moved_across_an_edge)
{
	unsigned char *to = xmmap_anon(2 * page_size());

	s_rig(s, 4, 0, 0);
	s_register(s, "register", s->uffd, s_at(s, 0), 2 * s->ps, MISSING);
	s_write(s, 2, 1);
	s_log_ret(s, "mremap", mremap(s->map + s->ps, 2 * s->ps, 2 * s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to ?
		  0 : -1);
	s_touch(s, "old place, not registered", s_at(s, 2));
	s_fill(s, "before", 0, 1);
	s_quiet(s, "no message", s->uffd);
}

PARITY(new_with_high_bits)
{
	static const int bits[] = { 32, 63, 30 };
	char key[16];

	s->pages = 0;
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		snprintf(key, sizeof(key), "bit %d", bits[i]);
		s_log(s, key, "%s", s_new(s, O_CLOEXEC | 1ul << bits[i]) < 0 ? s_errno(errno) : "0");
	}
}

/* VmFlags of the mapping that begins at an address, those about userfaultfd. */
static void log_smaps(struct side *s, const char *key, const void *at)
{
	char *text = read_file("/proc/self/smaps"), start[32], found[64] = "", *line;

	REQUIRE(text);
	snprintf(start, sizeof(start), "\n%lx-", (unsigned long)at);
	line = strstr(text, start);
	REQUIRE(line);
	line = strstr(line, "\nVmFlags:");
	REQUIRE(line);
	line = strtok(line + 9, "\n");
	for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
		if (!strcmp(word, "um") || !strcmp(word, "ui") || !strcmp(word, "uw"))
			strcat(strcat(found, word), " ");
	s_log(s, key, "%s", found);
	free(text);
}

PARITY(flags_in_smaps)
{
	s_rig(s, 4, 0, 0);
	log_smaps(s, "before", s->map);
	s_register(s, "register", s->uffd, s_at(s, 0), 4 * s->ps, MISSING | MINOR);
	log_smaps(s, "registered", s->map);
}
