/*
 * The access vector cache. Python decides that a caller may look up a name, see a node's attributes, pass access(2),
 * open a file or open a directory. From then on this code answers repeats of the request without Python. The cache never keeps attributes: each answer reads
 * them from the store, by directory descriptor and name. The attributes count only if device, inode number, birth time
 * and type are those of the node.
 *
 * Locks (docs/architecture/vectors.md): each reader thread has a seat with a lock of its own. The reader holds
 * the lock from the look into the table (_avc_table.c) until the reply is written. The event loop's seat needs
 * no lock. A thread that holds one of these locks takes no other lock.
 */

#define _GNU_SOURCE
#include "_avc_table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RESENT ((uint64_t)1 << 63)

#define NOTIFY_INVAL_INODE 2
#define HIDDEN_SIZE 4096 /* shown for a directory with names that may be hidden (lookup.py, _uncounted) */

static struct seat seats[AVC_SEATS] = {
	[0 ... AVC_SEATS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};

/* True while the event loop waits for the locks or holds them. A reader then leaves its request to Python. Otherwise
 * the reader might take its lock again at once, each time, and the event loop would never get the lock. */
static atomic_bool changing;

static struct {
	void *(*before)(void);
	void (*after)(void *);
} waits;

void avc_around_waits(void *(*before)(void), void (*after)(void *))
{
	waits.before = before;
	waits.after = after;
}

void *avc_begin_wait(void)
{
	return waits.before == NULL ? NULL : waits.before();
}

void avc_end_wait(void *begun)
{
	if (waits.after != NULL)
		waits.after(begun);
}

/* Take a reader's lock. This may never end, if the reader waits for a lock of the store's file system. */
static void lock_one(pthread_mutex_t *lock)
{
	void *begun;

	if (pthread_mutex_trylock(lock) == 0)
		return;
	begun = avc_begin_wait();
	pthread_mutex_lock(lock);
	avc_end_wait(begun);
}

void avc_lock_all(void)
{
	atomic_store(&changing, true);
	for (unsigned i = 1; i < avc_seats(); i++)
		lock_one(&seats[i].lock);
}

void avc_unlock_all(void)
{
	for (unsigned i = avc_seats(); i-- > 1;)
		pthread_mutex_unlock(&seats[i].lock);
	atomic_store(&changing, false);
}

/* ---- Answering ----------------------------------------------------------------------------------- */

static uint32_t granted(const struct node *node, uint32_t uid)
{
	if (node->own)
		return tree_granted(node, uid);
	for (int i = 0; i < GRANTS; i++)
		if (node->grants[i].bits != 0 && node->grants[i].uid == uid)
			return node->grants[i].bits;
	return 0;
}

/* True if a time is after 1969, and fits into 63 bits as nanoseconds. */
static bool is_usual(const struct statx_timestamp *time)
{
	return time->tv_sec >= 0 && time->tv_sec < INT64_MAX / 1000000000;
}

bool avc_statx(int fd, const char *name, struct statx *now)
{
	/* AT_STATX_DONT_SYNC: a file system that may wait (NFS) can be mounted on the name. Others ignore the flag. */
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | (*name == 0 ? AT_EMPTY_PATH : 0);

	return fd >= 0 && statx(fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, now) == 0;
}

bool avc_is_usual(const struct statx *now, uint64_t device)
{
	return (now->stx_mask & (STATX_BASIC_STATS | STATX_BTIME)) == (STATX_BASIC_STATS | STATX_BTIME) &&
	       !(now->stx_attributes & STATX_ATTR_APPEND) && /* see Passthrough.choose() */
	       makedev(now->stx_dev_major, now->stx_dev_minor) == device && is_usual(&now->stx_atime) &&
	       is_usual(&now->stx_mtime) && is_usual(&now->stx_ctime) && is_usual(&now->stx_btime);
}

int64_t avc_birth_ns(const struct statx *now)
{
	return now->stx_btime.tv_sec * 1000000000 + now->stx_btime.tv_nsec;
}

void avc_fill(const struct statx *now, bool uncounted, struct wire_attr *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->ino = now->stx_ino;
	attr->size = uncounted ? HIDDEN_SIZE : now->stx_size;
	attr->blocks = uncounted ? HIDDEN_SIZE / 512 : now->stx_blocks;
	attr->atime = (uint64_t)now->stx_atime.tv_sec;
	attr->mtime = (uint64_t)now->stx_mtime.tv_sec;
	attr->ctime = (uint64_t)now->stx_ctime.tv_sec;
	attr->atimensec = now->stx_atime.tv_nsec;
	attr->mtimensec = now->stx_mtime.tv_nsec;
	attr->ctimensec = now->stx_ctime.tv_nsec;
	attr->mode = now->stx_mode;
	attr->nlink = uncounted && now->stx_nlink > 1 ? 1 : now->stx_nlink;
	attr->uid = now->stx_uid;
	attr->gid = now->stx_gid;
	attr->blksize = now->stx_blksize;
}

bool avc_ask_store(const struct node *node, bool uncounted, struct wire_attr *attr)
{
	struct statx now;

	if (!avc_statx(avc_directory_of(node), node->name, &now) || !avc_is_usual(&now, node->device) ||
	    now.stx_ino != node->ino || avc_birth_ns(&now) != node->birth_ns ||
	    (now.stx_mode & S_IFMT) != node->format || (node->own && now.stx_nlink != 1))
		return false;
	avc_fill(&now, uncounted, attr);
	return true;
}

bool avc_reply(struct seat *seat, int device, uint64_t unique, int error, void *body, size_t size)
{
	struct wire_out_header header = {
		.len = (uint32_t)(sizeof(header) + size), .error = -error, .unique = unique,
	};
	struct iovec iov[2] = {{&header, sizeof(header)}, {body, size}};

	if (writev(device, iov, size > 0 ? 2 : 1) >= 0)
		return true;
	atomic_fetch_add_explicit(&seat->lost, 1, memory_order_relaxed);
	return false;
}

void avc_forget_attributes(int device, uint64_t id)
{
	struct {
		struct wire_out_header header;
		uint64_t id;
		int64_t offset, size; /* less than 0: no pages */
	} note = {{sizeof(note), NOTIFY_INVAL_INODE, 0}, id, -1, 0};

	(void)!write(device, &note, sizeof(note));
}

/* True if the name is absent. may_wait: false if the caller holds a seat's lock: the kernel must know without a disk. */
static bool is_absent(int directory, bool may_wait, const char *name)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_CACHED | RESOLVE_NO_XDEV};
	struct statx unused;
	long fd;

	if (may_wait)
		return statx(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &unused) != 0 && errno == ENOENT;
	fd = syscall(SYS_openat2, directory, name, &how, sizeof(how));
	if (fd >= 0)
		close((int)fd);
	return fd < 0 && errno == ENOENT;
}

#define MISSES (1u << 12)

/* True every second time for a name. For the event loop only. */
static bool is_second_miss(uint64_t parent, const char *name)
{
	static uint64_t misses[MISSES]; /* hashes of names; several share a place */
	uint64_t hash = parent * 0x9e3779b97f4a7c15u;

	for (; *name != 0; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
	misses[hash % MISSES] = misses[hash % MISSES] == hash ? 0 : hash;
	return misses[hash % MISSES] == 0;
}

/* Answer ENOENT, as Python would for each absent name in the directory. The kernel asks again: Python answers the second
 * time if the kernel may keep the answer. */
static bool answer_absent(struct seat *seat, int device, const struct wire_in_header *header, const char *name,
			  bool known_absent)
{
	bool keeps, is_loop = seat == &seats[0];
	int directory = directories_all_seen(header->nodeid, header->uid, &keeps);

	if (directory < 0 || (keeps && !is_loop) || !(known_absent || is_absent(directory, is_loop, name)) ||
	    (keeps && is_second_miss(header->nodeid, name)))
		return false;
	atomic_fetch_add_explicit(&seat->absences, 1, memory_order_relaxed);
	avc_reply(seat, device, header->unique, ENOENT, NULL, 0);
	return true;
}

/* Answer the LOOKUP of a file for which the bridge has a node of its own, or may make one. */
static bool answer_of_tree(struct seat *seat, int device, const struct wire_in_header *header, const char *name,
			   size_t size, bool *absent)
{
	bool is_loop = seat == &seats[0];
	uint64_t before = is_loop ? avc_own_nodes() : 0;
	struct wire_entry_out out = {0};
	struct node *node = tree_look_up(header->nodeid, header->uid, name, size, is_loop, &out, absent);

	if (node == NULL)
		return false;
	if (is_loop && avc_own_nodes() > before)
		atomic_fetch_add_explicit(&seat->firsts, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&seat->lookups, 1, memory_order_relaxed);
	if (avc_reply(seat, device, header->unique, 0, &out, sizeof(out)))
		return true;
	if (is_loop)
		tree_unrefer(node, 1);
	else
		atomic_fetch_sub_explicit(&node->count->lookups, 1, memory_order_relaxed);
	return true;
}

static bool answer_lookup(struct seat *seat, int device, const struct wire_in_header *header,
			  const char *name, size_t size)
{
	struct wire_entry_out out = {0};
	struct node *node;
	bool absent = false;

	for (node = avc_first_like(header->nodeid, name, size); node != NULL;
	     node = node->next_name) {
		uint32_t bits;

		if (node->own || !avc_is_named(node, header->nodeid, name, size))
			continue;
		bits = granted(node, header->uid);
		if (!(bits & AVC_LOOKUP))
			continue;
		if (!avc_ask_store(node, (bits & AVC_UNCOUNTED) != 0, &out.attr))
			return false;
		out.nodeid = node->id;
		/* INVARIANT: counted under this seat's lock, before the kernel can forget the node. */
		atomic_fetch_add_explicit(&node->count->lookups, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&seat->lookups, 1, memory_order_relaxed);
		if (!avc_reply(seat, device, header->unique, 0, &out, sizeof(out)))
			atomic_fetch_sub_explicit(&node->count->lookups, 1, memory_order_relaxed);
		return true;
	}
	return answer_of_tree(seat, device, header, name, size, &absent) ||
	       answer_absent(seat, device, header, name, absent);
}

void avc_keep(struct node *node, const struct wire_attr *attr, uint64_t *valid_s, uint32_t *valid_ns)
{
	uint64_t changed = attr->mtime > attr->ctime ? attr->mtime : attr->ctime;
	uint64_t now = (uint64_t)time(NULL), most_s = node->kept_ms / 1000;
	uint64_t seconds = now > changed + 2 && attr->nlink == 1 ? now - changed - 1 : 1;

	atomic_store_explicit(&node->told_ns, 0, memory_order_relaxed);
	if (node->kept_ms == 0 || (attr->size > 0 && atomic_load_explicit(&node->writers, memory_order_relaxed) > 0))
		return;
	*valid_s = seconds < most_s ? seconds : most_s;
	*valid_ns = seconds < most_s ? 0 : node->kept_ms % 1000 * 1000000;
}

static bool answer_getattr(struct seat *seat, int device, const struct wire_in_header *header)
{
	struct node *node = avc_find(header->nodeid);
	struct wire_attr_out out = {0};
	uint32_t bits = node == NULL ? 0 : granted(node, header->uid);

	if (!(bits & AVC_GETATTR) || !avc_ask_store(node, (bits & AVC_UNCOUNTED) != 0, &out.attr))
		return false;
	avc_keep(node, &out.attr, &out.attr_valid, &out.attr_valid_nsec);
	atomic_fetch_add_explicit(&seat->getattrs, 1, memory_order_relaxed);
	avc_reply(seat, device, header->unique, 0, &out, sizeof(out));
	return true;
}

static bool answer_access(struct seat *seat, int device, const struct wire_in_header *header, uint32_t mode)
{
	const struct node *node = avc_find(header->nodeid);

	if (node == NULL || avc_directory_of(node) < 0 || mode > 7 ||
	    !(granted(node, header->uid) & AVC_ACCESS(mode)))
		return false;
	atomic_fetch_add_explicit(&seat->accesses, 1, memory_order_relaxed);
	avc_reply(seat, device, header->unique, 0, NULL, 0);
	return true;
}

static bool answer_flush(struct seat *seat, int device, const struct wire_in_header *header, const unsigned char *body,
			 size_t size)
{
	uint64_t fh;

	if (size < sizeof(fh))
		return false;
	memcpy(&fh, body, sizeof(fh));
	if (!avc_is_idle_flush(fh) && !(avc_is_open() && opens_have_no_lock(fh)))
		return false;
	atomic_fetch_add_explicit(&seat->flushes, 1, memory_order_relaxed);
	return avc_reply(seat, device, header->unique, 0, NULL, 0), true;
}

/* Answer ENOTTY to all commands except the one that Python knows (docs/decisions/0025-one-ioctl.md). The answer is the
 * same for every caller and every object. Programs in Python, Perl and C send the command TCGETS (isatty(3)) for each
 * file that they open as a text. */
static bool answer_ioctl(struct seat *seat, int device, const struct wire_in_header *header,
			 const unsigned char *body, size_t size)
{
	struct wire_ioctl_in in;

	if (size < sizeof(in))
		return false;
	memcpy(&in, body, sizeof(in));
	if (in.command == FS_IOC_GETFLAGS)
		return false;
	atomic_fetch_add_explicit(&seat->ioctls, 1, memory_order_relaxed);
	avc_reply(seat, device, header->unique, ENOTTY, NULL, 0);
	return true;
}

bool avc_is_name(const unsigned char *body, size_t size)
{
	return size >= 2 && size - 1 <= NAME_MAX_BYTES && strnlen((const char *)body, size) == size - 1;
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
	if (header.opcode == OPCODE_RELEASE || header.opcode == OPCODE_RELEASEDIR) /* Python's releases stay in order */
		return opens_has(message + sizeof(header), size - sizeof(header));
	return header.opcode == OPCODE_LOOKUP || header.opcode == OPCODE_GETATTR ||
	       header.opcode == OPCODE_ACCESS || header.opcode == OPCODE_OPEN ||
	       header.opcode == OPCODE_OPENDIR || header.opcode == OPCODE_GETXATTR ||
	       header.opcode == OPCODE_IOCTL || header.opcode == OPCODE_LISTXATTR || header.opcode == OPCODE_SETXATTR ||
	       header.opcode == OPCODE_REMOVEXATTR || header.opcode == OPCODE_FLUSH || is_change(header.opcode);
}

/* The process whose requests all go to Python, the announcer; 0: none. */
static _Atomic uint32_t exempt_pid;

void avc_exempt(uint32_t pid)
{
	exempt_pid = pid;
}

static bool answer(struct seat *seat, int device, const unsigned char *message, size_t size)
{
	const unsigned char *body = message + sizeof(struct wire_in_header);
	size_t left = size - sizeof(struct wire_in_header);
	struct wire_in_header header;
	uint32_t mode;

	memcpy(&header, message, sizeof(header));
	if (!is_plain(&header, size) || (header.pid != 0 && header.pid == exempt_pid))
		return false;
	if (header.opcode == OPCODE_FLUSH)
		return answer_flush(seat, device, &header, body, left);
	if (!avc_is_open())
		return false;
	switch (header.opcode) {
	case OPCODE_LOOKUP:
		return avc_is_name(body, left) && answer_lookup(seat, device, &header, (const char *)body, left - 1);
	case OPCODE_GETATTR:
		return answer_getattr(seat, device, &header);
	case OPCODE_GETXATTR:
	case OPCODE_LISTXATTR:
	case OPCODE_SETXATTR:
	case OPCODE_REMOVEXATTR:
		return xattrs_answer(seat, device, &header, body, left);
	case OPCODE_OPEN:
		return opens_answer_open(seat, (unsigned)(seat - seats), device, &header, body, left);
	case OPCODE_OPENDIR:
		return opens_answer_opendir(seat, (unsigned)(seat - seats), device, &header, left);
	case OPCODE_RELEASE:
	case OPCODE_RELEASEDIR:
		return opens_answer_release(seat, (unsigned)(seat - seats), device, &header, body, left);
	case OPCODE_IOCTL:
		return answer_ioctl(seat, device, &header, body, left);
	case OPCODE_CREATE:
		return seat == &seats[0] && changes_answer_create(seat, device, &header, body, left);
	case OPCODE_UNLINK:
		return seat == &seats[0] && avc_is_name(body, left) &&
		       changes_answer_unlink(seat, device, &header, (const char *)body, left - 1);
	case OPCODE_RENAME:
	case OPCODE_RENAME2:
		return seat == &seats[0] && changes_answer_rename(seat, device, &header, body, left);
	case OPCODE_SETATTR:
		return seat == &seats[0] && changes_answer_setattr(seat, device, &header, body, left);
	case OPCODE_ACCESS:
		if (left < sizeof(mode))
			return false;
		memcpy(&mode, body, sizeof(mode));
		return answer_access(seat, device, &header, mode);
	default:
		return false;
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

void avc_count(struct avc_counts *counts)
{
	memset(counts, 0, sizeof(*counts));
#define ADD(kind, opcode) counts->kind += atomic_load_explicit(&seats[i].kind, memory_order_relaxed);
	for (unsigned i = 0; i < AVC_SEATS; i++) {
		AVC_ANSWERS(ADD)
		ADD(lost, )
		ADD(firsts, )
	}
#undef ADD
	avc_count_table(counts);
}

void avc_forget_counts(void)
{
#define CLEAR(kind, opcode) atomic_store(&seats[i].kind, 0);
	for (unsigned i = 0; i < AVC_SEATS; i++) {
		AVC_ANSWERS(CLEAR)
		CLEAR(lost, )
		CLEAR(firsts, )
	}
#undef CLEAR
}
