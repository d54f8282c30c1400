// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the small KVM guest that guest.h promises.
 */
#include "guest.h"

#define CR0_PE (1ul << 0)
#define CR0_ET (1ul << 4)
#define CR0_WP (1ul << 16)
#define CR0_PG (1ul << 31)
#define CR4_PAE (1ul << 5)
#define EFER_LME (1ul << 8)
#define EFER_LMA (1ul << 10)
#define PTE_PRESENT (1ul << 0)
#define PTE_WRITE (1ul << 1)
#define PTE_HUGE (1ul << 7)
#define MAX_CPUID 256

/* Intel's real mode wants three pages of guest physical space; anywhere that no test puts memory. */
#define TSS_ADDRESS 0xfffbd000ul

void guest_create(struct guest *g)
{
	memset(g, 0, sizeof(*g));
	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		SKIP("this machine has no KVM");
	REQUIRE(g->kvm >= 0);
	REQUIRE_EQ(ioctl(g->kvm, KVM_GET_API_VERSION, 0), KVM_API_VERSION);
	g->run_size = REQUIRE_OK(ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	g->vm = REQUIRE_FD(ioctl(g->kvm, KVM_CREATE_VM, 0));
	REQUIRE_OK(ioctl(g->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS));
}

void guest_destroy(struct guest *g)
{
	for (int i = 0; i < g->nr_vcpus; i++) {
		REQUIRE_OK(munmap(g->vcpus[i].run, g->run_size));
		REQUIRE_OK(close(g->vcpus[i].fd));
	}
	REQUIRE_OK(close(g->vm));
	REQUIRE_OK(close(g->kvm));
	g->nr_vcpus = 0;
}

int guest_add_memory_flags(struct guest *g, uint64_t gpa, void *host, size_t len, uint32_t flags)
{
	int slot = g->nr_slots++;

	REQUIRE(slot < GUEST_MAX_SLOTS);
	g->slots[slot] = (struct kvm_userspace_memory_region) {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)host,
	};
	REQUIRE_OK(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &g->slots[slot]));
	return slot;
}

int guest_add_memory(struct guest *g, uint64_t gpa, void *host, size_t len)
{
	return guest_add_memory_flags(g, gpa, host, len, 0);
}

void guest_remove_memory(struct guest *g, int slot)
{
	REQUIRE(slot < g->nr_slots);
	g->slots[slot].memory_size = 0;
	REQUIRE_OK(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &g->slots[slot]));
}

int guest_add_vcpu(struct guest *g)
{
	int nr = g->nr_vcpus++;
	struct guest_vcpu *v = &g->vcpus[nr];
	struct kvm_cpuid2 *cpuid;

	REQUIRE(nr < GUEST_MAX_VCPUS);
	v->fd = REQUIRE_FD(ioctl(g->vm, KVM_CREATE_VCPU, nr));
	v->run = xmmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);

	/* The guest's CPU can what KVM can; without this it may not enter long mode. */
	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	REQUIRE(cpuid);
	cpuid->nent = MAX_CPUID;
	REQUIRE_OK(ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
	REQUIRE_OK(ioctl(v->fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
	return nr;
}

static int vcpu_fd(struct guest *g, int vcpu)
{
	REQUIRE(vcpu >= 0 && vcpu < g->nr_vcpus);
	return g->vcpus[vcpu].fd;
}

struct kvm_regs guest_get_regs(struct guest *g, int vcpu)
{
	struct kvm_regs regs;

	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_GET_REGS, &regs));
	return regs;
}

void guest_set_regs(struct guest *g, int vcpu, const struct kvm_regs *regs)
{
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_SET_REGS, regs));
}

void guest_real_mode(struct guest *g, int vcpu, uint16_t ip)
{
	struct kvm_regs regs = { .rip = ip, .rflags = 2 };
	struct kvm_sregs sregs;

	/* As after reset, but for the code segment, which is not at the top of memory. */
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_GET_SREGS, &sregs));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_SET_SREGS, &sregs));
	guest_set_regs(g, vcpu, &regs);
}

void guest_build_tables(void *buf, uint64_t gpa)
{
	uint64_t (*table)[512] = buf;

	memset(buf, 0, GUEST_TABLES_SIZE);
	table[0][0] = (gpa + 4096) | PTE_PRESENT | PTE_WRITE;
	for (uint64_t i = 0; i < 4; i++) {
		table[1][i] = (gpa + (2 + i) * 4096) | PTE_PRESENT | PTE_WRITE;
		for (uint64_t k = 0; k < 512; k++)
			table[2 + i][k] = (i * 512 + k) * HPAGE_SIZE | PTE_PRESENT | PTE_WRITE | PTE_HUGE;
	}
}

void guest_long_mode(struct guest *g, int vcpu, uint64_t tables_gpa, uint64_t rip, uint64_t rsp)
{
	struct kvm_regs regs = { .rip = rip, .rsp = rsp, .rflags = 2 };
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1,
	};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_GET_SREGS, &sregs));
	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.idt.limit = 0;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_WP | CR0_PG;
	sregs.cr3 = tables_gpa;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_SET_SREGS, &sregs));
	guest_set_regs(g, vcpu, &regs);
}

const struct guest_exit *guest_run(struct guest *g, int vcpu)
{
	struct guest_vcpu *v = &g->vcpus[vcpu];
	struct guest_exit *e = &v->last;
	struct kvm_run *run = v->run;

	memset(e, 0, sizeof(*e));
	if (ioctl(vcpu_fd(g, vcpu), KVM_RUN, 0) < 0)
		e->err = errno;
	e->exit = e->err && e->err != EFAULT ? -1 : (int)run->exit_reason;
	if (e->exit == KVM_EXIT_IO) {
		e->port = run->io.port;
		e->is_write = run->io.direction == KVM_EXIT_IO_OUT;
		REQUIRE_EQ(run->io.count, 1);
		if (e->is_write)
			memcpy(&e->value, (char *)run + run->io.data_offset, run->io.size);
	} else if (e->exit == KVM_EXIT_MMIO) {
		e->gpa = run->mmio.phys_addr;
		e->is_write = run->mmio.is_write;
		if (e->is_write)
			memcpy(&e->value, run->mmio.data, run->mmio.len);
	}
	return e;
}

void guest_answer(struct guest *g, int vcpu, uint64_t value)
{
	struct kvm_run *run = g->vcpus[vcpu].run;

	REQUIRE(!g->vcpus[vcpu].last.is_write);
	if (run->exit_reason == KVM_EXIT_IO) {
		memcpy((char *)run + run->io.data_offset, &value, run->io.size);
	} else {
		REQUIRE_EQ(run->exit_reason, KVM_EXIT_MMIO);
		memcpy(run->mmio.data, &value, run->mmio.len);
	}
}

struct start {
	struct guest *g;
	int vcpu;
};

static void *run_thread(void *arg)
{
	struct start start = *(struct start *)arg;

	free(arg);
	return (void *)guest_run(start.g, start.vcpu);
}

void guest_start(struct guest *g, int vcpu)
{
	struct start *start = malloc(sizeof(*start));

	REQUIRE(start);
	start->g = g;
	start->vcpu = vcpu;
	g->vcpus[vcpu].thread = thread_start(run_thread, start);
}

const struct guest_exit *guest_join(struct guest *g, int vcpu, double seconds)
{
	return thread_join_for(g->vcpus[vcpu].thread, seconds) ? &g->vcpus[vcpu].last : NULL;
}

long long guest_stat(struct guest *g, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), g->vm, name);
	if (access(path, R_OK))
		return -1;
	return read_number(path);
}
