/* The names of one directory, by position (_direntries.c). No Python here, so that this can be tested by itself. */

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
	struct direntry_place *places, *target; /* target: NULL unless the names are being sorted into it */
	size_t count, room, placed;
	unsigned bucket; /* the next bucket to sort */
	bool sorted;
	size_t starts[DIRENTRIES_BUCKETS + 1]; /* while names are collected: [i + 1] counts those in bucket i */
};

/* Keep a name. Return false if there is no memory. Do not call this once sorting has begun. */
bool direntries_keep(struct direntries *entries, uint64_t position, const char *name, size_t size, uint64_t ino,
		     uint32_t kind);

bool direntries_is_collecting(const struct direntries *entries);

/* Sort some of the names. Return 1 if there are more to sort, 0 if all are sorted, -1 if there is no memory. */
int direntries_sort(struct direntries *entries);

/* Return the index of the first name behind a position. The names must be sorted. */
size_t direntries_after(const struct direntries *entries, uint64_t position);

/* Pack names from index on into a reply, as many as fit. before: the number of zero bytes before each name: 0 for
 * READDIR, the size of struct fuse_entry_out for READDIRPLUS. Returns the number of bytes used. The names must be
 * sorted. */
size_t direntries_pack(const struct direntries *entries, size_t index, unsigned char *reply, size_t size,
		       size_t before);

/* Free some of the memory. Return true if there is more to free. From the first call on, the list counts as empty. */
bool direntries_free(struct direntries *entries);

#endif
