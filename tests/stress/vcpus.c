// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs that read and write at random in memory that traps, and come back to their own threads for it, while pages are
 * punched and a handler serves all the rest. What each of them read must add up, and what it wrote must be there.
 */
#include "bound.h"

#include <stdatomic.h>

#define PAGE 4096ul
#define VCPUS 3
#define SHARED_PAGES 32			/* a power of 2; read by all, and punched */
#define SHARED BOUND_DATA
#define OWN (BOUND_DATA + SHARED_PAGES * PAGE)	/* a page for each vCPU, written by it */
#define ROUNDS_EACH 200			/* words read between two exits to say so */
#define SECONDS 2

/*
 * rdi: the shared pages, rsi: its own, ebx: a random number, rcx: how often; eax: the sum of what it read. It counts in
 * its own page.
 */
GUEST_CODE(works, ".code64",
	   "	xorl %eax, %eax\n"
	   "1:	imull $1103515245, %ebx, %ebx\n"
	   "	addl $12345, %ebx\n"
	   "	movl %ebx, %edx\n"
	   "	shrl $16, %edx\n"
	   "	andl $31, %edx\n"
	   "	shll $12, %edx\n"
	   "	addl (%rdi,%rdx), %eax\n"
	   "	incl (%rsi)\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

static uint32_t next(uint32_t *state)
{
	*state = *state * 1103515245u + 12345;
	return *state >> 16;
}

struct stress {
	struct bound b;
	bool minor;		/* pages are provided closed, so that they trap once more */
	atomic_bool stop;	/* the vCPUs and the puncher */
	atomic_bool served_all;	/* KVM's threads need the handler for as long as there are vCPUs */
	atomic_ulong punched;
	atomic_ulong exits;
	atomic_ulong served;
	atomic_ulong kvms;	/* events of KVM's own, for a vCPU; it emulates nothing here */
};

struct worker {
	struct stress *s;
	int vcpu;
	unsigned int rounds;
	uint32_t counted;
};

/* Whoever came first has done it; a page that was punched between two looks is asked for once more. */
static void provide(struct stress *s, const struct gmemfd_event *event)
{
	const unsigned char *from = s->b.image + (event->offset - BOUND_OFFSET);
	int ret;

	if (event->flags & GMEMFD_FAULT_MINOR)
		ret = gmem_continue(s->b.fd, event->offset, PAGE, 0);
	else
		ret = gmem_copy(s->b.fd, event->offset, PAGE, from, s->minor ? GMEMFD_RANGE_CLOSED : 0);
	if (ret)
		REQUIRE(errno == EEXIST || errno == EFAULT);
}

static void *serve(void *arg)
{
	struct stress *s = arg;
	struct gmemfd_event event;

	while (!s->served_all)
		if (gmem_event(s->b.context, &event, 0.01)) {
			if ((event.flags & (GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST)) == GMEMFD_FAULT_VCPU)
				s->kvms++;
			provide(s, &event);
			s->served++;
		}
	return NULL;
}

static void *punch(void *arg)
{
	struct stress *s = arg;
	uint32_t state = 77;

	while (!s->stop) {
		uint64_t at = SHARED + next(&state) % SHARED_PAGES * PAGE;
		uint64_t len = (1 + next(&state) % 3) * PAGE;

		REQUIRE_OK(gmem_punch(s->b.fd, BOUND_OFFSET + at, at + len > OWN ? PAGE : len));
		s->punched++;
		if (!(state >> 8 & 7))
			usleep(200);
	}
	return NULL;
}

static const struct guest_exit *run(struct stress *s, int vcpu)
{
	for (;;) {
		const struct guest_exit *e = guest_run(&s->b.g, vcpu);
		struct gmemfd_event event;

		if (e->err != EFAULT && e->err != EINTR)
			return e;
		if (gmem_vcpu_fault(s->b.context, s->b.g.vcpus[vcpu].fd, &event)) {
			REQUIRE_EQ(errno, ENOENT);
			continue;
		}
		REQUIRE_EQ(event.vcpu, vcpu);
		s->exits++;
		provide(s, &event);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct stress *s = w->s;
	uint32_t state = 1000 + w->vcpu;

	while (!s->stop) {
		uint32_t sum = 0, first = state;
		const struct guest_exit *e;
		struct kvm_regs regs;

		bound_regs(&s->b, w->vcpu, BOUND_GPA + SHARED, BOUND_GPA + OWN + w->vcpu * PAGE, ROUNDS_EACH, 0);
		regs = guest_get_regs(&s->b.g, w->vcpu);
		regs.rbx = first;
		guest_set_regs(&s->b.g, w->vcpu, &regs);
		for (int i = 0; i < ROUNDS_EACH; i++)
			sum += bound_word(&s->b, SHARED + next(&state) % SHARED_PAGES * PAGE);
		e = run(s, w->vcpu);
		if (!bound_said(e, sum))
			tap_diag("vCPU %d, round %u, from %u: 0x%x was expected", w->vcpu, w->rounds, first, sum);
		bound_says(e, sum);
		w->counted += ROUNDS_EACH;
		w->rounds++;
	}
	return NULL;
}

static bool everybody_worked(struct stress *s, struct worker *workers)
{
	for (int i = 0; i < VCPUS; i++)
		if (!__atomic_load_n(&workers[i].rounds, __ATOMIC_RELAXED))
			return false;
	return s->exits > VCPUS && s->punched;
}

static const struct stress_row {
	const char *label;
	unsigned int options;
	bool minor;
} stresses[] = {
	{ "missing", 0, false },
	{ "minor", 0, true },
	{ "missing_irqchip", BOUND_IRQCHIP, false },
	{ "minor_irqchip", BOUND_IRQCHIP, true },
};

TEST_EACH_LIMIT(vcpus_and_holes, struct stress_row, stresses, 60)
{
	struct stress s = { .minor = row->minor };
	struct worker workers[VCPUS];
	struct gmemfd_stats stats;
	pthread_t threads[VCPUS + 2];

	bound_make(&s.b, VCPUS, BOUND_CODE_OF(works), row->options | BOUND_EXIT);
	bound_ready(&s.b, NULL, 0);
	if (row->minor) {
		REQUIRE_OK(gmem_unwatch(s.b.fd, BOUND_OFFSET, BOUND_SIZE));
		REQUIRE_OK(gmem_watch_exit(s.b.fd, s.b.context, BOUND_OFFSET, BOUND_SIZE, GMEMFD_MODE_ALL,
					   BOUND_COOKIE, 0));
	}
	REQUIRE_OK(gmem_punch(s.b.fd, BOUND_OFFSET + SHARED, (SHARED_PAGES + VCPUS) * PAGE));
	for (int i = 0; i < VCPUS; i++) {
		workers[i] = (struct worker){ .s = &s, .vcpu = i, .counted = bound_word(&s.b, OWN + i * PAGE) };
		threads[i] = thread_start(work, &workers[i]);
	}
	threads[VCPUS] = thread_start(punch, &s);
	threads[VCPUS + 1] = thread_start(serve, &s);
	sleep_seconds(SECONDS);
	/* On a busy machine it takes longer until everybody has come to do something. */
	CHECK(wait_for(everybody_worked(&s, workers), 20));
	s.stop = true;
	for (int i = 0; i < VCPUS; i++)
		REQUIRE(thread_join_for(threads[i], 20));
	/* KVM's threads come to their end, too. */
	CHECK(wait_for(xgmem_stats(s.b.fd).waiters == 0, 20));
	s.served_all = true;
	for (int i = VCPUS; i < VCPUS + 2; i++)
		thread_join(threads[i]);

	for (int i = 0; i < VCPUS; i++) {
		unsigned char *own = s.b.map + OWN + i * PAGE;
		uint32_t counter;

		memcpy(&counter, own, sizeof(counter));
		CHECK_EQ(counter, workers[i].counted);
		CHECK(!memcmp(own + 4, s.b.image + OWN + i * PAGE + 4, PAGE - 4));
		CHECK(workers[i].rounds > 0);
	}
	CHECK(s.exits > VCPUS);
	CHECK(s.punched > 0);
	tap_diag("%lu exits, %lu served by the handler, %lu punched, %u+%u+%u rounds", s.exits, s.served, s.punched,
		 workers[0].rounds, workers[1].rounds, workers[2].rounds);
	/*
	 * With interrupt controllers KVM brings a page that its thread had fetched into the guest by itself, and waits
	 * where that has been punched once more.
	 */
	if (!(row->options & BOUND_IRQCHIP))
		CHECK_EQ(s.kvms, 0);
	stats = xgmem_stats(s.b.fd);
	CHECK_EQ(stats.faults_zero, 0);
	/* KVM of some kernels looks once more whether a page that it was refused is poisoned. */
	CHECK(stats.faults_sigbus <= stats.vcpu_exits);
	guest_destroy(&s.b.g);
}
