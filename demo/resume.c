// SPDX-License-Identifier: GPL-2.0-only
/*
 * What `make demo` shows: an unmodified QEMU resumes a saved Linux guest at once, although next to nothing of its
 * memory has been read from the RAM image; each page is read when the guest or QEMU touches it, the rest in the
 * background.
 */
#include <sys/stat.h>
#include <sys/utsname.h>

#include "vmm.h"

#define DIR_ "/tmp/vmm"
#define ROUND_TICKS (VMM_FILLED / VMM_TICK)
/* In the middle of a round: whatever was lost shows before the next one has ended. */
#define SAVED_TICKS (ROUND_TICKS * 3 / 2)
#define SECONDS 120

/* So slow that the guest comes first, as it would with an image that is not in memory already. */
static const char *const options[] = { "--policy", "hold", "--rate", "8M", NULL };

static double mib(unsigned long long bytes)
{
	return bytes / 1048576.0;
}

/* What a file takes on its disk: the image is sparse. */
static double mib_of(const char *path)
{
	struct stat st;

	REQUIRE_OK(stat(path, &st));
	return mib(st.st_blocks * 512ull);
}

/* The first line that QEMU prints of itself. */
static void qemu_version(char *line, size_t size)
{
	int fds[2];
	ssize_t n;
	pid_t pid;

	REQUIRE_OK(pipe2(fds, O_CLOEXEC));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		if (dup2(fds[1], 1) >= 0)
			execl(VMM_QEMU, VMM_QEMU, "--version", NULL);
		_exit(127);
	}
	close(fds[1]);
	n = REQUIRE_OK(read(fds[0], line, size - 1));
	close(fds[0]);
	waitpid(pid, NULL, 0);
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	REQUIRE(line[0]);
}

static void tell_versions(void)
{
	struct utsname kernel;
	char qemu[256];

	REQUIRE_OK(uname(&kernel));
	qemu_version(qemu, sizeof(qemu));
	printf("Linux %s and %s, as the distribution ships them\n", kernel.release, qemu);
}

int main(void)
{
	struct gmemfd_stats loaded, first, all;
	double began, running, spoke;
	struct vmm_said last, said;
	struct vmm v;
	int gmem;

	setvbuf(stdout, NULL, _IOLBF, 0);
	tell_versions();
	printf("a Linux guest with %lu MiB boots, fills %lu MiB, and goes through them page by page\n", VMM_BYTES >> 20,
	       VMM_FILLED * 4096 >> 20);
	began = now_seconds();
	last = vmm_save(DIR_, SAVED_TICKS);
	printf("its last line before the stop:    %s\n", last.line);
	printf("saved after %.1f s: %.1f MiB in the RAM image, %.1f MiB of other state; QEMU has ended\n",
	       now_seconds() - began, mib_of(DIR_ "/ram"), mib_of(DIR_ "/state"));

	puts("gmemctl run --image ram --policy hold --rate 8M -- "
	     "qemu-system-x86_64 ... mem-path={path} ... -incoming defer");
	began = now_seconds();
	vmm_resume(&v, DIR_, options);
	gmem = vmm_gmem(v.qemu, NULL);
	loaded = xgmem_stats(gmem);
	vmm_cont(&v);
	running = now_seconds();
	said = vmm_wait_tick(&v, last.tick + 1, SECONDS);
	spoke = now_seconds();
	first = xgmem_stats(gmem);
	printf("its CPUs ran %.2f s after the command, with %.1f MiB of its memory there\n", running - began,
	       mib(loaded.allocated));
	printf("its first line after the resume:  %s\n", said.line);
	printf("that was %.2f s later, with %.1f of %lu MiB\n", spoke - running, mib(first.allocated), VMM_BYTES >> 20);

	/* To the end of the round after this one: every page has been looked at since. */
	said = vmm_wait_tick(&v, (last.tick / ROUND_TICKS + 2) * ROUND_TICKS, SECONDS);
	REQUIRE(wait_for(xgmem_stats(gmem).allocated == VMM_BYTES, SECONDS));
	all = xgmem_stats(gmem);
	printf("all of it was there after %.1f s: %.1f MiB read from the image, %.1f MiB of holes in it\n",
	       now_seconds() - began, mib(all.filled + all.copied), mib(all.zeroed));
	printf("on demand: %llu pages, %.1f ms each; the others came along with them or in the background\n",
	       (unsigned long long)all.events, all.faults_missing ? all.wait_ns / 1e6 / all.faults_missing : 0);
	printf("%s, none of them wrong\n", said.line);
	REQUIRE_EQ(vmm_quit(&v), 0);
	REQUIRE(all.events);
	REQUIRE_EQ(all.faults_zero, 0);
	REQUIRE_EQ(all.faults_sigbus, 0);
	REQUIRE(first.allocated < VMM_BYTES / 2);
	puts("verdict: the guest went on where it was, long before its memory was there, and lost nothing");
	return 0;
}
