// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a trapped access costs from the fault to the next instruction: a thread, or a KVM guest, faults, a handler
 * thread on the same CPU reads the event and provides the page, and the first goes on. A gmem file that is watched
 * beside a memfd that is registered with userfaultfd; the handlers do no more than they must.
 */
#include "bench.h"
#include "gmem.h"
#include "peer.h"

#define WARM 64
#define PAGES 1024
#define SIZE ((WARM + PAGES) * 4096ul)

/* What is measured: */
enum {
	WRITE = 1,		/* the access is a write */
	MINOR = 2,		/* the page is there already, and only CONTINUE is wanted */
	GUEST = 4,		/* a KVM guest makes the access */
	AROUND = 8,		/* the handler provides 64 KiB at a time */
};

struct side {
	int fd;			/* the gmem file, or the userfaultfd */
	int context;
	unsigned char *map;
	unsigned char *content;
	int how;
	int events;		/* how many there will be */
	size_t len;		/* what is provided for each */
};

static void *handle_ours(void *arg)
{
	struct side *s = arg;
	struct gmemfd_event event;

	for (int i = 0; i < s->events; i++) {
		uint64_t at;

		REQUIRE_EQ(read(s->context, &event, sizeof(event)), sizeof(event));
		at = event.offset & ~(s->len - 1);
		if (s->how & MINOR)
			REQUIRE_OK(gmem_continue(s->fd, at, s->len, 0));
		else
			REQUIRE_OK(gmem_copy(s->fd, at, s->len, s->content, 0));
	}
	return NULL;
}

static void *handle_theirs(void *arg)
{
	struct side *s = arg;
	struct uffd_msg msg;

	for (int i = 0; i < s->events; i++) {
		void *at;

		REQUIRE_EQ(read(s->fd, &msg, sizeof(msg)), sizeof(msg));
		at = s->map + ((msg.arg.pagefault.address - (uintptr_t)s->map) & ~(s->len - 1));
		if (s->how & MINOR)
			REQUIRE_OK(uffd_continue(s->fd, at, s->len, 0));
		else
			REQUIRE_OK(uffd_copy(s->fd, at, s->content, s->len, 0));
	}
	return NULL;
}

/* --- Who faults -------------------------------------------------------------------------------------- */

static uint64_t fault_as_thread(struct side *s)
{
	uint64_t began;

	if (s->how & WRITE) {
		bench_write(s->map, WARM);
		began = bench_begin();
		bench_write(s->map + WARM * 4096, PAGES);
	} else {
		bench_read(s->map, WARM);
		began = bench_begin();
		bench_read(s->map + WARM * 4096, PAGES);
	}
	return bench_end(began);
}

/* What the access to one page took, the handler's work and all switches included. */
static double run(struct side *s, void *(*handler)(void *))
{
	pthread_t thread;
	uint64_t took;

	s->len = s->how & AROUND ? 64 << 10 : 4096;
	s->events = SIZE / s->len;
	thread = thread_start(handler, s);
	took = s->how & GUEST ? bench_guest(s->map, WARM, PAGES, s->how & WRITE) : fault_as_thread(s);
	thread_join(thread);
	REQUIRE_EQ(s->map[SIZE - 1], 0x5a);
	return (double)took / PAGES;
}

/* --- The two sides ----------------------------------------------------------------------------------- */

static double ours(int how)
{
	struct side s = { .fd = xgmem(SIZE), .context = xgmem_context(), .how = how };
	double result;

	s.map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	s.content = xmmap_anon(64 << 10);
	memset(s.content, 0x5a, 64 << 10);
	REQUIRE_OK(gmem_watch(s.fd, s.context, 0, SIZE, how & MINOR ? GMEMFD_MODE_MINOR : GMEMFD_MODE_MISSING, 0, 0));
	/* Page by page, as the other side is populated. */
	for (size_t at = 0; how & MINOR && at < SIZE; at += 4096)
		REQUIRE_OK(gmem_copy(s.fd, at, 4096, s.content, GMEMFD_RANGE_CLOSED));
	result = run(&s, handle_ours);
	REQUIRE_EQ(xgmem_stats(s.fd).events, s.events);
	REQUIRE_OK(munmap(s.content, 64 << 10));
	REQUIRE_OK(munmap(s.map, SIZE));
	close(s.context);
	close(s.fd);
	return result;
}

static double theirs(int how)
{
	struct side s = { .fd = xuffd(how & MINOR ? UFFD_FEATURE_MINOR_SHMEM : 0), .how = how };
	int memfd = xmemfd(SIZE);
	double result;

	s.map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	s.content = xmmap_anon(64 << 10);
	memset(s.content, 0x5a, 64 << 10);
	if (how & MINOR) {
		unsigned char *alias = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

		memset(alias, 0x5a, SIZE);
		REQUIRE_OK(munmap(alias, SIZE));
	}
	xuffd_register(s.fd, s.map, SIZE, how & MINOR ? UFFDIO_REGISTER_MODE_MINOR : UFFDIO_REGISTER_MODE_MISSING);
	result = run(&s, handle_theirs);
	REQUIRE_OK(munmap(s.content, 64 << 10));
	REQUIRE_OK(munmap(s.map, SIZE));
	close(s.fd);
	close(memfd);
	return result;
}

static const struct bench benches[] = {
	{ "missing-read", ours, theirs, 0 },
	{ "missing-write", ours, theirs, WRITE },
	{ "minor-read", ours, theirs, MINOR },
	{ "minor-write", ours, theirs, MINOR | WRITE },
	{ "missing-guest-read", ours, theirs, GUEST },
	{ "missing-guest-write", ours, theirs, GUEST | WRITE },
	{ "missing-64k-read", ours, theirs, AROUND },
	{ "missing-64k-write", ours, theirs, AROUND | WRITE },
};

int main(void)
{
	return bench_main(benches, ARRAY_SIZE(benches));
}
