/*
 * The raw tree's nodes (_tree.c) in memory that outlives this process, so that the next one knows them, and what a request
 * was about to do with one: to make its file (AVC_MAKING in its look-ups), or to remove or move it (`remover`). A move has a
 * second record with the new name (AVC_MOVING in its number), which replaces the first after the reply.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <string.h>

#define OURS AVC_OWN_NODES

/* A node. The count is also the node's. */
struct saved {
	struct count count; /* id 0: free; written last */
	uint64_t parent, ino;
	int64_t birth_ns;
	atomic_int backing_id;
	uint16_t name_size;
	char name[NAME_MAX_BYTES];
};

struct memory {
	_Alignas(64) atomic_uint_fast64_t last; /* number of the node made last */
	atomic_uint_fast64_t used; /* the first place that was never in use */
	struct saved nodes[OWN_NODES_MAX];
	atomic_uint_fast64_t remover, removed; /* the number of the UNLINK or RENAME in work, or 0; its node's */
};

_Static_assert(sizeof(struct memory) < 16 + OWN_NODES_MAX * sizeof(struct saved) + 64, "the last two are in what was padding");

static struct {
	struct memory *memory; /* NULL: no process follows this one */
	struct saved *moving;  /* of the node that is being moved, with its new name; or NULL */
	uint32_t free[OWN_NODES_MAX];
	size_t free_count;
} kept;

static void *outliving; /* the memory of the next saved_begin() */

static struct saved *saved_of(const struct node *node)
{
	uintptr_t at = (uintptr_t)node->count, first = (uintptr_t)kept.memory;

	return kept.memory != NULL && at - first < sizeof(*kept.memory) ? (struct saved *)node->count : NULL;
}

static void free_place(struct saved *saved)
{
	atomic_store(&saved->count.id, 0);
	kept.free[kept.free_count++] = (uint32_t)(saved - kept.memory->nodes);
}

/* Return a free place, or NULL. */
static struct saved *take_place(void)
{
	uint64_t used = atomic_load(&kept.memory->used);

	if (kept.free_count > 0)
		return &kept.memory->nodes[kept.free[--kept.free_count]];
	if (used >= OWN_NODES_MAX)
		return NULL;
	atomic_store(&kept.memory->used, used + 1);
	return &kept.memory->nodes[used];
}

static void write_record(struct saved *saved, const struct node *node, uint64_t parent, const char *name, size_t size)
{
	saved->parent = parent;
	saved->ino = node->ino;
	saved->birth_ns = node->birth_ns;
	atomic_store(&saved->backing_id, node->backing_id);
	saved->name_size = (uint16_t)size;
	memcpy(saved->name, name, size);
}

bool saved_add(struct node *node, uint64_t lookups, uint64_t last)
{
	struct saved *saved;

	atomic_store(&node->count->lookups, lookups);
	if (kept.memory == NULL)
		return true;
	if ((saved = take_place()) == NULL)
		return false;
	write_record(saved, node, node->parent, node->name, node->name_size);
	atomic_store(&saved->count.lookups, lookups);
	atomic_store(&kept.memory->last, last);
	atomic_store(&saved->count.id, node->id);
	node->count = &saved->count;
	return true;
}

void saved_set_backing(const struct node *node, int id)
{
	struct saved *saved = saved_of(node);

	if (saved != NULL)
		atomic_store(&saved->backing_id, id);
}

void saved_drop(struct node *node)
{
	struct saved *saved = saved_of(node);

	if (saved == NULL)
		return;
	free_place(saved);
	node->count = &node->alone;
}

/* ---- Changes in work ------------------------------------------------------------------------------ */

void saved_removes(const struct node *node, uint64_t unique)
{
	if (kept.memory == NULL)
		return;
	atomic_store(&kept.memory->remover, 0);
	if (node == NULL)
		return;
	atomic_store(&kept.memory->removed, node->id);
	atomic_store(&kept.memory->remover, unique);
}

bool saved_moves(const struct node *node, uint64_t parent, const char *name, size_t size, uint64_t unique)
{
	if (kept.memory == NULL)
		return true;
	if ((kept.moving = take_place()) == NULL)
		return false;
	write_record(kept.moving, node, parent, name, size);
	saved_removes(node, unique); /* INVARIANT: first: without the number, the new name is the node's */
	atomic_store(&kept.moving->count.id, node->id | AVC_MOVING);
	return true;
}

void saved_stays(void)
{
	if (kept.moving != NULL)
		free_place(kept.moving);
	kept.moving = NULL;
	saved_removes(NULL, 0);
}

/* Let a record take the place of the one with the node's old name. Each step leaves one that is right. */
static void replace(struct saved *old, struct saved *new)
{
	uint64_t id = atomic_load(&new->count.id) & ~AVC_MOVING;

	if (old != NULL) {
		atomic_store(&new->count.lookups, atomic_load(&old->count.lookups));
		atomic_store(&new->backing_id, atomic_load(&old->backing_id));
		atomic_store(&old->count.id, 0);
	}
	atomic_store(&new->count.id, id);
}

void saved_moved(struct node *node)
{
	struct saved *old = saved_of(node);

	if (kept.moving == NULL)
		return;
	saved_removes(NULL, 0);
	replace(old, kept.moving);
	free_place(old);
	node->count = &kept.moving->count;
	kept.moving = NULL;
}

/* ---- For the next process -------------------------------------------------------------------------- */

size_t avc_own_size(void)
{
	return sizeof(struct memory);
}

void avc_save_own(void *memory)
{
	outliving = memory;
}

static size_t places(const struct memory *memory)
{
	uint64_t used = atomic_load(&memory->used);

	return used < OWN_NODES_MAX ? used : OWN_NODES_MAX;
}

static bool is_in_work(const struct memory *memory, uint64_t id)
{
	return atomic_load(&memory->remover) != 0 && atomic_load(&memory->removed) == id;
}

static struct saved *find(struct memory *memory, uint64_t id)
{
	for (size_t i = 0; i < places(memory); i++)
		if (atomic_load(&memory->nodes[i].count.id) == id)
			return &memory->nodes[i];
	return NULL;
}

/* Finish the moves that were answered. Return the record with the new name of one that was not, or NULL. */
static const struct saved *unanswered(struct memory *memory)
{
	const struct saved *found = NULL;

	for (size_t i = 0; i < places(memory); i++) {
		struct saved *moving = &memory->nodes[i], *old;
		uint64_t id = atomic_load(&moving->count.id);

		if (!(id & AVC_MOVING))
			continue;
		id &= ~AVC_MOVING;
		if ((old = find(memory, id)) != NULL && is_in_work(memory, id))
			found = moving;
		else
			replace(old, moving);
	}
	return found;
}

static struct avc_own read_one(const struct memory *memory, size_t place)
{
	const struct saved *saved = &memory->nodes[place];
	struct avc_own own = {
		.id = atomic_load(&saved->count.id), .parent = saved->parent, .ino = saved->ino,
		.birth_ns = saved->birth_ns, .lookups = atomic_load(&saved->count.lookups),
		.backing_id = atomic_load(&saved->backing_id), .name_size = saved->name_size,
	};

	memcpy(own.name, saved->name, sizeof(own.name));
	return own;
}

static bool is_sound(const struct avc_own *own)
{
	return own->id & OURS && own->name_size <= NAME_MAX_BYTES;
}

void avc_read_own(void *from, avc_known_node is_known, void *context)
{
	struct memory *memory = from;
	const struct saved *moving = unanswered(memory);

	for (size_t i = 0; i < places(memory); i++) {
		struct avc_own own = read_one(memory, i);

		if (own.id & AVC_MOVING && moving == &memory->nodes[i])
			continue;
		own.remover = is_in_work(memory, own.id) ? atomic_load(&memory->remover) : 0;
		if (own.remover != 0 && moving != NULL && moving->name_size <= NAME_MAX_BYTES) {
			own.new_parent = moving->parent;
			own.new_name_size = moving->name_size;
			memcpy(own.new_name, moving->name, sizeof(own.new_name));
		}
		if (!is_sound(&own) || is_known(context, &own))
			atomic_store(&memory->nodes[i].count.id, 0);
	}
}

/* INVARIANT: Python has taken over nodes with a backing id, which may have handles, and the one that was being changed. */
static bool is_ours(const struct memory *memory, const struct avc_own *own)
{
	return is_sound(own) && !(own->id & AVC_MOVING) && own->lookups - 1 < AVC_MAKING - 1 && own->backing_id == 0 &&
	       !is_in_work(memory, own->id);
}

uint64_t saved_begin(uint64_t last, struct node *(*adopt)(const struct avc_own *))
{
	struct memory *memory = kept.memory = outliving;

	kept.free_count = 0;
	outliving = NULL;
	for (size_t i = 0; memory != NULL && i < places(memory); i++) {
		struct avc_own own = read_one(memory, i);
		struct node *node = is_ours(memory, &own) ? adopt(&own) : NULL;

		if (node != NULL)
			node->count = &memory->nodes[i].count;
		else
			free_place(&memory->nodes[i]);
	}
	saved_removes(NULL, 0);
	return memory != NULL && atomic_load(&memory->last) > last ? atomic_load(&memory->last) : last;
}

void saved_close(void)
{
	memset(&kept, 0, sizeof(kept));
}
