// SPDX-License-Identifier: GPL-2.0-only
/*
 * How far a page server has come: a bar on a terminal, a line now and then elsewhere, or JSON.
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keep.h"

#define BAR 20
#define TERMINAL_MS 200
#define LINE_MS 10000

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct waits {
	uint64_t nr, ns;
};

/* Only the module knows how long anybody has waited; of a VMM's own context it does not tell. */
static struct waits waits_of(struct keeper *k)
{
	struct gmemfd_stats stats;
	struct waits waits = {};
	unsigned int i;

	if (k->server.backend != &by_offset || gmemfd_stats(k->server.fd, &stats, sizeof(stats)))
		return waits;
	for (i = 0; i < GMEMFD_WAIT_BUCKETS; i++)
		waits.nr += stats.wait_log2[i];
	waits.ns = stats.wait_ns;
	return waits;
}

static void tell_json(struct keeper *k, const char *event, uint64_t rate)
{
	struct ledger *ledger = k->server.ledger;
	struct waits waits = waits_of(k);
	struct json_object *object = json_new();

	json_string(object, "event", event);
	json_number(object, "bytes", ledger->bytes);
	json_number(object, "provided", ledger->provided);
	json_number(object, "demanded", ledger->demanded);
	json_number(object, "read", ledger->read);
	json_number(object, "poisoned", ledger->poisoned);
	json_number(object, "faults", ledger->faults);
	json_number(object, "rate", rate);
	if (k->server.backend == &by_offset) {
		json_number(object, "waits", waits.nr);
		json_number(object, "wait_ns", waits.ns);
	}
	dprintf(STDERR_FILENO, "%s\n", json_object_to_json_string_ext(object, JSON_LINE));
	json_object_put(object);
}

/* "12 MiB of 64 MiB, 30 MiB/s, 100 faults, 1.2 ms each", as much of it as is known. */
static void tell(struct keeper *k, char *text, size_t size, uint64_t rate)
{
	struct ledger *ledger = k->server.ledger;
	struct waits waits = waits_of(k);
	int len;

	len = snprintf(text, size, "%s of %s, %s/s, %llu faults", size_text(ledger->provided), size_text(ledger->bytes),
		       size_text(rate), (unsigned long long)ledger->faults);
	if (waits.nr)
		len += snprintf(text + len, size - len, ", %s waited on average", time_text(waits.ns / waits.nr));
	if (ledger->poisoned)
		snprintf(text + len, size - len, ", %s UNREADABLE", size_text(ledger->poisoned));
}

static void draw(struct keeper *k, uint64_t rate)
{
	struct ledger *ledger = k->server.ledger;
	unsigned int full = ledger->provided * 1.0 / ledger->bytes * BAR;
	char text[160], bar[BAR + 1] = "";

	tell(k, text, sizeof(text), rate);
	memset(bar, '.', BAR);
	memset(bar, '#', full);
	dprintf(STDERR_FILENO, "\r[%s] %s\033[K", bar, text);
	k->progress.drawn = true;
}

void progress_clear(struct keeper *k)
{
	if (k->progress.drawn)
		dprintf(STDERR_FILENO, "\r\033[K");
	k->progress.drawn = false;
}

void progress_begin(struct keeper *k)
{
	k->progress.terminal = isatty(STDERR_FILENO) && !common.json && !k->lines;
	k->progress.begin = now_ms();
	k->progress.last = k->progress.begin;
	k->progress.last_provided = k->server.ledger->provided;
}

int progress_tick(struct keeper *k)
{
	struct progress *p = &k->progress;
	uint64_t now = now_ms(), provided = k->server.ledger->provided, rate;
	unsigned int every = p->terminal ? TERMINAL_MS : LINE_MS;
	char text[160];

	if (k->server.options->quiet || k->over)
		return -1;
	if (now - p->last < every)
		return every - (now - p->last);
	rate = (provided - p->last_provided) * 1000 / (now - p->last);
	if (p->terminal) {
		draw(k, rate);
	} else if (provided != p->last_provided && common.json) {
		tell_json(k, "progress", rate);
	} else if (provided != p->last_provided) {
		tell(k, text, sizeof(text), rate);
		note("progress", "%s", text);
	}
	p->last = now;
	p->last_provided = provided;
	/* Once all is there, what may still come is not worth a bar. */
	return p->terminal && provided == k->server.ledger->bytes ? (progress_clear(k), -1) : (int)every;
}

void progress_end(struct keeper *k)
{
	uint64_t ms = now_ms() - k->progress.begin, rate = k->server.ledger->provided * 1000 / (ms ? ms : 1);
	char text[160];

	progress_clear(k);
	if (k->server.options->quiet)
		return;
	tell(k, text, sizeof(text), rate);
	if (common.json)
		tell_json(k, "end", rate);
	else
		note("end", "%s has ended: %s", k->whose, text);
}
