/*
 * The opens of the access vector cache: OPEN, if the kernel has a backing file; the handles of new files
 * (_changes.c); OPENDIR, if the kernel may use the listing that it keeps; RELEASE and RELEASEDIR of such handles. A
 * handle that was given out here has a slot until its release, or until Python takes it over. From then on Python
 * answers the requests of the handle.
 * Slots (docs/architecture/vectors.md): each seat has slots of its own. Only this seat takes its slots, under its lock.
 * The seat that answers the RELEASE frees the slot. The event loop, which then holds all locks, may free any slot.
 * INVARIANT: a slot is taken before the kernel gets the handle. A file with slots has a backing id.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLOT_BITS 16
#define SERIAL_BITS 39

/* Bits of a handle's number. Handles of bridge.pack_fh have bit 55 only together with bit 63. From bit 56 on there are
 * FOPEN_* flags, where _operations.c looks for FOPEN_NOFLUSH. */
#define FH_OURS ((uint64_t)1 << 55)
/* In the number of a slot: Python has taken the handle over, and has not saved it yet. No handle's number has it. */
#define FH_TAKEN ((uint64_t)1 << 63)

#define FOPEN_KEPT_LISTING ((1u << 1) | (1u << 3)) /* FOPEN_KEEP_CACHE and FOPEN_CACHE_DIR */

#define WRITERS ((uint32_t)(O_ACCMODE | O_APPEND | O_TRUNC)) /* of handles that may write */
#define OPEN_KILL_SUIDGID 1u /* FUSE_OPEN_KILL_SUIDGID, with O_TRUNC */
#define FLAG_LARGE_FILE 0100000u /* O_LARGEFILE, which glibc defines as 0 where all files may be large */

struct slot {
	_Atomic uint64_t fh; /* 0: free */
	int file; /* of a writer: a descriptor that may write; owned. -1: none. Python knows the places of these two */
	uint64_t serial;
	struct avc_opened opened;
};

_Static_assert(AVC_SLOTS <= 1 << SLOT_BITS, "slots have a number in the handle");

static struct {
	struct slot *slots; /* AVC_SLOTS: those of each reader, then the event loop's */
	bool outlive;	    /* the slots are in memory that outlives this process (avc_save_opens) */
	unsigned next[AVC_SEATS];
	unsigned writers, most_writers; /* handles that may write, each with a descriptor */
} opens;
static void *outliving; /* the memory for the slots of the next avc_open() */

/* ---- Answering ----------------------------------------------------------------------------------- */

static struct slot *slot_of(uint64_t fh)
{
	size_t number = fh & ((1u << SLOT_BITS) - 1);

	return opens.slots != NULL && fh & FH_OURS && number < AVC_SLOTS ? &opens.slots[number] : NULL;
}

/* Return the first slot of a seat, and their number. */
static struct slot *slots_of(unsigned seat, unsigned *count)
{
	const unsigned first = (seat == 0 ? AVC_SEATS - 1 : seat - 1) * AVC_READER_SLOTS;

	*count = seat == 0 ? AVC_SLOTS - first : AVC_READER_SLOTS;
	return opens.slots + first;
}

/* Return a free slot of the seat, or NULL if the seat has none. */
static struct slot *free_slot(unsigned seat)
{
	unsigned count;
	struct slot *slots = slots_of(seat, &count);

	for (unsigned step = 0; step < count; step++) {
		struct slot *slot = &slots[opens.next[seat]++ % count];

		if (atomic_load_explicit(&slot->fh, memory_order_acquire) == 0)
			return slot;
	}
	return NULL;
}

static uint64_t next_fh(struct slot *slot, uint32_t flags)
{
	uint64_t serial = ++slot->serial & (((uint64_t)1 << SERIAL_BITS) - 1);

	return (uint64_t)flags << FH_FLAGS_SHIFT | FH_OURS | serial << SLOT_BITS |
	       (uint64_t)(slot - opens.slots);
}

static bool writes(uint32_t flags)
{
	return (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
}

static const struct grant *grant_for(const struct node *node, const struct wire_in_header *header, uint32_t bit)
{
	for (int i = 0; node != NULL && i < GRANTS; i++) {
		const struct grant *grant = &node->grants[i];

		if (grant->bits & bit && grant->uid == header->uid)
			return grant->gid == header->gid ? grant : NULL;
	}
	return NULL;
}

/* Return the rights by which this open is allowed, or 0. */
static uint32_t bits_of(const struct node *node, const struct wire_in_header *header, const struct wire_open_in *in)
{
	const struct grant *grant;

	if (node == NULL || in->open_flags & ~(writes(in->flags) ? OPEN_KILL_SUIDGID : 0))
		return 0;
	if (node->own) {
		uint32_t bits = tree_granted(node, header->uid), flags = in->flags & ~(AVC_HARMLESS | FLAG_LARGE_FILE);

		if (flags == O_RDONLY)
			return bits & AVC_OPEN ? bits & ~AVC_CHANGES_RECORDED : 0;
		if (!writes(flags) || flags & ~WRITERS || !(bits & AVC_WRITE))
			return 0;
		return bits & AVC_CHANGES_RECORDED ? bits | AVC_RECORDED : bits & ~AVC_RECORDED;
	}
	grant = grant_for(node, header, AVC_OPEN);
	return grant != NULL && node->backing_id != 0 && grant->flags == (in->flags & ~AVC_HARMLESS) ? grant->bits : 0;
}

/* Return false if the backing file is a copy, and the file in the store now has another version than the copy. */
static bool is_current(const struct node *node, const struct wire_attr *now)
{
	const struct avc_version *shown = &node->version;

	return !node->of_version ||
	       (shown->size == now->size && shown->mtime_ns == wire_time_ns(now->mtime, now->mtimensec) &&
		shown->ctime_ns == wire_time_ns(now->ctime, now->ctimensec));
}

static void fill(struct avc_event *event, enum avc_kind kind, const struct node *node, const struct avc_opened *opened)
{
	event->kind = kind;
	event->fh = opened->fh;
	event->node = opened->node;
	event->uid = opened->uid;
	event->gid = opened->gid;
	event->flags = opened->flags;
	event->size = opened->attr.size;
	event->mtime_ns = wire_time_ns(opened->attr.mtime, opened->attr.mtimensec);
	event->parent = node->own ? node->parent : 0;
	event->name_size = node->own ? node->name_size : 0;
	memcpy(event->name, node->name, event->name_size);
}

void opens_put_event(struct avc_event *event, enum avc_kind kind, const struct node *node,
		     const struct wire_in_header *header, struct avc_opened *how)
{
	how->node = node->id;
	how->uid = header->uid;
	how->gid = header->gid;
	fill(event, kind, node, how);
	events_put(0);
}

static bool may_write(const struct slot *slot)
{
	return writes(slot->opened.flags);
}

/* Take the slot, which already has flags and attributes, for a new handle. event: NULL, or its place. */
static void take_slot(unsigned number, const struct wire_in_header *header, struct node *node, struct slot *slot,
		      uint64_t fh, enum avc_kind kind, struct avc_event *event)
{
	slot->opened.fh = fh;
	slot->opened.node = node->id;
	slot->opened.uid = header->uid;
	slot->opened.gid = header->gid;
	slot->opened.pid = header->pid;
	slot->opened.unique = header->unique;
	if (event != NULL) {
		fill(event, kind, node, &slot->opened);
		events_put(number); /* INVARIANT: before the reply. The event stays if the kernel refuses the reply */
	}
	atomic_store_explicit(&node->used, atomic_load_explicit(&avc_age, memory_order_relaxed), memory_order_relaxed);
	atomic_fetch_add_explicit(&node->handles, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&node->writers, may_write(slot), memory_order_relaxed);
	if (slot->file >= 0) /* the event loop's */
		opens.writers++;
	if (atomic_load_explicit(&node->opened, memory_order_relaxed) < 2)
		atomic_fetch_add_explicit(&node->opened, 1, memory_order_relaxed);
	atomic_store_explicit(&slot->fh, fh, memory_order_release);
}

/* Free the slot of a handle. Return true if the node has no other. */
static bool free_handle(struct node *node, struct slot *slot)
{
	atomic_fetch_sub_explicit(&node->writers, may_write(slot), memory_order_relaxed);
	atomic_store_explicit(&slot->fh, 0, memory_order_release); /* INVARIANT: before the number is another file's */
	if (slot->file >= 0) {
		opens.writers--;
		close(slot->file);
	}
	slot->file = -1;
	return atomic_fetch_sub_explicit(&node->handles, 1, memory_order_relaxed) == 1;
}

/* Answer with a new handle. The slot already has flags and attributes. file: a writer's, which belongs to the handle from
 * now on; else -1. Return false if the event has no place, or if the file cannot be emptied. */
static bool give(struct seat *seat, unsigned number, int device, const struct wire_in_header *header, struct node *node,
		 uint32_t bits, struct slot *slot, int file, struct wire_open_out *out)
{
	struct avc_event *event = NULL;

	if (bits & AVC_RECORDED && (event = events_place(number, header->pid)) == NULL)
		return false;
	/* INVARIANT: last, and no other descriptor is closed after it (Opener._close_found). */
	if (file >= 0 && slot->opened.flags & O_TRUNC && ftruncate(file, 0) != 0)
		return false;
	slot->file = file;
	take_slot(number, header, node, slot, out->fh, file >= 0 ? AVC_WRITTEN : AVC_OPENED, event);
	if (file >= 0 && node->kept_ms != 0)
		avc_forget_attributes(device, node->id);
	/* Before the reply, so that its caller finds it in the counts. */
	atomic_fetch_add_explicit(node->format == S_IFDIR ? &seat->opendirs : &seat->opens, 1, memory_order_relaxed);
	if (!avc_reply(seat, device, header->unique, 0, out, sizeof(*out)))
		free_handle(node, slot);
	return true;
}

bool opens_answer_open(struct seat *seat, unsigned number, int device, const struct wire_in_header *header,
		       const unsigned char *body, size_t size)
{
	struct node *node = avc_find(header->nodeid);
	struct wire_open_out out = {.open_flags = FOPEN_PASSTHROUGH_FLAG};
	struct wire_open_in in;
	struct slot *slot;
	uint32_t bits;
	bool given, first, is_writer;
	int file = -1;

	if (size != sizeof(in))
		return false;
	memcpy(&in, body, sizeof(in));
	is_writer = writes(in.flags);
	if ((bits = bits_of(node, header, &in)) == 0 || (number != 0 && (is_writer || node->backing_id == 0)) ||
	    (is_writer && opens.writers >= opens.most_writers) || (slot = free_slot(number)) == NULL)
		return false;
	/* One statx(2): of the name, or of the file that is opened by it. */
	first = node->backing_id == 0;
	if (first ? !tree_open(node, device, &slot->opened.attr) :
		    !is_writer && (!avc_ask_store(node, false, &slot->opened.attr) || !is_current(node, &slot->opened.attr)))
		return false;
	out.fh = next_fh(slot, FOPEN_NOFLUSH_FLAG);
	out.backing_id = node->backing_id;
	if (!avc_hears_close(is_writer))
		out.open_flags |= FOPEN_NOFLUSH_FLAG;
	slot->opened.flags = in.flags;
	if (is_writer)
		file = writers_open(node, header->uid, in.flags & O_TRUNC, &slot->opened.attr);
	given = (!is_writer || file >= 0) && give(seat, number, device, header, node, bits, slot, file, &out);
	if (!given && file >= 0)
		close(file);
	if (first || is_writer)
		atomic_fetch_add_explicit(&seat->firsts, given, memory_order_relaxed);
	if (first && atomic_load_explicit(&node->handles, memory_order_relaxed) == 0)
		tree_idle(node); /* the open was not given, or the kernel did not take it */
	return given;
}

/* At the first READDIR of the handle, Python takes the handle over. The flags of open(2) make no difference. */
bool opens_answer_opendir(struct seat *seat, unsigned number, int device, const struct wire_in_header *header,
			  size_t size)
{
	struct node *node = avc_find(header->nodeid);
	const struct grant *grant = grant_for(node, header, AVC_LIST);
	struct wire_open_out out = {.open_flags = FOPEN_KEPT_LISTING};
	struct slot *slot;

	if (grant == NULL || size != sizeof(struct wire_open_in) || (slot = free_slot(number)) == NULL ||
	    !avc_ask_store(node, false, &slot->opened.attr))
		return false;
	out.fh = next_fh(slot, out.open_flags);
	slot->opened.flags = 0;
	return give(seat, number, device, header, node, grant->bits, slot, -1, &out);
}

bool opens_has_room(void)
{
	return opens.writers < opens.most_writers && free_slot(0) != NULL;
}

void opens_answer_create(struct seat *seat, int device, const struct wire_in_header *header, struct node *node,
			 uint32_t flags, int file, struct wire_entry_out *entry, struct avc_event *event)
{
	struct slot *slot = free_slot(0);
	struct {
		struct wire_entry_out entry;
		struct wire_open_out open;
	} out = {*entry, {.open_flags = FOPEN_PASSTHROUGH_FLAG | FOPEN_NOFLUSH_FLAG, .backing_id = node->backing_id}};

	out.open.fh = next_fh(slot, FOPEN_NOFLUSH_FLAG);
	if (avc_hears_close(true))
		out.open.open_flags &= ~FOPEN_NOFLUSH_FLAG;
	slot->file = file;
	slot->opened.flags = flags;
	slot->opened.attr = entry->attr;
	take_slot(0, header, node, slot, out.open.fh, AVC_MADE, event);
	/* INVARIANT: last: until here the look-ups tell the next process that the file is made. */
	atomic_store(&node->count->lookups, 1);
	if (!avc_reply(seat, device, header->unique, 0, &out, sizeof(out))) {
		free_handle(node, slot);
		tree_unrefer(node, 1);
	}
}

/* Put the end of a handle that may write on record. Return false if Python must do so. */
static bool end_writer(unsigned number, const struct node *node, const struct slot *slot)
{
	struct avc_event *event;
	struct wire_attr now;

	if (number != 0 || !(tree_granted(node, slot->opened.uid) & AVC_CHANGE) ||
	    !avc_ask_store(node, false, &now) || (event = events_place(0, 0)) == NULL)
		return false;
	fill(event, AVC_RELEASED, node, &slot->opened);
	event->pid = slot->opened.pid;
	event->size_after = now.size;
	event->mtime_after_ns = wire_time_ns(now.mtime, now.mtimensec);
	events_put(0);
	return true;
}

static bool read_release(const unsigned char *body, size_t size, struct wire_release_in *in)
{
	if (size != sizeof(*in))
		return false;
	memcpy(in, body, sizeof(*in));
	return in->release_flags == 0 && in->fh & FH_OURS;
}

bool opens_has(const unsigned char *body, size_t size)
{
	struct wire_release_in in;
	struct slot *slot;

	return read_release(body, size, &in) && (slot = slot_of(in.fh)) != NULL &&
	       atomic_load_explicit(&slot->fh, memory_order_relaxed) == in.fh;
}

bool opens_answer_release(struct seat *seat, unsigned number, int device, const struct wire_in_header *header,
			  const unsigned char *body, size_t size)
{
	struct node *node = avc_find(header->nodeid);
	struct wire_release_in in;
	struct slot *slot;
	bool is_last;

	if (node == NULL || !read_release(body, size, &in) || (slot = slot_of(in.fh)) == NULL ||
	    atomic_load_explicit(&slot->fh, memory_order_acquire) != in.fh ||
	    (may_write(slot) && !end_writer(number, node, slot)))
		return false;
	is_last = free_handle(node, slot); /* only one RELEASE has this number, and the event loop waits for this seat's lock */
	avc_reply(seat, device, header->unique, 0, NULL, 0);
	if (is_last && node->own && number == 0) {
		atomic_fetch_add_explicit(&seat->firsts, atomic_load(&node->opened) < 2, memory_order_relaxed);
		tree_idle(node);
	}
	atomic_fetch_add_explicit(header->opcode == OPCODE_RELEASEDIR ? &seat->releasedirs : &seat->releases, 1,
				  memory_order_relaxed);
	return true;
}

/* ---- Changing: the event loop only, with all locks ---------------------------------------------- */

static void take(struct slot *slot, avc_take taken, void *context)
{
	struct node *node = avc_find(slot->opened.node);

	if (node != NULL) {
		atomic_fetch_sub_explicit(&node->handles, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&node->writers, may_write(slot), memory_order_relaxed);
	}
	opens.writers -= slot->file >= 0;
	taken(context, &slot->opened, slot->file);
	atomic_store(&slot->fh, opens.outlive ? slot->opened.fh | FH_TAKEN : 0);
}

static bool is_held(const struct slot *slot)
{
	uint64_t fh = atomic_load_explicit(&slot->fh, memory_order_relaxed);

	return fh != 0 && !(fh & FH_TAKEN);
}

/* True for a handle of a directory: opens of files have no such flags. */
static bool lists(const struct slot *slot)
{
	return slot->opened.fh >> FH_FLAGS_SHIFT & FOPEN_KEPT_LISTING;
}

static void take_those(bool (*mine)(const struct slot *, uint64_t), uint64_t value, avc_take taken, void *context)
{
	for (size_t i = 0; opens.slots != NULL && i < AVC_SLOTS; i++)
		if (is_held(&opens.slots[i]) && mine(&opens.slots[i], value))
			take(&opens.slots[i], taken, context);
}

static bool is_any(const struct slot *slot, uint64_t unused)
{
	return (void)slot, (void)unused, true;
}

static bool is_of_node(const struct slot *slot, uint64_t id)
{
	return slot->opened.node == id;
}

/* True if a seat has given away half of its slots: Python counts handles by app, and has room for more. */
static bool is_crowded(void)
{
	for (unsigned seat = 0; seat < AVC_SEATS; seat++) {
		unsigned count, held = 0;
		const struct slot *slots = slots_of(seat, &count);

		for (unsigned i = 0; i < count; i++)
			held += is_held(&slots[i]);
		if (held > count / 2)
			return true;
	}
	return opens.writers > opens.most_writers / 2;
}

static void end_node(struct node *node, void *unused)
{
	(void)unused;
	if (node->own) /* see directories_end_opens() */
		return;
	for (int i = 0; i < GRANTS; i++)
		node->grants[i].bits &= ~(AVC_OPEN | AVC_LIST | AVC_RECORDED);
	node->backing_id = 0;
}

void avc_take_handle(uint64_t fh, avc_take taken, void *context)
{
	struct slot *slot = slot_of(fh);

	if (slot == NULL)
		return;
	avc_lock_all();
	if (atomic_load(&slot->fh) == fh)
		take(slot, taken, context);
	avc_unlock_all();
}

int avc_writer_file(uint64_t fh)
{
	const struct slot *slot = slot_of(fh);
	int file = -1;

	if (slot == NULL)
		return -1;
	avc_lock_all();
	if (atomic_load(&slot->fh) == fh && slot->file >= 0)
		file = fcntl(slot->file, F_DUPFD_CLOEXEC, 3);
	avc_unlock_all();
	return file;
}

bool opens_have_no_lock(uint64_t fh)
{
	const struct slot *slot = slot_of(fh);
	const struct node *node = slot != NULL && atomic_load(&slot->fh) == fh ? avc_find(slot->opened.node) : NULL;

	return node != NULL && node->own;
}

void avc_take_handles(uint64_t id, bool ending, avc_take taken, void *context)
{
	struct node *node = avc_is_open() ? avc_find(id) : NULL;

	if (node == NULL)
		return;
	avc_lock_all();
	if (atomic_load(&node->handles) > 0)
		take_those(is_of_node, id, taken, context);
	if (ending)
		end_node(node, NULL);
	avc_unlock_all();
}

void avc_take_all_handles(bool ending, avc_take taken, void *context)
{
	if (!avc_is_open())
		return;
	avc_lock_all();
	take_those(is_any, 0, taken, context);
	if (ending) {
		avc_each_node(end_node, NULL);
		directories_end_opens();
	}
	avc_unlock_all();
}

struct late {
	avc_unused unused;
	void *context;
	unsigned age, ages;
};

static void tell_if_unused(struct node *node, void *context)
{
	const struct late *late = context;

	if (node->backing_id != 0 && !node->own && late->age - atomic_load_explicit(&node->used, memory_order_relaxed) >= late->ages)
		late->unused(late->context, node->id);
}

void avc_age_opens(unsigned ages, avc_take taken, avc_unused unused, void *context)
{
	struct late late = {unused, context, 0, ages};

	if (!avc_is_open())
		return;
	avc_lock_all();
	late.age = atomic_fetch_add(&avc_age, 1) + 1;
	tree_tend(late.age, ages); /* INVARIANT: before Python gets handles, whose nodes it then takes over with their backing ids */
	if (is_crowded())
		take_those(is_any, 0, taken, context);
	avc_each_node(tell_if_unused, &late);
	avc_unlock_all();
}

void avc_free_taken(uint64_t fh)
{
	struct slot *slot = slot_of(fh);
	uint64_t taken = fh | FH_TAKEN;

	if (slot != NULL)
		atomic_compare_exchange_strong(&slot->fh, &taken, 0);
}

/* ---- The memory of the slots --------------------------------------------------------------------- */

size_t avc_opens_size(void)
{
	return AVC_SLOTS * sizeof(struct slot);
}

void avc_save_opens(void *memory)
{
	outliving = memory;
}

void avc_read_opens(const void *memory, avc_take found, void *context)
{
	const struct slot *slots = memory;

	for (size_t i = 0; i < AVC_SLOTS; i++) {
		uint64_t fh = atomic_load(&slots[i].fh) & ~FH_TAKEN;

		if (fh & FH_OURS && (fh & ((1u << SLOT_BITS) - 1)) == i && slots[i].opened.fh == fh)
			found(context, &slots[i].opened, slots[i].file);
	}
}

/* INVARIANT: the serial numbers go on, so that no number of a handle is used twice. */
bool opens_begin(void)
{
	struct rlimit descriptors = {0};

	opens.outlive = outliving != NULL;
	opens.slots = opens.outlive ? outliving : calloc(AVC_SLOTS, sizeof(*opens.slots));
	outliving = NULL;
	getrlimit(RLIMIT_NOFILE, &descriptors);
	opens.most_writers = (unsigned)(descriptors.rlim_cur / 16 < AVC_SLOTS ? descriptors.rlim_cur / 16 : AVC_SLOTS);
	for (size_t i = 0; opens.outlive && i < AVC_SLOTS; i++)
		if (atomic_load(&opens.slots[i].fh) != 0)
			atomic_store(&opens.slots[i].fh, 0);
	return opens.slots != NULL;
}

void opens_close(void)
{
	if (!opens.outlive)
		free(opens.slots);
	memset(&opens, 0, sizeof(opens));
}

unsigned avc_count_handles(unsigned *directories)
{
	unsigned count = 0;

	*directories = 0;
	for (size_t i = 0; opens.slots != NULL && i < AVC_SLOTS; i++) {
		const bool held = is_held(&opens.slots[i]);

		*directories += held && lists(&opens.slots[i]);
		count += held && !lists(&opens.slots[i]);
	}
	return count;
}
