/* A set of requests by their numbers: a hash table of entries. The caller owns the memory of the entries.
 *
 * The kernel counts the numbers up, so they spread evenly over the buckets. */

#ifndef POLICYFS_UNIQUES_H
#define POLICYFS_UNIQUES_H

#include <stddef.h>
#include <stdint.h>

#define UNIQUES 8192 /* buckets, a power of two */

struct unique {
	uint64_t number;
	struct unique *next; /* in the same bucket */
};

struct uniques {
	struct unique *buckets[UNIQUES];
};

/* Return the address of the pointer to the entry with this number. If there is no such entry, the pointer at that
 * address is null. */
static inline struct unique **uniques_place(struct uniques *set, uint64_t number)
{
	struct unique **place = &set->buckets[(number >> 1) % UNIQUES];

	while (*place != NULL && (*place)->number != number)
		place = &(*place)->next;
	return place;
}

static inline struct unique *uniques_find(struct uniques *set, uint64_t number)
{
	return *uniques_place(set, number);
}

static inline void uniques_add(struct uniques *set, struct unique *entry, uint64_t number)
{
	struct unique **bucket = &set->buckets[(number >> 1) % UNIQUES];

	entry->number = number;
	entry->next = *bucket;
	*bucket = entry;
}

/* Remove and return the entry with this number, NULL if there is none. */
static inline struct unique *uniques_take(struct uniques *set, uint64_t number)
{
	struct unique **place = uniques_place(set, number), *entry = *place;

	if (entry != NULL)
		*place = entry->next;
	return entry;
}

/* Remove an entry that is in the set. Several entries may have the same number. */
static inline void uniques_remove(struct uniques *set, struct unique *entry)
{
	struct unique **place = uniques_place(set, entry->number);

	while (*place != entry)
		place = &(*place)->next;
	*place = entry->next;
}

#endif
