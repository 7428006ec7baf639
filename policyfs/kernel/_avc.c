/*
 * The access vector cache. Once Python has decided that a caller may look up a name, see a node's
 * attributes or pass access(2), the same request is answered here, without Python. Attributes are never
 * kept: each answer asks the store by directory descriptor and name, and counts only if device, inode
 * number, birth time and type are the node's own.
 *
 * Locks (docs/architecture/vectors.md): each reader has a seat with a lock of its own, held from the
 * look into the table until the reply is written. The event loop alone changes the table, and holds all
 * locks for that. So a drop returns only when no reader uses what was dropped. The event loop's own seat
 * needs no lock. No other lock is taken while one of these is held.
 */

#define _GNU_SOURCE
#include "_avc_table.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define OPCODE_LOOKUP 1
#define OPCODE_GETATTR 3
#define OPCODE_OPEN 14
#define OPCODE_RELEASE 18
#define OPCODE_ACCESS 34
#define RESENT ((uint64_t)1 << 63)

#define CHAIN_MAX 16	 /* nodes in one chain: a name made to collide is not cached */
#define NAME_MAX_BYTES 255
#define HIDDEN_SIZE 4096 /* of a directory whose names may be hidden (lookup.py, _uncounted) */

struct directory {
	uint64_t id, serial;
	int fd; /* ours; -1: free */
};

static struct {
	bool open;
	struct node **by_id, **by_name;
	size_t mask, most, count;
	struct directory *directories;
	unsigned directories_most, next_directory, seats;
	uint64_t serial; /* of the descriptor opened last */
	uint64_t installed, dropped, refused;
} table;

static struct seat seats[AVC_SEATS] = {
	[0 ... AVC_SEATS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};

/* True while the event loop waits for the locks. A reader then leaves its request to Python, since a lock
 * that is taken again at once might never be free for the event loop. */
static atomic_bool changing;

void avc_lock_all(void)
{
	atomic_store(&changing, true);
	for (unsigned i = 1; i < table.seats; i++)
		pthread_mutex_lock(&seats[i].lock);
}

void avc_unlock_all(void)
{
	for (unsigned i = table.seats; i-- > 1;)
		pthread_mutex_unlock(&seats[i].lock);
	atomic_store(&changing, false);
}

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

/* The descriptor of a node's directory, -1 if it was dropped since. */
static int directory_of(const struct node *node)
{
	const struct directory *directory = &table.directories[node->directory];

	return directory->fd >= 0 && directory->serial == node->serial ? directory->fd : -1;
}

static bool is_named(const struct node *node, uint64_t parent, const char *name, size_t size)
{
	return node->parent == parent && node->name_size == size && memcmp(node->name, name, size) == 0;
}

static uint32_t granted(const struct node *node, uint32_t uid)
{
	for (int i = 0; i < GRANTS; i++)
		if (node->grants[i].bits != 0 && node->grants[i].uid == uid)
			return node->grants[i].bits;
	return 0;
}

/* ---- Answering ----------------------------------------------------------------------------------- */

/* The node's attributes in the store, now. False if its name leads elsewhere, or they are odd. */
bool avc_ask_store(const struct node *node, bool uncounted, struct wire_attr *attr)
{
	struct statx now;
	int fd = directory_of(node);
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (node->name_size == 0 ? AT_EMPTY_PATH : 0);

	if (fd < 0 || statx(fd, node->name, flags, STATX_BASIC_STATS | STATX_BTIME, &now) != 0)
		return false;
	if ((now.stx_mask & (STATX_BASIC_STATS | STATX_BTIME)) != (STATX_BASIC_STATS | STATX_BTIME) ||
	    makedev(now.stx_dev_major, now.stx_dev_minor) != node->device || now.stx_ino != node->ino ||
	    now.stx_btime.tv_sec * 1000000000 + now.stx_btime.tv_nsec != node->birth_ns ||
	    (now.stx_mode & S_IFMT) != node->format)
		return false;
	if (now.stx_atime.tv_sec < 0 || now.stx_mtime.tv_sec < 0 || now.stx_ctime.tv_sec < 0)
		return false;
	memset(attr, 0, sizeof(*attr));
	attr->ino = now.stx_ino;
	attr->size = uncounted ? HIDDEN_SIZE : now.stx_size;
	attr->blocks = uncounted ? HIDDEN_SIZE / 512 : now.stx_blocks;
	attr->atime = (uint64_t)now.stx_atime.tv_sec;
	attr->mtime = (uint64_t)now.stx_mtime.tv_sec;
	attr->ctime = (uint64_t)now.stx_ctime.tv_sec;
	attr->atimensec = now.stx_atime.tv_nsec;
	attr->mtimensec = now.stx_mtime.tv_nsec;
	attr->ctimensec = now.stx_ctime.tv_nsec;
	attr->mode = now.stx_mode;
	attr->nlink = uncounted && now.stx_nlink > 1 ? 1 : now.stx_nlink;
	attr->uid = now.stx_uid;
	attr->gid = now.stx_gid;
	attr->blksize = now.stx_blksize;
	return true;
}

/* The request was answered, even if the kernel no longer waits for it. True if it took the reply. */
bool avc_reply(struct seat *seat, int device, uint64_t unique, void *body, size_t size)
{
	struct wire_out_header header = {.len = (uint32_t)(sizeof(header) + size), .unique = unique};
	struct iovec iov[2] = {{&header, sizeof(header)}, {body, size}};

	if (writev(device, iov, size > 0 ? 2 : 1) >= 0)
		return true;
	atomic_fetch_add_explicit(&seat->lost, 1, memory_order_relaxed);
	return false;
}

static bool answer_lookup(struct seat *seat, int device, const struct wire_in_header *header,
			  const char *name, size_t size)
{
	struct wire_entry_out out = {0};
	struct node *node;

	for (node = table.by_name[slot_of_name(header->nodeid, name, size)]; node != NULL;
	     node = node->next_name) {
		uint32_t bits;

		if (!is_named(node, header->nodeid, name, size))
			continue;
		bits = granted(node, header->uid);
		if (!(bits & AVC_LOOKUP))
			continue;
		if (!avc_ask_store(node, (bits & AVC_UNCOUNTED) != 0, &out.attr))
			return false;
		out.nodeid = node->id;
		/* INVARIANT: counted before the kernel can forget it, and under this seat's lock. */
		atomic_fetch_add_explicit(&node->lookups, 1, memory_order_relaxed);
		if (!avc_reply(seat, device, header->unique, &out, sizeof(out)))
			atomic_fetch_sub_explicit(&node->lookups, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&seat->lookups, 1, memory_order_relaxed);
		return true;
	}
	return false;
}

static bool answer_getattr(struct seat *seat, int device, const struct wire_in_header *header)
{
	const struct node *node = avc_find(header->nodeid);
	struct wire_attr_out out = {0};
	uint32_t bits = node == NULL ? 0 : granted(node, header->uid);

	if (!(bits & AVC_GETATTR) || !avc_ask_store(node, (bits & AVC_UNCOUNTED) != 0, &out.attr))
		return false;
	avc_reply(seat, device, header->unique, &out, sizeof(out));
	atomic_fetch_add_explicit(&seat->getattrs, 1, memory_order_relaxed);
	return true;
}

static bool answer_access(struct seat *seat, int device, const struct wire_in_header *header, uint32_t mode)
{
	const struct node *node = avc_find(header->nodeid);

	if (node == NULL || directory_of(node) < 0 || mode > 7 ||
	    !(granted(node, header->uid) & AVC_ACCESS(mode)))
		return false;
	avc_reply(seat, device, header->unique, NULL, 0);
	atomic_fetch_add_explicit(&seat->accesses, 1, memory_order_relaxed);
	return true;
}

static bool is_plain(const struct wire_in_header *header, size_t size)
{
	return header->len == size && header->extension_words == 0 && !(header->unique & RESENT);
}

bool avc_takes(const unsigned char *message, size_t size)
{
	struct wire_in_header header;

	if (size < sizeof(header))
		return false;
	memcpy(&header, message, sizeof(header));
	if (header.opcode == OPCODE_RELEASE) /* Python's own must keep their place in the order */
		return opens_has(message + sizeof(header), size - sizeof(header));
	return header.opcode == OPCODE_LOOKUP || header.opcode == OPCODE_GETATTR ||
	       header.opcode == OPCODE_ACCESS || header.opcode == OPCODE_OPEN;
}

static bool answer(struct seat *seat, int device, const unsigned char *message, size_t size)
{
	const unsigned char *body = message + sizeof(struct wire_in_header);
	size_t left = size - sizeof(struct wire_in_header);
	struct wire_in_header header;
	uint32_t mode;

	memcpy(&header, message, sizeof(header));
	if (!table.open || !is_plain(&header, size))
		return false;
	switch (header.opcode) {
	case OPCODE_LOOKUP:
		if (left < 2 || left - 1 > NAME_MAX_BYTES || strnlen((const char *)body, left) != left - 1)
			return false;
		return answer_lookup(seat, device, &header, (const char *)body, left - 1);
	case OPCODE_GETATTR:
		return answer_getattr(seat, device, &header);
	case OPCODE_OPEN:
		return opens_answer_open(seat, (unsigned)(seat - seats), device, &header, body, left);
	case OPCODE_RELEASE:
		return opens_answer_release(seat, device, &header, body, left);
	default:
		if (left < sizeof(mode))
			return false;
		memcpy(&mode, body, sizeof(mode));
		return answer_access(seat, device, &header, mode);
	}
}

bool avc_answer(unsigned seat, int device, const unsigned char *message, size_t size)
{
	bool done;

	if (!avc_takes(message, size))
		return false;
	if (seat == 0)
		return answer(&seats[0], device, message, size);
	if (atomic_load(&changing))
		return false;
	pthread_mutex_lock(&seats[seat].lock);
	done = answer(&seats[seat], device, message, size);
	pthread_mutex_unlock(&seats[seat].lock);
	return done;
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

static void remove_node(struct node *node)
{
	struct node **at = &table.by_id[slot_of(node->id)];

	unlink_name(node);
	while (*at != node)
		at = &(*at)->next_id;
	*at = node->next_id;
	table.count--;
	free(node);
}

static void close_directory(struct directory *directory)
{
	if (directory->fd >= 0)
		close(directory->fd);
	directory->fd = -1;
}

/* The number of a directory with a descriptor, -1 if there can be none. It takes the place of another,
 * in turn, and all nodes in that one are as dropped. */
static int directory_with(uint64_t id, int fd)
{
	struct directory *directory;
	unsigned number;

	for (number = 0; number < table.directories_most; number++)
		if (table.directories[number].fd >= 0 && table.directories[number].id == id)
			return (int)number;
	number = table.next_directory++ % table.directories_most;
	directory = &table.directories[number];
	close_directory(directory);
	directory->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	directory->id = id;
	directory->serial = ++table.serial;
	return directory->fd >= 0 ? (int)number : -1;
}

static bool is_chain_full(struct node *node)
{
	int length = 0;

	for (; node != NULL; node = node->next_name)
		length++;
	return length >= CHAIN_MAX;
}

static struct node *add_node(const struct avc_vector *vector)
{
	struct node **by_name = &table.by_name[slot_of_name(vector->parent, vector->name, vector->name_size)];
	struct node **by_id = &table.by_id[slot_of(vector->id)];
	struct node *node;

	if (table.count >= table.most || is_chain_full(*by_name))
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
	memcpy(node->name, vector->name, vector->name_size);
	node->next_id = *by_id;
	*by_id = node;
	node->next_name = *by_name;
	*by_name = node;
	table.count++;
	return node;
}

static bool is_same(const struct node *node, const struct avc_vector *vector)
{
	return is_named(node, vector->parent, vector->name, vector->name_size) &&
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
	place->bits |= bits; /* INVARIANT: AVC_UNCOUNTED, too, stays until the node is dropped */
	return place;
}

/* One name leads one caller to one node. */
static void take_name_from_others(const struct node *node, uint32_t uid)
{
	struct node *other = table.by_name[slot_of_name(node->parent, node->name, node->name_size)];

	for (; other != NULL; other = other->next_name)
		for (int i = 0; other != node && i < GRANTS; i++)
			if (other->grants[i].uid == uid && is_named(other, node->parent, node->name, node->name_size))
				other->grants[i].bits &= ~AVC_LOOKUP;
}

static bool install(const struct avc_vector *vector)
{
	struct node *node = avc_find(vector->id);
	struct grant *place;
	int directory;

	if (node != NULL && !is_same(node, vector)) { /* renamed, and not dropped: never, or a bug */
		take_grants(node);
		return false;
	}
	directory = directory_with(vector->parent, vector->directory);
	if (directory < 0)
		return false;
	if (node == NULL)
		node = add_node(vector);
	if (node == NULL)
		return false;
	if (node->directory != directory || node->serial != table.directories[directory].serial) {
		take_grants(node); /* of before avc_drop_all() */
		node->directory = (uint16_t)directory;
		node->serial = table.directories[directory].serial;
	}
	if (vector->grant & AVC_OPEN && !opens_fit(node, vector))
		return false;
	place = grant(node, vector->uid, vector->grant);
	if (vector->grant & AVC_OPEN)
		opens_install(node, place, vector);
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

uint64_t avc_drop(uint64_t id)
{
	struct node *node = table.open ? avc_find(id) : NULL; /* nobody else changes the table */
	uint64_t lookups;

	if (node == NULL)
		return 0;
	avc_lock_all();
	lookups = atomic_load_explicit(&node->lookups, memory_order_relaxed);
	remove_node(node);
	avc_unlock_all();
	table.dropped++;
	return lookups;
}

void avc_leave(uint64_t id)
{
	for (unsigned i = 0; table.open && i < table.directories_most; i++)
		if (table.directories[i].fd >= 0 && table.directories[i].id == id) {
			avc_lock_all();
			close_directory(&table.directories[i]);
			avc_unlock_all();
		}
}

void avc_drop_all(void)
{
	if (!table.open)
		return;
	table.dropped++;
	avc_lock_all();
	for (unsigned i = 0; i < table.directories_most; i++)
		close_directory(&table.directories[i]);
	avc_unlock_all();
}

void avc_each_node(void (*visit)(struct node *, void *), void *context)
{
	for (size_t slot = 0; slot <= table.mask; slot++)
		for (struct node *node = table.by_id[slot]; node != NULL; node = node->next_id)
			visit(node, context);
}

void avc_clear(void (*taken)(void *, uint64_t, uint64_t), void *context)
{
	if (!table.open)
		return;
	avc_lock_all();
	for (size_t slot = 0; slot <= table.mask; slot++)
		while (table.by_id[slot] != NULL) {
			struct node *node = table.by_id[slot];
			uint64_t lookups = atomic_load_explicit(&node->lookups, memory_order_relaxed);

			if (lookups > 0 && taken != NULL)
				taken(context, node->id, lookups);
			remove_node(node);
		}
	for (unsigned i = 0; i < table.directories_most; i++)
		close_directory(&table.directories[i]);
	avc_unlock_all();
}

bool avc_is_open(void)
{
	return table.open;
}

bool avc_open(size_t nodes, unsigned directories, unsigned seats_used)
{
	size_t slots = 1024;

	avc_close();
	while (slots < nodes)
		slots *= 2;
	table.by_id = calloc(slots, sizeof(*table.by_id));
	table.by_name = calloc(slots, sizeof(*table.by_name));
	table.directories = calloc(directories, sizeof(*table.directories));
	if (nodes == 0 || directories == 0 || seats_used > AVC_SEATS || table.by_id == NULL ||
	    table.by_name == NULL || table.directories == NULL || !opens_begin()) {
		avc_close();
		return false;
	}
	table.mask = slots - 1;
	table.most = nodes;
	table.directories_most = directories;
	table.seats = seats_used;
	for (unsigned i = 0; i < directories; i++)
		table.directories[i].fd = -1;
	table.open = true;
	return true;
}

void avc_close(void)
{
	avc_clear(NULL, NULL);
	opens_close();
	free(table.by_id);
	free(table.by_name);
	free(table.directories);
	memset(&table, 0, sizeof(table));
	for (unsigned i = 0; i < AVC_SEATS; i++) {
		atomic_store(&seats[i].lookups, 0);
		atomic_store(&seats[i].getattrs, 0);
		atomic_store(&seats[i].accesses, 0);
		atomic_store(&seats[i].opens, 0);
		atomic_store(&seats[i].releases, 0);
		atomic_store(&seats[i].lost, 0);
	}
}

void avc_count(struct avc_counts *counts)
{
	memset(counts, 0, sizeof(*counts));
	for (unsigned i = 0; i < AVC_SEATS; i++) {
		counts->lookups += atomic_load_explicit(&seats[i].lookups, memory_order_relaxed);
		counts->getattrs += atomic_load_explicit(&seats[i].getattrs, memory_order_relaxed);
		counts->accesses += atomic_load_explicit(&seats[i].accesses, memory_order_relaxed);
		counts->opens += atomic_load_explicit(&seats[i].opens, memory_order_relaxed);
		counts->releases += atomic_load_explicit(&seats[i].releases, memory_order_relaxed);
		counts->lost += atomic_load_explicit(&seats[i].lost, memory_order_relaxed);
	}
	counts->nodes = table.count;
	for (unsigned i = 0; i < table.directories_most; i++)
		counts->directories += table.directories[i].fd >= 0;
	counts->installed = table.installed;
	counts->dropped = table.dropped;
	counts->refused = table.refused;
}
