/*
 * Changes in directories of the raw tree (_tree.c), by one decision of Python for all names: CREATE, UNLINK, RENAME, OPEN
 * for writing, and SETATTR without size. The store and the trail get what create.py, unlink.py, rename.py and setattr.py
 * (fs/namespace) would give them.
 *
 * The event loop's seat alone answers these requests. Whatever is not plain goes to Python before anything is changed.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* fs/uapi: FATTR_* bits of SETATTR */
#define ATTR_MODE (1u << 0)
#define ATTR_UID (1u << 1)
#define ATTR_GID (1u << 2)
#define ATTR_ATIME (1u << 4)
#define ATTR_MTIME (1u << 5)
#define ATTR_FH (1u << 6)
#define ATTR_ATIME_NOW (1u << 7)
#define ATTR_MTIME_NOW (1u << 8)
#define ATTR_LOCKOWNER (1u << 9)
#define ATTR_KILL_SUIDGID (1u << 11) /* the kernel sets it with each new owner */
#define ATTR_OWNER (ATTR_UID | ATTR_GID)
#define ATTR_TIMES (ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_NOW | ATTR_MTIME_NOW)

#define LARGE_FILE 0100000u /* O_LARGEFILE */
#define PLAIN ((uint32_t)(O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) | \
	       LARGE_FILE)
#define SAFE (O_NONBLOCK | O_NOCTTY | O_CLOEXEC) /* as store/tree.py */

#define KILL_SUIDGID 1u /* FUSE_OPEN_KILL_SUIDGID, with O_TRUNC: a new file has no such bits */

#define LOCKS_NS 10000000 /* far less than another daemon takes to find its file removed, and to make another */
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

static bool set_lock(short type, off_t byte)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1, .l_start = byte};

	return fcntl(names_file, F_OFD_SETLK, &lock) == 0;
}

/* True if the file of the locks is still the one that other daemons find. A burst of changes asks once in LOCKS_NS. */
static bool has_locks(void)
{
	static int64_t until_ns;
	static int file = -1;
	const int64_t now_ns = avc_clock_ns(CLOCK_MONOTONIC_COARSE);
	struct stat locks;

	if (file == names_file && now_ns < until_ns)
		return true;
	if (fstat(names_file, &locks) != 0 || locks.st_nlink == 0)
		return false;
	file = names_file;
	until_ns = now_ns + LOCKS_NS;
	return true;
}

/* Lock a name between daemons. Return the locked byte, for unlock_name(); -1: another daemon has it, or Python must look for
 * the file of the locks. */
static off_t lock_name(const struct raw *raw, const char *name, size_t size)
{
	const off_t byte = (off_t)avc_name_number(raw->directory_device, raw->directory_ino, name, size);

	return has_locks() && set_lock(F_WRLCK, byte) ? byte : -1;
}

static void unlock_name(off_t byte)
{
	set_lock(F_UNLCK, byte);
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
	static int own_umask = -1; /* the process's: Python changes it for a moment only, on this thread (linux/libc.py) */
	const int asked = new->in.umask & 0777;
	const bool masks = asked != own_umask;
	const int mask = masks ? (int)umask((mode_t)asked) : asked;
	const int gid = setfsgid(new->header->gid), uid = setfsuid(new->header->uid);
	const int file = openat(new->directory, ".", O_TMPFILE | O_RDWR | SAFE, new->in.mode & 01777);
	/* setfsuid(2) reports no failure, but returns the id until now: with another one than asked for, the file goes. */
	const bool as_caller = (uint32_t)setfsuid((uid_t)uid) == new->header->uid;

	if (masks)
		umask((mode_t)(own_umask = mask));
	if ((uint32_t)setfsgid((gid_t)gid) == new->header->gid && as_caller)
		return file;
	if (file >= 0)
		close(file);
	return -1;
}

/* Take the name back from a new file that could not be opened: descriptors or memory are short. */
static void take_back(const struct making *new, const struct node *node)
{
	off_t lock = lock_name(new->raw, new->name, node->name_size);
	struct statx now;

	if (lock < 0)
		return;
	if (avc_statx(new->directory, new->name, &now) && tree_is_file(&now, node) && now.stx_size == 0)
		unlinkat(new->directory, new->name, 0);
	unlock_name(lock);
}

/* Give the file its name and a backing id, and read its attributes. Return a descriptor that was opened by the name, or
 * -1: then Python makes the file, unless another process has taken the name. */
static int name_file(const struct making *new, struct node *node, int unnamed, int device, struct wire_attr *attr)
{
	struct statx made;
	int file;

	if (linkat(unnamed, "", new->directory, new->name, AT_EMPTY_PATH) != 0)
		return -1;
	file = tree_file(node, O_RDWR, &made); /* Tree.find needs a descriptor that was opened by a name */
	if (file >= 0 && tree_open(node, device, attr))
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
	if (avc_statx(unnamed, "", &made) && avc_is_usual(&made, new->raw->device) && writers_own(new->raw, unnamed, &made))
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
	    new.in.flags & ~PLAIN || new.in.open_flags & ~KILL_SUIDGID || new.in.mode & 06000 || new.raw->owner_size > AVC_OWNER_MAX ||
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
	saved_removes(node, header->unique);
	if (avc_statx(directory, node->name, &now) && tree_is_file(&now, node) &&
	    !writers_is_large(&now) && unlinkat(directory, node->name, 0) == 0) {
		avc_fill(&now, false, attr);
		return true;
	}
	saved_removes(NULL, 0);
	set_removed(node, false);
	return false;
}

bool changes_answer_unlink(struct seat *seat, int device, const struct wire_in_header *header, const char *name,
			   size_t size)
{
	const struct raw *raw = directories_raw(header->nodeid, header->uid, NULL);
	struct node *node = tree_named(header->nodeid, name, size);
	struct avc_event *event = NULL;
	struct wire_attr before;
	off_t lock;
	bool done;

	if (raw == NULL || node == NULL || !(raw->bits & AVC_REMOVE) || raw_excepts(raw, name, size) ||
	    (raw->bits & AVC_CHANGES_RECORDED && (event = events_place(0, header->pid)) == NULL) ||
	    (lock = lock_name(raw, name, size)) < 0)
		return false;
	done = remove_locked(header, node, &before);
	unlock_name(lock);
	if (!done)
		return false;
	if (event != NULL)
		opens_put_event(event, AVC_REMOVED, node, header, &(struct avc_opened){.attr = before});
	atomic_fetch_add_explicit(&seat->unlinks, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->firsts, 1, memory_order_relaxed);
	tree_removed(node);
	avc_reply(seat, device, header->unique, 0, NULL, 0);
	saved_removes(NULL, 0); /* INVARIANT: only now: without the number, a request that comes again is made again */
	return true;
}

/* ---- RENAME -------------------------------------------------------------------------------------- */

struct moving {
	const struct wire_in_header *header;
	struct wire_rename_in in;
	const struct raw *from, *to;
	int directory, new_directory;
	const char *old, *new;
	size_t old_size, new_size;
	struct node *node, *replaced; /* replaced: NULL if the new name must be free */
};

static bool read_rename(struct moving *move, const unsigned char *body, size_t size)
{
	const size_t skipped = move->header->opcode == OPCODE_RENAME ? sizeof(move->in.new_parent) : sizeof(move->in);
	size_t old;

	if (size <= skipped)
		return false;
	memcpy(&move->in, body, skipped);
	old = strnlen((const char *)body + skipped, size - skipped) + 1;
	if (old >= size - skipped || !avc_is_name(body + skipped, old) ||
	    !avc_is_name(body + skipped + old, size - skipped - old))
		return false;
	move->old = (const char *)body + skipped;
	move->new = move->old + old;
	move->old_size = old - 1;
	move->new_size = size - skipped - old - 1;
	return true;
}

static bool may_move(struct moving *move)
{
	const struct wire_in_header *header = move->header;
	const struct raw *from = directories_raw(header->nodeid, header->uid, &move->directory);
	const struct raw *to = directories_raw(move->in.new_parent, header->uid, &move->new_directory);

	if (from == NULL || to == NULL || from->moves == 0 || from->moves != to->moves ||
	    !(from->bits & to->bits & AVC_CHANGE) || raw_excepts(from, move->old, move->old_size) ||
	    raw_excepts(to, move->new, move->new_size) || move->in.flags & ~RENAME_NOREPLACE)
		return false;
	move->from = from;
	move->to = to;
	move->node = tree_named(header->nodeid, move->old, move->old_size);
	move->replaced = tree_named(move->in.new_parent, move->new, move->new_size);
	return move->node != NULL && move->node != move->replaced && (move->replaced == NULL || move->in.flags == 0) &&
	       avc_has_room_for(move->in.new_parent, move->new, move->new_size);
}

static int held_file = -1;

void avc_held_in(int file)
{
	held_file = file;
}

/* True if another daemon may have held bytes of the file (store/locking/latches.py): if these are refused later, the file
 * that it replaces is lost, too. */
static bool is_held_elsewhere(const struct statx *now)
{
	const uint64_t device = makedev(now->stx_dev_major, now->stx_dev_minor);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	struct stat marks;

	lock.l_start = (off_t)((device * 0x9e3779b97f4a7c15u + now->stx_ino) & (((uint64_t)1 << 62) - 1));
	return fstat(held_file, &marks) != 0 || marks.st_nlink == 0 || fcntl(held_file, F_OFD_GETLK, &lock) != 0 ||
	       lock.l_type != F_UNLCK;
}

/* Rename the file, whose names are locked. replaced: of the file with the new name, if there is one. */
static bool move_locked(const struct moving *move, struct wire_attr *replaced)
{
	const int at = move->directory, to = move->new_directory;
	const struct node *node = move->node, *gone = move->replaced;
	struct statx now, there;

	if (!avc_statx(at, move->old, &now) || !tree_is_file(&now, node) ||
	    (gone != NULL && (!avc_statx(to, move->new, &there) || !tree_is_file(&there, gone) || writers_is_large(&there) ||
			      is_held_elsewhere(&now))) ||
	    !saved_moves(node, move->in.new_parent, move->new, move->new_size, move->header->unique))
		return false;
	if (gone != NULL)
		avc_fill(&there, false, replaced);
	if (renameat2(at, move->old, to, move->new, gone == NULL ? RENAME_NOREPLACE : 0) == 0)
		return true;
	saved_stays();
	return false;
}

static bool rename_now(const struct moving *move, struct wire_attr *replaced)
{
	off_t old = lock_name(move->from, move->old, move->old_size), new;
	bool done;

	if (old < 0)
		return false;
	if ((new = lock_name(move->to, move->new, move->new_size)) < 0) {
		unlock_name(old);
		return false;
	}
	done = (move->replaced == NULL || set_removed(move->replaced, true)) && move_locked(move, replaced);
	if (!done && move->replaced != NULL)
		set_removed(move->replaced, false);
	unlock_name(new);
	unlock_name(old);
	return done;
}

static void put_move(struct avc_event *event, const struct moving *move, const struct wire_attr *replaced)
{
	struct avc_opened how = {.fh = move->replaced != NULL, .flags = move->in.flags, .attr = *replaced};

	event->new_parent = move->in.new_parent;
	event->new_name_size = (uint16_t)move->new_size;
	memcpy(event->new_name, move->new, move->new_size);
	opens_put_event(event, AVC_MOVED, move->node, move->header, &how);
}

bool changes_answer_rename(struct seat *seat, int device, const struct wire_in_header *header,
			   const unsigned char *body, size_t size)
{
	struct moving move = {.header = header};
	struct wire_attr replaced = {0};
	struct avc_event *event = NULL;
	char *name;

	if (!read_rename(&move, body, size) || !may_move(&move) ||
	    (move.from->bits & AVC_CHANGES_RECORDED && (event = events_place(0, header->pid)) == NULL) ||
	    (name = calloc(1, move.new_size + 1)) == NULL)
		return false;
	if (!rename_now(&move, &replaced)) {
		free(name);
		return false;
	}
	if (event != NULL)
		put_move(event, &move, &replaced);
	memcpy(name, move.new, move.new_size); /* INVARIANT: a null byte follows */
	atomic_fetch_add_explicit(header->opcode == OPCODE_RENAME ? &seat->renames : &seat->renames2, 1,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->firsts, 1, memory_order_relaxed);
	if (move.replaced != NULL)
		tree_removed(move.replaced);
	avc_reply(seat, device, header->unique, 0, NULL, 0);
	tree_moved(move.node, move.in.new_parent, name, move.new_size);
	return true;
}

/* ---- SETATTR ------------------------------------------------------------------------------------- */

static struct timespec time_to_set(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds, uint32_t rest)
{
	if (!(valid & set))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = valid & now ? UTIME_NOW : (long)rest};
}

static bool set_times(int file, const struct wire_setattr_in *in)
{
	const struct timespec times[2] = {
		time_to_set(in->valid, ATTR_ATIME, ATTR_ATIME_NOW, in->atime, in->atimensec),
		time_to_set(in->valid, ATTR_MTIME, ATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	return utimensat(file, "", times, AT_EMPTY_PATH) == 0;
}

/* Set the owner that the file has, as rsync and `cp -a` ask for each file: this changes ctime alone. */
static bool set_same_owner(int file, const struct wire_setattr_in *in, const struct statx *now)
{
	const uid_t uid = in->valid & ATTR_UID ? in->uid : (uid_t)-1;
	const gid_t gid = in->valid & ATTR_GID ? in->gid : (gid_t)-1;

	return !(now->stx_mode & AVC_SET_ID_BITS) && (uid == (uid_t)-1 || uid == now->stx_uid) &&
	       (gid == (gid_t)-1 || gid == now->stx_gid) && fchownat(file, "", uid, gid, AT_EMPTY_PATH) == 0;
}

/* Change the file in the order of setattr.py. Return false if Python must do it, once more. */
static bool set_attributes(const struct node *node, const struct wire_setattr_in *in)
{
	struct statx now;
	char link[LINK_SIZE];
	int file = tree_link(node, link, &now);
	bool done = file >= 0 && (!(in->valid & ATTR_OWNER) || set_same_owner(file, in, &now)) &&
		    (!(in->valid & ATTR_MODE) || chmod(link, in->mode & 01777) == 0) &&
		    (!(in->valid & ATTR_TIMES) || set_times(file, in));

	if (file >= 0)
		close(file);
	return done;
}

static bool is_plain(const struct wire_setattr_in *in)
{
	const uint32_t changes = ATTR_MODE | ATTR_OWNER | ATTR_TIMES;

	return in->valid & changes && !(in->valid & ~(changes | ATTR_FH | ATTR_LOCKOWNER | ATTR_KILL_SUIDGID)) &&
	       (in->valid & ATTR_OWNER || !(in->valid & ATTR_KILL_SUIDGID)) &&
	       !(in->valid & ATTR_MODE && in->mode & AVC_SET_ID_BITS);
}

/* Return the changes for the trail: AVC_CHMOD, AVC_CHOWN, AVC_UTIMENS. */
static uint32_t names_of(uint32_t valid)
{
	return (valid & ATTR_MODE ? AVC_CHMOD : 0) | (valid & ATTR_OWNER ? AVC_CHOWN : 0) |
	       (valid & ATTR_TIMES ? AVC_UTIMENS : 0);
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
	if (!is_plain(&in) || (bits & AVC_CHANGES_RECORDED && (event = events_place(0, header->pid)) == NULL) ||
	    !set_attributes(node, &in) || !avc_ask_store(node, false, &out.attr))
		return false;
	if (event != NULL)
		opens_put_event(event, AVC_SET, node, header,
				&(struct avc_opened){.flags = names_of(in.valid), .attr = out.attr});
	avc_keep(node, &out.attr, &out.attr_valid, &out.attr_valid_nsec);
	tree_told(node, &out.attr);
	atomic_fetch_add_explicit(&seat->setattrs, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->firsts, 1, memory_order_relaxed);
	avc_reply(seat, device, header->unique, 0, &out, sizeof(out));
	return true;
}
