/*
 * The seats of the threads that answer, with their locks. A thread that holds one of these locks takes no other one; the event
 * loop takes all of them to change the table (docs/architecture/vectors.md).
 */

#include "table/_avc_table.h"

#include <pthread.h>
#include <stdatomic.h>

struct seat avc_seat[AVC_SEATS] = {
	[0 ... AVC_SEATS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};

/* True while the event loop waits for the locks or holds them. A reader then leaves its request to Python. Otherwise
 * the reader might take its lock again at once, each time, and the event loop would never get the lock. */
atomic_bool avc_changing;

static unsigned used; /* seats, with the event loop's */

void seats_begin(unsigned count)
{
	used = count;
}

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
	atomic_store(&avc_changing, true);
	for (unsigned i = 1; i < used; i++)
		lock_one(&avc_seat[i].lock);
}

void avc_unlock_all(void)
{
	for (unsigned i = used; i-- > 1;)
		pthread_mutex_unlock(&avc_seat[i].lock);
	atomic_store(&avc_changing, false);
}
