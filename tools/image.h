/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The image that memory is served from: a regular file or a block device of exactly the memory's content, holes and
 * all; or a stream (a pipe), which can only be taken in the order in which it comes.
 */
#ifndef GMEMCTL_IMAGE_H
#define GMEMCTL_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct image {
	const char *name;
	int fd;
	bool stream;
	bool direct;
	uint64_t bytes;		/* 0 for a stream */
	/* What a stream begins with: it has been looked at, and cannot be read once more. */
	unsigned char head[6];
	unsigned int head_len;
	/* What it was when it was opened; all zero where that cannot be told from the file. */
	struct timespec changed;
	uint64_t size;
};

/* "-" is stdin. DONE, or a code after a message. */
int image_open(struct image *image, const char *name, bool direct);
/* Whether somebody has written to it, or cut it, since it was opened. */
bool image_changed(const struct image *image);
/* Reads all of it: 0, or -errno with what was read in @got. */
int image_read(const struct image *image, char *to, uint64_t offset, uint64_t len, uint64_t *got);
/*
 * How much of the range, from its beginning on, is alike: a hole, or content. At least a granule; one that has content
 * in any part is content.
 */
uint64_t image_extent(const struct image *image, uint64_t offset, uint64_t len, uint64_t granule, bool *hole);

#endif
