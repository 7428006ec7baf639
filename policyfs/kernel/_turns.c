/*
 * Users take turns. The kernel queues the requests of all in one line, so that an app with many
 * processes would make every other wait for all of them. Here the line is read ahead, sorted by
 * the caller's uid, and passed on in turns. Each uid has a limit of requests under way
 * at once, so that slow requests (a slow disk, a lease) do not use up shared resources. Many users
 * together have a limit, too: none has more under way than are left for all others, and a user with
 * none may always have one.
 *
 * Requests without a caller (RELEASE, FORGET, INIT) come first: they free resources, cannot flood
 * without requests of another kind, and later ones may rely on them. Within one uid the order stays.
 * Requests of different uids have no order to keep: each waits for its answer.
 *
 * Repeats that the access vector cache answers (_avc.c) take no turn: an answer costs little more than
 * to read the request and to put it into a lane. The event loop reads the device, or the readers do
 * (_readers.c).
 *
 * INVARIANT: one lock is held from the read of a request to its place in a lane, so that two readers never
 * change the order in which the kernel sent them. Only a request that the cache might have answered comes
 * later: a look-up or an open, which nobody waits for but its own caller, or a RELEASE of a handle that
 * Python did not know when it was read. So no request but its OPEN ever named that handle: it has no lock.
 */

#include "_avc.h"
#include "_bridge.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define OPCODE_FORGET 2
#define OPCODE_RELEASE 18
#define OPCODE_INIT 26
#define OPCODE_RELEASEDIR 29
#define OPCODE_INTERRUPT 36
#define OPCODE_DESTROY 38
#define OPCODE_BATCH_FORGET 42

#define LANES 256	       /* uids with a lane of their own; further uids share lanes */
#define COUNT_MAX 16384	       /* requests that wait here; more wait in the kernel, in one line */
#define BYTES_MAX (32u << 20)  /* likewise, in bytes */
#define UNDER_WAY 4096	       /* slots of requests under way, a power of two */
#define PROBES 16
#define ANSWERS_MAX 64	       /* repeats answered in a row by the event loop, which has other work, too */

struct waiting {
	struct waiting *next;
	uint64_t unique;
	size_t size;
	unsigned char data[];
};

struct lane {
	uint32_t uid;
	unsigned int under_way;
	struct waiting *first, *last;
};

static struct {
	bool on;
	int eventfd;	     /* readable while a request can be passed on; made once, -1 before */
	bool told;	     /* the eventfd is readable */
	unsigned int most;   /* limit of one uid's requests under way */
	unsigned int room;   /* limit of all requests under way, beside one of each uid; 0: none */
	unsigned int begun;  /* requests under way now */
	unsigned int count;  /* waiting requests */
	size_t bytes;
	unsigned int cursor; /* the lane that had the last turn */
	struct lane urgent, lanes[LANES];
	unsigned int used;   /* lanes used so far, the first ones */
	unsigned char *spare; /* buffer for a request that has no place yet */
	size_t spare_size;
	bool over;	     /* a reader has found that the session is over */
	struct { uint64_t unique; uint16_t lane; } under_way[UNDER_WAY]; /* unique 0: free */
} turns = {.eventfd = -1};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all of it */
static pthread_cond_t room = PTHREAD_COND_INITIALIZER;	 /* it is no longer full */

static bool is_urgent(uint32_t opcode)
{
	return opcode == OPCODE_FORGET || opcode == OPCODE_BATCH_FORGET || opcode == OPCODE_RELEASE ||
	       opcode == OPCODE_RELEASEDIR || opcode == OPCODE_INIT || opcode == OPCODE_DESTROY;
}

static bool is_idle(const struct lane *lane)
{
	return lane->first == NULL && lane->under_way == 0;
}

static struct lane *lane_of(uint32_t uid)
{
	struct lane *idle = NULL;

	for (unsigned int i = 0; i < turns.used; i++) {
		if (turns.lanes[i].uid == uid)
			return &turns.lanes[i];
		if (idle == NULL && is_idle(&turns.lanes[i]))
			idle = &turns.lanes[i];
	}
	if (idle == NULL && turns.used < LANES)
		idle = &turns.lanes[turns.used++];
	if (idle == NULL)
		return &turns.lanes[uid % LANES];
	idle->uid = uid;
	return idle;
}

/* The lane in which a request waits, or NULL. */
static struct lane *where_waits(uint64_t unique)
{
	for (unsigned int i = 0; i < turns.used; i++)
		for (struct waiting *one = turns.lanes[i].first; one != NULL; one = one->next)
			if (one->unique == unique)
				return &turns.lanes[i];
	return NULL;
}

static struct lane *lane_for(const unsigned char *message, size_t size)
{
	struct wire_in_header header;
	uint64_t target;
	struct lane *lane;

	if (size < sizeof(header))
		return &turns.urgent;
	memcpy(&header, message, sizeof(header));
	if (header.opcode == OPCODE_INTERRUPT && size >= sizeof(header) + sizeof(target)) {
		/* Never before the request that it interrupts. */
		memcpy(&target, message + sizeof(header), sizeof(target));
		lane = where_waits(target);
		return lane != NULL ? lane : &turns.urgent;
	}
	return is_urgent(header.opcode) ? &turns.urgent : lane_of(header.uid);
}

/* False if there is no memory: the caller then refuses the request. */
static bool enqueue(const unsigned char *message, size_t size)
{
	struct lane *lane = lane_for(message, size);
	struct waiting *one = malloc(sizeof(*one) + size);

	if (one == NULL)
		return false;
	one->next = NULL;
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
	turns.count++;
	turns.bytes += size;
	return true;
}

/* True if one more request of the lane may begin. */
static bool has_share(const struct lane *lane)
{
	if (lane->under_way >= turns.most)
		return false;
	return lane->under_way == 0 || turns.room == 0 || lane->under_way + turns.begun < turns.room;
}

/* The lane whose turn it is, NULL if nothing can be passed on. full: the room for waiting requests is
 * used up, so a lane must go on although its share is used up. */
static struct lane *whose_turn(bool full)
{
	struct lane *any = NULL;

	if (turns.urgent.first != NULL)
		return &turns.urgent;
	for (unsigned int step = 1; step <= turns.used; step++) {
		struct lane *lane = &turns.lanes[(turns.cursor + step) % turns.used];

		if (lane->first == NULL)
			continue;
		if (has_share(lane))
			return lane;
		if (any == NULL)
			any = lane;
	}
	return full ? any : NULL;
}

static bool is_full(void)
{
	return turns.count >= COUNT_MAX || turns.bytes >= BYTES_MAX;
}

/* Make the eventfd readable if a request can be passed on, else not readable. */
static void tell(void)
{
	bool ready = turns.over || whose_turn(is_full()) != NULL;
	uint64_t one = 1;

	if (ready == turns.told)
		return;
	if ((ready ? write(turns.eventfd, &one, sizeof(one)) : read(turns.eventfd, &one, sizeof(one))) ==
	    (ssize_t)sizeof(one))
		turns.told = ready;
}

static ssize_t hand_on(struct lane *lane, void *buffer, size_t size)
{
	struct waiting *one = lane->first;
	ssize_t got = (ssize_t)one->size;
	bool full = is_full();

	if (one->size > size) { /* cannot happen: the buffer has the same size every time */
		errno = EIO;
		return -1;
	}
	memcpy(buffer, one->data, one->size);
	lane->first = one->next;
	if (lane != &turns.urgent)
		turns.cursor = (unsigned int)(lane - turns.lanes);
	turns.count--;
	turns.bytes -= one->size;
	free(one);
	if (full && !is_full())
		pthread_cond_broadcast(&room);
	return got;
}

/* Answer ENOMEM to a request that there is no memory to keep, rather than never answer. */
static void refuse(int fd, const unsigned char *message, size_t size)
{
	struct wire_out_header reply = {.len = sizeof(reply), .error = -ENOMEM};
	struct wire_in_header header;

	if (size < sizeof(header))
		return;
	memcpy(&header, message, sizeof(header));
	reply.unique = header.unique;
	if (header.opcode != OPCODE_FORGET && header.opcode != OPCODE_BATCH_FORGET &&
	    header.opcode != OPCODE_INTERRUPT)
		(void)!write(fd, &reply, sizeof(reply));
}

/* read(2) of the next request that is no repeat. */
static ssize_t read_new(int fd, void *buffer, size_t size, unsigned *answers)
{
	ssize_t got;

	while ((got = read(fd, buffer, size)) >= 0) {
		if (*answers == 0 || !avc_answer(0, fd, buffer, (size_t)got))
			break;
		--*answers;
	}
	return got;
}

/* Read the kernel's queue, as long as there is room here. */
static void read_ahead(int fd, size_t size, unsigned *answers)
{
	ssize_t got;

	while (!is_full() && (got = read_new(fd, turns.spare, size, answers)) >= 0)
		if (!enqueue(turns.spare, (size_t)got))
			refuse(fd, turns.spare, (size_t)got);
}

static bool has_room(const struct lane *lane)
{
	return lane == &turns.urgent || has_share(lane);
}

/* Read the next request. True if it is alone, so that it can go on without being copied. */
static bool read_next(int fd, unsigned char *buffer, size_t size, ssize_t *got)
{
	unsigned answers = ANSWERS_MAX;
	ssize_t second;

	*got = read_new(fd, buffer, size, &answers);
	if (*got < 0)
		return false;
	if (turns.count == 0) {
		second = read_new(fd, turns.spare, size, &answers);
		if (second < 0 && has_room(lane_for(buffer, (size_t)*got)))
			return true;
		if (!enqueue(buffer, (size_t)*got))
			refuse(fd, buffer, (size_t)*got);
		if (second >= 0 && !enqueue(turns.spare, (size_t)second))
			refuse(fd, turns.spare, (size_t)second);
	} else if (!enqueue(buffer, (size_t)*got)) {
		refuse(fd, buffer, (size_t)*got);
	}
	read_ahead(fd, size, &answers);
	return false;
}

static ssize_t next(int fd, void *buffer, size_t size)
{
	struct lane *lane;
	ssize_t got;
	int failed = EAGAIN;

	if (turns.spare_size < size) {
		unsigned char *larger = realloc(turns.spare, size);

		if (larger == NULL)
			return read(fd, buffer, size);
		turns.spare = larger;
		turns.spare_size = size;
	}
	if (!is_full() && (turns.over || !readers_active())) {
		if (read_next(fd, buffer, size, &got))
			return got;
		if (got < 0)
			failed = errno;
	}
	lane = whose_turn(is_full());
	if (lane != NULL)
		return hand_on(lane, buffer, size);
	tell();
	errno = failed;
	return -1;
}

ssize_t turns_read(int fd, void *buffer, size_t size)
{
	ssize_t got;
	int error;

	if (!turns.on)
		return read(fd, buffer, size);
	pthread_mutex_lock(&lock);
	got = next(fd, buffer, size);
	error = errno;
	pthread_mutex_unlock(&lock);
	errno = error;
	return got;
}

static void begin(const struct wire_in_header *header)
{
	struct lane *lane = lane_of(header->uid);
	size_t slot = (header->unique >> 1) % UNDER_WAY;

	for (int probe = 0; probe < PROBES; probe++, slot = (slot + 1) % UNDER_WAY) {
		if (turns.under_way[slot].unique != 0)
			continue;
		turns.under_way[slot].unique = header->unique;
		turns.under_way[slot].lane = (uint16_t)(lane - turns.lanes);
		lane->under_way++;
		turns.begun++;
		return;
	}
}

void turns_begun(const unsigned char *message, size_t size)
{
	struct wire_in_header header;

	if (!turns.on)
		return;
	pthread_mutex_lock(&lock);
	if (size >= sizeof(header)) {
		memcpy(&header, message, sizeof(header));
		if (!is_urgent(header.opcode) && header.opcode != OPCODE_INTERRUPT)
			begin(&header);
	}
	tell();
	pthread_mutex_unlock(&lock);
}

static void end(uint64_t unique)
{
	size_t slot = (unique >> 1) % UNDER_WAY;

	for (int probe = 0; probe < PROBES; probe++, slot = (slot + 1) % UNDER_WAY) {
		if (turns.under_way[slot].unique != unique)
			continue;
		turns.under_way[slot].unique = 0;
		turns.lanes[turns.under_way[slot].lane].under_way--;
		turns.begun--;
		tell();
		return;
	}
}

void turns_answered(uint64_t unique)
{
	if (!turns.on || unique == 0)
		return;
	pthread_mutex_lock(&lock);
	end(unique);
	pthread_mutex_unlock(&lock);
}

/* ---- For the readers ----------------------------------------------------------------------------- */

static void relay(int fd, const unsigned char *message, size_t size)
{
	if (!enqueue(message, size))
		refuse(fd, message, size);
	tell();
}

bool turns_relay(unsigned seat, int fd, unsigned char *buffer, size_t size)
{
	ssize_t got = -1;
	int error = EAGAIN;

	pthread_mutex_lock(&lock);
	while (is_full() && readers_active())
		pthread_cond_wait(&room, &lock);
	if (readers_active()) {
		got = read(fd, buffer, size);
		error = errno;
	}
	if (got >= 0 && avc_takes(buffer, (size_t)got)) {
		pthread_mutex_unlock(&lock);
		if (avc_answer(seat, fd, buffer, (size_t)got))
			return true;
		pthread_mutex_lock(&lock);
	}
	if (got >= 0)
		relay(fd, buffer, (size_t)got);
	pthread_mutex_unlock(&lock);
	errno = error;
	return got >= 0;
}

size_t turns_buffer_size(void)
{
	size_t size;

	pthread_mutex_lock(&lock);
	size = turns.spare_size;
	pthread_mutex_unlock(&lock);
	return size;
}

void turns_session_over(void)
{
	pthread_mutex_lock(&lock);
	turns.over = true;
	tell();
	pthread_mutex_unlock(&lock);
}

void turns_make_room(void)
{
	pthread_mutex_lock(&lock);
	pthread_cond_broadcast(&room);
	pthread_mutex_unlock(&lock);
}

static void empty_lane(struct lane *lane)
{
	while (lane->first != NULL) {
		struct waiting *one = lane->first;

		lane->first = one->next;
		free(one);
	}
	memset(lane, 0, sizeof(*lane));
}

void turns_reset(void)
{
	int descriptor = turns.eventfd; /* no reader runs */
	uint64_t count;

	empty_lane(&turns.urgent);
	for (unsigned int i = 0; i < turns.used; i++)
		empty_lane(&turns.lanes[i]);
	free(turns.spare);
	if (turns.told)
		(void)!read(descriptor, &count, sizeof(count));
	memset(&turns, 0, sizeof(turns));
	turns.eventfd = descriptor;
}

/* take_turns(most, room) -> descriptor */
PyObject *turns_take(PyObject *module, PyObject *args)
{
	unsigned int most, limit;

	(void)module;
	if (!PyArg_ParseTuple(args, "II:take_turns", &most, &limit))
		return NULL;
	if (turns.eventfd < 0)
		turns.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (turns.eventfd < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	pthread_mutex_lock(&lock);
	turns.most = most;
	turns.room = limit;
	turns.on = most > 0;
	pthread_mutex_unlock(&lock);
	return PyLong_FromLong(turns.eventfd);
}

/* waiting() -> (requests that wait, requests under way) */
PyObject *turns_waiting(PyObject *module, PyObject *unused)
{
	unsigned int count, begun;

	(void)module;
	(void)unused;
	pthread_mutex_lock(&lock);
	count = turns.count;
	begun = turns.begun;
	pthread_mutex_unlock(&lock);
	return Py_BuildValue("II", count, begun);
}
