/*
 * The table of the access vector cache: nodes by number and by name, and their grants. Readers look into the table
 * under the lock of their seat (_avc.c). The event loop alone changes the table, and holds all locks meanwhile. So
 * when a drop returns, no reader uses what was dropped.
 * See docs/architecture/vectors.md.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_MAX 16	 /* limit of nodes in one chain: an app may choose names that collide */

static struct {
	bool open;
	struct node **by_id, **by_name;
	size_t mask, most, count;
	uint64_t installed, dropped, refused;
} table;

atomic_uint avc_age;

/* The counts in memory that outlives this process. all NULL: each node has its own. */
static struct {
	struct count *all;
	uint32_t *unused; /* numbers of counts that were in use before */
	size_t count_unused, next;
	struct count *late; /* of the node that was dropped last */
	bool late_all;	    /* all: the table was cleared */
} counts;

static void *outliving; /* the memory for the counts of the next avc_open() */

/* ---- Looking ------------------------------------------------------------------------------------- */

static size_t slot_of(uint64_t value)
{
	value ^= value >> 33;
	value *= 0xff51afd7ed558ccdu;
	value ^= value >> 33;
	return (size_t)value & table.mask;
}

static size_t slot_of_name(uint64_t parent, const char *name, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325u ^ parent;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3u;
	return slot_of(hash);
}

struct node *avc_find(uint64_t id)
{
	struct node *node = table.by_id[slot_of(id)];

	while (node != NULL && node->id != id)
		node = node->next_id;
	return node;
}

bool avc_is_named(const struct node *node, uint64_t parent, const char *name, size_t size)
{
	return node->parent == parent && node->name_size == size && memcmp(node->name, name, size) == 0;
}

struct node *avc_first_like(uint64_t parent, const char *name, size_t size)
{
	return table.by_name[slot_of_name(parent, name, size)];
}

/* ---- Counts in memory that outlives this process ------------------------------------------------- */

/* Free the counts of dropped nodes. INVARIANT: called at the next change of the table, since by then Python has saved
 * their look-ups. Until then the process after this one may count them twice, which keeps a node, but loses none. */
static void free_late(void)
{
	for (size_t i = 0; counts.late_all && i < counts.next; i++)
		atomic_store(&counts.all[i].id, 0);
	if (counts.late_all)
		counts.next = counts.count_unused = 0;
	else if (counts.late != NULL) {
		atomic_store(&counts.late->id, 0);
		counts.unused[counts.count_unused++] = (uint32_t)(counts.late - counts.all);
	}
	counts.late_all = false;
	counts.late = NULL;
}

/* There is a count for each node that the table can have; own nodes have theirs in _tree.c. */
static struct count *new_count(struct node *node, bool limited)
{
	struct count *count = &node->alone;

	if (counts.all != NULL && limited) {
		free_late();
		count = &counts.all[counts.count_unused > 0 ? counts.unused[--counts.count_unused] : counts.next++];
	}
	atomic_store(&count->lookups, 0);
	atomic_store(&count->id, node->id);
	return count;
}

static bool is_shared(const struct count *count)
{
	return count >= counts.all && count < counts.all + table.most;
}

static bool counts_begin(size_t most)
{
	counts.all = outliving;
	outliving = NULL;
	if (counts.all == NULL)
		return true;
	memset(counts.all, 0, avc_counts_size(most));
	counts.unused = calloc(most, sizeof(*counts.unused));
	return counts.unused != NULL;
}

size_t avc_counts_size(size_t nodes)
{
	return nodes * sizeof(struct count);
}

void avc_save_counts(void *memory)
{
	outliving = memory;
}

/* ---- Changing: the event loop only, with all locks ---------------------------------------------- */

static void unlink_name(struct node *node)
{
	struct node **at = &table.by_name[slot_of_name(node->parent, node->name, node->name_size)];

	while (*at != NULL && *at != node)
		at = &(*at)->next_name;
	if (*at == node)
		*at = node->next_name;
}

void avc_count_node(void)
{
	table.count++;
}

void avc_remove_node(struct node *node, bool limited)
{
	struct node **at = &table.by_id[slot_of(node->id)];

	saved_drop(node);
	unlink_name(node);
	while (*at != node)
		at = &(*at)->next_id;
	*at = node->next_id;
	table.count -= limited;
	if (node->name != node->first_name)
		free(node->name);
	free(node);
}

static bool is_chain_full(struct node *node)
{
	int length = 0;

	for (; node != NULL; node = node->next_name)
		length++;
	return length >= CHAIN_MAX;
}

struct node *avc_add_node(const struct avc_vector *vector, bool limited)
{
	struct node **by_name = &table.by_name[slot_of_name(vector->parent, vector->name, vector->name_size)];
	struct node **by_id = &table.by_id[slot_of(vector->id)];
	struct node *node;

	if ((limited && table.count >= table.most) || is_chain_full(*by_name))
		return NULL;
	node = calloc(1, sizeof(*node) + vector->name_size + 1);
	if (node == NULL)
		return NULL;
	node->id = vector->id;
	node->parent = vector->parent;
	node->device = vector->device;
	node->ino = vector->ino;
	node->birth_ns = vector->birth_ns;
	node->format = vector->format;
	node->name_size = (uint16_t)vector->name_size;
	node->name = node->first_name;
	memcpy(node->name, vector->name, vector->name_size);
	node->count = new_count(node, limited);
	node->next_id = *by_id;
	*by_id = node;
	node->next_name = *by_name;
	*by_name = node;
	table.count += limited;
	return node;
}

bool avc_has_room_for(uint64_t parent, const char *name, size_t size)
{
	return !is_chain_full(avc_first_like(parent, name, size));
}

void avc_rename_node(struct node *node, uint64_t parent, char *name, size_t size)
{
	struct node **by_name = &table.by_name[slot_of_name(parent, name, size)];

	unlink_name(node);
	if (node->name != node->first_name)
		free(node->name);
	node->name = name;
	node->name_size = (uint16_t)size;
	node->parent = parent;
	node->next_name = *by_name;
	*by_name = node;
}

static bool is_same(const struct node *node, const struct avc_vector *vector)
{
	return avc_is_named(node, vector->parent, vector->name, vector->name_size) &&
	       node->device == vector->device && node->ino == vector->ino &&
	       node->birth_ns == vector->birth_ns && node->format == vector->format;
}

static void take_grants(struct node *node)
{
	memset(node->grants, 0, sizeof(node->grants));
	node->next_grant = 0;
}

static struct grant *grant(struct node *node, uint32_t uid, uint32_t bits)
{
	struct grant *place = NULL;

	for (int i = 0; i < GRANTS; i++)
		if (node->grants[i].bits != 0 && node->grants[i].uid == uid)
			place = &node->grants[i];
	if (place == NULL) {
		place = &node->grants[node->next_grant++ % GRANTS];
		place->uid = uid;
		place->bits = 0;
	}
	place->bits |= bits; /* INVARIANT: this only adds bits; AVC_UNCOUNTED stays until the node is dropped */
	return place;
}

/* Take AVC_LOOKUP for this uid and name from other nodes: one name leads one caller to one node. */
static void take_name_from_others(const struct node *node, uint32_t uid)
{
	struct node *other = table.by_name[slot_of_name(node->parent, node->name, node->name_size)];

	for (; other != NULL; other = other->next_name)
		for (int i = 0; other != node && i < GRANTS; i++)
			if (other->grants[i].uid == uid && avc_is_named(other, node->parent, node->name, node->name_size))
				other->grants[i].bits &= ~AVC_LOOKUP;
}

static bool fits(const struct node *node, const struct avc_vector *vector)
{
	return vector->backing_id > 0 && (node->backing_id == 0 || node->backing_id == vector->backing_id);
}

static void install_open(struct node *node, struct grant *grant, const struct avc_vector *vector)
{
	node->backing_id = vector->backing_id;
	node->of_version = vector->of_version;
	node->version = vector->version;
	atomic_store_explicit(&node->used, atomic_load(&avc_age), memory_order_relaxed);
	grant->gid = vector->gid;
	grant->flags = vector->flags & ~AVC_HARMLESS;
}

static bool install(const struct avc_vector *vector)
{
	struct node *node = avc_find(vector->id);
	struct grant *place;
	uint64_t serial;
	uint16_t directory;

	if (node != NULL && node->own)
		return false;
	if (node != NULL && !is_same(node, vector)) { /* renamed without a drop: this would be a bug */
		take_grants(node);
		return false;
	}
	if (!directories_add(vector->parent, vector->directory, &directory, &serial))
		return false;
	if (node == NULL)
		node = avc_add_node(vector, true);
	if (node == NULL)
		return false;
	if (node->directory != directory || node->serial != serial) {
		take_grants(node); /* these grants are older than the directory's new descriptor */
		node->directory = directory;
		node->serial = serial;
	}
	if (vector->grant & AVC_OPEN && !fits(node, vector))
		return false;
	if (vector->grant & AVC_GETATTR)
		node->kept_ms = vector->kept_ms;
	place = grant(node, vector->uid, vector->grant);
	if (vector->grant & AVC_OPEN)
		install_open(node, place, vector);
	else if (vector->grant & AVC_LIST)
		place->gid = vector->gid;
	if (vector->grant & AVC_LOOKUP)
		take_name_from_others(node, vector->uid);
	return true;
}

bool avc_install(const struct avc_vector *vector)
{
	bool done;

	if (!table.open || vector->name_size > NAME_MAX_BYTES)
		return false;
	avc_lock_all();
	done = install(vector);
	avc_unlock_all();
	table.installed += done;
	table.refused += !done;
	return done;
}

bool avc_see_all(uint64_t id, int fd, uint32_t uid, bool keeps)
{
	bool done, unused;

	if (!table.open)
		return false;
	if (directories_all_seen(id, uid, &unused) >= 0) /* no other thread changes the directories */
		return true;
	avc_lock_all();
	done = directories_see_all(id, fd, uid, keeps);
	avc_unlock_all();
	table.installed += done;
	table.refused += !done;
	return done;
}

bool avc_allow(uint64_t id, int fd, const struct avc_raw *raw)
{
	bool done;

	if (!table.open)
		return false;
	avc_lock_all();
	done = directories_allow(id, fd, raw);
	avc_unlock_all();
	return done;
}

bool avc_is_raw(uint64_t id, uint32_t uid)
{
	const struct raw *raw = table.open ? directories_raw(id, uid, NULL) : NULL;

	return raw != NULL && raw->bits & AVC_OPEN;
}

uint64_t avc_drop(uint64_t id)
{
	struct node *node = table.open ? avc_find(id) : NULL; /* no other thread changes the table */
	uint64_t lookups;

	if (node == NULL || node->own)
		return 0;
	avc_lock_all();
	lookups = node->taken ? 0 : atomic_load_explicit(&node->count->lookups, memory_order_relaxed);
	if (counts.all != NULL) {
		free_late();
		counts.late = is_shared(node->count) ? node->count : NULL;
	}
	avc_remove_node(node, true);
	avc_unlock_all();
	table.dropped++;
	return lookups;
}

void avc_leave(uint64_t id)
{
	if (!table.open || !directories_have(id)) /* no other thread changes the directories */
		return;
	avc_lock_all();
	directories_leave(id);
	avc_unlock_all();
}

void avc_drop_all(void)
{
	if (!table.open)
		return;
	table.dropped++;
	avc_lock_all();
	directories_leave_all();
	avc_unlock_all();
}

void avc_each_node(void (*visit)(struct node *, void *), void *context)
{
	for (size_t slot = 0; slot <= table.mask; slot++)
		for (struct node *node = table.by_id[slot]; node != NULL; node = node->next_id)
			visit(node, context);
}

void table_clear(void (*taken)(void *, uint64_t, uint64_t), void *context, bool own)
{
	if (!table.open)
		return;
	avc_lock_all();
	for (size_t slot = 0; slot <= table.mask; slot++)
		for (struct node *node = table.by_id[slot], *next; node != NULL; node = next) {
			uint64_t lookups = atomic_load_explicit(&node->count->lookups, memory_order_relaxed);

			next = node->next_id;
			if (node->own && !own)
				continue;
			if (lookups > 0 && taken != NULL)
				taken(context, node->id, lookups);
			avc_remove_node(node, !node->own);
		}
	counts.late_all = counts.all != NULL;
	directories_leave_all();
	avc_unlock_all();
}

void avc_clear(void (*taken)(void *, uint64_t, uint64_t), void *context)
{
	table_clear(taken, context, false);
}

bool avc_is_open(void)
{
	return table.open;
}

bool table_begin(size_t nodes)
{
	size_t slots = 1024;

	while (slots < 2 * nodes) /* the cache's own nodes are as many */
		slots *= 2;
	table.by_id = calloc(slots, sizeof(*table.by_id));
	table.by_name = calloc(slots, sizeof(*table.by_name));
	table.mask = slots - 1;
	table.most = nodes;
	return table.by_id != NULL && table.by_name != NULL && counts_begin(nodes);
}

void table_open(void)
{
	table.open = true;
}

void table_end(void)
{
	free(table.by_id);
	free(table.by_name);
	free(counts.unused);
	memset(&counts, 0, sizeof(counts));
	memset(&table, 0, sizeof(table));
	atomic_store(&avc_age, 0);
}

void avc_count_table(struct avc_counts *told)
{
	told->nodes = table.count;
	told->directories = directories_count();
	told->installed = table.installed;
	told->dropped = table.dropped;
	told->refused = table.refused;
}
