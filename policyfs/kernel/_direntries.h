/* The names of one directory, by position (_direntries.c). No Python here, so that it can be tested by itself. */

#ifndef POLICYFS_DIRENTRIES_H
#define POLICYFS_DIRENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRENTRIES_FIRST 3 /* the first position: 0 is the beginning, 1 is after ".", 2 after ".." */
#define DIRENTRIES_POSITION_BITS 62
#define DIRENTRIES_BUCKET_BITS 8 /* parts that are sorted one by one */
#define DIRENTRIES_BUCKETS (1u << DIRENTRIES_BUCKET_BITS)

struct direntry {
	uint64_t ino;
	uint32_t size, kind; /* kind: DT_* */
	char name[];
};

struct direntry_place {
	uint64_t position;
	const struct direntry *entry;
};

struct direntry_chunk;

/* All zero: no names. */
struct direntries {
	struct direntry_chunk *chunks;
	struct direntry_place *places, *target; /* target: of the names that are being sorted */
	size_t count, room, placed;
	unsigned bucket; /* the next to sort */
	bool sorted;
	size_t starts[DIRENTRIES_BUCKETS + 1]; /* while names are collected: names in the bucket before */
};

/* Keep a name. False without memory. Not once sorting has begun. */
bool direntries_keep(struct direntries *entries, uint64_t position, const char *name, size_t size, uint64_t ino,
		     uint32_t kind);

bool direntries_is_collecting(const struct direntries *entries);

/* Sort some. 1 if there are more to sort, 0 if all are sorted, -1 without memory. */
int direntries_sort(struct direntries *entries);

/* The index of the first name behind a position. Sorted names only. */
size_t direntries_after(const struct direntries *entries, uint64_t position);

/* Pack names from *index on into a reply to READDIR, as many as fit; to READDIRPLUS, if before has the size of
 * a node that is none. Returns the bytes used. Sorted names only. */
size_t direntries_pack(const struct direntries *entries, size_t index, unsigned char *reply, size_t size,
		       size_t before);

/* Free some. True if there is more to free. There are no names from the first call on. */
bool direntries_free(struct direntries *entries);

#endif
