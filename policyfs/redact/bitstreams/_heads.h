/* Searches of one frame (_units.c, _pictures.c), and what they share. Each search returns true if the Python code surely
 * would not change the frame. */

#ifndef POLICYFS_HEADS_H
#define POLICYFS_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef const unsigned char *bytes;

/* The form of a track's frames: RULE_NUMBERS numbers in an array of the caller. kept, messages, unsplit, searched (those of
 * unsplit in which a start code begins a unit): bits for types of units. layer: bits of a header that are 0 in those of
 * unsplit. plain: bits for types of messages that hold only numbers, of categories that need not be hidden. */
enum { KIND, LENGTH, HEADER, BYTE, SHIFT, MASK, KEPT, MESSAGES, UNSPLIT, SEARCHED, LAYER, PLAIN, RULE_NUMBERS = PLAIN + 4 };

static inline bool begins(bytes at, size_t size, const char *with, size_t length)
{
	return size >= length && !memcmp(at, with, length);
}

static inline size_t without_zeros(bytes at, size_t size)
{
	while (size && !at[size - 1])
		size--;
	return size;
}

/* The next start code (two zeros and a one) that lies within [at, end); end if there is none. */
static inline bytes start_code(bytes at, bytes end)
{
	for (bytes one = at + 2; one < end; one++) {
		one = memchr(one, 1, (size_t)(end - one));
		if (!one)
			break;
		if (!one[-1] && !one[-2])
			return one - 2;
	}
	return end;
}

/* True if bytes hold no start of a block of metadata (block_starts.py), and also no text (kept_values.py). */
bool holds_no_block(bytes at, size_t size);
bool says_nothing(bytes at, size_t size);
/* True if a frame begins like a whole picture. */
bool is_picture(bytes at, size_t size);

/* The frames of a codec with NAL units, of AV1, of MPEG-1, -2 and -4 part 2, and frames that may be whole pictures. */
bool nal_is_plain(const uint64_t *rule, bytes at, size_t size);
bool obus_are_plain(const uint64_t *rule, bytes at, size_t size);
bool mpeg_is_plain(bytes at, size_t size);
bool picture_is_plain(bytes at, size_t size);

#endif
