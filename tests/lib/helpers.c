// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the helpers that tap.h promises: time, memory, surviving a bad access, threads, files of proc and sysfs.
 */
#include "tap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

double tap_slow(void)
{
	static double slow;	/* racing threads store the same value */
	const char *env;

	if (slow == 0) {
		env = getenv("TEST_SLOW");
		slow = env ? atof(env) : 1;
		if (slow < 1)
			slow = 1;
	}
	return slow;
}

double now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

void sleep_seconds(double seconds)
{
	struct timespec ts = {
		.tv_sec = (time_t)seconds,
		.tv_nsec = (seconds - (time_t)seconds) * 1e9,
	};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

void *xmmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	void *p = mmap(addr, len, prot, flags, fd, offset);

	REQUIRE(p != MAP_FAILED);
	return p;
}

void *xmmap_anon(size_t len)
{
	return xmmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* A multiplicative hash of seed and position: neighbours differ, and so do pages. */
static uint64_t pattern_word(uint64_t seed, size_t index)
{
	uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15ull + index * 0xd1342543de82ef95ull;

	return x ^ (x >> 29);
}

void pattern_fill(void *buf, size_t len, uint64_t seed)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t w = pattern_word(seed, i);
		size_t n = len - i < sizeof(w) ? len - i : sizeof(w);

		memcpy(p + i, &w, n);
	}
}

bool pattern_is(const void *buf, size_t len, uint64_t seed)
{
	const unsigned char *p = buf;

	for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
		uint64_t w = pattern_word(seed, i);
		size_t n = len - i < sizeof(w) ? len - i : sizeof(w);

		if (memcmp(p + i, &w, n)) {
			tap_diag("not pattern %llu at byte %zu of %zu", (unsigned long long)seed, i, len);
			return false;
		}
	}
	return true;
}

bool all_bytes_are(const void *buf, size_t len, unsigned char byte)
{
	const unsigned char *p = buf;

	for (size_t i = 0; i < len; i++)
		if (p[i] != byte) {
			tap_diag("byte %zu of %zu is 0x%02x, not 0x%02x", i, len, p[i], byte);
			return false;
		}
	return true;
}

__thread struct touch touch_last;
static __thread sigjmp_buf touch_env;
static __thread volatile sig_atomic_t touching;
static pthread_once_t touch_once = PTHREAD_ONCE_INIT;

static void on_fault(int sig, siginfo_t *si, void *context)
{
	(void)context;
	if (!touching) {
		/* Not one of ours: the default action, as soon as the handler returns. */
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	touch_last.sig = sig;
	touch_last.code = si->si_code;
	touch_last.addr = si->si_addr;
	touch_last.lsb = sig == SIGBUS ? si->si_addr_lsb : 0;
	siglongjmp(touch_env, 1);
}

static void install_handlers(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	sigemptyset(&sa.sa_mask);
	REQUIRE_OK(sigaction(SIGSEGV, &sa, NULL));
	REQUIRE_OK(sigaction(SIGBUS, &sa, NULL));
}

static int touch(volatile unsigned char *p, bool write, unsigned char value)
{
	pthread_once(&touch_once, install_handlers);
	memset(&touch_last, 0, sizeof(touch_last));
	if (sigsetjmp(touch_env, 1) == 0) {
		touching = 1;
		if (write)
			*p = value;
		else
			touch_last.value = *p;
	}
	touching = 0;
	return touch_last.sig;
}

int touch_read(const volatile void *p)
{
	return touch((volatile unsigned char *)p, false, 0);
}

int touch_write(volatile void *p, unsigned char value)
{
	return touch(p, true, value);
}

pthread_t thread_start(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	REQUIRE_EQ(pthread_create(&thread, NULL, fn, arg), 0);
	return thread;
}

void *thread_join(pthread_t thread)
{
	void *ret;

	REQUIRE_EQ(pthread_join(thread, &ret), 0);
	return ret;
}

bool thread_join_for(pthread_t thread, double seconds)
{
	double end = seconds * tap_slow();
	struct timespec ts;
	int err;

	clock_gettime(CLOCK_REALTIME, &ts);
	end += ts.tv_sec + ts.tv_nsec / 1e9;
	ts.tv_sec = (time_t)end;
	ts.tv_nsec = (end - ts.tv_sec) * 1e9;
	err = pthread_timedjoin_np(thread, NULL, &ts);
	REQUIRE(err == 0 || err == ETIMEDOUT);
	return err == 0;
}

char task_state(pid_t tid)
{
	char path[64], state = 0, *stat, *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	stat = read_file(path);
	if (!stat)
		return 0;
	end = strrchr(stat, ')');
	if (end && sscanf(end + 1, " %c", &state) != 1)
		state = 0;
	free(stat);
	return state;
}

static bool asleep(pid_t tid)
{
	char path[64], *text;
	bool running;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	text = read_file(path);
	/* The kernel shows the system call, or that there is none, of who is off its CPU and in no queue for one. */
	running = text && !strncmp(text, "running", 7);
	free(text);
	return !running;
}

bool task_asleep(pid_t tid)
{
	return wait_for(asleep(tid), 10);
}

static bool sleeps_in(pid_t tid, long number)
{
	char path[64], *text, *end;
	bool in;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	text = read_file(path);
	/* "running", or the number and the arguments. */
	in = text && strtol(text, &end, 10) == number && end != text;
	free(text);
	return in;
}

bool task_sleeps_in(pid_t tid, long number)
{
	return wait_for(sleeps_in(tid, number), 10);
}

int child_wait(pid_t pid, double seconds)
{
	int status = 0;
	double end = now_seconds() + seconds * tap_slow();
	pid_t got;

	for (;;) {
		got = waitpid(pid, &status, WNOHANG);
		if (got)
			break;
		if (now_seconds() > end)
			return -1;
		sleep_seconds(0.001);
	}
	REQUIRE_EQ(got, pid);
	return status;
}

char *read_file(const char *path)
{
	size_t len = 0, size = 4096;
	char *text = NULL, *more;
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;
	ssize_t n;

	if (fd < 0)
		return NULL;
	for (;;) {
		more = realloc(text, size);
		if (!more)
			goto fail;
		text = more;
		n = read(fd, text + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			goto fail;
		if (n == 0)
			break;
		len += n;
		if (len + 1 == size)
			size *= 2;
	}
	text[len] = '\0';
	close(fd);
	return text;
fail:
	err = errno;
	free(text);
	close(fd);
	errno = err;
	return NULL;
}

long long read_number(const char *path)
{
	char *text = read_file(path), *end;
	long long n;

	tap_check(text, true, __FILE__, __LINE__, "read %s", path);
	n = strtoll(text, &end, 0);
	tap_check(end != text, true, __FILE__, __LINE__, "%s holds a number: %s", path, text);
	free(text);
	return n;
}

long long read_field(const char *path, const char *key)
{
	char *text = read_file(path), *line, *save;
	long long n = -1;

	tap_check(text, true, __FILE__, __LINE__, "read %s", path);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, key, strlen(key))) {
			n = strtoll(line + strlen(key), NULL, 0);
			break;
		}
	free(text);
	return n;
}

int write_file(const char *path, const char *fmt, ...)
{
	char text[4096];
	int fd, len, err = 0;
	ssize_t n;
	va_list ap;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len < 0 || (size_t)len >= sizeof(text)) {
		errno = E2BIG;
		return -1;
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = write(fd, text, len);
	if (n != len)
		err = n < 0 ? errno : EIO;
	close(fd);
	errno = err;
	return err ? -1 : 0;
}

int ram_disk(int flags)
{
	const char *path = "/dev/zram0";

	if (!access(path, F_OK)) {
		if (!read_number("/sys/block/zram0/disksize"))
			REQUIRE_OK(write_file("/sys/block/zram0/disksize", "%lu", RAM_DISK_BYTES));
	} else {
		path = "/dev/ram0";
		if (access(path, F_OK))
			SKIP("no block device of memory: neither zram nor brd is in the guest");
	}
	return REQUIRE_FD(open(path, flags | O_CLOEXEC));
}

uint64_t pfn_of(const void *p)
{
	int fd = REQUIRE_FD(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	uint64_t entry;

	REQUIRE_EQ(pread(fd, &entry, 8, (uintptr_t)p / page_size() * 8), 8);
	close(fd);
	return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}
