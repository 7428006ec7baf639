/*
 * The queue of requests, sorted by the caller's uid. Each uid has four lanes. The requests of a lane keep their order,
 * and a limited number of them is under way at once. All lanes together have a limit, too: a lane may have at most as
 * many requests under way as are left for all others. A lane with no request under way may always begin one.
 *
 * Requests without a caller (RELEASE, FORGET, INIT) come first: they free resources, and later requests may
 * rely on them. But at the end of a process with thousands of open files, each answer to a RELEASE makes
 * the kernel send another RELEASE. So between two requests without a caller, a request of a uid goes on, if
 * it came before the second of the two. INVARIANT: no request passes a RELEASE or a FORGET that came before it.
 *
 * The lanes of a uid: one for requests during which the kernel holds the lock of a directory, one for other requests
 * about names and attributes, one for pages that were changed through a mapping, one for all others, which may take
 * long. While a request under such a lock waits, apps that look into that directory wait, too. (The kernel also holds
 * the lock during a change of the directory itself: chmod, xattrs, fsync.) So these requests must not wait for reads,
 * copies and syncs of files, or for an OPENDIR that looks into each file of a directory, by the same uid.
 *
 * When the kernel writes changed pages back, it names no caller, and uses any handle that may write. So these writes
 * count as requests of the uid that opened this handle, in a lane of their own: another uid may have changed the page.
 *
 * Read-ahead of a file that hangs waits here without an end, and the kernel limits the number of such requests. So if
 * many READs wait, a further READ in a lane with many of them is refused. (The kernel asks again for a page that was
 * read ahead, when the app needs it.) All other requests for files that hang wait here, too. So a request is refused if
 * its lane has more requests or bytes than are left for all others. It is also refused if its lane has many bytes, and
 * none of the lane's requests goes on. (An app that writes to many files of a healthy store may fill its lane, too. Its
 * requests go on, so this second rule does not refuse them: a refused write is lost.) A refused WRITE loses only its
 * data here. The request goes on without the data, since Python must drop the pages that the kernel has filled with
 * this data (_operations.c). Pages written back are never refused, since they would be lost. The kernel bounds them by
 * its limit of dirty pages.
 *
 * Requests of different uids need no order: each caller waits for its answer.
 */

#include "wire/_request_kinds.h"
#include "wire/_wire.h"
#include "memory/_memory.h"
#include "memory/_uniques.h"
#include "queue/_lanes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES 512	       /* KINDS for each of 128 uids; further uids share lanes */
#define COUNT_SHARED (2 * BACKGROUND_MAX) /* once so many requests wait here, only empty lanes get another */
#define COUNT_MAX (4 * BACKGROUND_MAX) /* most requests that wait here; more wait in the kernel, in one queue */
#define BYTES_HANGING (128u << 20) /* bytes of large requests that may wait in a lane in which nothing goes on */
#define HANGS_MS 5000	       /* time after which a lane with more bytes counts as hanging, if nothing went on */
#define BYTES_HEAP (64u << 20) /* once so many bytes wait here, a request of at least LARGEST gets its own mapping */
#define LARGEST (512u << 10)   /* in bytes. Smaller requests get none: a process has 65,530 mappings at most */
#define LARGE 1024	       /* bytes above which a request is large: it has data, or a value */
#define UNDER_WAY 4096	       /* most requests under way: far more than the limits let begin */
#define READS_SHARED 45000     /* once so many READs wait here, a lane may have only few */
#define READS_SURE 32	       /* READs that each lane may have in any case */

/* So a lane with few READs never meets the kernel's limit, however many READs wait for a file that hangs. */
_Static_assert(READS_SHARED + LANES * READS_SURE + UNDER_WAY <= BACKGROUND_MAX, "room for the reads of each lane");

struct waiting {
	struct unique unique;
	struct waiting *next;
	struct lane *lane;
	uint64_t number; /* in the order of arrival */
	bool reads;	 /* a READ */
	bool mapped;	 /* not in the heap */
	size_t bytes;	 /* the size if the request counts as large, else 0 */
	size_t size;
	unsigned char data[];
};

struct begun {
	struct unique unique;
	struct lane *lane;
};

struct lane {
	uint32_t uid;
	enum kind kind;
	unsigned int under_way;
	unsigned int count; /* requests that wait */
	unsigned int reads; /* READs that wait */
	size_t bytes;	    /* of large requests that wait, without pages written back */
	int64_t crowded_ms; /* start of the time with more than BYTES_HANGING and no request that went on; 0: none */
	struct waiting *first, *last;
};

static struct {
	unsigned int most;   /* limit of one lane's requests under way */
	unsigned int room;   /* limit of all requests under way (see lanes_limit); 0: no limit */
	size_t most_bytes;   /* limit of `bytes` below */
	unsigned int begun;  /* requests under way now */
	unsigned int count;  /* waiting requests */
	unsigned int reads;  /* waiting READs */
	size_t bytes;	     /* of large requests that wait, without pages written back */
	unsigned int cursor; /* the lane that had the last turn */
	uint64_t arrived;    /* number of the last request that came */
	bool was_urgent;     /* the last request that went on was urgent */
	struct lane urgent, lanes[LANES];
	unsigned int used;   /* number of lanes that were used so far: the first ones of the array */
	struct uniques waiting, under_way;
	struct begun slots[UNDER_WAY];
	struct unique *free; /* free slots that were used before */
	unsigned int slots_used;
} queue;

void lanes_limit(unsigned int most, unsigned int room, size_t bytes)
{
	queue.most = most;
	queue.room = room;
	queue.most_bytes = bytes;
}

/* ---- The lane of a request ----------------------------------------------------------------------- */

static bool is_idle(const struct lane *lane)
{
	return lane->first == NULL && lane->under_way == 0;
}

static struct lane *lane_of(const struct wire_in_header *header, const unsigned char *message, size_t size)
{
	enum kind kind = kind_of(header, message, size);
	uint32_t uid = uid_of(header, message, size);
	struct lane *idle = NULL;

	for (unsigned int i = 0; i < queue.used; i++) {
		if (queue.lanes[i].uid == uid && queue.lanes[i].kind == kind)
			return &queue.lanes[i];
		if (idle == NULL && is_idle(&queue.lanes[i]))
			idle = &queue.lanes[i];
	}
	if (idle == NULL && queue.used < LANES)
		idle = &queue.lanes[queue.used++];
	if (idle == NULL)
		return &queue.lanes[(KINDS * uid + kind) % LANES];
	idle->uid = uid;
	idle->kind = kind;
	return idle;
}

static struct lane *lane_for(const unsigned char *message, size_t size)
{
	struct wire_in_header header;
	const struct unique *waits;
	uint64_t target;

	if (size < sizeof(header))
		return &queue.urgent;
	memcpy(&header, message, sizeof(header));
	if (header.opcode == OPCODE_INTERRUPT && size >= sizeof(header) + sizeof(target)) {
		/* An INTERRUPT never goes on before the request that it interrupts. */
		memcpy(&target, message + sizeof(header), sizeof(target));
		waits = uniques_find(&queue.waiting, target);
		return waits != NULL ? ((const struct waiting *)(const void *)waits)->lane : &queue.urgent;
	}
	return is_urgent(header.opcode) ? &queue.urgent : lane_of(&header, message, size);
}

/* ---- Requests that wait -------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* True if a lane may have this number of bytes. HANGS_MS counts from the first request beyond BYTES_HANGING, not from
 * the last request that went on. After a call that held up the event loop itself, many requests are read before one
 * goes on. */
static bool may_have(struct lane *lane, size_t bytes)
{
	size_t left = queue.bytes < queue.most_bytes ? queue.most_bytes - queue.bytes : 0;

	if (bytes > left)
		return false;
	if (bytes <= BYTES_HANGING)
		return true;
	if (lane->crowded_ms == 0)
		lane->crowded_ms = now_ms();
	return now_ms() - lane->crowded_ms < HANGS_MS;
}

/* True if a lane may have one more request of this size. An empty lane may have one request in any case. */
static bool has_room(struct lane *lane, size_t size)
{
	size_t count = queue.count < COUNT_SHARED ? COUNT_SHARED - queue.count : 0;

	return lane->first == NULL || (lane->count < count && (size <= LARGE || may_have(lane, lane->bytes + size)));
}

static bool is_refusable(const struct wire_in_header *header, const unsigned char *message, size_t size)
{
	return size >= sizeof(*header) && !is_urgent(header->opcode) && header->opcode != OPCODE_INTERRUPT &&
	       kind_of(header, message, size) != WRITE_BACK;
}

static void free_waiting(struct waiting *one)
{
	memory_free(one, sizeof(*one) + one->size, one->mapped);
}

static void append(struct lane *lane, struct waiting *one)
{
	one->next = NULL;
	one->lane = lane;
	one->number = ++queue.arrived;
	if (lane->first == NULL)
		lane->first = one;
	else
		lane->last->next = one;
	lane->last = one;
	lane->count++;
	lane->reads += one->reads;
	lane->bytes += one->bytes;
	queue.count++;
	queue.reads += one->reads;
	queue.bytes += one->bytes;
}

bool lanes_put(const unsigned char *message, size_t size)
{
	struct lane *lane = lane_for(message, size);
	struct wire_in_header header = {0};
	struct waiting *one;
	bool reads, counts, mapped;

	memcpy(&header, message, size < sizeof(header) ? size : sizeof(header));
	reads = header.opcode == OPCODE_READ;
	counts = is_refusable(&header, message, size);
	if (reads && queue.reads >= READS_SHARED && lane->reads >= READS_SURE)
		return false;
	if (counts && !has_room(lane, size)) {
		if (header.opcode != OPCODE_WRITE || size <= REFUSED_SIZE)
			return false;
		size = REFUSED_SIZE;
		lane = lane_for(message, size);
	}
	mapped = counts && size >= LARGEST && queue.bytes >= BYTES_HEAP;
	one = memory_new(sizeof(*one) + size, mapped);
	if (one == NULL)
		return false;
	one->reads = reads;
	one->mapped = mapped;
	one->size = size;
	one->bytes = counts && size > LARGE ? size : 0;
	memcpy(one->data, message, size);
	uniques_add(&queue.waiting, &one->unique, header.unique);
	append(lane, one);
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
	return queue.count >= COUNT_MAX;
}

unsigned int lanes_waiting(void)
{
	return queue.count;
}

/* Return the lane of a uid whose first request goes on next, or NULL. INVARIANT: no lane has more requests under way
 * than its limit, however many wait. */
static struct lane *turn_of_uids(void)
{
	for (unsigned int step = 1; step <= queue.used; step++) {
		struct lane *lane = &queue.lanes[(queue.cursor + step) % queue.used];

		if (lane->first != NULL && has_share(lane))
			return lane;
	}
	return NULL;
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
	lane->crowded_ms = 0;
	queue.was_urgent = lane == &queue.urgent;
	if (lane != &queue.urgent)
		queue.cursor = (unsigned int)(lane - queue.lanes);
	lane->count--;
	lane->reads -= one->reads;
	lane->bytes -= one->bytes;
	queue.count--;
	queue.reads -= one->reads;
	queue.bytes -= one->bytes;
	uniques_remove(&queue.waiting, &one->unique);
	free_waiting(one);
	return got;
}

/* ---- Requests under way -------------------------------------------------------------------------- */

/* A free slot; NULL if there is none. */
static struct begun *new_slot(void)
{
	struct unique *slot = queue.free;

	if (slot == NULL)
		return queue.slots_used < UNDER_WAY ? &queue.slots[queue.slots_used++] : NULL;
	queue.free = slot->next;
	return (struct begun *)(void *)slot;
}

void lanes_begin(const unsigned char *message, size_t size)
{
	struct wire_in_header header;
	struct begun *slot;

	if (size < sizeof(header))
		return;
	memcpy(&header, message, sizeof(header));
	if (is_urgent(header.opcode) || header.opcode == OPCODE_INTERRUPT)
		return;
	slot = new_slot();
	if (slot == NULL)
		return;
	slot->lane = lane_of(&header, message, size);
	slot->lane->under_way++;
	uniques_add(&queue.under_way, &slot->unique, header.unique);
	queue.begun++;
}

bool lanes_end(uint64_t unique)
{
	struct unique *ended = uniques_take(&queue.under_way, unique);

	if (ended == NULL) /* a RELEASE, or a notification */
		return false;
	((struct begun *)(void *)ended)->lane->under_way--;
	ended->next = queue.free;
	queue.free = ended;
	queue.begun--;
	return true;
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
		free_waiting(one);
	}
}

void lanes_reset(void)
{
	empty_lane(&queue.urgent);
	for (unsigned int i = 0; i < queue.used; i++)
		empty_lane(&queue.lanes[i]);
	memset(&queue, 0, sizeof(queue));
}
