// SPDX-License-Identifier: GPL-2.0-only
/*
 * memfd + userfaultfd with less typing: see peer.h.
 */
#include "peer.h"

#include <sys/syscall.h>

#include "gmem.h"
#include "guest.h"

static int start(int uffd, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	REQUIRE_OK(ioctl(uffd, UFFDIO_API, &api));
	return uffd;
}

int xuffd(uint64_t features)
{
	return start(REQUIRE_FD(syscall(SYS_userfaultfd, O_CLOEXEC)), features);
}

int xuffd_gmem(uint64_t features)
{
	return start(REQUIRE_FD(ioctl(gmem_dev(), USERFAULTFD_IOC_NEW, O_CLOEXEC)), features);
}

int xmemfd(uint64_t bytes)
{
	int fd = REQUIRE_FD(memfd_create("peer", MFD_CLOEXEC));

	REQUIRE_OK(ftruncate(fd, bytes));
	return fd;
}

void xuffd_register(int uffd, void *addr, size_t len, uint64_t modes)
{
	struct uffdio_register args = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = modes,
	};

	REQUIRE_OK(ioctl(uffd, UFFDIO_REGISTER, &args));
}

int uffd_copy(int uffd, void *dst, const void *src, size_t len, uint64_t mode)
{
	struct uffdio_copy args = {
		.dst = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.len = len,
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_COPY, &args);
}

int uffd_continue(int uffd, void *addr, size_t len, uint64_t mode)
{
	struct uffdio_continue args = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_CONTINUE, &args);
}

/* --- KVM on it ----------------------------------------------------------------------------------------- */

#define CODE 0x1000
#define DATA 0x2000
#define SIZE 0x3000

GUEST_CODE(peer_reads, ".code16", "movw 0x2000, %ax; movw $0x10, %dx; outw %ax, %dx; hlt");

struct prefault {
	int vcpu;
	pid_t tid;
	int ret;
};

static void *prefault_data(void *arg)
{
	struct kvm_pre_fault_memory args = { .gpa = DATA, .size = SIZE - DATA };
	struct prefault *p = arg;

	__atomic_store_n(&p->tid, gettid(), __ATOMIC_RELEASE);
	p->ret = ioctl(p->vcpu, KVM_PRE_FAULT_MEMORY, &args);
	return NULL;
}

bool peer_kvm_is_interruptible(bool prefault)
{
	unsigned char *map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, xmemfd(SIZE), 0);
	unsigned char *page = xmmap_anon(page_size());
	int uffd = xuffd(UFFD_FEATURE_MISSING_SHMEM);
	struct prefault p = { .ret = -1 };
	struct uffd_msg msg;
	pthread_t thread;
	struct guest g;
	char state;

	memcpy(map + CODE, peer_reads, GUEST_CODE_SIZE(peer_reads));
	xuffd_register(uffd, map, SIZE, UFFDIO_REGISTER_MODE_MISSING);
	guest_create(&g);
	guest_add_memory(&g, 0, map, SIZE);
	guest_add_vcpu(&g);
	guest_real_mode(&g, 0, CODE);
	p.vcpu = g.vcpus[0].fd;
	if (prefault)
		thread = thread_start(prefault_data, &p);
	else
		guest_start(&g, 0);
	/* It is queued by who has got ready to sleep. */
	REQUIRE_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	REQUIRE_EQ(msg.arg.pagefault.address & -page_size(), (uintptr_t)map + DATA);
	state = task_state(__atomic_load_n(prefault ? &p.tid : &g.vcpus[0].tid, __ATOMIC_ACQUIRE));
	REQUIRE(state == 'S' || state == 'D');
	REQUIRE_OK(uffd_copy(uffd, map + DATA, page, page_size(), 0));
	if (prefault) {
		thread_join(thread);
		REQUIRE_EQ(p.ret, 0);
	} else {
		REQUIRE(guest_join(&g, 0, 10));
		REQUIRE_EQ(g.vcpus[0].last.exit, KVM_EXIT_IO);
	}
	guest_destroy(&g);
	REQUIRE_OK(close(uffd));
	REQUIRE_OK(munmap(map, SIZE));
	return state == 'S';
}
