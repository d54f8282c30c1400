// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the small KVM guest that guest.h promises.
 */
#include "guest.h"

#define SHARED_CODE(name, text)							\
	__asm__(".globl " #name ", " #name "_end");				\
	GUEST_CODE(name, ".code64", text)

SHARED_CODE(reads,
	    "	movl (%rdi), %eax\n"
	    "	movw $0x10, %dx\n"
	    "	outl %eax, %dx\n"
	    "	hlt");

SHARED_CODE(writes,
	    "	movl %eax, (%rdi)\n"
	    "	movl 4(%rdi), %eax\n"
	    "	movw $0x10, %dx\n"
	    "	outl %eax, %dx\n"
	    "	hlt");

SHARED_CODE(jumps, "	jmp *%rdi");

SHARED_CODE(landed,
	    "	movw $0x10, %dx\n"
	    "	outl %eax, %dx\n"
	    "	hlt");

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
#define PTE_FLAGS (PTE_PRESENT | PTE_WRITE)
#define RFLAGS_IF (1ul << 9)
#define APIC_BASE_ENABLE (1ul << 11)
#define APIC_BASE_X2APIC (1ul << 10)
#define X2APIC_SPURIOUS 0x80f
#define X2APIC_ENABLE 0x100
#define MSI_ADDRESS 0xfee00000u
#define HYPERVISOR_LEAVES 0x40000000u
#define HYPERVISOR_LEAVES_END 0x50000000u
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

int guest_has(struct guest *g, int capability)
{
	return REQUIRE_OK(ioctl(g->vm, KVM_CHECK_EXTENSION, capability));
}

void guest_enable(struct guest *g, uint32_t capability, uint64_t arg)
{
	struct kvm_enable_cap cap = { .cap = capability, .args = { arg } };

	REQUIRE_OK(ioctl(g->vm, KVM_ENABLE_CAP, &cap));
}

/* To be freed. */
static struct kvm_cpuid2 *get_cpuid(int fd, unsigned long command)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));

	REQUIRE(cpuid);
	cpuid->nent = MAX_CPUID;
	REQUIRE_OK(ioctl(fd, command, cpuid));
	return cpuid;
}

bool guest_cpuid(struct guest *g, uint32_t function, uint32_t index, struct kvm_cpuid_entry2 *entry)
{
	struct kvm_cpuid2 *cpuid = get_cpuid(g->kvm, KVM_GET_SUPPORTED_CPUID);
	bool found = false;

	for (uint32_t i = 0; i < cpuid->nent && !found; i++) {
		found = cpuid->entries[i].function == function && cpuid->entries[i].index == index;
		if (found)
			*entry = cpuid->entries[i];
	}
	free(cpuid);
	return found;
}

bool guest_offers(struct guest *g, int feature)
{
	struct kvm_cpuid_entry2 entry;

	return guest_cpuid(g, KVM_CPUID_FEATURES, 0, &entry) && entry.eax & 1u << feature;
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

static void set_memory(struct guest *g, int slot, const struct kvm_userspace_memory_region *region)
{
	REQUIRE(slot >= 0 && slot < g->nr_slots);
	REQUIRE_OK(ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, region));
}

void guest_remove_memory(struct guest *g, int slot)
{
	struct kvm_userspace_memory_region region = g->slots[slot];

	region.memory_size = 0;
	set_memory(g, slot, &region);
}

void guest_move_memory(struct guest *g, int slot, uint64_t gpa)
{
	g->slots[slot].guest_phys_addr = gpa;
	set_memory(g, slot, &g->slots[slot]);
}

void guest_set_memory_flags(struct guest *g, int slot, uint32_t flags)
{
	g->slots[slot].flags = flags;
	set_memory(g, slot, &g->slots[slot]);
}

void guest_irqchip(struct guest *g)
{
	REQUIRE_EQ(g->nr_vcpus, 0);
	REQUIRE_OK(ioctl(g->vm, KVM_CREATE_IRQCHIP, 0));
	g->irqchip = true;
}

int guest_add_vcpu(struct guest *g)
{
	int nr = g->nr_vcpus++;
	struct guest_vcpu *v = &g->vcpus[nr];
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_cpuid2 *cpuid;

	REQUIRE(nr < GUEST_MAX_VCPUS);
	v->fd = REQUIRE_FD(ioctl(g->vm, KVM_CREATE_VCPU, nr));
	v->run = xmmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);

	/* The guest's CPU can what KVM can; without this it may not enter long mode. */
	cpuid = get_cpuid(g->kvm, KVM_GET_SUPPORTED_CPUID);
	REQUIRE_OK(ioctl(v->fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
	/* All but the first would wait for a start-up interrupt. */
	if (g->irqchip)
		REQUIRE_OK(ioctl(v->fd, KVM_SET_MP_STATE, &runnable));
	return nr;
}

static int vcpu_fd(struct guest *g, int vcpu)
{
	REQUIRE(vcpu >= 0 && vcpu < g->nr_vcpus);
	return g->vcpus[vcpu].fd;
}

static bool is_hypervisor_leaf(const struct kvm_cpuid_entry2 *entry)
{
	return entry->function >= HYPERVISOR_LEAVES && entry->function < HYPERVISOR_LEAVES_END;
}

bool guest_hyperv(struct guest *g, int vcpu)
{
	struct kvm_cpuid2 *cpuid, *hyperv;
	uint32_t nr = 0;

	if (guest_has(g, KVM_CAP_SYS_HYPERV_CPUID) <= 0)
		return false;
	cpuid = get_cpuid(g->kvm, KVM_GET_SUPPORTED_CPUID);
	hyperv = get_cpuid(g->kvm, KVM_GET_SUPPORTED_HV_CPUID);
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (!is_hypervisor_leaf(&cpuid->entries[i]))
			cpuid->entries[nr++] = cpuid->entries[i];
	for (uint32_t i = 0; i < hyperv->nent; i++) {
		REQUIRE(nr < MAX_CPUID);
		cpuid->entries[nr++] = hyperv->entries[i];
	}
	cpuid->nent = nr;
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_SET_CPUID2, cpuid));
	free(cpuid);
	free(hyperv);
	return true;
}

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

bool guest_set_msr(struct guest *g, int vcpu, uint32_t msr, uint64_t value)
{
	struct one_msr msrs = { .head.nmsrs = 1, .entry = { .index = msr, .data = value } };

	return REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_SET_MSRS, &msrs)) == 1;
}

uint64_t guest_get_msr(struct guest *g, int vcpu, uint32_t msr)
{
	struct one_msr msrs = { .head.nmsrs = 1, .entry.index = msr };

	REQUIRE_EQ(ioctl(vcpu_fd(g, vcpu), KVM_GET_MSRS, &msrs), 1);
	return msrs.entry.data;
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
	table[0][0] = (gpa + 4096) | PTE_FLAGS;
	for (uint64_t i = 0; i < 4; i++) {
		table[1][i] = (gpa + (2 + i) * 4096) | PTE_FLAGS;
		for (uint64_t k = 0; k < 512; k++)
			table[2 + i][k] = (i * 512 + k) * HPAGE_SIZE | PTE_FLAGS | PTE_HUGE;
	}
}

void guest_build_small_tables(void *buf, uint64_t gpa)
{
	uint64_t (*table)[512] = buf;

	memset(buf, 0, GUEST_SMALL_TABLES_SIZE);
	table[0][0] = (gpa + 4096) | PTE_FLAGS;
	table[1][0] = (gpa + 2 * 4096) | PTE_FLAGS;
	table[1][3] = (gpa + 4 * 4096) | PTE_FLAGS;
	table[2][0] = (gpa + 3 * 4096) | PTE_FLAGS;
	for (uint64_t k = 0; k < 512; k++) {
		table[3][k] = k * 4096 | PTE_FLAGS;
		table[4][k] = (3 * 512 + k) * HPAGE_SIZE | PTE_FLAGS | PTE_HUGE;
	}
}

/* In the page of the GDT, which has room. */
#define EXCEPTIONS (4096 + 0x100)
#define EXCEPTION_BYTES 16

/*
 * An entry for each vector, of EXCEPTION_BYTES; bits are those that come with an error code. What came is told in
 * registers that no guest of ours uses: its stack may be one that traps, or be gone.
 */
GUEST_CODE(exceptions, ".code64",
	   "	.set vector, 0\n"
	   "	.rept 32\n"
	   "	.if 0x60227d00 >> vector & 1 == 0\n"
	   "	pushq $0\n"
	   "	.endif\n"
	   "	pushq $vector\n"
	   "	jmp 1f\n"
	   "	.set vector, vector + 1\n"
	   "	.org exceptions + 16 * vector, 0xcc\n"
	   "	.endr\n"
	   "1:	popq %r8\n"
	   "	popq %r9\n"
	   "	popq %r10\n"
	   "	movq %cr2, %r11\n"
	   "	movq 8(%rsp), %r12\n"
	   "	movq 16(%rsp), %r13\n"
	   "	movq %rax, %r14\n"
	   "	movq %rdx, %r15\n"
	   "	movl %r8d, %eax\n"
	   "	movw $0x11, %dx\n"
	   "2:	outl %eax, %dx\n"
	   "	jmp 2b");

/* Code at 8 and data at 16, as guest_long_mode() has them. */
void guest_build_descriptors(void *buf, uint64_t gpa)
{
	uint64_t *gdt = (uint64_t *)((char *)buf + 4096);

	memset(buf, 0, GUEST_DESCRIPTORS_SIZE);
	gdt[1] = 0x00af9b000000ffff;
	gdt[2] = 0x00cf93000000ffff;
	REQUIRE(EXCEPTIONS + GUEST_CODE_SIZE(exceptions) <= GUEST_DESCRIPTORS_SIZE);
	memcpy((char *)buf + EXCEPTIONS, exceptions, GUEST_CODE_SIZE(exceptions));
	for (int vector = 0; vector < GUEST_EXCEPTIONS; vector++)
		guest_set_gate(buf, vector, gpa + EXCEPTIONS + vector * EXCEPTION_BYTES);
}

void guest_set_gate(void *buf, int vector, uint64_t rip)
{
	uint64_t *gate = (uint64_t *)buf + 2 * vector;

	/* An interrupt gate, present, for code at 8. */
	gate[0] = (rip & 0xffff) | 8ul << 16 | 0x8e00ul << 32 | (rip >> 16 & 0xffff) << 48;
	gate[1] = rip >> 32;
}

void guest_use_descriptors(struct guest *g, int vcpu, uint64_t gpa)
{
	struct kvm_sregs sregs;

	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_GET_SREGS, &sregs));
	sregs.idt = (struct kvm_dtable){ .base = gpa, .limit = 4095 };
	sregs.gdt = (struct kvm_dtable){ .base = gpa + 4096, .limit = 3 * 8 - 1 };
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_SET_SREGS, &sregs));
}

void guest_use_apic(struct guest *g, int vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	REQUIRE(g->irqchip);
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_GET_SREGS, &sregs));
	sregs.apic_base |= APIC_BASE_ENABLE | APIC_BASE_X2APIC;
	REQUIRE_OK(ioctl(vcpu_fd(g, vcpu), KVM_SET_SREGS, &sregs));
	REQUIRE(guest_set_msr(g, vcpu, X2APIC_SPURIOUS, X2APIC_ENABLE | 0xff));
	regs = guest_get_regs(g, vcpu);
	regs.rflags |= RFLAGS_IF;
	guest_set_regs(g, vcpu, &regs);
}

void guest_interrupt(struct guest *g, int vcpu, uint8_t vector)
{
	struct kvm_msi msi = { .address_lo = MSI_ADDRESS | vcpu << 12, .data = vector };

	REQUIRE_EQ(ioctl(g->vm, KVM_SIGNAL_MSI, &msi), 1);
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
	e->guest = g;
	e->vcpu = vcpu;
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
	__atomic_store_n(&start.g->vcpus[start.vcpu].tid, gettid(), __ATOMIC_RELEASE);
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

bool guest_exception(const struct guest_exit *e, struct guest_exception *x)
{
	struct kvm_regs regs;

	if (e->exit != KVM_EXIT_IO || e->port != GUEST_EXCEPTION_PORT)
		return false;
	regs = guest_get_regs(e->guest, e->vcpu);
	*x = (struct guest_exception){
		.vector = regs.r8, .error = regs.r9, .rip = regs.r10, .cr2 = regs.r11,
		.rflags = regs.r12, .rsp = regs.r13, .rax = regs.r14, .rdx = regs.r15,
	};
	return true;
}

/* Names of figures in debugfs; not every kernel has all of them. */
static void tell_stats(struct guest *g)
{
	static const char *const names[] = {
		"exits", "io_exits", "mmio_exits", "signal_exits", "irq_injections", "nmi_injections",
		"insn_emulation", "insn_emulation_fail", "pf_taken", "pf_fixed", "pf_emulate", "pf_spurious",
	};
	char line[512] = "";

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t at = strlen(line);

		snprintf(line + at, sizeof(line) - at, " %s %lld", names[i], guest_stat(g, names[i]));
	}
	tap_diag("KVM counts, of all vCPUs:%s", line);
}

void guest_tell(const struct guest_exit *e)
{
	struct kvm_regs r = guest_get_regs(e->guest, e->vcpu);
	struct guest_exception x;
	struct kvm_sregs s;

	tap_diag("vCPU %d came back: errno %d, exit %d, port 0x%x, value 0x%lx, gpa 0x%lx", e->vcpu, e->err, e->exit,
		 e->port, e->value, e->gpa);
	if (guest_exception(e, &x))
		tap_diag("exception %llu: error code %llx rip %llx cr2 %llx rflags %llx rsp %llx rax %llx rdx %llx",
			 x.vector, x.error, x.rip, x.cr2, x.rflags, x.rsp, x.rax, x.rdx);
	/*
	 * After a shutdown that the CPU reported KVM has reset the vCPU: rip is 0xfff0, cs 0xf000. One that KVM came to
	 * by itself leaves them as they were.
	 */
	tap_diag("rip %llx rflags %llx rsp %llx rbp %llx", r.rip, r.rflags, r.rsp, r.rbp);
	tap_diag("rax %llx rbx %llx rcx %llx rdx %llx rsi %llx rdi %llx", r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi);
	REQUIRE_OK(ioctl(vcpu_fd(e->guest, e->vcpu), KVM_GET_SREGS, &s));
	tap_diag("cs %x ss %x idt %llx+%x gdt %llx+%x", s.cs.selector, s.ss.selector, s.idt.base, s.idt.limit,
		 s.gdt.base, s.gdt.limit);
	tap_diag("cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx", s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
	tell_stats(e->guest);
	if (e->guest->tell)
		e->guest->tell(e->guest);
}

long long guest_stat(struct guest *g, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), g->vm, name);
	if (access(path, R_OK))
		return -1;
	return read_number(path);
}
