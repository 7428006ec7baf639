/*
 * The raw tree: files in directories where one decision of Python holds for every name (fs/opening/raw_directories.py).
 * There the bridge itself answers the first LOOKUP, GETATTR, OPEN and RELEASE of a regular file. It makes the node,
 * which is its own until Python needs it: then Python takes it over, with its number, references and handles.
 *
 * INVARIANT: an inode with a node of the bridge has no other node. So each inode for which Python has a node is counted
 * in `known`, and Python takes a node over before it makes another one for the inode.
 *
 * The event loop's seat alone makes, opens and removes such nodes, and holds all locks meanwhile. Readers answer for
 * those that are there. A backing id lasts to the last release, the second one some time longer.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define OURS AVC_OWN_NODES
#define BUCKETS (1u << 16)
#define IDLE_MAX (1u << 14) /* limit of backing ids that last longer */
#define PARENTS (1u << 14)
#define KNOWN (1u << 18)

/* INVARIANT: as attributes.cold(). */
#define COLD_MS 60000
#define SPREAD_MS 15000

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

struct wire_forget_one {
	uint64_t nodeid, lookups;
};

static struct {
	struct node *by_inode[BUCKETS];
	TAILQ_HEAD(, node) by_age; /* the oldest first */
	uint32_t in_parent[PARENTS]; /* nodes by number of the directory; several directories share a place */
	uint8_t known[KNOWN];	     /* inodes with a node in Python; several share a place; 255 stays */
	size_t count, opened;
	uint64_t last; /* number of the node made last; never begins anew */
	int device;    /* the session's, for backing ids */
	uint32_t backer; /* fsuid under which files are registered */
	bool passes, refused;  /* the kernel has passed files of this store through; it passes none */
} tree;

static struct node **chain_of(uint64_t inode)
{
	return &tree.by_inode[(inode * 0x9e3779b97f4a7c15u) >> 48];
}

static struct node *find_inode(uint64_t inode)
{
	struct node *node = *chain_of(inode);

	while (node != NULL && node->ino != inode)
		node = node->next_inode;
	return node;
}

uint32_t tree_granted(const struct node *node, uint32_t uid)
{
	const struct raw *raw = directories_raw(node->parent, uid, NULL);

	/* The node may have been made for a uid with other exceptions, or under another policy. */
	return raw == NULL || node->removed || raw_excepts(raw, node->name, node->name_size) ? 0 : raw->bits;
}

uint32_t tree_kept_ms(uint64_t inode)
{
	return COLD_MS - (uint32_t)(SPREAD_MS * (((inode * 0x9e3779b97f4a7c15u) >> 32) & 0xffff) / 0x10000);
}

/* ---- Nodes: the event loop only ------------------------------------------------------------------ */

static struct node *add(uint64_t id, uint64_t parent, uint64_t ino, int64_t birth_ns, const char *name, size_t size)
{
	struct node *node = avc_add_node(&(struct avc_vector){
		.id = id, .parent = parent, .name = name, .name_size = size, .ino = ino, .birth_ns = birth_ns,
		.format = S_IFREG,
	}, false);

	if (node == NULL)
		return NULL;
	node->own = true;
	node->next_inode = *chain_of(ino);
	*chain_of(ino) = node;
	TAILQ_INSERT_TAIL(&tree.by_age, node, by_age);
	tree.in_parent[parent % PARENTS]++;
	tree.count++;
	return node;
}

/* Such a node has no device, so Python answers its first GETATTR and OPEN. */
static struct node *adopt(const struct avc_own *saved)
{
	return add(saved->id, saved->parent, saved->ino, saved->birth_ns, saved->name, saved->name_size);
}

void tree_begin(void)
{
	TAILQ_INIT(&tree.by_age);
	tree.last = saved_begin(tree.last, adopt);
}

static void set_backing(struct node *node, int id)
{
	saved_set_backing(node, id);
	node->backing_id = id;
}

static void leave_inode(struct node *node)
{
	struct node **at = chain_of(node->ino);

	while (*at != NULL && *at != node)
		at = &(*at)->next_inode;
	if (*at == node) /* else it is a removed file's */
		*at = node->next_inode;
}

static void leave(struct node *node)
{
	leave_inode(node);
	TAILQ_REMOVE(&tree.by_age, node, by_age);
	tree.in_parent[node->parent % PARENTS]--;
	tree.count--;
	node->own = false;
}

/* With all locks. late: true if the backing id was not used for some time. */
static void close_unused(struct node *node, bool late)
{
	uint32_t id = (uint32_t)node->backing_id;
	bool is_known = atomic_load(&node->count->lookups) > 0;

	if (atomic_load(&node->handles) > 0)
		return;
	if (id != 0 && (late || !is_known || atomic_load(&node->opened) < 2 || tree.opened > IDLE_MAX)) {
		set_backing(node, 0); /* INVARIANT: first: an open with an id that the kernel does not know fails */
		(void)ioctl(tree.device, BACKING_CLOSE, &id);
		tree.opened--;
	}
	if (!is_known) {
		leave(node);
		avc_remove_node(node, false);
	}
}

void tree_removed(struct node *node)
{
	avc_lock_all();
	leave_inode(node);
	close_unused(node, true);
	avc_unlock_all();
}

void tree_moved(struct node *node, uint64_t parent, char *name, size_t size)
{
	avc_lock_all();
	tree.in_parent[node->parent % PARENTS]--;
	tree.in_parent[parent % PARENTS]++;
	avc_rename_node(node, parent, name, size);
	saved_moved(node);
	avc_unlock_all();
}

struct node *tree_named(uint64_t parent, const char *name, size_t size)
{
	struct node *node = avc_first_like(parent, name, size);

	while (node != NULL && !(node->own && !node->removed && avc_is_named(node, parent, name, size)))
		node = node->next_name;
	return node;
}

void tree_tend(unsigned age, unsigned ages)
{
	for (struct node *node = TAILQ_FIRST(&tree.by_age), *next; tree.opened > 0 && node != NULL; node = next) {
		next = TAILQ_NEXT(node, by_age);
		if (node->backing_id != 0)
			close_unused(node, age - atomic_load(&node->used) >= ages);
	}
}

static bool is_raw_file(const struct statx *now, uint64_t device)
{
	return S_ISREG(now->stx_mode) && now->stx_nlink == 1 && avc_is_usual(now, device);
}

bool tree_is_file(const struct statx *now, const struct node *node)
{
	return is_raw_file(now, node->device) && now->stx_ino == node->ino && avc_birth_ns(now) == node->birth_ns;
}

int tree_file(const struct node *node, int flags, struct statx *now)
{
	/* As store/tree.py, open_file(). */
	int file = openat(avc_directory_of(node), node->name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (file < 0 || (avc_statx(file, "", now) && tree_is_file(now, node)))
		return file;
	close(file);
	return -1;
}

int tree_link(const struct node *node, char link[LINK_SIZE], struct statx *now)
{
	int file = tree_file(node, O_PATH, now);

	snprintf(link, LINK_SIZE, "/proc/self/fd/%d", file);
	return file;
}

/* Make a node for an inode that has none. Return NULL if Python may have one, or if there is no room. */
static struct node *make_node(const struct raw *raw, uint64_t parent, const char *name, size_t size,
			      const struct statx *now, uint64_t lookups)
{
	struct node *node;

	if (tree.known[now->stx_ino % KNOWN] != 0 || tree.count >= OWN_NODES_MAX)
		return NULL;
	avc_lock_all();
	node = add(OURS | (tree.last + 1), parent, now->stx_ino, avc_birth_ns(now), name, size);
	if (node != NULL) {
		node->device = raw->device;
		node->kept_ms = raw->keeps_attributes ? tree_kept_ms(node->ino) : 0;
		if (!saved_add(node, lookups, ++tree.last)) {
			leave(node);
			avc_remove_node(node, false);
			node = NULL;
		}
	}
	avc_unlock_all();
	return node;
}

struct node *tree_make(const struct raw *raw, uint64_t parent, const char *name, size_t size, const struct statx *made,
		       uint64_t unique)
{
	return !tree.passes || tree.refused || find_inode(made->stx_ino) != NULL ?
		NULL : make_node(raw, parent, name, size, made, AVC_MAKING | unique);
}

/* Return the node of a name in a directory, perhaps a new one, with the file's attributes. Return NULL if Python must
 * answer. */
static struct node *node_of(const struct raw *raw, int fd, uint64_t parent, const char *name, size_t size, bool make,
			    struct wire_attr *attr, bool *absent)
{
	struct statx now;
	struct node *node;

	if (!avc_statx(fd, name, &now)) {
		*absent = fd >= 0 && errno == ENOENT;
		return NULL;
	}
	if (!is_raw_file(&now, raw->device))
		return NULL;
	avc_fill(&now, false, attr);
	node = find_inode(now.stx_ino);
	if (node != NULL)
		return node->birth_ns == avc_birth_ns(&now) && avc_is_named(node, parent, name, size) &&
				       !(atomic_load(&node->count->lookups) & AVC_MAKING) ? node : NULL;
	return make ? make_node(raw, parent, name, size, &now, 0) : NULL;
}

struct node *tree_look_up(uint64_t parent, uint32_t uid, const char *name, size_t size, bool make,
			  struct wire_entry_out *out, bool *absent)
{
	int fd;
	const struct raw *raw = directories_raw(parent, uid, &fd);
	struct node *node;

	if (raw == NULL || raw_excepts(raw, name, size) ||
	    (node = node_of(raw, fd, parent, name, size, make, &out->attr, absent)) == NULL)
		return NULL;
	out->nodeid = node->id;
	out->entry_valid = raw->entry_s;
	avc_keep(node, &out->attr, &out->attr_valid, &out->attr_valid_nsec);
	atomic_fetch_add_explicit(&node->count->lookups, 1, memory_order_relaxed);
	return node;
}

void tree_unrefer(struct node *node, uint64_t lookups)
{
	uint64_t had;

	avc_lock_all();
	had = atomic_load(&node->count->lookups);
	atomic_store(&node->count->lookups, had > lookups ? had - lookups : 0);
	close_unused(node, false);
	avc_unlock_all();
}

bool tree_open(struct node *node, int device, struct wire_attr *attr)
{
	struct statx now;
	struct backing_map map = {.fd = tree.refused ? -1 : tree_file(node, O_RDONLY, &now)};
	uint32_t user;
	int id;

	if (map.fd < 0)
		return false;
	user = (uint32_t)setfsuid(tree.backer); /* see Passthrough._register() */
	id = ioctl(device, BACKING_OPEN, &map);
	tree.refused = id < 0 && (errno == ELOOP || errno == EPERM || errno == EOPNOTSUPP || errno == ENOTTY);
	setfsuid(user);
	close(map.fd);
	if (id <= 0)
		return false;
	avc_fill(&now, false, attr);
	tree.device = device;
	tree.opened++;
	tree.passes = true;
	set_backing(node, id); /* INVARIANT: readers open a node only if its id is not 0, and no other thread sets it */
	return true;
}

static bool forget_one(uint64_t nodeid, uint64_t lookups)
{
	struct node *node = nodeid & OURS ? avc_find(nodeid) : NULL;

	if (node == NULL || !node->own)
		return false;
	tree_unrefer(node, lookups);
	return true;
}

size_t tree_forget(unsigned char *message, size_t size)
{
	struct wire_in_header header;
	struct wire_forget_one one;
	const size_t first = sizeof(header) + 8;
	uint32_t count, left = 0;

	if (!avc_is_open() || tree.count == 0 || size < first)
		return size;
	memcpy(&header, message, sizeof(header));
	if (header.opcode == OPCODE_FORGET) {
		memcpy(&one.lookups, message + sizeof(header), sizeof(one.lookups));
		return forget_one(header.nodeid, one.lookups) ? 0 : size;
	}
	if (header.opcode != OPCODE_BATCH_FORGET)
		return size;
	memcpy(&count, message + sizeof(header), sizeof(count));
	for (uint32_t i = 0; i < count && first + (i + 1) * sizeof(one) <= size; i++) {
		memcpy(&one, message + first + i * sizeof(one), sizeof(one));
		if (!forget_one(one.nodeid, one.lookups))
			memcpy(message + first + left++ * sizeof(one), &one, sizeof(one));
	}
	if (left == count)
		return size;
	header.len = (uint32_t)(first + left * sizeof(one));
	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), &left, sizeof(left));
	return left == 0 ? 0 : header.len;
}

/* ---- For Python ---------------------------------------------------------------------------------- */

void avc_know(uint64_t inode, bool known)
{
	uint8_t *count = &tree.known[inode % KNOWN];

	if (*count != UINT8_MAX)
		*count = (uint8_t)(known ? *count + 1 : *count - (*count > 0));
}

void avc_passes_through(void)
{
	tree.passes = true;
}

void avc_register_as(uint32_t uid)
{
	tree.backer = uid;
}

static void take(struct node *node, avc_taken_node taken, void *context)
{
	struct avc_own own = {
		.id = node->id, .parent = node->parent, .ino = node->ino, .birth_ns = node->birth_ns,
		.lookups = atomic_load(&node->count->lookups), .backing_id = node->backing_id, .name_size = node->name_size,
	};

	memcpy(own.name, node->name, node->name_size);
	leave(node);
	node->taken = true;
	tree.opened -= node->backing_id != 0;
	avc_count_node();
	taken(context, &own);
}

static void take_some(uint64_t parent, size_t most, avc_taken_node taken, void *context)
{
	for (struct node *node = TAILQ_FIRST(&tree.by_age), *next; most > 0 && node != NULL; node = next) {
		next = TAILQ_NEXT(node, by_age);
		if (parent == 0 || node->parent == parent) {
			take(node, taken, context);
			most--;
		}
	}
}

void avc_take_nodes(enum avc_which which, uint64_t number, avc_taken_node taken, void *context)
{
	struct node *node = NULL;

	if (!avc_is_open() || tree.count == 0)
		return;
	if (which == AVC_NODE)
		node = number & OURS ? avc_find(number) : NULL;
	else if (which == AVC_INODE)
		node = find_inode(number);
	else if (which == AVC_IN_PARENT && tree.in_parent[number % PARENTS] == 0)
		return;
	if (which <= AVC_INODE && (node == NULL || !node->own))
		return;
	avc_lock_all();
	if (node != NULL)
		take(node, taken, context);
	else
		take_some(which == AVC_IN_PARENT ? number : 0, which == AVC_SOME ? number : SIZE_MAX, taken, context);
	avc_unlock_all();
}

bool avc_list(uint64_t parent, uint32_t uid, const char *name, size_t size, uint64_t ino, struct wire_entry_out *out)
{
	bool absent;

	if (tree.known[ino % KNOWN] != 0 && find_inode(ino) == NULL) /* as node_of() would say, after a statx(2) */
		return false;
	memset(out, 0, sizeof(*out));
	return avc_is_open() && size <= NAME_MAX_BYTES && tree_look_up(parent, uid, name, size, true, out, &absent) != NULL;
}

void avc_unlist(uint64_t id)
{
	struct node *node = avc_is_open() ? avc_find(id) : NULL;

	if (node != NULL && node->own)
		tree_unrefer(node, 1);
}

bool avc_changed(uint64_t inode, uint64_t *stale)
{
	const struct node *node = avc_is_open() ? find_inode(inode) : NULL;
	struct wire_attr now;

	*stale = 0;
	if (node == NULL)
		return false;
	if (!avc_ask_store(node, false, &now)) /* it was removed, or something else has the name */
		return faccessat(avc_directory_of(node), node->name, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
	*stale = node->told_ns == wire_time_ns(now.ctime, now.ctimensec) ? 0 : node->id;
	return true;
}

size_t avc_own_nodes(void)
{
	return tree.count;
}

size_t avc_own_backed(void)
{
	return tree.opened;
}

void tree_close(void)
{
	uint64_t last = tree.last;
	uint32_t backer = tree.backer;

	memset(tree.by_inode, 0, sizeof(tree.by_inode));
	memset(tree.in_parent, 0, sizeof(tree.in_parent));
	tree.count = tree.opened = 0;
	tree.last = last;
	tree.backer = backer;
	tree.refused = false;
	saved_close();
}
