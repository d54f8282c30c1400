/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memfd + userfaultfd with less typing: what gmemfd is measured against, and compared with. The functions that begin
 * with x end the case, or the program, if they fail; the others return what ioctl() returns.
 */
#ifndef GMEMFD_TESTS_PEER_H
#define GMEMFD_TESTS_PEER_H

#include <linux/userfaultfd.h>

#include "tap.h"

/* A userfaultfd that has done UFFDIO_API with these features. */
int xuffd(uint64_t features);
/* The same of /dev/gmemfd, for mappings of gmem files. */
int xuffd_gmem(uint64_t features);
/* A memfd of that size. */
int xmemfd(uint64_t bytes);
/* UFFDIO_REGISTER; modes as there. */
void xuffd_register(int uffd, void *addr, size_t len, uint64_t modes);

/*
 * How KVM of this kernel waits for a page of memfd + userfaultfd, for a vCPU or in KVM_PRE_FAULT_MEMORY: whether a
 * signal that does not kill ends the wait. Told by the state of the thread that waits.
 */
bool peer_kvm_is_interruptible(bool prefault);

int uffd_copy(int uffd, void *dst, const void *src, size_t len, uint64_t mode);
int uffd_continue(int uffd, void *addr, size_t len, uint64_t mode);

#endif
