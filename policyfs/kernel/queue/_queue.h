/* The queue of requests, the threads that read the device, and their signals. */

#ifndef POLICYFS_QUEUE_H
#define POLICYFS_QUEUE_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* _turns.c */

/* Read a request from the device like read(2). Once take_turns() was called, the uids follow in round-robin order. */
ssize_t turns_read(int fd, void *buffer, size_t size);

/* Count a request that goes to libfuse or to the callable as under way, until it is answered or Python calls its
 * rests(). Size 0 means no request. Called after each request. */
void turns_begun(const unsigned char *message, size_t size);

/* Stop counting a request as under way. Does nothing if the request was not counted. */
void turns_answered(uint64_t unique);

/* Forget the last session. */
void turns_reset(void);

/* Read one request from the device in a reader's seat, and answer it or put it into the queue. Waits while the queue is
 * full. Return false if there is no request: then errno is EAGAIN, or the reason why the session is over. before: called before
 * the answer to a request that avc_answer() may answer. */
bool turns_relay(unsigned seat, int fd, unsigned char *buffer, size_t size,
		 void (*before)(unsigned seat, const unsigned char *message));

/* True while the readers read the device, and the event loop does not. The readers set it. */
extern atomic_bool turns_left;

/* Size of the buffers for requests; 0 before the first request. */
size_t turns_buffer_size(void);

/* Wake the event loop: the session is over. */
void turns_session_over(void);

/* Wake a reader that waits for room. */
void turns_make_room(void);

/* _faults.c */

/* Fill a set with all signals that a thread may block. INVARIANT: no thread blocks the signals of faults in C. At a
 * fault in a thread that blocks them, the kernel calls no handler, but makes a core dump. */
void signals_except_faults(sigset_t *signals);

/* _readers.c */

bool readers_active(void);

/* Count requests for Python. Decide whether the readers or the event loop read the device from now on. Keeps errno. For
 * the event loop only. */
void readers_weigh(unsigned passed);

/* End all readers, and wait for them. */
void readers_stop(void);

#endif
