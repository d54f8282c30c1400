// SPDX-License-Identifier: GPL-2.0-only
/*
 * How far a page server has come: a bar on a terminal, a line now and then elsewhere, or JSON.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "keep.h"

/* Columns of the bar, and how wide a terminal is that does not tell. */
#define BAR 20
#define BAR_LEAST 5
#define COLUMNS 80
#define WAITED " waited on average"
#define TERMINAL_MS 200
#define LINE_MS 10000

static uint64_t now_ms(void)
{
	return clock_ns() / 1000000;
}

/* Only the module knows how long anybody has waited; of a VMM's own context it does not tell. */
static struct waits waits_for(struct keeper *k)
{
	struct gmemfd_stats stats;

	if (k->server.backend != &by_offset || gmemfd_stats(k->server.fd, &stats, sizeof(stats)))
		return (struct waits){};
	return waits_of(&stats);
}

static void tell_json(struct keeper *k, const char *event, uint64_t rate)
{
	struct ledger *ledger = k->server.ledger;
	uint64_t provided = ledger->provided;
	struct waits waits = waits_for(k);
	struct json_object *object = json_new();

	json_string(object, "event", event);
	json_number(object, "bytes", ledger->bytes);
	json_number(object, "provided", provided);
	json_number(object, "pages", provided / ledger->granule);
	json_number(object, "demanded", ledger->demanded);
	json_number(object, "read", ledger->read);
	json_number(object, "poisoned", ledger->poisoned);
	json_number(object, "faults", ledger->faults);
	json_number(object, "rate", rate);
	if (k->server.backend == &by_offset) {
		json_number(object, "waits", waits.nr);
		json_number(object, "wait_ns", waits.ns);
	}
	json_say(object);
}

/*
 * "12 MiB of 64 MiB, 3072 pages, 30 MiB/s, 100 faults, 1.2 ms waited on average", as much of it as is known; what must
 * not be missed comes early, where it is not cut off.
 */
static char *tell(struct keeper *k, uint64_t rate, const char *waited)
{
	struct ledger *ledger = k->server.ledger;
	struct waits waits = waits_for(k);

	return xasprintf("%s of %s, %s%s%llu pages, %s/s, %llu faults%s%s%s", size_text(ledger->provided),
			 size_text(ledger->bytes), ledger->poisoned ? size_text(ledger->poisoned) : "",
			 ledger->poisoned ? " UNREADABLE, " : "",
			 (unsigned long long)(ledger->provided / ledger->granule), size_text(rate),
			 (unsigned long long)ledger->faults, waits.nr ? ", " : "",
			 waits.nr ? time_text(waits.ns / waits.nr) : "", waits.nr ? waited : "");
}

/* One line, whatever the terminal's width: the bar takes what the words leave, and they are cut where they must be. */
static void draw(struct keeper *k, uint64_t rate)
{
	struct ledger *ledger = k->server.ledger;
	char *text = tell(k, rate, " waited"), bar[BAR + 4] = "";
	struct winsize size;
	int columns = COLUMNS, room;

	/* The last column is left alone: some terminals wrap as soon as it is written to. */
	if (!ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		columns = size.ws_col;
	columns--;
	room = columns - (int)strlen(text) - 3;
	if (room > BAR)
		room = BAR;
	if (room >= BAR_LEAST) {
		int full = ledger->provided * 1.0 / ledger->bytes * room;

		memset(bar + 1, '.', room);
		memset(bar + 1, '#', full);
		bar[0] = '[';
		memcpy(bar + 1 + room, "] ", 3);
	}
	dprintf(STDERR_FILENO, "\r%s%.*s\033[K", bar, columns - (int)strlen(bar), text);
	free(text);
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
	char *text;

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
		text = tell(k, rate, WAITED);
		note("progress", "%s", text);
		free(text);
	}
	p->last = now;
	p->last_provided = provided;
	/* Once all is there, what may still come is not worth a bar. */
	return p->terminal && provided == k->server.ledger->bytes ? (progress_clear(k), -1) : (int)every;
}

void progress_end(struct keeper *k)
{
	uint64_t ms = now_ms() - k->progress.begin, rate = k->server.ledger->provided * 1000 / (ms ? ms : 1);
	char *text;

	progress_clear(k);
	if (k->server.options->quiet)
		return;
	if (common.json) {
		tell_json(k, "end", rate);
		return;
	}
	text = tell(k, rate, WAITED);
	note("end", "%s has ended: %s", k->whose, text);
	free(text);
}
