// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory so fragmented that large folios are not to be had: all that works with them works with small ones, and a
 * granule of 2 MiB is provided, opened and taken away as a whole all the same.
 */
#include "fail.h"
#include "gmem.h"

#define G HPAGE_SIZE

static const struct order_row {
	const char *label;
	unsigned int order;		/* from which on there are none */
	bool huge;			/* the file's granule */
} orders[] = {
	{ "no_2m", 9, false },
	{ "no_64k", 4, false },
	{ "nothing_but_pages", 1, false },
	{ "granules_of_pages", 9, true },
};

TEST_EACH(all_the_same, struct order_row, orders)
{
	int fd, context, file = REQUIRE_FD(open("/tmp/fragmented", O_RDWR | O_CREAT | O_TRUNC, 0600));
	unsigned char *src = xmmap_anon(G), *map;
	struct gmem_toucher waiter;

	pattern_fill(src, G, 1);
	REQUIRE_EQ(write(file, src, G), G);
	fail_prepare(FAIL_MEMORY);
	context = xgmem_context();
	fd = row->huge ? xgmem_huge(8 * G) : xgmem(8 * G);
	map = xmmap(NULL, 8 * G, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE_OK(gmem_watch(fd, context, 4 * G, 2 * G, GMEMFD_MODE_ALL, 0, 0));
	waiter = (struct gmem_toucher){ .addr = map + 5 * G - 1 };
	gmem_toucher_start(&waiter);
	REQUIRE(gmem_waiters(fd, 1, 10));

	fail_pages_from(row->order);
	CHECK_DONE(gmem_copy(fd, 0, G, src, 0), G);
	CHECK_DONE(gmem_fill(fd, G, G, file, 0, 0), G);
	CHECK_EQ(pwrite(fd, src, G, 2 * G), G);
	CHECK_DONE(gmem_zero(fd, 3 * G, G, 0), G);
	CHECK_DONE(gmem_copy(fd, 4 * G, G, src, GMEMFD_RANGE_CLOSED), G);
	CHECK_EQ(TOUCH_READ(map + 6 * G), 0);
	CHECK_OK(fallocate(fd, 0, 7 * G, G));
	fail_pages_from(~0u);

	CHECK_EQ(xgmem_stats(fd).huge, 0);
	CHECK_EQ(xgmem_stats(fd).allocated, 6 * G + (row->huge ? G : page_size()));
	for (size_t i = 0; i < 3; i++)
		CHECK(pattern_is(map + i * G, G, 1));
	CHECK(all_bytes_are(map + 3 * G, G, 0));
	CHECK(all_bytes_are(map + 7 * G, G, 0));
	CHECK_REFUSED(gmem_copy(fd, 2 * G, G, src, 0), EEXIST);
	/* The waiter found the page closed. */
	CHECK(wait_for(xgmem_stats(fd).faults_minor == 1, 10));
	CHECK(gmem_waiters(fd, 1, 10));
	CHECK_DONE(gmem_continue(fd, 4 * G, G, 0), G);
	CHECK_EQ(gmem_toucher_join(&waiter), src[G - 1]);
	CHECK(pattern_is(map + 4 * G, G, 1));
	/* What was in small folios comes back in a large one. */
	REQUIRE_OK(gmem_punch(fd, 0, G));
	CHECK(!gmem_has_content(fd, 0));
	CHECK_DONE(gmem_copy(fd, 0, G, src, 0), G);
	CHECK_EQ(xgmem_stats(fd).huge, 1);
	CHECK(pattern_is(map, G, 1));
}
