// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whole pages only: readers of every kind hammer pages while these are provided by every route and punched in between,
 * and never see a part of a page.
 *
 * What is provided as content of a page is one 64-bit stamp over and over, which names the page. A page is numbered
 * anew, by two, whenever it is punched, and its number is odd while that goes on: a reader that finds the same even
 * number before and after has read what was provided once, so all words have to be equal.
 */
#include "gmem.h"

#include <stdatomic.h>
#include <sys/uio.h>
#include <time.h>

#define SECONDS		0.9
#define PAGE		4096ul
#define WORDS		(PAGE / 8)
#define BYTES		(2 * HPAGE_SIZE)
#define PAGES		(BYTES / PAGE)
/* Most of it happens here, so that all meet. */
#define HOT		48
#define JUNK		0xdeaddeaddeaddeadull
#define SOURCE		"/tmp/law1"

static const struct law_row {
	const char *label;
	bool huge;
	uint64_t modes;		/* of a watch over all of it; 0: none */
	const char *routes;	/* one thread each */
} laws[] = {
	{ "unwatched", false, 0, "CZFV" },
	{ "missing", false, GMEMFD_MODE_MISSING, "CZFV" },
	/* Alone: where another one was faster they would write over what is present, which is no provision. */
	{ "spliced", false, GMEMFD_MODE_MISSING, "S" },
	{ "written", false, GMEMFD_MODE_MISSING, "T" },
	{ "closed", false, GMEMFD_MODE_ALL, "W" },
	{ "huge", true, GMEMFD_MODE_MISSING, "CZF" },
};

static const struct law_row *law;
static int fd;
static unsigned char *shared, *private;
static atomic_uint number[PAGES];
static atomic_bool stop, broken;
static atomic_ulong seen[128], provided[128], serial;
static uint64_t seed;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static uint64_t thread_seed(char kind)
{
	return (seed + kind) * 0x9e3779b97f4a7c15ull | 1;
}

/* A page, most often a hot one. */
static size_t some_page(uint64_t *state)
{
	uint64_t r = next_random(state);

	return r & 7 ? (r >> 8) % HOT + (r & 8 ? PAGES / 2 : 0) : (r >> 8) % PAGES;
}

/* --- Readers ----------------------------------------------------------------------------------------- */

static bool read_page(char kind, size_t page, uint64_t *words, int *pipes)
{
	volatile uint64_t *at = (volatile uint64_t *)(shared + page * PAGE);
	struct iovec to = { words, PAGE }, from = { (void *)at, PAGE };

	switch (kind) {
	case 'm':
		for (size_t i = 0; i < WORDS; i++)
			words[i] = at[i];
		return true;
	case 'p':
		return pread(fd, words, PAGE, page * PAGE) == PAGE;
	case 'v':
		return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == PAGE;
	case 'w':
		return write(pipes[1], (void *)at, PAGE) == PAGE && read(pipes[0], words, PAGE) == PAGE;
	case 'g':
		return vmsplice(pipes[1], &from, 1, 0) == PAGE && read(pipes[0], words, PAGE) == PAGE;
	case 'c':
		/* A write makes the copy; the word that was written is put back by reading its neighbour. */
		at = (volatile uint64_t *)(private + page * PAGE);
		at[7] = JUNK;
		for (size_t i = 0; i < WORDS; i++)
			words[i] = at[i == 7 ? 8 : i];
		return madvise((void *)at, PAGE, MADV_DONTNEED) == 0;
	}
	return false;
}

static void judge_page(char kind, size_t page, const uint64_t *words, bool same)
{
	for (size_t i = 0; i < WORDS; i++) {
		bool valid = !words[i] || words[i] >> 40 == page + 1;

		if (valid && (!same || words[i] == words[0]))
			continue;
		if (!atomic_exchange(&broken, true))
			tap_diag("seed %llu: reader %c, page %zu: word %zu is %llx, the first is %llx%s",
				 (unsigned long long)seed, kind, page, i, (unsigned long long)words[i],
				 (unsigned long long)words[0], same ? "" : ", and it was punched meanwhile");
		return;
	}
	if (same)
		seen[(int)kind]++;
}

static void *reader(void *arg)
{
	char kind = (uintptr_t)arg;
	uint64_t state = thread_seed(kind), words[WORDS];
	int pipes[2];

	REQUIRE_OK(pipe(pipes));
	while (!stop && !broken) {
		size_t page = some_page(&state);
		unsigned int before = number[page];

		if (!read_page(kind, page, words, pipes)) {
			CHECK(false);
			break;
		}
		judge_page(kind, page, words, !(before & 1) && before == number[page]);
	}
	close(pipes[0]);
	close(pipes[1]);
	return NULL;
}

/* --- Providers --------------------------------------------------------------------------------------- */

static void stamp_pages(uint64_t *words, size_t page, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		uint64_t stamp = (page + i + 1) << 40 | (++serial & 0xffffffffff);

		for (size_t w = 0; w < WORDS; w++)
			words[i * WORDS + w] = stamp;
	}
}

static bool provide(char route, size_t page, size_t nr, uint64_t *words, int file, int *pipes)
{
	uint64_t at = page * PAGE, len = nr * PAGE;
	struct gmemfd_range ops[3] = {};
	loff_t to = at;
	int err;

	stamp_pages(words, page, nr);
	switch (route) {
	case 'C':
		return !gmem_copy(fd, at, len, words, 0) || (errno == EAGAIN && gmem_done > 0);
	case 'Z':
		return !gmem_zero(fd, at, len, 0) || errno == EAGAIN;
	case 'F':
		REQUIRE_EQ(pwrite(file, words, len, 0), len);
		return !gmem_fill(fd, at, len, file, 0, 0) || errno == EAGAIN;
	case 'V':
		for (size_t i = 0; i < 3; i++)
			ops[i] = (struct gmemfd_range){ .op = GMEMFD_OP_COPY, .offset = at + i * (len / 3 & -PAGE),
							.len = len / 3 & -PAGE, .src = (uintptr_t)words +
							i * (len / 3 & -PAGE) };
		return gmem_resolve(fd, ops, 3, GMEMFD_RESOLVE_KEEP_GOING, &err).failed < 3 && !err;
	case 'T':
		return pwrite(fd, words, len, at) > 0;
	case 'S':
		/* What is left in the pipe after an error would be out of step. */
		if (nr > 16)
			return false;
		REQUIRE_EQ(write(pipes[1], words, len), len);
		err = splice(pipes[0], NULL, fd, &to, len, 0) != (ssize_t)len;
		if (err) {
			close(pipes[0]);
			close(pipes[1]);
			REQUIRE_OK(pipe(pipes));
		}
		return !err;
	}
	return false;
}

static void *provider(void *arg)
{
	char route = (uintptr_t)arg;
	uint64_t state = thread_seed(route), *words = aligned_alloc(PAGE, HPAGE_SIZE);
	char path[64];
	int file, pipes[2];

	snprintf(path, sizeof(path), SOURCE ".%c", route);
	file = REQUIRE_FD(open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));
	REQUIRE_OK(unlink(path));
	REQUIRE(words);
	REQUIRE_OK(pipe(pipes));
	while (!stop && !broken) {
		static const size_t sizes[] = { 1, 1, 3, 4, 16, 16, 48, 512 };
		size_t nr = sizes[next_random(&state) & 7], page = some_page(&state);

		if (law->huge)
			nr = 512;
		page = page / (nr & -nr) * (nr & -nr);
		if (page + nr > PAGES)
			continue;
		if (*law->routes == 'S' || *law->routes == 'T') {
			off_t data = lseek(fd, page * PAGE, SEEK_DATA);

			if (data >= 0 && data < (off_t)((page + nr) * PAGE))
				continue;
		}
		/* Stamping costs more than looking; but those that find content halfway are wanted, too. */
		if (gmem_has_content(fd, page * PAGE) && next_random(&state) & 15)
			continue;
		if (provide(route, page, nr, words, file, pipes))
			provided[(int)route]++;
	}
	close(file);
	close(pipes[0]);
	close(pipes[1]);
	free(words);
	return NULL;
}

/*
 * Writes closed pages bit by bit, and opens them when they are right. Alone, so that no other opens what is not ready.
 * A page that it opened is absent again once its number has changed.
 */
static void *closer(void *arg)
{
	char route = (uintptr_t)arg;
	uint64_t state = thread_seed(route), words[WORDS], junk[WORDS];
	static unsigned int opened[PAGES];

	for (size_t i = 0; i < WORDS; i++)
		junk[i] = JUNK;
	memset(opened, 0xff, sizeof(opened));
	while (!stop && !broken) {
		size_t page = some_page(&state), at = page * PAGE, odd = next_random(&state) % PAGE;
		unsigned int now = number[page];
		bool ok;

		if (now & 1 || now == opened[page])
			continue;
		stamp_pages(words, page, 1);
		ok = pwrite(fd, junk, PAGE, at) == PAGE &&
		     pwrite(fd, words, odd, at) == (ssize_t)odd &&
		     pwrite(fd, (char *)words + odd, PAGE - odd, at + odd) == (ssize_t)(PAGE - odd);
		/* Punched in between: then some of it may be junk, but then it is closed. */
		if (!ok || number[page] != now)
			continue;
		if (!gmem_continue(fd, at, PAGE, 0)) {
			opened[page] = now;
			provided[(int)route]++;
		}
	}
	return NULL;
}

/* --- The hole puncher -------------------------------------------------------------------------------- */

/* A folio that a reader has pinned cannot be split at the moment: then nothing changes. */
static atomic_uint busy;

static void punch(size_t page, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		number[page + i]++;
	if (gmem_punch(fd, page * PAGE, nr * PAGE)) {
		REQUIRE_EQ(errno, EBUSY);
		busy++;
	}
	for (size_t i = 0; i < nr; i++)
		number[page + i]++;
}

static void *puncher(void *arg)
{
	uint64_t state = thread_seed('P');

	(void)arg;
	while (!stop && !broken) {
		size_t page = some_page(&state), nr = 1 + next_random(&state) % 32;

		if (law->huge || !(next_random(&state) & 15)) {
			page = page / 512 * 512;
			nr = 512;
		}
		if (page + nr > PAGES)
			nr = PAGES - page;
		punch(page, nr);
		sleep_seconds(law->huge ? 0.005 : 0.0005);
	}
	return NULL;
}

static const char kinds[] = "mpvwgc";

/* Else it was a test of nothing. */
static bool everybody_worked(const struct law_row *row)
{
	for (const char *k = kinds; *k; k++)
		if (!seen[(int)*k])
			return false;
	for (const char *r = row->routes; *r; r++)
		if (!provided[(int)*r])
			return false;
	return true;
}

TEST_EACH(never_a_part, struct law_row, laws)
{
	const char *env = getenv("TEST_SEED");
	pthread_t readers[6], providers[6], holes;
	size_t nr = 0;

	if (page_size() != PAGE)
		SKIP("pages are not of 4096 bytes");
	law = row;
	seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	tap_diag("seed %llu", (unsigned long long)seed);
	fd = row->huge ? xgmem_huge(BYTES) : xgmem(BYTES);
	shared = xmmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	private = xmmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (row->modes)
		REQUIRE_OK(gmem_watch(fd, xgmem_context(), 0, BYTES, row->modes, 0, 0));

	for (size_t i = 0; i < 6; i++)
		readers[i] = thread_start(reader, (void *)(uintptr_t)kinds[i]);
	for (const char *r = row->routes; *r; r++)
		providers[nr++] = thread_start(*r == 'W' ? closer : provider, (void *)(uintptr_t)*r);
	holes = thread_start(puncher, NULL);
	sleep_seconds(SECONDS);
	/* On a busy machine it takes longer until everybody has met something. */
	CHECK(wait_for(broken || everybody_worked(row), 10));
	stop = true;
	thread_join(holes);
	for (size_t i = 0; i < nr; i++)
		thread_join(providers[i]);
	/* Nobody waits, but who reads a hole where nothing is watched makes it a page of zeros. */
	for (size_t i = 0; i < 6 && !row->modes; i++)
		thread_join(readers[i]);
	/* Whoever still waits is let go, and closed pages with junk are not opened for it. */
	punch(0, PAGES);
	CHECK_EQ(xgmem_stats(fd).allocated, 0);
	if (row->modes)
		REQUIRE_OK(gmem_unwatch(fd, 0, BYTES));
	for (size_t i = 0; i < 6 && row->modes; i++)
		thread_join(readers[i]);
	CHECK(!broken);
	tap_diag("read: m %lu p %lu v %lu w %lu g %lu c %lu; provided: %lu %lu %lu %lu %lu %lu %lu; %u busy",
		 seen['m'], seen['p'], seen['v'], seen['w'], seen['g'], seen['c'], provided['C'], provided['Z'],
		 provided['F'], provided['V'], provided[(int)'S'], provided[(int)'T'], provided[(int)'W'], busy);
	CHECK_EQ(xgmem_stats(fd).waiters, 0);
}
