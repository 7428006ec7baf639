/*
 * The queue of requests, sorted by the caller's uid. Each uid has a lane: its requests keep their order, and
 * a limited number of them is under way at once. All uids together have a limit, too: a uid has at most as
 * many under way as are left for all others, and a uid with none may always have one.
 *
 * Requests without a caller (RELEASE, FORGET, INIT) come first: they free resources, and later requests may
 * rely on them. But at the end of a process with thousands of open files, each answer to a RELEASE makes
 * the kernel send another. So between two of them a request of a uid goes on, if it came before the second
 * one. INVARIANT: no request passes a RELEASE or a FORGET that came before it.
 *
 * A uid has two lanes: one for requests about names and attributes, one for all others, which may take long.
 * While a request about a name, or a change of a directory itself (chmod, xattrs, fsync), waits, the kernel
 * holds the lock of the directory, and apps that look into that directory wait, too. So it must not wait for
 * its own uid's reads, copies and syncs of files.
 *
 * Read-ahead of a file that hangs waits here without an end, and the kernel has a limit of such requests. So if many
 * READs wait, one more of a uid that has many is refused: a page that was read ahead is asked for again when the app
 * needs it. WRITEs are never refused, since the pages of a mapping would be lost.
 *
 * Requests of different uids need no order: each caller waits for its answer.
 */

#include "_lanes.h"
#include "_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LANES 512	       /* two for each of 256 uids; further uids share lanes */
#define COUNT_MAX (2 * BACKGROUND_MAX) /* most requests that wait here; more wait in the kernel, in one queue */
#define BYTES_MAX (32u << 20)  /* most bytes of requests that wait here */
#define UNDER_WAY 4096	       /* slots of requests under way, a power of two */
#define PROBES 16
#define READS_SHARED 45000     /* READs that wait here before a uid may have only few of them */
#define READS_SURE 32	       /* the few that each lane may have in any case */

/* So a uid with few READs never meets the kernel's limit, however many wait for a file that hangs. */
_Static_assert(READS_SHARED + LANES * READS_SURE + UNDER_WAY <= BACKGROUND_MAX, "room for the reads of each lane");

struct waiting {
	struct waiting *next;
	uint64_t unique;
	uint64_t number; /* in the order of arrival */
	bool reads;	 /* a READ */
	size_t size;
	unsigned char data[];
};

struct lane {
	uint32_t uid;
	bool names; /* requests about names and attributes */
	unsigned int under_way;
	unsigned int reads; /* READs that wait */
	struct waiting *first, *last;
};

static struct {
	unsigned int most;   /* limit of one uid's requests under way */
	unsigned int room;   /* limit of all requests under way, besides one of each uid; 0: none */
	unsigned int begun;  /* requests under way now */
	unsigned int count;  /* waiting requests */
	unsigned int reads;  /* those of them that are READs */
	size_t bytes;
	unsigned int cursor; /* the lane that had the last turn */
	uint64_t arrived;    /* number of the last request that came */
	bool was_urgent;     /* the last request that went on */
	struct lane urgent, lanes[LANES];
	unsigned int used;   /* number of lanes that were used so far; these are the first ones */
	struct { uint64_t unique; uint16_t lane; } under_way[UNDER_WAY]; /* unique 0: free */
} queue;

void lanes_limit(unsigned int most, unsigned int room)
{
	queue.most = most;
	queue.room = room;
}

/* ---- The lane of a request ----------------------------------------------------------------------- */

static bool is_urgent(uint32_t opcode)
{
	return opcode == OPCODE_FORGET || opcode == OPCODE_BATCH_FORGET || opcode == OPCODE_RELEASE ||
	       opcode == OPCODE_RELEASEDIR || opcode == OPCODE_INIT || opcode == OPCODE_DESTROY;
}

static bool is_idle(const struct lane *lane)
{
	return lane->first == NULL && lane->under_way == 0;
}

/* Changes of files have the same opcodes as those of directories. They are quick, but for truncations. */
static bool is_about_names(const struct wire_in_header *header, const unsigned char *message, size_t size)
{
	uint32_t changed;

	switch (header->opcode) {
	case OPCODE_LOOKUP:
	case OPCODE_GETATTR:
	case OPCODE_SYMLINK:
	case OPCODE_MKNOD:
	case OPCODE_MKDIR:
	case OPCODE_UNLINK:
	case OPCODE_RMDIR:
	case OPCODE_RENAME:
	case OPCODE_LINK:
	case OPCODE_SETXATTR:
	case OPCODE_REMOVEXATTR:
	case OPCODE_OPENDIR:
	case OPCODE_READDIR:
	case OPCODE_FSYNCDIR:
	case OPCODE_ACCESS:
	case OPCODE_CREATE:
	case OPCODE_IOCTL:
	case OPCODE_READDIRPLUS:
	case OPCODE_RENAME2:
		return true;
	case OPCODE_SETATTR:
		if (size < sizeof(*header) + sizeof(changed))
			return false;
		memcpy(&changed, message + sizeof(*header), sizeof(changed));
		return (changed & ATTR_SIZE) == 0;
	default:
		return false;
	}
}

static struct lane *lane_of(const struct wire_in_header *header, const unsigned char *message, size_t size)
{
	bool names = is_about_names(header, message, size);
	uint32_t uid = header->uid;
	struct lane *idle = NULL;

	for (unsigned int i = 0; i < queue.used; i++) {
		if (queue.lanes[i].uid == uid && queue.lanes[i].names == names)
			return &queue.lanes[i];
		if (idle == NULL && is_idle(&queue.lanes[i]))
			idle = &queue.lanes[i];
	}
	if (idle == NULL && queue.used < LANES)
		idle = &queue.lanes[queue.used++];
	if (idle == NULL)
		return &queue.lanes[(2 * uid + names) % LANES];
	idle->uid = uid;
	idle->names = names;
	return idle;
}

/* The lane in which a request waits, or NULL. */
static struct lane *where_waits(uint64_t unique)
{
	for (unsigned int i = 0; i < queue.used; i++)
		for (struct waiting *one = queue.lanes[i].first; one != NULL; one = one->next)
			if (one->unique == unique)
				return &queue.lanes[i];
	return NULL;
}

static struct lane *lane_for(const unsigned char *message, size_t size)
{
	struct wire_in_header header;
	uint64_t target;
	struct lane *lane;

	if (size < sizeof(header))
		return &queue.urgent;
	memcpy(&header, message, sizeof(header));
	if (header.opcode == OPCODE_INTERRUPT && size >= sizeof(header) + sizeof(target)) {
		/* Never before the request that it interrupts. */
		memcpy(&target, message + sizeof(header), sizeof(target));
		lane = where_waits(target);
		return lane != NULL ? lane : &queue.urgent;
	}
	return is_urgent(header.opcode) ? &queue.urgent : lane_of(&header, message, size);
}

/* ---- Requests that wait -------------------------------------------------------------------------- */

static bool is_read(const unsigned char *message, size_t size)
{
	struct wire_in_header header;

	if (size < sizeof(header))
		return false;
	memcpy(&header, message, sizeof(header));
	return header.opcode == OPCODE_READ;
}

bool lanes_put(const unsigned char *message, size_t size)
{
	struct lane *lane = lane_for(message, size);
	bool reads = is_read(message, size);
	struct waiting *one;

	if (reads && queue.reads >= READS_SHARED && lane->reads >= READS_SURE)
		return false;
	one = malloc(sizeof(*one) + size);
	if (one == NULL)
		return false;
	one->next = NULL;
	one->reads = reads;
	one->number = ++queue.arrived;
	one->size = size;
	one->unique = size >= sizeof(struct wire_in_header)
			      ? ((const struct wire_in_header *)(const void *)message)->unique
			      : 0;
	memcpy(one->data, message, size);
	if (lane->first == NULL)
		lane->first = one;
	else
		lane->last->next = one;
	lane->last = one;
	lane->reads += reads;
	queue.reads += reads;
	queue.count++;
	queue.bytes += size;
	return true;
}

/* True if one more request of the lane may begin. */
static bool has_share(const struct lane *lane)
{
	if (lane->under_way >= queue.most)
		return false;
	return lane->under_way == 0 || queue.room == 0 || lane->under_way + queue.begun < queue.room;
}

bool lanes_admit(const unsigned char *message, size_t size)
{
	const struct lane *lane = lane_for(message, size);

	return lane == &queue.urgent || has_share(lane);
}

bool lanes_full(void)
{
	return queue.count >= COUNT_MAX || queue.bytes >= BYTES_MAX;
}

unsigned int lanes_waiting(void)
{
	return queue.count;
}

/* The uid's lane whose turn it is, or NULL. */
static struct lane *turn_of_uids(void)
{
	struct lane *any = NULL;

	for (unsigned int step = 1; step <= queue.used; step++) {
		struct lane *lane = &queue.lanes[(queue.cursor + step) % queue.used];

		if (lane->first == NULL)
			continue;
		if (has_share(lane))
			return lane;
		if (any == NULL)
			any = lane;
	}
	/* If the queue is full, a lane must go on although its share is used up. */
	return lanes_full() ? any : NULL;
}

struct lane *lanes_turn(void)
{
	struct lane *lane;

	if (queue.urgent.first != NULL && !queue.was_urgent)
		return &queue.urgent;
	lane = turn_of_uids();
	if (queue.urgent.first != NULL && (lane == NULL || queue.urgent.first->number < lane->first->number))
		return &queue.urgent;
	return lane;
}

ssize_t lanes_take(struct lane *lane, void *buffer, size_t size)
{
	struct waiting *one = lane->first;
	ssize_t got = (ssize_t)one->size;

	if (one->size > size) { /* cannot happen: the buffer has the same size every time */
		errno = EIO;
		return -1;
	}
	memcpy(buffer, one->data, one->size);
	lane->first = one->next;
	queue.was_urgent = lane == &queue.urgent;
	if (lane != &queue.urgent)
		queue.cursor = (unsigned int)(lane - queue.lanes);
	lane->reads -= one->reads;
	queue.reads -= one->reads;
	queue.count--;
	queue.bytes -= one->size;
	free(one);
	return got;
}

/* ---- Requests under way -------------------------------------------------------------------------- */

void lanes_begin(const unsigned char *message, size_t size)
{
	struct wire_in_header header;
	struct lane *lane;
	size_t slot;

	if (size < sizeof(header))
		return;
	memcpy(&header, message, sizeof(header));
	if (is_urgent(header.opcode) || header.opcode == OPCODE_INTERRUPT)
		return;
	lane = lane_of(&header, message, size);
	slot = (header.unique >> 1) % UNDER_WAY;
	for (int probe = 0; probe < PROBES; probe++, slot = (slot + 1) % UNDER_WAY) {
		if (queue.under_way[slot].unique != 0)
			continue;
		queue.under_way[slot].unique = header.unique;
		queue.under_way[slot].lane = (uint16_t)(lane - queue.lanes);
		lane->under_way++;
		queue.begun++;
		return;
	}
}

bool lanes_end(uint64_t unique)
{
	size_t slot = (unique >> 1) % UNDER_WAY;

	if (unique == 0) /* a notification */
		return false;
	for (int probe = 0; probe < PROBES; probe++, slot = (slot + 1) % UNDER_WAY) {
		if (queue.under_way[slot].unique != unique)
			continue;
		queue.under_way[slot].unique = 0;
		queue.lanes[queue.under_way[slot].lane].under_way--;
		queue.begun--;
		return true;
	}
	return false;
}

unsigned int lanes_under_way(void)
{
	return queue.begun;
}

static void empty_lane(struct lane *lane)
{
	while (lane->first != NULL) {
		struct waiting *one = lane->first;

		lane->first = one->next;
		free(one);
	}
}

void lanes_reset(void)
{
	empty_lane(&queue.urgent);
	for (unsigned int i = 0; i < queue.used; i++)
		empty_lane(&queue.lanes[i]);
	memset(&queue, 0, sizeof(queue));
}
