// SPDX-License-Identifier: GPL-2.0-only
/*
 * UNMAP and REMOVE events. Theirs holds the thread that causes one until it has been read, and COPY and its kin
 * meanwhile get EAGAIN; ours holds nobody, and lets nobody read a fault before an event that came earlier.
 */
#include "uffd.h"

#define NOT_HELD "a module cannot hold who changes a mapping: the event is queued"
#define FIRST "what is gone is told before who waits for the rest"
#define ANY_HOLE "content goes in whatever way a hole is made"

static const struct parity_diff diffs[] = {
	{ "unmap_event", "held until it is read", "no", NOT_HELD },
	{ "remove_event", "held until it is read", "no", NOT_HELD },
	{ "remove_event", "DONTNEED event", "none", "a module is not told of MADV_DONTNEED, and no content goes" },
	{ "removed_through_another_mapping", "alias", "remove +1 to +3", ANY_HOLE },
	{ "removed_through_another_mapping", "child", "remove +5 to +6", ANY_HOLE },
	{ "events_not_asked_for", "punched", "remove elsewhere to elsewhere", ANY_HOLE },
	{ "adjacent_events", "messages", "1", "what goes on where the last one ended is one with it" },
	{ "events_while_unread", "copy into it, WP", "EAGAIN, field -EAGAIN", "older kernels leave the field alone" },
	{ "events_while_unread", "copy elsewhere", "0, field 1 pages", NOT_HELD },
	{ "events_while_unread", "zero elsewhere", "0, field 1 pages", NOT_HELD },
	{ "events_while_unread", "continue elsewhere", "0, field 1 pages", NOT_HELD },
	{ "faults_and_events_in_turn", "first", "unmap +2 to +4", FIRST },
	{ "faults_and_events_in_turn", "second", "fault at +0", FIRST },
};

PARITY_DIFFS(diffs);

static long do_unmap(struct poke *poke)
{
	return munmap((void *)poke->at, poke->arg);
}

static long do_zap(struct poke *poke)
{
	return madvise((void *)poke->at, poke->arg, MADV_DONTNEED);
}

static long do_remove(struct poke *poke)
{
	return madvise((void *)poke->at, poke->arg, MADV_REMOVE);
}

/* Whether it is still at it when there is something to read, which theirs is and stays. */
static bool held(struct side *s, struct poke *poke)
{
	if (s->ours)
		return !thread_join_for(poke->thread, S_SECONDS);
	return wait_for(task_state(poke->tid) == 'D', S_SECONDS);
}

/* Starts it and says whether it comes to its end before its event is read; ours has then been joined. */
static void cause(struct side *s, const char *key, struct poke *poke, long (*call)(struct poke *poke), size_t page,
		  size_t n)
{
	bool is_held;

	s_poke_call(poke, call, s_at(s, page), n * s->ps);
	is_held = held(s, poke);
	if (key)
		s_log(s, key, "%s", is_held ? "yes" : "no");
}

static void caused(struct side *s, const char *key, struct poke *poke)
{
	if (s->ours) {
		errno = poke->err;
		s_log_ret(s, key, poke->ret);
	} else {
		s_poked(s, key, poke);
	}
}

PARITY(unmap_event)
{
	struct uffd_msg msg;
	struct poke poke;
	size_t told = 0;

	s_rig(s, 8, MISSING, UFFD_FEATURE_EVENT_UNMAP);
	cause(s, "held until it is read", &poke, do_unmap, 2, 3);
	s_msg(s, "event", s->uffd);
	caused(s, "munmap", &poke);
	s_quiet(s, "no more", s->uffd);
	s_fill(s, "copy into it", 2, 1);
	s_fill(s, "copy beside", 1, 1);
	/* Several mappings: theirs tells of the whole, ours of each. */
	REQUIRE_OK(mprotect(s->map + 6 * s->ps, s->ps, PROT_READ));
	cause(s, NULL, &poke, do_unmap, 5, 3);
	while (told < 3 * s->ps && s_read(s->uffd, &msg) && msg.event == UFFD_EVENT_UNMAP)
		told += msg.arg.remove.end - msg.arg.remove.start;
	s_log(s, "pages told of", "%zu", told / s->ps);
	caused(s, "munmap", &poke);
	s_quiet(s, "no more", s->uffd);
}

static long do_map_over(struct poke *poke)
{
	return mmap((void *)poke->at, poke->arg, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	       MAP_FAILED ? -1 : 0;
}

static unsigned char *elsewhere;

static long do_move_away(struct poke *poke)
{
	return mremap((void *)poke->at, poke->arg, poke->arg, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) ==
	       MAP_FAILED ? -1 : 0;
}

static long do_move_over(struct poke *poke)
{
	return mremap(elsewhere, poke->arg, poke->arg, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)poke->at) ==
	       MAP_FAILED ? -1 : 0;
}

static long do_shrink(struct poke *poke)
{
	return mremap((void *)(poke->at - poke->arg), 2 * poke->arg, poke->arg, 0) == MAP_FAILED ? -1 : 0;
}

/* Whatever takes a part of the mapping away. */
PARITY(unmap_event_of_other_calls)
{
	static const struct {
		const char *key;
		long (*call)(struct poke *poke);
		size_t page;
	} rows[] = {
		{ "mapped over", do_map_over, 1 }, { "moved away", do_move_away, 4 },
		{ "moved over", do_move_over, 7 }, { "shrunk", do_shrink, 11 },
	};
	struct poke poke;

	s_rig(s, 12, MISSING, UFFD_FEATURE_EVENT_UNMAP);
	elsewhere = xmmap_anon(s->ps);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cause(s, NULL, &poke, rows[i].call, rows[i].page, 1);
		s_msg(s, rows[i].key, s->uffd);
		caused(s, rows[i].key, &poke);
		s_quiet(s, "no more", s->uffd);
		if (rows[i].call == do_move_away)
			elsewhere = xmmap_anon(s->ps);
	}
	s_fill(s, "between", 2, 2);
	s_fill(s, "behind", 8, 3);
}

/* Two munmap calls that nobody has read of yet. */
PARITY(adjacent_events)
{
	struct poke first, second;
	struct uffd_msg msg;
	size_t told = 0;
	int msgs = 0;

	s_rig(s, 8, MISSING, UFFD_FEATURE_EVENT_UNMAP);
	cause(s, NULL, &first, do_unmap, 2, 1);
	cause(s, NULL, &second, do_unmap, 3, 2);
	while (told < 3 * s->ps && s_read(s->uffd, &msg) && msg.event == UFFD_EVENT_UNMAP) {
		told += msg.arg.remove.end - msg.arg.remove.start;
		msgs++;
	}
	s_log(s, "pages told of", "%zu", told / s->ps);
	s_log(s, "messages", "%d", msgs);
	caused(s, "munmap", &first);
	caused(s, "munmap", &second);
	s_quiet(s, "no more", s->uffd);
}

PARITY(remove_event)
{
	struct poke poke;

	s_rig(s, 8, MISSING, UFFD_FEATURE_EVENT_REMOVE);
	s_fill(s, "copy", 0, 8);
	cause(s, NULL, &poke, do_zap, 2, 3);
	s_quiet(s, "DONTNEED event", s->uffd);
	caused(s, "MADV_DONTNEED", &poke);
	s_touch(s, "saw", s_at(s, 2));
	cause(s, "held until it is read", &poke, do_remove, 4, 2);
	s_msg(s, "event", s->uffd);
	caused(s, "MADV_REMOVE", &poke);
	s_quiet(s, "no more", s->uffd);
	s_poke(&poke, s_at(s, 5));
	s_msg(s, "removed", s->uffd);
	s_fill(s, "copy", 5, 1);
	s_poked(s, "saw", &poke);
}

static void remove_in_child(struct side *s, void *arg)
{
	REQUIRE_OK(madvise(arg, s->ps, MADV_REMOVE));
}

/* Through a mapping that is not registered, by this process or another. */
PARITY(removed_through_another_mapping)
{
	unsigned char *alias;
	struct poke poke;

	s_rig(s, 8, MISSING, UFFD_FEATURE_EVENT_REMOVE);
	alias = s_map(s, s->file, 8, 0);
	s_fill(s, "copy", 0, 8);
	s_touch(s, "mapped", s_at(s, 5));
	REQUIRE_OK(madvise(alias + s->ps, 2 * s->ps, MADV_REMOVE));
	s_quiet(s, "alias", s->uffd);
	/* In the child the mapping itself is not registered either. */
	s_child_end(s_child(s, remove_in_child, s->map + 5 * s->ps));
	s_quiet(s, "child", s->uffd);
	s_quiet(s, "no more", s->uffd);
	s_poke(&poke, s_at(s, 5));
	s_msg(s, "removed", s->uffd);
	s_fill(s, "copy again", 5, 1);
	s_poked(s, "saw", &poke);
	s_fill(s, "copy again", 1, 2);
}

/* Who asked for one kind is not told of the other, and who asked for none of nothing. */
PARITY(events_not_asked_for)
{
	int remove, unmap;
	unsigned char *other;

	s_rig(s, 8, MISSING, 0);
	remove = s_uffd(s, UFFD_FEATURE_EVENT_REMOVE);
	unmap = s_uffd(s, UFFD_FEATURE_EVENT_UNMAP);
	REQUIRE_OK(madvise(s->map, s->ps, MADV_DONTNEED));
	REQUIRE_OK(madvise(s->map, s->ps, MADV_REMOVE));
	REQUIRE_OK(munmap(s->map, s->ps));
	s_quiet(s, "asked for none", s->uffd);
	other = xmmap(NULL, 2 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED, s->file, 0);
	s_register(s, "register", remove, (uintptr_t)other, s->ps, MISSING);
	REQUIRE_OK(munmap(other, s->ps));
	s_quiet(s, "asked for remove", remove);
	other += s->ps;
	s_register(s, "register", unmap, (uintptr_t)other, s->ps, MISSING);
	REQUIRE_OK(madvise(other, s->ps, MADV_DONTNEED));
	REQUIRE_OK(madvise(other, s->ps, MADV_REMOVE));
	s_quiet(s, "asked for unmap", unmap);
	/* A hole made through the file is no event of any mapping. */
	s_unregister(s, "unregister", unmap, (uintptr_t)other, s->ps);
	s_register(s, "register", remove, (uintptr_t)other, s->ps, MISSING);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * s->ps));
	s_quiet(s, "punched", remove);
	/* Nor is the end of the registration. */
	s_unregister(s, "unregister", remove, (uintptr_t)other, s->ps);
	s_quiet(s, "unregistered", remove);
	REQUIRE_OK(munmap(other, s->ps));
	s_quiet(s, "no longer registered", remove);
	REQUIRE_OK(mprotect(s->map + 4 * s->ps, s->ps, PROT_READ));
	s_quiet(s, "mprotect", s->uffd);
}

PARITY(events_while_unread)
{
	struct poke poke;

	s_rig(s, 8, MISSING | MINOR, UFFD_FEATURE_EVENT_UNMAP);
	s_write(s, 7, 1);
	cause(s, NULL, &poke, do_unmap, 2, 2);
	s_copy(s, "copy into it, WP", s->uffd, s_at(s, 2), (uintptr_t)s->src, s->ps, UFFDIO_COPY_MODE_WP);
	s_fill(s, "copy elsewhere", 0, 1);
	s_zero(s, "zero elsewhere", s->uffd, s_at(s, 1), s->ps, 0);
	s_continue(s, "continue elsewhere", s->uffd, s_at(s, 7), s->ps, 0);
	s_wake(s, "wake", s->uffd, s_at(s, 0), s->ps);
	s_msg(s, "event", s->uffd);
	caused(s, "munmap", &poke);
	s_fill(s, "copy elsewhere, then", 5, 1);
}

PARITY(faults_and_events_in_turn)
{
	struct poke unmap, fault;

	s_rig(s, 8, MISSING, UFFD_FEATURE_EVENT_UNMAP);
	cause(s, NULL, &unmap, do_unmap, 2, 2);
	s_poke(&fault, s_at(s, 0));
	s_await(s->uffd, 1);
	s_msg(s, "first", s->uffd);
	s_msg(s, "second", s->uffd);
	caused(s, "munmap", &unmap);
	s_fill(s, "copy", 0, 1);
	s_poked(s, "saw", &fault);
	s_quiet(s, "no more", s->uffd);
}

PARITY(context_closed_with_events_unread)
{
	struct poke poke;

	s_rig(s, 8, MISSING, UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE);
	cause(s, NULL, &poke, do_unmap, 2, 2);
	close(s->uffd);
	caused(s, "munmap", &poke);
	s_touch(s, "absent", s_at(s, 0));
}

struct replacer {
	struct side *s;
	int rounds;
	int done;
	int bad;
};

/* Maps anew, touches, unmaps: who handles that has to cope with a range that is gone when it gets there. */
static void *replace(void *arg)
{
	struct replacer *replacer = arg;
	struct side *s = replacer->s;

	for (int i = 0; i < replacer->rounds; i++) {
		struct uffdio_register reg = { .mode = MISSING };
		unsigned char *map = xmmap(NULL, 4 * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED, s->file, 0);

		reg.range.start = (uintptr_t)map;
		reg.range.len = 4 * s->ps;
		REQUIRE_OK(ioctl(s->uffd, UFFDIO_REGISTER, &reg));
		for (int j = 0; j < 2; j++)
			if (map[(i + j) % 4 * s->ps] != 0x40)
				replacer->bad++;
		REQUIRE_OK(madvise(map, 2 * s->ps, MADV_REMOVE));
		if (map[0] != 0x40)
			replacer->bad++;
		REQUIRE_OK(munmap(map, 4 * s->ps));
		REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * s->ps));
	}
	__atomic_store_n(&replacer->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* A handler that reads all there is, and tries again what was refused for the time being, always gets on. */
PARITY(handler_that_reads_gets_on)
{
	struct replacer replacer = { .s = s, .rounds = 25 };
	int unmaps = 0, removes = 0, others = 0;
	uint64_t again = 0;
	struct uffd_msg msg;
	pthread_t thread;

	s_rig(s, 4, 0, UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE);
	thread = thread_start(replace, &replacer);
	while (!__atomic_load_n(&replacer.done, __ATOMIC_ACQUIRE)) {
		if (again) {
			struct uffdio_copy copy = { .dst = again, .src = (uintptr_t)s->src, .len = s->ps };

			if (!ioctl(s->uffd, UFFDIO_COPY, &copy) || errno != EAGAIN)
				again = 0;
			if (again == 0 && copy.copy < 0 && copy.copy != -EAGAIN) {
				struct uffdio_range range = { copy.dst, copy.len };

				REQUIRE_OK(ioctl(s->uffd, UFFDIO_WAKE, &range));
			}
		}
		if (read(s->uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		if (msg.event == UFFD_EVENT_PAGEFAULT)
			again = msg.arg.pagefault.address;
		else if (msg.event == UFFD_EVENT_UNMAP)
			unmaps++;
		else if (msg.event == UFFD_EVENT_REMOVE)
			removes++;
		else
			others++;
	}
	thread_join(thread);
	while (read(s->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		unmaps += msg.event == UFFD_EVENT_UNMAP;
		removes += msg.event == UFFD_EVENT_REMOVE;
	}
	s_log(s, "wrong content", "%d", replacer.bad);
	s_log(s, "unmap events", "%d", unmaps);
	s_log(s, "remove events", "%d", removes);
	s_log(s, "other events", "%d", others);
}
