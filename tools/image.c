// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opens images, refuses what is none, finds their holes, and notices when they change.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gmemctl.h"
#include "image.h"

/* What is no image of memory, but often takes its place; with what makes one of it. */
static const struct packed {
	unsigned char magic[6];
	unsigned int len;
	const char *what;
	const char *cure;
} packed[] = {
	{ { 0x28, 0xb5, 0x2f, 0xfd }, 4, "compressed with zstd", "zstd -d --sparse" },
	{ { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, "compressed with xz", "xz -d" },
	{ { 0x04, 0x22, 0x4d, 0x18 }, 4, "compressed with lz4", "lz4 -d" },
	{ { 'Q', 'F', 'I', 0xfb }, 4, "in QEMU's qcow2 format", "qemu-img convert -O raw" },
};

static int refuse_packed(const struct image *image, const unsigned char *head, size_t len)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(packed); i++)
		if (len >= packed[i].len && !memcmp(head, packed[i].magic, packed[i].len))
			return fail(FAILED, "the image %s is %s: unpack it first ('%s')", image->name, packed[i].what,
				    packed[i].cure);
	return DONE;
}

static int look_at_file(const struct image *image)
{
	/* As reading around the page cache wants it. */
	static unsigned char head[4096] __attribute__((aligned(4096)));
	ssize_t got = pread(image->fd, head, sizeof(head), 0);

	if (got < 0)
		return fail_errno(FAILED, errno, "the image %s cannot be read", image->name);
	return refuse_packed(image, head, got);
}

/* Waits for its beginning. An error it will say once more to who reads on. */
static int look_at_stream(struct image *image)
{
	struct pollfd more = { .fd = image->fd, .events = POLLIN };
	ssize_t got = 1;

	while (image->head_len < sizeof(image->head) && got) {
		poll(&more, 1, -1);
		got = read(image->fd, image->head + image->head_len, sizeof(image->head) - image->head_len);
		if (got > 0)
			image->head_len += got;
		else if (got < 0 && errno == EAGAIN)
			usleep(10 * 1000);
		else if (got < 0 && errno != EINTR)
			break;
	}
	return refuse_packed(image, image->head, image->head_len);
}

static void image_note_state(struct image *image, const struct stat *st)
{
	image->changed = st->st_mtim;
	image->size = st->st_size;
}

int image_open(struct image *image, const char *name, bool direct)
{
	bool is_stdin = !strcmp(name, "-");
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (direct ? O_DIRECT : 0);
	struct stat st;

	*image = (struct image){ .name = is_stdin ? "on stdin" : name, .direct = direct };
	/* O_DIRECT would be everybody's who has the same stdin: that is opened once more. */
	if (is_stdin && !direct)
		image->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	else
		image->fd = open(is_stdin ? "/proc/self/fd/0" : name, flags);
	if (image->fd < 0 && errno == EINVAL && direct)
		return fail(FAILED, "the image %s cannot be read around the page cache here: leave out --direct",
			    image->name);
	if (image->fd < 0)
		return fail_errno(FAILED, errno, "cannot open the image %s", image->name);
	if (fstat(image->fd, &st))
		return fail_errno(FAILED, errno, "the image %s", image->name);
	if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode)) {
		if (!is_stdin)
			return fail(FAILED, "the image %s is neither a file nor a block device: pipe it to '--image -'",
				    name);
		if (direct)
			return fail(USAGE, "a stream on stdin cannot be read with --direct");
		image->stream = true;
		return look_at_stream(image);
	}
	if (S_ISDIR(st.st_mode))
		return fail(FAILED, "the image %s is a directory", image->name);
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(image->fd, BLKGETSIZE64, &image->bytes))
			return fail_errno(FAILED, errno, "the image %s does not tell its size", image->name);
	} else {
		image->bytes = st.st_size;
		image_note_state(image, &st);
	}
	if (!image->bytes)
		return fail(FAILED, "the image %s is empty", image->name);
	/* It was for what could have kept open() waiting; reading is to wait. */
	if ((!is_stdin || direct) && fcntl(image->fd, F_SETFL, flags & ~O_NONBLOCK))
		return fail_errno(FAILED, errno, "the image %s", image->name);
	return look_at_file(image);
}

bool image_changed(const struct image *image)
{
	struct stat st;

	if (image->stream || !image->size)
		return false;
	if (fstat(image->fd, &st))
		return true;
	return (uint64_t)st.st_size != image->size || st.st_mtim.tv_sec != image->changed.tv_sec ||
	       st.st_mtim.tv_nsec != image->changed.tv_nsec;
}

int image_read(const struct image *image, char *to, uint64_t offset, uint64_t len, uint64_t *got)
{
	ssize_t n;

	for (*got = 0; *got < len; *got += n) {
		n = pread(image->fd, to + *got, len - *got, offset + *got);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -ENODATA;
	}
	return 0;
}

uint64_t image_extent(const struct image *image, uint64_t offset, uint64_t len, uint64_t granule, bool *hole)
{
	off_t data = lseek(image->fd, offset, SEEK_DATA), end;
	struct stat st;

	*hole = false;
	if (data < 0) {
		/* No content follows, or the file has been cut; where it cannot tell, all is content. */
		*hole = errno == ENXIO && !fstat(image->fd, &st) && (uint64_t)st.st_size >= offset + len;
		return len;
	}
	if ((uint64_t)data >= offset + granule) {
		*hole = true;
		return (uint64_t)data >= offset + len ? len : align_down(data - offset, granule);
	}
	end = lseek(image->fd, data, SEEK_HOLE);
	if (end < 0 || (uint64_t)end >= offset + len)
		return len;
	return align_up(end - offset, granule);
}
