// SPDX-License-Identifier: GPL-2.0-only
/*
 * `gmemctl stat`: the gmem files of this machine, found by the descriptors and mappings of its processes; or those
 * that are named. Whose processes may not be looked into is not seen.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gmemctl.h"

/* What the module calls them; a mapping's name is that of its file. */
#define LINK_NAME "/gmemfd"
#define CONTEXT_NAME "anon_inode:[gmemfd-context]"

struct stat_options {
	bool watch;
	unsigned int interval;
};

const struct option_row stat_options[] = {
	{ "watch", NULL, "show it again and again", OPT_FLAG, offsetof(struct stat_options, watch) },
	{ "interval", "SECONDS", "with --watch: how often (2)", OPT_COUNT, offsetof(struct stat_options, interval) },
	{}
};

/* How a process has a file. */
struct holder {
	pid_t pid;
	int fd;			/* -1: it is mapped only */
	char *name;		/* of the process */
};

struct found {
	dev_t dev;
	ino_t ino;
	struct gmemfd_stats stats;
	uint64_t granule;
	struct holder *holders;
	unsigned int nr_holders;
	struct gmemfd_binding *bindings;
	unsigned int nr_bindings;
};

struct handler {
	pid_t pid;
	int fd;
	char *name;
	uint64_t watches, pending, seen;
};

struct census {
	struct found *files;
	unsigned int nr_files;
	struct handler *handlers;
	unsigned int nr_handlers;
	unsigned int denied;	/* processes that may not be looked into */
};

static void *grow(void *array, unsigned int nr, size_t size)
{
	void *grown = reallocarray(array, nr + 1, size);

	if (!grown) {
		fail(FAILED, "out of memory");
		_exit(FAILED);
	}
	memset((char *)grown + nr * size, 0, size);
	return grown;
}

static char *process_name(pid_t pid)
{
	char *path = xasprintf("/proc/%d/comm", pid), *name = read_small(path);

	free(path);
	return name ? name : xasprintf("?");
}

/* To which memslots of which VMs it is bound. What is listed when an error comes counts. */
static void find_bindings(struct found *file, int fd)
{
	struct gmemfd_binding some[16];
	uint64_t after = 0;
	int i, got;

	do {
		got = gmemfd_bindings(fd, after, some, ARRAY_SIZE(some), sizeof(some[0]));
		for (i = 0; i < got; i++) {
			file->bindings = grow(file->bindings, file->nr_bindings, sizeof(some[0]));
			file->bindings[file->nr_bindings++] = some[i];
			after = some[i].id;
		}
	} while (got == (int)ARRAY_SIZE(some));
}

/* The file, which is new or known already; NULL when @path is no gmem file or cannot be opened. */
static struct found *find_file(struct census *census, const char *path)
{
	struct gmemfd_stats stats;
	struct found *file = NULL;
	struct stat st;
	unsigned int i;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) || gmemfd_stats(fd, &stats, sizeof(stats)))
		goto out;
	for (i = 0; i < census->nr_files && !file; i++)
		if (census->files[i].dev == st.st_dev && census->files[i].ino == st.st_ino)
			file = &census->files[i];
	if (!file) {
		census->files = grow(census->files, census->nr_files, sizeof(*file));
		file = &census->files[census->nr_files++];
		file->dev = st.st_dev;
		file->ino = st.st_ino;
		file->granule = gmem_granule(fd);
		find_bindings(file, fd);
	}
	file->stats = stats;
out:
	close(fd);
	return file;
}

static void add_holder(struct found *file, pid_t pid, int fd)
{
	unsigned int i;

	for (i = 0; i < file->nr_holders; i++)
		if (file->holders[i].pid == pid && (fd < 0 || file->holders[i].fd == fd))
			return;
	file->holders = grow(file->holders, file->nr_holders, sizeof(*file->holders));
	file->holders[file->nr_holders++] = (struct holder){ pid, fd, process_name(pid) };
}

static void add_handler(struct census *census, pid_t pid, int fd)
{
	char *text = read_fdinfo(pid, fd);

	census->handlers = grow(census->handlers, census->nr_handlers, sizeof(*census->handlers));
	census->handlers[census->nr_handlers++] = (struct handler){
		pid, fd, process_name(pid), fdinfo_number(text, "gmemfd-watches"),
		fdinfo_number(text, "gmemfd-pending"), fdinfo_number(text, "gmemfd-seen"),
	};
	free(text);
}

static void look_at_fds(struct census *census, pid_t pid)
{
	char *path = xasprintf("/proc/%d/fd", pid), target[64];
	DIR *dir = opendir(path);
	struct dirent *entry;
	struct found *file;
	ssize_t len;
	char *name;
	int fd;

	/* One that has ended meanwhile, or a zombie, is nobody's loss. */
	if (!dir && errno == EACCES)
		census->denied++;
	while (dir && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		fd = atoi(entry->d_name);
		name = xasprintf("%s/%d", path, fd);
		len = readlink(name, target, sizeof(target) - 1);
		target[len < 0 ? 0 : len] = 0;
		if (!strcmp(target, CONTEXT_NAME))
			add_handler(census, pid, fd);
		if (!strncmp(target, LINK_NAME, sizeof(LINK_NAME) - 1)) {
			file = find_file(census, name);
			if (file)
				add_holder(file, pid, fd);
		}
		free(name);
	}
	if (dir)
		closedir(dir);
	free(path);
}

/* A file whose descriptor is closed lives on in its mappings; they can be opened by who is allowed everything. */
static void look_at_maps(struct census *census, pid_t pid)
{
	char *path = xasprintf("/proc/%d/maps", pid), *line = NULL, *name, *space;
	FILE *maps = fopen(path, "re");
	struct found *file;
	size_t size = 0;

	/* "FROM-TO rwxp ... /NAME": the name is as long as somebody likes. */
	while (maps && getline(&line, &size, maps) > 0) {
		name = strchr(line, '/');
		space = strchr(line, ' ');
		if (!name || !space || space > name || strncmp(name, LINK_NAME, sizeof(LINK_NAME) - 1))
			continue;
		*space = 0;
		name = xasprintf("/proc/%d/map_files/%s", pid, line);
		file = find_file(census, name);
		if (file)
			add_holder(file, pid, -1);
		free(name);
	}
	if (maps)
		fclose(maps);
	free(line);
	free(path);
}

static int take_census(struct census *census)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t pid;

	if (!dir)
		return fail_errno(FAILED, errno, "/proc");
	while ((entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		pid = atoi(entry->d_name);
		if (pid == getpid())
			continue;
		look_at_fds(census, pid);
		look_at_maps(census, pid);
	}
	closedir(dir);
	return DONE;
}

static void free_census(struct census *census)
{
	unsigned int i, j;

	for (i = 0; i < census->nr_files; i++) {
		for (j = 0; j < census->files[i].nr_holders; j++)
			free(census->files[i].holders[j].name);
		free(census->files[i].holders);
		free(census->files[i].bindings);
	}
	for (i = 0; i < census->nr_handlers; i++)
		free(census->handlers[i].name);
	free(census->files);
	free(census->handlers);
	*census = (struct census){};
}

/* The waits as rows of a histogram, from the first bucket that has any to the last. */
static void show_waits(const struct gmemfd_stats *stats)
{
	unsigned int i, first = GMEMFD_WAIT_BUCKETS, last = 0;
	uint64_t most = 1;
	char bar[41];

	for (i = 0; i < GMEMFD_WAIT_BUCKETS; i++) {
		if (!stats->wait_log2[i])
			continue;
		if (first == GMEMFD_WAIT_BUCKETS)
			first = i;
		last = i;
		if (stats->wait_log2[i] > most)
			most = stats->wait_log2[i];
	}
	for (i = first; i <= last && first < GMEMFD_WAIT_BUCKETS; i++) {
		unsigned int len = stats->wait_log2[i] * 40.0 / most;

		memset(bar, '#', len);
		bar[len] = 0;
		printf("  %10s and more %10llu %s\n", time_text(1ull << i),
		       (unsigned long long)stats->wait_log2[i], bar);
	}
}

static void show_file(const struct found *file)
{
	const struct gmemfd_stats *s = &file->stats;
	struct waits waits = waits_of(s);
	unsigned int i;
	char *name;

	printf("gmem file %llu: %s of %s (%llu%%), pages of %s\n", (unsigned long long)file->ino,
	       size_text(s->allocated), size_text(s->bytes),
	       (unsigned long long)(s->bytes ? s->allocated * 100 / s->bytes : 0), size_text(file->granule));
	for (i = 0; i < file->nr_holders; i++) {
		const struct holder *holder = &file->holders[i];

		name = printable(holder->name);
		if (holder->fd < 0)
			printf("  mapped by %d (%s)\n", holder->pid, name);
		else
			printf("  /proc/%d/fd/%d (%s)\n", holder->pid, holder->fd, name);
		free(name);
	}
	for (i = 0; i < file->nr_bindings; i++) {
		const struct gmemfd_binding *binding = &file->bindings[i];

		printf("  bound to slot %u of the VM of %u: %s at guest address %#llx\n", binding->slot, binding->pid,
		       size_text(binding->len), (unsigned long long)binding->gpa);
	}
	printf("  provided: %s filled, %s copied, %s zeroed, %s written, %s by first access\n", size_text(s->filled),
	       size_text(s->copied), size_text(s->zeroed), size_text(s->written),
	       size_text(s->faults_zero * page_size()));
	printf("  lost: %s punched, %s poisoned\n", size_text(s->punched), size_text(s->poisoned));
	printf("  watches: %llu, of which %llu have no handler\n", (unsigned long long)s->watches,
	       (unsigned long long)s->orphans);
	printf("  faults: %llu missing, %llu minor, %llu vCPU exits, %llu ended by SIGBUS; %llu threads wait\n",
	       (unsigned long long)s->faults_missing, (unsigned long long)s->faults_minor,
	       (unsigned long long)s->vcpu_exits, (unsigned long long)s->faults_sigbus,
	       (unsigned long long)s->waiters);
	if (!waits.nr)
		return;
	printf("  waits: %llu, %s on average\n", (unsigned long long)waits.nr, time_text(waits.ns / waits.nr));
	show_waits(s);
}

#define NUMBER(name) { #name, offsetof(struct gmemfd_stats, name) }

static const struct {
	const char *name;
	size_t offset;
} numbers[] = {
	NUMBER(bytes), NUMBER(allocated), NUMBER(poisoned), NUMBER(punched), NUMBER(waiters), NUMBER(watches),
	NUMBER(orphans), NUMBER(faults_zero), NUMBER(faults_missing), NUMBER(faults_minor), NUMBER(faults_sigbus),
	NUMBER(vcpu_exits), NUMBER(events), NUMBER(copied), NUMBER(zeroed), NUMBER(filled), NUMBER(written),
	NUMBER(continued), NUMBER(huge), NUMBER(wakes), NUMBER(wait_ns),
};

static struct json_object *binding_json(const struct gmemfd_binding *binding)
{
	struct json_object *object = json_new();

	json_number(object, "id", binding->id);
	json_number(object, "flags", binding->flags);
	json_number(object, "offset", binding->offset);
	json_number(object, "len", binding->len);
	json_number(object, "vm", binding->vm);
	json_number(object, "gpa", binding->gpa);
	json_number(object, "address", binding->address);
	json_number(object, "slot", binding->slot);
	json_number(object, "pid", binding->pid);
	return object;
}

static struct json_object *file_json(const struct found *file)
{
	const struct gmemfd_stats *s = &file->stats;
	struct json_object *object = json_new(), *holders = json_list(), *waits = json_list(), *holder;
	struct json_object *bindings = json_list();
	unsigned int i;

	json_number(object, "inode", file->ino);
	json_number(object, "granule", file->granule);
	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		json_number(object, numbers[i].name, *(const __u64 *)((const char *)s + numbers[i].offset));
	for (i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		json_object_array_add(waits, json_object_new_uint64(s->wait_log2[i]));
	json_put(object, "wait_log2", waits);
	for (i = 0; i < file->nr_holders; i++) {
		holder = json_new();
		json_number(holder, "pid", file->holders[i].pid);
		if (file->holders[i].fd >= 0)
			json_number(holder, "fd", file->holders[i].fd);
		json_string(holder, "name", file->holders[i].name);
		json_object_array_add(holders, holder);
	}
	json_put(object, "holders", holders);
	for (i = 0; i < file->nr_bindings; i++)
		json_object_array_add(bindings, binding_json(&file->bindings[i]));
	json_put(object, "bindings", bindings);
	return object;
}

static int show_json(const struct census *census)
{
	struct json_object *report = json_new(), *files = json_list(), *handlers = json_list(), *handler;
	unsigned int i;

	for (i = 0; i < census->nr_files; i++)
		json_object_array_add(files, file_json(&census->files[i]));
	for (i = 0; i < census->nr_handlers; i++) {
		handler = json_new();
		json_number(handler, "pid", census->handlers[i].pid);
		json_number(handler, "fd", census->handlers[i].fd);
		json_string(handler, "name", census->handlers[i].name);
		json_number(handler, "watches", census->handlers[i].watches);
		json_number(handler, "pending", census->handlers[i].pending);
		json_number(handler, "seen", census->handlers[i].seen);
		json_object_array_add(handlers, handler);
	}
	json_put(report, "files", files);
	json_put(report, "handlers", handlers);
	json_number(report, "denied", census->denied);
	return json_print(report);
}

static int show(const struct census *census)
{
	unsigned int i;

	if (common.json)
		return show_json(census);
	for (i = 0; i < census->nr_files; i++)
		show_file(&census->files[i]);
	for (i = 0; i < census->nr_handlers; i++) {
		const struct handler *handler = &census->handlers[i];
		char *name = printable(handler->name);

		printf("handler %d (%s): %llu watches, %llu faults unread, %llu read and not answered\n", handler->pid,
		       name, (unsigned long long)handler->watches, (unsigned long long)handler->pending,
		       (unsigned long long)handler->seen);
		free(name);
	}
	if (!census->nr_files)
		puts("no gmem files");
	if (census->denied)
		printf("(%u processes may not be looked into: run as root to see all)\n", census->denied);
	return flush_stdout();
}

static int stat_once(int argc, char **argv)
{
	struct census census = {};
	int i, fd, code = DONE;

	for (i = 0; i < argc && !code; i++) {
		/* For the words that say what is wrong with it. */
		fd = open_gmem(argv[i], O_RDONLY, NULL);
		if (fd < 0)
			code = -fd;
		else if (close(fd) || !find_file(&census, argv[i]))
			code = fail(FAILED, "%s has gone away", argv[i]);
	}
	if (!argc)
		code = take_census(&census);
	if (!code)
		code = show(&census);
	free_census(&census);
	return code;
}

int cmd_stat(int argc, char **argv)
{
	struct stat_options options = { .interval = 2 };
	int code;

	argc = parse_options(argc, argv, &options);
	if (argc < 0)
		return USAGE;
	for (;;) {
		/* Without a module there is nothing to be found, and that should be said; it may go any time. */
		if (!argc && access("/sys/module/gmemfd", F_OK))
			return fail(UNSUPPORTED, NOT_LOADED);
		if (options.watch && !common.json && isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		code = stat_once(argc, argv);
		if (code || !options.watch)
			return code;
		sleep(options.interval);
	}
}
