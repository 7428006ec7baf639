/* The access vector cache: answers that policyfs has decided before. Its memory model is in
 * docs/architecture/vectors.md. No Python and no libfuse here, so that the cache can be tested by itself. */

#ifndef POLICYFS_AVC_H
#define POLICYFS_AVC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "wire/_wire.h"

/* Bits of a grant: the rights of one uid on one node. */
#define AVC_LOOKUP (1u << 0)	 /* its name may be looked up */
#define AVC_GETATTR (1u << 1)	 /* its attributes may be seen */
#define AVC_UNCOUNTED (1u << 2)	 /* a directory's link count and size are not shown */
#define AVC_OPEN (1u << 3)	 /* it may be opened for reading, in passthrough */
#define AVC_RECORDED (1u << 4)	 /* each open by AVC_OPEN or AVC_LIST is an event for the trail */
#define AVC_LIST (1u << 7)	 /* the directory may be opened, and the kernel may use the listing that it keeps */
#define AVC_ACCESS(mode) (1u << (8 + (mode))) /* access(2) with this mode (0 to 7) is allowed */
/* Of a directory: */
#define AVC_CHANGE (1u << 16)	 /* files may be made in it, and their attributes may be set */
#define AVC_CHANGES_RECORDED (1u << 17) /* each change by AVC_CHANGE or AVC_WRITE is an event for the trail */
#define AVC_XATTRS (1u << 18)	 /* the xattrs of its files are shown */
#define AVC_WRITE (1u << 19)	 /* with AVC_CHANGE: its files may be opened for writing */
#define AVC_REMOVE (1u << 20)	 /* with AVC_CHANGE: its files may be removed (renamed: struct raw, moves) */
#define AVC_GRANT_BITS 0x1fffffu

/* The bit in the look-ups of a saved node while its file is made; the others are the number of the CREATE. */
#define AVC_MAKING ((uint64_t)1 << 63)

/* The bit in the number of each node that the cache has made, and in no other node's (kernel/vectors.py, OWN_NODES). */
#define AVC_OWN_NODES ((uint64_t)1 << 61)

/* The bit in the number of a saved record with the name that its node gets. */
#define AVC_MOVING ((uint64_t)1 << 60)

#define AVC_PROGRAM_MAX 256

/* Limit of seats. Each thread that answers requests has a seat. The event loop has seat 0. Only the event loop changes
 * the table. */
#define AVC_SEATS 5
#define AVC_SLOTS 4352 /* of handles, of which each reader has AVC_READER_SLOTS, and the event loop the others */
#define AVC_READER_SLOTS 256

/* The version of a file's bytes, from statx(2). */
struct avc_version {
	uint64_t size;
	int64_t mtime_ns, ctime_ns;
};

struct avc_vector {
	uint64_t id;	     /* the node */
	uint64_t parent;     /* the node of its directory; 0 for the root */
	int directory;	     /* a descriptor of that directory, or of the root itself */
	const char *name;    /* its name in that directory, "" for the root */
	size_t name_size;
	uint32_t uid;	     /* the caller's */
	uint32_t grant;	     /* AVC_* bits to add */
	uint64_t device, ino;
	int64_t birth_ns;
	uint32_t format;     /* S_IFMT bits */
	uint32_t kept_ms;    /* for AVC_GETATTR: the longest time for which the kernel may keep a reply, 0: none */
	uint32_t gid;	     /* for AVC_OPEN and AVC_LIST: the caller's gid */
	uint32_t flags;	     /* for AVC_OPEN: the flags of open(2) */
	int32_t backing_id;  /* for AVC_OPEN: the file's backing id */
	bool of_version;     /* for AVC_OPEN: only while the file has this version */
	struct avc_version version;
};

/* A decision of Python about all regular files in a directory (_tree.c). excepted: names about which Python decides
 * one by one, each with a null byte. owner: the app that owns the files that the uid makes. */
struct avc_raw {
	uint64_t device;
	uint32_t uid, bits, entry_s, moves; /* moves: see struct raw */
	bool keeps_attributes;
	const char *excepted, *owner;
	size_t excepted_size, owner_size;
};

/* A node of the cache's own, for Python. */
struct avc_own {
	uint64_t id, parent, ino, lookups;
	uint64_t remover; /* of a node in memory: the number of the UNLINK or RENAME that was about to change it, or 0 */
	uint64_t new_parent; /* of a RENAME, as new_name */
	int64_t birth_ns;
	int32_t backing_id;
	uint16_t name_size, new_name_size;
	char name[255], new_name[255];
};

/* A handle that the cache has given out. */
struct avc_opened {
	uint64_t fh, node, unique; /* unique: the number of the request */
	uint32_t uid, gid, pid, flags; /* of the open */
	struct wire_attr attr;	       /* of the file or directory, at the open */
};

/* The answers that are events for the trail. */
enum avc_kind { AVC_OPENED, AVC_MADE, AVC_SET, AVC_RELEASED, AVC_REMOVED, AVC_MOVED, AVC_WRITTEN };

/* What an AVC_SET has set, in the event's flags. */
#define AVC_CHMOD 1u
#define AVC_CHOWN 2u
#define AVC_UTIMENS 4u

struct avc_event {
	enum avc_kind kind;
	int64_t time_ns;
	uint64_t number; /* in the order in which events were published, by all readers */
	uint64_t fh, node, size;
	int64_t mtime_ns; /* of the file, like size */
	uint64_t size_after; /* at the release, like mtime_after_ns */
	int64_t mtime_after_ns;
	uint32_t uid, gid, pid, flags;
	uint64_t parent, new_parent; /* of an own node: its directory; else 0. new_parent: after a RENAME, as new_name */
	uint16_t name_size, new_name_size, program_size;
	char name[255], new_name[255]; /* of an own node: its name in the directory */
	char program[AVC_PROGRAM_MAX]; /* path of the process's executable, without a final null byte */
};

/* Called with an event that belongs to Python from now on. The function must not call the cache. */
typedef void (*avc_told)(void *context, const struct avc_event *event);

/* Called with a handle that belongs to Python from now on. The function must not call the cache. file: the descriptor of
 * a writer's file, which belongs to Python, too; -1: there is none. */
typedef void (*avc_take)(void *context, const struct avc_opened *opened, int file);

/* ---- For the event loop only ---- */

/* Make an empty table for at most these numbers of nodes and directories, before any reader runs. seats: the number of
 * seats, of the event loop and of the readers. Return false if there is no memory. */
bool avc_open(size_t nodes, unsigned directories, unsigned seats);

/* Let the next avc_open() keep its handles in this memory of avc_opens_size() bytes, which is aligned as a page, and which
 * outlives the process. The handles in it are dropped then: avc_read_opens() reads them before. */
void avc_save_opens(void *memory);
size_t avc_opens_size(void);

/* The same for the counts of look-ups, in memory of avc_counts_size(nodes): pairs of numbers of 64 bits (node, look-ups).
 * Those of node 0 count nothing. */
void avc_save_counts(void *memory);
size_t avc_counts_size(size_t nodes);

/* Drop the table. Call this only when no reader runs any more. */
void avc_close(void);

/* Set functions that the cache calls before and after each wait of the event loop that may take long. (The loop waits
 * for readers, which may wait for a lock or a disk. It also waits for the close of a directory.) after() gets the
 * result of before(). The calls may be nested. */
void avc_around_waits(void *(*before)(void), void (*after)(void *));

bool avc_is_open(void);

/* Add a vector. Return false if there is no room. */
bool avc_install(const struct avc_vector *vector);

/* Record that a uid sees each name in a directory, whatever the object is. The cache then answers this uid's LOOKUPs of
 * absent names, until avc_leave() or avc_drop_all(). fd: a descriptor of that directory. keeps: true if Python lets the
 * kernel keep such names: it answers each second LOOKUP. Return false if there is no room. */
bool avc_see_all(uint64_t id, int fd, uint32_t uid, bool keeps);

/* Answer all requests for the capabilities of a file, or none. */
void avc_has_no_capabilities(bool truth);

/* Let the cache answer for all files in a directory, or (NULL) say if it does so for opens by this uid. fd: a descriptor
 * of the directory. Return false if there is no room. The right ends with avc_leave() and avc_drop_all(). */
bool avc_allow(uint64_t id, int fd, const struct avc_raw *raw);
bool avc_is_raw(uint64_t id, uint32_t uid);

/* Files are registered with the kernel under this fsuid. */
void avc_register_as(uint32_t uid);

/* Names are locked by bytes of this file, as fs/sharing/name_lock.py does; -1: Python removes all names. */
void avc_lock_names_in(int file);

/* Other daemons mark files with held bytes in this file (store/locking/latches.py); -1: Python replaces all files. */
void avc_held_in(int file);

/* The byte that stands for a name in a directory. */
uint64_t avc_name_number(uint64_t device, uint64_t inode, const char *name, size_t size);

/* Say that the kernel passes files of the store through: else the cache makes none. */
void avc_passes_through(void);

/* Count an inode for which Python makes, or drops, a node. */
void avc_know(uint64_t inode, bool known);

/* Take over own nodes: the one with this number or of this inode, all in this directory, or at most so many, the
 * oldest first. The cache keeps their handles (avc_take_handles()); their look-ups are no more counted here. */
enum avc_which { AVC_NODE, AVC_INODE, AVC_IN_PARENT, AVC_SOME };
typedef void (*avc_taken_node)(void *context, const struct avc_own *own);
void avc_take_nodes(enum avc_which which, uint64_t number, avc_taken_node taken, void *context);
size_t avc_own_nodes(void);

/* As avc_save_opens() and avc_read_opens(), for own nodes. A node that was taken over stays in memory until avc_drop().
 * avc_read_own() forgets known nodes; of the others, avc_open() makes those without a backing id again. */
typedef bool (*avc_known_node)(void *context, const struct avc_own *own);
void avc_save_own(void *memory);
size_t avc_own_size(void);
void avc_read_own(void *memory, avc_known_node is_known, void *context);
size_t avc_own_backed(void); /* own nodes with a backing id */

/* Return the own node of this inode whose attributes the kernel must ask for again, since the file has changed; 0: of none,
 * or of a removed file. Return false if the inode has no own node, or if its name leads elsewhere now. */
bool avc_changed(uint64_t inode, uint64_t *stale);

/* Fill the entry of a file in a listing, and count one look-up, which avc_unlist() takes back. Return false if Python
 * must make the entry. */
bool avc_list(uint64_t parent, uint32_t uid, const char *name, size_t size, uint64_t ino, struct wire_entry_out *out);
void avc_unlist(uint64_t id);

/* Take a FORGET of own nodes out of a message. Return the size of what is left for Python; 0: nothing. Event loop only. */
size_t tree_forget(unsigned char *message, size_t size);

/* Drop a node with all its grants. After the return, no reader uses these grants. Returns the number of look-ups of the
 * node that the cache has answered. The kernel has this number of references to the node; the caller counts them from
 * now on. */
uint64_t avc_drop(uint64_t id);

/* Close the descriptor of a directory. This drops all grants of the nodes in the directory, and the right to know its
 * absent names. */
void avc_leave(uint64_t id);

/* Drop all grants of all nodes. The cache still counts their look-ups until avc_drop() or avc_clear(). */
void avc_drop_all(void);

/* Drop all nodes. taken is called with each node that has look-ups, and with the number of these look-ups. */
void avc_clear(void (*taken)(void *context, uint64_t id, uint64_t lookups), void *context);

/* Take handles over, so that all their requests go to Python: one handle, the handles of a node, or all handles. ending:
 * from then on answer no more opens of the node, or of any node. INVARIANT: called with *ending* for the node before
 * avc_drop(), and for all before avc_drop_all() and avc_clear(). */
void avc_take_handle(uint64_t fh, avc_take taken, void *context);
void avc_take_handles(uint64_t id, bool ending, avc_take taken, void *context);
void avc_take_all_handles(bool ending, avc_take taken, void *context);

/* Return another descriptor of a writer's file, which the cache goes on serving; -1: there is none. */
int avc_writer_file(uint64_t fh);

/* Free the place of a handle that was taken over. With avc_save_opens() it stays until then, so that the handle is in
 * memory that outlives the process at each moment. */
void avc_free_taken(uint64_t fh);

/* Call found with each handle that a process has left in memory. For any thread. */
void avc_read_opens(const void *memory, avc_take found, void *context);

/* Take all handles over if a seat has few slots left. Report the nodes for which the cache has answered no open during the
 * last *ages* calls (2: not since the previous call). Called from time to time. */
typedef void (*avc_unused)(void *context, uint64_t id);
void avc_age_opens(unsigned ages, avc_take taken, avc_unused unused, void *context);

/* Take all events that were published before this call. The events of one seat are in order. */
void avc_take_events(avc_told told, void *context);

/* Return an eventfd, or -1 before avc_open(). The eventfd is readable once so many events wait that they must be taken
 * soon. */
int avc_events_bell(void);

/* With *early*, the eventfd becomes readable as soon as any event waits. Event loop only. */
void avc_ring_early(bool early);

/* ---- For any seat ---- */

/* _closes.c. True if the kernel must send a FLUSH when a handle is closed, because the close may end a lock; true for a FLUSH of
 * such a handle that ends none. The others tell what they depend on: a new session, whether requests for locks are taken, whether
 * a close of any handle may end a lock, and a request for a byte range. */
bool avc_hears_close(bool writable);
bool avc_is_idle_flush(uint64_t fh);
void closes_reset(void);
void closes_take_locks(bool truth);
void closes_hear_all(bool truth);
void closes_lock_range(void);

int64_t avc_clock_ns(clockid_t clock);

/* Answer a request on the device, if the request is a repeat. Return false if it was not answered. */
bool avc_answer(unsigned seat, int device, const unsigned char *message, size_t size);

/* True for a request that avc_answer() may answer. */
bool avc_takes(const unsigned char *message, size_t size);

/* The kinds of answered requests that are counted, each passed to the macro `of` with its opcode. */
#define AVC_ANSWERS(of) \
	of(lookups, LOOKUP) of(absences, LOOKUP) of(getattrs, GETATTR) of(accesses, ACCESS) of(getxattrs, GETXATTR) \
	of(listxattrs, LISTXATTR) of(setxattrs, SETXATTR) of(removexattrs, REMOVEXATTR) of(ioctls, IOCTL) of(opens, OPEN) of(flushes, FLUSH) \
	of(releases, RELEASE) of(opendirs, OPENDIR) of(releasedirs, RELEASEDIR) of(creates, CREATE) \
	of(setattrs, SETATTR) of(unlinks, UNLINK) of(renames, RENAME) of(renames2, RENAME2)

struct avc_counts {
#define OF_64_BITS(kind, opcode) uint64_t kind;
	AVC_ANSWERS(OF_64_BITS)
#undef OF_64_BITS
	uint64_t lost;			 /* replies that the kernel did not take */
	uint64_t firsts;		 /* answered requests that only the event loop can answer */
	uint64_t nodes, directories;	 /* in the table */
	uint64_t installed, dropped, refused;
};

/* For the event loop only. */
void avc_count(struct avc_counts *counts);

/* Number of answered requests of a kind. */
uint64_t avc_answered(uint32_t opcode);

/* Answer no request of the process *pid* from now on. 0: all processes get answers. */
void avc_exempt(uint32_t pid);

/* Number of open files that belong to the cache, and of directories. */
unsigned avc_count_handles(unsigned *directories);

#endif
