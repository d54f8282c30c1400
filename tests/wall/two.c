// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two threads that fault and two handlers that share one context, on two CPUs: time by the clock, since counting
 * instructions knows one CPU only. Of the compatible context, of a context for the file, and of the kernel's own
 * userfaultfd. Prints name, ours, theirs, in nanoseconds a fault, and the spread of both over the rounds in per cent.
 */
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "gmem.h"
#include "peer.h"

#define CPUS 2
#define PAGES 1024		/* of each faulting thread */
#define ROUNDS 7

enum kind { THEIRS, COMPATIBLE, OURS };

struct side {
	enum kind kind;
	int context;
	int file;
	unsigned char *map;
	unsigned char *content;
	atomic_int faults;
};

struct worker {
	struct side *side;
	int cpu;
};

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	REQUIRE_OK(sched_setaffinity(0, sizeof(set), &set));
}

/* Until all pages were asked for; the context does not wait, so that no handler is left in read(). */
static void *handle(void *arg)
{
	struct worker *w = arg;
	struct side *s = w->side;
	struct gmemfd_event event;
	struct uffd_msg msg;

	pin(w->cpu);
	while (s->faults < CPUS * PAGES) {
		struct pollfd fd = { .fd = s->context, .events = POLLIN };

		if (poll(&fd, 1, 100) != 1)
			continue;
		if (s->kind == OURS) {
			if (read(s->context, &event, sizeof(event)) != sizeof(event))
				continue;
			REQUIRE_OK(gmem_copy(s->file, event.offset, 4096, s->content, 0));
		} else {
			if (read(s->context, &msg, sizeof(msg)) != sizeof(msg))
				continue;
			REQUIRE_OK(uffd_copy(s->context, (void *)(msg.arg.pagefault.address & ~4095ul), s->content,
					     4096, 0));
		}
		s->faults++;
	}
	return NULL;
}

static void *touch(void *arg)
{
	struct worker *w = arg;

	pin(w->cpu);
	for (int i = 0; i < PAGES; i++)
		*(volatile unsigned char *)(w->side->map + (w->cpu * PAGES + i) * 4096ul) = 1;
	return NULL;
}

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static double trip(enum kind kind)
{
	size_t size = CPUS * PAGES * 4096ul;
	struct side s = { .kind = kind };
	pthread_t threads[2 * CPUS];
	struct worker workers[CPUS];
	uint64_t took;

	s.file = kind == THEIRS ? xmemfd(size) : xgmem(size);
	s.map = xmmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, s.file, 0);
	s.content = xmmap_anon(4096);
	memset(s.content, 0x5a, 4096);
	if (kind == OURS) {
		s.context = xgmem_context();
		REQUIRE_OK(gmem_watch(s.file, s.context, 0, size, GMEMFD_MODE_MISSING, 0, 0));
	} else {
		s.context = kind == THEIRS ? xuffd(0) : xuffd_gmem(0);
		xuffd_register(s.context, s.map, size, UFFDIO_REGISTER_MODE_MISSING);
	}
	REQUIRE_OK(fcntl(s.context, F_SETFL, O_NONBLOCK));
	took = clock_ns();
	for (int i = 0; i < CPUS; i++) {
		workers[i] = (struct worker){ &s, i };
		threads[i] = thread_start(handle, &workers[i]);
		threads[CPUS + i] = thread_start(touch, &workers[i]);
	}
	for (int i = 0; i < CPUS; i++)
		thread_join(threads[CPUS + i]);
	took = clock_ns() - took;
	for (int i = 0; i < CPUS; i++)
		thread_join(threads[i]);
	REQUIRE_EQ(s.map[size - 1], 0x5a);
	REQUIRE_OK(munmap(s.map, size));
	REQUIRE_OK(munmap(s.content, 4096));
	close(s.context);
	close(s.file);
	return (double)took / (CPUS * PAGES);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Median, and the spread in per cent of it. */
static double middle(double *rounds, double *spread)
{
	qsort(rounds, ROUNDS, sizeof(*rounds), by_value);
	*spread = 100 * (rounds[ROUNDS - 1] - rounds[0]) / rounds[ROUNDS / 2];
	return rounds[ROUNDS / 2];
}

int main(void)
{
	static const char * const names[] = { [COMPATIBLE] = "two-cpus-uffd", [OURS] = "two-cpus-file" };
	double rounds[3][ROUNDS], value[3], spread[3];

	for (int i = 0; i < ROUNDS; i++) {
		for (int kind = THEIRS; kind <= OURS; kind++)
			rounds[kind][i] = trip(kind);
	}
	for (int kind = THEIRS; kind <= OURS; kind++)
		value[kind] = middle(rounds[kind], &spread[kind]);
	for (int kind = COMPATIBLE; kind <= OURS; kind++)
		printf("%s\t%.0f\t%.0f\t%.1f\t%.1f\n", names[kind], value[kind], value[THEIRS], spread[kind],
		       spread[THEIRS]);
	return 0;
}
