/*
 * Changes in directories of the raw tree (_tree.c), by one decision of Python for all names: CREATE, UNLINK, and SETATTR
 * of times. The store and the trail get what fs/namespace/create.py, unlink.py and setattr.py would give them.
 *
 * The event loop's seat alone answers these requests. Whatever is not plain goes to Python before anything is changed.
 */

#define _GNU_SOURCE
#include "_avc_table.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* fs/uapi: FATTR_* bits of SETATTR */
#define ATTR_ATIME (1u << 4)
#define ATTR_MTIME (1u << 5)
#define ATTR_FH (1u << 6)
#define ATTR_ATIME_NOW (1u << 7)
#define ATTR_MTIME_NOW (1u << 8)
#define ATTR_LOCKOWNER (1u << 9)
#define ATTR_TIMES (ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_NOW | ATTR_MTIME_NOW)

#define LARGE_FILE 0100000u /* O_LARGEFILE */
#define PLAIN ((uint32_t)(O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) | \
	       LARGE_FILE)
#define SAFE (O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) /* as store/tree.py */

#define LARGE_BYTES (16u << 20) /* as store/freeing.py */
#define OWNER "trusted.policyfs.owner" /* store/owner.py */
#define OWNER_MAX 256

struct wire_create_in {
	uint32_t flags, mode, umask, open_flags;
};

struct wire_setattr_in {
	uint32_t valid, padding;
	uint64_t fh, size, lock_owner, atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec, mode, unused, uid, gid, unused_too;
};

_Static_assert(sizeof(struct wire_create_in) == 16, "fuse_create_in");
_Static_assert(sizeof(struct wire_setattr_in) == 88, "fuse_setattr_in");

/* ---- Locks of names ------------------------------------------------------------------------------ */

static int names_file = -1;

void avc_lock_names_in(int file)
{
	names_file = file;
}

/* MurmurHash3, fmix64 */
static uint64_t mixed(uint64_t value)
{
	value = (value ^ value >> 33) * 0xff51afd7ed558ccdu;
	value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53u;
	return value ^ value >> 33;
}

uint64_t avc_name_number(uint64_t device, uint64_t inode, const char *name, size_t size)
{
	uint64_t hash = mixed(mixed(device) ^ inode);

	for (size_t i = 0; i < size; i++)
		hash = mixed(hash ^ (unsigned char)name[i]);
	return hash >> 2;
}

/* Take or release the lock of a name between daemons. Return false if another daemon has it, or if Python must look for
 * the file of the locks. */
static bool lock_name(short type, int directory, const char *name, size_t size)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
	struct stat locks, at;

	if (fstat(names_file, &locks) != 0 || locks.st_nlink == 0 || fstat(directory, &at) != 0)
		return false;
	lock.l_start = (off_t)avc_name_number(at.st_dev, at.st_ino, name, size);
	return fcntl(names_file, F_OFD_SETLK, &lock) == 0;
}

/* ---- CREATE -------------------------------------------------------------------------------------- */

struct making {
	const struct wire_in_header *header;
	struct wire_create_in in;
	const struct raw *raw;
	const char *name;
	int directory;
};

/* Make a file without a name, as the caller would without policyfs (linux/libc.py, Identity). */
static int make_unnamed(const struct making *new)
{
	const mode_t mask = umask(new->in.umask & 0777);
	const int gid = setfsgid(new->header->gid), uid = setfsuid(new->header->uid);
	int file = -1;

	/* setfsuid(2) reports no failure: an invalid id only returns the present one. */
	if ((uint32_t)setfsuid(-1) == new->header->uid && (uint32_t)setfsgid(-1) == new->header->gid)
		file = openat(new->directory, ".", O_TMPFILE | O_RDWR | (SAFE & ~O_NOFOLLOW), new->in.mode & 01777);
	setfsuid((uid_t)uid);
	setfsgid((gid_t)gid);
	umask(mask);
	return file;
}

static bool own(const struct making *new, int file, const struct statx *made)
{
	char value[64 + OWNER_MAX];
	int size = snprintf(value, 64, "1:%llu:%lld:", (unsigned long long)made->stx_ino, (long long)avc_birth_ns(made));

	memcpy(value + size, new->raw->excepted + new->raw->excepted_size, new->raw->owner_size);
	return fsetxattr(file, OWNER, value, (size_t)size + new->raw->owner_size, 0) == 0;
}

/* Open the node's file again by its name: Tree.find needs a descriptor that was opened by a name. */
static int open_named(const struct making *new, const struct node *node)
{
	struct statx now;
	int file = openat(new->directory, new->name, O_RDWR | SAFE);

	if (file >= 0 && avc_statx(file, "", &now) && tree_is_file(&now, node))
		return file;
	if (file >= 0)
		close(file);
	return -1;
}

/* Take the name back from a new file that could not be opened: descriptors or memory are short. */
static void take_back(const struct making *new, const struct node *node)
{
	struct statx now;

	if (!lock_name(F_WRLCK, new->directory, new->name, node->name_size))
		return;
	if (avc_statx(new->directory, new->name, &now) && tree_is_file(&now, node) && now.stx_size == 0)
		unlinkat(new->directory, new->name, 0);
	lock_name(F_UNLCK, new->directory, new->name, node->name_size);
}

/* Give the file its name and a backing id, and read its attributes. Return a descriptor that was opened by the name, or
 * -1: then Python makes the file, unless another process has taken the name. */
static int name_file(const struct making *new, struct node *node, int unnamed, int device, struct wire_attr *attr)
{
	int file;

	if (linkat(unnamed, "", new->directory, new->name, AT_EMPTY_PATH) != 0)
		return -1;
	file = open_named(new, node);
	if (file >= 0 && tree_open(node, device) && avc_ask_store(node, false, attr))
		return file;
	take_back(new, node);
	if (file >= 0)
		close(file);
	return -1;
}

/* Make the file, and answer. INVARIANT: its owner comes before its name (fs/namespace/create.py). */
static bool make(struct seat *seat, int device, const struct making *new, struct avc_event *event)
{
	int unnamed = make_unnamed(new), file = -1;
	struct wire_entry_out entry = {.entry_valid = new->raw->entry_s};
	struct node *node = NULL;
	struct statx made;

	if (unnamed < 0)
		return false;
	if (avc_statx(unnamed, "", &made) && avc_is_usual(&made, new->raw->device) && own(new, unnamed, &made))
		node = tree_make(new->raw, new->header->nodeid, new->name, strlen(new->name), &made, new->header->unique);
	if (node != NULL)
		file = name_file(new, node, unnamed, device, &entry.attr);
	close(unnamed);
	if (file < 0) {
		if (node != NULL) {
			atomic_store(&node->count->lookups, 0);
			tree_idle(node);
		}
		return false;
	}
	entry.nodeid = node->id;
	avc_keep(node, &entry.attr, &entry.attr_valid, &entry.attr_valid_nsec);
	tree_told(node, &entry.attr);
	atomic_fetch_add_explicit(&seat->creates, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->firsts, 1, memory_order_relaxed);
	opens_answer_create(seat, device, new->header, node, new->in.flags, file, &entry, event);
	return true;
}

bool changes_answer_create(struct seat *seat, int device, const struct wire_in_header *header,
			   const unsigned char *body, size_t size)
{
	struct making new = {.header = header, .name = (const char *)body + sizeof(new.in)};
	struct avc_event *event = NULL;

	if (size <= sizeof(new.in) || !avc_is_name(body + sizeof(new.in), size - sizeof(new.in)))
		return false;
	memcpy(&new.in, body, sizeof(new.in));
	new.raw = directories_raw(header->nodeid, header->uid, &new.directory);
	if (new.raw == NULL || !(new.raw->bits & AVC_CHANGE) || raw_excepts(new.raw, new.name, strlen(new.name)) ||
	    new.in.flags & ~PLAIN || new.in.open_flags != 0 || new.in.mode & 06000 || new.raw->owner_size > OWNER_MAX ||
	    !opens_has_room())
		return false;
	/* No other event gets this place before it is filled: this seat waits for nothing. */
	if (new.raw->bits & AVC_CHANGES_RECORDED && (event = events_place(0, header->pid)) == NULL)
		return false;
	return make(seat, device, &new, event);
}

/* ---- UNLINK -------------------------------------------------------------------------------------- */

/* Let no reader open the file any more, or (removed false) let them again. Return true if it is not open. */
static bool set_removed(struct node *node, bool removed)
{
	bool is_closed;

	avc_lock_all();
	is_closed = node->handles == 0;
	node->removed = removed && is_closed;
	avc_unlock_all();
	return is_closed;
}

/* Remove the node's name, which is locked, if no process has the file open, and few bytes become free. The disk may take
 * long, so the readers go on. */
static bool remove_locked(const struct wire_in_header *header, struct node *node, struct wire_attr *attr)
{
	const int directory = avc_directory_of(node);
	struct statx now;

	if (!set_removed(node, true))
		return false;
	tree_removes(node, header->unique);
	if (avc_statx(directory, node->name, &now) && tree_is_file(&now, node) &&
	    !(now.stx_size > LARGE_BYTES && now.stx_blocks > LARGE_BYTES / 512) &&
	    unlinkat(directory, node->name, 0) == 0) {
		avc_fill(&now, false, attr);
		return true;
	}
	tree_removes(NULL, 0);
	set_removed(node, false);
	return false;
}

bool changes_answer_unlink(struct seat *seat, int device, const struct wire_in_header *header, const char *name,
			   size_t size)
{
	int directory;
	const struct raw *raw = directories_raw(header->nodeid, header->uid, &directory);
	struct node *node = tree_named(header->nodeid, name, size);
	struct avc_event *event = NULL;
	struct wire_attr before;
	bool done;

	if (raw == NULL || node == NULL || !(raw->bits & AVC_CHANGE) || raw_excepts(raw, name, size) ||
	    (raw->bits & AVC_CHANGES_RECORDED && (event = events_place(0, header->pid)) == NULL) ||
	    !lock_name(F_WRLCK, directory, name, size))
		return false;
	done = remove_locked(header, node, &before);
	lock_name(F_UNLCK, directory, name, size);
	if (!done)
		return false;
	if (event != NULL)
		opens_put_event(event, AVC_REMOVED, node, header, &before);
	atomic_fetch_add_explicit(&seat->unlinks, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->firsts, 1, memory_order_relaxed);
	tree_removed(node);
	avc_reply(seat, device, header->unique, 0, NULL, 0);
	tree_removes(NULL, 0); /* INVARIANT: only now: without the number, a request that comes again is made again */
	return true;
}

/* ---- SETATTR ------------------------------------------------------------------------------------- */

static struct timespec time_to_set(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds, uint32_t rest)
{
	if (!(valid & set))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = valid & now ? UTIME_NOW : (long)rest};
}

static bool set_times(const struct node *node, const struct wire_setattr_in *in)
{
	const struct timespec times[2] = {
		time_to_set(in->valid, ATTR_ATIME, ATTR_ATIME_NOW, in->atime, in->atimensec),
		time_to_set(in->valid, ATTR_MTIME, ATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};
	int file = openat(avc_directory_of(node), node->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statx now;
	bool done = file >= 0 && avc_statx(file, "", &now) && tree_is_file(&now, node) &&
		    utimensat(file, "", times, AT_EMPTY_PATH) == 0;

	if (file >= 0)
		close(file);
	return done;
}

bool changes_answer_setattr(struct seat *seat, int device, const struct wire_in_header *header,
			    const unsigned char *body, size_t size)
{
	struct node *node = avc_find(header->nodeid);
	uint32_t bits = node == NULL || !node->own ? 0 : tree_granted(node, header->uid);
	struct wire_setattr_in in;
	struct wire_attr_out out = {0};
	struct avc_event *event = NULL;

	if (!(bits & AVC_CHANGE) || size != sizeof(in))
		return false;
	memcpy(&in, body, sizeof(in));
	if (!(in.valid & ATTR_TIMES) || in.valid & ~(ATTR_TIMES | ATTR_FH | ATTR_LOCKOWNER) ||
	    (bits & AVC_CHANGES_RECORDED && (event = events_place(0, header->pid)) == NULL) ||
	    !set_times(node, &in) || !avc_ask_store(node, false, &out.attr))
		return false; /* Python sets the times once more */
	if (event != NULL)
		opens_put_event(event, AVC_DATED, node, header, &out.attr);
	avc_keep(node, &out.attr, &out.attr_valid, &out.attr_valid_nsec);
	tree_told(node, &out.attr);
	atomic_fetch_add_explicit(&seat->setattrs, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->firsts, 1, memory_order_relaxed);
	avc_reply(seat, device, header->unique, 0, &out, sizeof(out));
	return true;
}
