/* The closes of which the kernel must tell, since they may end a lock. */

#include "wire/_handles.h"
#include "table/_avc.h"

#include <stdatomic.h>

/* Opens for reading send a FLUSH for so long after the last lock of a byte range: who locks one soon locks another. */
#define RANGES_NS ((int64_t)60 * 1000000000)

static struct {
	atomic_bool take_locks; /* requests for locks are taken: then the kernel must send each FLUSH that may end a lock */
	atomic_bool hears_all;	/* there are locks that a FLUSH may end */
	_Atomic int64_t ranges_ns; /* the last request for a byte range in this session; 0: there was none */
} closes;

void closes_reset(void)
{
	closes.hears_all = false;
	closes.ranges_ns = 0;
}

void closes_take_locks(bool truth)
{
	closes.take_locks = truth;
}

void closes_hear_all(bool truth)
{
	closes.hears_all = truth;
}

void closes_lock_range(void)
{
	closes.ranges_ns = avc_clock_ns(CLOCK_MONOTONIC);
}

/* INVARIANT: every handle that may lock a byte range for writing sends a FLUSH when it is closed. */
bool avc_hears_close(bool writable)
{
	int64_t asked_ns = closes.ranges_ns;

	return closes.take_locks && (writable || closes.hears_all ||
				 (asked_ns != 0 && avc_clock_ns(CLOCK_MONOTONIC) - asked_ns < RANGES_NS));
}

/* The kernel sends such a FLUSH only because Python takes lock requests (avc_hears_close). */
bool avc_is_idle_flush(uint64_t fh)
{
	if (closes.hears_all || !closes.take_locks)
		return false;
	if (fh >> FH_PASSTHROUGH_BIT)
		return fh >> FH_NOFLUSH_BIT & 1;
	return (fh >> FH_FLAGS_SHIFT & FOPEN_NOFLUSH_FLAG) != 0;
}
