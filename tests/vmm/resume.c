// SPDX-License-Identifier: GPL-2.0-only
/*
 * An unmodified QEMU resumes a Linux guest whose memory is a gmem file that gmemctl serves from the RAM image: what was
 * read for it, what the guest sees, and what becomes of it when the page server or QEMU is killed.
 */
#include "vmm.h"

#define DIR_ "/tmp/vmm"
#define ROUND_TICKS (VMM_FILLED / VMM_TICK)
/* The end of the round after the one that this tick is of: each page has been gone through since. */
#define ALL_VERIFIED(tick) (((tick) / ROUND_TICKS + 2) * ROUND_TICKS)
/* It is saved in the middle of a round, after one in which every page was written anew. */
#define SAVED_TICKS (ROUND_TICKS * 3 / 2)
/* One page after the other over a slow machine's faults. */
#define ROUND_SECONDS 120

static const char *const on_demand[] = { "--no-background", "--policy", "hold", NULL };
static const char *const in_background[] = { "--policy", "hold", NULL };

/* Guest and image are made once, by whichever case comes first. */
static unsigned long saved_tick(void)
{
	static const char *const path = DIR_ "/tick";
	struct vmm_said said;

	if (!vmm_saved(DIR_)) {
		said = vmm_save(DIR_, SAVED_TICKS);
		tap_diag("saved after: %s", said.line);
		REQUIRE_OK(close(REQUIRE_FD(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600))));
		REQUIRE_OK(write_file(path, "%lu", said.tick));
	}
	return read_number(path);
}

/* Nothing of the VM is left: no process, and nobody has the module. */
static void check_nothing_left(void)
{
	CHECK(wait_for(read_number("/sys/module/gmemfd/refcnt") == 0, 20));
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

TEST_LIMIT(saves, 300)
{
	CHECK(saved_tick() >= SAVED_TICKS);
}

TEST_LIMIT(resumes_lazily, 300)
{
	unsigned long tick = saved_tick();
	struct gmemfd_stats loaded, some, all;
	struct vmm_said said;
	struct vmm v;
	int gmem;

	vmm_resume(&v, DIR_, on_demand);
	gmem = vmm_gmem(v.qemu, NULL);
	loaded = xgmem_stats(gmem);
	CHECK_EQ(loaded.bytes, VMM_BYTES);
	CHECK_EQ(loaded.watches, 1);
	/* What QEMU reads for itself of a guest that does not run yet: next to nothing. */
	CHECK(loaded.allocated < VMM_BYTES / 16);
	CHECK_EQ(vmm_said(&v).tick, 0);

	vmm_cont(&v);
	vmm_wait_tick(&v, tick + 4, ROUND_SECONDS);
	/* On a busy host it has come further by now; how far and with how much is asked while it stands. */
	vmm_stop(&v);
	said = vmm_said(&v);
	some = xgmem_stats(gmem);
	tap_diag("%s: %llu KiB before it ran, %llu KiB of %lu then", said.line, loaded.allocated >> 10,
		 some.allocated >> 10, VMM_BYTES >> 10);
	CHECK(some.faults_missing > loaded.faults_missing);
	/* Its kernel and what it has gone through since, with the pages that come along. */
	CHECK(some.allocated < VMM_BYTES / 4 + 2 * (said.tick - tick) * VMM_TICK * 4096);
	CHECK_EQ(some.faults_zero, 0);
	CHECK_EQ(some.faults_sigbus, 0);
	/* It goes on where it was. */
	if (!CHECK_EQ(said.first, tick + 1))
		vmm_explain(&v);
	vmm_cont(&v);

	/* All it had filled is as it was, and what it has written since then stays. */
	said = vmm_wait_tick(&v, ALL_VERIFIED(tick), ROUND_SECONDS);
	all = xgmem_stats(gmem);
	tap_diag("%s: %llu KiB of %lu after a round", said.line, all.allocated >> 10, VMM_BYTES >> 10);
	CHECK(all.allocated >= VMM_FILLED * 4096);
	CHECK_EQ(vmm_quit(&v), 0);
	CHECK_EQ(xgmem_stats(gmem).waiters, 0);
	close(gmem);
	check_nothing_left();
}

TEST_LIMIT(fills_in_the_background, 300)
{
	unsigned long tick = saved_tick();
	struct gmemfd_stats stats;
	struct vmm v;
	int gmem;

	vmm_resume(&v, DIR_, in_background);
	gmem = vmm_gmem(v.qemu, NULL);
	vmm_cont(&v);
	CHECK(wait_for(xgmem_stats(gmem).allocated == VMM_BYTES, ROUND_SECONDS));
	vmm_wait_tick(&v, ALL_VERIFIED(tick), ROUND_SECONDS);
	stats = xgmem_stats(gmem);
	CHECK_EQ(stats.faults_zero, 0);
	CHECK_EQ(stats.faults_sigbus, 0);
	CHECK_EQ(vmm_quit(&v), 0);
	close(gmem);
	check_nothing_left();
}

TEST_LIMIT(with_huge_pages, 300)
{
	static const char *const options[] = { "--no-background", "--policy", "hold", "--huge", NULL };
	unsigned long tick = saved_tick();
	struct gmemfd_stats stats;
	struct vmm v;
	int gmem;

	vmm_resume(&v, DIR_, options);
	gmem = vmm_gmem(v.qemu, NULL);
	vmm_cont(&v);
	vmm_wait_tick(&v, ALL_VERIFIED(tick), ROUND_SECONDS);
	stats = xgmem_stats(gmem);
	CHECK_EQ(stats.faults_zero, 0);
	CHECK_EQ(stats.faults_sigbus, 0);
	CHECK(stats.huge >= VMM_FILLED * 4096 / HPAGE_SIZE);
	/* QEMU's mapping is such that the guest itself gets them, too. */
	CHECK(vmm_kvm_stat(&v, "pages_2m") > 0);
	CHECK_EQ(vmm_quit(&v), 0);
	close(gmem);
	check_nothing_left();
}

TEST_LIMIT(server_killed, 300)
{
	unsigned long tick = saved_tick();
	struct gmemfd_stats stats;
	pid_t server;
	struct vmm v;
	int gmem;

	vmm_resume(&v, DIR_, on_demand);
	gmem = vmm_gmem(v.qemu, NULL);
	vmm_cont(&v);
	/* gmemctl starts another each time, which goes on where the dead one was. */
	for (int i = 1; i <= 3; i++) {
		vmm_wait_tick(&v, tick + 8 * i, ROUND_SECONDS);
		server = vmm_server(&v);
		REQUIRE(server > 0);
		REQUIRE_OK(kill(server, SIGKILL));
		CHECK(wait_for(vmm_server(&v) > 0 && vmm_server(&v) != server, 20));
	}
	vmm_wait_tick(&v, ALL_VERIFIED(tick), ROUND_SECONDS);
	stats = xgmem_stats(gmem);
	CHECK_EQ(stats.orphans, 0);
	CHECK_EQ(stats.faults_zero, 0);
	CHECK_EQ(stats.faults_sigbus, 0);
	CHECK_EQ(vmm_quit(&v), 0);
	close(gmem);
	check_nothing_left();
}

/* The guest says nothing more: a tick may have been on its way to the console. */
static bool stands_still(const struct vmm *v)
{
	double end = now_seconds() + 20 * tap_slow();
	struct vmm_said before, now = vmm_said(v);

	do {
		before = now;
		sleep_seconds(tap_slow());
		now = vmm_said(v);
	} while (now.tick != before.tick && now_seconds() < end);
	return now.tick == before.tick;
}

/* Another gmemctl for what a dead one has left. */
static pid_t attach(const struct vmm *v, int number)
{
	char pid[16], fd[16];
	pid_t child;

	snprintf(pid, sizeof(pid), "%d", v->qemu);
	snprintf(fd, sizeof(fd), "%d", number);
	child = REQUIRE_OK(fork());
	if (!child) {
		execl(VMM_GMEMCTL, "gmemctl", "attach", "--pid", pid, "--fd", fd, "--image", DIR_ "/ram",
		      "--state", DIR_ "/served", "--quiet", NULL);
		_exit(127);
	}
	return child;
}

TEST_LIMIT(gmemctl_killed, 300)
{
	static const char *const options[] = { "--no-background", "--policy", "hold", "--state", DIR_ "/served", NULL };
	unsigned long tick = saved_tick();
	struct gmemfd_stats stats;
	int gmem, number;
	struct vmm v;
	pid_t second;

	REQUIRE(!unlink(DIR_ "/served") || errno == ENOENT);
	vmm_resume(&v, DIR_, options);
	gmem = vmm_gmem(v.qemu, &number);
	vmm_cont(&v);
	vmm_wait_tick(&v, tick + 4, ROUND_SECONDS);
	REQUIRE_OK(kill(v.child, SIGKILL));
	CHECK_EQ(WTERMSIG(vmm_wait(&v, 20)), SIGKILL);

	/* The server has gone with it. A CPU runs into a page that nobody brings, and the guest stands still. */
	CHECK(wait_for(xgmem_stats(gmem).orphans == 1, 10));
	CHECK(wait_for(xgmem_stats(gmem).waiters >= 1, 20));
	CHECK(stands_still(&v));
	stats = xgmem_stats(gmem);
	CHECK(stats.waiters >= 1);
	CHECK(stats.allocated < VMM_BYTES / 2);
	CHECK_EQ(stats.faults_sigbus, 0);

	/* It ends as soon as all is there; QEMU does not need it any more then. */
	second = attach(&v, number);
	CHECK_EQ(child_wait(second, ROUND_SECONDS), 0);
	CHECK_EQ(xgmem_stats(gmem).allocated, VMM_BYTES);
	vmm_wait_tick(&v, ALL_VERIFIED(tick), ROUND_SECONDS);
	stats = xgmem_stats(gmem);
	CHECK_EQ(stats.waiters, 0);
	CHECK_EQ(stats.faults_zero, 0);
	CHECK_EQ(stats.faults_sigbus, 0);
	vmm_quit(&v);
	close(gmem);
	check_nothing_left();
}

/*
 * Under the policy of poison the guest does not go on with what it has not got. KVM_RUN fails, and QEMU stops it, or
 * ends when it wants to show the instruction and cannot read it either.
 */
TEST_LIMIT(gmemctl_killed_poison, 300)
{
	static const char *const options[] = { "--no-background", "--policy", "poison", NULL };
	unsigned long tick = saved_tick();
	struct gmemfd_stats stats;
	struct vmm v;
	int gmem;

	vmm_resume(&v, DIR_, options);
	gmem = vmm_gmem(v.qemu, NULL);
	vmm_cont(&v);
	vmm_wait_tick(&v, tick + 4, ROUND_SECONDS);
	REQUIRE_OK(kill(v.child, SIGKILL));
	CHECK_EQ(WTERMSIG(vmm_wait(&v, 20)), SIGKILL);
	CHECK(wait_for(xgmem_stats(gmem).faults_sigbus > 0, 20));
	CHECK(stands_still(&v));
	stats = xgmem_stats(gmem);
	CHECK(vmm_said(&v).tick < ALL_VERIFIED(tick));
	CHECK_EQ(stats.faults_zero, 0);
	CHECK_EQ(stats.waiters, 0);
	if (kill(v.qemu, SIGKILL))
		CHECK_EQ(errno, ESRCH);
	close(gmem);
	check_nothing_left();
}

TEST_LIMIT(vmm_killed, 300)
{
	unsigned long tick = saved_tick();
	struct vmm v;
	pid_t server;
	int gmem, status;

	vmm_resume(&v, DIR_, on_demand);
	gmem = vmm_gmem(v.qemu, NULL);
	server = vmm_server(&v);
	REQUIRE(server > 0);
	vmm_cont(&v);
	vmm_wait_tick(&v, tick + 2, ROUND_SECONDS);
	/* Killed while its vCPUs wait for pages: the server does not answer any more. */
	REQUIRE_OK(kill(server, SIGSTOP));
	CHECK(wait_for(xgmem_stats(gmem).waiters > 0, 20));
	REQUIRE_OK(kill(v.qemu, SIGKILL));
	CHECK(wait_for(xgmem_stats(gmem).waiters == 0, 10));
	close(gmem);
	status = vmm_wait(&v, 20);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 128 + SIGKILL);
	check_nothing_left();
}
