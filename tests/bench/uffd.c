// SPDX-License-Identifier: GPL-2.0-only
/*
 * The context of /dev/gmemfd with the ABI of userfaultfd(2), and a gmem file, beside the kernel's own userfaultfd and a
 * memfd. Both sides run the very same code; only what opens the context and what makes the memory differ.
 */
#include "bench.h"
#include "gmem.h"
#include "peer.h"

#define WARM 64
#define TRIPS 1024			/* faults that are measured, one by one */
#define PIECE (64ul << 10)
#define PIECES 256			/* calls that are measured, of 64 KiB each */
#define MANY 1000			/* threads that wait */

/* What is measured: */
enum {
	READ = 1,		/* the access, or the first access after the call, is a read */
	WRITE = 2,		/* or a write; neither: the call alone */
	MINOR = 4,		/* the content is in the file, the range registered for MINOR; CONTINUE */
	BOTH = 8,		/* COPY in a range that is registered for MISSING and MINOR */
	WAITING = 16,		/* while MANY threads wait for other pages */
	GUEST = 32,		/* a KVM guest makes the access */
};

struct side {
	int context;
	int file;
	size_t size;
	unsigned char *map;
	unsigned char *content;	/* a piece of it */
	int how;
};

static void side_init(struct side *s, bool gmem, int how, size_t size)
{
	uint64_t modes = how & MINOR ? UFFDIO_REGISTER_MODE_MINOR : UFFDIO_REGISTER_MODE_MISSING;

	if (how & BOTH)
		modes |= UFFDIO_REGISTER_MODE_MINOR;
	s->how = how;
	s->size = size;
	s->context = gmem ? xuffd_gmem(UFFD_FEATURE_MINOR_SHMEM) : xuffd(UFFD_FEATURE_MINOR_SHMEM);
	s->file = gmem ? xgmem(size) : xmemfd(size);
	s->map = xmmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, s->file, 0);
	s->content = xmmap_anon(PIECE);
	memset(s->content, 0x5a, PIECE);
	for (size_t at = 0; how & MINOR && at < size; at += 4096)
		REQUIRE_EQ(pwrite(s->file, s->content, 4096, at), 4096);
	xuffd_register(s->context, s->map, size, modes);
}

static void side_free(struct side *s)
{
	REQUIRE_OK(munmap(s->content, PIECE));
	REQUIRE_OK(munmap(s->map, s->size));
	close(s->context);
	close(s->file);
}

static void provide(struct side *s, void *at, size_t len)
{
	if (s->how & MINOR)
		REQUIRE_OK(uffd_continue(s->context, at, len, 0));
	else
		REQUIRE_OK(uffd_copy(s->context, at, s->content, len, 0));
}

static void touch(struct side *s, size_t at, size_t pages)
{
	if (s->how & READ)
		bench_read(s->map + at, pages);
	if (s->how & WRITE)
		bench_write(s->map + at, pages);
}

/* --- Round trips: a thread faults, a handler on the same CPU reads of it and provides the page -------------- */

static void *handle(void *arg)
{
	struct side *s = arg;
	struct uffd_msg msg;

	for (int i = 0; i < WARM + TRIPS; i++) {
		REQUIRE_EQ(read(s->context, &msg, sizeof(msg)), sizeof(msg));
		provide(s, (void *)(msg.arg.pagefault.address & ~4095ul), 4096);
	}
	return NULL;
}

static double trip(bool gmem, int how)
{
	pthread_t thread;
	struct side s;
	uint64_t took;

	side_init(&s, gmem, how, (WARM + TRIPS) * 4096ul);
	thread = thread_start(handle, &s);
	if (how & GUEST) {
		took = bench_guest(s.map, WARM, TRIPS, how & WRITE);
	} else {
		touch(&s, 0, WARM);
		took = bench_begin();
		touch(&s, WARM * 4096ul, TRIPS);
		took = bench_end(took);
	}
	/* As many messages as pages, or the handler would not end. */
	thread_join(thread);
	REQUIRE_EQ(s.map[s.size - 1], 0x5a);
	side_free(&s);
	return (double)took / TRIPS;
}

/* --- 64 KiB at a time, for nobody who waits; for one page ----------------------------------------------------- */

static double piece(bool gmem, int how)
{
	struct side s;
	uint64_t took;

	side_init(&s, gmem, how, (PIECES + 1) * PIECE);
	provide(&s, s.map, PIECE);
	touch(&s, 0, PIECE / 4096);
	took = bench_begin();
	for (size_t at = PIECE; at < s.size; at += PIECE) {
		provide(&s, s.map + at, PIECE);
		touch(&s, at, PIECE / 4096);
	}
	took = bench_end(took);
	REQUIRE_EQ(s.map[s.size - 1], 0x5a);
	side_free(&s);
	return (double)took / (PIECES * PIECE / 4096);
}

/* --- One page for nobody, while no or many threads wait for others, whose messages have been read ------------- */

static void *wait_for_page(void *arg)
{
	return (void *)(uintptr_t)*(volatile unsigned char *)arg;
}

static double waiting(bool gmem, int how)
{
	int n = how & WAITING ? MANY : 0;
	pthread_t threads[MANY];
	struct uffd_msg msg;
	uint64_t took = 0;
	struct side s;

	side_init(&s, gmem, how, (MANY + WARM + TRIPS) * 4096ul);
	for (int i = 0; i < n; i++) {
		threads[i] = thread_start(wait_for_page, s.map + i * 4096ul);
		REQUIRE_EQ(read(s.context, &msg, sizeof(msg)), sizeof(msg));
	}
	for (size_t at = MANY * 4096ul; at < s.size; at += 4096) {
		if (at == (MANY + WARM) * 4096ul)
			took = bench_begin();
		provide(&s, s.map + at, 4096);
	}
	took = bench_end(took);
	for (int i = 0; i < n; i++)
		provide(&s, s.map + i * 4096ul, 4096);
	for (int i = 0; i < n; i++)
		REQUIRE_EQ((uintptr_t)thread_join(threads[i]), 0x5a);
	side_free(&s);
	/* What is left of the threads is freed after an RCU grace period; not in the next round. */
	sleep_seconds(0.05);
	return (double)took / TRIPS;
}

#define SIDES(name)							\
	static double name##_ours(int how) { return name(true, how); }	\
	static double name##_theirs(int how) { return name(false, how); }

SIDES(trip)
SIDES(piece)
SIDES(waiting)

static const struct bench benches[] = {
	{ "uffd-missing-read", trip_ours, trip_theirs, READ },
	{ "uffd-missing-write", trip_ours, trip_theirs, WRITE },
	{ "uffd-both-missing-read", trip_ours, trip_theirs, BOTH | READ },
	{ "uffd-both-missing-write", trip_ours, trip_theirs, BOTH | WRITE },
	{ "uffd-missing-guest-read", trip_ours, trip_theirs, GUEST | READ },
	{ "uffd-missing-guest-write", trip_ours, trip_theirs, GUEST | WRITE },
	{ "uffd-both-missing-guest-read", trip_ours, trip_theirs, GUEST | BOTH | READ },
	{ "uffd-both-missing-guest-write", trip_ours, trip_theirs, GUEST | BOTH | WRITE },
	{ "uffd-minor-guest-read", trip_ours, trip_theirs, GUEST | MINOR | READ },
	{ "uffd-minor-read", trip_ours, trip_theirs, MINOR | READ },
	{ "uffd-minor-write", trip_ours, trip_theirs, MINOR | WRITE },
	{ "uffd-copy-64k", piece_ours, piece_theirs, 0 },
	{ "uffd-copy-64k-then-read", piece_ours, piece_theirs, READ },
	{ "uffd-copy-64k-then-write", piece_ours, piece_theirs, WRITE },
	{ "uffd-both-copy-64k", piece_ours, piece_theirs, BOTH },
	{ "uffd-both-copy-64k-then-read", piece_ours, piece_theirs, BOTH | READ },
	{ "uffd-both-copy-64k-then-write", piece_ours, piece_theirs, BOTH | WRITE },
	{ "uffd-continue-64k", piece_ours, piece_theirs, MINOR },
	{ "uffd-continue-64k-then-read", piece_ours, piece_theirs, MINOR | READ },
	{ "uffd-continue-64k-then-write", piece_ours, piece_theirs, MINOR | WRITE },
	{ "uffd-copy-none-waiting", waiting_ours, waiting_theirs, 0 },
	{ "uffd-copy-1000-waiting", waiting_ours, waiting_theirs, WAITING },
};

int main(void)
{
	return bench_main(benches, ARRAY_SIZE(benches));
}
