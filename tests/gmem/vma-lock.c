// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults under the lock of their mapping: the feature is told where the kernel has such locks, and a page that is there
 * is mapped without the lock of all the address space.
 */
#include "gmem.h"

#define TRACING "/sys/kernel/tracing/"
#define EVENT TRACING "events/mmap_lock/mmap_lock_start_locking/enable"
#define TOUCHES 16
/* Farther apart than a fault maps pages around itself. */
#define STEP ((size_t)1 << 20)

/* Told by a function that exists only there. */
static bool kernel_has_vma_locks(void)
{
	bool has = !write_file(TRACING "kprobe_events", "p:vma_lock_test lock_vma_under_rcu\n");

	if (!has)
		REQUIRE_EQ(errno, ENOENT);
	else
		REQUIRE_OK(write_file(TRACING "kprobe_events", "-:vma_lock_test\n"));
	return has;
}

static bool feature(void)
{
	struct gmemfd_info info = { .size = sizeof(info) };

	REQUIRE_OK(ioctl(gmem_dev(), GMEMFD_INFO, &info));
	return info.features & GMEMFD_FEATURE_VMA_LOCK;
}

TEST(feature_is_the_kernels)
{
	if (access(TRACING "kprobe_events", F_OK))
		SKIP("this kernel has no kprobes");
	CHECK_EQ(feature(), kernel_has_vma_locks());
}

/* How often this thread has asked for the lock of its address space since the trace was emptied. */
static unsigned int locked(void)
{
	char *text = read_file(TRACING "trace");
	unsigned int n = 0;

	REQUIRE(text);
	for (char *at = text; (at = strstr(at, "mmap_lock_start_locking:")); at++)
		n++;
	free(text);
	return n;
}

static void empty(const char *path)
{
	REQUIRE_OK(close(REQUIRE_FD(open(path, O_WRONLY | O_TRUNC | O_CLOEXEC))));
}

static void trace(bool on)
{
	REQUIRE_OK(write_file(EVENT, "%d", on));
}

/* How often reading a page here and there of a file that has them takes the lock. */
static unsigned int reading_locks(int fd)
{
	unsigned char *map = xmmap(NULL, TOUCHES * STEP, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned int faults, sum = 0;

	REQUIRE_OK(write_file(TRACING "set_event_pid", "%d", getpid()));
	empty(TRACING "trace");
	trace(true);
	for (size_t i = 0; i < TOUCHES; i++)
		sum += *(volatile unsigned char *)(map + i * STEP);
	trace(false);
	faults = locked();
	/* What does take it is seen. */
	trace(true);
	REQUIRE_OK(munmap(map, STEP));
	trace(false);
	CHECK(locked() > faults);
	empty(TRACING "set_event_pid");
	CHECK_EQ(sum, TOUCHES);
	REQUIRE_OK(munmap(map + STEP, (TOUCHES - 1) * STEP));
	return faults;
}

TEST(present_page_is_mapped_without_the_mmap_lock)
{
	int gmem = xgmem(TOUCHES * STEP), memfd = REQUIRE_FD(memfd_create("theirs", MFD_CLOEXEC));
	unsigned char *page = xmmap_anon(page_size());
	unsigned int ours, theirs;

	if (access(EVENT, F_OK))
		SKIP("this kernel does not trace its mmap lock");
	REQUIRE_OK(ftruncate(memfd, TOUCHES * STEP));
	memset(page, 1, page_size());
	for (size_t i = 0; i < TOUCHES; i++) {
		REQUIRE_EQ(pwrite(gmem, page, page_size(), i * STEP), page_size());
		REQUIRE_EQ(pwrite(memfd, page, page_size(), i * STEP), page_size());
	}
	theirs = reading_locks(memfd);
	ours = reading_locks(gmem);
	tap_diag("%d faults took the lock %u times, those of a memfd %u times", TOUCHES, ours, theirs);
	/* The thread may fault for itself, too. */
	if (feature())
		CHECK(ours < TOUCHES / 2 || ours <= theirs);
	else
		CHECK(ours >= TOUCHES);
}
