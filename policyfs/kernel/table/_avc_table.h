/* The interfaces between the parts of the access vector cache. */

#ifndef POLICYFS_AVC_TABLE_H
#define POLICYFS_AVC_TABLE_H

#include "wire/_handles.h"
#include "wire/_wire.h"
#include "table/_avc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#define NAME_MAX_BYTES 255
#define GRANTS 4 /* limit of uids with a grant on one node */
#define OWN_NODES_MAX (1u << 16)

/* Flags of open(2) that change nothing for the file or its reader's rights. */
#define AVC_HARMLESS ((uint32_t)(O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK))

struct grant {
	uint32_t uid, bits; /* bits 0: free */
	uint32_t gid, flags; /* AVC_OPEN and AVC_LIST only with this gid, AVC_OPEN only with these flags of open(2) */
};

/* Number of look-ups of a node that the cache has answered, and that Python does not count yet. id 0: not in use. */
struct count {
	atomic_uint_fast64_t id, lookups;
};

struct node {
	struct node *next_id, *next_name;
	struct node *next_inode; /* this and by_age: of the bridge's own nodes (_tree.c) */
	TAILQ_ENTRY(node) by_age;
	atomic_uchar opened;	 /* opens that the bridge has answered; 2: or more */
	bool own;		 /* Python does not know this node: directories_raw() has the rights */
	bool taken;		 /* it was the bridge's own: Python counts its look-ups */
	bool removed;		 /* its name is being removed, or was: nobody has a right */
	uint64_t id, parent, serial; /* serial: of its directory's descriptor */
	struct count *count, alone;  /* count: alone, or one in memory that outlives the process */
	uint64_t device, ino;
	int64_t birth_ns;
	uint32_t format;
	uint32_t kept_ms;	/* for AVC_GETATTR: the longest time for which the kernel may keep a reply */
	int32_t backing_id;	/* for AVC_OPEN; 0: the cache answers no open */
	bool of_version;	/* for AVC_OPEN: the backing file is a copy of this version of the file */
	struct avc_version version;
	atomic_uint handles;	/* number of its slots in use (_opens.c) */
	atomic_uint writers;	/* of these, slots of handles that may write */
	_Atomic int64_t told_ns; /* an own node's ctime in the last reply, if that was to CREATE or SETATTR; else 0 */
	atomic_uint used;	/* opens.age (_opens.c) when AVC_OPEN was added last, or at the last answered open */
	uint16_t directory, name_size;
	uint8_t next_grant;
	struct grant grants[GRANTS];
	char *name;   /* first_name, or one that is owned, with a null byte */
	char first_name[];
};

/* The rights of a uid on each regular file in a directory, except files with some names (_tree.c). */
struct raw {
	uint32_t uid, bits;
	uint32_t entry_s; /* the time for which the kernel may keep a name */
	uint32_t moves;	  /* files may be renamed from and to directories with this number; 0: nowhere */
	bool keeps_attributes;
	uint64_t device, directory_device, directory_ino;
	char *excepted; /* names, each with a null byte, and the owner of new files; owned */
	size_t excepted_size, owner_size;
};

struct seat {
	_Alignas(64) pthread_mutex_t lock;
#define ATOMIC(kind, opcode) atomic_uint_fast64_t kind;
	AVC_ANSWERS(ATOMIC)
	ATOMIC(lost, )
	ATOMIC(firsts, ) /* of the answered requests those that readers leave to the event loop */
#undef ATOMIC
};

/* _avc_table.c. For callers with the lock of a seat, and for the event loop. */

struct node *avc_find(uint64_t id);
void avc_each_node(void (*visit)(struct node *, void *context), void *context);

/* Return the first node in the chain of a name (next_name). The chain may have nodes with other names, too. */
struct node *avc_first_like(uint64_t parent, const char *name, size_t size);
bool avc_is_named(const struct node *node, uint64_t parent, const char *name, size_t size);

/* For the event loop only, with all locks. limited: true if the node counts for the table's limit. add returns NULL if
 * there is no room. */
struct node *avc_add_node(const struct avc_vector *vector, bool limited);
void avc_remove_node(struct node *node, bool limited);
void avc_count_node(void);
bool avc_has_room_for(uint64_t parent, const char *name, size_t size);

/* Give a node another name: from malloc(3), with a null byte, and the node's from now on. */
void avc_rename_node(struct node *node, uint64_t parent, char *name, size_t size);

/* Make room for this number of nodes. table_open() comes next, then table_clear() and table_end(). own: true to remove the cache's
 * own nodes, too. */
bool table_begin(size_t nodes);
void table_open(void);
void table_clear(void (*taken)(void *context, uint64_t id, uint64_t lookups), void *context, bool own);
void table_end(void);

extern atomic_uint avc_age; /* number of avc_age_opens() calls so far */

/* Add the counts of the table. */
void avc_count_table(struct avc_counts *counts);

/* _avc_directories.c. For callers with the lock of a seat, and for the event loop. */

/* Return the descriptor of a node's directory, or -1 if the directory was dropped since. */
int avc_directory_of(const struct node *node);

/* Return the descriptor of a directory in which the uid sees each name, or -1 if it does not see each name. */
int directories_all_seen(uint64_t id, uint32_t uid, bool *keeps);

/* Return a uid's rights on the files in a directory, and the directory's descriptor. Return NULL without such rights. */
const struct raw *directories_raw(uint64_t id, uint32_t uid, int *fd);
bool raw_excepts(const struct raw *raw, const char *name, size_t size);

/* For the event loop only. */
bool directories_have(uint64_t id);
unsigned directories_count(void);

/* For the event loop only, with all locks. fd: a descriptor of the directory, which is duplicated. Return false if
 * there is no room. */
bool directories_add(uint64_t id, int fd, uint16_t *number, uint64_t *serial);
bool directories_see_all(uint64_t id, int fd, uint32_t uid, bool keeps);
void directories_leave(uint64_t id);
void directories_leave_all(void);
bool directories_allow(uint64_t id, int fd, const struct avc_raw *raw);
void directories_end_opens(void); /* take AVC_OPEN from all rights on files in directories */

bool directories_begin(unsigned most);
void directories_close(void);

/* _seats.c */

extern struct seat avc_seat[AVC_SEATS];
extern atomic_bool avc_changing; /* see _seats.c */

void seats_begin(unsigned count); /* in use, with the event loop's */
void avc_lock_all(void);
void avc_unlock_all(void);

/* For the event loop only, around a call that may wait for the store. */
void *avc_begin_wait(void);
void avc_end_wait(void *begun);

/* _store.c */

/* Read the attributes of a name in a directory, or of the descriptor itself (""). Return false after an error. */
struct statx;
bool avc_statx(int fd, const char *name, struct statx *now);
bool avc_is_usual(const struct statx *now, uint64_t device); /* device: the number that the file must have */
int64_t avc_birth_ns(const struct statx *now);
void avc_fill(const struct statx *now, bool uncounted, struct wire_attr *attr);

/* Compute the time for which the kernel may keep a node's attributes: since the file's last change, but at least 1 s and
 * at most node->kept_ms (0: none). None for a file with bytes that may be written through a mapping. Timeouts.attr() has
 * the same rules. The time is rounded down to whole seconds. */
void avc_keep(struct node *node, const struct wire_attr *attr, uint64_t *valid_s, uint32_t *valid_ns);

/* Read the node's attributes from the store. Return false if the node's name leads to another object, or if the
 * attributes are unusual. */
bool avc_ask_store(const struct node *node, bool uncounted, struct wire_attr *attr);

/* _messages.c */

/* Write a reply. Return true if the kernel took it. */
bool avc_reply(struct seat *seat, int device, uint64_t unique, int error, void *body, size_t size);

/* Make the kernel forget a file's attributes: stores into a mapping change them unseen. */
void avc_forget_attributes(int device, uint64_t id);

/* True for the body of a request that is one name and a null byte. */
bool avc_is_name(const unsigned char *body, size_t size);

/* _xattrs.c. Under the lock of the seat. */

bool xattrs_answer(struct seat *seat, int device, const struct wire_in_header *header, const unsigned char *body, size_t size);

/* _changes.c. For the event loop's seat only. */

bool changes_answer_create(struct seat *seat, int device, const struct wire_in_header *header,
			   const unsigned char *body, size_t size);
bool changes_answer_unlink(struct seat *seat, int device, const struct wire_in_header *header, const char *name,
			   size_t size);
bool changes_answer_rename(struct seat *seat, int device, const struct wire_in_header *header,
			   const unsigned char *body, size_t size);
bool changes_answer_setattr(struct seat *seat, int device, const struct wire_in_header *header,
			    const unsigned char *body, size_t size);

/* _writers.c. For the event loop's seat only. */

#define AVC_OWNER_MAX 256 /* most bytes of an owner's name */
#define AVC_SET_ID_BITS 06000u

/* Make the app of a right the owner of a new file. */
bool writers_own(const struct raw *raw, int file, const struct statx *made);
bool writers_is_large(const struct statx *now);

/* Return a descriptor of an own node's file that may write, or -1 if Python must open it. empties: the caller will empty the
 * file. attr: gets the file's attributes. */
int writers_open(const struct node *node, uint32_t uid, bool empties, struct wire_attr *attr);

/* _opens.c. Under the lock of the seat. number: the number of the seat. */

/* Answer CREATE with a handle of the node's file, which is open and registered. file: a descriptor that may write, which
 * belongs to the handle from now on. event: its place, or NULL. INVARIANT: opens_has_room() was true. */
void opens_answer_create(struct seat *seat, int device, const struct wire_in_header *header, struct node *node,
			 uint32_t flags, int file, struct wire_entry_out *entry, struct avc_event *event);
bool opens_has_room(void);

/* Publish the event of another change, for the event loop's seat. how: handle, flags, and attributes of the file before;
 * the rest is filled in. */
void opens_put_event(struct avc_event *event, enum avc_kind kind, const struct node *node,
		     const struct wire_in_header *header, struct avc_opened *how);

bool opens_answer_open(struct seat *seat, unsigned number, int device, const struct wire_in_header *header,
		       const unsigned char *body, size_t size);
/* Answer a RELEASE or a RELEASEDIR. */
bool opens_answer_release(struct seat *seat, unsigned number, int device, const struct wire_in_header *header,
			  const unsigned char *body, size_t size);

bool opens_answer_opendir(struct seat *seat, unsigned number, int device, const struct wire_in_header *header,
			  size_t size);

/* True for a RELEASE or RELEASEDIR of a handle that is in a slot now. */
bool opens_has(const unsigned char *body, size_t size);

/* True for a handle of an own node: no process has a lock on its file, since Python takes over the node of each request
 * for a lock. */
bool opens_have_no_lock(uint64_t fh);

bool opens_begin(void);
void opens_close(void);

/* _events.c. Under the lock of the seat. number: the number of the seat. */

/* Return a place for the event of an open by this process, with the executable filled in. Return NULL if there is no
 * place left, or if the path of the executable is too long. Then Python answers the open. */
struct avc_event *events_place(unsigned number, uint32_t pid);

/* Publish the event in that place. */
void events_put(unsigned number);

bool events_begin(void);
void events_close(void);

/* _tree.c. Under the lock of the seat. make, tree_open() and tree_idle(): for the event loop's seat only. */

/* Return an own node's rights for a uid, as bits of a grant. */
uint32_t tree_granted(const struct node *node, uint32_t uid);

/* Open the file of an own node by its name, and read its attributes. Return -1 also if the name leads to another file, or
 * if a lease must be broken. */
int tree_file(const struct node *node, int flags, struct statx *now);

/* The same for calls that need no open file: an open breaks another program's lease, and the close after it makes ext4
 * believe that an emptied file is written. link: gets the descriptor's link in /proc. */
#define LINK_SIZE 32
int tree_link(const struct node *node, char link[LINK_SIZE], struct statx *now);

/* Look a name up, count the look-up, and fill the reply. make: true if a new node may be made. absent: set if the store has no
 * such name. Return NULL if Python must answer, or if the name is absent. */
struct node *tree_look_up(uint64_t parent, uint32_t uid, const char *name, size_t size, bool make,
			  struct wire_entry_out *out, bool *absent);

/* Make the own node of a new file before the file gets this name. Return NULL if there is no room, or if another node may
 * have the inode's number. The look-ups say that the request *unique* makes the file, until it has a handle. */
struct node *tree_make(const struct raw *raw, uint64_t parent, const char *name, size_t size, const struct statx *made,
		       uint64_t unique);

bool tree_is_file(const struct statx *now, const struct node *node); /* the node's file, with one name */

/* Note that the kernel has these attributes of an own node. Only after CREATE and SETATTR it has those of the last reply for
 * sure: of two replies to GETATTR it may drop the later one. */
static inline void tree_told(struct node *node, const struct wire_attr *attr)
{
	atomic_store(&node->told_ns, wire_time_ns(attr->ctime, attr->ctimensec));
}

/* Return the own node with this name, which it still has, or NULL. */
struct node *tree_named(uint64_t parent, const char *name, size_t size);

/* Give an own node, whose file was renamed, its new name: see avc_rename_node(). */
void tree_moved(struct node *node, uint64_t parent, char *name, size_t size);

/* Take back look-ups, and remove the node if it has no more. */
void tree_unrefer(struct node *node, uint64_t lookups);
/* Open the file of a node, and register it with the kernel. attr: gets the file's attributes. Return false if Python must open
 * it. */
bool tree_open(struct node *node, int device, struct wire_attr *attr);
/* Release what a node without handles needs no more. */
static inline void tree_idle(struct node *node)
{
	tree_unrefer(node, 0);
}
/* The same for a removed file, with its backing id, which would keep its blocks in use. Another file may get its inode. */
void tree_removed(struct node *node);
void tree_tend(unsigned age, unsigned ages); /* the same for all nodes that were not opened for *ages*; with all locks */
void tree_begin(void);
void tree_close(void);

/* _saved_nodes.c. For the event loop only. Without memory that outlives the process, nothing is saved. */

/* Save a new node, with *last*, the number of the node made last. Return false if there is no room. */
bool saved_add(struct node *node, uint64_t lookups, uint64_t last);
void saved_set_backing(const struct node *node, int id);
void saved_drop(struct node *node);

/* Say to the next process which request removes the node's name; NULL: none any more. */
void saved_removes(const struct node *node, uint64_t unique);

/* Say to the next process which request gives the node a new name. Return false if there is no room. saved_stays() takes
 * it back. After the reply, saved_moved() is called with all locks. */
bool saved_moves(const struct node *node, uint64_t parent, const char *name, size_t size, uint64_t unique);
void saved_stays(void);
void saved_moved(struct node *node);

/* Let *adopt* make the nodes of the process before, which avc_read_own() has read. Return the number after which new nodes
 * are counted, so that none is used twice. last: the lowest such number. */
uint64_t saved_begin(uint64_t last, struct node *(*adopt)(const struct avc_own *));
void saved_close(void);

#endif
