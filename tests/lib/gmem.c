// SPDX-License-Identifier: GPL-2.0-only
/*
 * The private ABI with less typing: see gmem.h.
 */
#include "gmem.h"

#include <poll.h>

__thread int64_t gmem_done;

int gmem_dev(void)
{
	static int dev = -1;

	if (dev < 0)
		dev = REQUIRE_FD(open("/dev/gmemfd", O_RDWR | O_CLOEXEC));
	return dev;
}

int gmem_create(uint64_t bytes, uint64_t flags, uint32_t policy)
{
	struct gmemfd_create create = {
		.size = sizeof(create),
		.policy = policy,
		.flags = flags,
		.bytes = bytes,
	};

	return ioctl(gmem_dev(), GMEMFD_CREATE, &create);
}

int xgmem(uint64_t bytes)
{
	return REQUIRE_FD(gmem_create(bytes, 0, 0));
}

int xgmem_huge(uint64_t bytes)
{
	return REQUIRE_FD(gmem_create(bytes, GMEMFD_CREATE_HUGE, 0));
}

void gmem_need_huge(void)
{
	struct gmemfd_info info = { .size = sizeof(info) };
	/* Not one that stays: some cases look whether anybody has the module. */
	int dev = REQUIRE_FD(open("/dev/gmemfd", O_RDWR | O_CLOEXEC));

	REQUIRE_OK(ioctl(dev, GMEMFD_INFO, &info));
	REQUIRE_OK(close(dev));
	if (!info.huge_size)
		SKIP("this kernel has no huge pages");
}

int gmem_context(void)
{
	struct gmemfd_context context = { .size = sizeof(context) };

	return ioctl(gmem_dev(), GMEMFD_CONTEXT, &context);
}

int xgmem_context(void)
{
	return REQUIRE_FD(gmem_context());
}

static int watch(int fd, int context, uint64_t flags, uint64_t offset, uint64_t len, uint64_t modes, uint64_t cookie,
		 uint32_t policy)
{
	struct gmemfd_watch watch = {
		.size = sizeof(watch),
		.context = context,
		.flags = flags,
		.offset = offset,
		.len = len,
		.modes = modes,
		.cookie = cookie,
		.policy = policy,
	};

	return ioctl(fd, GMEMFD_WATCH, &watch);
}

int gmem_watch(int fd, int context, uint64_t offset, uint64_t len, uint64_t modes, uint64_t cookie, uint32_t policy)
{
	return watch(fd, context, 0, offset, len, modes, cookie, policy);
}

int gmem_watch_exit(int fd, int context, uint64_t offset, uint64_t len, uint64_t modes, uint64_t cookie,
		    uint32_t policy)
{
	return watch(fd, context, GMEMFD_WATCH_VCPU_EXIT, offset, len, modes, cookie, policy);
}

static int range(int fd, unsigned long cmd, struct gmemfd_range range)
{
	int ret;

	range.size = sizeof(range);
	range.done = INT64_MIN;
	ret = ioctl(fd, cmd, &range);
	gmem_done = range.done;
	return ret;
}

int gmem_unwatch(int fd, uint64_t offset, uint64_t len)
{
	return range(fd, GMEMFD_UNWATCH, (struct gmemfd_range){ .offset = offset, .len = len });
}

int gmem_attach(int fd, int context, uint64_t offset, uint64_t len)
{
	struct gmemfd_attach attach = {
		.size = sizeof(attach),
		.context = context,
		.offset = offset,
		.len = len,
	};

	return ioctl(fd, GMEMFD_ATTACH, &attach);
}

int gmem_policy(int fd, uint64_t offset, uint64_t len, uint32_t policy)
{
	struct gmemfd_policy args = {
		.size = sizeof(args),
		.policy = policy,
		.offset = offset,
		.len = len,
	};

	return ioctl(fd, GMEMFD_POLICY, &args);
}

int gmem_stats(int fd, struct gmemfd_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->size = sizeof(*stats);
	return ioctl(fd, GMEMFD_STATS, stats);
}

struct gmemfd_stats xgmem_stats(int fd)
{
	struct gmemfd_stats stats;

	REQUIRE_OK(gmem_stats(fd, &stats));
	return stats;
}

uint64_t gmem_fdinfo(int fd, const char *key)
{
	char path[64], line[64];
	long long n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	snprintf(line, sizeof(line), "gmemfd-%s:", key);
	n = read_field(path, line);
	tap_check(n >= 0, true, __FILE__, __LINE__, "fdinfo has %s", line);
	return n;
}

int gmem_copy(int fd, uint64_t offset, uint64_t len, const void *src, uint64_t flags)
{
	return range(fd, GMEMFD_COPY, (struct gmemfd_range){
		.flags = flags, .offset = offset, .len = len, .src = (uintptr_t)src });
}

int gmem_fill(int fd, uint64_t offset, uint64_t len, int src_fd, uint64_t src, uint64_t flags)
{
	return range(fd, GMEMFD_FILL, (struct gmemfd_range){
		.flags = flags, .offset = offset, .len = len, .src = src, .src_fd = src_fd });
}

int gmem_zero(int fd, uint64_t offset, uint64_t len, uint64_t flags)
{
	return range(fd, GMEMFD_ZERO, (struct gmemfd_range){ .flags = flags, .offset = offset, .len = len });
}

int gmem_continue(int fd, uint64_t offset, uint64_t len, uint64_t flags)
{
	return range(fd, GMEMFD_CONTINUE, (struct gmemfd_range){ .flags = flags, .offset = offset, .len = len });
}

int gmem_poison(int fd, uint64_t offset, uint64_t len, uint64_t flags)
{
	return range(fd, GMEMFD_POISON, (struct gmemfd_range){ .flags = flags, .offset = offset, .len = len });
}

int gmem_wake(int fd, uint64_t offset, uint64_t len)
{
	return range(fd, GMEMFD_WAKE, (struct gmemfd_range){ .offset = offset, .len = len });
}

int gmem_punch(int fd, uint64_t offset, uint64_t len)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
}

int gmem_event(int context, struct gmemfd_event *event, double seconds)
{
	struct pollfd poll_fd = { .fd = context, .events = POLLIN };

	if (poll(&poll_fd, 1, seconds * tap_slow() * 1000) != 1)
		return 0;
	return read(context, event, sizeof(*event)) == sizeof(*event);
}

int gmem_punch_soon(int fd, uint64_t offset, uint64_t len, unsigned int *busy)
{
	double end = now_seconds() + 5 * tap_slow();
	int ret;

	while ((ret = gmem_punch(fd, offset, len)) && errno == EBUSY && now_seconds() < end)
		++*busy;
	return ret;
}

static void *handle(void *arg)
{
	struct gmem_handler *handler = arg;
	struct gmemfd_event event;
	void *buf = aligned_alloc(page_size(), HPAGE_SIZE);

	REQUIRE(buf);
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = handler->context, .events = POLLIN },
			{ .fd = handler->stop[0], .events = POLLIN },
		};

		REQUIRE_OK(poll(fds, 2, -1));
		if (fds[1].revents)
			break;
		if (read(handler->context, &event, sizeof(event)) != sizeof(event))
			continue;
		handler->events++;
		if (event.flags & GMEMFD_FAULT_MINOR) {
			handler->minors++;
			gmem_continue(handler->fd, event.offset, event.len, 0);
			continue;
		}
		if (handler->content)
			handler->content(buf, event.len, event.offset);
		else
			pattern_fill(buf, event.len, event.offset);
		gmem_copy(handler->fd, event.offset, event.len, buf, 0);
	}
	free(buf);
	return NULL;
}

void gmem_handler_start(struct gmem_handler *handler)
{
	REQUIRE_OK(fcntl(handler->context, F_SETFL, O_NONBLOCK));
	REQUIRE_OK(pipe2(handler->stop, O_CLOEXEC));
	handler->events = 0;
	handler->minors = 0;
	handler->thread = thread_start(handle, handler);
}

void gmem_handler_stop(struct gmem_handler *handler)
{
	REQUIRE_EQ(write(handler->stop[1], "", 1), 1);
	thread_join(handler->thread);
	close(handler->stop[0]);
	close(handler->stop[1]);
}

struct gmemfd_resolve gmem_resolve(int fd, struct gmemfd_range *ops, uint32_t nr, uint64_t flags, int *err)
{
	struct gmemfd_resolve resolve = {
		.size = sizeof(resolve),
		.nr = nr,
		.flags = flags,
		.ops = (uintptr_t)ops,
		.done = 0xdead,
		.failed = 0xdead,
	};

	for (uint32_t i = 0; i < nr; i++)
		ops[i].size = sizeof(*ops);
	*err = ioctl(fd, GMEMFD_RESOLVE, &resolve) ? errno : 0;
	return resolve;
}

int gmem_bind(int fd, int vm, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t len, uint64_t cookie)
{
	struct gmemfd_bind bind = {
		.size = sizeof(bind),
		.vm_fd = vm,
		.offset = offset,
		.vm = cookie,
		.slot = slot,
		.gpa = gpa,
		.len = len,
	};

	return ioctl(fd, GMEMFD_BIND, &bind);
}

void *gmem_bind_set(int fd, int vm, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t len, uint64_t cookie,
		    uint64_t flags)
{
	struct gmemfd_bind bind = {
		.size = sizeof(bind),
		.vm_fd = vm,
		.flags = GMEMFD_BIND_SET | flags,
		.offset = offset,
		.vm = cookie,
		.slot = slot,
		.gpa = gpa,
		.len = len,
	};

	return ioctl(fd, GMEMFD_BIND, &bind) ? NULL : (void *)(uintptr_t)bind.address;
}

int gmem_unbind(int fd, int vm, uint32_t slot, uint64_t flags)
{
	struct gmemfd_bind bind = { .size = sizeof(bind), .vm_fd = vm, .flags = flags, .slot = slot };

	return ioctl(fd, GMEMFD_UNBIND, &bind);
}

int gmem_bindings(int fd, struct gmemfd_binding *entries, uint32_t nr, uint64_t after)
{
	struct gmemfd_bindings bindings = {
		.size = sizeof(bindings),
		.nr = nr,
		.after = after,
		.entries = (uintptr_t)entries,
		.entry_size = sizeof(*entries),
	};

	return ioctl(fd, GMEMFD_BINDINGS, &bindings) ? -1 : (int)bindings.nr;
}

int gmem_vcpu_fault(int context, int vcpu, struct gmemfd_event *event)
{
	struct gmemfd_vcpu_fault fault = { .size = sizeof(fault), .vcpu_fd = vcpu };
	int ret = ioctl(context, GMEMFD_VCPU_FAULT, &fault);

	*event = fault.event;
	return ret;
}

bool gmem_has_content(int fd, uint64_t offset)
{
	return lseek(fd, offset, SEEK_DATA) == (off_t)offset;
}

bool gmem_waiters(int fd, uint64_t nr, double seconds)
{
	return wait_for(xgmem_stats(fd).waiters == nr, seconds);
}

static void *touch_once_and_tell(void *arg)
{
	struct gmem_toucher *toucher = arg;

	__atomic_store_n(&toucher->tid, gettid(), __ATOMIC_RELEASE);
	if (toucher->fd) {
		toucher->got = pread(toucher->fd, &toucher->value, 1, toucher->offset);
		toucher->err = toucher->got < 0 ? errno : 0;
	} else {
		toucher->sig = TOUCH_READ(toucher->addr);
		toucher->code = touch_last.code;
		toucher->value = touch_last.value;
	}
	return NULL;
}

void gmem_toucher_start(struct gmem_toucher *toucher)
{
	toucher->tid = 0;
	toucher->thread = thread_start(touch_once_and_tell, toucher);
}

int gmem_toucher_join(struct gmem_toucher *toucher)
{
	thread_join(toucher->thread);
	if (toucher->sig || toucher->err)
		return -1;
	return toucher->value;
}
