// SPDX-License-Identifier: GPL-2.0-only
/*
 * gmemctl serve: VMMs that hand over their context as Firecracker does, those that send something else, and page
 * servers that die. A VMM here is a process with memory of a gmem file, or one with the kernel's own userfaultfd.
 */
#include "cli.h"

#include <sched.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "gmem.h"
#include "peer.h"

#define PAGES 64
#define IMAGE "/tmp/image"
#define SOCKET "/tmp/gmemctl.sock"
#define TEN "/123456789"
#define TOO_LONG TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static size_t bytes(void)
{
	return PAGES * page_size();
}

/* How a VMM sends its descriptor with its regions. */
static void hand_over(int sock, const char *json, int fd)
{
	char space[CMSG_SPACE(sizeof(fd))] = {};
	struct iovec iov = { .iov_base = (char *)json, .iov_len = strlen(json) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (fd >= 0) {
		msg.msg_control = space;
		msg.msg_controllen = sizeof(space);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	REQUIRE_EQ(sendmsg(sock, &msg, MSG_NOSIGNAL), strlen(json));
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int sock = REQUIRE_FD(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

	strcpy(address.sun_path, path);
	REQUIRE_OK(connect(sock, (void *)&address, sizeof(address)));
	return sock;
}

/* With the image as it is. */
static struct cli listen_with(const char *more)
{
	struct cli c;

	unlink(SOCKET);
	c = cli_run(-1, "serve", "--socket", SOCKET, "--image", IMAGE, more);
	REQUIRE(cli_says(&c, "VMMs are taken at " SOCKET));
	return c;
}

static struct cli start(const char *more)
{
	cli_image(IMAGE, PAGES, 0, 0);
	return listen_with(more);
}

/* Ends it as an administrator would; nobody is served any more, so it has nothing to say. */
static void end(struct cli *c)
{
	REQUIRE_OK(kill(c->pid, SIGTERM));
	cli_end(c, 20);
	CHECK_EQ(c->code, 0);
	CHECK_ERRNO(access(SOCKET, F_OK), ENOENT);
}

struct vmm {
	pid_t pid;
	int asked[2], answered[2];
};

enum kind {
	BYTES,			/* "page_size" */
	KIB_IN_BYTES,		/* "page_size_kib", in bytes, as older ones had it */
	KIB,			/* the same in KiB */
	BOTH,
	TWO,			/* regions, the other way round in memory */
	KERNEL,			/* the kernel's own userfaultfd */
	KINDS
};

/* The others are as BYTES. */
static const char *const formats[KINDS] = {
	[BYTES] = "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu,\"page_size\":4096}]",
	[KIB_IN_BYTES] = "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu,\"page_size_kib\":4096}]",
	[KIB] = "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu,\"page_size_kib\":4}]",
	[BOTH] = "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu,\"page_size\":4096,"
		 "\"page_size_kib\":4096}]",
	[TWO] = "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu,\"page_size\":4096},"
		" {\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":%zu,\"page_size\":4096}]",
};

/*
 * The VMM's side: memory, context, handing over; then it does what it is asked: 'r' reads all of its memory and
 * answers 1 if it is the image, 'p' gives page 5 back and answers 1 if it reads as zeros, 'w' waits in a thread for
 * page 40 and answers 2 at once and then 1, 'n' has two threads wait and a third give back what lies between them and
 * answers as 'w', 't' touches the page that follows for so many seconds and answers what it met, with 'q' it ends.
 */
static void *read_page(void *arg)
{
	return (void *)(uintptr_t)(*(volatile unsigned char *)arg + 1);
}

struct give_back {
	unsigned char *from;
	int advice;
};

static void *give_back_pages(void *arg)
{
	const struct give_back *give = arg;

	return (void *)(uintptr_t)!madvise(give->from, 16 * page_size(), give->advice);
}

/* A page of the two clusters that 'n' touches has what it should: the image, or zeros where it was given back. */
static bool after_removal(const unsigned char *map)
{
	size_t ps = page_size();
	bool as_wanted = true;

	for (size_t at = 0; at < 32 * ps; at += ps)
		as_wanted &= at / ps / 8 % 3 ? all_bytes_are(map + at, ps, 0) : pattern_is(map + at, ps, at);
	return as_wanted;
}

/* What 't' answers. */
enum met { OTHER, CONTENT, ERROR, NOTHING_YET };

static void *touch_page(void *arg)
{
	return (void *)(uintptr_t)(TOUCH_READ(arg) == SIGBUS ? ERROR : CONTENT);
}

static enum met touch(unsigned char *map, size_t page, double patience)
{
	unsigned char *at = map + page * page_size();
	pthread_t thread = thread_start(touch_page, at);

	if (!thread_join_for(thread, patience))
		return NOTHING_YET;
	if (TOUCH_READ(at) == SIGBUS)
		return ERROR;
	return pattern_is(at, page_size(), page * page_size()) ? CONTENT : OTHER;
}

static void be_vmm(struct vmm *vmm, enum kind kind)
{
	int uffd, sock = connect_to(SOCKET);
	size_t half = kind == TWO ? bytes() / 2 : 0;
	unsigned char *map, *page = malloc(page_size()), answer, want, which;
	pthread_t thread, others[2];
	struct give_back give;
	int give_back = kind == KERNEL ? MADV_DONTNEED : MADV_REMOVE;
	char json[512], what, patience;

	if (kind == KERNEL) {
		uffd = xuffd(UFFD_FEATURE_EVENT_REMOVE);
		map = xmmap(NULL, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	} else {
		uffd = xuffd_gmem(UFFD_FEATURE_EVENT_REMOVE);
		map = xmmap(NULL, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, xgmem(bytes()), 0);
	}
	xuffd_register(uffd, map, bytes(), UFFDIO_REGISTER_MODE_MISSING);
	/* The second half of memory is the first of the image. */
	snprintf(json, sizeof(json), formats[kind] ?: formats[BYTES], (size_t)map, bytes() - half, half,
		 (size_t)map + half, half, (size_t)0);
	hand_over(sock, json, uffd);
	while (read(vmm->asked[0], &what, 1) == 1 && what != 'q') {
		answer = 1;
		switch (what) {
		case 't':
			REQUIRE_EQ(read(vmm->asked[0], &which, 1), 1);
			REQUIRE_EQ(read(vmm->asked[0], &patience, 1), 1);
			answer = touch(map, which, patience);
			break;
		case 'r':
			for (size_t at = 0; at < bytes(); at += page_size())
				answer &= pattern_is(map + at, page_size(), (at + half) % bytes());
			break;
		case 'p':
			pattern_fill(page, page_size(), 5 * page_size());
			answer &= !memcmp(map + 5 * page_size(), page, page_size());
			answer &= !madvise(map + 5 * page_size(), page_size(), give_back);
			answer &= all_bytes_are(map + 5 * page_size(), page_size(), 0);
			/* And one that nobody has touched yet. */
			answer &= !madvise(map + 50 * page_size(), page_size(), give_back);
			answer &= all_bytes_are(map + 50 * page_size(), page_size(), 0);
			break;
		case 'w':
			thread = thread_start(read_page, map + 40 * page_size());
			sleep_seconds(0.2);
			answer = 2;
			REQUIRE_EQ(write(vmm->answered[1], &answer, 1), 1);
			pattern_fill(page, page_size(), 40 * page_size());
			want = *page;
			answer = (uintptr_t)thread_join(thread) == want + 1ul;
			break;
		case 'n':
			others[0] = thread_start(read_page, map);
			others[1] = thread_start(read_page, map + 31 * page_size());
			sleep_seconds(0.2);
			give = (struct give_back){ map + 8 * page_size(), give_back };
			thread = thread_start(give_back_pages, &give);
			sleep_seconds(0.2);
			answer = 2;
			REQUIRE_EQ(write(vmm->answered[1], &answer, 1), 1);
			thread_join(others[0]);
			thread_join(others[1]);
			answer = thread_join(thread) && after_removal(map);
			break;
		case 'e':
			for (int i = 0; i < 2; i++) {
				others[i] = thread_start(touch_page, map + (31 - i) * page_size());
				sleep_seconds(0.2);
			}
			REQUIRE_EQ(write(vmm->answered[1], "\2", 1), 1);
			answer &= (uintptr_t)thread_join(others[0]) == CONTENT;
			answer &= (uintptr_t)thread_join(others[1]) == ERROR;
			break;
		}
		REQUIRE_EQ(write(vmm->answered[1], &answer, 1), 1);
	}
	_exit(0);
}

static struct vmm start_vmm(enum kind kind)
{
	struct vmm vmm;

	REQUIRE_OK(pipe(vmm.asked));
	REQUIRE_OK(pipe(vmm.answered));
	vmm.pid = REQUIRE_OK(fork());
	if (!vmm.pid) {
		close(vmm.asked[1]);
		close(vmm.answered[0]);
		be_vmm(&vmm, kind);
	}
	close(vmm.asked[0]);
	close(vmm.answered[1]);
	return vmm;
}

static int answer(struct vmm *vmm)
{
	unsigned char byte;

	return read(vmm->answered[0], &byte, 1) == 1 ? byte : -1;
}

static int ask(struct vmm *vmm, char what)
{
	REQUIRE_EQ(write(vmm->asked[1], &what, 1), 1);
	return answer(vmm);
}

/* What is waited for comes; what is not to come is believed not to after a second. */
static void check_touch(struct vmm *vmm, unsigned char page, enum met want)
{
	const unsigned char request[] = { 't', page, want == NOTHING_YET ? 1 : 10 };

	REQUIRE_EQ(write(vmm->asked[1], request, sizeof(request)), sizeof(request));
	CHECK_EQ(answer(vmm), want);
}

static void end_vmm(struct vmm *vmm)
{
	REQUIRE_EQ(write(vmm->asked[1], "q", 1), 1);
	CHECK_EQ(child_wait(vmm->pid, 10), 0);
	close(vmm->asked[1]);
	close(vmm->answered[0]);
}

static const struct form {
	const char *label;
	enum kind kind;
	const char *option;
} forms[] = {
	{ "page_size", BYTES, NULL },
	{ "page_size_kib_in_bytes", KIB_IN_BYTES, NULL },
	{ "page_size_kib", KIB, NULL },
	{ "both", BOTH, NULL },
	{ "two_regions", TWO, NULL },
	{ "on_demand", BYTES, "--no-background" },
	{ "kernel", KERNEL, NULL },
	{ "kernel_on_demand", KERNEL, "--no-background" },
};

TEST_EACH(content, struct form, forms)
{
	struct cli c = start(row->option);
	struct vmm vmm = start_vmm(row->kind);

	CHECK_EQ(ask(&vmm, 'r'), 1);
	end_vmm(&vmm);
	/* The server ends with its VMM; what it was just providing may not be counted yet. */
	CHECK(cli_says(&c, "has ended: "));
	CHECK(cli_says(&c, " of 256 KiB, "));
	end(&c);
}

static const struct form removals[] = {
	{ "gmemfd", BYTES, NULL },
	{ "gmemfd_on_demand", BYTES, "--no-background" },
	{ "kernel", KERNEL, NULL },
	{ "kernel_on_demand", KERNEL, "--no-background" },
};

/* The keeper of a VMM is a child of the server that listens; its page server is its own. */
static pid_t keeper_of(struct cli *c)
{
	return cli_child(c->pid, "gmemctl", 0);
}

TEST_EACH(removed_is_zeros, struct form, removals)
{
	struct cli c = start(row->option);
	struct vmm vmm = start_vmm(row->kind);

	CHECK_EQ(ask(&vmm, 'p'), 1);
	end_vmm(&vmm);
	end(&c);
}

static const struct form both_kinds[] = {
	{ "gmemfd", BYTES, NULL },
	{ "kernel", KERNEL, NULL },
};

/*
 * Every thread that answers faults has one when the server hears of memory that is given back, and nothing can be
 * provided until it has.
 */
TEST_EACH(removal_while_all_answer, struct form, both_kinds)
{
	struct cli c = start("--no-background");
	struct vmm vmm = start_vmm(row->kind);
	pid_t server;

	server = cli_server(keeper_of(&c), 0);
	REQUIRE(server);
	cli_stop(server);
	CHECK_EQ(ask(&vmm, 'n'), 2);
	REQUIRE_OK(kill(server, SIGCONT));
	CHECK_EQ(answer(&vmm), 1);
	end_vmm(&vmm);
	end(&c);
}

/* What the VMM meets in a page that cannot be had: an error, or where the kernel has none, nothing. */
static enum met refusal(enum kind kind)
{
	struct uffdio_api api = { .api = UFFD_API };
	int uffd;

	if (kind != KERNEL)
		return ERROR;
	uffd = REQUIRE_FD(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
	REQUIRE_OK(ioctl(uffd, UFFDIO_API, &api));
	close(uffd);
	return api.features & 1 << 14 ? ERROR : NOTHING_YET;
}

/* The image is cut while it is served: what is there stays, and the VMM is served on. */
TEST_EACH(image_cut, struct form, both_kinds)
{
	struct cli c = start("--no-background");
	struct vmm vmm = start_vmm(row->kind);
	pid_t server;

	check_touch(&vmm, 0, CONTENT);
	server = cli_server(keeper_of(&c), 0);
	REQUIRE(server);
	/* Who has waited for one page is let go before its neighbours are there, and it is to be there in time. */
	check_touch(&vmm, 1, CONTENT);
	REQUIRE_OK(truncate(IMAGE, bytes() / 2));
	check_touch(&vmm, 50, refusal(row->kind));
	check_touch(&vmm, 20, refusal(row->kind));
	check_touch(&vmm, 1, CONTENT);
	check_touch(&vmm, 50, refusal(row->kind));
	CHECK(cli_says(&c, "was changed while it is served"));
	CHECK_EQ(cli_server(keeper_of(&c), 0), server);
	end_vmm(&vmm);
	end(&c);
}

static const struct form unreadables[] = {
	{ "gmemfd", BYTES, NULL },
	{ "gmemfd_on_demand", BYTES, "--no-background" },
	{ "kernel", KERNEL, NULL },
	{ "kernel_on_demand", KERNEL, "--no-background" },
};

/* A page of the image that cannot be read costs the VMM this page. */
TEST_EACH(unreadable, struct form, unreadables)
{
	struct vmm vmm;
	pid_t server;
	struct cli c;

	cli_image(IMAGE, PAGES, 0, 0);
	cli_break_page(IMAGE, 30);
	c = listen_with(row->option);
	vmm = start_vmm(row->kind);
	check_touch(&vmm, 30, refusal(row->kind));
	server = cli_server(keeper_of(&c), 0);
	REQUIRE(server);
	CHECK(cli_says(&c, "cannot be read from byte 122880 to 126976: "));
	for (unsigned char page = 0; page < PAGES; page++)
		if (page != 30)
			check_touch(&vmm, page, CONTENT);
	check_touch(&vmm, 30, refusal(row->kind));
	CHECK_EQ(cli_server(keeper_of(&c), 0), server);
	end_vmm(&vmm);
	end(&c);
}

/* The fault is in line behind one that finds out, and refuses the page before its turn has come. */
TEST(unreadable_in_line)
{
	struct vmm vmm;
	struct cli c;
	pid_t server;

	cli_image(IMAGE, PAGES, 0, 0);
	cli_break_page(IMAGE, 30);
	c = listen_with("--no-background");
	vmm = start_vmm(BYTES);
	server = cli_server(keeper_of(&c), 0);
	REQUIRE(server);
	cli_stop(server);
	CHECK_EQ(ask(&vmm, 'e'), 2);
	REQUIRE_OK(kill(server, SIGCONT));
	CHECK_EQ(answer(&vmm), 1);
	end_vmm(&vmm);
	end(&c);
}

TEST(several_vmms)
{
	struct cli c = start("--no-background");
	struct vmm a = start_vmm(BYTES), b = start_vmm(BYTES), other;

	CHECK_EQ(ask(&a, 'r'), 1);
	/* One that dies is no affair of the other. */
	REQUIRE_OK(kill(a.pid, SIGKILL));
	child_wait(a.pid, 10);
	CHECK_EQ(ask(&b, 'r'), 1);
	other = start_vmm(BYTES);
	CHECK_EQ(ask(&other, 'p'), 1);
	end_vmm(&other);
	end_vmm(&b);
	end(&c);
}

TEST(server_killed)
{
	struct cli c = start("--no-background");
	struct vmm vmm = start_vmm(BYTES);
	pid_t keeper, server;

	CHECK_EQ(ask(&vmm, 'p'), 1);
	keeper = keeper_of(&c);
	REQUIRE(keeper);
	server = cli_server(keeper, 0);
	REQUIRE(server);
	/* What is faulted now it does not answer. */
	cli_stop(server);
	CHECK_EQ(ask(&vmm, 'w'), 2);
	REQUIRE_OK(kill(server, SIGKILL));
	CHECK_EQ(answer(&vmm), 1);
	REQUIRE(cli_server(keeper, server));
	end_vmm(&vmm);
	end(&c);
}

/* Who listens is killed: those that are served go on, and another takes its place at the socket. */
TEST(listener_killed)
{
	struct cli c = start("--no-background"), next;
	struct vmm vmm = start_vmm(BYTES), other;

	REQUIRE(cli_says(&c, "serves VMM"));
	REQUIRE_OK(kill(c.pid, SIGKILL));
	cli_end(&c, 10);
	CHECK_EQ(ask(&vmm, 'r'), 1);
	next = cli_run(-1, "serve", "--socket", SOCKET, "--image", IMAGE);
	REQUIRE(cli_says(&next, "VMMs are taken at"));
	other = start_vmm(BYTES);
	CHECK_EQ(ask(&other, 'r'), 1);
	CHECK_EQ(ask(&vmm, 'r'), 1);
	end_vmm(&vmm);
	end_vmm(&other);
	end(&next);
}

/* Told to end, it serves those that are there to their end, and takes nobody else. */
TEST(drains)
{
	struct cli c = start("--no-background");
	struct vmm vmm = start_vmm(BYTES);

	REQUIRE(cli_says(&c, "serves VMM"));
	REQUIRE_OK(kill(c.pid, SIGTERM));
	REQUIRE(cli_says(&c, "no more VMMs are taken"));
	CHECK_ERRNO(access(SOCKET, F_OK), ENOENT);
	CHECK_EQ(ask(&vmm, 'r'), 1);
	end_vmm(&vmm);
	cli_end(&c, 10);
	CHECK_EQ(c.code, 0);
}

#define REGION "{\"base_host_virt_addr\":1048576,\"size\":65536,\"offset\":0,\"page_size\":4096}"

static const struct rubbish {
	const char *label;
	const char *json;
	int fd;			/* 0: a userfaultfd, 1: something else, 2: one that is told of forks, -1: none */
	const char *says;
} rubbishes[] = {
	{ "no_json", "hello", 0, "sends no JSON" },
	{ "binary", "\x01\x02\x03", 0, "sends no JSON" },
	{ "no_array", "{\"a\": 1}", 0, "does not send an array of regions" },
	{ "empty_array", "[]", 0, "does not send an array of regions" },
	{ "numbers", "[1, 2]", 0, "region 0 is no object" },
	{ "no_address", "[{\"size\":65536,\"offset\":0,\"page_size\":4096}]", 0,
	  "region 0 has no base_host_virt_addr" },
	{ "text_size", "[{\"base_host_virt_addr\":0,\"size\":\"65536\",\"offset\":0,\"page_size\":4096}]", 0,
	  "has no size" },
	{ "negative", "[{\"base_host_virt_addr\":0,\"size\":65536,\"offset\":-4096,\"page_size\":4096}]", 0,
	  "has no offset" },
	{ "no_page_size", "[{\"base_host_virt_addr\":0,\"size\":65536,\"offset\":0}]", 0, "has no page_size" },
	{ "odd_page_size", "[{\"base_host_virt_addr\":0,\"size\":65536,\"offset\":0,\"page_size\":5000}]", 0,
	  "has a page_size that is none" },
	{ "giant_page_size",
	  "[{\"base_host_virt_addr\":0,\"size\":1073741824,\"offset\":0,\"page_size\":1073741824}]", 0,
	  "has a page_size that is none, or more than 2 MiB" },
	{ "odd_offset", "[{\"base_host_virt_addr\":0,\"size\":65536,\"offset\":100,\"page_size\":4096}]", 0,
	  "is no whole pages" },
	{ "overflow",
	  "[{\"base_host_virt_addr\":0,\"size\":9223372036854771712,\"offset\":8192,\"page_size\":4096}]", 0,
	  "is too large" },
	{ "beyond_image", "[{\"base_host_virt_addr\":0,\"size\":1073741824,\"offset\":0,\"page_size\":4096}]", 0,
	  "is too short for VMM" },
	{ "overlap", "[" REGION "," REGION "]", 0, "overlap in the image" },
	{ "mixed",
	  "[" REGION ",{\"base_host_virt_addr\":0,\"size\":2097152,\"offset\":2097152,\"page_size\":2097152}]", 0,
	  "different page sizes" },
	{ "no_descriptor", "[" REGION "]", -1, "sends no descriptor" },
	{ "other_descriptor", "[" REGION "]", 1, "is no userfaultfd" },
	{ "forks", "[" REGION "]", 2, "without UFFD_FEATURE_EVENT_FORK" },
	{ "half", "[" REGION, 0, "has hung up before" },
	{ "nothing", "", -1, "has hung up before" },
};

/* Each is refused with words, and a VMM that has done everything right is served all the while. */
TEST(rubbish)
{
	struct cli c = start("--no-background");
	struct vmm vmm = start_vmm(BYTES);
	size_t before;
	int sock, fd;

	REQUIRE(cli_says(&c, "serves VMM"));
	for (const struct rubbish *row = rubbishes; row < rubbishes + ARRAY_SIZE(rubbishes); row++) {
		before = strlen(cli_err(&c));
		fd = row->fd == 1 ? REQUIRE_FD(open(IMAGE, O_RDONLY)) :
		     row->fd < 0 ? -1 : xuffd_gmem(row->fd ? UFFD_FEATURE_EVENT_FORK : 0);
		sock = connect_to(SOCKET);
		if (*row->json)
			hand_over(sock, row->json, fd);
		if (strstr(row->says, "hung up"))
			REQUIRE_OK(close(sock));
		if (!CHECK(wait_for(strstr(cli_err(&c) + before, row->says), 10)))
			tap_diag("%s: it has said: %s", row->label, c.err + before);
		if (!strstr(row->says, "hung up"))
			close(sock);
		if (fd >= 0)
			close(fd);
	}
	CHECK_EQ(ask(&vmm, 'r'), 1);
	end_vmm(&vmm);
	end(&c);
}

static int children_of(pid_t parent)
{
	char path[64], *list, *at;
	int nr = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
	list = read_file(path);
	REQUIRE(list);
	for (at = list; (at = strchr(at, ' ')); at++)
		nr++;
	free(list);
	return nr;
}

/* Clients that connect and are silent have only so many processes wait for them, and not for long. */
TEST(silent_clients)
{
	struct cli c = start("--no-background");
	struct vmm vmm;
	int socks[40];

	for (size_t i = 0; i < ARRAY_SIZE(socks); i++)
		socks[i] = connect_to(SOCKET);
	REQUIRE(wait_for(children_of(c.pid) == 32, 10));
	vmm = start_vmm(KERNEL);
	sleep_seconds(0.5);
	/* Fewer, where the first of them have been waited for long enough by now. */
	CHECK(children_of(c.pid) <= 32);
	/* The first has to hear that it was waited for long enough; the others go. */
	for (size_t i = 1; i < ARRAY_SIZE(socks); i++)
		close(socks[i]);
	CHECK_EQ(ask(&vmm, 'r'), 1);
	CHECK(wait_for(strstr(cli_err(&c), "has connected, but sends nothing"), 15));
	close(socks[0]);
	end_vmm(&vmm);
	end(&c);
}

/* Many at a time, each with its own memory. */
TEST(many_vmms)
{
	struct cli c = start(NULL);
	struct vmm vmms[12];

	for (size_t i = 0; i < ARRAY_SIZE(vmms); i++)
		vmms[i] = start_vmm(i % 2 ? KERNEL : BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(vmms); i++)
		CHECK_EQ(ask(&vmms[i], 'r'), 1);
	for (size_t i = 0; i < ARRAY_SIZE(vmms); i++)
		end_vmm(&vmms[i]);
	end(&c);
}

/* A VMM of which only the connection is known, and which sends more than it has to. */
TEST(other_pid_namespace)
{
	unsigned char *map;
	int uffd, sock;
	char json[512];
	struct cli c;

	if (unshare(CLONE_NEWPID))
		SKIP("no PID namespaces: %s", strerror(errno));
	c = start("--no-background");
	uffd = xuffd(UFFD_FEATURE_EVENT_REMOVE);
	map = xmmap(NULL, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	xuffd_register(uffd, map, bytes(), UFFDIO_REGISTER_MODE_MISSING);
	sock = connect_to(SOCKET);
	snprintf(json, sizeof(json), formats[BYTES], (size_t)map, bytes(), (size_t)0);
	hand_over(sock, json, uffd);
	CHECK(pattern_is(map, page_size(), 0));
	REQUIRE_EQ(write(sock, "\n\n", 2), 2);
	sleep_seconds(0.3);
	CHECK(pattern_is(map + 32 * page_size(), page_size(), 32 * page_size()));
	CHECK(!strstr(cli_err(&c), "has ended"));
	/* The first process of its namespace, and all that are in it with it. */
	REQUIRE_OK(kill(c.pid, SIGKILL));
	cli_end(&c, 10);
	CHECK_EQ(c.code, 128 + SIGKILL);
}

#define HUGE_BYTES (2 * HPAGE_SIZE)

static void be_huge_vmm(void)
{
	int uffd = xuffd_gmem(UFFD_FEATURE_EVENT_REMOVE);
	unsigned char *map = xmmap(NULL, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, xgmem_huge(HUGE_BYTES), 0);
	char json[512];

	xuffd_register(uffd, map, HUGE_BYTES, UFFDIO_REGISTER_MODE_MISSING);
	snprintf(json, sizeof(json), "[{\"base_host_virt_addr\":%zu,\"size\":%zu,\"offset\":0,\"page_size\":2097152}]",
		 (size_t)map, HUGE_BYTES);
	hand_over(connect_to(SOCKET), json, uffd);
	for (size_t at = HPAGE_SIZE; at < HUGE_BYTES; at += page_size())
		CHECK(pattern_is(map + at, page_size(), at));
	CHECK_OK(madvise(map + HPAGE_SIZE, HPAGE_SIZE, MADV_REMOVE));
	CHECK(all_bytes_are(map + HPAGE_SIZE, HPAGE_SIZE, 0));
	for (size_t at = 0; at < HPAGE_SIZE; at += page_size())
		CHECK(pattern_is(map + at, page_size(), at));
	_exit(0);
}

static const struct form huge_ways[] = {
	{ "background", BYTES, NULL },
	{ "on_demand", BYTES, "--no-background" },
};

TEST_EACH(huge_pages, struct form, huge_ways)
{
	struct cli c;
	pid_t pid;

	cli_image(IMAGE, HUGE_BYTES / page_size(), 0, 0);
	c = listen_with(row->option);
	pid = REQUIRE_OK(fork());
	if (!pid)
		be_huge_vmm();
	CHECK_EQ(child_wait(pid, 20), 0);
	CHECK(cli_says(&c, " of 4 MiB, "));
	end(&c);
}

/* Every line of it is an object. */
TEST(json)
{
	struct cli c = start("--json");
	struct vmm vmm = start_vmm(BYTES);

	CHECK_EQ(ask(&vmm, 'r'), 1);
	CHECK(cli_says(&c, "\"event\":\"server\""));
	end_vmm(&vmm);
	CHECK(cli_says(&c, "\"event\":\"end\""));
	end(&c);
	CHECK(cli_json(c.err, "\"end\"", "bytes") == (long long)bytes());
	CHECK(cli_json(c.err, "\"end\"", "provided") > 0);
	CHECK(cli_json(c.err, "\"end\"", "faults") >= 0);
	for (const char *line = c.err; *line; line = strchr(line, '\n') + 1)
		CHECK(!strncmp(line, "{\"event\":\"", 10));
}

/* Of servers that find the same socket left behind one has it, and the others hear of that: they go one by one. */
TEST(stale_socket)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int sock = REQUIRE_FD(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), place, taken = 0;
	struct cli c[4];

	cli_image(IMAGE, PAGES, 0, 0);
	unlink(SOCKET);
	REQUIRE_OK(bind(sock, (void *)&address, sizeof(address)));
	close(sock);
	place = REQUIRE_FD(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	REQUIRE_OK(flock(place, LOCK_EX));
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = cli_run(-1, "serve", "--socket", SOCKET, "--image", IMAGE);
	sleep_seconds(0.5);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		CHECK(!*cli_err(&c[i]));
	close(place);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		REQUIRE(wait_for(strchr(cli_err(&c[i]), '\n'), 10));
		taken += !!strstr(c[i].err, "VMMs are taken at");
	}
	CHECK_EQ(taken, 1);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		kill(c[i].pid, SIGTERM);
		cli_end(&c[i], 10);
	}
}

TEST(socket_taken)
{
	struct cli c = start(NULL), other;
	struct stat st;

	REQUIRE_OK(stat(SOCKET, &st));
	CHECK_EQ(st.st_mode & 07777, 0600);
	other = cli("serve", "--socket", SOCKET, "--image", IMAGE);
	CHECK_CLI(other, 1, "is taken: somebody listens there");
	CHECK_OK(access(SOCKET, F_OK));
	end(&c);

	close(REQUIRE_FD(open(SOCKET, O_RDWR | O_CREAT, 0600)));
	other = cli("serve", "--socket", SOCKET, "--image", IMAGE);
	CHECK_CLI(other, 1, "is there already, and is no socket");
	CHECK_OK(unlink(SOCKET));
	other = cli("serve", "--socket", "/nowhere/sock", "--image", IMAGE);
	CHECK_CLI(other, 1, "cannot listen at /nowhere/sock: No such file or directory");
	other = cli("serve", "--socket", TOO_LONG, "--image", IMAGE);
	CHECK_CLI(other, 1, "a path of a socket has 107 bytes at most");
	c = cli_run(-1, "serve", "--socket", SOCKET, "--image", IMAGE, "--mode", "0660");
	REQUIRE(cli_says(&c, "VMMs are taken at"));
	REQUIRE_OK(stat(SOCKET, &st));
	CHECK_EQ(st.st_mode & 07777, 0660);
	end(&c);
}
