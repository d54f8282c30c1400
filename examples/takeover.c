// SPDX-License-Identifier: GPL-2.0-only
/*
 * A handler that may die: with GMEMFD_POLICY_HOLD those who touch memory wait for the next one, which is told of all that
 * is still wanted. Here the first is killed while it holds a fault that it has read and not answered. Exit status 0:
 * nothing was lost.
 *
 *	gcc -O2 takeover.c -o takeover $(pkg-config --cflags --libs libgmemfd)
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <gmemfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 64

static size_t page_size;

/* libgmemfd returns negative error numbers; err() wants errno. */
static int must(int ret, const char *what)
{
	if (ret < 0) {
		errno = -ret;
		err(1, "%s", what);
	}
	return ret;
}

static unsigned char content(size_t page)
{
	return page % 251 + 1;
}

/* Serves so many faults, reads one more, and does not come back. */
static void handle(int fd, int context, int faults)
{
	unsigned char *page = aligned_alloc(page_size, page_size);
	struct gmemfd_event event;
	int ret;

	if (!page)
		err(1, "memory for a page");
	for (;;) {
		must(gmemfd_read_events(context, &event, 1), "gmemfd_read_events");
		if (event.type != GMEMFD_EVENT_FAULT)
			continue;
		if (!faults--)
			raise(SIGKILL);
		memset(page, content(event.offset / page_size), page_size);
		ret = gmemfd_copy(fd, event.offset, page, page_size, 0, NULL);
		if (ret != -EEXIST)
			must(ret, "gmemfd_copy");
	}
}

/*
 * The context belongs to the handler alone: were it open elsewhere too, its death would not be noticed. Returns when
 * the handler has said that it is ready.
 */
static pid_t start(int dev, int fd, int first)
{
	struct gmemfd_watch_opts opts = { .sz = sizeof(opts), .policy = GMEMFD_POLICY_HOLD };
	int ready[2], context;
	char byte = 0;
	pid_t pid;

	if (pipe(ready))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			errx(1, "the handler did not start");
		close(ready[0]);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	context = must(gmemfd_context(dev, 0), "gmemfd_context");
	if (first)
		must(gmemfd_watch(fd, context, 0, PAGES * page_size, &opts), "gmemfd_watch");
	else
		must(gmemfd_attach(fd, context, 0, PAGES * page_size), "gmemfd_attach");
	if (write(ready[1], &byte, 1) != 1)
		err(1, "write");
	handle(fd, context, first ? PAGES / 2 : PAGES);
	_exit(1);
}

/* The guest: touches all of the memory, and knows nothing of handlers. */
static pid_t touch_all(const unsigned char *memory)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid)
		return pid;
	for (size_t i = 0; i < PAGES * page_size; i++)
		if (memory[i] != content(i / page_size))
			_exit(1);
	_exit(0);
}

int main(void)
{
	pid_t handler, guest;
	int dev, fd, status;
	void *memory;

	page_size = sysconf(_SC_PAGESIZE);
	dev = must(gmemfd_open(NULL), GMEMFD_DEVICE);
	fd = must(gmemfd_create(dev, PAGES * page_size, NULL), "gmemfd_create");
	must(gmemfd_map(fd, 0, PAGES * page_size, 0, &memory), "gmemfd_map");

	handler = start(dev, fd, 1);
	guest = touch_all(memory);
	if (waitpid(handler, &status, 0) != handler || !WIFSIGNALED(status))
		errx(1, "the first handler was to be killed");
	printf("the first handler is dead, the guest %s\n",
	       waitpid(guest, &status, WNOHANG) ? "is not alive" : "waits");

	handler = start(dev, fd, 0);
	if (waitpid(guest, &status, 0) != guest || status)
		errx(1, "the guest has not seen what it should");
	printf("the second one has served what the first has left\n");
	kill(handler, SIGKILL);
	waitpid(handler, &status, 0);
	return 0;
}
