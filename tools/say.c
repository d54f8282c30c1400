// SPDX-License-Identifier: GPL-2.0-only
/*
 * How gmemctl speaks: one line for each error, notes, sizes and times for people, and JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gmemctl.h"

/* One write, so that lines of several processes do not mix. */
static void say_line(const char *text)
{
	char line[4096];
	int len;

	if (command)
		len = snprintf(line, sizeof(line), "gmemctl: %s: %s\n", command->name, text);
	else
		len = snprintf(line, sizeof(line), "gmemctl: %s\n", text);
	if (len >= (int)sizeof(line)) {
		len = sizeof(line);
		line[len - 1] = '\n';
	}
	/* There is no one left to tell that stderr is gone. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

int fail(int code, const char *fmt, ...)
{
	char text[3072];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say_line(text);
	return code;
}

int fail_errno(int code, int err, const char *fmt, ...)
{
	char text[3072];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return fail(code, "%s: %s", text, strerror(abs(err)));
}

void note(const char *event, const char *fmt, ...)
{
	struct json_object *object;
	char text[3072];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!common.json) {
		say_line(text);
		return;
	}
	object = json_new();
	json_string(object, "event", event);
	json_string(object, "text", text);
	dprintf(STDERR_FILENO, "%s\n", json_object_to_json_string_ext(object, JSON_LINE));
	json_object_put(object);
}

#define TEXTS 8
static char *text_buffer(size_t *size)
{
	static __thread char buffers[TEXTS][32];
	static __thread unsigned int next;

	*size = sizeof(buffers[0]);
	return buffers[next++ % TEXTS];
}

const char *size_text(uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double value = bytes;
	unsigned int unit = 0;
	size_t size;
	char *text = text_buffer(&size);

	while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	if (value == (uint64_t)value)
		snprintf(text, size, "%llu %s", (unsigned long long)value, units[unit]);
	else
		snprintf(text, size, "%.1f %s", value, units[unit]);
	return text;
}

const char *time_text(uint64_t ns)
{
	size_t size;
	char *text = text_buffer(&size);

	if (ns < 1000)
		snprintf(text, size, "%u ns", (unsigned int)ns);
	else if (ns < 1000 * 1000)
		snprintf(text, size, "%.1f us", ns / 1e3);
	else if (ns < 1000ull * 1000 * 1000)
		snprintf(text, size, "%.1f ms", ns / 1e6);
	else
		snprintf(text, size, "%.1f s", ns / 1e9);
	return text;
}

static void no_memory(void)
{
	fail(FAILED, "out of memory");
	_exit(FAILED);
}

void json_put(struct json_object *object, const char *key, struct json_object *value)
{
	if (!value || json_object_object_add(object, key, value))
		no_memory();
}

void json_number(struct json_object *object, const char *key, uint64_t value)
{
	json_put(object, key, json_object_new_uint64(value));
}

void json_string(struct json_object *object, const char *key, const char *value)
{
	if (value)
		json_put(object, key, json_object_new_string(value));
	else if (json_object_object_add(object, key, NULL))
		no_memory();
}

void json_truth(struct json_object *object, const char *key, bool value)
{
	json_put(object, key, json_object_new_boolean(value));
}

struct json_object *json_new(void)
{
	struct json_object *object = json_object_new_object();

	if (!object)
		no_memory();
	return object;
}

struct json_object *json_list(void)
{
	struct json_object *list = json_object_new_array();

	if (!list)
		no_memory();
	return list;
}

int json_print(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_LINES));
	json_object_put(object);
	return flush_stdout();
}

int flush_stdout(void)
{
	if (fflush(stdout) || ferror(stdout))
		return fail_errno(FAILED, errno, "cannot write to stdout");
	return DONE;
}

void *xcalloc(size_t nr, size_t size)
{
	void *memory = calloc(nr, size);

	if (!memory)
		no_memory();
	return memory;
}

char *xasprintf(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		no_memory();
	va_end(ap);
	return text;
}

char *read_small(const char *path)
{
	size_t size = 0, room = 0;
	char *text = NULL, *more;
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	do {
		if (room - size < 2048) {
			room += 4096;
			more = realloc(text, room + 1);
			if (!more)
				no_memory();
			text = more;
		}
		got = read(fd, text + size, room - size);
		if (got > 0)
			size += got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (got < 0) {
		int err = errno;

		close(fd);
		free(text);
		errno = err;
		return NULL;
	}
	close(fd);
	if (size && text[size - 1] == '\n')
		size--;
	text[size] = 0;
	return text;
}
