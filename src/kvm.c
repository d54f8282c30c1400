// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the bindings: which memslots of which VM are bound to which file. With
 * vcpu.c the only file that knows KVM.
 *
 * Nothing of it is needed for a VM to be demand-paged; KVM knows nothing of it.
 * KVM's own structures are read as its headers declare them, under the locks
 * that protect them: memslots under kvm->srcu, a vCPU by the thread that runs
 * it. A binding is a memslot's number and what it was bound to; the memslot itself
 * is looked at each time it is used, so a binding is never older than the memslot.
 * (KVM could tell when a memslot goes, by a page-track notifier; but newer kernels
 * then keep two bytes for each page of every memslot, others do not have it, and what is
 * looked at each time needs no notice.)
 */
#include <linux/file.h>
#include <linux/kthread.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kvm.h"

/* See gmemfd.h. */
DEFINE_MUTEX(gmem_kvm_mutex);
DEFINE_HASHTABLE(gmem_vms, GMEM_VM_BITS);
static u64 gmem_last_binding;
static struct workqueue_struct *gmem_kvm_wq;

static void gmem_vm_free(struct work_struct *work)
{
	struct gmem_vm *vm = container_of(to_rcu_work(work), struct gmem_vm,
					  free);
	bool lives = mmget_not_zero(vm->mm);
	struct gmem_vcpu *vcpu;
	unsigned long i;

	xa_for_each(&vm->vcpus, i, vcpu)
		kfree(vcpu);
	xa_destroy(&vm->vcpus);
	xa_destroy(&vm->slots);
	/* The end of a VM unmaps what KVM has mapped in its process, and only there. */
	if (lives)
		kthread_use_mm(vm->mm);
	vm->put(vm->kvm);
	if (lives) {
		kthread_unuse_mm(vm->mm);
		mmput(vm->mm);
	}
	symbol_put(kvm_put_kvm);
	mmu_notifier_unregister(&vm->notifier, vm->mm);
	put_pid(vm->pid);
	kfree(vm);
}

/**
 * gmem_vm_put - let go of a VM
 * @vm: the VM; may be gone when this returns
 *
 * The reference to KVM's struct is put elsewhere: this may be in the end of its
 * address space, which the end of a VM would wait for.
 */
void gmem_vm_put(struct gmem_vm *vm)
{
	if (refcount_dec_and_test(&vm->refs))
		queue_rcu_work(gmem_kvm_wq, &vm->free);
}

/**
 * gmem_vm_find - what is known of a VM
 * @kvm: the VM, which the caller keeps from going
 *
 * In an RCU section, or under gmem_kvm_mutex.
 *
 * Return: it, or NULL for a VM without bindings.
 */
struct gmem_vm *gmem_vm_find(const struct kvm *kvm)
{
	struct gmem_vm *vm;

	hash_for_each_possible_rcu(gmem_vms, vm, node, (unsigned long)kvm->mm,
				   lockdep_is_held(&gmem_kvm_mutex)) {
		if (vm->kvm == kvm)
			return vm;
	}
	return NULL;
}

/* The memslot of a number, as struct kvm_userspace_memory_region has it. */
static struct kvm_memory_slot *gmem_vm_slot(struct kvm *kvm, u32 slot)
{
	struct kvm_memslots *slots;
	u32 space = slot >> 16;

	if (space >= ARRAY_SIZE(kvm->memslots))
		return NULL;
	slots = __kvm_memslots(kvm, space);
	return slots ? id_to_memslot(slots, (u16)slot) : NULL;
}

/**
 * gmem_slot_number - a memslot's number, as struct kvm_userspace_memory_region has it
 * @slot: the memslot
 *
 * Return: it.
 */
u32 gmem_slot_number(const struct kvm_memory_slot *slot)
{
	return (u32)slot->as_id << 16 | (u16)slot->id;
}

/**
 * gmem_binding_is - whether a memslot is the one that was bound
 * @binding: the binding
 * @slot: a memslot of the same number, under kvm->srcu
 *
 * Return: as said.
 */
bool gmem_binding_is(const struct gmem_binding *binding,
		     const struct kvm_memory_slot *slot)
{
	return slot->npages == binding->nr &&
	       slot->userspace_addr == READ_ONCE(binding->address);
}

/* Whether a binding's memslot is still there, and where in the guest. */
static bool gmem_binding_holds(const struct gmem_binding *binding, u64 *gpa)
{
	struct kvm *kvm = binding->vm->kvm;
	struct kvm_memory_slot *slot;
	bool holds;
	int idx;

	/* Nobody but us has it. */
	if (refcount_read(&kvm->users_count) == 1)
		return false;
	idx = srcu_read_lock(&kvm->srcu);
	slot = gmem_vm_slot(kvm, binding->slot);
	holds = slot && gmem_binding_is(binding, slot);
	if (holds)
		*gpa = gfn_to_gpa(slot->base_gfn);
	srcu_read_unlock(&kvm->srcu, idx);
	return holds;
}

static bool gmem_binding_less(struct rb_node *a, const struct rb_node *b)
{
	return rb_entry(a, struct gmem_binding, node)->id <
	       rb_entry(b, struct gmem_binding, node)->id;
}

static void gmem_binding_add(struct gmem_binding *binding)
{
	struct gmem *gmem = binding->gmem;

	lockdep_assert_held(&gmem_kvm_mutex);
	binding->id = ++gmem_last_binding;
	rb_add(&binding->node, &gmem->bindings, gmem_binding_less);
	WRITE_ONCE(gmem->nr_bindings, gmem->nr_bindings + 1);
}

static void gmem_binding_remove(struct gmem_binding *binding)
{
	struct gmem *gmem = binding->gmem;

	lockdep_assert_held(&gmem_kvm_mutex);
	rb_erase(&binding->node, &gmem->bindings);
	WRITE_ONCE(gmem->nr_bindings, gmem->nr_bindings - 1);
}

/* The first of a file's bindings with a greater id. */
static struct gmem_binding *gmem_binding_after(struct gmem *gmem, u64 id)
{
	struct rb_node *node = gmem->bindings.rb_node;
	struct gmem_binding *found = NULL;
	struct gmem_binding *binding;

	lockdep_assert_held(&gmem_kvm_mutex);
	while (node) {
		binding = rb_entry(node, struct gmem_binding, node);
		if (binding->id > id) {
			found = binding;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return found;
}

static void gmem_binding_end(struct gmem_binding *binding)
{
	struct gmem_vm *vm = binding->vm;

	lockdep_assert_held(&gmem_kvm_mutex);
	xa_erase(&vm->slots, binding->slot);
	gmem_binding_remove(binding);
	kfree_rcu(binding, rcu);
	if (xa_empty(&vm->slots)) {
		hash_del_rcu(&vm->node);
		gmem_vm_put(vm);
	}
}

/* The address space goes, and with it what the VM is good for. */
static void gmem_notifier_release(struct mmu_notifier *notifier,
				  struct mm_struct *mm)
{
	struct gmem_vm *vm = container_of(notifier, struct gmem_vm, notifier);
	struct gmem_binding *binding;
	unsigned long slot;

	/* Without bindings it is on its way out; that calls this too. */
	if (!refcount_inc_not_zero(&vm->refs))
		return;
	mutex_lock(&gmem_kvm_mutex);
	xa_for_each(&vm->slots, slot, binding) {
		gmem_binding_end(binding);
		cond_resched();
	}
	mutex_unlock(&gmem_kvm_mutex);
	gmem_vm_put(vm);
}

static const struct mmu_notifier_ops gmem_notifier_ops = {
	.release = gmem_notifier_release,
};

/* For a VM of the caller's process; not yet hashed. */
static struct gmem_vm *gmem_vm_make(struct kvm *kvm)
{
	void (*get)(struct kvm *kvm);
	struct gmem_vm *vm;
	int err;

	vm = kzalloc_obj(*vm, GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);
	get = symbol_get(kvm_get_kvm);
	vm->put = symbol_get(kvm_put_kvm);
	err = -EOPNOTSUPP;
	if (!get || !vm->put)
		goto out_symbols;
	refcount_set(&vm->refs, 1);
	vm->kvm = kvm;
	vm->mm = kvm->mm;
	/* Not charged: nobody is to wait with the mutex held for a group at its limit. */
	xa_init(&vm->slots);
	xa_init(&vm->vcpus);
	INIT_RCU_WORK(&vm->free, gmem_vm_free);
	vm->notifier.ops = &gmem_notifier_ops;
	err = mmu_notifier_register(&vm->notifier, vm->mm);
	if (err)
		goto out_symbols;
	get(kvm);
	symbol_put(kvm_get_kvm);
	vm->pid = get_task_pid(current, PIDTYPE_TGID);
	return vm;

out_symbols:
	if (get)
		symbol_put(kvm_get_kvm);
	if (vm->put)
		symbol_put(kvm_put_kvm);
	kfree(vm);
	return ERR_PTR(err);
}

/**
 * gmem_is_kvm_file - whether a file is one of KVM's
 * @file: any file
 * @name: what its name begins with, by which KVM's kinds of files differ
 *
 * KVM's files are anonymous inodes, whose names the kernel alone gives.
 *
 * Return: as said.
 */
bool gmem_is_kvm_file(const struct file *file, const char *name)
{
	const struct dentry *dentry = file->f_path.dentry;

	return dentry->d_sb->s_magic == ANON_INODE_FS_MAGIC &&
	       !strncmp(dentry->d_name.name, name, strlen(name));
}

static struct kvm *gmem_kvm_of(const struct file *file)
{
	/* Not kvm-vm-stats. */
	if (!gmem_is_kvm_file(file, "kvm-vm") ||
	    file->f_path.dentry->d_name.len != strlen("kvm-vm"))
		return NULL;
	return file->private_data;
}

/* Takes the place in the VM and in the file; what fills it comes later. */
static int gmem_binding_reserve(struct gmem_binding *binding, struct kvm *kvm)
{
	struct gmem_binding *old;
	struct gmem_vm *vm, *made = NULL;
	u64 gpa;
	int err;

	for (;;) {
		mutex_lock(&gmem_kvm_mutex);
		vm = gmem_vm_find(kvm) ?: made;
		if (vm)
			break;
		mutex_unlock(&gmem_kvm_mutex);
		made = gmem_vm_make(kvm);
		if (IS_ERR(made))
			return PTR_ERR(made);
	}
	old = xa_load(&vm->slots, binding->slot);
	if (old && (old->busy || gmem_binding_holds(old, &gpa))) {
		err = -EEXIST;
		goto out;
	}
	binding->vm = vm;
	/* In its place, so that the VM does not end in between. */
	err = xa_err(xa_store(&vm->slots, binding->slot, binding, GFP_KERNEL));
	if (err)
		goto out;
	if (old) {
		gmem_binding_remove(old);
		kfree_rcu(old, rcu);
	}
	if (vm == made) {
		hash_add_rcu(gmem_vms, &vm->node, (unsigned long)vm->mm);
		made = NULL;
	}
	gmem_binding_add(binding);
out:
	mutex_unlock(&gmem_kvm_mutex);
	if (made)
		gmem_vm_put(made);
	return err;
}

/* Whether the memslot, and the mapping under it, are as the caller says. */
static int gmem_binding_check(struct gmem_binding *binding,
			      const struct gmemfd_bind *args,
			      unsigned long *address)
{
	struct kvm *kvm = binding->vm->kvm;
	struct kvm_memory_slot *slot;
	int err = 0;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	slot = gmem_vm_slot(kvm, args->slot);
	if (!slot)
		err = -ENOENT;
	else if (slot->npages != binding->nr ||
		 gfn_to_gpa(slot->base_gfn) != args->gpa ||
		 (*address && slot->userspace_addr != *address))
		err = -EINVAL;
	else
		*address = slot->userspace_addr;
	srcu_read_unlock(&kvm->srcu, idx);
	if (!err && !gmem_map_covers(binding->gmem, *address, args->len,
				     binding->index))
		err = fatal_signal_pending(current) ? -EINTR : -EINVAL;
	return err;
}

/*
 * Has KVM set a memslot, as the caller's own ioctl would: with a struct in the
 * caller's memory, which the tail of struct gmemfd_bind is, and past the same
 * security hook.
 */
static long gmem_kvm_set_slot(struct file *vm_file,
			      struct gmemfd_bind __user *uargs,
			      unsigned long address, u64 len)
{
	unsigned long region = (unsigned long)&uargs->slot;
	long err;

#define GMEM_SAME(ours, theirs)						\
	BUILD_BUG_ON(offsetof(struct gmemfd_bind, ours) -		\
		     offsetof(struct gmemfd_bind, slot) !=		\
		     offsetof(struct kvm_userspace_memory_region, theirs))
	GMEM_SAME(slot, slot);
	GMEM_SAME(slot_flags, flags);
	GMEM_SAME(gpa, guest_phys_addr);
	GMEM_SAME(len, memory_size);
	GMEM_SAME(address, userspace_addr);
#undef GMEM_SAME

	if (put_user(address, &uargs->address) || put_user(len, &uargs->len))
		return -EFAULT;
	err = security_file_ioctl(vm_file, KVM_SET_USER_MEMORY_REGION, region);
	if (err)
		return err;
	return vm_file->f_op->unlocked_ioctl(vm_file,
					     KVM_SET_USER_MEMORY_REGION,
					     region);
}

/* Maps the range and gives it to the VM; leaves nothing behind when it fails. */
static int gmem_binding_set(struct gmem_binding *binding, struct file *file,
			    struct file *vm_file, const struct gmemfd_bind *args,
			    struct gmemfd_bind __user *uargs,
			    unsigned long *address)
{
	unsigned long prot = PROT_READ | PROT_WRITE;
	long err;

	*address = vm_mmap(file, 0, args->len, prot,
			   args->flags & GMEMFD_BIND_PRIVATE ? MAP_PRIVATE :
							       MAP_SHARED,
			   args->offset);
	if (IS_ERR_VALUE(*address))
		return *address;
	WRITE_ONCE(binding->address, *address);
	err = gmem_kvm_set_slot(vm_file, uargs, *address, args->len);
	if (!err) {
		err = gmem_binding_check(binding, args, address);
		if (!err)
			return 0;
		/* Somebody meddles with the struct, the memslot or the mapping. */
		gmem_kvm_set_slot(vm_file, uargs, *address, 0);
	}
	vm_munmap(*address, args->len);
	return err;
}

static int gmem_kvm_check_vm(struct file *vm_file, struct kvm **kvm)
{
	*kvm = gmem_kvm_of(vm_file);
	if (!*kvm)
		return -EBADF;
	return (*kvm)->mm == current->mm ? 0 : -EPERM;
}

/* As it was a moment ago; KVM itself refuses a memslot that has come meanwhile. */
static bool gmem_slot_exists(struct kvm *kvm, u32 slot)
{
	int idx = srcu_read_lock(&kvm->srcu);
	bool exists = gmem_vm_slot(kvm, slot);

	srcu_read_unlock(&kvm->srcu, idx);
	return exists;
}

/**
 * gmem_kvm_bind - bind a memslot to a file
 * @file: the file
 * @args: from user space; its size has been dealt with
 * @uargs: where it is in user space
 *
 * Return: 0 or -errno, as told at struct gmemfd_bind.
 */
long gmem_kvm_bind(struct file *file, struct gmemfd_bind *args,
		   struct gmemfd_bind __user *uargs)
{
	struct gmem *gmem = gmem_of(file_inode(file));
	bool set = args->flags & GMEMFD_BIND_SET;
	struct gmem_binding *binding;
	unsigned long address = 0;
	struct kvm *kvm;
	int err;

	if (args->flags & ~GMEMFD_BIND_ALL || args->address ||
	    (!set && (args->slot_flags || args->flags)))
		return -EINVAL;
	if (!args->len || !PAGE_ALIGNED(args->offset | args->len | args->gpa) ||
	    args->offset >= i_size_read(&gmem->inode) ||
	    args->len > i_size_read(&gmem->inode) - args->offset ||
	    args->gpa + args->len < args->gpa)
		return -EINVAL;

	CLASS(fd, vm_fd)(args->vm_fd);
	if (fd_empty(vm_fd))
		return -EBADF;
	err = gmem_kvm_check_vm(fd_file(vm_fd), &kvm);
	if (err)
		return err;

	binding = kzalloc_obj(*binding, GFP_KERNEL_ACCOUNT);
	if (!binding)
		return -ENOMEM;
	binding->busy = true;
	binding->gmem = gmem;
	binding->flags = args->flags;
	binding->slot = args->slot;
	binding->index = args->offset >> PAGE_SHIFT;
	binding->nr = args->len >> PAGE_SHIFT;
	binding->cookie = args->vm;
	err = gmem_binding_reserve(binding, kvm);
	if (err) {
		kfree(binding);
		return err;
	}

	if (!set)
		err = gmem_binding_check(binding, args, &address);
	else if (gmem_slot_exists(kvm, args->slot))
		err = -EEXIST;
	else
		err = gmem_binding_set(binding, file, fd_file(vm_fd), args,
				       uargs, &address);

	mutex_lock(&gmem_kvm_mutex);
	if (err) {
		gmem_binding_end(binding);
	} else {
		args->address = address;
		WRITE_ONCE(binding->address, address);
		binding->busy = false;
	}
	mutex_unlock(&gmem_kvm_mutex);
	return err;
}

/**
 * gmem_kvm_unbind - end a binding
 * @file: the file
 * @args: from user space; its size has been dealt with
 * @uargs: where it is in user space
 *
 * Return: 0 or -errno, as told at struct gmemfd_bind.
 */
long gmem_kvm_unbind(struct file *file, struct gmemfd_bind *args,
		     struct gmemfd_bind __user *uargs)
{
	struct gmem *gmem = gmem_of(file_inode(file));
	bool unset = args->flags & GMEMFD_BIND_SET;
	struct gmem_binding *binding;
	unsigned long address = 0;
	struct gmem_vm *vm;
	struct kvm *kvm;
	u64 gpa;
	long err;

	if (args->flags & ~GMEMFD_BIND_SET || args->offset || args->vm ||
	    args->slot_flags || args->gpa || args->len || args->address)
		return -EINVAL;

	CLASS(fd, vm_fd)(args->vm_fd);
	if (fd_empty(vm_fd))
		return -EBADF;
	err = gmem_kvm_check_vm(fd_file(vm_fd), &kvm);
	if (err)
		return err;

	err = -ENOENT;
	mutex_lock(&gmem_kvm_mutex);
	vm = gmem_vm_find(kvm);
	binding = vm ? xa_load(&vm->slots, args->slot) : NULL;
	if (!binding || binding->gmem != gmem || binding->busy)
		goto out;
	if (!gmem_binding_holds(binding, &gpa)) {
		gmem_binding_end(binding);
		goto out;
	}
	err = unset && !(binding->flags & GMEMFD_BIND_SET) ? -EINVAL : 0;
	if (err)
		goto out;
	if (unset)
		binding->busy = true;
	else
		gmem_binding_end(binding);
out:
	mutex_unlock(&gmem_kvm_mutex);
	if (err || !unset)
		return err;

	address = binding->address;
	err = gmem_kvm_set_slot(fd_file(vm_fd), uargs, address, 0);
	if (!err && gmem_map_covers(gmem, address, binding->nr << PAGE_SHIFT,
				    binding->index))
		err = vm_munmap(address, binding->nr << PAGE_SHIFT);
	mutex_lock(&gmem_kvm_mutex);
	if (err)
		binding->busy = false;
	else
		gmem_binding_end(binding);
	mutex_unlock(&gmem_kvm_mutex);
	return err;
}

/* Entries that are listed while the mutex is held. */
#define GMEM_LIST_BATCH	64

/*
 * The next of a file's bindings that hold, up to @room; those before them that do
 * not are ended.
 */
static u32 gmem_binding_list(struct gmem *gmem, u64 after,
			     struct gmemfd_binding *entry, u32 room)
{
	struct gmem_binding *binding;
	u32 nr = 0;

	mutex_lock(&gmem_kvm_mutex);
	while (nr < room && (binding = gmem_binding_after(gmem, after))) {
		after = binding->id;
		cond_resched();
		if (binding->busy)
			continue;
		if (!gmem_binding_holds(binding, &entry->gpa)) {
			gmem_binding_end(binding);
			continue;
		}
		entry->id = binding->id;
		entry->flags = binding->flags;
		entry->offset = (u64)binding->index << PAGE_SHIFT;
		entry->len = (u64)binding->nr << PAGE_SHIFT;
		entry->vm = binding->cookie;
		entry->address = binding->address;
		entry->slot = binding->slot;
		entry->pid = pid_vnr(binding->vm->pid);
		entry++;
		nr++;
	}
	mutex_unlock(&gmem_kvm_mutex);
	return nr;
}

/**
 * gmem_kvm_bindings - list the bindings of a file
 * @gmem: the file
 * @args: from user space; its size has been dealt with
 *
 * Return: 0 or -errno, as told at struct gmemfd_bindings.
 */
long gmem_kvm_bindings(struct gmem *gmem, struct gmemfd_bindings *args)
{
	struct gmemfd_binding __user *to = u64_to_user_ptr(args->entries);
	struct gmemfd_binding *entries;
	u64 after = args->after;
	u32 room = args->nr;
	u32 want, got;
	long err = 0;

	if (args->flags || args->pad || !room ||
	    args->entry_size != sizeof(struct gmemfd_binding))
		return -EINVAL;
	entries = kzalloc_objs(*entries, min(room, GMEM_LIST_BATCH),
			       GFP_KERNEL_ACCOUNT);
	if (!entries)
		return -ENOMEM;

	args->nr = 0;
	do {
		want = min(room - args->nr, GMEM_LIST_BATCH);
		got = gmem_binding_list(gmem, after, entries, want);
		/* No lock is held while user memory is written. */
		if (copy_to_user(to + args->nr, entries, got * sizeof(*entries)))
			err = -EFAULT;
		else if (fatal_signal_pending(current))
			err = -EINTR;
		if (err)
			break;
		if (got)
			after = entries[got - 1].id;
		args->nr += got;
	} while (got == want && args->nr < room);
	kfree(entries);
	return err;
}

/**
 * gmem_kvm_file_gone - end the bindings of a file that is being evicted
 * @gmem: the file
 */
void gmem_kvm_file_gone(struct gmem *gmem)
{
	struct gmem_binding *binding;

	mutex_lock(&gmem_kvm_mutex);
	while ((binding = gmem_binding_after(gmem, 0))) {
		gmem_binding_end(binding);
		cond_resched();
	}
	mutex_unlock(&gmem_kvm_mutex);
}

/**
 * gmem_kvm_init - get ready for bindings
 *
 * Return: 0 or -ENOMEM.
 */
int gmem_kvm_init(void)
{
	gmem_kvm_wq = alloc_workqueue("gmemfd", WQ_UNBOUND, 0);
	return gmem_kvm_wq ? 0 : -ENOMEM;
}

/**
 * gmem_kvm_exit - wait for the last VMs to be let go of; nothing is bound any more
 */
void gmem_kvm_exit(void)
{
	rcu_barrier();
	destroy_workqueue(gmem_kvm_wq);
}
