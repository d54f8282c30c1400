// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be seen from outside: the tracepoints with their fields, and counters that are exact after a known sequence.
 */
#include "trap.h"

#include <inttypes.h>
#include <sys/stat.h>

#define PAGES 16
#define TRACING "/sys/kernel/tracing/"
#define EVENTS TRACING "events/gmemfd/"

static char *trace;

static void trace_begin(void)
{
	if (access(TRACING "trace", F_OK))
		SKIP("this kernel has no tracefs");
	REQUIRE_OK(write_file(TRACING "trace", "\n"));
	REQUIRE_OK(write_file(EVENTS "enable", "1"));
	REQUIRE_OK(write_file(TRACING "tracing_on", "1"));
}

static void trace_end(void)
{
	REQUIRE_OK(write_file(EVENTS "enable", "0"));
	trace = read_file(TRACING "trace");
	REQUIRE(trace);
}

/* How many lines of the event say this after "ino=N ": all of it or, where text ends with "=", up to there. */
static int traced(uint64_t ino, const char *event, const char *text)
{
	char want[256];
	int n = 0;

	snprintf(want, sizeof(want), " %s: ino=%" PRIu64 " %s", event, ino, text);
	for (char *at = trace; (at = strstr(at, want)); at++)
		n += at[strlen(want)] == '\n' || want[strlen(want) - 1] == '=';
	if (!n)
		tap_diag("no line '%s'", want);
	return n;
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	REQUIRE_OK(fstat(fd, &st));
	return st.st_ino;
}

TEST(every_tracepoint_is_there)
{
	static const char *const names[] = {
		"gmem_fault", "gmem_event", "gmem_resolve", "gmem_wake", "gmem_watch", "gmem_punch",
	};
	char path[128];

	if (access(TRACING "trace", F_OK))
		SKIP("this kernel has no tracefs");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *format;

		snprintf(path, sizeof(path), EVENTS "%s/format", names[i]);
		format = read_file(path);
		if (CHECK(format))
			CHECK(strstr(format, "field:u64 ino;"));
		free(format);
	}
}

TEST(one_fault_is_traced_from_end_to_end)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	uint64_t g = rig.granule, ino = inode_of(rig.fd);
	struct trap_task task;
	char text[128];

	trace_begin();
	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 2 * g, 8 * g, GMEMFD_MODE_ALL, 0, 0));
	trap_write(&task, rig.map + 5 * g);
	trap_event(rig.context);
	CHECK_OK(trap_copy(rig.fd, 5 * g, g, GMEMFD_RANGE_CLOSED));
	trap_event(rig.context);
	CHECK_OK(gmem_continue(rig.fd, 5 * g, g, 0));
	CHECK_EQ(trap_result(&task), 0);
	CHECK_ERRNO(gmem_zero(rig.fd, 5 * g, g, 0), EEXIST);
	CHECK_OK(gmem_zero(rig.fd, 6 * g, g, 0));
	CHECK_OK(gmem_poison(rig.fd, 7 * g, 2 * g, 0));
	CHECK_OK(gmem_wake(rig.fd, 0, rig.bytes));
	CHECK_OK(gmem_punch(rig.fd, 5 * g, 2 * g));
	CHECK_OK(gmem_unwatch(rig.fd, 0, rig.bytes));
	trace_end();

	CHECK_EQ(traced(ino, "gmem_watch", "first=2 last=9 modes=missing|minor added"), 1);
	CHECK_EQ(traced(ino, "gmem_watch", "first=2 last=9 modes=missing|minor removed"), 1);
	CHECK_EQ(traced(ino, "gmem_fault", "index=5 flags=write"), 1);
	CHECK_EQ(traced(ino, "gmem_fault", "index=5 flags=write|minor"), 1);
	CHECK_EQ(traced(ino, "gmem_event", "index=5 waited_ns="), 2);
	snprintf(text, sizeof(text), "op=copy offset=%#" PRIx64 " len=%#" PRIx64 " done=%" PRIu64, 5 * g, g, g);
	CHECK_EQ(traced(ino, "gmem_resolve", text), 1);
	snprintf(text, sizeof(text), "op=continue offset=%#" PRIx64 " len=%#" PRIx64 " done=%" PRIu64, 5 * g, g, g);
	CHECK_EQ(traced(ino, "gmem_resolve", text), 1);
	snprintf(text, sizeof(text), "op=zero offset=%#" PRIx64 " len=%#" PRIx64 " done=-%d", 5 * g, g, EEXIST);
	CHECK_EQ(traced(ino, "gmem_resolve", text), 1);
	snprintf(text, sizeof(text), "op=zero offset=%#" PRIx64 " len=%#" PRIx64 " done=%" PRIu64, 6 * g, g, g);
	CHECK_EQ(traced(ino, "gmem_resolve", text), 1);
	snprintf(text, sizeof(text), "op=poison offset=%#" PRIx64 " len=%#" PRIx64 " done=%" PRIu64,
		 7 * g, 2 * g, 2 * g);
	CHECK_EQ(traced(ino, "gmem_resolve", text), 1);
	CHECK_EQ(traced(ino, "gmem_wake", "first=5 last=5 woken=1"), 2);
	CHECK_EQ(traced(ino, "gmem_punch", "first=5 last=6"), 1);
}

static const struct field {
	const char *key;
	size_t at;
} fields[] = {
#define FIELD(key, name) { key, offsetof(struct gmemfd_stats, name) }
	FIELD("bytes", bytes), FIELD("allocated", allocated), FIELD("poisoned", poisoned),
	FIELD("punched", punched), FIELD("waiters", waiters), FIELD("watches", watches),
	FIELD("orphans", orphans), FIELD("faults-zero", faults_zero), FIELD("faults-missing", faults_missing),
	FIELD("faults-minor", faults_minor), FIELD("faults-sigbus", faults_sigbus), FIELD("events", events),
	FIELD("copied", copied), FIELD("zeroed", zeroed), FIELD("filled", filled), FIELD("written", written),
	FIELD("continued", continued), FIELD("huge", huge), FIELD("wakes", wakes), FIELD("wait-ns", wait_ns),
#undef FIELD
};

static uint64_t field_of(const struct gmemfd_stats *stats, const struct field *field)
{
	uint64_t value;

	memcpy(&value, (const char *)stats + field->at, sizeof(value));
	return value;
}

static void check_fdinfo(int fd)
{
	struct gmemfd_stats stats = xgmem_stats(fd);
	char path[64], want[1024], *text;
	int n;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint64_t value = field_of(&stats, &fields[i]);

		tap_check(gmem_fdinfo(fd, fields[i].key) == value, false, __FILE__, __LINE__,
			  "%s is %" PRIu64 " as in GMEMFD_STATS", fields[i].key, value);
	}
	n = snprintf(want, sizeof(want), "gmemfd-wait-log2:\t");
	for (int i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		n += snprintf(want + n, sizeof(want) - n, "%llu ", (unsigned long long)stats.wait_log2[i]);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	text = read_file(path);
	REQUIRE(text);
	CHECK(strstr(text, want));
	free(text);
}

TEST(counters_are_exact)
{
	struct trap_rig rig = trap_rig(PAGES, 0, 0);
	struct gmemfd_stats stats, want = { .size = sizeof(want) };
	size_t g = rig.granule;
	struct trap_task tasks[4];
	int src = REQUIRE_FD(memfd_create("trap-see", MFD_CLOEXEC));
	unsigned char *page = xmmap_anon(2 * g);
	uint64_t waits = 0;
	double began;

	want.bytes = rig.bytes;
	stats = xgmem_stats(rig.fd);
	CHECK(!memcmp(&stats, &want, sizeof(want)));
	check_fdinfo(rig.fd);
	REQUIRE_OK(ftruncate(src, 2 * g));

	/* 0, 1: nobody watches. */
	CHECK_EQ(TOUCH_READ(rig.map), 0);
	CHECK_EQ(TOUCH_WRITE(rig.map + g, 1), 0);
	want.faults_zero = 2;
	/* 2, 3: provided beforehand. */
	CHECK_OK(trap_copy(rig.fd, 2 * g, g, 0));
	want.copied = g;
	CHECK_EQ(pwrite(rig.fd, page, g, 3 * g), g);
	CHECK_EQ(pwrite(rig.fd, page, g, 3 * g), g);
	want.written = g;
	want.allocated = 4 * g;

	REQUIRE_OK(gmem_watch(rig.fd, rig.context, 4 * g, 12 * g, GMEMFD_MODE_ALL, 0, GMEMFD_POLICY_POISON));
	want.watches = 1;
	/* 4: three wait, then one waits for it closed. 5: one waits. */
	began = now_seconds();
	for (int i = 0; i < 4; i++)
		trap_read(&tasks[i], rig.map + (i < 3 ? 4 : 5) * g);
	REQUIRE(trap_waiters(rig.fd, 4));
	want.faults_missing = 4;
	want.events = 2;
	want.waiters = 4;
	stats = xgmem_stats(rig.fd);
	memcpy(want.wait_log2, stats.wait_log2, sizeof(want.wait_log2));
	want.wait_ns = stats.wait_ns;
	CHECK_EQ(stats.wait_ns, 0);
	CHECK(!memcmp(&stats, &want, sizeof(want)));
	check_fdinfo(rig.fd);
	CHECK_OK(gmem_fill(rig.fd, 4 * g, g, src, 0, GMEMFD_RANGE_CLOSED));
	REQUIRE(wait_for(xgmem_stats(rig.fd).faults_minor == 3, 10));
	want.filled = g;
	want.faults_minor = 3;
	want.events++;
	want.wakes = 3;
	CHECK_OK(gmem_continue(rig.fd, 4 * g, g, 0));
	want.continued = g;
	want.wakes += 3;
	CHECK_OK(gmem_zero(rig.fd, 5 * g, 2 * g, 0));
	want.zeroed = 2 * g;
	want.wakes++;
	for (int i = 0; i < 4; i++)
		CHECK_EQ(trap_result(&tasks[i]), 0);
	waits = 4 + 3;
	/* 7, 8: poisoned; touched once. 9: closed, and never opened. */
	CHECK_OK(gmem_poison(rig.fd, 7 * g, 2 * g, 0));
	want.poisoned = 2 * g;
	CHECK_EQ(TOUCH_READ(rig.map + 7 * g), SIGBUS);
	want.faults_sigbus = 1;
	CHECK_OK(trap_copy(rig.fd, 9 * g, g, GMEMFD_RANGE_CLOSED));
	want.copied += g;
	want.allocated += 4 * g;
	/* 2, 5 and a hole. */
	CHECK_OK(gmem_punch(rig.fd, 2 * g, g));
	CHECK_OK(gmem_punch(rig.fd, 5 * g, g));
	CHECK_OK(gmem_punch(rig.fd, 10 * g, g));
	want.punched = 2 * g;
	want.allocated -= 2 * g;
	/* The handler goes. */
	REQUIRE_OK(close(rig.context));
	CHECK_EQ(TOUCH_READ(rig.map + 12 * g), SIGBUS);
	want.faults_sigbus++;
	want.orphans = 1;
	want.waiters = 0;
	/* Nothing that is refused counts. */
	CHECK_ERRNO(gmem_zero(rig.fd, 0, g, 0), EEXIST);
	CHECK_ERRNO(gmem_continue(rig.fd, 0, g, 0), EEXIST);
	CHECK_ERRNO(gmem_poison(rig.fd, 0, g, 0), EEXIST);

	stats = xgmem_stats(rig.fd);
	memcpy(want.wait_log2, stats.wait_log2, sizeof(want.wait_log2));
	want.wait_ns = stats.wait_ns;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint64_t is = field_of(&stats, &fields[i]);
		uint64_t should = field_of(&want, &fields[i]);

		tap_check(is == should, false, __FILE__, __LINE__, "%s is %" PRIu64 ", to be %" PRIu64, fields[i].key,
			  is, should);
	}
	CHECK(stats.wait_ns > 0 && stats.wait_ns < (now_seconds() - began) * waits * 1e9);
	for (int i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		waits -= stats.wait_log2[i];
	CHECK_EQ(waits, 0);
	check_fdinfo(rig.fd);
}

/* A wait that takes at least so long is in a bucket that is high enough, and alone. */
TEST(wait_is_in_the_bucket_of_its_length)
{
	struct trap_rig rig = trap_rig(PAGES, GMEMFD_MODE_MISSING, 0);
	struct gmemfd_stats stats;
	struct trap_task task;
	int bucket = -1;

	trap_read(&task, rig.map);
	trap_event(rig.context);
	sleep_seconds(0.02);
	CHECK_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	trap_result(&task);
	stats = xgmem_stats(rig.fd);
	CHECK(stats.wait_ns >= 20000000);
	for (int i = 0; i < GMEMFD_WAIT_BUCKETS; i++) {
		if (!stats.wait_log2[i])
			continue;
		CHECK_EQ(bucket, -1);
		CHECK_EQ(stats.wait_log2[i], 1);
		bucket = i;
	}
	REQUIRE(bucket >= 0);
	CHECK(stats.wait_ns >= 1ull << bucket);
	CHECK(bucket == GMEMFD_WAIT_BUCKETS - 1 || stats.wait_ns < 2ull << bucket);
}

TEST(huge_folios_are_counted)
{
	struct trap_rig rig;

	gmem_need_huge();
	rig = trap_rig(2, 0, GMEMFD_CREATE_HUGE);
	REQUIRE_OK(trap_copy(rig.fd, 0, rig.granule, 0));
	CHECK_EQ(TOUCH_READ(rig.map + rig.granule), 0);
	CHECK_EQ(xgmem_stats(rig.fd).huge, 2);
	CHECK_EQ(xgmem_stats(rig.fd).allocated, rig.bytes);
	check_fdinfo(rig.fd);
}
