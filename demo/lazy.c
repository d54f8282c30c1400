// SPDX-License-Identifier: GPL-2.0-only
/*
 * What `make demo` shows: a KVM guest that starts at once, although none of its memory has been read from its
 * image yet; each page is read when the guest touches it. The guest adds up one number of every eighth page.
 */
#include <linux/falloc.h>
#include <poll.h>
#include <sys/utsname.h>

#include "gmem.h"
#include "guest.h"

#define CODE 0x1000
#define TABLES 0x10000
#define STACK 0x30000
#define NUMBERS 0x200000
#define SIZE (64ul << 20)
#define STRIDE 8

/* rsi: where, rcx: how many numbers, rdx: bytes from one to the next; their sum goes to port 16. */
GUEST_CODE(sums, ".code64",
	   "	xorl %eax, %eax\n"
	   "1:	addl (%rsi), %eax\n"
	   "	addq %rdx, %rsi\n"
	   "	loop 1b\n"
	   "	movw $0x10, %dx\n"
	   "	outl %eax, %dx\n"
	   "	hlt");

struct server {
	int fd;
	int context;
	int image;
	int stop[2];
	unsigned long served;
	double first;
};

/* The whole of a handler: read which page is wanted, have it read from the image straight into its place. */
static void *serve(void *arg)
{
	struct server *server = arg;
	struct gmemfd_event event;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = server->context, .events = POLLIN },
			{ .fd = server->stop[0], .events = POLLIN },
		};

		REQUIRE_OK(poll(fds, 2, -1));
		if (fds[1].revents)
			return NULL;
		REQUIRE_EQ(read(server->context, &event, sizeof(event)), sizeof(event));
		REQUIRE_OK(gmem_fill(server->fd, event.offset, event.len, server->image, event.offset, 0));
		if (!server->served++)
			server->first = now_seconds();
	}
}

static uint32_t number(size_t page)
{
	return page * 2654435761u;
}

/* An image of the guest's memory: code, page tables, and a number in each page. */
static int make_image(void)
{
	unsigned char *memory;
	int fd = REQUIRE_FD(open("/tmp/guest.img", O_RDWR | O_CREAT | O_TRUNC, 0600));

	REQUIRE_OK(ftruncate(fd, SIZE));
	memory = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memcpy(memory + CODE, sums, GUEST_CODE_SIZE(sums));
	guest_build_tables(memory + TABLES, TABLES);
	for (size_t at = NUMBERS; at < SIZE; at += page_size()) {
		uint32_t value = number(at / page_size());

		memcpy(memory + at, &value, sizeof(value));
	}
	REQUIRE_OK(munmap(memory, SIZE));
	return fd;
}

int main(void)
{
	size_t ps = page_size(), pages = (SIZE - NUMBERS) / ps / STRIDE;
	struct server server = { .image = make_image() };
	const struct guest_exit *e;
	struct gmemfd_stats stats;
	struct kvm_regs regs;
	struct utsname kernel;
	uint32_t expected = 0;
	struct guest g;
	pthread_t thread;
	double start;
	void *memory;

	uname(&kernel);
	printf("Linux %s, as the distribution ships it\n", kernel.release);
	server.fd = xgmem(SIZE);
	server.context = xgmem_context();
	REQUIRE_OK(pipe(server.stop));
	REQUIRE_OK(gmem_watch(server.fd, server.context, 0, SIZE, GMEMFD_MODE_MISSING, 0, 0));
	thread = thread_start(serve, &server);
	memory = xmmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, server.fd, 0);

	guest_create(&g);
	guest_add_memory(&g, 0, memory, SIZE);
	guest_add_vcpu(&g);
	guest_long_mode(&g, 0, TABLES, CODE, STACK);
	regs = guest_get_regs(&g, 0);
	regs.rsi = NUMBERS;
	regs.rcx = pages;
	regs.rdx = STRIDE * ps;
	guest_set_regs(&g, 0, &regs);
	stats = xgmem_stats(server.fd);
	printf("a KVM guest with %lu MiB of memory, %llu KiB of it read from its image so far\n", SIZE >> 20,
	       (unsigned long long)stats.allocated >> 10);

	start = now_seconds();
	e = guest_run(&g, 0);
	stats = xgmem_stats(server.fd);
	for (size_t i = 0; i < pages; i++)
		expected += number((NUMBERS + i * STRIDE * ps) / ps);

	REQUIRE_EQ(e->err, 0);
	REQUIRE_EQ(e->exit, KVM_EXIT_IO);
	printf("its first page was there after %.1f ms; it ran %.0f ms and touched %zu pages\n",
	       (server.first - start) * 1000, (now_seconds() - start) * 1000, pages);
	printf("%lu pages served on demand: %llu KiB of %lu MiB were ever read\n", server.served,
	       (unsigned long long)stats.allocated >> 10, SIZE >> 20);
	printf("the guest's sum is %#llx, the image's %#x\n", (unsigned long long)e->value, expected);
	REQUIRE_EQ(write(server.stop[1], "", 1), 1);
	thread_join(thread);
	guest_destroy(&g);
	REQUIRE_EQ(e->value, expected);
	REQUIRE(stats.allocated < SIZE / 4);
	puts("verdict: the guest saw all of its memory, and only what it touched was read");
	return 0;
}
