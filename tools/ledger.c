// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ledger: which granules have been provided.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gmemctl.h"
#include "ledger.h"

/* Of the state file. It stays open for its lock. */
static int state_fd = -1;

/* Of one of the two sets of bits. */
static uint64_t words(uint64_t bytes, uint64_t granule)
{
	return align_up(bytes / granule, 64) / 64;
}

static size_t ledger_size(uint64_t bytes, uint64_t granule)
{
	return sizeof(struct ledger) + 2 * words(bytes, granule) * sizeof(atomic_ulong);
}

/* @fd -1: in memory that only our children share. */
static struct ledger *map(int fd, size_t size)
{
	struct ledger *ledger;

	ledger = mmap(NULL, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	if (ledger != MAP_FAILED)
		return ledger;
	fail_errno(FAILED, errno, "memory for what has been provided");
	return NULL;
}

struct ledger *ledger_new(uint64_t bytes, uint64_t granule)
{
	struct ledger *ledger = map(-1, ledger_size(bytes, granule));

	if (!ledger)
		return NULL;
	ledger->bytes = bytes;
	ledger->granule = granule;
	return ledger;
}

/* The file, locked, or -1 after a message. The lock is held as long as it is open here or in a page server. */
static int open_state(const char *path, bool again, struct stat *st)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (again ? 0 : O_CREAT), 0600);

	if (fd < 0 && errno == ENOENT && again)
		fail(FAILED, "there is no state file %s: name the one that 'run' was told, or leave out --state", path);
	else if (fd < 0 || fstat(fd, st))
		fail_errno(FAILED, errno, "cannot open the state file %s", path);
	else if (!S_ISREG(st->st_mode))
		fail(FAILED, "the state file %s is no regular file", path);
	else if (flock(fd, LOCK_EX | LOCK_NB))
		fail(FAILED, "the state file %s is in use: another gmemctl serves with it", path);
	else
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static struct ledger *begin_state(const char *path, int fd, const struct stat *st, uint64_t bytes, uint64_t granule,
				  const struct origin *origin)
{
	size_t size = ledger_size(bytes, granule);
	struct ledger *ledger;
	int err;

	if (st->st_size) {
		fail(FAILED, "the state file %s is there already, of another run: remove it, or name another", path);
		return NULL;
	}
	/* Who writes to a hole of it when the disk is full is killed. */
	err = posix_fallocate(fd, 0, size);
	if (err) {
		unlink(path);
		fail_errno(FAILED, err, "no room for the state file %s, of %s", path, size_text(size));
		return NULL;
	}
	ledger = map(fd, size);
	if (!ledger)
		return NULL;
	ledger->bytes = bytes;
	ledger->granule = granule;
	ledger->origin = *origin;
	ledger->magic = LEDGER_MAGIC;
	return ledger;
}

/* What makes a state file that is there another's, or NULL. */
static const char *mismatch(const struct ledger *ledger, size_t size, uint64_t bytes, uint64_t granule,
			    const struct origin *origin)
{
	struct origin want = *origin, has = ledger->origin;

	if (ledger->magic != LEDGER_MAGIC)
		return "is none, or of another version of gmemctl: name the one that 'run' was told";
	if (ledger->bytes != bytes || ledger->granule != granule || size != ledger_size(bytes, granule))
		return "belongs to memory of another size: name the one that 'run' was told";
	if (memcmp(has.boot, want.boot, sizeof(has.boot)) || has.memory_dev != want.memory_dev ||
	    has.memory_ino != want.memory_ino)
		return "belongs to other memory: name the one that 'run' was told for this";
	if (has.image_dev != want.image_dev || has.image_ino != want.image_ino ||
	    has.image_rdev != want.image_rdev || has.image_bytes != want.image_bytes)
		return "belongs to another image: name the image that the memory was served from";
	if (has.image_sec != want.image_sec || has.image_nsec != want.image_nsec)
		return "belongs to the image as it was, which was changed since: what is missing cannot be had from it";
	return NULL;
}

static struct ledger *find_state(const char *path, int fd, const struct stat *st, uint64_t bytes, uint64_t granule,
				 const struct origin *origin)
{
	const char *wrong = "is none: name the one that 'run' was told";
	struct ledger *ledger = NULL;

	if ((size_t)st->st_size >= sizeof(*ledger)) {
		ledger = map(fd, st->st_size);
		if (!ledger)
			return NULL;
		wrong = mismatch(ledger, st->st_size, bytes, granule, origin);
	}
	if (!wrong)
		return ledger;
	if (ledger)
		munmap(ledger, st->st_size);
	fail(FAILED, "the state file %s %s", path, wrong);
	return NULL;
}

struct ledger *ledger_open(const char *path, bool again, uint64_t bytes, uint64_t granule, const struct origin *origin)
{
	struct ledger *ledger;
	struct stat st;

	state_fd = open_state(path, again, &st);
	if (state_fd < 0)
		return NULL;
	ledger = again ? find_state(path, state_fd, &st, bytes, granule, origin)
		       : begin_state(path, state_fd, &st, bytes, granule, origin);
	if (!ledger) {
		close(state_fd);
		state_fd = -1;
	}
	return ledger;
}

void ledger_remove(const char *path)
{
	struct stat ours, st;

	if (state_fd >= 0 && !fstat(state_fd, &ours) && !lstat(path, &st) && st.st_dev == ours.st_dev &&
	    st.st_ino == ours.st_ino)
		unlink(path);
}

bool ledger_has(const struct ledger *ledger, uint64_t offset)
{
	uint64_t bit = offset / ledger->granule;

	return ledger->bits[bit / 64] >> bit % 64 & 1;
}

/* Returns how many were not set. */
static uint64_t set_bits(atomic_ulong *bits, uint64_t bit, uint64_t end)
{
	uint64_t fresh = 0, mask;

	while (bit < end) {
		uint64_t n = 64 - bit % 64;

		if (n > end - bit)
			n = end - bit;
		mask = (n == 64 ? ~0ull : (1ull << n) - 1) << bit % 64;
		fresh += __builtin_popcountll(mask & ~atomic_fetch_or(&bits[bit / 64], mask));
		bit += n;
	}
	return fresh;
}

uint64_t ledger_set(struct ledger *ledger, uint64_t offset, uint64_t len)
{
	uint64_t bit = offset / ledger->granule, fresh;

	fresh = set_bits(ledger->bits, bit, bit + len / ledger->granule) * ledger->granule;
	ledger->provided += fresh;
	return fresh;
}

static const atomic_ulong *refused(const struct ledger *ledger)
{
	return ledger->bits + words(ledger->bytes, ledger->granule);
}

void ledger_refuse(struct ledger *ledger, uint64_t offset, uint64_t len)
{
	uint64_t bit = offset / ledger->granule;

	set_bits((atomic_ulong *)refused(ledger), bit, bit + len / ledger->granule);
}

bool ledger_refuses(const struct ledger *ledger, uint64_t offset)
{
	uint64_t bit = offset / ledger->granule;

	return refused(ledger)[bit / 64] >> bit % 64 & 1;
}

void ledger_recount(struct ledger *ledger)
{
	uint64_t nr = words(ledger->bytes, ledger->granule), bits = 0, i;

	for (i = 0; i < nr; i++)
		bits += __builtin_popcountll(ledger->bits[i]);
	ledger->provided = bits * ledger->granule;
	/* What it had begun to answer is told once more, and counted anew. */
	ledger->answered = ledger->faults;
}

uint64_t ledger_run(const struct ledger *ledger, uint64_t offset, uint64_t len, bool has)
{
	uint64_t first = offset / ledger->granule, end = first + len / ledger->granule, bit = first, other;

	while (bit < end) {
		/* Ones where the run ends. */
		other = (has ? ~ledger->bits[bit / 64] : ledger->bits[bit / 64]) >> bit % 64;
		if (other) {
			bit += __builtin_ctzll(other);
			break;
		}
		bit = (bit / 64 + 1) * 64;
	}
	return ((bit < end ? bit : end) - first) * ledger->granule;
}
