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
#include "table/_avc_table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESENT ((uint64_t)1 << 63)

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
	bool keeps, is_loop = seat == &avc_seat[0];
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
	bool is_loop = seat == &avc_seat[0];
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
		return opens_answer_open(seat, (unsigned)(seat - avc_seat), device, &header, body, left);
	case OPCODE_OPENDIR:
		return opens_answer_opendir(seat, (unsigned)(seat - avc_seat), device, &header, left);
	case OPCODE_RELEASE:
	case OPCODE_RELEASEDIR:
		return opens_answer_release(seat, (unsigned)(seat - avc_seat), device, &header, body, left);
	case OPCODE_IOCTL:
		return answer_ioctl(seat, device, &header, body, left);
	case OPCODE_CREATE:
		return seat == &avc_seat[0] && changes_answer_create(seat, device, &header, body, left);
	case OPCODE_UNLINK:
		return seat == &avc_seat[0] && avc_is_name(body, left) &&
		       changes_answer_unlink(seat, device, &header, (const char *)body, left - 1);
	case OPCODE_RENAME:
	case OPCODE_RENAME2:
		return seat == &avc_seat[0] && changes_answer_rename(seat, device, &header, body, left);
	case OPCODE_SETATTR:
		return seat == &avc_seat[0] && changes_answer_setattr(seat, device, &header, body, left);
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
		return answer(&avc_seat[0], device, message, size);
	if (atomic_load(&avc_changing))
		return false;
	pthread_mutex_lock(&avc_seat[seat].lock);
	done = answer(&avc_seat[seat], device, message, size);
	pthread_mutex_unlock(&avc_seat[seat].lock);
	return done;
}

void avc_count(struct avc_counts *counts)
{
	memset(counts, 0, sizeof(*counts));
#define ADD(kind, opcode) counts->kind += atomic_load_explicit(&avc_seat[i].kind, memory_order_relaxed);
	for (unsigned i = 0; i < AVC_SEATS; i++) {
		AVC_ANSWERS(ADD)
		ADD(lost, )
		ADD(firsts, )
	}
#undef ADD
	avc_count_table(counts);
}

static void forget_counts(void)
{
#define CLEAR(kind, opcode) atomic_store(&avc_seat[i].kind, 0);
	for (unsigned i = 0; i < AVC_SEATS; i++) {
		AVC_ANSWERS(CLEAR)
		CLEAR(lost, )
		CLEAR(firsts, )
	}
#undef CLEAR
}

uint64_t avc_answered(uint32_t opcode)
{
	struct avc_counts counts;
	uint64_t answered = 0;

	avc_count(&counts);
#define ADD(kind, of) answered += opcode == OPCODE_##of ? counts.kind : 0;
	AVC_ANSWERS(ADD)
#undef ADD
	return answered;
}

bool avc_open(size_t nodes, unsigned directories, unsigned seats)
{
	avc_close();
	if (nodes == 0 || seats > AVC_SEATS || !table_begin(nodes) || !directories_begin(directories) || !opens_begin() ||
	    !events_begin()) {
		avc_close();
		return false;
	}
	seats_begin(seats);
	table_open();
	tree_begin();
	return true;
}

void avc_close(void)
{
	table_clear(NULL, NULL, true);
	if (avc_is_open()) /* else its memory would be written for nothing */
		tree_close();
	opens_close();
	events_close();
	directories_close();
	table_end();
	seats_begin(0);
	forget_counts();
}
