// SPDX-License-Identifier: GPL-2.0-only
/*
 * The back end for contexts with the ABI of userfaultfd(2), which a VMM has made and handed over: faults and pages are
 * told by address of the VMM.
 *
 * Here notices come, too: of memory that was given back, which is zeros from then on, or that is gone. A notice that
 * is read while a page of its range is being provided would be forgotten by that page. So messages are read with the
 * lock @notices held for writing, until the ledger knows of them, and pages are provided with it held for reading,
 * when the ledger has been looked at once more. While a notice is unread, the kernel itself says EAGAIN: the thread
 * that reads must therefore never wait for one that provides.
 *
 * A server that is killed after it has read a notice, and before the ledger knows of it, takes the notice with it.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "serve.h"

/* Of Linux 6.6; older headers do not have it. */
#ifndef UFFDIO_POISON
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};

#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

static uint64_t address_of(const struct piece *piece)
{
	return piece->offset - piece->region->offset + piece->region->target;
}

static int by_address_wake_range(int context, uint64_t start, uint64_t len)
{
	struct uffdio_range range = { .start = start, .len = len };

	return ioctl(context, UFFDIO_WAKE, &range) ? -errno : 0;
}

/* What a lost server had read and not answered is faulted, and so told, once more. */
static int by_address_begin(struct server *s)
{
	unsigned int i;
	int err;

	s->context = s->fd;
	for (i = 0; s->again && i < s->nr_regions; i++) {
		err = by_address_wake_range(s->context, s->regions[i].target, s->regions[i].len);
		if (err && err != -ENOENT)
			return err;
	}
	return 0;
}

/* The memory is zeros now, or nothing any more: in neither case the image's content. */
static void note_lost(struct server *s, uint64_t start, uint64_t end)
{
	unsigned int i;

	for (i = 0; i < s->nr_regions; i++) {
		const struct region *region = &s->regions[i];
		uint64_t from = start > region->target ? start : region->target;
		uint64_t to = region->target + region->len < end ? region->target + region->len : end;

		/* A granule of which only a part is gone is still to be had. */
		from = align_up(from - region->target, s->granule);
		to = to > region->target ? align_down(to - region->target, s->granule) : 0;
		if (from < to)
			ledger_set(s->ledger, region->offset + from, to - from);
	}
}

static int by_address_next(struct server *s, uint64_t *wanted)
{
	struct uffd_msg msg;
	unsigned int i;
	uint64_t address;
	ssize_t got;
	int ret = 0;

	pthread_rwlock_wrlock(&s->notices);
	while (!ret) {
		got = read(s->context, &msg, sizeof(msg));
		if (got < 0 && errno == EINTR)
			continue;
		if (got != sizeof(msg)) {
			ret = got < 0 && errno != EAGAIN ? -errno : got > 0 ? -EPROTO : 0;
			break;
		}
		switch (msg.event) {
		case UFFD_EVENT_PAGEFAULT:
			address = msg.arg.pagefault.address;
			for (i = 0; i < s->nr_regions; i++) {
				const struct region *region = &s->regions[i];

				if (address >= region->target && address - region->target < region->len) {
					*wanted = align_down(address - region->target + region->offset, s->granule);
					ret = 1;
				}
			}
			if (!ret)
				fail(FAILED, "the VMM waits at address %#llx, of which it has not told: it waits on",
				     (unsigned long long)address);
			break;
		case UFFD_EVENT_REMOVE:
		case UFFD_EVENT_UNMAP:
			note_lost(s, msg.arg.remove.start, msg.arg.remove.end);
			break;
		}
	}
	pthread_rwlock_unlock(&s->notices);
	return ret;
}

/* A buffer of this thread, fit for reading around the page cache. */
static void *buffer(size_t size)
{
	static __thread void *memory;

	if (!memory && posix_memalign(&memory, 4096, size > CHUNK ? size : CHUNK))
		return NULL;
	return memory;
}

static int64_t copy(struct server *s, const struct piece *piece, const void *from, uint64_t len)
{
	struct uffdio_copy copy = { .dst = address_of(piece), .src = (uintptr_t)from, .len = len };
	int64_t ret;

	pthread_rwlock_rdlock(&s->notices);
	if (piece->kind == PIECE_FILL && ledger_run(s->ledger, piece->offset, len, false) < len)
		ret = -EAGAIN;
	else if (!ioctl(s->context, UFFDIO_COPY, &copy))
		ret = len;
	else
		ret = copy.copy ? copy.copy : -errno;
	pthread_rwlock_unlock(&s->notices);
	/* Nothing was done for a notice that nobody has read yet. */
	return ret;
}

static int64_t fill(struct server *s, const struct piece *piece)
{
	uint64_t len = piece->len < CHUNK || piece->len == s->granule ? piece->len : CHUNK, got;
	void *content;
	int err;

	if (piece->content)
		return copy(s, piece, piece->content, piece->len);
	content = buffer(s->granule);
	if (!content)
		return -ENOMEM;
	err = image_read(s->image, content, piece->offset, len, &got);
	got = align_down(got, s->granule);
	return got ? copy(s, piece, content, got) : err;
}

static int64_t zero(struct server *s, const struct piece *piece)
{
	struct uffdio_zeropage zero = { .range = { address_of(piece), piece->len } };
	void *zeros;

	if (!ioctl(s->context, UFFDIO_ZEROPAGE, &zero))
		return piece->len;
	if (zero.zeropage > 0)
		return zero.zeropage;
	if (errno != EINVAL)
		return -errno;
	/* The kernel's own userfaultfd does not do it for memory of huge pages. */
	zeros = buffer(s->granule);
	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, s->granule);
	return copy(s, piece, zeros, s->granule);
}

static int64_t make_poison(struct server *s, const struct piece *piece)
{
	struct uffdio_poison poison = { .range = { address_of(piece), piece->len } };

	if (!ioctl(s->context, UFFDIO_POISON, &poison))
		return piece->len;
	return poison.updated > 0 ? poison.updated : -errno;
}

static void by_address_provide(struct server *s, struct piece *pieces, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		switch (pieces[i].kind) {
		case PIECE_FILL:
			pieces[i].done = fill(s, &pieces[i]);
			break;
		case PIECE_ZERO:
			pieces[i].done = zero(s, &pieces[i]);
			break;
		case PIECE_POISON:
			pieces[i].done = make_poison(s, &pieces[i]);
			break;
		}
	}
}

static void by_address_wake(struct server *s, const struct piece *piece)
{
	/* It fails when the memory is gone, and then nobody waits for it. */
	by_address_wake_range(s->context, address_of(piece), s->granule);
}

/* What the VMM gives back and touches again it waits for as before: the registration is its own. */
static bool by_address_complete(struct server *s)
{
	return false;
}

const struct backend by_address = {
	.begin = by_address_begin,
	.next = by_address_next,
	.provide = by_address_provide,
	.wake = by_address_wake,
	.complete = by_address_complete,
};
