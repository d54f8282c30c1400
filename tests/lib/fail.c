// SPDX-License-Identifier: GPL-2.0-only
/*
 * Failing on purpose: see fail.h.
 */
#include "fail.h"

#define DEBUGFS "/sys/kernel/debug/"

static __thread int nth_fd = -1;

static void set(const char *attr, const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", attr, name);
	tap_check(!write_file(path, "%s", value), true, __FILE__, __LINE__, "write %s to %s", value, path);
}

void fail_prepare(enum fail_what what)
{
	static const char *const attrs[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

	if (access("/proc/self/fail-nth", F_OK) || access(DEBUGFS "failslab", F_OK))
		SKIP("this kernel has no fault injection");
	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		bool wanted = (i == 2) == (what == FAIL_USERCOPY);

		set(attrs[i], "verbose", "0");
		set(attrs[i], "probability", "0");
		/* What must come from the first page of memory never does: it is neither counted nor does it fail. */
		set(attrs[i], "stacktrace-depth", "0");
		set(attrs[i], "require-start", wanted ? "0" : "1");
	}
	set("failslab", "ignore-gfp-wait", "N");
	set("fail_page_alloc", "ignore-gfp-wait", "N");
	set("fail_page_alloc", "ignore-gfp-highmem", "N");
	set("fail_page_alloc", "min-order", "0");
}

static void write_nth(unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);
	ssize_t n;

	if (nth_fd < 0)
		nth_fd = REQUIRE_FD(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC));
	/* The write may be what fails. */
	do {
		n = pwrite(nth_fd, text, len, 0);
	} while (n < 0 && errno == EFAULT);
	REQUIRE_EQ(n, len);
}

void fail_arm(unsigned int nth)
{
	REQUIRE(nth);
	write_nth(nth);
}

bool fail_disarm(void)
{
	char text[16] = "";
	int err = errno;
	ssize_t n = pread(nth_fd, text, sizeof(text) - 1, 0);
	bool fired = n > 0 && atoi(text) == 0;

	/* The read is the next that counts: if it fails, nothing before it has. */
	if (n < 0)
		REQUIRE_EQ(errno, EFAULT);
	write_nth(0);
	errno = err;
	return fired;
}

unsigned int fail_next(unsigned int nth)
{
	return nth < FAIL_ALL ? nth + 1 : nth + nth / 4;
}

void fail_pages_from(unsigned int order)
{
	bool none = order == ~0u;
	char text[16];

	snprintf(text, sizeof(text), "%u", none ? 1 : order);
	set("fail_page_alloc", "task-filter", "Y");
	set("fail_page_alloc", "min-order", text);
	set("fail_page_alloc", "times", "-1");
	set("fail_page_alloc", "interval", "1");
	set("fail_page_alloc", "probability", none ? "0" : "100");
	REQUIRE_OK(write_file("/proc/thread-self/make-it-fail", "%d", !none));
}
