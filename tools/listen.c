// SPDX-License-Identifier: GPL-2.0-only
/*
 * `gmemctl serve`: waits on a socket for VMMs that hand over a context and where their memory is, in the way that
 * Firecracker has documented: one message, a JSON array of regions, and with it the descriptor of a userfaultfd. The
 * array's entries are {"base_host_virt_addr", "size", "offset", "page_size"}; older VMMs say "page_size_kib" instead,
 * some of them in bytes.
 *
 * Each VMM has a keeper of its own, a process, so that what one VMM sends or suffers is no other's affair, and so that
 * all are served on when this one is ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keep.h"

#define MESSAGE_MAX (256 << 10)
#define MESSAGE_MS 10000
#define REGIONS_MAX 1024
/* Each thread that serves has memory for a page of it. */
#define HUGEST_PAGE GMEMFD_HUGE_SIZE
/* So many may have connected and not told yet where their memory is; others wait to be accepted. */
#define STRANGERS 32
/* How long somebody else may be about to make his socket. */
#define LOCK_TRIES 50
#define LOCK_US (100 * 1000)
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

struct listen_options {
	struct serving serve;	/* first */
	const char *socket;
	mode_t mode;
};

const struct option_row serve_options[] = {
	{ "socket", "PATH", "where VMMs connect", OPT_FILE, offsetof(struct listen_options, socket) },
	{ "mode", "MODE", "who may connect: permissions of the socket (0600)", OPT_MODE,
	  offsetof(struct listen_options, mode) },
	{}
};

/* What a VMM sends. */
struct handover {
	int context;
	struct region *regions;
	unsigned int nr;
	uint64_t granule;
	uint64_t end;		/* of the image's part that is wanted */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

/* Of what a message brings only the first descriptor is wanted. */
static void take_fds(struct msghdr *msg, int *context)
{
	struct cmsghdr *cmsg;
	size_t nr, i;
	int fd;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		nr = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < nr; i++) {
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (*context < 0)
				*context = fd;
			else
				close(fd);
		}
	}
}

/* The JSON that comes, and the descriptor with it; NULL after a message. */
static struct json_object *receive(int sock, const char *who, int *context)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *object = NULL;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control;
	uint64_t until = now_ms() + MESSAGE_MS, now;
	struct pollfd more = { .fd = sock, .events = POLLIN };
	enum json_tokener_error state = json_tokener_continue;
	size_t size = 0;
	char text[4096];

	while (tokener && state == json_tokener_continue) {
		struct iovec iov = { text, sizeof(text) };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
				      .msg_controllen = sizeof(control) };
		ssize_t got;

		now = now_ms();
		if (now >= until || !poll(&more, 1, until - now)) {
			fail(FAILED, "%s has connected, but sends nothing: it is not waited for any longer", who);
			break;
		}
		got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0) {
			fail(FAILED, "%s has hung up before it had told where its memory is", who);
			break;
		}
		take_fds(&msg, context);
		size += got;
		if (size > MESSAGE_MAX) {
			fail(FAILED, "%s sends more than any VMM has to tell: it is refused", who);
			break;
		}
		object = json_tokener_parse_ex(tokener, text, got);
		state = json_tokener_get_error(tokener);
		if (state != json_tokener_success && state != json_tokener_continue)
			fail(FAILED, "%s sends no JSON (%s): it is refused", who, json_tokener_error_desc(state));
	}
	if (tokener)
		json_tokener_free(tokener);
	return object;
}

/* A member that is a number; false when it is not there or is none. */
static bool number(struct json_object *entry, const char *key, uint64_t *value)
{
	struct json_object *member;

	if (!json_object_object_get_ex(entry, key, &member) || !json_object_is_type(member, json_type_int) ||
	    json_object_get_int64(member) < 0)
		return false;
	*value = json_object_get_uint64(member);
	return true;
}

static int by_image_offset(const void *a, const void *b)
{
	const struct region *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* One entry: what is wrong with it, or NULL. */
static const char *read_region(struct json_object *entry, struct region *region, uint64_t *granule)
{
	if (!json_object_is_type(entry, json_type_object))
		return "is no object";
	if (!number(entry, "base_host_virt_addr", &region->target))
		return "has no base_host_virt_addr";
	if (!number(entry, "size", &region->len))
		return "has no size";
	if (!number(entry, "offset", &region->offset))
		return "has no offset";
	if (!number(entry, "page_size", granule)) {
		if (!number(entry, "page_size_kib", granule))
			return "has no page_size";
		/* No page has so few bytes: it is KiB, as the name says. */
		if (*granule < 4096)
			*granule <<= 10;
	}
	if (*granule < page_size() || *granule > HUGEST_PAGE || *granule & (*granule - 1))
		return "has a page_size that is none, or more than 2 MiB";
	if (!region->len || (region->len | region->offset | region->target) % *granule)
		return "is no whole pages";
	if (region->len > INT64_MAX || region->offset > INT64_MAX - region->len ||
	    region->target > UINT64_MAX - region->len)
		return "is too large";
	return NULL;
}

/* What the array says: DONE or a code. */
static int read_regions(struct handover *h, struct json_object *array, const char *who)
{
	const char *wrong;
	uint64_t granule;
	unsigned int i;

	if (!json_object_is_type(array, json_type_array) || !json_object_array_length(array) ||
	    json_object_array_length(array) > REGIONS_MAX)
		return fail(FAILED, "%s does not send an array of regions: it is refused", who);
	h->nr = json_object_array_length(array);
	h->regions = xcalloc(h->nr, sizeof(*h->regions));
	for (i = 0; i < h->nr; i++) {
		wrong = read_region(json_object_array_get_idx(array, i), &h->regions[i], &granule);
		if (wrong)
			return fail(FAILED, "%s: region %u %s: it is refused", who, i, wrong);
		if (h->granule && h->granule != granule)
			return fail(FAILED, "%s has regions of different page sizes: it is refused", who);
		h->granule = granule;
	}
	qsort(h->regions, h->nr, sizeof(*h->regions), by_image_offset);
	for (i = 0; i < h->nr; i++) {
		if (h->regions[i].offset < h->end)
			return fail(FAILED, "%s has regions that overlap in the image: it is refused", who);
		h->end = h->regions[i].offset + h->regions[i].len;
	}
	return DONE;
}

/* Linux tells of a context what it was asked for, and gmemfd does likewise: "API: <api>:<features>:<ioctls>". */
static bool told_of_forks(int context)
{
	char *text = read_fdinfo(0, context), *api = text ? strstr(text, "API:") : NULL;
	unsigned int features;
	bool told = api && sscanf(api, "API: %*[^:]:%x", &features) == 1 && features & UFFD_FEATURE_EVENT_FORK;

	free(text);
	return told;
}

static int check_context(struct handover *h, const char *who)
{
	struct uffdio_range nothing = {};

	if (h->context < 0)
		return fail(FAILED, "%s sends no descriptor with its regions: it is refused", who);
	/* A userfaultfd, the kernel's or gmemfd's, knows the command, and does not like the range. */
	if (!ioctl(h->context, UFFDIO_WAKE, &nothing) || errno != EINVAL)
		return fail(FAILED, "%s sends a descriptor that is no userfaultfd: it is refused", who);
	/* A child has a context of its own. Unserved it waits for ever; closed, it fills what both share with zeros. */
	if (told_of_forks(h->context))
		return fail(FAILED,
			    "%s: children are not served: make its userfaultfd without UFFD_FEATURE_EVENT_FORK", who);
	if (fcntl(h->context, F_SETFL, O_NONBLOCK))
		return fail_errno(FAILED, errno, "%s: its userfaultfd", who);
	return DONE;
}

/* Gaps between the regions are nobody's. */
static void skip_gaps(struct ledger *ledger, const struct handover *h)
{
	uint64_t at = 0;
	unsigned int i;

	for (i = 0; i < h->nr; i++) {
		ledger_set(ledger, at, h->regions[i].offset - at);
		at = h->regions[i].offset + h->regions[i].len;
	}
}

/* What tells that the VMM is gone: DONE or a code. */
static int watch_vmm(struct keeper *k, int sock)
{
	socklen_t size = sizeof(struct ucred);
	struct ucred peer;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return fail_errno(FAILED, errno, "cannot tell who has connected");
	k->whose = xasprintf("VMM %d", peer.pid);
	size = sizeof(k->subject);
	if (!getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &k->subject, &size))
		return DONE;
	/* Of kernels before 6.5 only the number is to be had, which may be somebody else's already. */
	if (errno == ENOPROTOOPT && peer.pid > 0)
		k->subject = syscall(SYS_pidfd_open, peer.pid, 0);
	else if (errno == ENOPROTOOPT)
		k->hangs_up = true;
	if (k->subject < 0 && !k->hangs_up)
		return fail(FAILED, "%s is gone already", k->whose);
	/* Who is in another PID namespace has no number: then its connection tells, and not what it may send. */
	if (k->hangs_up)
		k->subject = sock;
	return DONE;
}

/* All that is done for one VMM, in a process of its own. @stranger is closed as soon as it has told what it wants. */
static int serve_vmm(int sock, int stranger, const struct listen_options *options)
{
	struct keeper k = { .server = { .backend = &by_address, .options = &options->serve }, .lines = true };
	struct handover h = { .context = -1 };
	struct json_object *array;
	struct image image;
	int code;

	code = keeper_init(&k);
	if (code)
		return code;
	code = watch_vmm(&k, sock);
	if (code)
		return code;
	array = receive(sock, k.whose, &h.context);
	close(stranger);
	if (!array)
		return FAILED;
	code = read_regions(&h, array, k.whose);
	json_object_put(array);
	if (!code)
		code = check_context(&h, k.whose);
	if (!code)
		code = image_open(&image, options->serve.image, options->serve.direct);
	if (code)
		return code;
	if (image.bytes < h.end)
		return fail(FAILED, "the image %s is too short for %s: it has %llu bytes, and %llu are wanted",
			    image.name, k.whose, (unsigned long long)image.bytes, (unsigned long long)h.end);
	k.server.image = &image;
	k.server.fd = h.context;
	k.server.granule = h.granule;
	k.server.regions = h.regions;
	k.server.nr_regions = h.nr;
	k.server.ledger = ledger_new(h.end, h.granule);
	if (!k.server.ledger)
		return FAILED;
	skip_gaps(k.server.ledger, &h);
	code = keeper_start(&k);
	return code ? code : keeper_watch(&k);
}

/* Whether anybody listens at the socket; one that was left behind refuses. */
static bool anybody(const struct sockaddr_un *address)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool refused = sock >= 0 && connect(sock, (const void *)address, sizeof(*address)) && errno == ECONNREFUSED;

	if (sock >= 0)
		close(sock);
	return !refused;
}

/*
 * Keeps two servers from taking the place of one socket that was left behind, the second that of the first: a lock on
 * the directory, or -1 with errno.
 */
static int lock_place(const char *path)
{
	char *copy = strdup(path);
	int dir = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, tries = 0, err;

	free(copy);
	if (dir < 0)
		return -1;
	while (flock(dir, LOCK_EX | LOCK_NB)) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || ++tries == LOCK_TRIES) {
			err = errno;
			close(dir);
			errno = err;
			return -1;
		}
		usleep(LOCK_US);
	}
	return dir;
}

/* One that was left behind is removed: DONE or a code. */
static int clear_place(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st))
		return DONE;
	if (!S_ISSOCK(st.st_mode))
		return fail(FAILED, "%s is there already, and is no socket: name another path", path);
	if (anybody(address))
		return fail(FAILED, "%s is taken: somebody listens there; end that, or name another path", path);
	if (unlink(path))
		return fail_errno(FAILED, errno, "cannot remove %s, which was left behind", path);
	return DONE;
}

static int bind_socket(const struct sockaddr_un *address, mode_t mode, struct stat *st)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;
	mode_t before;

	if (sock < 0)
		return -fail_errno(FAILED, errno, "socket");
	before = umask(0777 & ~mode);
	err = bind(sock, (const void *)address, sizeof(*address)) ? errno : 0;
	umask(before);
	if (err || listen(sock, 64) || lstat(address->sun_path, st)) {
		err = err ?: errno;
		close(sock);
		return -fail_errno(FAILED, err, "cannot listen at %s", address->sun_path);
	}
	return sock;
}

/* The socket, or -code after a message. */
static int open_socket(const struct listen_options *options, struct stat *st)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int place, sock, code;

	if (strlen(options->socket) >= sizeof(address.sun_path))
		return -fail(FAILED, "--socket: a path of a socket has %zu bytes at most",
			     sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, options->socket);
	place = lock_place(options->socket);
	if (place < 0 && errno == EWOULDBLOCK)
		return -fail(FAILED, "somebody keeps the directory of %s locked: end that, or name another path",
			     options->socket);
	if (place < 0)
		return -fail_errno(FAILED, errno, "cannot listen at %s", options->socket);
	code = clear_place(&address);
	sock = code ? -code : bind_socket(&address, options->mode, st);
	close(place);
	return sock;
}

static void close_socket(int *sock, const char *path, const struct stat *ours)
{
	struct stat st;

	if (*sock < 0)
		return;
	close(*sock);
	*sock = -1;
	/* Another server may have put its own there. */
	if (!lstat(path, &st) && st.st_dev == ours->st_dev && st.st_ino == ours->st_ino)
		unlink(path);
}

/* Who listens, and those that have connected. */
struct listener {
	const struct listen_options *options;
	int sock;
	unsigned int children;
	/* Hang up when a child has heard what its VMM wants, or has ended. */
	int strangers[STRANGERS];
	unsigned int nr_strangers;
};

/* In a process of its own; what it holds of the others is closed. */
static int be_keeper(struct listener *l, int vmm, int stranger)
{
	unsigned int i;

	close(l->sock);
	for (i = 0; i < l->nr_strangers; i++)
		close(l->strangers[i]);
	/* Ctrl-C ends the taking of VMMs, not the serving of those that are there. */
	setsid();
	return serve_vmm(vmm, stranger, l->options);
}

static void accept_vmm(struct listener *l)
{
	int vmm = accept4(l->sock, NULL, NULL, SOCK_CLOEXEC), told[2];
	pid_t pid;

	if (vmm < 0) {
		/* Of others than those that go away by themselves somebody should hear; but not too often. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			fail_errno(FAILED, errno, "cannot take a connection");
			sleep(1);
		}
		return;
	}
	if (pipe2(told, O_CLOEXEC)) {
		fail_errno(FAILED, errno, "cannot serve another VMM");
		close(vmm);
		return;
	}
	fflush(NULL);
	pid = fork();
	if (!pid) {
		close(told[0]);
		_exit(be_keeper(l, vmm, told[1]));
	}
	close(told[1]);
	close(vmm);
	if (pid < 0) {
		fail_errno(FAILED, errno, "cannot serve another VMM");
		close(told[0]);
		return;
	}
	l->children++;
	l->strangers[l->nr_strangers++] = told[0];
}

/* Waits for signals, connections as long as there is room for strangers, and strangers that are none any more. */
static int await_vmms(struct listener *l, int signals)
{
	struct pollfd fds[STRANGERS + 2] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = l->nr_strangers < STRANGERS ? l->sock : -1, .events = POLLIN },
	};
	unsigned int i;

	for (i = 0; i < l->nr_strangers; i++)
		fds[i + 2].fd = l->strangers[i];
	if (poll(fds, l->nr_strangers + 2, -1) < 0)
		return errno == EINTR ? DONE : fail_errno(FAILED, errno, "poll");
	for (i = l->nr_strangers; i-- > 0;) {
		if (!fds[i + 2].revents)
			continue;
		close(l->strangers[i]);
		l->strangers[i] = l->strangers[--l->nr_strangers];
	}
	if (fds[1].revents)
		accept_vmm(l);
	return DONE;
}

int cmd_serve(int argc, char **argv)
{
	struct listen_options options = { .serve = SERVE_DEFAULTS, .mode = 0600 };
	struct signalfd_siginfo info;
	struct keeper signals_only;
	struct listener l = { .options = &options };
	bool closing = false;
	struct image image;
	struct stat st;
	int code;

	argc = parse_options(argc, argv, &options);
	if (argc < 0)
		return USAGE;
	if (argc)
		return fail(USAGE, "what is '%s'? 'gmemctl serve --help' tells what it takes", argv[0]);
	if (!options.socket || !options.serve.image)
		return fail(USAGE, "--%s is missing", options.socket ? "image" : "socket");
	/* To hear now of what every VMM would meet. Each then opens it by itself, and so sees one put in its place. */
	code = image_open(&image, options.serve.image, options.serve.direct);
	if (code)
		return code;
	if (image.stream)
		return fail(USAGE, "--image: a stream can be read only once, and in no order but its own");
	close(image.fd);
	code = keeper_init(&signals_only);
	if (code)
		return code;
	l.sock = open_socket(&options, &st);
	if (l.sock < 0)
		return -l.sock;
	if (!options.serve.quiet)
		note("listening", "VMMs are taken at %s", options.socket);

	while (l.sock >= 0 || l.children) {
		code = await_vmms(&l, signals_only.signals);
		if (code)
			return code;
		while (read(signals_only.signals, &info, sizeof(info)) == sizeof(info)) {
			if (info.ssi_signo == SIGCHLD) {
				while (waitpid(-1, NULL, WNOHANG) > 0)
					l.children--;
				continue;
			}
			if (closing)
				return fail(FAILED, "ended; %u page servers go on until their VMMs end", l.children);
			close_socket(&l.sock, options.socket, &st);
			closing = true;
			if (l.children)
				note("closing", "no more VMMs are taken; those that are there are served to their end");
		}
	}
	return DONE;
}
