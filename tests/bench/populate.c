// SPDX-License-Identifier: GPL-2.0-only
/*
 * What it costs to provide pages that nobody waits for, and to touch them after that; for one page of 4 KiB. Where the
 * first access is not a part of what is measured, theirs does more than ours: it has mapped the page as well.
 */
#include "bench.h"
#include "gmem.h"
#include "peer.h"

#define TOTAL (16ul << 20)
#define PAGES (TOTAL / 4096)

/* What is measured: */
enum {
	PIECE = 0xffff,		/* KiB provided by one call */
	CONTINUE = 0x10000,	/* the content is there already, closed; only CONTINUE is measured */
	FILL = 0x20000,		/* the content is in a file */
	SCATTERED = 0x40000,	/* every other page, 16 by one call or by 16 */
	READ = 0x80000,		/* and then each page is read for the first time */
	WRITE = 0x100000,	/* or written */
	PRESENT = 0x200000,	/* only the first access is measured */
};

struct side {
	int fd;			/* the gmem file, or the memfd */
	int handler;		/* the context, or the userfaultfd */
	int source;		/* a file with the content, or -1 */
	size_t piece, size;
	unsigned char *map;
	unsigned char *content;	/* a piece of it */
	int how;
};

#define SCATTER 16

/* A piece more than is measured, for warming up. */
static void side_init(struct side *s, int how)
{
	s->how = how;
	s->piece = how & SCATTERED ? SCATTER * 2 * 4096 : (how & PIECE) * 1024ul;
	s->size = s->piece + TOTAL;
	s->content = xmmap_anon(s->piece);
	memset(s->content, 0x5a, s->piece);
	s->source = -1;
	if (how & FILL) {
		s->source = xmemfd(s->size);
		for (size_t at = 0; at < s->size; at += s->piece)
			REQUIRE_EQ(write(s->source, s->content, s->piece), s->piece);
	}
}

static void side_free(struct side *s)
{
	REQUIRE_OK(munmap(s->map, s->size));
	REQUIRE_OK(munmap(s->content, s->piece));
	close(s->handler);
	close(s->fd);
	if (s->source >= 0)
		close(s->source);
}

static void provide_ours(struct side *s, size_t at)
{
	if (s->how & CONTINUE) {
		REQUIRE_OK(gmem_continue(s->fd, at, s->piece, 0));
	} else if (s->how & FILL) {
		REQUIRE_OK(gmem_fill(s->fd, at, s->piece, s->source, at, 0));
	} else if (s->how & SCATTERED) {
		struct gmemfd_range ops[SCATTER];
		struct gmemfd_resolve resolve = { .size = sizeof(resolve), .nr = SCATTER, .ops = (uintptr_t)ops };

		for (int i = 0; i < SCATTER; i++)
			ops[i] = (struct gmemfd_range){
				.size = sizeof(ops[i]),
				.op = GMEMFD_OP_COPY,
				.offset = at + i * 2 * 4096,
				.len = 4096,
				.src = (uintptr_t)s->content,
			};
		REQUIRE_OK(ioctl(s->fd, GMEMFD_RESOLVE, &resolve));
		REQUIRE_EQ(resolve.done - resolve.failed, SCATTER);
	} else {
		REQUIRE_OK(gmem_copy(s->fd, at, s->piece, s->content, 0));
	}
}

static void provide_theirs(struct side *s, size_t at)
{
	if (s->how & CONTINUE) {
		REQUIRE_OK(uffd_continue(s->handler, s->map + at, s->piece, 0));
	} else if (s->how & FILL) {
		REQUIRE_EQ(pread(s->source, s->content, s->piece, at), s->piece);
		REQUIRE_OK(uffd_copy(s->handler, s->map + at, s->content, s->piece, 0));
	} else if (s->how & SCATTERED) {
		for (int i = 0; i < SCATTER; i++)
			REQUIRE_OK(uffd_copy(s->handler, s->map + at + i * 2 * 4096, s->content, 4096, 0));
	} else {
		REQUIRE_OK(uffd_copy(s->handler, s->map + at, s->content, s->piece, 0));
	}
}

/* Provides a piece, unless it is there, and touches it, if it is to be. */
static void work(struct side *s, size_t at, void (*provide)(struct side *s, size_t at))
{
	if (!(s->how & PRESENT))
		provide(s, at);
	if (s->how & READ)
		bench_read(s->map + at, s->piece / 4096);
	if (s->how & WRITE)
		bench_write(s->map + at, s->piece / 4096);
}

static double run(struct side *s, void (*provide)(struct side *s, size_t at))
{
	uint64_t began, took;

	work(s, 0, provide);
	began = bench_begin();
	for (size_t at = s->piece; at < s->size; at += s->piece)
		work(s, at, provide);
	took = bench_end(began);
	REQUIRE_EQ(s->map[s->size - 4096 * 2 + 1], 0x5a);
	return (double)took / (s->how & SCATTERED ? PAGES / 2 : PAGES);
}

static double ours(int how)
{
	struct side s;
	double result;

	side_init(&s, how);
	s.fd = xgmem(s.size);
	s.handler = xgmem_context();
	s.map = xmmap(NULL, s.size, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	REQUIRE_OK(gmem_watch(s.fd, s.handler, 0, s.size,
			      how & CONTINUE ? GMEMFD_MODE_MINOR : GMEMFD_MODE_MISSING, 0, 0));
	/* Page by page, as the other side is populated. */
	for (size_t at = 0; how & (CONTINUE | PRESENT) && at < s.size; at += 4096)
		REQUIRE_OK(gmem_copy(s.fd, at, 4096, s.content, how & CONTINUE ? GMEMFD_RANGE_CLOSED : 0));
	result = run(&s, provide_ours);
	side_free(&s);
	return result;
}

static double theirs(int how)
{
	struct side s;
	double result;

	side_init(&s, how);
	s.fd = xmemfd(s.size);
	s.handler = xuffd(how & CONTINUE ? UFFD_FEATURE_MINOR_SHMEM : 0);
	s.map = xmmap(NULL, s.size, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	xuffd_register(s.handler, s.map, s.size,
		       how & CONTINUE ? UFFDIO_REGISTER_MODE_MINOR : UFFDIO_REGISTER_MODE_MISSING);
	for (size_t at = 0; how & (CONTINUE | PRESENT) && at < s.size; at += 4096)
		REQUIRE_EQ(pwrite(s.fd, s.content, 4096, at), 4096);
	result = run(&s, provide_theirs);
	side_free(&s);
	return result;
}

static const struct bench benches[] = {
	{ "populate-64k", ours, theirs, 64 },
	{ "populate-2m", ours, theirs, 2048 },
	{ "populate-4k", ours, theirs, 4 },
	{ "fill-64k", ours, theirs, 64 | FILL },
	{ "scattered-16", ours, theirs, SCATTERED },
	{ "populate-64k-then-read", ours, theirs, 64 | READ },
	{ "populate-64k-then-write", ours, theirs, 64 | WRITE },
	{ "populate-2m-then-write", ours, theirs, 2048 | WRITE },
	{ "continue-64k-then-read", ours, theirs, 64 | CONTINUE | READ },
	{ "continue-64k-then-write", ours, theirs, 64 | CONTINUE | WRITE },
	{ "read-present", ours, theirs, 64 | PRESENT | READ },
	{ "write-present", ours, theirs, 64 | PRESENT | WRITE },
};

int main(void)
{
	return bench_main(benches, ARRAY_SIZE(benches));
}
