/*
 * The names of one directory as a caller sees it: collected, sorted by position, and packed into replies to
 * READDIR and READDIRPLUS. A name of 16 bytes takes 48 bytes.
 *
 * Each call takes a small part of a millisecond. To sort or free many names takes longer. So sorting and freeing is
 * done in steps, and other requests go on between the steps.
 */

#include "door/_direntries.h"

#include <stdlib.h>
#include <string.h>

#define STEP 4096	       /* about the number of names that one step handles; more in a large bucket */
#define CHUNK_LEAST 1024
#define CHUNK_MOST (256u << 10)
#define CHUNKS_AT_ONCE 8

struct wire_dirent {
	uint64_t ino, next;
	uint32_t size, kind;
};

_Static_assert(sizeof(struct wire_dirent) == 24, "fuse_dirent");

struct direntry_chunk {
	struct direntry_chunk *next;
	size_t used, size;
	_Alignas(8) unsigned char data[];
};

static unsigned bucket_of(uint64_t position)
{
	return (unsigned)((position - DIRENTRIES_FIRST) >> (DIRENTRIES_POSITION_BITS - DIRENTRIES_BUCKET_BITS));
}

/* ---- Collecting ---------------------------------------------------------------------------------- */

static void *room_for(struct direntries *self, size_t size)
{
	struct direntry_chunk *chunk = self->chunks;
	size_t next;

	if (chunk == NULL || chunk->size - chunk->used < size) {
		next = chunk == NULL ? CHUNK_LEAST : chunk->size < CHUNK_MOST ? chunk->size * 2 : CHUNK_MOST;
		if (next < size) /* a FUSE store may have names of 4 KiB */
			next = size;
		chunk = malloc(sizeof(*chunk) + next);
		if (chunk == NULL)
			return NULL;
		*chunk = (struct direntry_chunk){.next = self->chunks, .size = next};
		self->chunks = chunk;
	}
	chunk->used += size;
	return chunk->data + chunk->used - size;
}

static bool grow(struct direntries *self)
{
	size_t room = self->room == 0 ? 16 : self->room * 2;
	struct direntry_place *places;

	if (self->count < self->room)
		return true;
	places = realloc(self->places, room * sizeof(*places));
	if (places == NULL)
		return false;
	self->places = places;
	self->room = room;
	return true;
}

bool direntries_keep(struct direntries *self, uint64_t position, const char *name, size_t size, uint64_t ino,
		     uint32_t kind)
{
	struct direntry *entry;
	struct direntry_place *place;

	if (!grow(self))
		return false;
	entry = room_for(self, (sizeof(*entry) + size + 7) & ~(size_t)7);
	if (entry == NULL)
		return false;
	entry->ino = ino;
	entry->size = (uint32_t)size;
	entry->kind = kind;
	memcpy(entry->name, name, size);
	place = &self->places[self->count++];
	place->position = position;
	place->entry = entry;
	self->starts[bucket_of(place->position) + 1]++;
	return true;
}

bool direntries_is_collecting(const struct direntries *self)
{
	return !self->sorted && self->target == NULL;
}

/* ---- Sorting ------------------------------------------------------------------------------------- */

static int compare(const void *left, const void *right)
{
	const struct direntry_place *one = left, *other = right;
	size_t size = one->entry->size < other->entry->size ? one->entry->size : other->entry->size;
	int order;

	if (one->position != other->position)
		return one->position < other->position ? -1 : 1;
	order = memcmp(one->entry->name, other->entry->name, size);
	return order != 0 ? order : (int)one->entry->size - (int)other->entry->size;
}

static bool begin_to_sort(struct direntries *self)
{
	self->target = malloc((self->count + 1) * sizeof(*self->target));
	if (self->target == NULL)
		return false;
	for (unsigned i = 1; i <= DIRENTRIES_BUCKETS; i++)
		self->starts[i] += self->starts[i - 1];
	return true;
}

/* Put names into their buckets. Meanwhile starts[i] is the place of the next name of bucket i; in the end, it
 * is the beginning of bucket i + 1. */
static void place_some(struct direntries *self)
{
	for (size_t i = 0; i < STEP && self->placed < self->count; i++) {
		const struct direntry_place *place = &self->places[self->placed++];

		self->target[self->starts[bucket_of(place->position)]++] = *place;
	}
}

static void sort_some(struct direntries *self)
{
	for (size_t done = 0; done < STEP && self->bucket < DIRENTRIES_BUCKETS; self->bucket++) {
		size_t begin = self->bucket == 0 ? 0 : self->starts[self->bucket - 1];
		size_t size = self->starts[self->bucket] - begin;

		if (size > 1)
			qsort(self->target + begin, size, sizeof(*self->target), compare);
		done += size;
	}
}

int direntries_sort(struct direntries *self)
{
	if (self->sorted)
		return 0;
	if (self->target == NULL && !begin_to_sort(self))
		return -1;
	if (self->placed < self->count)
		place_some(self);
	if (self->placed == self->count)
		sort_some(self);
	if (self->placed < self->count || self->bucket < DIRENTRIES_BUCKETS)
		return 1;
	free(self->places);
	self->places = self->target;
	self->target = NULL;
	self->sorted = true;
	return 0;
}

/* ---- Reading ------------------------------------------------------------------------------------- */

size_t direntries_after(const struct direntries *self, uint64_t position)
{
	size_t low = 0, high = self->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (self->places[middle].position <= position)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t pack_one(unsigned char *to, size_t left, const struct direntry_place *place, size_t before)
{
	const struct direntry *entry = place->entry;
	struct wire_dirent dirent = {
		.ino = entry->ino, .next = place->position, .size = entry->size, .kind = entry->kind,
	};
	size_t unpadded = before + sizeof(dirent) + entry->size, size = (unpadded + 7) & ~(size_t)7;

	if (size > left)
		return 0;
	memset(to, 0, before);
	memcpy(to + before, &dirent, sizeof(dirent));
	memcpy(to + before + sizeof(dirent), entry->name, entry->size);
	memset(to + unpadded, 0, size - unpadded);
	return size;
}

size_t direntries_pack(const struct direntries *self, size_t index, unsigned char *reply, size_t size,
		       size_t before)
{
	size_t used = 0, added;

	for (; index < self->count; index++, used += added) {
		added = pack_one(reply + used, size - used, &self->places[index], before);
		if (added == 0)
			break;
	}
	return used;
}

/* ---- Ending -------------------------------------------------------------------------------------- */

bool direntries_free(struct direntries *self)
{
	self->count = 0;
	self->sorted = true;
	for (int i = 0; i < CHUNKS_AT_ONCE && self->chunks != NULL; i++) {
		struct direntry_chunk *next = self->chunks->next;

		free(self->chunks);
		self->chunks = next;
	}
	if (self->chunks != NULL)
		return true;
	free(self->places);
	free(self->target);
	self->places = self->target = NULL;
	return false;
}
