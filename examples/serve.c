// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is read from a file when it is first touched: a handler thread serves it with libgmemfd, and the main
 * thread touches all of it and compares. Exit status 0: every byte was right.
 *
 *	gcc -O2 -pthread serve.c -o serve $(pkg-config --cflags --libs libgmemfd)
 *	./serve IMAGE
 *
 * A monitor would give the mapping to KVM and start the guest where main() compares.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <gmemfd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS 16

struct server {
	int fd;		/* the gmem file */
	int context;
	int image;
};

/* libgmemfd returns negative error numbers; err() wants errno. */
static int must(int ret, const char *what)
{
	if (ret < 0) {
		errno = -ret;
		err(1, "%s", what);
	}
	return ret;
}

static void provide(const struct server *server, const struct gmemfd_event *event)
{
	int ret = gmemfd_fill(server->fd, event->offset, server->image, event->offset, event->len, 0, NULL);

	/* -EEXIST: somebody else has provided it meanwhile. */
	if (!ret || ret == -EEXIST)
		return;
	/* What cannot be read is told to who wants it, and to nobody else. */
	warnx("the image cannot be read at %llu: %s", (unsigned long long)event->offset, strerror(-ret));
	must(gmemfd_poison(server->fd, event->offset, event->len, 0, NULL), "gmemfd_poison");
}

static void *serve(void *arg)
{
	const struct server *server = arg;
	struct gmemfd_event events[EVENTS];

	for (;;) {
		int n = must(gmemfd_read_events(server->context, events, EVENTS), "gmemfd_read_events");

		for (int i = 0; i < n; i++)
			if (events[i].type == GMEMFD_EVENT_FAULT)
				provide(server, &events[i]);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct gmemfd_stats stats;
	struct server server;
	pthread_t thread;
	struct stat st;
	void *memory, *image;
	int dev;

	if (argc != 2)
		errx(2, "usage: serve IMAGE");
	server.image = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (server.image < 0 || fstat(server.image, &st))
		err(1, "%s", argv[1]);
	if (!st.st_size || st.st_size % sysconf(_SC_PAGESIZE))
		errx(1, "%s: its size is not a multiple of the page size", argv[1]);

	dev = must(gmemfd_open(NULL), GMEMFD_DEVICE);
	server.fd = must(gmemfd_create(dev, st.st_size, NULL), "gmemfd_create");
	server.context = must(gmemfd_context(dev, 0), "gmemfd_context");
	must(gmemfd_map(server.fd, 0, st.st_size, 0, &memory), "gmemfd_map");
	must(gmemfd_watch(server.fd, server.context, 0, st.st_size, NULL), "gmemfd_watch");
	errno = pthread_create(&thread, NULL, serve, &server);
	if (errno)
		err(1, "pthread_create");

	image = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, server.image, 0);
	if (image == MAP_FAILED)
		err(1, "mmap");
	if (memcmp(memory, image, st.st_size))
		errx(1, "the memory is not the image");
	must(gmemfd_stats(server.fd, &stats, sizeof(stats)), "gmemfd_stats");
	printf("%llu bytes were served, in %llu faults\n", (unsigned long long)stats.filled,
	       (unsigned long long)stats.faults_missing);
	return 0;
}
