// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs a case on both sides and compares the traces; and what the cases are made of: see uffd.h.
 */
#include "uffd.h"

#include <fnmatch.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "gmem.h"

#define SIDE_SECONDS 12
#define MAX_TABLES 8

static const struct parity_diff *diff_tables[MAX_TABLES];
static size_t diff_counts[MAX_TABLES];
static size_t nr_diff_tables;

void parity_diffs(const struct parity_diff *table, size_t n)
{
	if (nr_diff_tables == MAX_TABLES)
		abort();
	diff_tables[nr_diff_tables] = table;
	diff_counts[nr_diff_tables++] = n;
}

/* --- The trace --------------------------------------------------------------------------------------- */

const char *s_errno(int err)
{
	const char *name = err ? strerrorname_np(err) : "0";

	return name ? name : "unknown";
}

void s_log(struct side *s, const char *key, const char *fmt, ...)
{
	int err = errno;
	char line[512];
	size_t len;
	va_list ap;
	int n;

	len = snprintf(line, sizeof(line), "%s: ", key);
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	va_end(ap);
	REQUIRE(n >= 0 && len + n + 1 < sizeof(line));
	len += n;
	line[len++] = '\n';
	/* Also held against other processes of the side, hence no mutex. */
	while (__atomic_exchange_n(&s->lock, 1, __ATOMIC_ACQUIRE))
		sched_yield();
	REQUIRE(s->len + len < sizeof(s->text));
	memcpy(s->text + s->len, line, len);
	s->len += len;
	__atomic_store_n(&s->lock, 0, __ATOMIC_RELEASE);
	errno = err;
}

void s_log_ret(struct side *s, const char *key, long ret)
{
	if (ret == -1)
		s_log(s, key, "%s", s_errno(errno));
	else
		s_log(s, key, "%ld", ret);
}

const char *s_where(struct side *s, uint64_t addr)
{
	static __thread char texts[4][48];
	static __thread int turn;
	char *text = texts[turn++ % 4];
	uint64_t off = addr - (uintptr_t)s->map;

	if (!s->map || addr < (uintptr_t)s->map || off > s->pages * s->ps)
		return "elsewhere";
	if (off % s->ps)
		snprintf(text, sizeof(texts[0]), "+%zu.%zu", (size_t)off / s->ps, (size_t)off % s->ps);
	else
		snprintf(text, sizeof(texts[0]), "+%zu", (size_t)off / s->ps);
	return text;
}

/* --- Running and comparing ------------------------------------------------------------------------------ */

static uint64_t their_features(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = REQUIRE_FD(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));

	REQUIRE_OK(ioctl(uffd, UFFDIO_API, &api));
	close(uffd);
	return api.features;
}

/* False: it did not come to its end. */
static bool run_side(const struct parity *parity, struct side *s)
{
	int status;
	pid_t pid = REQUIRE_OK(fork());

	if (pid == 0) {
		parity->run(s);
		_exit(0);
	}
	status = child_wait(pid, SIDE_SECONDS);
	if (status == 0)
		return true;
	if (status == -1) {
		tap_diag("%s: still running after %.0f seconds", s->name, SIDE_SECONDS * tap_slow());
		kill(pid, SIGKILL);
	} else {
		tap_diag("%s: ended with wait status 0x%x", s->name, status);
	}
	return false;
}

static void print_trace(const char *who, const char *text)
{
	while (*text) {
		int n = strcspn(text, "\n");

		tap_diag("%s  %.*s", who, n, text);
		text += n + !!text[n];
	}
}

/* Cuts the next line off: "" at the end. */
static const char *next_line(char **text, char **value)
{
	char *line = *text, *end = strchr(line, '\n');

	if (end)
		*end++ = '\0';
	else
		end = line + strlen(line);
	*text = end;
	*value = strstr(line, ": ");
	if (*value) {
		**value = '\0';
		*value += 2;
	} else {
		*value = end;
	}
	return line;
}

static const struct parity_diff *find_diff(const char *name, const char *key, bool *used)
{
	size_t nr = 0;

	for (size_t t = 0; t < nr_diff_tables; t++)
		for (size_t i = 0; i < diff_counts[t]; i++, nr++) {
			const struct parity_diff *diff = &diff_tables[t][i];

			if (!strcmp(diff->name, name) && !fnmatch(diff->key, key, 0)) {
				used[nr] = true;
				return diff;
			}
		}
	return NULL;
}

static bool compare(const struct parity *parity, const char *theirs, const char *ours, bool use_diffs)
{
	char *a = strdup(theirs), *b = strdup(ours), *va, *vb;
	bool same = true, used[256] = { false };
	size_t nr = 0;

	REQUIRE(a && b);
	while (*a || *b) {
		const struct parity_diff *diff;
		const char *ka = next_line(&a, &va), *kb = next_line(&b, &vb);

		if (strcmp(ka, kb)) {
			tap_diag("the traces part here: theirs '%s: %s', ours '%s: %s'", ka, va, kb, vb);
			same = false;
			break;
		}
		diff = use_diffs ? find_diff(parity->name, ka, used) : NULL;
		if (diff && strcmp(vb, diff->ours)) {
			tap_diag("%s: theirs '%s', ours '%s', which should say '%s' (%s)", ka, va, vb, diff->ours,
				 diff->reason);
			same = false;
		} else if (!diff && strcmp(va, vb)) {
			tap_diag("%s: theirs '%s', ours '%s'", ka, va, vb);
			same = false;
		} else if (diff && strcmp(va, vb)) {
			tap_diag("differs as intended: %s: theirs '%s', ours '%s': %s", ka, va, vb, diff->reason);
		}
	}
	/* A row that matches nothing excuses nothing: it has been forgotten. */
	for (size_t t = 0; use_diffs && same && t < nr_diff_tables; t++)
		for (size_t i = 0; i < diff_counts[t]; i++, nr++) {
			REQUIRE(nr < ARRAY_SIZE(used));
			if (!strcmp(diff_tables[t][i].name, parity->name) && !used[nr]) {
				tap_diag("no line matches the intended difference '%s'", diff_tables[t][i].key);
				same = false;
			}
		}
	return same;
}

void parity_run(const void *arg)
{
	const struct parity *parity = arg;
	bool itself = getenv("UFFD_AGAINST_ITSELF");
	bool has = !parity->feature || their_features() & parity->feature;
	struct side *sides = xmmap(NULL, 2 * sizeof(*sides), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct side *theirs = &sides[0], *ours = &sides[1];

	for (int i = 0; i < 2; i++) {
		sides[i].name = i ? "ours" : "theirs";
		sides[i].ours = i && !itself;
		sides[i].ps = page_size();
		sides[i].uffd = -1;
		sides[i].file = -1;
	}
	if (has) {
		CHECK(run_side(parity, theirs));
		if (parity->gold && !CHECK(compare(parity, parity->gold, theirs->text, false)))
			print_trace("theirs", theirs->text);
	} else if (parity->gold) {
		tap_diag("this kernel lacks the feature: compared with what newer ones do");
		strcpy(theirs->text, parity->gold);
	}
	if (!CHECK(run_side(parity, ours)))
		print_trace("ours", ours->text);
	CHECK(*theirs->text);
	if (!CHECK(compare(parity, theirs->text, ours->text, !itself)) || getenv("UFFD_SHOW")) {
		print_trace("theirs", theirs->text);
		print_trace("ours  ", ours->text);
	}
}

/* --- Descriptors and mappings -------------------------------------------------------------------------- */

int s_file(struct side *s, size_t bytes)
{
	int fd;

	if (s->ours)
		return xgmem(bytes);
	fd = REQUIRE_FD(memfd_create("theirs", MFD_CLOEXEC));
	REQUIRE_OK(ftruncate(fd, bytes));
	return fd;
}

unsigned char *s_map(struct side *s, int file, size_t pages, off_t offset)
{
	unsigned char *all = xmmap(NULL, (pages + 2) * s->ps, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return xmmap(all + s->ps, pages * s->ps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, offset);
}

int s_new(struct side *s, unsigned long flags)
{
	int dev, uffd, err;

	if (s->ours)
		return ioctl(gmem_dev(), USERFAULTFD_IOC_NEW, flags);
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return syscall(SYS_userfaultfd, flags);
	uffd = ioctl(dev, USERFAULTFD_IOC_NEW, flags);
	err = errno;
	close(dev);
	errno = err;
	return uffd;
}

int s_uffd(struct side *s, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int uffd = REQUIRE_FD(s_new(s, O_CLOEXEC | O_NONBLOCK));

	REQUIRE_OK(ioctl(uffd, UFFDIO_API, &api));
	return uffd;
}

void s_rig(struct side *s, size_t pages, uint64_t mode, uint64_t features)
{
	struct uffdio_register reg = { .mode = mode };

	s->pages = pages;
	s->file = s_file(s, pages * s->ps);
	s->map = s_map(s, s->file, pages, 0);
	s->src = xmmap_anon(pages * s->ps);
	for (size_t i = 0; i < pages; i++)
		memset(s->src + i * s->ps, s_byte(i), s->ps);
	s->uffd = s_uffd(s, features);
	reg.range.start = (uintptr_t)s->map;
	reg.range.len = pages * s->ps;
	if (mode)
		REQUIRE_OK(ioctl(s->uffd, UFFDIO_REGISTER, &reg));
}

bool s_has_content(struct side *s, size_t i)
{
	return lseek(s->file, i * s->ps, SEEK_DATA) == (off_t)(i * s->ps);
}

void s_write(struct side *s, size_t i, size_t n)
{
	REQUIRE_EQ(pwrite(s->file, s->src + i * s->ps, n * s->ps, i * s->ps), n * s->ps);
}

/* --- ioctls ------------------------------------------------------------------------------------------- */

int s_register(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode)
{
	struct uffdio_register args = { .range = { addr, len }, .mode = mode, .ioctls = S_UNTOUCHED };
	int ret = ioctl(uffd, UFFDIO_REGISTER, &args);

	if (ret && args.ioctls != S_UNTOUCHED)
		s_log(s, key, "%s, and yet ioctls", s_errno(errno));
	else
		s_log_ret(s, key, ret);
	return ret;
}

int s_unregister(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range args = { addr, len };
	int ret = ioctl(uffd, UFFDIO_UNREGISTER, &args);

	s_log_ret(s, key, ret);
	return ret;
}

int s_wake(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range args = { addr, len };
	int ret = ioctl(uffd, UFFDIO_WAKE, &args);

	s_log_ret(s, key, ret);
	return ret;
}

static int log_result(struct side *s, const char *key, int ret, int64_t field)
{
	const char *name = ret ? s_errno(errno) : "0";
	int64_t page = s->ps;

	if (field == S_UNTOUCHED)
		s_log(s, key, "%s, field untouched", name);
	else if (field < 0)
		s_log(s, key, "%s, field -%s", name, s_errno(-field));
	else if (field % page)
		s_log(s, key, "%s, field %lld bytes", name, (long long)field);
	else
		s_log(s, key, "%s, field %lld pages", name, (long long)(field / page));
	return ret;
}

int s_copy(struct side *s, const char *key, int uffd, uint64_t dst, uint64_t src, uint64_t len, uint64_t mode)
{
	struct uffdio_copy args = { .dst = dst, .src = src, .len = len, .mode = mode, .copy = S_UNTOUCHED };
	int ret = ioctl(uffd, UFFDIO_COPY, &args);

	return log_result(s, key, ret, args.copy);
}

int s_zero(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode)
{
	struct uffdio_zeropage args = { .range = { addr, len }, .mode = mode, .zeropage = S_UNTOUCHED };
	int ret = ioctl(uffd, UFFDIO_ZEROPAGE, &args);

	return log_result(s, key, ret, args.zeropage);
}

int s_continue(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode)
{
	struct uffdio_continue args = { .range = { addr, len }, .mode = mode, .mapped = S_UNTOUCHED };
	int ret = ioctl(uffd, UFFDIO_CONTINUE, &args);

	return log_result(s, key, ret, args.mapped);
}

int s_poison(struct side *s, const char *key, int uffd, uint64_t addr, uint64_t len, uint64_t mode)
{
	struct uffdio_poison args = { .range = { addr, len }, .mode = mode, .updated = S_UNTOUCHED };
	int ret = ioctl(uffd, UFFDIO_POISON, &args);

	return log_result(s, key, ret, args.updated);
}

int s_fill(struct side *s, const char *key, size_t i, size_t n)
{
	return s_copy(s, key, s->uffd, s_at(s, i), (uintptr_t)s->src + i * s->ps, n * s->ps, 0);
}

/* --- Messages ----------------------------------------------------------------------------------------- */

const char *s_msg_text(struct side *s, const struct uffd_msg *msg)
{
	static __thread char text[160];
	static const struct uffd_msg zero;
	struct uffd_msg rest = *msg;
	char ptid[32] = "";
	uint64_t flags = msg->arg.pagefault.flags;

	rest.event = 0;
	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		memset(&rest.arg.pagefault, 0, sizeof(rest.arg.pagefault));
		if (msg->arg.pagefault.feat.ptid)
			snprintf(ptid, sizeof(ptid), " ptid");
		snprintf(text, sizeof(text), "fault%s%s%s at %s%s", flags & UFFD_PAGEFAULT_FLAG_WRITE ? " WRITE" : "",
			 flags & UFFD_PAGEFAULT_FLAG_MINOR ? " MINOR" : "",
			 flags & ~(uint64_t)(UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_MINOR) ? " other" : "",
			 s_where(s, msg->arg.pagefault.address), ptid);
		break;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		memset(&rest.arg.remove, 0, sizeof(rest.arg.remove));
		snprintf(text, sizeof(text), "%s %s to %s", msg->event == UFFD_EVENT_UNMAP ? "unmap" : "remove",
			 s_where(s, msg->arg.remove.start), s_where(s, msg->arg.remove.end));
		break;
	case UFFD_EVENT_FORK:
		memset(&rest.arg.fork, 0, sizeof(rest.arg.fork));
		snprintf(text, sizeof(text), "fork");
		break;
	default:
		snprintf(text, sizeof(text), "event 0x%x", msg->event);
	}
	if (memcmp(&rest, &zero, sizeof(rest)))
		strcat(text, ", and rubbish");
	return text;
}

bool s_read(int uffd, struct uffd_msg *msg)
{
	struct pollfd poll_fd = { .fd = uffd, .events = POLLIN };
	double end = now_seconds() + S_SECONDS * tap_slow();

	/* What poll() has seen may have gone when it is read. */
	while (now_seconds() < end) {
		if (poll(&poll_fd, 1, 100) == 1 && poll_fd.revents == POLLIN &&
		    read(uffd, msg, sizeof(*msg)) == sizeof(*msg))
			return true;
	}
	return false;
}

struct uffd_msg s_msg(struct side *s, const char *key, int uffd)
{
	struct uffd_msg msg = { 0 };

	s_log(s, key, "%s", s_read(uffd, &msg) ? s_msg_text(s, &msg) : "no message");
	return msg;
}

void s_quiet(struct side *s, const char *key, int uffd)
{
	struct uffd_msg msg;
	ssize_t n = read(uffd, &msg, sizeof(msg));

	if (n == sizeof(msg))
		s_log(s, key, "%s", s_msg_text(s, &msg));
	else if (n < 0 && errno == EAGAIN)
		s_log(s, key, "none");
	else
		s_log_ret(s, key, n);
}

static long fdinfo(int uffd, const char *field)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
	return read_field(path, field);
}

long s_pending(int uffd)
{
	return fdinfo(uffd, "pending:");
}

long s_total(int uffd)
{
	return fdinfo(uffd, "total:");
}

void s_await(int uffd, long total)
{
	REQUIRE(wait_for(s_total(uffd) == total, S_SECONDS));
}

/* --- Threads ------------------------------------------------------------------------------------------- */

static void *poking(void *arg)
{
	struct poke *poke = arg;

	__atomic_store_n(&poke->tid, gettid(), __ATOMIC_RELEASE);
	if (poke->call) {
		errno = 0;
		poke->ret = poke->call(poke);
		poke->err = errno;
	} else if (poke->write) {
		touch_write(poke->at, S_WRITTEN);
	} else {
		touch_read(poke->at);
	}
	poke->touch = touch_last;
	return NULL;
}

static void start(struct poke *poke, uint64_t at)
{
	poke->at = (unsigned char *)at;
	poke->tid = 0;
	poke->thread = thread_start(poking, poke);
	REQUIRE(wait_for(__atomic_load_n(&poke->tid, __ATOMIC_ACQUIRE), S_SECONDS));
	/* Until it waits or is gone: a message can be read before its thread has gone to sleep, and answered too. */
	REQUIRE(task_asleep(poke->tid));
}

void s_poke(struct poke *poke, uint64_t at)
{
	poke->write = false;
	poke->call = NULL;
	start(poke, at);
}

void s_poke_write(struct poke *poke, uint64_t at)
{
	poke->write = true;
	poke->call = NULL;
	start(poke, at);
}

void s_poke_call(struct poke *poke, long (*call)(struct poke *poke), uint64_t at, long arg)
{
	poke->call = call;
	poke->arg = arg;
	start(poke, at);
}

const char *s_touched(struct side *s, const struct touch *touch)
{
	static __thread char text[96];

	if (touch->sig == SIGBUS && touch->lsb)
		snprintf(text, sizeof(text), "SIGBUS code %d lsb %d at %s", touch->code, touch->lsb,
			 s_where(s, (uintptr_t)touch->addr));
	else if (touch->sig)
		snprintf(text, sizeof(text), "%s code %d at %s", touch->sig == SIGBUS ? "SIGBUS" : "SIGSEGV",
			 touch->code, s_where(s, (uintptr_t)touch->addr));
	else
		snprintf(text, sizeof(text), "0x%02x", touch->value);
	return text;
}

void s_poked(struct side *s, const char *key, struct poke *poke)
{
	if (!thread_join_for(poke->thread, S_SECONDS)) {
		s_log(s, key, "still waits");
	} else if (poke->call) {
		errno = poke->err;
		s_log_ret(s, key, poke->ret);
	} else if (poke->write && !poke->touch.sig) {
		s_log(s, key, "written");
	} else {
		s_log(s, key, "%s", s_touched(s, &poke->touch));
	}
}

void s_touch(struct side *s, const char *key, uint64_t at)
{
	struct poke poke;

	/* Not by the caller: should it trap, that is to be seen in the trace. */
	s_poke(&poke, at);
	s_poked(s, key, &poke);
}

/* --- Processes ------------------------------------------------------------------------------------------- */

pid_t s_child(struct side *s, void (*fn)(struct side *s, void *arg), void *arg)
{
	pid_t pid = REQUIRE_OK(fork());

	if (pid == 0) {
		fn(s, arg);
		_exit(0);
	}
	return pid;
}

void s_child_end(pid_t pid)
{
	REQUIRE_EQ(child_wait(pid, S_SECONDS), 0);
}
