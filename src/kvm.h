/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kvm.c and vcpu.c share.
 */
#ifndef GMEMFD_KVM_H
#define GMEMFD_KVM_H

#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/mmu_notifier.h>
#include <linux/workqueue.h>

#include "gmemfd.h"

/**
 * struct gmem_vm - a VM that has bindings
 * @node: in gmem_vms, by @mm
 * @refs: one for all bindings, one for whoever uses it outside of RCU sections
 *        and of gmem_kvm_mutex
 * @kvm: the VM; a reference is held
 * @put: kvm_put_kvm()
 * @mm: its process, alive for as long as there are bindings
 * @notifier: tells the end of @mm, and keeps the struct
 * @pid: the process
 * @preempt_ops: how its vCPUs hang on the threads that run them; NULL until seen
 * @slots: struct gmem_binding by memslot; changed under gmem_kvm_mutex
 * @vcpus: struct gmem_vcpu by index
 * @free: ends it
 */
struct gmem_vm {
	struct hlist_node node;
	refcount_t refs;
	struct kvm *kvm;
	void (*put)(struct kvm *kvm);
	struct mm_struct *mm;
	struct mmu_notifier notifier;
	struct pid *pid;
	const struct preempt_ops *preempt_ops;
	struct xarray slots;
	struct xarray vcpus;
	struct rcu_work free;
};

/**
 * struct gmem_binding - a memslot that is bound to a file
 * @node: in @gmem->bindings, by @id
 * @vm: the VM
 * @gmem: the file; compared, used under gmem_kvm_mutex, and by igrab() in RCU
 *        sections
 * @id: grows with each binding; set under gmem_kvm_mutex
 * @flags: GMEMFD_BIND_*
 * @slot: the memslot
 * @index: first page of the file
 * @nr: pages
 * @address: where the memslot is mapped; 0 until that is known. Right from before
 *           KVM has the memslot until after it has it no more: a guest that is to
 *           exit must not wait meanwhile
 * @busy: being made or unmade; nobody but who does that ends it
 * @cookie: the VM's, for events
 * @rcu: ends it
 */
struct gmem_binding {
	struct rb_node node;
	struct gmem_vm *vm;
	struct gmem *gmem;
	u64 id;
	u64 flags;
	u32 slot;
	pgoff_t index;
	unsigned long nr;
	unsigned long address;
	bool busy;
	u64 cookie;
	struct rcu_head rcu;
};

/**
 * struct gmem_vcpu - what a vCPU of a bound VM has asked for
 * @probed: address of the page that the last fault was a probe for; 0 for none
 * @exits: how often the vCPU had left the guest then
 * @signals: how often KVM_RUN had come back for a signal then
 * @queued: how many pages it had given to KVM's thread then
 * @pending: address of the page that made KVM_RUN fail last; 0 for none
 * @flags: of that access, GMEMFD_FAULT_*
 * @tid: the thread
 *
 * Written by the thread that runs the vCPU. @pending is published last.
 */
struct gmem_vcpu {
	unsigned long probed;
	u64 exits;
	u64 signals;
	u32 queued;
	unsigned long pending;
	u32 flags;
	pid_t tid;
};

extern struct mutex gmem_kvm_mutex;
/* All struct gmem_vm, by process. */
#define GMEM_VM_BITS	8
extern struct hlist_head gmem_vms[1 << GMEM_VM_BITS];

struct gmem_vm *gmem_vm_find(const struct kvm *kvm);
void gmem_vm_put(struct gmem_vm *vm);
u32 gmem_slot_number(const struct kvm_memory_slot *slot);
bool gmem_binding_is(const struct gmem_binding *binding,
		     const struct kvm_memory_slot *slot);
bool gmem_is_kvm_file(const struct file *file, const char *name);

#endif /* GMEMFD_KVM_H */
