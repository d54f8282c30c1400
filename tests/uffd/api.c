// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a userfaultfd context begins: the flags of USERFAULTFD_IOC_NEW, what it answers before UFFDIO_API, and UFFDIO_API
 * itself.
 */
#include "uffd.h"

#include <poll.h>

static const struct parity_diff diffs[] = {
	{ "features_offered", "WP", "no", "gmem has no write protection mode" },
	{ "features_offered", "WP_*", "no", "gmem has no write protection mode" },
	{ "features_offered", "EVENT_REMAP", "no", "a module is told where a mapping is now, not from where it came" },
	{ "features_offered", "*_HUGETLBFS", "no", "no gmem file is one of hugetlbfs" },
	{ "features_offered", "MOVE", "no", "moving is of anonymous memory" },
	{ "features_offered", "RWP*", "no", "gmem has no read protection mode" },
	{ "features_offered", "POISON", "yes", "of Linux 6.6, for every kernel" },
	{ "features_offered", "ioctl SET_MODE", "no", "there is no mode to set without RWP" },
	{ "features_asked_for", "WP", "EINVAL, zeroed", "not offered" },
	{ "features_asked_for", "WP_*", "EINVAL, zeroed", "not offered" },
	{ "features_asked_for", "EVENT_REMAP", "EINVAL, zeroed", "not offered" },
	{ "features_asked_for", "*_HUGETLBFS", "EINVAL, zeroed", "not offered" },
	{ "features_asked_for", "MOVE", "EINVAL, zeroed", "not offered" },
	{ "features_asked_for", "RWP*", "EINVAL, zeroed", "not offered" },
	{ "features_asked_for", "POISON", "0", "of Linux 6.6, for every kernel" },
};

PARITY_DIFFS(diffs);

static const struct {
	const char *name;
	uint64_t bit;
} features[] = {
	{ "WP", 0 }, { "EVENT_FORK", 1 }, { "EVENT_REMAP", 2 }, { "EVENT_REMOVE", 3 }, { "MISSING_HUGETLBFS", 4 },
	{ "MISSING_SHMEM", 5 }, { "EVENT_UNMAP", 6 }, { "SIGBUS", 7 }, { "THREAD_ID", 8 }, { "MINOR_HUGETLBFS", 9 },
	{ "MINOR_SHMEM", 10 }, { "EXACT_ADDRESS", 11 }, { "WP_HUGETLBFS_SHMEM", 12 }, { "WP_UNPOPULATED", 13 },
	{ "POISON", 14 }, { "WP_ASYNC", 15 }, { "MOVE", 16 }, { "RWP", UFFD_BIT_RWP },
};

static void log_new(struct side *s, const char *key, unsigned long flags)
{
	int fd = s_new(s, flags);

	if (fd < 0) {
		s_log_ret(s, key, fd);
		return;
	}
	s_log(s, key, "%s%s%s", fcntl(fd, F_GETFD) & FD_CLOEXEC ? "cloexec " : "",
	      fcntl(fd, F_GETFL) & O_NONBLOCK ? "nonblock " : "",
	      (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY ? "rdonly" : "not rdonly");
	close(fd);
}

PARITY(new_takes_its_flags)
{
	log_new(s, "0", 0);
	log_new(s, "cloexec", O_CLOEXEC);
	log_new(s, "nonblock", O_NONBLOCK);
	log_new(s, "user mode only", UFFD_USER_MODE_ONLY);
	log_new(s, "all", O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
}

PARITY(new_refuses_other_flags)
{
	const unsigned long known = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
	char key[16];

	for (int bit = 0; bit < 32; bit++) {
		if (known & (1ul << bit))
			continue;
		snprintf(key, sizeof(key), "bit %d", bit);
		s_log(s, key, "%s, %s", s_new(s, 1ul << bit) < 0 ? s_errno(errno) : "taken",
		      s_new(s, known | 1ul << bit) < 0 ? s_errno(errno) : "taken");
	}
}

static short events(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1 ? poll_fd.revents : 0;
}

PARITY(nothing_before_api)
{
	struct uffd_msg msg;
	int fd;

	s_rig(s, 2, 0, 0);
	for (int nonblock = 0; nonblock < 2; nonblock++) {
		fd = REQUIRE_FD(s_new(s, nonblock ? O_NONBLOCK : 0));
		s_register(s, "register", fd, s_at(s, 0), s->ps, MISSING);
		s_unregister(s, "unregister", fd, s_at(s, 0), s->ps);
		s_wake(s, "wake", fd, s_at(s, 0), s->ps);
		s_copy(s, "copy", fd, s_at(s, 0), (uintptr_t)s->src, s->ps, 0);
		s_zero(s, "zero", fd, s_at(s, 0), s->ps, 0);
		s_continue(s, "continue", fd, s_at(s, 0), s->ps, 0);
		s_poison(s, "poison", fd, s_at(s, 0), s->ps, 0);
		s_log_ret(s, "bad address", ioctl(fd, UFFDIO_REGISTER, NULL));
		s_log_ret(s, "unknown", ioctl(fd, _IO(UFFDIO, 0x3e), NULL));
		s_log_ret(s, "read", read(fd, &msg, sizeof(msg)));
		s_log_ret(s, "short read", read(fd, &msg, 1));
		s_log(s, "poll", "0x%x", events(fd));
		close(fd);
	}
}

static void log_api(struct side *s, const char *key, int fd, uint64_t api, uint64_t wanted)
{
	struct uffdio_api args = { .api = api, .features = wanted, .ioctls = S_UNTOUCHED };
	int ret = ioctl(fd, UFFDIO_API, &args);

	if (!ret)
		s_log(s, key, "0");
	else
		s_log(s, key, "%s, %s", s_errno(errno),
		      !args.api && !args.features && !args.ioctls ? "zeroed" : "not zeroed");
}

PARITY(api_refuses)
{
	int fd = REQUIRE_FD(s_new(s, O_NONBLOCK));

	log_api(s, "version 0", fd, 0, 0);
	log_api(s, "version + 1", fd, UFFD_API + 1, 0);
	log_api(s, "version with high bits", fd, UFFD_API | 1ull << 32, 0);
	for (int bit = 20; bit < 64; bit++)
		log_api(s, "unknown feature", fd, UFFD_API, 1ull << bit);
	log_api(s, "known and unknown", fd, UFFD_API, UFFD_FEATURE_THREAD_ID | 1ull << 40);
	s_log_ret(s, "no struct", ioctl(fd, UFFDIO_API, NULL));
	s_log_ret(s, "struct beyond", ioctl(fd, UFFDIO_API, (void *)-4096ul));
	s_log(s, "poll", "0x%x", events(fd));
	/* None of that was the one time that counts. */
	log_api(s, "right", fd, UFFD_API, UFFD_FEATURE_THREAD_ID);
	s_log(s, "poll", "0x%x", events(fd));
	log_api(s, "twice", fd, UFFD_API, UFFD_FEATURE_THREAD_ID);
	log_api(s, "twice, with none", fd, UFFD_API, 0);
	log_api(s, "twice, wrong version", fd, 0, 0);
	s_log(s, "poll", "0x%x", events(fd));
	s_log_ret(s, "unknown", ioctl(fd, _IO(UFFDIO, 0x3e), NULL));
	s_log_ret(s, "other magic", ioctl(fd, _IO('x', 0), NULL));
	/* The whole command counts, size and direction with it. */
	s_log_ret(s, "api, other size", ioctl(fd, _IOWR(UFFDIO, 0x3f, uint64_t), NULL));
	s_log_ret(s, "wake, other direction", ioctl(fd, _IOW(UFFDIO, 0x02, struct uffdio_range), NULL));
}

PARITY(features_offered)
{
	struct uffdio_api args = { .api = UFFD_API };
	int fd = REQUIRE_FD(s_new(s, 0));

	s_log_ret(s, "api", ioctl(fd, UFFDIO_API, &args));
	s_log(s, "version", "0x%llx", args.api);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		s_log(s, features[i].name, "%s", args.features & (1ull << features[i].bit) ? "yes" : "no");
	s_log(s, "RWP_ASYNC", "%s", args.features & (1ull << UFFD_BIT_RWP_ASYNC) ? "yes" : "no");
	s_log(s, "others", "0x%llx", args.features >> (UFFD_BIT_RWP_ASYNC + 1));
	s_log(s, "ioctl API", "%s", args.ioctls & (1ull << _UFFDIO_API) ? "yes" : "no");
	s_log(s, "ioctl REGISTER", "%s", args.ioctls & (1ull << _UFFDIO_REGISTER) ? "yes" : "no");
	s_log(s, "ioctl UNREGISTER", "%s", args.ioctls & (1ull << _UFFDIO_UNREGISTER) ? "yes" : "no");
	s_log(s, "ioctl SET_MODE", "%s", args.ioctls & (1ull << UFFD_NR_SET_MODE) ? "yes" : "no");
	s_log(s, "other ioctls", "0x%llx", args.ioctls & ~(1ull << _UFFDIO_API | 1ull << _UFFDIO_REGISTER |
							    1ull << _UFFDIO_UNREGISTER | 1ull << UFFD_NR_SET_MODE));
}

/* Whoever reads of a fork gets at another process's memory, hence the privilege. */
PARITY(fork_events_want_a_privilege)
{
	/* The device is not everybody's. */
	int fd = REQUIRE_FD(s_new(s, UFFD_USER_MODE_ONLY)), other = REQUIRE_FD(s_new(s, UFFD_USER_MODE_ONLY));

	REQUIRE_OK(setresuid(65534, 65534, 65534));
	log_api(s, "EVENT_FORK", fd, UFFD_API, UFFD_FEATURE_EVENT_FORK);
	log_api(s, "EVENT_FORK and unknown", fd, UFFD_API, UFFD_FEATURE_EVENT_FORK | 1ull << 40);
	log_api(s, "EVENT_FORK, wrong version", fd, UFFD_API + 1, UFFD_FEATURE_EVENT_FORK);
	log_api(s, "others, then", fd, UFFD_API, UFFD_FEATURE_EVENT_UNMAP);
	log_api(s, "none", other, UFFD_API, 0);
}

PARITY(features_asked_for)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		int fd = REQUIRE_FD(s_new(s, 0));

		log_api(s, features[i].name, fd, UFFD_API, 1ull << features[i].bit);
		close(fd);
	}
}
