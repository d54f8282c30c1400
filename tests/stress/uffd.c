// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mapping scope under load: threads that touch, handlers that resolve in every way, somebody who zaps, signals and
 * wakes for nothing, processes that are killed while they wait; round after round on the same file. No content may be
 * wrong, no increment lost, no thread left behind. The seed is printed; UFFD_SEED takes one.
 */
#include "uffd.h"
#include "gmem.h"

#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/random.h>

#define PAGES 48
#define TOUCHERS 3
#define HANDLERS 2
#define TOUCHES 80	/* by each toucher in each round */
#define SECONDS 4
#define COUNTERS 64	/* bytes at the end of each page, the rest is its pattern */

struct stress {
	struct side side;
	uint64_t seed;
	uint64_t round;
	int stop[2];
	atomic_bool over;
	pthread_t touchers[TOUCHERS];
	atomic_ulong increments[PAGES];
	atomic_ulong bad;
	atomic_ulong faults;
	atomic_ulong refused;
};

struct worker {
	struct stress *stress;
	uint64_t random;
	int nr;
};

/* xorshift: what matters is that a seed gives the same sequence. */
static uint64_t draw(struct worker *w, uint64_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % below;
}

static void seed_worker(struct worker *w, struct stress *stress, int nr)
{
	w->stress = stress;
	w->nr = nr;
	w->random = (stress->seed ^ (stress->round << 8 | nr)) * 0x9e3779b97f4a7c15ull | 1;
	draw(w, 2);
}

static uint64_t seed_of_page(struct stress *stress, size_t page)
{
	return stress->round << 16 | page;
}

static void page_content(struct stress *stress, unsigned char *buf, size_t page)
{
	pattern_fill(buf, stress->side.ps - COUNTERS, seed_of_page(stress, page));
	memset(buf + stress->side.ps - COUNTERS, 0, COUNTERS);
}

static void *touch(void *arg)
{
	struct worker *w = arg;
	struct stress *stress = w->stress;
	struct side *s = &stress->side;

	for (int i = 0; i < TOUCHES; i++) {
		size_t page = draw(w, PAGES);
		unsigned char *at = s->map + page * s->ps;
		atomic_ulong *counter = (atomic_ulong *)(at + s->ps - COUNTERS) + w->nr;

		if (draw(w, 2)) {
			atomic_fetch_add(counter, 1);
			atomic_fetch_add(&stress->increments[page], 1);
		}
		if (!pattern_is(at, s->ps - COUNTERS, seed_of_page(stress, page)))
			stress->bad++;
	}
	return NULL;
}

static void resolve(struct worker *w, const struct uffd_msg *msg, unsigned char *buf)
{
	struct stress *stress = w->stress;
	struct side *s = &stress->side;
	uint64_t addr = msg->arg.pagefault.address;
	struct uffdio_range range = { addr, s->ps };
	size_t page = (addr - (uintptr_t)s->map) / s->ps;
	bool dontwake = draw(w, 4) == 0;
	int ret;

	stress->faults++;
	/* Woken for nothing, it faults again. */
	if (draw(w, 16) == 0)
		REQUIRE_OK(ioctl(s->uffd, UFFDIO_WAKE, &range));
	if (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) {
		struct uffdio_continue args = {
			.range = range,
			.mode = dontwake ? UFFDIO_CONTINUE_MODE_DONTWAKE : 0,
		};

		ret = ioctl(s->uffd, UFFDIO_CONTINUE, &args);
	} else {
		struct uffdio_copy args = {
			.dst = addr,
			.src = (uintptr_t)buf,
			.len = s->ps,
			.mode = dontwake ? UFFDIO_COPY_MODE_DONTWAKE : 0,
		};
		size_t pages = draw(w, 3) + 1;

		/* A few more than was asked for: they may be there already. */
		for (size_t i = 0; i < pages && page + i < PAGES; i++) {
			page_content(stress, buf + i * s->ps, page + i);
			args.len = (i + 1) * s->ps;
		}
		ret = ioctl(s->uffd, UFFDIO_COPY, &args);
	}
	/*
	 * Refused when the other handler was faster, or a page beside it was there: who waits has to look again
	 * either way. All else is an error.
	 */
	if (ret) {
		if (errno != EEXIST && errno != EAGAIN) {
			tap_diag("round %llu, page %zu: %s", (unsigned long long)stress->round, page, s_errno(errno));
			stress->bad++;
		}
		stress->refused++;
	}
	if (ret || dontwake)
		REQUIRE_OK(ioctl(s->uffd, UFFDIO_WAKE, &range));
}

static void *handle(void *arg)
{
	struct worker *w = arg;
	struct stress *stress = w->stress;
	unsigned char *buf = xmmap_anon(4 * stress->side.ps);
	struct uffd_msg msgs[4];

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = stress->side.uffd, .events = POLLIN },
			{ .fd = stress->stop[0], .events = POLLIN },
		};
		ssize_t n;

		REQUIRE_OK(poll(fds, 2, -1));
		if (fds[1].revents)
			break;
		n = read(stress->side.uffd, msgs, (draw(w, 4) + 1) * sizeof(*msgs));
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(*msgs); i++)
			if (msgs[i].event == UFFD_EVENT_PAGEFAULT)
				resolve(w, &msgs[i], buf);
	}
	munmap(buf, 4 * stress->side.ps);
	return NULL;
}

static void nothing(int sig)
{
}

/* A process with a context, a file and a thread of its own, which waits for ever: it is killed. */
static void doomed(struct worker *w)
{
	struct stress *stress = w->stress;
	struct side *s = &stress->side;
	pid_t pid = REQUIRE_OK(fork());

	if (pid == 0) {
		struct poke poke;

		s_rig(s, 4, draw(w, 2) ? MISSING : MISSING | MINOR, 0);
		s_poke_write(&poke, s_at(s, 1));
		touch_read(s->map);
		_exit(1);
	}
	sleep_seconds(draw(w, 4000) / 1000000.0);
	REQUIRE_OK(kill(pid, SIGKILL));
	REQUIRE(child_wait(pid, 10) != -1);
}

static void *disturb(void *arg)
{
	struct worker *w = arg;
	struct stress *stress = w->stress;
	struct side *s = &stress->side;

	while (!stress->over) {
		size_t page = draw(w, PAGES);
		struct uffdio_range range = { s_at(s, page), s->ps };

		switch (draw(w, 8)) {
		case 0:
			doomed(w);
			break;
		case 1:
		case 2:
			pthread_kill(stress->touchers[draw(w, TOUCHERS)], SIGUSR1);
			break;
		case 3:
			REQUIRE_OK(ioctl(s->uffd, UFFDIO_WAKE, &range));
			break;
		case 4:
			REQUIRE_OK(mprotect(s->map + page * s->ps, s->ps, PROT_READ | PROT_WRITE));
			break;
		default:
			/* Content stays, but is mapped no longer. */
			REQUIRE_OK(madvise(s->map + page * s->ps, s->ps, MADV_DONTNEED));
		}
		sleep_seconds(draw(w, 300) / 1000000.0);
	}
	return NULL;
}

static void run_round(struct stress *stress, uint64_t modes)
{
	struct uffdio_register reg = { .mode = modes };
	struct worker main_worker, workers[TOUCHERS + HANDLERS + 1];
	struct side *s = &stress->side;
	pthread_t handlers[HANDLERS], disturber;
	unsigned char *buf = xmmap_anon(s->ps);

	seed_worker(&main_worker, stress, 99);
	for (int i = 0; i < TOUCHERS + HANDLERS + 1; i++)
		seed_worker(&workers[i], stress, i);
	stress->over = false;
	for (size_t i = 0; i < PAGES; i++) {
		stress->increments[i] = 0;
		/* In MINOR all content is there before, else a part of it where it can trap. */
		if (modes == MINOR || (modes & MINOR && draw(&main_worker, 2))) {
			page_content(stress, buf, i);
			REQUIRE_EQ(pwrite(s->file, buf, s->ps, i * s->ps), s->ps);
		}
	}
	s->map = s_map(s, s->file, PAGES, 0);
	s->uffd = s_uffd(s, 0);
	reg.range.start = (uintptr_t)s->map;
	reg.range.len = PAGES * s->ps;
	REQUIRE_OK(ioctl(s->uffd, UFFDIO_REGISTER, &reg));
	REQUIRE_OK(pipe2(stress->stop, O_CLOEXEC));

	for (int i = 0; i < HANDLERS; i++)
		handlers[i] = thread_start(handle, &workers[TOUCHERS + i]);
	for (int i = 0; i < TOUCHERS; i++)
		stress->touchers[i] = thread_start(touch, &workers[i]);
	disturber = thread_start(disturb, &workers[TOUCHERS + HANDLERS]);
	for (int i = 0; i < TOUCHERS; i++)
		REQUIRE(wait_for(pthread_tryjoin_np(stress->touchers[i], NULL) == 0 ||
				 (stress->over = stress->bad > 0), 20));
	stress->over = true;
	thread_join(disturber);
	REQUIRE_EQ(write(stress->stop[1], "", 1), 1);
	for (int i = 0; i < HANDLERS; i++)
		thread_join(handlers[i]);
	CHECK_EQ(s_total(s->uffd), 0);
	close(stress->stop[0]);
	close(stress->stop[1]);

	/* One of three ends, and what they leave has to be the same. */
	switch (draw(&main_worker, 3)) {
	case 0: {
		struct uffdio_range range = { (uintptr_t)s->map, PAGES * s->ps };

		REQUIRE_OK(ioctl(s->uffd, UFFDIO_UNREGISTER, &range));
		break;
	}
	case 1:
		close(s->uffd);
		s->uffd = -1;
		break;
	}
	for (size_t i = 0; i < PAGES; i++) {
		unsigned long sum = 0, counters[COUNTERS / sizeof(unsigned long)];

		REQUIRE_EQ(pread(s->file, counters, COUNTERS, (i + 1) * s->ps - COUNTERS), COUNTERS);
		for (size_t j = 0; j < ARRAY_SIZE(counters); j++)
			sum += counters[j];
		CHECK_EQ(sum, stress->increments[i]);
	}
	REQUIRE_OK(munmap(s->map - s->ps, (PAGES + 2) * s->ps));
	if (s->uffd >= 0)
		close(s->uffd);
	munmap(buf, s->ps);
	REQUIRE_OK(fallocate(s->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGES * s->ps));
}

TEST_LIMIT(bounces, 40)
{
	static const uint64_t modes[] = { MISSING, MINOR, MISSING | MINOR };
	struct sigaction sa = { .sa_handler = nothing, .sa_flags = SA_RESTART };
	struct stress *stress = xmmap_anon(sizeof(*stress));
	double end = now_seconds() + SECONDS;

	stress->side.ours = !getenv("UFFD_AGAINST_ITSELF");
	stress->side.ps = page_size();
	if (getenv("UFFD_SEED"))
		stress->seed = strtoull(getenv("UFFD_SEED"), NULL, 0);
	else
		REQUIRE_EQ(getrandom(&stress->seed, sizeof(stress->seed), 0), sizeof(stress->seed));
	tap_diag("UFFD_SEED=0x%llx", (unsigned long long)stress->seed);
	REQUIRE_OK(sigaction(SIGUSR1, &sa, NULL));
	stress->side.file = s_file(&stress->side, PAGES * stress->side.ps);
	/* All three at least, however slow. */
	for (stress->round = 0; stress->round < ARRAY_SIZE(modes) || now_seconds() < end; stress->round++)
		run_round(stress, modes[stress->round % ARRAY_SIZE(modes)]);
	CHECK_EQ(stress->bad, 0);
	CHECK(stress->faults > 0);
	tap_diag("%llu rounds, %lu faults, %lu refused", (unsigned long long)stress->round,
		 (unsigned long)stress->faults, (unsigned long)stress->refused);
	if (stress->side.ours)
		CHECK_EQ(xgmem_stats(stress->side.file).waiters, 0);
}

/*
 * Two threads meet the same absent page while it is provided without a wake: whichever of them goes on to wait has to
 * have been told of, to a handler that sleeps in read(2) until then.
 */
struct meeting {
	struct side side;
	atomic_ulong page;	/* that they meet at; beyond the last: the end */
	atomic_ulong met;
	atomic_ulong waits;
};

#define MEETINGS 256

static void *meet(void *arg)
{
	struct meeting *m = arg;
	struct side *s = &m->side;

	for (size_t i = 0; i < MEETINGS; i++) {
		while (m->page < i)
			sched_yield();
		touch_read(s->map + i * s->ps);
		m->met++;
	}
	return NULL;
}

static void *provide_silently(void *arg)
{
	struct meeting *m = arg;
	struct side *s = &m->side;

	for (size_t i = 0; i < MEETINGS; i++) {
		struct uffdio_zeropage args = {
			.range = { s_at(s, i), s->ps },
			.mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE,
		};

		while (m->page < i)
			sched_yield();
		REQUIRE_OK(ioctl(s->uffd, UFFDIO_ZEROPAGE, &args));
		m->met++;
	}
	return NULL;
}

/* Wakes whom it is told of, until it is told of the page behind the last. */
static void *wake_only(void *arg)
{
	struct meeting *m = arg;
	struct side *s = &m->side;
	struct uffd_msg msg;

	for (;;) {
		struct uffdio_zeropage zero = { .range = { s_at(s, MEETINGS), s->ps } };

		REQUIRE_EQ(read(s->uffd, &msg, sizeof(msg)), sizeof(msg));
		if (msg.arg.pagefault.address == s_at(s, MEETINGS)) {
			REQUIRE_OK(ioctl(s->uffd, UFFDIO_ZEROPAGE, &zero));
			return NULL;
		}
		m->waits++;
		zero.range.start = msg.arg.pagefault.address;
		REQUIRE_OK(ioctl(s->uffd, UFFDIO_WAKE, &zero.range));
	}
}

TEST_LIMIT(nobody_waits_untold, 40)
{
	struct meeting *m = xmmap_anon(sizeof(*m));
	struct side *s = &m->side;
	double end = now_seconds() + 2;

	s->ours = !getenv("UFFD_AGAINST_ITSELF");
	s->ps = page_size();
	do {
		pthread_t threads[4];

		s_rig(s, MEETINGS + 1, MISSING, 0);
		REQUIRE_OK(fcntl(s->uffd, F_SETFL, O_RDONLY));
		m->page = 0;
		m->met = 0;
		threads[0] = thread_start(wake_only, m);
		threads[1] = thread_start(provide_silently, m);
		threads[2] = thread_start(meet, m);
		threads[3] = thread_start(meet, m);
		for (size_t i = 0; i < MEETINGS; i++) {
			REQUIRE(wait_for(m->met == 3 * (i + 1), 5));
			m->page = i + 1;
		}
		touch_read(s->map + MEETINGS * s->ps);
		for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
			REQUIRE(thread_join_for(threads[i], 5));
		close(s->uffd);
		close(s->file);
		REQUIRE_OK(munmap(s->map - s->ps, (MEETINGS + 3) * s->ps));
		REQUIRE_OK(munmap(s->src, (MEETINGS + 1) * s->ps));
	} while (now_seconds() < end || !m->waits);
	tap_diag("%lu waits", (unsigned long)m->waits);
	CHECK(m->waits > 0);
}

/* COPY and POISON of the same page at the same time: where COPY has succeeded there is content, whoever came first. */
struct duel {
	struct side side;
	atomic_ulong page;
	atomic_ulong done;
	int copied[MEETINGS];
	int poisoned[MEETINGS];
};

static void *duel_copy(void *arg)
{
	struct duel *d = arg;
	struct side *s = &d->side;

	for (size_t i = 0; i < MEETINGS; i++) {
		struct uffdio_copy args = { .dst = s_at(s, i), .src = (uintptr_t)s->src + i * s->ps, .len = s->ps };

		while (d->page < i)
			sched_yield();
		d->copied[i] = ioctl(s->uffd, UFFDIO_COPY, &args) ? errno : 0;
		d->done++;
	}
	return NULL;
}

static void *duel_poison(void *arg)
{
	struct duel *d = arg;
	struct side *s = &d->side;

	for (size_t i = 0; i < MEETINGS; i++) {
		struct uffdio_poison args = { .range = { s_at(s, i), s->ps } };

		while (d->page < i)
			sched_yield();
		d->poisoned[i] = ioctl(s->uffd, UFFDIO_POISON, &args) ? errno : 0;
		d->done++;
	}
	return NULL;
}

TEST(poison_does_not_outlive_a_copy)
{
	static const uint64_t modes[] = { MISSING, MISSING | MINOR };
	struct duel *d = xmmap_anon(sizeof(*d));
	struct side *s = &d->side;
	unsigned long both = 0;

	s->ours = !getenv("UFFD_AGAINST_ITSELF");
	s->ps = page_size();
	for (int round = 0; round < 8; round++) {
		pthread_t threads[2];

		s_rig(s, MEETINGS, modes[round % 2], 0);
		d->page = 0;
		d->done = 0;
		threads[0] = thread_start(duel_copy, d);
		threads[1] = thread_start(duel_poison, d);
		for (size_t i = 0; i < MEETINGS; i++) {
			REQUIRE(wait_for(d->done == 2 * (i + 1), 5));
			d->page = i + 1;
		}
		for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
			REQUIRE(thread_join_for(threads[i], 5));
		for (size_t i = 0; i < MEETINGS; i++) {
			CHECK_EQ(d->copied[i], 0);
			CHECK(d->poisoned[i] == 0 || d->poisoned[i] == EEXIST);
			CHECK_EQ(touch_read(s->map + i * s->ps), 0);
			CHECK_EQ(touch_last.value, s_byte(i));
			both += !d->poisoned[i];
		}
		close(s->uffd);
		close(s->file);
		REQUIRE_OK(munmap(s->map - s->ps, (MEETINGS + 2) * s->ps));
		REQUIRE_OK(munmap(s->src, MEETINGS * s->ps));
	}
	tap_diag("%lu of %d times POISON came first", both, 8 * MEETINGS);
}
