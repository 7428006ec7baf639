/* The queue of requests that were read ahead, in lanes by uid, and the counts of requests under way in each lane.
 *
 * The functions here take no lock and use no descriptor: _turns.c has the lock and the device. */

#ifndef POLICYFS_LANES_H
#define POLICYFS_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lane;

/* The limit of requests that the kernel may have in the background of the mount (read-ahead, for example): the largest
 * number that a reply to INIT can have. All apps share these requests. Once they are used up, every app that reads a
 * mediated file waits. Requests for files that hang wait in the lanes. The lanes leave the last background requests to
 * uids that have few. */
#define BACKGROUND_MAX UINT16_MAX

/* most: limit of one lane's requests under way. room: limit of all requests under way, but a lane with none may always
 * begin one; 0: no limit. bytes: limit of the bytes of large requests that wait. */
void lanes_limit(unsigned int most, unsigned int room, size_t bytes);

/* Keep a copy of a request in its lane. Return false if there is no memory, or no room for one more request there. If
 * there is no room for a WRITE, keep it without its data. */
bool lanes_put(const unsigned char *message, size_t size);

/* True if the limits let one more request of this request's lane begin. */
bool lanes_admit(const unsigned char *message, size_t size);

/* True if no more requests may be put in. Further requests wait in the kernel. */
bool lanes_full(void);

/* Number of requests in all lanes. */
unsigned int lanes_waiting(void);

/* Return the lane whose first request goes on next, or NULL if no request may go on. Requests without a caller go
 * first. But between two such requests, a request of a uid goes on if it came before the second of the two. */
struct lane *lanes_turn(void);

/* Take the first request of a lane. Returns the request's size; -1 with EIO if the request is larger than the
 * buffer. */
ssize_t lanes_take(struct lane *lane, void *buffer, size_t size);

/* Count a request as under way, unless it is urgent or an INTERRUPT. */
void lanes_begin(const unsigned char *message, size_t size);

/* Stop counting a request as under way. Return false if the request was not counted. */
bool lanes_end(uint64_t unique);

/* Number of requests under way. */
unsigned int lanes_under_way(void);

/* Drop all requests that wait, the counts of those under way, and the limits. */
void lanes_reset(void);

#endif
