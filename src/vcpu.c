// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns what an access was in its VM, and how the thread of a vCPU is made to come
 * back from KVM_RUN for it.
 *
 * A guest's access
 * ----------------
 * KVM tries a guest's access with FAULT_FLAG_RETRY_NOWAIT first, which nobody
 * else uses: the probe. When that finds that it would have to wait, KVM either tries again
 * at once, without the flag, in the same thread; or it gives the access to a
 * thread of its own and halts the vCPU (asynchronous page fault). The
 * probe is remembered, so that the second try is known for the guest's access.
 * Anything KVM does on its own account comes without a probe. To take one
 * of these for the guest's would be wrong: where a watch wants vCPUs to exit, KVM
 * would be refused what it must have. So the probe counts only as long as the
 * vCPU has not been in the guest since, nor in user space, and has not given the
 * page away.
 *
 * An exit is made in both cases. The second try is refused, and KVM_RUN returns
 * EFAULT. For the other case, which cannot be seen at the time of the probe,
 * the thread is marked as if it had work to do on its way to user space, which
 * KVM looks at before it enters the guest again: KVM_RUN returns EINTR.
 */
#include <linux/file.h>
#include <linux/interval_tree.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "kvm.h"

/* Memslots that one access is looked for in, should they share their memory. */
#define GMEM_MAX_ALIASES	64

/* The vCPU of a VM that the current thread runs, if any. */
static struct kvm_vcpu *gmem_vm_running(struct gmem_vm *vm)
{
	struct preempt_notifier *notifier;
	struct kvm_vcpu *vcpu, *each;
	unsigned long i;

	/* Only the thread itself adds to them and takes from them. */
	hlist_for_each_entry(notifier, &current->preempt_notifiers, link) {
		vcpu = container_of(notifier, struct kvm_vcpu,
				    preempt_notifier);
		if (notifier->ops != READ_ONCE(vm->preempt_ops)) {
			/* Not a vCPU for all that is known: ask the VM. */
			kvm_for_each_vcpu(i, each, vm->kvm) {
				if (each == vcpu)
					break;
			}
			if (each != vcpu)
				continue;
			WRITE_ONCE(vm->preempt_ops, notifier->ops);
		}
		if (vcpu->kvm == vm->kvm)
			return vcpu;
	}
	return NULL;
}

/*
 * Where in a VM an address is, and by which binding. Of a vCPU's thread only the
 * address space counts that the vCPU is in (system management mode has its own).
 */
static struct gmem_binding *gmem_vm_place(struct gmem_vm *vm,
					  struct kvm_vcpu *vcpu,
					  unsigned long address,
					  struct gmem_where *where)
{
	struct gmem_binding *binding = NULL;
	struct interval_tree_node *node;
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
	unsigned int tries = 0;
	unsigned int space;
	int idx;

	idx = srcu_read_lock(&vm->kvm->srcu);
	for (space = 0; space < ARRAY_SIZE(vm->kvm->memslots); space++) {
		if (vcpu && space != kvm_arch_vcpu_memslots_id(vcpu))
			continue;
		slots = __kvm_memslots(vm->kvm, space);
		if (!slots)
			continue;
		node = interval_tree_iter_first(&slots->hva_tree, address,
						address);
		for (; node && tries < GMEM_MAX_ALIASES; tries++) {
			slot = container_of(node, struct kvm_memory_slot,
					    hva_node[slots->node_idx]);
			binding = xa_load(&vm->slots, gmem_slot_number(slot));
			if (binding && gmem_binding_is(binding, slot)) {
				where->flags = GMEMFD_FAULT_VM;
				where->slot = binding->slot;
				where->vm = binding->cookie;
				where->gpa = gfn_to_gpa(slot->base_gfn) +
					     (address - slot->userspace_addr);
				goto out;
			}
			node = interval_tree_iter_next(node, address, address);
		}
	}
	binding = NULL;
out:
	srcu_read_unlock(&vm->kvm->srcu, idx);
	return binding;
}

/* The page of the file that a binding has at an address. */
static pgoff_t gmem_binding_index(const struct gmem_binding *binding,
				  unsigned long address)
{
	return binding->index +
	       ((address - READ_ONCE(binding->address)) >> PAGE_SHIFT);
}

#ifdef CONFIG_X86
/* Whether KVM has given a page to its thread and not got it back. */
static bool gmem_vcpu_gave_away(const struct kvm_vcpu *vcpu,
				unsigned long address)
{
	const struct kvm_async_pf *work;

	/* Only the thread that runs the vCPU adds to the list and takes from it. */
	list_for_each_entry(work, &vcpu->async_pf.queue, queue) {
		if ((work->addr & PAGE_MASK) == address)
			return true;
	}
	return false;
}

/*
 * Whether an access that is no probe is the guest's: it was probed for a moment
 * ago, and nothing has happened to the vCPU since.
 *
 * What KVM does itself between the second try and the guest comes to the same
 * page as good as never; some of it is known by how it may be interrupted. The
 * second try can be by any signal where KVM knows how to go back then, else by none
 * that does not kill. What KVM copies always can be, what it maps for itself never.
 */
static bool gmem_vcpu_retries(const struct gmem_vcpu *asked,
			      const struct kvm_vcpu *vcpu,
			      unsigned long address, unsigned int flags)
{
	bool interruptible = flags & FAULT_FLAG_INTERRUPTIBLE;

	return interruptible == !!FOLL_INTERRUPTIBLE &&
	       asked->probed == address && asked->exits == vcpu->stat.exits &&
	       asked->signals == vcpu->stat.signal_exits &&
	       asked->queued == vcpu->async_pf.queued &&
	       !gmem_vcpu_gave_away(vcpu, address);
}

/*
 * Whether the thread has not been in user space since the probe that was to make it
 * go there. KVM counts that for signals; where something else came first, and KVM
 * has the page back from its thread, all is as it was at the time of the probe.
 */
static bool gmem_vcpu_not_left(const struct kvm_vcpu *vcpu)
{
	return !vcpu->arch.apic || test_thread_flag(TIF_NOTIFY_SIGNAL);
}

/* The same for KVM's thread: the vCPU for which it may be having a page brought. */
static void gmem_vm_asynchronous(struct gmem_vm *vm, unsigned long address,
				 struct gmem_where *where)
{
	struct gmem_vcpu *asked;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	xa_for_each(&vm->vcpus, i, asked) {
		if (READ_ONCE(asked->probed) != address)
			continue;
		vcpu = kvm_get_vcpu(vm->kvm, i);
		/* Nothing given away: an old probe. */
		if (!vcpu || !READ_ONCE(vcpu->async_pf.queued))
			continue;
		where->vcpu = vcpu->vcpu_id;
		where->flags |= GMEMFD_FAULT_VCPU | GMEMFD_FAULT_GUEST;
		return;
	}
}

/* An access by the thread that runs a vCPU: the guest's, or KVM's. */
static void gmem_vcpu_accesses(struct gmem_vm *vm, struct kvm_vcpu *vcpu,
			       struct gmem_touch *touch, unsigned int flags)
{
	struct gmem_vcpu *asked = xa_load(&vm->vcpus, vcpu->vcpu_idx);
	unsigned long address = touch->address & PAGE_MASK;
	bool nowait = flags & FAULT_FLAG_RETRY_NOWAIT;

	if (nowait ||
	    (asked && gmem_vcpu_retries(asked, vcpu, address, flags))) {
		touch->where.flags |= GMEMFD_FAULT_GUEST;
		touch->exits = nowait || gmem_vcpu_not_left(vcpu);
	} else if (asked && asked->queued == vcpu->async_pf.queued) {
		/* While KVM's thread has a page its faults are known by the probe. */
		WRITE_ONCE(asked->probed, 0);
	}
}

/* There are as many records as KVM has vCPUs. */
static void gmem_vcpu_make(struct kvm_vcpu *vcpu)
{
	struct gmem_vcpu *asked;
	struct gmem_vm *vm;

	rcu_read_lock();
	vm = gmem_vm_find(vcpu->kvm);
	if (vm && (xa_load(&vm->vcpus, vcpu->vcpu_idx) ||
		   !refcount_inc_not_zero(&vm->refs)))
		vm = NULL;
	rcu_read_unlock();
	if (!vm)
		return;
	/* Not charged: a group at its limit would make a guest wait that is to exit. */
	asked = kzalloc_obj(*asked, GFP_KERNEL);
	/* The thread that runs the vCPU alone makes its record. */
	if (xa_err(xa_store(&vm->vcpus, vcpu->vcpu_idx, asked, GFP_KERNEL)))
		kfree(asked);
	gmem_vm_put(vm);
}

/**
 * gmem_kvm_probed - remember that a guest's access would have to wait
 * @touch: the access, which came with FAULT_FLAG_RETRY_NOWAIT
 * @exits: KVM_RUN is to fail for it
 *
 * Where there is no memory for that the access waits for a handler.
 */
void gmem_kvm_probed(struct gmem_touch *touch, bool exits)
{
	struct kvm_vcpu *vcpu = touch->vcpu;
	struct gmem_vcpu *asked;
	struct gmem_vm *vm;

	gmem_vcpu_make(vcpu);
	rcu_read_lock();
	vm = gmem_vm_find(vcpu->kvm);
	asked = vm ? xa_load(&vm->vcpus, vcpu->vcpu_idx) : NULL;
	if (asked) {
		/* It is not to be taken for this one, with which it would agree. */
		if (!exits)
			WRITE_ONCE(asked->pending, 0);
		asked->exits = vcpu->stat.exits;
		asked->signals = vcpu->stat.signal_exits;
		asked->queued = vcpu->async_pf.queued;
		WRITE_ONCE(asked->probed, touch->address & PAGE_MASK);
	}
	if (asked && exits) {
		asked->flags = touch->flags | touch->where.flags;
		asked->tid = task_pid_vnr(current);
		/* Pairs with the acquire in gmem_kvm_vcpu_fault(). */
		smp_store_release(&asked->pending, asked->probed);
		gmem_count(touch->gmem, GMEM_STAT_VCPU_EXITS, 1);
		/* Without an interrupt controller KVM gives no page away. */
		if (vcpu->arch.apic)
			set_tsk_thread_flag(current, TIF_NOTIFY_SIGNAL);
	}
	rcu_read_unlock();
}

/**
 * gmem_kvm_leave - a guest's access is refused, so that KVM_RUN fails
 * @touch: the access, the second after its probe
 *
 * What comes next from this thread is not the guest's.
 */
void gmem_kvm_leave(struct gmem_touch *touch)
{
	struct gmem_vcpu *asked;
	struct gmem_vm *vm;

	rcu_read_lock();
	vm = gmem_vm_find(touch->vcpu->kvm);
	asked = vm ? xa_load(&vm->vcpus, touch->vcpu->vcpu_idx) : NULL;
	if (asked)
		WRITE_ONCE(asked->probed, 0);
	rcu_read_unlock();
}
#else
static void gmem_vm_asynchronous(struct gmem_vm *vm, unsigned long address,
				 struct gmem_where *where)
{
}

static void gmem_vcpu_accesses(struct gmem_vm *vm, struct kvm_vcpu *vcpu,
			       struct gmem_touch *touch, unsigned int flags)
{
}

void gmem_kvm_probed(struct gmem_touch *touch, bool exits)
{
}

void gmem_kvm_leave(struct gmem_touch *touch)
{
}
#endif

static bool gmem_vm_locate(struct gmem_vm *vm, struct kvm_vcpu *vcpu,
			   struct gmem_touch *touch, unsigned int flags)
{
	unsigned long address = touch->address & PAGE_MASK;
	struct gmem_where where = {};
	struct gmem_binding *binding;

	binding = gmem_vm_place(vm, vcpu, address, &where);
	if (!binding || binding->gmem != touch->gmem ||
	    gmem_binding_index(binding, address) != touch->index)
		return false;
	touch->where = where;
	if (vcpu) {
		touch->vcpu = vcpu;
		touch->where.flags |= GMEMFD_FAULT_VCPU;
		touch->where.vcpu = vcpu->vcpu_id;
		gmem_vcpu_accesses(vm, vcpu, touch, flags);
	} else if (current->flags & PF_KTHREAD) {
		gmem_vm_asynchronous(vm, address, &touch->where);
	}
	return true;
}

/**
 * gmem_kvm_locate - find out what an access was in a VM
 * @touch: the access, in a mapping; its where, vcpu and exits are set
 * @mm: the process of the mapping
 * @flags: FAULT_FLAG_* that it came with
 */
void gmem_kvm_locate(struct gmem_touch *touch, struct mm_struct *mm,
		     unsigned int flags)
{
	struct kvm_vcpu *vcpu;
	struct gmem_vm *vm;

	rcu_read_lock();
	/* A vCPU's thread works for the vCPU's VM, whatever others it belongs to. */
	hash_for_each_possible_rcu(gmem_vms, vm, node, (unsigned long)mm) {
		vcpu = vm->mm == mm ? gmem_vm_running(vm) : NULL;
		if (vcpu) {
			gmem_vm_locate(vm, vcpu, touch, flags);
			goto out;
		}
	}
	hash_for_each_possible_rcu(gmem_vms, vm, node, (unsigned long)mm) {
		if (vm->mm == mm && gmem_vm_locate(vm, NULL, touch, flags))
			break;
	}
out:
	rcu_read_unlock();
}

/**
 * gmem_kvm_vcpu_fault - tell the access that made KVM_RUN fail
 * @context: the handler that asks
 * @args: from user space; its size has been dealt with
 *
 * Return: 0 or -errno, as told at struct gmemfd_vcpu_fault.
 */
long gmem_kvm_vcpu_fault(struct gmem_context *context,
			 struct gmemfd_vcpu_fault *args)
{
	struct gmemfd_event *event = &args->event;
	struct gmem_binding *binding = NULL;
	struct gmem_where where = {};
	struct gmem_vcpu *asked = NULL;
	unsigned long address = 0;
	struct super_block *sb = NULL;
	struct inode *inode = NULL;
	struct kvm_vcpu *vcpu;
	struct gmem_vm *vm;
	pgoff_t index = 0;
	bool pending;

	memset(event, 0, sizeof(*event));
	if (args->flags)
		return -EINVAL;

	CLASS(fd, vcpu_fd)(args->vcpu_fd);
	if (fd_empty(vcpu_fd) || !gmem_is_kvm_file(fd_file(vcpu_fd), "kvm-vcpu:"))
		return -EBADF;
	vcpu = fd_file(vcpu_fd)->private_data;

	rcu_read_lock();
	vm = gmem_vm_find(vcpu->kvm);
	if (vm)
		asked = xa_load(&vm->vcpus, vcpu->vcpu_idx);
	if (asked)
		/* Pairs with the release in gmem_kvm_probed(). */
		address = smp_load_acquire(&asked->pending);
	/* One that the guest was in since is an old one. */
	if (address && asked->exits == READ_ONCE(vcpu->stat.exits)) {
		event->type = GMEMFD_EVENT_FAULT;
		event->flags = asked->flags;
		event->tid = asked->tid;
		event->vcpu = vcpu->vcpu_id;
		binding = gmem_vm_place(vm, NULL, address, &where);
	}
	if (binding) {
		event->slot = where.slot;
		event->gpa = where.gpa;
		event->vm = where.vm;
		index = gmem_binding_index(binding, address);
		/*
		 * The memory of both stays until the end of the section, whatever
		 * their state. The file system goes with the last file, and
		 * must not without the inode.
		 */
		sb = binding->gmem->inode.i_sb;
		if (!atomic_inc_not_zero(&sb->s_active))
			sb = NULL;
		else
			inode = igrab(&binding->gmem->inode);
	}
	rcu_read_unlock();

	pending = inode && gmem_watch_pending(gmem_of(inode), index, context,
					      event);
	iput(inode);
	if (sb)
		deactivate_super(sb);
	if (!pending) {
		memset(event, 0, sizeof(*event));
		return -ENOENT;
	}
	return 0;
}

/**
 * gmem_kvm_watch_flags - GMEMFD_WATCH_* that work
 *
 * Return: the bits.
 */
u64 gmem_kvm_watch_flags(void)
{
	return IS_ENABLED(CONFIG_X86) ? GMEMFD_WATCH_VCPU_EXIT : 0;
}
