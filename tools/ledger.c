// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ledger: which granules have been provided.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gmemctl.h"
#include "ledger.h"

struct ledger *ledger_open(const char *path, uint64_t bytes, uint64_t granule)
{
	size_t size = sizeof(struct ledger) + align_up(bytes / granule, 64) / 8;
	struct ledger *ledger;
	struct stat st;
	int fd = -1;

	if (path) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0 || fstat(fd, &st)) {
			fail_errno(FAILED, errno, "cannot open the state file %s", path);
			goto out;
		}
		if (!S_ISREG(st.st_mode)) {
			fail(FAILED, "the state file %s is no regular file", path);
			goto out;
		}
		/* Held as long as the file is open here or in a page server. */
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			fail(FAILED, "the state file %s is in use: another gmemctl serves with it", path);
			goto out;
		}
		if (!st.st_size && ftruncate(fd, size)) {
			fail_errno(FAILED, errno, "the state file %s", path);
			goto out;
		}
		if (st.st_size && (size_t)st.st_size != size)
			goto not_ours;
	}
	ledger = mmap(NULL, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	if (ledger == MAP_FAILED) {
		fail_errno(FAILED, errno, "memory for what has been provided");
		goto out;
	}
	if (!ledger->magic) {
		ledger->bytes = bytes;
		ledger->granule = granule;
		ledger->magic = LEDGER_MAGIC;
	}
	/* The descriptor stays open for its lock. */
	if (ledger->magic == LEDGER_MAGIC && ledger->bytes == bytes && ledger->granule == granule)
		return ledger;
	munmap(ledger, size);
not_ours:
	fail(FAILED, "the state file %s belongs to memory of another size: remove it, or name another", path);
out:
	if (fd >= 0)
		close(fd);
	return NULL;
}

bool ledger_has(const struct ledger *ledger, uint64_t offset)
{
	uint64_t bit = offset / ledger->granule;

	return ledger->bits[bit / 64] >> bit % 64 & 1;
}

uint64_t ledger_set(struct ledger *ledger, uint64_t offset, uint64_t len)
{
	uint64_t bit = offset / ledger->granule, end = bit + len / ledger->granule, fresh = 0, mask;

	while (bit < end) {
		uint64_t n = 64 - bit % 64;

		if (n > end - bit)
			n = end - bit;
		mask = (n == 64 ? ~0ull : (1ull << n) - 1) << bit % 64;
		fresh += __builtin_popcountll(mask & ~atomic_fetch_or(&ledger->bits[bit / 64], mask));
		bit += n;
	}
	fresh *= ledger->granule;
	ledger->provided += fresh;
	return fresh;
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
