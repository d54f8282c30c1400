/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For tests and the demo: an unmodified QEMU with a small Linux guest (tests/vmm/guest/init.c), its monitor, what the
 * guest says on its console, and its memory file. Every function ends the case if it cannot do what it says.
 *
 * Everything that a machine leaves behind lies in a directory: the RAM image, the saved state, console and logs.
 */
#ifndef GMEMFD_TESTS_VMM_H
#define GMEMFD_TESTS_VMM_H

#include "gmem.h"

/* The guest's memory. It fills VMM_FILLED pages of it, and goes through all of them in a round. */
#define VMM_BYTES (192ul << 20)
#define VMM_FILLED ((64ul << 20) / 4096)
#define VMM_TICK 128

/* Where the parts are in the bench's guest: see tests/vmm/resume.files. */
#define VMM_QEMU "/usr/bin/qemu-system-x86_64"
#define VMM_GMEMCTL "/build/gmemctl/gmemctl"
#define VMM_KERNEL "/bench/vmlinuz"
#define VMM_INITRD "/bench/guest.cpio"

struct vmm {
	const char *dir;
	pid_t child;		/* QEMU, or gmemctl that has started it; 0: it has ended */
	pid_t qemu;		/* 0: not known yet */
	int qmp;
	char lines[65536];	/* of the monitor, not taken yet */
	size_t len;
};

/* What the guest has said since QEMU was started. */
struct vmm_said {
	unsigned long first;	/* the first tick; 0: none */
	unsigned long tick;	/* the last one */
	char line[128];		/* in its words */
};

/* Boots the guest with its memory in the file DIR/ram, lets it go TICKS ticks, and saves it: DIR/ram and DIR/state. */
struct vmm_said vmm_save(const char *dir, unsigned long ticks);
/* Whether this has been done. */
bool vmm_saved(const char *dir);

/*
 * Starts QEMU under `gmemctl run` with these options (ended by NULL), stopped, and loads DIR/state into it. The guest
 * runs from vmm_cont() on.
 */
void vmm_resume(struct vmm *v, const char *dir, const char *const *options);
void vmm_cont(struct vmm *v);
/* Has it stop, and comes back when it has. */
void vmm_stop(struct vmm *v);
/* QEMU ends by itself; returns the wait status of what was started, 0 if that had ended before. */
int vmm_quit(struct vmm *v);
/* The wait status of what was started, when it ends within so many seconds (times TEST_SLOW). */
int vmm_wait(struct vmm *v, double seconds);

/* Ends the case if the guest found something wrong with its memory, or its kernel did. */
struct vmm_said vmm_said(const struct vmm *v);
/* Waits until the guest has come to this tick. */
struct vmm_said vmm_wait_tick(struct vmm *v, unsigned long tick, double seconds);
/* The last words of consoles and logs, as lines of explanation. */
void vmm_explain(const struct vmm *v);

/* A descriptor of the gmem file that this process has open, and by which number it has it. */
int vmm_gmem(pid_t pid, int *number);
/* A figure of its VM in KVM's debugfs. */
long long vmm_kvm_stat(const struct vmm *v, const char *name);
/* The page server that gmemctl runs; 0 if it has none just now. */
pid_t vmm_server(const struct vmm *v);

#endif
