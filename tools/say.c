// SPDX-License-Identifier: GPL-2.0-only
/*
 * How gmemctl speaks: one line for each error, notes, sizes and times for people, and JSON. Names that others have
 * chosen, of processes and files, may hold anything: none of it reaches a terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gmemctl.h"

/* The character that @text begins with, and the bytes that it takes; 0 when these are no UTF-8. */
static unsigned int decode(const char *text, uint32_t *character)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	unsigned char lead = *text;
	unsigned int i, more = lead < 0xc0 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
	uint32_t c = more ? lead & 0x3f >> more : lead;

	if ((lead >= 0x80 && lead < 0xc0) || lead >= 0xf8)
		return 0;
	for (i = 1; i <= more; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*character = c;
	return more + 1;
}

/*
 * The text with each byte that is no UTF-8, and what a terminal would obey, as \xNN. In @json the control characters of
 * ASCII may stay, for json-c writes them so that they are harmless.
 */
static char *escape(const char *text, bool json)
{
	char *escaped = xcalloc(strlen(text) + 1, 4), *to = escaped;
	uint32_t character = 0;
	unsigned int len, i;

	for (; *text; text += len) {
		len = decode(text, &character);
		if (len && (json || character >= 0x20) && (character < 0x7f || character >= 0xa0)) {
			memcpy(to, text, len);
			to += len;
			continue;
		}
		len = len ? len : 1;
		for (i = 0; i < len; i++)
			to += sprintf(to, "\\x%02x", (unsigned char)text[i]);
	}
	*to = 0;
	return escaped;
}

char *printable(const char *text)
{
	return escape(text, false);
}

/* One write, so that lines of several processes do not mix. */
static void write_line(const char *text)
{
	/* There is no one left to tell that stderr is gone. */
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

void json_say(struct json_object *object)
{
	char *line = xasprintf("%s\n", json_object_to_json_string_ext(object, JSON_LINE));

	write_line(line);
	free(line);
	json_object_put(object);
}

static void say(const char *event, const char *text)
{
	struct json_object *object;
	char *line, *shown;

	if (common.json) {
		object = json_new();
		json_string(object, "event", event);
		json_string(object, "text", text);
		json_say(object);
		return;
	}
	shown = printable(text);
	line = command ? xasprintf("gmemctl: %s: %s\n", command->name, shown) : xasprintf("gmemctl: %s\n", shown);
	write_line(line);
	free(line);
	free(shown);
}

static void no_memory(void)
{
	/* Not by fail(), which takes memory. */
	write_line("gmemctl: out of memory\n");
	_exit(FAILED);
}

static char *format(const char *fmt, va_list ap)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		no_memory();
	return text;
}

int fail(int code, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = format(fmt, ap);
	va_end(ap);
	say("error", text);
	free(text);
	return code;
}

int fail_errno(int code, int err, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = format(fmt, ap);
	va_end(ap);
	fail(code, "%s: %s", text, strerror(abs(err)));
	free(text);
	return code;
}

void note(const char *event, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = format(fmt, ap);
	va_end(ap);
	say(event, text);
	free(text);
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
	char *text;

	if (value) {
		/* json-c takes any bytes, but JSON is UTF-8. */
		text = escape(value, true);
		json_put(object, key, json_object_new_string(text));
		free(text);
	} else if (json_object_object_add(object, key, NULL)) {
		no_memory();
	}
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

uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = format(fmt, ap);
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
