// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bindings of many VMs and memslots: what becomes of them when files, VMs and processes go, their list, and several
 * threads that bind at the same time.
 */
#include "bind.h"
#include "trap.h"

#include <dirent.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* --- Files, VMs and processes go ------------------------------------------------------------------- */

static const char *const kvm_modules[] = { "kvm", "kvm_amd", "kvm_intel" };

/* Users of all of KVM's modules. */
static long long kvm_users(void)
{
	long long sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kvm_modules); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", kvm_modules[i]);
		if (!access(path, R_OK))
			sum += read_number(path);
	}
	return sum;
}

/* VMs but that of the bench's init, which is there from beginning to end. */
static unsigned int vms(void)
{
	DIR *dir = opendir("/sys/kernel/debug/kvm");
	struct dirent *d;
	unsigned int nr = 0;
	int pid;

	while (dir && (d = readdir(dir)))
		nr += sscanf(d->d_name, "%d-", &pid) == 1 && pid != 1;
	if (dir)
		closedir(dir);
	return nr;
}

/*
 * The same once nothing of the cases before is on its way out any more. A VM's last steps cannot be seen: it may be one
 * too many all the same, so that afterwards there may be fewer.
 */
static long long kvm_users_at_rest(void)
{
	long long now, last;

	REQUIRE(wait_for(!vms(), 10));
	now = kvm_users();
	do {
		last = now;
		sleep_seconds(0.1 * tap_slow());
		now = kvm_users();
	} while (now != last);
	return now;
}

static bool vm_exists(pid_t pid, int vm)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d", pid, vm);
	return !access(path, F_OK);
}

TEST(vm_is_closed_while_bound)
{
	long long before = kvm_users_at_rest();
	struct rig r = rig();
	int vm = r.g.vm;

	REQUIRE_OK(bind_all(&r));
	CHECK(kvm_users() > before);
	CHECK(vm_exists(getpid(), vm));
	guest_destroy(&r.g);
	CHECK_EQ(nr_bindings(r.fd), 1);
	CHECK_EQ(listed(r.fd), 0);
	CHECK_EQ(nr_bindings(r.fd), 0);
	CHECK(wait_for(!vm_exists(getpid(), vm), 10));
	CHECK(wait_for(kvm_users() <= before, 10));
}

/* Even if nobody ever asks again. */
TEST(file_is_closed_while_bound)
{
	long long before = kvm_users_at_rest();
	struct rig r = rig();
	struct gmemfd_bind bind = { .size = sizeof(bind), .vm_fd = r.g.vm, .slot = r.slot, .gpa = GPA, .len = SIZE };
	int vm = r.g.vm, other = xgmem(SIZE);

	REQUIRE_OK(ioctl(r.fd, GMEMFD_BIND, &bind));
	REQUIRE_OK(close(r.fd));
	/* The mapping keeps it: the memslot is still bound. */
	CHECK_ERRNO(gmem_bind(other, r.g.vm, r.slot, GPA, 0, SIZE, 0), EEXIST);
	REQUIRE_OK(munmap(r.map, SIZE));
	CHECK(wait_for(gmem_bind(other, r.g.vm, r.slot, GPA, 0, SIZE, 0) == -1 && errno == EINVAL, 10));
	guest_destroy(&r.g);
	CHECK(wait_for(!vm_exists(getpid(), vm), 10));
	CHECK(wait_for(kvm_users() <= before, 10));
}

TEST(unbound_vm_is_let_go_of)
{
	long long before = kvm_users_at_rest();
	struct rig r = rig();
	int vm = r.g.vm;

	REQUIRE_OK(bind_all(&r));
	REQUIRE_OK(gmem_unbind(r.fd, r.g.vm, r.slot, 0));
	guest_destroy(&r.g);
	CHECK(wait_for(!vm_exists(getpid(), vm), 10));
	CHECK(wait_for(kvm_users() <= before, 10));
}

/* Each is refused, and leaves no VM held. */
TEST(refused_bindings_hold_nothing)
{
	long long before = kvm_users_at_rest();
	struct rig r = rig();
	int vm = r.g.vm, other = xgmem(SIZE);

	CHECK_ERRNO(gmem_bind(r.fd, r.g.vm, 9, GPA, 0, SIZE, 0), ENOENT);
	CHECK_ERRNO(gmem_bind(other, r.g.vm, r.slot, GPA, 0, SIZE, 0), EINVAL);
	CHECK(!gmem_bind_set(r.fd, r.g.vm, 7, GPA, 0, SIZE, 0, 0));
	CHECK_EQ(errno, EEXIST);
	guest_destroy(&r.g);
	CHECK(wait_for(!vm_exists(getpid(), vm), 10));
	CHECK(wait_for(kvm_users() <= before, 10));
}

/* In a child: it says by a pipe that it is ready, and waits for another byte, or its death. */
struct child {
	pid_t pid;
	int ready[2];
	int go[2];
};

static struct child child_start(void (*fn)(int fd), int fd)
{
	struct child c;
	char byte;

	REQUIRE_OK(pipe2(c.ready, O_CLOEXEC));
	REQUIRE_OK(pipe2(c.go, O_CLOEXEC));
	c.pid = REQUIRE_OK(fork());
	if (!c.pid) {
		close(c.go[1]);
		fn(fd);
		if (write(c.ready[1], "", 1) != 1 || read(c.go[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(c.ready[1]);
	REQUIRE_EQ(read(c.ready[0], &byte, 1), 1);
	return c;
}

static void bind_in_child(int fd)
{
	struct guest g;

	guest_create(&g);
	guest_add_vcpu(&g);
	REQUIRE(gmem_bind_set(fd, g.vm, 1, GPA, 0, SIZE, getpid(), 0));
	REQUIRE(gmem_bind_set(fd, g.vm, 2, 2 * GPA, 0, SIZE, getpid(), 0));
}

static const struct end_row {
	const char *label;
	int sig;
} ends[] = {
	{ "exits", 0 },
	{ "killed", SIGKILL },
};

TEST_EACH(process_goes_while_bound, struct end_row, ends)
{
	long long before = kvm_users_at_rest();
	int fd = xgmem(SIZE), status;
	struct gmemfd_binding entries[3];
	struct child c;

	if (access("/dev/kvm", F_OK))
		SKIP("this machine has no KVM");
	c = child_start(bind_in_child, fd);
	REQUIRE_EQ(gmem_bindings(fd, entries, 3, 0), 2);
	CHECK_EQ(entries[0].pid, c.pid);
	CHECK_EQ(entries[1].pid, c.pid);
	CHECK_EQ(entries[0].vm, c.pid);
	CHECK(kvm_users() > before);
	if (row->sig)
		REQUIRE_OK(kill(c.pid, row->sig));
	else
		REQUIRE_EQ(write(c.go[1], "", 1), 1);
	status = child_wait(c.pid, 10);
	REQUIRE(status != -1);
	CHECK_EQ(WIFSIGNALED(status) ? WTERMSIG(status) : 0, row->sig);
	/* Nobody has to ask. */
	CHECK(wait_for(nr_bindings(fd) == 0, 10));
	CHECK_EQ(listed(fd), 0);
	CHECK(wait_for(kvm_users() <= before, 10));
}

/* The VM's descriptor outlives its process, in another one. */
TEST(process_goes_and_the_vm_stays)
{
	long long before = kvm_users_at_rest();
	int fd = xgmem(SIZE), sock[2], vm;
	pid_t pid;

	if (access("/dev/kvm", F_OK))
		SKIP("this machine has no KVM");
	REQUIRE_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		struct guest g;

		guest_create(&g);
		REQUIRE(gmem_bind_set(fd, g.vm, 1, GPA, 0, SIZE, 5, 0));
		REQUIRE_OK(trap_send_fd(sock[1], g.vm));
		_exit(0);
	}
	vm = REQUIRE_FD(trap_receive_fd(sock[0]));
	CHECK_EQ(child_wait(pid, 10), 0);
	CHECK(wait_for(nr_bindings(fd) == 0, 10));
	/* It is nobody's any more. */
	CHECK_ERRNO(gmem_bind(fd, vm, 1, GPA, 0, SIZE, 0), EPERM);
	CHECK_ERRNO(gmem_unbind(fd, vm, 1, 0), EPERM);
	REQUIRE_OK(close(vm));
	CHECK(wait_for(kvm_users() <= before, 10));
}

TEST(vm_of_another_process)
{
	struct rig r = rig();
	pid_t pid;

	REQUIRE_OK(bind_all(&r));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		/* The same mapping at the same address, but not the same process. */
		CHECK_ERRNO(bind_all(&r), EPERM);
		CHECK_ERRNO(gmem_unbind(r.fd, r.g.vm, r.slot, 0), EPERM);
		CHECK(!gmem_bind_set(r.fd, r.g.vm, 5, 2 * GPA, 0, SIZE, 0, 0));
		CHECK_EQ(errno, EPERM);
		CHECK_EQ(only_binding(r.fd).pid, getppid());
		_exit(0);
	}
	CHECK_EQ(child_wait(pid, 10), 0);
	CHECK_EQ(listed(r.fd), 1);
	guest_destroy(&r.g);
}

static void list_in_namespace(int fd)
{
	struct gmemfd_binding entries[4];
	pid_t pid;

	REQUIRE_OK(unshare(CLONE_NEWPID));
	pid = REQUIRE_OK(fork());
	if (!pid) {
		REQUIRE_EQ(gmem_bindings(fd, entries, 4, 0), 1);
		/* Not its number out there, nor any in here. */
		CHECK_EQ(entries[0].pid, 0);
		bind_in_child(fd);
		REQUIRE_EQ(gmem_bindings(fd, entries, 4, 0), 3);
		CHECK_EQ(entries[0].pid, 0);
		CHECK_EQ(entries[1].pid, getpid());
		CHECK_EQ(getpid(), 1);
		_exit(0);
	}
	REQUIRE_EQ(child_wait(pid, 10), 0);
}

TEST(pid_namespaces)
{
	struct rig r = rig();
	struct child c;

	REQUIRE_OK(bind_all(&r));
	c = child_start(list_in_namespace, r.fd);
	REQUIRE_EQ(write(c.go[1], "", 1), 1);
	CHECK_EQ(child_wait(c.pid, 10), 0);
	CHECK(wait_for(nr_bindings(r.fd) == 1, 10));
	CHECK_EQ(only_binding(r.fd).pid, getpid());
	guest_destroy(&r.g);
}

/* --- Many ------------------------------------------------------------------------------------------ */

TEST(several_vms_in_several_processes)
{
	struct rig r = rig();
	struct gmemfd_binding entries[16];
	struct child c[2];
	struct guest second;
	uint64_t last = 0;
	int seen[3] = { 0 };

	REQUIRE_OK(bind_all(&r));
	for (int i = 0; i < 2; i++)
		c[i] = child_start(bind_in_child, r.fd);
	guest_create(&second);
	/* The same mapping is the memory of two VMs. */
	guest_add_memory(&second, 4 * GPA, r.map, SIZE);
	CHECK_OK(gmem_bind(r.fd, second.vm, 0, 4 * GPA, 0, SIZE, COOKIE + 1));
	REQUIRE_EQ(gmem_bindings(r.fd, entries, 16, 0), 6);
	for (int i = 0; i < 6; i++) {
		CHECK(entries[i].id > last);
		last = entries[i].id;
		seen[0] += entries[i].pid == (uint32_t)getpid();
		seen[1] += entries[i].pid == (uint32_t)c[0].pid;
		seen[2] += entries[i].pid == (uint32_t)c[1].pid;
	}
	for (int i = 0; i < 3; i++)
		CHECK_EQ(seen[i], 2);
	CHECK_EQ(entries[5].gpa, 4 * GPA);
	CHECK_EQ(entries[5].vm, COOKIE + 1);
	REQUIRE_OK(kill(c[0].pid, SIGKILL));
	CHECK(child_wait(c[0].pid, 10) != -1);
	CHECK(wait_for(nr_bindings(r.fd) == 4, 10));
	guest_destroy(&second);
	CHECK_EQ(listed(r.fd), 3);
	REQUIRE_EQ(write(c[1].go[1], "", 1), 1);
	CHECK_EQ(child_wait(c[1].pid, 10), 0);
	CHECK(wait_for(nr_bindings(r.fd) == 1, 10));
	guest_destroy(&r.g);
}

#define MANY 500u

TEST_LIMIT(many_slots, 120)
{
	struct gmemfd_binding *entries = calloc(MANY + 1, sizeof(*entries));
	int fd = xgmem(MANY * PAGE), nr;
	uint64_t after = 0, last = 0;
	unsigned int found = 0;
	double began = now_seconds();
	struct guest g;

	REQUIRE(entries);
	guest_create(&g);
	if (guest_has(&g, KVM_CAP_NR_MEMSLOTS) < (int)MANY)
		SKIP("KVM has too few memslots");
	for (unsigned int i = 0; i < MANY; i++)
		REQUIRE(gmem_bind_set(fd, g.vm, i, i * 2 * PAGE, i * PAGE, PAGE, i, 0));
	tap_diag("%u bound in %.2f s", MANY, now_seconds() - began);
	CHECK_EQ(nr_bindings(fd), MANY);

	/* In pieces. */
	while ((nr = REQUIRE_OK(gmem_bindings(fd, entries, 77, after))) == 77) {
		for (int i = 0; i < nr; i++) {
			REQUIRE(entries[i].id > last);
			REQUIRE_EQ(entries[i].slot, found);
			REQUIRE_EQ(entries[i].offset, found * PAGE);
			last = entries[i].id;
			found++;
		}
		after = last;
	}
	CHECK_EQ(found + nr, MANY);
	/* At once, with room to spare, and none. */
	began = now_seconds();
	CHECK_EQ(gmem_bindings(fd, entries, MANY + 1, 0), MANY);
	tap_diag("listed in %.3f s", now_seconds() - began);
	CHECK_EQ(gmem_bindings(fd, entries, MANY, 0), MANY);
	CHECK_EQ(gmem_bindings(fd, entries, 10, entries[MANY - 1].id), 0);
	CHECK_EQ(gmem_bindings(fd, entries, 10, UINT64_MAX), 0);

	/* Every other is ended in one way or the other. */
	for (unsigned int i = 0; i < MANY; i += 2)
		CHECK_OK(gmem_unbind(fd, g.vm, i, i & 2 ? GMEMFD_BIND_SET : 0));
	CHECK_EQ(nr_bindings(fd), MANY / 2);
	began = now_seconds();
	guest_destroy(&g);
	CHECK_EQ(gmem_bindings(fd, entries, MANY, 0), 0);
	tap_diag("the VM's others ended in %.3f s", now_seconds() - began);
	CHECK_EQ(nr_bindings(fd), 0);
}

/* As many as KVM allows are bound in slots-all.c, not on each kernel: KVM takes minutes for that on some. */
TEST(last_slot)
{
	int fd = xgmem(2 * PAGE);
	struct guest g;
	uint32_t last;
	long space;

	guest_create(&g);
	last = guest_has(&g, KVM_CAP_NR_MEMSLOTS) - 1;
	REQUIRE(gmem_bind_set(fd, g.vm, last, GPA, 0, PAGE, 1, 0));
	CHECK_EQ(only_binding(fd).slot, last);
	space = address_space();
	CHECK(!gmem_bind_set(fd, g.vm, last + 1, 2 * GPA, PAGE, PAGE, 2, 0));
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(address_space(), space);
	CHECK_EQ(only_binding(fd).slot, last);
	CHECK_OK(gmem_unbind(fd, g.vm, last, GMEMFD_BIND_SET));
	CHECK_EQ(nr_bindings(fd), 0);
	guest_destroy(&g);
}

/* --- At the same time ------------------------------------------------------------------------------ */

#define ROUNDS 100

/* Mappings of gmem files that this process has. */
static int mappings(void)
{
	char *text = read_file("/proc/self/maps");
	int nr = 0;

	REQUIRE(text);
	for (char *at = text; (at = strstr(at, "gmemfd")); at++)
		nr++;
	free(text);
	return nr;
}

struct racer {
	int fd;
	int vm;
	bool set;
	pthread_barrier_t *barrier;
	unsigned int made;
	unsigned int lost;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (int i = 0; i < ROUNDS; i++) {
		int err;

		pthread_barrier_wait(r->barrier);
		errno = 0;
		if (r->set)
			err = gmem_bind_set(r->fd, r->vm, 7, 4 * GPA, 0, SIZE, 0, 0) ? 0 : errno;
		else
			err = gmem_bind(r->fd, r->vm, 0, GPA, 0, SIZE, 0) ? errno : 0;
		r->made += !err;
		r->lost += err == EEXIST;
		pthread_barrier_wait(r->barrier);
		/* The first to say so unmakes it. */
		err = gmem_unbind(r->fd, r->vm, r->set ? 7 : 0, r->set ? GMEMFD_BIND_SET : 0) ? errno : 0;
		r->made -= !err;
		if (err)
			CHECK_EQ(err, ENOENT);
	}
	return NULL;
}

static const struct race_row {
	const char *label;
	bool set;
} races[] = {
	{ "bind", false },
	{ "set", true },
};

TEST_EACH_LIMIT(two_bind_one_slot, struct race_row, races, 60)
{
	struct rig r = rig();
	pthread_barrier_t barrier;
	struct racer racers[2];
	pthread_t threads[2];

	REQUIRE_EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
	for (int i = 0; i < 2; i++) {
		racers[i] = (struct racer){ .fd = r.fd, .vm = r.g.vm, .set = row->set, .barrier = &barrier };
		threads[i] = thread_start(race, &racers[i]);
	}
	for (int i = 0; i < 2; i++)
		thread_join(threads[i]);
	/* One of the two in each round, and each was unmade once. */
	CHECK_EQ(racers[0].lost + racers[1].lost, ROUNDS);
	CHECK_EQ(racers[0].made + racers[1].made, 0);
	CHECK_EQ(nr_bindings(r.fd), 0);
	CHECK(!has_slot(&r.g, 7));
	CHECK_EQ(mappings(), 1);
	guest_destroy(&r.g);
}

static atomic_uint listed_some, vms_made;

static void *list_on_and_on(void *arg)
{
	struct rig *r = arg;
	struct gmemfd_binding entries[8];

	while (!__atomic_load_n(&r->slot, __ATOMIC_ACQUIRE)) {
		int nr = gmem_bindings(r->fd, entries, 8, 0);

		REQUIRE(nr >= 0 && nr <= 3);
		for (int i = 0; i < nr; i++) {
			REQUIRE(entries[i].address);
			REQUIRE_EQ(entries[i].len, SIZE);
			listed_some++;
		}
	}
	return NULL;
}

static void *close_and_make(void *arg)
{
	struct rig *r = arg;

	while (!__atomic_load_n(&r->slot, __ATOMIC_ACQUIRE)) {
		int kvm = REQUIRE_FD(open("/dev/kvm", O_RDWR | O_CLOEXEC));
		int vm = REQUIRE_FD(ioctl(kvm, KVM_CREATE_VM, 0));
		void *map = gmem_bind_set(r->fd, vm, 1, GPA, 0, SIZE, 0, 0);

		REQUIRE(map);
		REQUIRE_OK(close(vm));
		REQUIRE_OK(munmap(map, SIZE));
		REQUIRE_OK(close(kvm));
		vms_made++;
	}
	return NULL;
}

/* Lists are made while bindings come, go, and lose their VMs and memslots. */
TEST(lists_while_all_changes)
{
	long long before = kvm_users_at_rest();
	struct rig r = rig();
	struct rig shared = { .g = r.g, .fd = r.fd, .slot = 0 };
	pthread_t threads[3];
	double began = now_seconds();
	unsigned long did = 0;

	threads[0] = thread_start(list_on_and_on, &shared);
	threads[1] = thread_start(list_on_and_on, &shared);
	threads[2] = thread_start(close_and_make, &shared);
	/* For a second, and until each has met the others' work. */
	while (now_seconds() < began + 1 || !listed_some || vms_made < 2 || did < 4) {
		REQUIRE(now_seconds() < began + 20 * tap_slow());
		REQUIRE_OK(bind_all(&r));
		if (did & 1) {
			guest_remove_memory(&r.g, r.slot);
			guest_move_memory(&r.g, r.slot, GPA);
		}
		/* After the memslot was gone a list may have ended it. */
		if (gmem_unbind(r.fd, r.g.vm, r.slot, 0))
			REQUIRE(errno == ENOENT && did & 1);
		did++;
	}
	__atomic_store_n(&shared.slot, 1, __ATOMIC_RELEASE);
	for (size_t i = 0; i < 3; i++)
		thread_join(threads[i]);
	tap_diag("%lu rounds, %u VMs, %u entries in lists", did, vms_made, listed_some);
	CHECK_EQ(listed(r.fd), 0);
	guest_destroy(&r.g);
	CHECK(wait_for(kvm_users() <= before, 10));
}

static void *bind_on_and_on(void *arg)
{
	struct rig *r = arg;

	for (;;) {
		int ret = gmem_bind(__atomic_load_n(&r->fd, __ATOMIC_ACQUIRE), r->g.vm, r->slot, GPA, 0, SIZE, 0);

		if (ret && errno == EBADF)
			return NULL;
		if (ret)
			REQUIRE(errno == EEXIST || errno == EINVAL || errno == ENOTTY);
	}
}

/* The descriptors go while a thread binds. */
static const struct closed_row {
	const char *label;
	bool vm;
} closed[] = {
	{ "file", false },
	{ "vm", true },
};

TEST_EACH(binds_against_close, struct closed_row, closed)
{
	long long before = kvm_users_at_rest();

	for (int i = 0; i < 20; i++) {
		struct rig r = rig();
		pthread_t thread = thread_start(bind_on_and_on, &r);
		int fd = dup(r.fd);

		sleep_seconds(0.001 * (i % 4));
		REQUIRE_OK(close(row->vm ? r.g.vm : r.fd));
		thread_join(thread);
		REQUIRE_OK(close(row->vm ? r.fd : r.g.vm));
		REQUIRE_OK(close(r.g.kvm));
		if (row->vm)
			CHECK_EQ(listed(fd), 0);
		REQUIRE_OK(close(fd));
		REQUIRE_OK(munmap(r.map, SIZE));
	}
	CHECK(wait_for(kvm_users() <= before, 10));
}
