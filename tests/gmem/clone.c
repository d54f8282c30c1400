// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private mappings of a gmem file, as clones of a template: they share its pages until they write, and what they
 * write is theirs.
 */
#include "gmem.h"

#define PAGES 16
#define RW (PROT_READ | PROT_WRITE)

static int template(void)
{
	size_t ps = page_size();
	int fd = xgmem(PAGES * ps);
	unsigned char *buf = xmmap_anon(PAGES * ps);

	for (size_t i = 0; i < PAGES; i++)
		pattern_fill(buf + i * ps, ps, i);
	REQUIRE_OK(gmem_copy(fd, 0, PAGES * ps, buf, 0));
	munmap(buf, PAGES * ps);
	return fd;
}

TEST(shares_until_it_writes)
{
	size_t ps = page_size();
	int fd = template();
	unsigned char *shared = xmmap(NULL, PAGES * ps, RW, MAP_SHARED, fd, 0);
	unsigned char *a = xmmap(NULL, PAGES * ps, RW, MAP_PRIVATE, fd, 0);
	unsigned char *b = xmmap(NULL, PAGES * ps, RW, MAP_PRIVATE, fd, 0);
	struct gmemfd_stats before = xgmem_stats(fd);

	for (size_t i = 0; i < PAGES; i++) {
		CHECK(pattern_is(shared + i * ps, ps, i));
		CHECK(pattern_is(a + i * ps, ps, i));
		CHECK(pattern_is(b + i * ps, ps, i));
		REQUIRE(pfn_of(shared + i * ps));
		CHECK_EQ(pfn_of(a + i * ps), pfn_of(shared + i * ps));
		CHECK_EQ(pfn_of(b + i * ps), pfn_of(shared + i * ps));
	}
	pattern_fill(a + 3 * ps, ps, 100);
	b[4 * ps] = ~b[4 * ps];
	CHECK(pfn_of(a + 3 * ps) != pfn_of(shared + 3 * ps));
	CHECK(pfn_of(b + 4 * ps) != pfn_of(shared + 4 * ps));
	CHECK_EQ(pfn_of(b + 3 * ps), pfn_of(shared + 3 * ps));
	CHECK(pattern_is(a + 3 * ps, ps, 100));
	CHECK(pattern_is(b + 3 * ps, ps, 3));
	for (size_t i = 0; i < PAGES; i++)
		CHECK(pattern_is(shared + i * ps, ps, i));
	CHECK_EQ(xgmem_stats(fd).allocated, before.allocated);
}

/* A write to a page that was never read: the template's page comes first, the copy after it. */
TEST(first_access_is_a_write)
{
	size_t ps = page_size();
	int fd = template();
	unsigned char *a = xmmap(NULL, PAGES * ps, RW, MAP_PRIVATE, fd, 0), page[16384];

	a[7] = 1;
	CHECK_EQ(pread(fd, page, ps, 0), ps);
	CHECK(pattern_is(page, ps, 0));
	page[7] = 1;
	CHECK(!memcmp(a, page, ps));
	/* Of a hole: the hole becomes a page of zeros, and that too stays the template's. */
	CHECK_OK(gmem_punch(fd, ps, ps));
	a[ps] = 1;
	CHECK(all_bytes_are(a + ps + 1, ps - 1, 0));
	CHECK_EQ(pread(fd, page, ps, ps), ps);
	CHECK(all_bytes_are(page, ps, 0));
}

/* What the template does later is seen where the clone has not written. */
TEST(template_changes)
{
	size_t ps = page_size();
	int fd = template();
	unsigned char *a = xmmap(NULL, PAGES * ps, RW, MAP_PRIVATE, fd, 0), *buf = xmmap_anon(ps);
	unsigned char *own = xmmap_anon(ps);

	a[0] = ~a[0];
	CHECK(pattern_is(a + ps, ps, 1));
	pattern_fill(buf, ps, 50);
	CHECK_EQ(pwrite(fd, buf, ps, 0), ps);
	CHECK_EQ(pwrite(fd, buf, ps, ps), ps);
	memcpy(own, a, ps);
	CHECK(memcmp(a, buf, ps));
	CHECK(pattern_is(a + ps, ps, 50));
	/* A hole in the template takes its pages from the clone, not the clone's own. */
	CHECK_OK(gmem_punch(fd, 0, PAGES * ps));
	CHECK(!memcmp(a, own, ps));
	CHECK(all_bytes_are(a + ps, ps, 0));
	/* Thrown away, the copy gives way to the template. */
	CHECK_OK(madvise(a, ps, MADV_DONTNEED));
	CHECK(all_bytes_are(a, ps, 0));
}

TEST(fork_of_a_clone)
{
	size_t ps = page_size();
	int fd = template();
	unsigned char *a = xmmap(NULL, PAGES * ps, RW, MAP_PRIVATE, fd, 0);
	pid_t pid;

	pattern_fill(a, ps, 60);
	pid = REQUIRE_OK(fork());
	if (!pid) {
		bool ok = pattern_is(a, ps, 60) && pattern_is(a + ps, ps, 1);

		pattern_fill(a, ps, 61);
		pattern_fill(a + ps, ps, 62);
		ok &= pattern_is(a, ps, 61) && pattern_is(a + ps, ps, 62);
		_exit(!ok);
	}
	CHECK_EQ(child_wait(pid, 10), 0);
	CHECK(pattern_is(a, ps, 60));
	CHECK(pattern_is(a + ps, ps, 1));
	close(fd);
	CHECK(pattern_is(a + 2 * ps, ps, 2));
}

/* Of a page of 2 MiB only the 4 KiB that is written is copied. */
TEST(clone_of_huge_pages)
{
	size_t ps = page_size();
	int fd = xgmem_huge(HPAGE_SIZE);
	unsigned char *buf = xmmap_anon(HPAGE_SIZE), *a;

	pattern_fill(buf, HPAGE_SIZE, 9);
	REQUIRE_OK(gmem_copy(fd, 0, HPAGE_SIZE, buf, 0));
	a = xmmap(NULL, HPAGE_SIZE, RW, MAP_PRIVATE, fd, 0);
	CHECK(pattern_is(a, HPAGE_SIZE, 9));
	memset(a + 5 * ps, 0x77, ps);
	CHECK(!memcmp(a, buf, 5 * ps));
	CHECK(!memcmp(a + 6 * ps, buf + 6 * ps, HPAGE_SIZE - 6 * ps));
	CHECK(all_bytes_are(a + 5 * ps, ps, 0x77));
	CHECK_EQ(pread(fd, a, HPAGE_SIZE, 0), (ssize_t)HPAGE_SIZE);
	CHECK(!memcmp(a, buf, HPAGE_SIZE));
	CHECK_EQ(xgmem_stats(fd).allocated, HPAGE_SIZE);
}
