// SPDX-License-Identifier: GPL-2.0-only
/*
 * What VMMs do with gmemfd, call by call, as docs/vmm.md has it: Firecracker hands a context and a list of its regions
 * to a handler behind a socket; QEMU and Cloud Hypervisor open a path.
 */
#include "guest.h"
#include "lazy.h"
#include "peer.h"
#include "trap.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>

#define PAGE 4096ul
#define A LAZY_DATA
#define B (LAZY_DATA + 7 * PAGE)
#define SIZE LAZY_SIZE

/* Adds the words at rdi and rsi, says the sum, and begins again. */
GUEST_CODE(adds, ".code64",
	   "1:	movl (%rdi), %eax\n"
	   "	addl (%rsi), %eax\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	jmp 1b");

static unsigned char *make_image(void)
{
	struct lazy m = { .image = xmmap_anon(SIZE) };

	for (size_t at = 0; at < SIZE; at += PAGE)
		pattern_fill(m.image + at, PAGE, at);
	lazy_image(&m, LAZY_CODE_OF(adds));
	return m.image;
}

static uint32_t word(const unsigned char *image, uint64_t gpa)
{
	uint32_t w;

	memcpy(&w, image + gpa, sizeof(w));
	return w;
}

static void start(struct guest *g)
{
	struct kvm_regs regs;

	guest_long_mode(g, 0, LAZY_TABLES, LAZY_CODE, LAZY_STACK);
	regs = guest_get_regs(g, 0);
	regs.rdi = A;
	regs.rsi = B;
	guest_set_regs(g, 0, &regs);
	guest_start(g, 0);
}

/* Code, two pages of data, and four levels of tables. */
#define TOUCHED 7

/* --- Firecracker -------------------------------------------------------------------------------------------- */

#define REGIONS 2
#define SOCKET "/tmp/gmemfd-kvm-vmm.sock"
#define SPLIT (LAZY_DATA + 4 * PAGE)	/* where the second region begins */

struct region {
	unsigned long long base, size, offset, page_size, page_size_kib;
};

/* What the handler tells of itself, before it does it: shared with the VMM, for the test alone. */
struct account {
	int listens;
	int faults;
	int removes;
	int zeros;
};

/* One object of the list, as the VMM writes it; the rest of the text, or NULL. */
static const char *parse_region(const char *text, struct region *r)
{
	int n = 0;

	if (sscanf(text, " %*[[,] {\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,\"page_size\":%llu,"
		   "\"page_size_kib\":%llu}%n", &r->base, &r->size, &r->offset, &r->page_size, &r->page_size_kib,
		   &n) != 5 || !n)
		return NULL;
	return text + n;
}

static int receive_list(int sock, struct region *regions)
{
	char text[4096], space[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space),
	};
	ssize_t n = REQUIRE_OK(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	const char *at = text;
	int fd;

	text[n] = '\0';
	for (int i = 0; i < REGIONS; i++)
		REQUIRE((at = parse_region(at, &regions[i])) != NULL);
	REQUIRE(!strcmp(at, "]"));
	REQUIRE(cmsg && cmsg->cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/*
 * A handler for Firecracker, which knows nothing of gmemfd: the snapshot mapped, UFFDIO_COPY from it, zeros where the
 * balloon has taken memory away.
 */
static void handle(int snapshot, int listener, struct account *account)
{
	const unsigned char *content = xmmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, snapshot, 0);
	struct region regions[REGIONS];
	bool removed[SIZE / PAGE] = { false };
	struct uffd_msg msg;
	int sock, uffd;

	__atomic_store_n(&account->listens, 1, __ATOMIC_RELEASE);
	sock = REQUIRE_FD(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	uffd = receive_list(sock, regions);
	for (;;) {
		struct pollfd fds[] = { { .fd = uffd, .events = POLLIN }, { .fd = sock, .events = POLLIN } };
		struct region *r = regions;
		uint64_t at, offset;

		REQUIRE_OK(poll(fds, 2, -1));
		if (fds[1].revents)
			return;		/* the VMM is gone */
		if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		at = msg.event == UFFD_EVENT_REMOVE ? msg.arg.remove.start : msg.arg.pagefault.address;
		while (at < r->base || at >= r->base + r->size)
			REQUIRE(++r < regions + REGIONS);
		offset = at - r->base + r->offset;
		if (msg.event == UFFD_EVENT_REMOVE) {
			__atomic_add_fetch(&account->removes, 1, __ATOMIC_RELEASE);
			for (uint64_t n = msg.arg.remove.start; n < msg.arg.remove.end; n += PAGE)
				removed[(n - r->base + r->offset) / PAGE] = true;
			continue;
		}
		REQUIRE_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
		offset -= offset % r->page_size;
		at -= at % r->page_size;
		if (removed[offset / PAGE]) {
			struct uffdio_zeropage zero = { .range = { at, r->page_size } };

			__atomic_add_fetch(&account->zeros, 1, __ATOMIC_RELEASE);
			REQUIRE_OK(ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
		} else {
			__atomic_add_fetch(&account->faults, 1, __ATOMIC_RELEASE);
			REQUIRE_OK(uffd_copy(uffd, (void *)at, content + offset, r->page_size, 0));
		}
	}
}

static const struct device_row {
	const char *label;
	const char *path;
} devices[] = {
	{ "by_name", "/dev/gmemfd" },
	{ "by_node_of_a_jail", "/tmp/gmemfd-kvm-vmm.node" },
};

/* USERFAULTFD_IOC_NEW and UFFDIO_API as Firecracker's library does them, but for the path of the device. */
static int firecracker_uffd(const char *path)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE };
	int dev = REQUIRE_FD(open(path, O_RDWR | O_CLOEXEC)), uffd;

	uffd = REQUIRE_FD(ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
	REQUIRE_OK(close(dev));
	REQUIRE_OK(ioctl(uffd, UFFDIO_API, &api));
	REQUIRE(api.features & UFFD_FEATURE_EVENT_REMOVE);
	return uffd;
}

static int send_list(int uffd, unsigned char *const *maps, const size_t *offsets, const size_t *sizes)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	char text[1024], space[CMSG_SPACE(sizeof(uffd))] = { 0 };
	struct iovec iov = { .iov_base = text };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int sock = REQUIRE_FD(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

	for (int i = 0; i < REGIONS; i++)
		iov.iov_len += snprintf(text + iov.iov_len, sizeof(text) - iov.iov_len,
					"%c{\"base_host_virt_addr\":%llu,\"size\":%zu,\"offset\":%zu,\"page_size\":%lu,"
					"\"page_size_kib\":%lu}", i ? ',' : '[', (unsigned long long)(uintptr_t)maps[i],
					sizes[i], offsets[i], PAGE, PAGE);
	iov.iov_len += snprintf(text + iov.iov_len, sizeof(text) - iov.iov_len, "]");
	REQUIRE(iov.iov_len < sizeof(text));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(uffd));
	memcpy(CMSG_DATA(cmsg), &uffd, sizeof(uffd));
	REQUIRE_OK(connect(sock, (struct sockaddr *)&name, sizeof(name)));
	REQUIRE_EQ(sendmsg(sock, &msg, 0), iov.iov_len);
	return sock;
}

TEST_EACH(firecracker, struct device_row, devices)
{
	static const size_t offsets[REGIONS] = { 0, SPLIT }, sizes[REGIONS] = { SPLIT, SIZE - SPLIT };
	struct account *account = xmmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int snapshot, listener, uffd, memory, sock;
	unsigned char *image = make_image(), *maps[REGIONS];
	struct stat device;
	struct guest g;
	pid_t handler;

	guest_create(&g);
	REQUIRE_OK(stat(devices[0].path, &device));
	if (row != devices) {
		unlink(row->path);
		REQUIRE_OK(mknod(row->path, S_IFCHR | 0600, device.st_rdev));
		memory = open(row->path, O_RDWR | O_CLOEXEC);
		if (memory < 0 && errno == EACCES)
			SKIP("/tmp is mounted without device nodes");
		REQUIRE_OK(memory);
		REQUIRE_OK(close(memory));
	}
	snapshot = xmemfd(SIZE);
	REQUIRE_EQ(pwrite(snapshot, image, SIZE, 0), SIZE);
	unlink(SOCKET);
	listener = REQUIRE_FD(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	REQUIRE_OK(bind(listener, (struct sockaddr *)&name, sizeof(name)));
	REQUIRE_OK(listen(listener, 1));
	handler = REQUIRE_OK(fork());
	if (!handler) {
		handle(snapshot, listener, account);
		_exit(0);
	}
	REQUIRE_OK(close(listener));

	/* The memory: a gmem file, shared, instead of anonymous memory. The rest is as it was. */
	memory = xgmem(SIZE);
	for (int i = 0; i < REGIONS; i++)
		maps[i] = xmmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory, offsets[i]);
	uffd = firecracker_uffd(row->path);
	for (int i = 0; i < REGIONS; i++)
		xuffd_register(uffd, maps[i], sizes[i], UFFDIO_REGISTER_MODE_MISSING);
	sock = send_list(uffd, maps, offsets, sizes);

	for (int i = 0; i < REGIONS; i++)
		guest_add_memory(&g, offsets[i], maps[i], sizes[i]);
	guest_add_vcpu(&g);
	start(&g);
	lazy_said(guest_join(&g, 0, 10), word(image, A) + word(image, B));
	CHECK_EQ(__atomic_load_n(&account->faults, __ATOMIC_ACQUIRE), TOUCHED);
	CHECK_EQ(xgmem_stats(memory).allocated, TOUCHED * PAGE);

	/* The balloon takes a page, by MADV_REMOVE where it was MADV_DONTNEED; the guest comes back to it. */
	REQUIRE_OK(madvise(maps[1] + (B - SPLIT), PAGE, MADV_REMOVE));
	CHECK(wait_for(__atomic_load_n(&account->removes, __ATOMIC_ACQUIRE) == 1, 10));
	guest_start(&g, 0);
	lazy_said(guest_join(&g, 0, 10), word(image, A));
	CHECK_EQ(__atomic_load_n(&account->zeros, __ATOMIC_ACQUIRE), 1);
	CHECK_EQ(__atomic_load_n(&account->faults, __ATOMIC_ACQUIRE), TOUCHED);
	guest_destroy(&g);
	REQUIRE_OK(close(sock));
	CHECK_EQ(child_wait(handler, 10), 0);
	REQUIRE_OK(unlink(SOCKET));
	if (row != devices)
		REQUIRE_OK(unlink(row->path));
}

/* --- A path ------------------------------------------------------------------------------------------------- */

/* What these return is what the VMMs look at, too. */
static unsigned char *open_like_qemu(const char *path, int *fd)
{
	const size_t align = HPAGE_SIZE;
	unsigned char *area, *map;
	struct statfs fs;
	struct stat st;

	*fd = REQUIRE_FD(open(path, O_RDWR));
	/* Its size decides that it is not to be truncated; its file system, how large its pages are. */
	REQUIRE_OK(fstat(*fd, &st));
	REQUIRE_EQ(lseek(*fd, 0, SEEK_END), SIZE);
	REQUIRE_OK(fstatfs(*fd, &fs));
	/* Address space first, with room for alignment and a guard page; then the file over it. */
	area = xmmap(NULL, SIZE + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	map = (unsigned char *)(((uintptr_t)area + align - 1) & -align);
	REQUIRE(xmmap(map, SIZE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, *fd, 0) == map);
	/* Transparent huge pages may be configured away. */
	CHECK(!madvise(map, SIZE, MADV_HUGEPAGE) || errno == EINVAL);
	CHECK_OK(madvise(map, SIZE, MADV_DONTFORK));
	CHECK_OK(madvise(map, SIZE, MADV_DONTDUMP));
	return map;
}

static unsigned char *open_like_cloud_hypervisor(const char *path, int *fd)
{
	unsigned char *map;
	struct stat st;

	REQUIRE_OK(stat(path, &st));
	REQUIRE(!S_ISDIR(st.st_mode));
	/* With a name, it takes the file's content for saved. */
	REQUIRE(st.st_nlink > 0);
	*fd = REQUIRE_FD(open(path, O_RDWR | O_CLOEXEC));
	/* Its library makes sure that the file has all that is to be mapped. */
	REQUIRE_EQ(lseek(*fd, 0, SEEK_END), SIZE);
	map = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_NORESERVE | MAP_SHARED, *fd, 0);
	CHECK_OK(madvise(map, SIZE, MADV_DONTDUMP));
	return map;
}

static const struct path_row {
	const char *label;
	unsigned char *(*open)(const char *path, int *fd);
} paths[] = {
	{ "qemu", open_like_qemu },
	{ "cloud_hypervisor", open_like_cloud_hypervisor },
};

/* The VMM, another process that knows a path and nothing else. */
static void run_vmm(const struct path_row *row, const char *path, const unsigned char *image)
{
	unsigned char *map;
	struct guest g;
	int fd;

	guest_create(&g);
	map = row->open(path, &fd);
	guest_add_memory(&g, 0, map, SIZE);
	guest_add_vcpu(&g);
	start(&g);
	lazy_said(guest_join(&g, 0, 10), word(image, A) + word(image, B));
	/* The balloon, and virtio-mem: a hole, through the VMM's own descriptor; the guest comes back to it. */
	REQUIRE_OK(gmem_punch(fd, B, PAGE));
	guest_start(&g, 0);
	lazy_said(guest_join(&g, 0, 10), word(image, A) + word(image, B));
	guest_destroy(&g);
}

static unsigned char *served;

static void from_image(void *buf, size_t len, uint64_t offset)
{
	memcpy(buf, served + offset, len);
}

TEST_EACH(path, struct path_row, paths)
{
	struct gmem_handler handler = { .content = from_image };
	struct gmemfd_stats stats;
	char path[64];
	pid_t vmm;

	if (access("/dev/kvm", F_OK))
		SKIP("this machine has no KVM");
	served = make_image();
	handler.fd = xgmem(SIZE);
	handler.context = xgmem_context();
	REQUIRE_OK(gmem_watch(handler.fd, handler.context, 0, SIZE, GMEMFD_MODE_MISSING, 0, GMEMFD_POLICY_HOLD));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), handler.fd);
	gmem_handler_start(&handler);
	vmm = REQUIRE_OK(fork());
	if (!vmm) {
		/* It has no descriptor of the file but that which it opens. */
		REQUIRE_OK(close(handler.fd));
		run_vmm(row, path, served);
		_exit(0);
	}
	CHECK_EQ(child_wait(vmm, 20), 0);
	gmem_handler_stop(&handler);
	CHECK_EQ(handler.events, TOUCHED + 1);
	stats = xgmem_stats(handler.fd);
	CHECK_EQ(stats.allocated, TOUCHED * PAGE);
	CHECK_EQ(stats.punched, PAGE);
	CHECK_EQ(stats.faults_zero, 0);
}
