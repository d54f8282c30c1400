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
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
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
#define HUGEST_PAGE (1ull << 30)

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
		return "has a page_size that is none";
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

static int check_context(struct handover *h, const char *who)
{
	struct uffdio_range nothing = {};

	if (h->context < 0)
		return fail(FAILED, "%s sends no descriptor with its regions: it is refused", who);
	/* A userfaultfd, the kernel's or gmemfd's, knows the command, and does not like the range. */
	if (!ioctl(h->context, UFFDIO_WAKE, &nothing) || errno != EINVAL)
		return fail(FAILED, "%s sends a descriptor that is no userfaultfd: it is refused", who);
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

/* All that is done for one VMM, in a process of its own. */
static int serve_vmm(int sock, const struct listen_options *options)
{
	struct keeper k = { .server = { .backend = &by_address, .options = &options->serve }, .lines = true };
	struct handover h = { .context = -1 };
	socklen_t size = sizeof(struct ucred);
	struct json_object *array;
	struct image image;
	struct ucred peer;
	int code;

	code = keeper_init(&k);
	if (code)
		return code;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return fail_errno(FAILED, errno, "cannot tell who has connected");
	k.whose = xasprintf("VMM %d", peer.pid);
	/* A process of another PID namespace has no number here: then its connection tells when it is gone. */
	k.subject = peer.pid > 0 ? syscall(SYS_pidfd_open, peer.pid, 0) : sock;
	if (k.subject < 0)
		return fail(FAILED, "%s is gone already", k.whose);
	array = receive(sock, k.whose, &h.context);
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

/* The socket, or -code after a message. */
static int open_socket(const struct listen_options *options, struct stat *st)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int sock, err;

	if (strlen(options->socket) >= sizeof(address.sun_path))
		return -fail(FAILED, "--socket: a path of a socket has %zu bytes at most",
			     sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, options->socket);
	if (!lstat(options->socket, st)) {
		if (!S_ISSOCK(st->st_mode))
			return -fail(FAILED, "%s is there already, and is no socket: name another path",
				     options->socket);
		if (anybody(&address))
			return -fail(FAILED, "%s is taken: somebody listens there; end that, or name another path",
				     options->socket);
		if (unlink(options->socket))
			return -fail_errno(FAILED, errno, "cannot remove %s, which was left behind", options->socket);
	}
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return -fail_errno(FAILED, errno, "socket");
	umask(0777 & ~options->mode);
	err = bind(sock, (const void *)&address, sizeof(address)) ? errno : 0;
	umask(022);
	if (err || listen(sock, 64) || lstat(options->socket, st)) {
		close(sock);
		return -fail_errno(FAILED, err ? err : errno, "cannot listen at %s", options->socket);
	}
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

/* A VMM has connected; the child's process id is put into @children. */
static void accept_vmm(int sock, const struct listen_options *options, unsigned int *children)
{
	int vmm = accept4(sock, NULL, NULL, SOCK_CLOEXEC);
	pid_t pid;

	if (vmm < 0) {
		/* Of others than those that go away by themselves somebody should hear; but not too often. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			fail_errno(FAILED, errno, "cannot take a connection");
			sleep(1);
		}
		return;
	}
	fflush(NULL);
	pid = fork();
	if (!pid) {
		close(sock);
		/* Ctrl-C ends the taking of VMMs, not the serving of those that are there. */
		setsid();
		_exit(serve_vmm(vmm, options));
	}
	if (pid < 0)
		fail_errno(FAILED, errno, "cannot serve another VMM");
	else
		++*children;
	close(vmm);
}

int cmd_serve(int argc, char **argv)
{
	struct listen_options options = { .serve = SERVE_DEFAULTS, .mode = 0600 };
	struct signalfd_siginfo info;
	struct keeper signals_only;
	unsigned int children = 0, told = 0;
	struct pollfd fds[2];
	struct image image;
	struct stat st;
	int sock, code;

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
	sock = open_socket(&options, &st);
	if (sock < 0)
		return -sock;
	if (!options.serve.quiet)
		note("listening", "VMMs are taken at %s", options.socket);

	while (sock >= 0 || children) {
		fds[0] = (struct pollfd){ .fd = signals_only.signals, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = sock, .events = POLLIN };
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return fail_errno(FAILED, errno, "poll");
		if (fds[1].revents)
			accept_vmm(sock, &options, &children);
		while (read(signals_only.signals, &info, sizeof(info)) == sizeof(info)) {
			if (info.ssi_signo == SIGCHLD) {
				while (waitpid(-1, NULL, WNOHANG) > 0)
					children--;
				continue;
			}
			close_socket(&sock, options.socket, &st);
			if (children && !told++)
				note("closing", "no more VMMs are taken; those that are there are served to their end");
			else if (told)
				return fail(FAILED, "ended; %u page servers go on until their VMMs end", children);
		}
	}
	return DONE;
}
