// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is registered changes under those who provide it: mappings go, come, move and are split, registrations end and
 * begin, processes fork, execute and exit, while handlers try all they can. No thread may be left behind, no page may
 * hold what nobody provided for it, and what is refused has to be refused for a reason. The seed is printed; UFFD_SEED
 * takes one.
 */
#include "uffd.h"
#include "gmem.h"
#include "trap.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <sys/socket.h>

#define PAGES 64
#define HANDLERS 2
#define TOUCHERS 2
#define SECONDS 2

struct churn {
	struct side side;
	uint64_t seed;
	atomic_bool over;
	atomic_bool gone;	/* the process that is handled has ended, and nothing is refused but for that */
	atomic_ulong done;
	atomic_ulong refused;
	atomic_ulong touched;
};

struct worker {
	struct churn *churn;
	uint64_t random;
	const unsigned char *src;	/* page i is filled with s_byte(i) */
};

/* xorshift: what matters is that a seed gives the same sequence. */
static uint64_t draw(struct worker *w, uint64_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % below;
}

static struct churn *start_churn(void)
{
	struct churn *churn = xmmap(NULL, sizeof(*churn), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	churn->side.ours = !getenv("UFFD_AGAINST_ITSELF");
	churn->side.ps = page_size();
	if (getenv("UFFD_SEED"))
		churn->seed = strtoull(getenv("UFFD_SEED"), NULL, 0);
	else
		REQUIRE_EQ(getrandom(&churn->seed, sizeof(churn->seed), 0), sizeof(churn->seed));
	tap_diag("UFFD_SEED=0x%llx", (unsigned long long)churn->seed);
	return churn;
}

static struct worker start_worker(struct churn *churn, int nr)
{
	struct worker w = { .churn = churn, .random = (churn->seed ^ nr) * 0x9e3779b97f4a7c15ull | 1 };

	draw(&w, 2);
	return w;
}

/* One operation on a few pages, with whatever result it may have. */
static void provide(struct worker *w)
{
	struct churn *churn = w->churn;
	struct side *s = &churn->side;
	size_t page = draw(w, PAGES), pages = draw(w, 8) + 1;
	struct uffdio_range range;
	int ret = 0;

	if (page + pages > PAGES)
		pages = PAGES - page;
	range.start = s_at(s, page);
	range.len = pages * s->ps;
	switch (draw(w, 8)) {
	case 0: {
		struct uffdio_zeropage args = { .range = range, .mode = draw(w, 2) };

		ret = ioctl(s->uffd, UFFDIO_ZEROPAGE, &args);
		break;
	}
	case 1:
	case 2:
	case 3: {
		struct uffdio_continue args = { .range = range, .mode = draw(w, 4) == 0 };

		ret = ioctl(s->uffd, UFFDIO_CONTINUE, &args);
		break;
	}
	case 4:
		ret = ioctl(s->uffd, UFFDIO_WAKE, &range);
		break;
	default: {
		struct uffdio_copy args = {
			.dst = range.start,
			.src = (uintptr_t)w->src + page * s->ps,
			.len = range.len,
			.mode = draw(w, 4) == 0,
		};

		ret = ioctl(s->uffd, UFFDIO_COPY, &args);
	}
	}
	if (!ret) {
		churn->done++;
	} else if (errno == ESRCH) {
		churn->gone = true;
	} else {
		CHECK(errno == ENOENT || errno == EEXIST || errno == EAGAIN || errno == EFAULT ||
		      errno == EBUSY);
		churn->refused++;
	}
}

static void *handle(void *arg)
{
	struct worker *w = arg;
	struct side *s = &w->churn->side;
	struct uffd_msg msgs[8];

	while (!w->churn->over && !w->churn->gone) {
		provide(w);
		/* Read, so that they count as told of. */
		if (draw(w, 4) == 0)
			(void)!read(s->uffd, msgs, sizeof(msgs));
	}
	return NULL;
}

static void *touch(void *arg)
{
	struct worker *w = arg;
	struct side *s = &w->churn->side;

	while (!w->churn->over) {
		touch_read(s->map + draw(w, PAGES) * s->ps);
		w->churn->touched++;
	}
	return NULL;
}

static int try_register(struct side *s, size_t page, size_t pages, uint64_t modes)
{
	struct uffdio_register reg = { .range = { s_at(s, page), pages * s->ps }, .mode = modes };

	return ioctl(s->uffd, UFFDIO_REGISTER, &reg);
}

static void change(struct worker *w, unsigned char *elsewhere)
{
	static const uint64_t modes[] = { MISSING, MINOR, MISSING | MINOR };
	struct side *s = &w->churn->side;
	size_t page = draw(w, PAGES - 8), pages = draw(w, 8) + 1, bytes = pages * s->ps;
	unsigned char *at = s->map + page * s->ps;
	struct uffdio_range range = { s_at(s, page), bytes };
	pid_t pid;

	switch (draw(w, 9)) {
	case 0:
		REQUIRE_OK(munmap(at, bytes));
		sched_yield();
		xmmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, page * s->ps);
		break;
	case 1:
		xmmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->file, page * s->ps);
		break;
	case 2:
		/* One page is one mapping, whoever made it. */
		REQUIRE(mremap(at, s->ps, s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) == elsewhere);
		REQUIRE(mremap(elsewhere, s->ps, s->ps, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at);
		break;
	case 3:
		REQUIRE_OK(mprotect(at, bytes, PROT_READ));
		sched_yield();
		REQUIRE_OK(mprotect(at, bytes, PROT_READ | PROT_WRITE));
		break;
	case 4:
		REQUIRE_OK(ioctl(s->uffd, UFFDIO_UNREGISTER, &range));
		break;
	case 5:
		REQUIRE_OK(madvise(at, bytes, MADV_DONTNEED));
		break;
	case 6:
		REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page * s->ps, bytes));
		break;
	case 7:
		pid = REQUIRE_OK(fork());
		if (pid == 0)
			_exit(0);
		REQUIRE_EQ(child_wait(pid, 10), 0);
		break;
	}
	/* All of it, or a part, in one way or another; what has more keeps it. */
	if (draw(w, 2))
		REQUIRE_OK(try_register(s, 0, PAGES, MISSING | MINOR));
	else
		REQUIRE_OK(try_register(s, page, pages, modes[draw(w, ARRAY_SIZE(modes))]));
}

TEST_LIMIT(mappings_change_under_handlers, 40)
{
	struct churn *churn = start_churn();
	struct side *s = &churn->side;
	struct worker workers[HANDLERS + TOUCHERS], changer = start_worker(churn, 99);
	pthread_t threads[HANDLERS + TOUCHERS];
	unsigned char *elsewhere, byte;
	unsigned long changes = 0;
	double end;

	s_rig(s, PAGES, MISSING | MINOR, 0);
	elsewhere = xmmap_anon(s->ps);
	for (int i = 0; i < HANDLERS + TOUCHERS; i++) {
		workers[i] = start_worker(churn, i);
		workers[i].src = s->src;
		threads[i] = thread_start(i < HANDLERS ? handle : touch, &workers[i]);
	}
	for (end = now_seconds() + SECONDS; now_seconds() < end || !churn->done; changes++)
		change(&changer, elsewhere);
	churn->over = true;
	for (int i = 0; i < HANDLERS; i++)
		REQUIRE(thread_join_for(threads[i], 10));
	/* Whoever still waits is let go. */
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_UNREGISTER, &(struct uffdio_range){ s_at(s, 0), PAGES * s->ps }));
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_WAKE, &(struct uffdio_range){ s_at(s, 0), PAGES * s->ps }));
	for (int i = HANDLERS; i < HANDLERS + TOUCHERS; i++)
		REQUIRE(thread_join_for(threads[i], 10));
	CHECK_EQ(s_total(s->uffd), 0);
	for (size_t i = 0; i < PAGES; i++) {
		REQUIRE_EQ(pread(s->file, &byte, 1, i * s->ps), 1);
		CHECK(byte == 0 || byte == s_byte(i));
	}
	CHECK(churn->done > 0);
	tap_diag("%lu changes, %lu done, %lu refused, %lu touched", changes, (unsigned long)churn->done,
		 (unsigned long)churn->refused, (unsigned long)churn->touched);
	if (s->ours)
		CHECK_EQ(xgmem_stats(s->file).waiters, 0);
}

/* Registers something, touches it, and ends in one of three ways while it waits. */
static void be_handled(struct churn *churn, int sock, int way)
{
	struct side *s = &churn->side;
	struct worker worker = start_worker(churn, 7);

	s_rig(s, PAGES, MISSING | MINOR, way == 2 ? UFFD_FEATURE_EVENT_UNMAP : 0);
	REQUIRE_OK(trap_send_fd(sock, s->uffd));
	thread_start(touch, &worker);
	sleep_seconds(draw(&worker, 3000) / 1000000.0);
	switch (way) {
	case 0:
		_exit(0);
	case 1:
		REQUIRE_FD(dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO));
		execl("/proc/self/exe", "list", "-l", NULL);
		_exit(9);
	default:
		/* With an event that may be unread, and which must hold nobody who ends. */
		thread_start(touch, &worker);
		if (s->ours)
			munmap(s->map, s->ps);
		_exit(0);
	}
}

TEST_LIMIT(owner_goes_under_a_remote_handler, 40)
{
	struct churn *churn = start_churn();
	struct side *s = &churn->side;
	unsigned char *src = xmmap_anon(PAGES * s->ps);
	double end = now_seconds() + SECONDS;
	int round = 0;

	for (size_t i = 0; i < PAGES; i++)
		memset(src + i * s->ps, s_byte(i), s->ps);
	for (; round < 6 || now_seconds() < end; round++) {
		struct worker workers[HANDLERS];
		pthread_t threads[HANDLERS];
		int socks[2];
		pid_t pid;

		churn->seed++;
		churn->gone = false;
		REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
		pid = REQUIRE_OK(fork());
		if (pid == 0) {
			close(socks[0]);
			be_handled(churn, socks[1], round % 3);
		}
		close(socks[1]);
		/* What the child has set up is in the shared struct. */
		s->uffd = REQUIRE_FD(trap_receive_fd(socks[0]));
		for (int i = 0; i < HANDLERS; i++) {
			workers[i] = start_worker(churn, i);
			workers[i].src = src;
			threads[i] = thread_start(handle, &workers[i]);
		}
		REQUIRE_EQ(child_wait(pid, 10), 0);
		/* They find out by themselves. */
		for (int i = 0; i < HANDLERS; i++)
			REQUIRE(thread_join_for(threads[i], 10));
		CHECK(churn->gone);
		CHECK_EQ(s_total(s->uffd), 0);
		close(s->uffd);
		close(socks[0]);
	}
	tap_diag("%d rounds, %lu done, %lu refused", round, (unsigned long)churn->done,
		 (unsigned long)churn->refused);
}
