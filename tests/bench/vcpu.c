// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a guest's trapped access costs where its memslot is bound: a handler thread on the same CPU provides the page,
 * or KVM_RUN fails and the vCPU's own thread does. Beside a guest on a memfd that is registered with userfaultfd, and
 * a handler thread: it has no other way.
 */
#include "bench.h"
#include "gmem.h"
#include "peer.h"

#define WARM 64
#define PAGES 256
#define SIZE ((WARM + PAGES) * 4096ul)

/* What is measured: */
enum {
	WRITE = 1,		/* the access is a write */
	MINOR = 2,		/* the page is there already, and only CONTINUE is wanted */
	EXIT = 4,		/* ours: the vCPU's thread provides the page */
	IRQCHIP = 8,		/* with interrupt controllers in the kernel: KVM handles faults asynchronously */
};

struct side {
	int fd;			/* the gmem file, or the userfaultfd */
	int context;
	unsigned char *map;
	unsigned char *content;
	int how;
};

static void provide_ours(struct side *s, uint64_t at)
{
	if (s->how & MINOR)
		REQUIRE_OK(gmem_continue(s->fd, at, 4096, 0));
	else
		REQUIRE_OK(gmem_copy(s->fd, at, 4096, s->content, 0));
}

static void *handle_ours(void *arg)
{
	struct side *s = arg;
	struct gmemfd_event event;

	for (int i = 0; i < WARM + PAGES; i++) {
		REQUIRE_EQ(read(s->context, &event, sizeof(event)), sizeof(event));
		provide_ours(s, event.offset);
	}
	return NULL;
}

static void *handle_theirs(void *arg)
{
	struct side *s = arg;
	struct uffd_msg msg;

	for (int i = 0; i < WARM + PAGES; i++) {
		void *at;

		REQUIRE_EQ(read(s->fd, &msg, sizeof(msg)), sizeof(msg));
		at = (void *)(msg.arg.pagefault.address & ~4095ul);
		if (s->how & MINOR)
			REQUIRE_OK(uffd_continue(s->fd, at, 4096, 0));
		else
			REQUIRE_OK(uffd_copy(s->fd, at, s->content, 4096, 0));
	}
	return NULL;
}

static void bind_slot(void *arg, int vm, uint32_t slot, uint64_t gpa)
{
	struct side *s = arg;

	REQUIRE_OK(gmem_bind(s->fd, vm, slot, gpa, 0, SIZE, 0));
}

static void provide_for_vcpu(void *arg, int vcpu)
{
	struct side *s = arg;
	struct gmemfd_event event;

	REQUIRE_OK(gmem_vcpu_fault(s->context, vcpu, &event));
	provide_ours(s, event.offset);
}

static double ours(int how)
{
	struct side s = { .fd = xgmem(SIZE), .context = xgmem_context(), .how = how };
	uint64_t modes = how & MINOR ? GMEMFD_MODE_MINOR : GMEMFD_MODE_MISSING, took;
	struct bench_vm vm = { .irqchip = how & IRQCHIP, .made = bind_slot, .arg = &s };
	pthread_t thread = 0;

	s.map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	s.content = xmmap_anon(4096);
	memset(s.content, 0x5a, 4096);
	REQUIRE_OK((how & EXIT ? gmem_watch_exit : gmem_watch)(s.fd, s.context, 0, SIZE, modes, 0, 0));
	/* Page by page, as the other side is populated. */
	for (size_t at = 0; how & MINOR && at < SIZE; at += 4096)
		REQUIRE_OK(gmem_copy(s.fd, at, 4096, s.content, GMEMFD_RANGE_CLOSED));
	if (how & EXIT)
		vm.failed = provide_for_vcpu;
	else
		thread = thread_start(handle_ours, &s);
	took = bench_vm(s.map, WARM, PAGES, how & WRITE, &vm);
	if (thread)
		thread_join(thread);
	REQUIRE_EQ(s.map[SIZE - 1], 0x5a);
	REQUIRE_EQ(xgmem_stats(s.fd).vcpu_exits, how & EXIT ? WARM + PAGES : 0);
	REQUIRE_OK(munmap(s.content, 4096));
	REQUIRE_OK(munmap(s.map, SIZE));
	close(s.context);
	close(s.fd);
	return (double)took / PAGES;
}

static double theirs(int how)
{
	struct side s = { .fd = xuffd(how & MINOR ? UFFD_FEATURE_MINOR_SHMEM : 0), .how = how };
	struct bench_vm vm = { .irqchip = how & IRQCHIP };
	int memfd = xmemfd(SIZE);
	pthread_t thread;
	uint64_t took;

	s.map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	s.content = xmmap_anon(4096);
	memset(s.content, 0x5a, 4096);
	for (size_t at = 0; how & MINOR && at < SIZE; at += 4096)
		REQUIRE_EQ(pwrite(memfd, s.content, 4096, at), 4096);
	xuffd_register(s.fd, s.map, SIZE, how & MINOR ? UFFDIO_REGISTER_MODE_MINOR : UFFDIO_REGISTER_MODE_MISSING);
	thread = thread_start(handle_theirs, &s);
	took = bench_vm(s.map, WARM, PAGES, how & WRITE, &vm);
	thread_join(thread);
	REQUIRE_EQ(s.map[SIZE - 1], 0x5a);
	REQUIRE_OK(munmap(s.content, 4096));
	REQUIRE_OK(munmap(s.map, SIZE));
	close(s.fd);
	close(memfd);
	return (double)took / PAGES;
}

static const struct bench benches[] = {
	{ "bound-missing-read", ours, theirs, 0 },
	{ "bound-missing-write", ours, theirs, WRITE },
	{ "bound-minor-read", ours, theirs, MINOR },
	{ "bound-minor-write", ours, theirs, MINOR | WRITE },
	{ "exit-missing-read", ours, theirs, EXIT },
	{ "exit-missing-write", ours, theirs, EXIT | WRITE },
	{ "exit-minor-read", ours, theirs, EXIT | MINOR },
	{ "exit-minor-write", ours, theirs, EXIT | MINOR | WRITE },
	{ "bound-missing-irqchip-read", ours, theirs, IRQCHIP },
	{ "bound-missing-irqchip-write", ours, theirs, IRQCHIP | WRITE },
	{ "exit-missing-irqchip-read", ours, theirs, EXIT | IRQCHIP },
	{ "exit-missing-irqchip-write", ours, theirs, EXIT | IRQCHIP | WRITE },
};

int main(void)
{
	return bench_main(benches, ARRAY_SIZE(benches));
}
