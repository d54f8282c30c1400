// SPDX-License-Identifier: GPL-2.0-only
/*
 * The only program of the Linux guest that the VMM tests and the demo run: it fills a good part of the guest's memory
 * with content that tells every page and every round apart, and then goes through it for ever, verifying each page and
 * writing it anew. One thread for each CPU, each with its own part; none begins a round before all have ended the last.
 * Says on the console:
 *	guest: filled PAGES pages
 *	guest: tick N: PAGES pages verified		after each TICK_PAGES pages, N counts on from 1
 *	guest: BAD page P: word W is X, not Y		and stops: something was lost
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define BYTES (64ul << 20)
#define PAGES (BYTES / PAGE)
#define TICK_PAGES 128
/* Idle a little after each tick: a guest's halts and timers have to survive, too. */
#define TICK_PAUSE_NS 20000000
#define MAX_CPUS 8

static uint64_t *memory;
static int cpus;
static unsigned long ticks;
static unsigned long verified;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t round_ended;

static void __attribute__((noreturn)) stop(void)
{
	for (;;)
		pause();
}

static uint64_t word(size_t page, uint64_t round, size_t i)
{
	uint64_t x = (page + 1) * 0x9e3779b97f4a7c15ull + round * 0xd1342543de82ef95ull + i * 0xff51afd7ed558ccdull;

	return x ^ (x >> 31);
}

static void write_page(size_t page, uint64_t round)
{
	uint64_t *at = memory + page * WORDS;

	for (size_t i = 0; i < WORDS; i++)
		at[i] = word(page, round, i);
}

static void verify_page(size_t page, uint64_t round)
{
	const uint64_t *at = memory + page * WORDS;

	for (size_t i = 0; i < WORDS; i++) {
		if (at[i] == word(page, round, i))
			continue;
		pthread_mutex_lock(&lock);
		printf("guest: BAD page %zu: word %zu is %#llx, not %#llx\n", page, i, (unsigned long long)at[i],
		       (unsigned long long)word(page, round, i));
		stop();
	}
}

static void tick(void)
{
	struct timespec ts = { .tv_nsec = TICK_PAUSE_NS };

	pthread_mutex_lock(&lock);
	verified += TICK_PAGES;
	printf("guest: tick %lu: %lu pages verified\n", ++ticks, verified);
	pthread_mutex_unlock(&lock);
	nanosleep(&ts, NULL);
}

static void *worker(void *arg)
{
	size_t first = (uintptr_t)arg * PAGES / cpus, end = ((uintptr_t)arg + 1) * PAGES / cpus;
	uint64_t round;

	for (round = 0; round < UINT64_MAX; round++) {
		for (size_t page = first; page < end; page++) {
			verify_page(page, round);
			write_page(page, round + 1);
			if ((page - first) % TICK_PAGES == TICK_PAGES - 1)
				tick();
		}
		pthread_barrier_wait(&round_ended);
	}
	return NULL;
}

int main(void)
{
	pthread_t thread;
	int err;

	/* Each line is written at once: the console is not a terminal to us. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	cpus = get_nprocs();
	if (cpus > MAX_CPUS)
		cpus = MAX_CPUS;
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		printf("guest: no memory: %s\n", strerror(errno));
		stop();
	}
	for (size_t page = 0; page < PAGES; page++)
		write_page(page, 0);
	printf("guest: filled %lu pages\n", PAGES);
	err = pthread_barrier_init(&round_ended, NULL, cpus);
	if (err) {
		printf("guest: no barrier: %s\n", strerror(err));
		stop();
	}
	for (intptr_t i = 1; i < cpus; i++) {
		err = pthread_create(&thread, NULL, worker, (void *)i);
		if (err) {
			printf("guest: no thread: %s\n", strerror(err));
			stop();
		}
	}
	worker((void *)0);
}
