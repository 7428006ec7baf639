/*
 * Events of opens that the bridge has answered (_opens.c) and that belong on the trail. Each seat has a ring of its
 * own. Only the seat's reader puts events in, under the seat's lock. Only the event loop takes events out, without a
 * lock. INVARIANT: an event is published before its open is answered. If the ring is full, Python answers the open, and
 * takes the events out first. So no event is lost or late.
 *
 * Several readers in turn may answer one caller's opens. INVARIANT: if a call of avc_take_events() takes an event, it
 * also takes all events that were published before the open of that event was sent. For this, each event has a number.
 * The call takes only events that got their number before it looks at the first ring. Otherwise an event could come
 * into a ring that the call has left, and the next event of the same process into a later ring.
 *
 * A ring that is a quarter full rings the bell (an eventfd). The event loop then takes events out on another processor
 * while the reader goes on. While the loop rests, the first event rings the bell: otherwise the event would wait until
 * the loop wakes. For this, a reader publishes the event before it reads `enough`, and the loop sets `enough` before it
 * looks for events. INVARIANT: after the bell has rung, the event loop takes all events that were published
 * before, and the events of readers that still find `rung` set. For this, the event loop clears `rung` before it takes
 * events.
 *
 * The executable of a process is looked up in the same way as in Python (audit.py): at most once in PROGRAM_NS.
 */

#define _GNU_SOURCE
#include "memory/_proc.h"
#include "table/_avc_table.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RING 128 /* events of one seat */
#define ENOUGH 32 /* the number of waiting events of one seat that rings the bell while the event loop works */
#define PROGRAMS 16 /* most processes whose executable a seat knows */
#define PROGRAM_NS 100000000

_Static_assert((RING & (RING - 1)) == 0, "numbers of events go round");

struct program {
	uint32_t pid;
	uint16_t size;
	int64_t until_ns; /* 0: this place is free */
	char path[AVC_PROGRAM_MAX];
};

struct ring {
	_Alignas(64) _Atomic uint64_t put; /* events published so far, by the reader */
	_Alignas(64) _Atomic uint64_t taken; /* events taken so far, by the event loop */
	_Alignas(64) struct program programs[PROGRAMS]; /* for the reader only */
	struct avc_event events[RING];
};

int proc_directory = -1;

static struct ring *rings; /* of all seats */
static _Atomic uint64_t published; /* events in all rings so far */
static int bell = -1; /* eventfd: readable while there are events to be taken at once */
static atomic_bool rung; /* the bell has rung, and no events were taken since */
static _Atomic uint64_t enough = ENOUGH; /* the bell rings when this number of events of one seat wait */

int64_t avc_clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Return the executable of a process: an empty path if the process is gone or cannot be seen; NULL if the path is too
 * long. */
static const struct program *program_of(struct ring *ring, uint32_t pid)
{
	struct program *program = &ring->programs[pid % PROGRAMS];
	int64_t now_ns = avc_clock_ns(CLOCK_MONOTONIC);
	char name[32];
	ssize_t size = 0;

	if (program->until_ns > now_ns && program->pid == pid)
		return program;
	program->until_ns = 0;
	if (pid != 0) {
		proc_name(name, sizeof(name), pid, "exe");
		size = readlinkat(proc_directory, name, program->path, sizeof(program->path));
	}
	if (size == (ssize_t)sizeof(program->path))
		return NULL;
	program->pid = pid;
	program->size = size < 0 ? 0 : (uint16_t)size;
	program->until_ns = now_ns + PROGRAM_NS;
	return program;
}

struct avc_event *events_place(unsigned number, uint32_t pid)
{
	struct ring *ring = &rings[number];
	uint64_t put = atomic_load_explicit(&ring->put, memory_order_relaxed);
	struct avc_event *event = &ring->events[put % RING];
	const struct program *program;

	if (put - atomic_load_explicit(&ring->taken, memory_order_acquire) >= RING ||
	    (program = program_of(ring, pid)) == NULL)
		return NULL;
	event->time_ns = avc_clock_ns(CLOCK_REALTIME);
	event->pid = pid;
	event->new_name_size = 0;
	event->program_size = program->size;
	memcpy(event->program, program->path, program->size);
	return event;
}

static void ring_bell(void)
{
	uint64_t one = 1;

	if (!atomic_load_explicit(&rung, memory_order_relaxed) && !atomic_exchange(&rung, true))
		(void)!write(bell, &one, sizeof(one));
}

void events_put(unsigned number)
{
	struct ring *ring = &rings[number];
	uint64_t before = atomic_load_explicit(&ring->put, memory_order_relaxed), put = before + 1;

	ring->events[before % RING].number = atomic_fetch_add(&published, 1);
	atomic_store(&ring->put, put);
	if (put - atomic_load_explicit(&ring->taken, memory_order_relaxed) >= atomic_load(&enough))
		ring_bell();
}

void avc_ring_early(bool early)
{
	atomic_store(&enough, early ? 1 : ENOUGH);
	for (unsigned number = 0; early && rings != NULL && number < AVC_SEATS; number++)
		if (atomic_load(&rings[number].put) !=
		    atomic_load_explicit(&rings[number].taken, memory_order_relaxed))
			ring_bell();
}

int avc_events_bell(void)
{
	return bell;
}

void avc_take_events(avc_told told, void *context)
{
	uint64_t end;

	atomic_exchange(&rung, false);
	end = atomic_load(&published);
	for (unsigned number = 0; rings != NULL && number < AVC_SEATS; number++) {
		struct ring *ring = &rings[number];
		uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
		uint64_t put = atomic_load_explicit(&ring->put, memory_order_acquire);

		for (; taken != put && ring->events[taken % RING].number < end; taken++)
			told(context, &ring->events[taken % RING]);
		atomic_store_explicit(&ring->taken, taken, memory_order_release);
	}
}

bool events_begin(void)
{
	rings = aligned_alloc(64, AVC_SEATS * sizeof(*rings));
	if (rings == NULL)
		return false;
	for (unsigned number = 0; number < AVC_SEATS; number++) /* seats without events take no memory */
		memset(&rings[number], 0, offsetof(struct ring, events));
	atomic_store(&rung, false);
	atomic_store(&published, 0);
	atomic_store(&enough, ENOUGH);
	bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return bell >= 0;
}

void events_close(void)
{
	free(rings);
	rings = NULL;
	if (bell >= 0)
		close(bell);
	bell = -1;
}
