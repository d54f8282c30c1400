// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns the module's init and exit, in strict reverse order of each other.
 */
#include <linux/module.h>

#include "gmemfd.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static int __init gmemfd_init(void)
{
	int err;

	err = gmem_trap_init();
	if (err)
		return err;
	err = gmem_kvm_init();
	if (err)
		goto out_trap;
	err = gmem_init();
	if (err)
		goto out_kvm;
	/* Last: from here on there are users. */
	err = gmem_dev_init();
	if (err)
		goto out_gmem;
	return 0;

out_gmem:
	gmem_exit();
out_kvm:
	gmem_kvm_exit();
out_trap:
	gmem_trap_exit();
	return err;
}

static void __exit gmemfd_exit(void)
{
	gmem_dev_exit();
	gmem_exit();
	gmem_kvm_exit();
	gmem_trap_exit();
}

module_init(gmemfd_init);
module_exit(gmemfd_exit);

MODULE_DESCRIPTION("Demand-paged guest memory for VMMs");
MODULE_LICENSE("GPL");
MODULE_VERSION(GMEMFD_VERSION);
MODULE_INFO(probes, GMEMFD_PROBES);
