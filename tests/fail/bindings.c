// SPDX-License-Identifier: GPL-2.0-only
/*
 * What belongs to VMs and to mappings, with each allocation failing in turn: memslots are bound, listed and unbound, a
 * vCPU comes back, mappings are registered, and handlers told of changes. It succeeds all the same or says ENOMEM with
 * nothing changed, and trying again succeeds.
 */
#include "bound.h"
#include "fail.h"
#include "peer.h"

#include "../kvm/bind.h"

#define A BOUND_DATA

/* What is done with the nth allocation failing; true: it did fail. */
typedef bool (*once_fn)(unsigned int nth);

static void each(once_fn once)
{
	unsigned int nth, fired = 0;

	fail_prepare(FAIL_MEMORY);
	for (nth = 1; once(nth); nth = fail_next(nth)) {
		fired++;
		REQUIRE(nth < 100000);
	}
	tap_diag("%u failures, the last before %u", fired, nth);
	CHECK(fired > 0);
}

/* 0, or ENOMEM where something failed. */
static int armed(unsigned int nth, bool *fired, int (*fn)(void *arg), void *arg)
{
	int ret, err;

	errno = 0;
	fail_arm(nth);
	ret = fn(arg);
	*fired = fail_disarm();
	err = ret < 0 ? errno : 0;
	CHECK(!err || (err == ENOMEM && *fired));
	return err;
}

/* --- Bindings ---------------------------------------------------------------------------------------- */

static void end(struct rig *r)
{
	guest_destroy(&r->g);
	REQUIRE_OK(munmap(r->map, SIZE));
	REQUIRE_OK(close(r->fd));
}

static int do_bind(void *arg)
{
	return bind_all(arg);
}

static bool bind_once(unsigned int nth)
{
	struct rig r = rig();
	bool fired;

	if (armed(nth, &fired, do_bind, &r)) {
		CHECK_EQ(nr_bindings(r.fd), 0);
		CHECK_OK(bind_all(&r));
	}
	CHECK_EQ(only_binding(r.fd).gpa, GPA);
	end(&r);
	return fired;
}

TEST_LIMIT(bind, 60)
{
	each(bind_once);
}

static void *set_at;

static int do_set(void *arg)
{
	struct rig *r = arg;

	set_at = gmem_bind_set(r->fd, r->g.vm, 7, 4 * GPA, 0, SIZE, COOKIE, 0);
	return set_at ? 0 : -1;
}

static bool set_once(unsigned int nth)
{
	struct rig r = rig();
	long space = address_space();
	bool fired;

	if (armed(nth, &fired, do_set, &r)) {
		CHECK_EQ(nr_bindings(r.fd), 0);
		CHECK(!has_slot(&r.g, 7));
		CHECK_EQ(address_space(), space);
		CHECK_OK(do_set(&r));
	}
	CHECK_EQ(only_binding(r.fd).address, (uintptr_t)set_at);
	CHECK_EQ(TOUCH_READ(set_at), 0);
	CHECK_OK(gmem_unbind(r.fd, r.g.vm, 7, GMEMFD_BIND_SET));
	end(&r);
	return fired;
}

TEST_LIMIT(bind_set, 60)
{
	each(set_once);
}

static int do_unset(void *arg)
{
	struct rig *r = arg;

	return gmem_unbind(r->fd, r->g.vm, 7, GMEMFD_BIND_SET);
}

static bool unset_once(unsigned int nth)
{
	struct rig r = rig();
	bool fired;

	REQUIRE_OK(do_set(&r));
	/* The memslot may be gone already, and the binding with it. */
	if (armed(nth, &fired, do_unset, &r) && do_unset(&r))
		CHECK_EQ(errno, ENOENT);
	CHECK(!has_slot(&r.g, 7));
	CHECK_EQ(listed(r.fd), 0);
	end(&r);
	if (is_mapped(set_at))
		REQUIRE_OK(munmap(set_at, SIZE));
	return fired;
}

TEST_LIMIT(unbind_set, 60)
{
	each(unset_once);
}

static int do_list(void *arg)
{
	struct rig *r = arg;
	struct gmemfd_binding entries[2];
	int nr = gmem_bindings(r->fd, entries, 2, 0);

	if (nr >= 0)
		CHECK_EQ(nr, 1);
	return nr;
}

static bool list_once(unsigned int nth)
{
	struct rig r = rig();
	bool fired;

	REQUIRE_OK(bind_all(&r));
	armed(nth, &fired, do_list, &r);
	CHECK_EQ(only_binding(r.fd).gpa, GPA);
	end(&r);
	return fired;
}

TEST_LIMIT(bindings, 60)
{
	each(list_once);
}

/* --- A vCPU that comes back -------------------------------------------------------------------------- */

struct running {
	struct bound b;
	unsigned int nth;
	bool fired;
};

static void *run_armed(void *arg)
{
	struct running *r = arg;

	fail_arm(r->nth);
	guest_run(&r->b.g, 0);
	r->fired = fail_disarm();
	return NULL;
}

/* KVM says ENOMEM, or the vCPU comes back to ask, or, where that took memory, it waits like any other. */
static bool vcpu_once(unsigned int nth)
{
	struct running *r = calloc(1, sizeof(*r));
	const struct guest_exit *e;
	struct gmemfd_event event;
	pthread_t thread;
	bool fired;

	REQUIRE(r);
	r->nth = nth;
	bound_make(&r->b, 1, BOUND_CODE_OF(reads), BOUND_EXIT);
	bound_ready(&r->b, (uint64_t[]){ A }, 1);
	bound_regs(&r->b, 0, BOUND_GPA + A, 0, 0, 0);
	thread = thread_start(run_armed, r);
	for (int i = 0; i < 1000 && !thread_join_for(thread, 0.01); i++) {
		REQUIRE(i < 999);
		if (gmem_event(r->b.context, &event, 0))
			CHECK_OK(bound_provide(&r->b, event.offset - BOUND_OFFSET));
	}
	e = &r->b.g.vcpus[0].last;
	CHECK(e->err == EFAULT || e->err == EINTR || (r->fired && (!e->err || e->err == ENOMEM)));
	if (e->err)
		e = bound_run(&r->b, 0, NULL);
	bound_says(e, bound_word(&r->b, A));
	bound_end(&r->b);
	fired = r->fired;
	free(r);
	return fired;
}

TEST_LIMIT(vcpu_exit, 60)
{
	each(vcpu_once);
}

/* --- Mappings ---------------------------------------------------------------------------------------- */

struct mapped {
	int fd;
	int uffd;
	unsigned char *map;
};

static struct mapped mapped(void)
{
	struct mapped m = {
		.fd = xgmem(SIZE),
		.uffd = xuffd_gmem(UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP),
	};

	m.map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	REQUIRE_OK(fcntl(m.uffd, F_SETFL, O_NONBLOCK));
	return m;
}

static void unmap(struct mapped *m)
{
	REQUIRE_OK(munmap(m->map, SIZE));
	REQUIRE_OK(close(m->uffd));
	REQUIRE_OK(close(m->fd));
}

static int do_register(void *arg)
{
	struct mapped *m = arg;
	/* Its middle, so that there is something around it. */
	struct uffdio_register args = {
		.range = { .start = (uintptr_t)m->map + PAGE, .len = SIZE - 2 * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(m->uffd, UFFDIO_REGISTER, &args);
}

static bool register_once(unsigned int nth)
{
	unsigned char *page = xmmap_anon(PAGE);
	struct mapped m = mapped();
	bool fired;

	if (armed(nth, &fired, do_register, &m))
		CHECK_OK(do_register(&m));
	/* Outside it does not trap. */
	CHECK_EQ(TOUCH_READ(m.map), 0);
	pattern_fill(page, PAGE, 1);
	CHECK_OK(uffd_copy(m.uffd, m.map + PAGE, page, PAGE, 0));
	CHECK(pattern_is(m.map + PAGE, PAGE, 1));
	unmap(&m);
	REQUIRE_OK(munmap(page, PAGE));
	return fired;
}

TEST_LIMIT(uffdio_register, 60)
{
	each(register_once);
}

static int do_unregister(void *arg)
{
	struct mapped *m = arg;
	struct uffdio_range range = { .start = (uintptr_t)m->map + 4 * PAGE, .len = 2 * PAGE };

	return ioctl(m->uffd, UFFDIO_UNREGISTER, &range);
}

static bool unregister_once(unsigned int nth)
{
	unsigned char *page = xmmap_anon(PAGE);
	struct mapped m = mapped();
	bool fired;

	REQUIRE_OK(do_register(&m));
	if (armed(nth, &fired, do_unregister, &m))
		CHECK_OK(do_unregister(&m));
	CHECK_EQ(TOUCH_READ(m.map + 4 * PAGE), 0);
	CHECK_EQ(TOUCH_READ(m.map + 5 * PAGE), 0);
	CHECK_OK(uffd_copy(m.uffd, m.map + 3 * PAGE, page, PAGE, 0));
	CHECK_OK(uffd_copy(m.uffd, m.map + 6 * PAGE, page, PAGE, 0));
	unmap(&m);
	REQUIRE_OK(munmap(page, PAGE));
	return fired;
}

TEST_LIMIT(uffdio_unregister, 60)
{
	each(unregister_once);
}

/* The only message that there is to read is about these pages. */
static void told(struct mapped *m, uint8_t event, size_t first, size_t pages)
{
	struct uffd_msg msg = { 0 };

	CHECK_EQ(read(m->uffd, &msg, sizeof(msg)), sizeof(msg));
	CHECK_EQ(msg.event, event);
	CHECK_EQ(msg.arg.remove.start, (uintptr_t)m->map + first * PAGE);
	CHECK_EQ(msg.arg.remove.end, (uintptr_t)m->map + (first + pages) * PAGE);
	CHECK_ERRNO(read(m->uffd, &msg, sizeof(msg)), EAGAIN);
}

static int do_punch(void *arg)
{
	struct mapped *m = arg;

	return gmem_punch(m->fd, 4 * PAGE, 2 * PAGE);
}

static bool punch_once(unsigned int nth)
{
	unsigned char *page = xmmap_anon(PAGE);
	struct mapped m = mapped();
	struct uffd_msg msg;
	bool fired;

	REQUIRE_OK(do_register(&m));
	pattern_fill(page, PAGE, 1);
	for (size_t i = 4; i < 6; i++)
		REQUIRE_OK(uffd_copy(m.uffd, m.map + i * PAGE, page, PAGE, 0));
	if (armed(nth, &fired, do_punch, &m)) {
		/* Nobody was told, and it is all there. */
		CHECK_ERRNO(read(m.uffd, &msg, sizeof(msg)), EAGAIN);
		for (size_t i = 4; i < 6; i++)
			CHECK(gmem_has_content(m.fd, i * PAGE) && pattern_is(m.map + i * PAGE, PAGE, 1));
		CHECK_OK(do_punch(&m));
	}
	told(&m, UFFD_EVENT_REMOVE, 4, 2);
	CHECK(!gmem_has_content(m.fd, 4 * PAGE));
	unmap(&m);
	REQUIRE_OK(munmap(page, PAGE));
	return fired;
}

TEST_LIMIT(notice_of_a_hole, 60)
{
	each(punch_once);
}

static int do_unmap(void *arg)
{
	struct mapped *m = arg;

	return munmap(m->map + 4 * PAGE, 2 * PAGE);
}

static bool unmap_once(unsigned int nth)
{
	struct mapped m = mapped();
	struct uffd_msg msg;
	bool fired;

	REQUIRE_OK(do_register(&m));
	if (armed(nth, &fired, do_unmap, &m)) {
		CHECK(is_mapped(m.map + 4 * PAGE));
		/* The kernel may have begun to, and told of it. */
		while (read(m.uffd, &msg, sizeof(msg)) == sizeof(msg))
			CHECK_EQ(msg.event, UFFD_EVENT_UNMAP);
		CHECK_OK(do_unmap(&m));
	}
	told(&m, UFFD_EVENT_UNMAP, 4, 2);
	CHECK(!is_mapped(m.map + 4 * PAGE));
	unmap(&m);
	return fired;
}

TEST_LIMIT(notice_of_an_unmap, 60)
{
	each(unmap_once);
}
