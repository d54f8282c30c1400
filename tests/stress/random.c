// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything at random and at once: threads of several processes do whatever can be done to a few files, processes are
 * killed, and a guardian lets go whoever waits. Nothing hangs, pages that nobody may change keep their content, no
 * call fails with an errno that makes no sense, and in the end the counters are those of a file at rest.
 *
 * TEST_SEED repeats a choice of operations; in which order the threads come is not repeatable.
 */
#include "gmem.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>

#define PROCESSES 3
#define THREADS 3
#define FILES 3
#define STABLE 16			/* the first pages of a file that is not huge */
#define END_SECONDS 20

struct file {
	int fd;
	size_t bytes;
	size_t granule;
	size_t stable;			/* bytes that stay as they are */
};

static struct file files[FILES];
static uint64_t seed;

static struct shared {
	atomic_bool stop;
	atomic_bool guardian_stop;
	atomic_ulong ops;
	atomic_ulong odd_errno;		/* operation << 32 | errno of the first that made no sense */
	atomic_ulong stable_read;
	atomic_ulong stable_wrong;
} *shared;

struct actor {
	uint64_t state;
	int context;
	struct file *file;
	unsigned char *map;		/* of file; NULL: none */
	unsigned char *buf;
	int source;
	int pipes[2];
};

static uint64_t draw(struct actor *a, uint64_t below)
{
	a->state ^= a->state << 13;
	a->state ^= a->state >> 7;
	a->state ^= a->state << 17;
	return (a->state >> 8) % below;
}

/* A range of granules that may be changed. */
static void draw_range(struct actor *a, uint64_t *at, uint64_t *len)
{
	static const unsigned int most[] = { 1, 1, 2, 4, 16, 16, 64, 128 };
	uint64_t granule = a->file->granule, first = a->file->stable / granule, nr = a->file->bytes / granule;

	*len = 1 + draw(a, most[draw(a, ARRAY_SIZE(most))]);
	*at = first + draw(a, nr - first);
	if (draw(a, 2))
		*at = *at / *len * *len;
	if (*at < first)
		*at = first;
	if (*at + *len > nr)
		*len = nr - *at;
	*at *= granule;
	*len *= granule;
}

static void unmap(struct actor *a)
{
	if (a->map)
		munmap(a->map, a->file->bytes);
	a->map = NULL;
}

static void check_stable(struct actor *a, const unsigned char *p, size_t page)
{
	unsigned char want[4096];

	pattern_fill(want, sizeof(want), page);
	if (memcmp(p, want, sizeof(want)))
		shared->stable_wrong++;
	shared->stable_read++;
}

/* Touches in a process of its own, which may be killed at it. Only system calls there: we are one of many threads. */
static void touch_in_child(struct actor *a, volatile unsigned char *p)
{
	pid_t parent = getpid(), pid = fork();
	bool shoot = draw(a, 2);

	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent && p)
			*p;
		_exit(0);
	}
	if (pid < 0)
		return;
	if (shoot)
		kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

#define OPS 36

/* One operation: -1 with errno or not. */
static long act(struct actor *a, unsigned int op, uint64_t at, uint64_t len)
{
	static const uint64_t flags[] = { 0, 0, GMEMFD_RANGE_DONTWAKE, GMEMFD_RANGE_CLOSED };
	struct gmemfd_event events[4];
	struct gmemfd_stats stats;
	struct gmemfd_range ops[3];
	struct iovec local, remote;
	uint64_t flag = flags[draw(a, 4)], page = draw(a, a->file->stable / 4096 + 1);
	int fd = a->file->fd, err;
	loff_t to = at;

	switch (op) {
	case 0:
		return gmem_copy(fd, at, len, a->buf + draw(a, 64), flag);
	case 1:
		return gmem_zero(fd, at, len, flag);
	case 2:
		return gmem_continue(fd, at, len, flag & GMEMFD_RANGE_DONTWAKE);
	case 3:
		return draw(a, 4) ? 0 : gmem_poison(fd, at, len, flag & GMEMFD_RANGE_DONTWAKE);
	case 4:
		return gmem_punch(fd, at, len);
	case 5:
		return gmem_punch(fd, at + 100, len > 4096 ? len - 4096 : 50);
	case 6:
		return gmem_fill(fd, at, len, a->source, draw(a, 4096), flag);
	case 7:
		return gmem_wake(fd, at, len);
	case 8:
	case 9:
		return gmem_watch(fd, a->context, at, len, 1 + draw(a, 3), a->state, draw(a, 4));
	case 10:
		return gmem_unwatch(fd, at, len);
	case 11:
		return gmem_attach(fd, a->context, draw(a, 2) ? 0 : at, draw(a, 2) ? a->file->bytes : len);
	case 12:
		return gmem_policy(fd, at, len, 1 + draw(a, 3));
	case 13:
		if (draw(a, 3))
			return 0;
		close(a->context);
		a->context = gmem_context();
		return a->context < 0 ? -1 : fcntl(a->context, F_SETFL, O_NONBLOCK);
	case 14:
	case 15:
		err = read(a->context, events, sizeof(events));
		for (int i = 0; i < err / (int)sizeof(events[0]); i++) {
			if (draw(a, 4) == 0)
				continue;
			for (size_t f = 0; f < FILES; f++)
				/* The cookie does not say which file: ask for all, some say no. */
				if (events[i].flags & GMEMFD_FAULT_MINOR)
					gmem_continue(files[f].fd, events[i].offset, events[i].len, 0);
				else if (events[i].offset >= files[f].stable)
					gmem_copy(files[f].fd, events[i].offset, events[i].len, a->buf, 0);
		}
		return err < 0 && errno == EAGAIN ? 0 : err;
	case 16:
		return gmem_stats(fd, &stats);
	case 17:
		return pread(fd, a->buf + HPAGE_SIZE, len > HPAGE_SIZE ? HPAGE_SIZE : len, at);
	case 18:
		return pwrite(fd, a->buf, len > HPAGE_SIZE ? HPAGE_SIZE : len, at);
	case 19:
		return pwrite(fd, a->buf, draw(a, 5000), at + draw(a, 4096));
	case 20:
		if (write(a->pipes[1], a->buf, 4096) != 4096)
			return 0;
		if (splice(a->pipes[0], NULL, fd, &to, 4096, 0) == 4096)
			return 0;
		err = errno;
		if (read(a->pipes[0], a->buf + HPAGE_SIZE, 4096) != 4096)
			return 0;
		errno = err;
		return -1;
	case 21:
		return fallocate(fd, FALLOC_FL_KEEP_SIZE, at + 1, draw(a, 2) ? 1 : len - 1);
	case 22:
		unmap(a);
		a->map = mmap(NULL, a->file->bytes, PROT_READ | PROT_WRITE,
			      draw(a, 3) ? MAP_SHARED : MAP_PRIVATE, fd, 0);
		if (a->map != MAP_FAILED)
			return 0;
		a->map = NULL;
		return -1;
	case 23:
	case 24:
	case 25:
		if (a->map)
			TOUCH_READ(a->map + at + draw(a, len));
		return 0;
	case 26:
	case 27:
		if (a->map)
			TOUCH_WRITE(a->map + at + draw(a, len), 1);
		return 0;
	case 28:
		return a->map ? madvise(a->map + at, len, draw(a, 2) ? MADV_DONTNEED : MADV_COLD) : 0;
	case 29:
		touch_in_child(a, a->map ? a->map + at : NULL);
		return 0;
	case 30:
		if (!a->map)
			return 0;
		local = (struct iovec){ a->buf + HPAGE_SIZE, 8192 };
		remote = (struct iovec){ a->map + at, len < 8192 ? len : 8192 };
		return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	case 31:
		for (size_t i = 0; i < 3; i++)
			ops[i] = (struct gmemfd_range){ .op = 1 + draw(a, 7), .offset = at, .len = len,
							.src = draw(a, 2) ? (uintptr_t)a->buf : 0 };
		gmem_resolve(fd, ops, 3, draw(a, 2), &err);
		errno = err;
		return err ? -1 : 0;
	case 32:
		/* What everybody relies on. */
		if (page * 4096 >= a->file->stable)
			return 0;
		if (pread(fd, a->buf + HPAGE_SIZE, 4096, page * 4096) == 4096)
			check_stable(a, a->buf + HPAGE_SIZE, page);
		return 0;
	case 33:
		if (a->map && page * 4096 < a->file->stable)
			check_stable(a, a->map + page * 4096, page);
		return 0;
	case 34:
		unmap(a);
		a->file = &files[draw(a, FILES)];
		return 0;
	default:
		lseek(fd, at, draw(a, 2) ? SEEK_DATA : SEEK_HOLE);
		return 0;
	}
}

/* Everything that the contract or the call may say when it meets others at work. */
static bool makes_sense(int err)
{
	static const int known[] = { EINVAL, EEXIST, EAGAIN, EBUSY, ENOENT, EFAULT, EIO, EINTR, ENODATA, ENXIO, ENOMEM,
				     EBADF };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (err == known[i])
			return true;
	return false;
}

static void *actor(void *arg)
{
	struct actor a = { .state = (seed + (uintptr_t)arg) * 0x9e3779b97f4a7c15ull | 1, .file = &files[0] };

	a.buf = xmmap_anon(2 * HPAGE_SIZE + 4096);
	memset(a.buf, 0x33, HPAGE_SIZE);
	a.context = gmem_context();
	a.source = open("/tmp/random-source", O_RDONLY);
	REQUIRE_OK(fcntl(a.context, F_SETFL, O_NONBLOCK));
	REQUIRE_OK(pipe(a.pipes));
	while (!shared->stop) {
		unsigned int op = draw(&a, OPS);
		unsigned long none = 0;
		uint64_t at, len;

		draw_range(&a, &at, &len);
		/* Memory for a copy has to reach. */
		if (len > HPAGE_SIZE)
			len = HPAGE_SIZE;
		if (act(&a, op, at, len) < 0 && !makes_sense(errno))
			atomic_compare_exchange_strong(&shared->odd_errno, &none, (unsigned long)op << 32 | errno);
		shared->ops++;
	}
	return NULL;
}

static pid_t start_process(unsigned int nr)
{
	pthread_t threads[THREADS];
	pid_t pid = REQUIRE_OK(fork());

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < THREADS; i++)
		threads[i] = thread_start(actor, (void *)(uintptr_t)(nr * THREADS + i + 1));
	for (size_t i = 0; i < THREADS; i++)
		thread_join(threads[i]);
	_exit(0);
}

/* Lets everybody go who waits: opens what is closed, gives zeros to what is absent. Whatever its context has read. */
static void *guardian(void *arg)
{
	static struct gmemfd_range ops[1024];
	int err;

	(void)arg;
	while (!shared->guardian_stop) {
		for (size_t f = 0; f < FILES; f++) {
			struct file *file = &files[f];
			unsigned int nr = 0;

			if (!xgmem_stats(file->fd).waiters)
				continue;
			for (uint64_t at = 0; at < file->bytes; at += file->granule) {
				ops[nr++] = (struct gmemfd_range){ .op = GMEMFD_OP_CONTINUE, .offset = at,
								   .len = file->granule };
				ops[nr++] = (struct gmemfd_range){ .op = GMEMFD_OP_ZERO, .offset = at,
								   .len = file->granule };
			}
			ops[nr++] = (struct gmemfd_range){ .op = GMEMFD_OP_WAKE, .len = file->bytes };
			gmem_resolve(file->fd, ops, nr, GMEMFD_RESOLVE_KEEP_GOING, &err);
			CHECK_EQ(err, 0);
		}
		sleep_seconds(0.01);
	}
	return NULL;
}

static uint64_t content_of(int fd)
{
	uint64_t has = 0;
	off_t pos = 0, end;

	while ((pos = lseek(fd, pos, SEEK_DATA)) >= 0) {
		end = REQUIRE_OK(lseek(fd, pos, SEEK_HOLE));
		has += end - pos;
		pos = end;
	}
	return has;
}

TEST_LIMIT(everything_at_once, 60)
{
	double end = now_seconds() + (tap_slow() > 4 ? 20 : 5), next_kill = now_seconds() + 0.5;
	const char *env = getenv("TEST_SEED");
	pid_t processes[PROCESSES];
	unsigned char *buf = xmmap_anon(HPAGE_SIZE);
	unsigned int started = 0, killed = 0;
	struct actor dice = { 0 };
	pthread_t guard;
	int source;

	if (page_size() != 4096)
		SKIP("pages are not of 4096 bytes");
	seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	tap_diag("seed %llu", (unsigned long long)seed);
	dice.state = seed * 0x9e3779b97f4a7c15ull | 1;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(shared != MAP_FAILED);
	source = REQUIRE_FD(open("/tmp/random-source", O_RDWR | O_CREAT | O_TRUNC, 0600));
	REQUIRE_EQ(write(source, buf, HPAGE_SIZE / 2), HPAGE_SIZE / 2);
	files[0] = (struct file){ xgmem(256 * 4096), 256 * 4096, 4096, STABLE * 4096 };
	files[1] = (struct file){ xgmem(511 * 4096), 511 * 4096, 4096, STABLE * 4096 };
	files[2] = (struct file){ xgmem_huge(2 * HPAGE_SIZE), 2 * HPAGE_SIZE, HPAGE_SIZE, 0 };
	for (size_t f = 0; f < 2; f++)
		for (size_t i = 0; i < STABLE; i++) {
			pattern_fill(buf, 4096, i);
			REQUIRE_OK(gmem_copy(files[f].fd, i * 4096, 4096, buf, 0));
		}

	for (size_t i = 0; i < PROCESSES; i++)
		processes[i] = start_process(started++);
	guard = thread_start(guardian, NULL);
	/* On a busy machine it takes longer until enough has been done for a test of something. */
	while (now_seconds() < end || shared->ops <= 200 || !killed || !shared->stable_read) {
		sleep_seconds(0.05);
		if (now_seconds() < next_kill)
			continue;
		next_kill = now_seconds() + 0.1 + draw(&dice, 400) * 0.001;
		for (size_t i = draw(&dice, PROCESSES), n = 1; n; n--) {
			int status;

			REQUIRE_OK(kill(processes[i], SIGKILL));
			status = child_wait(processes[i], END_SECONDS);
			tap_check(status != -1, true, __FILE__, __LINE__, "a killed process ends");
			processes[i] = start_process(started++);
			killed++;
		}
	}
	shared->stop = true;
	for (size_t i = 0; i < PROCESSES; i++) {
		int status = child_wait(processes[i], END_SECONDS);

		tap_check(status == 0, false, __FILE__, __LINE__, "a process comes to its end: status 0x%x", status);
	}
	shared->guardian_stop = true;
	thread_join(guard);

	tap_diag("%lu operations, %u processes killed, stable pages read %lu times", shared->ops, killed,
		 shared->stable_read);
	CHECK(shared->ops > 200);
	CHECK(killed > 0);
	CHECK(shared->stable_read > 0);
	CHECK_EQ(shared->stable_wrong, 0);
	if (shared->odd_errno)
		tap_diag("operation %lu", shared->odd_errno >> 32);
	CHECK_EQ(shared->odd_errno & UINT32_MAX, 0);
	for (size_t f = 0; f < FILES; f++) {
		struct file *file = &files[f];
		struct gmemfd_stats stats = xgmem_stats(file->fd);

		CHECK_EQ(stats.waiters, 0);
		CHECK_EQ(stats.orphans, stats.watches);
		CHECK_EQ(stats.allocated, content_of(file->fd));
		REQUIRE_OK(gmem_unwatch(file->fd, 0, file->bytes));
		CHECK_EQ(xgmem_stats(file->fd).watches, 0);
		CHECK_EQ(xgmem_stats(file->fd).orphans, 0);
		for (size_t i = 0; i < file->stable / 4096; i++) {
			REQUIRE_EQ(pread(file->fd, buf, 4096, i * 4096), 4096);
			CHECK(pattern_is(buf, 4096, i));
		}
		/* No page and no poison withstands a hole. */
		REQUIRE_OK(gmem_punch(file->fd, 0, file->bytes));
		CHECK_EQ(xgmem_stats(file->fd).allocated, 0);
		CHECK_DONE(gmem_zero(file->fd, 0, file->bytes, 0), file->bytes);
		CHECK_EQ(pread(file->fd, buf, 4096, file->bytes - 4096), 4096);
	}
}
