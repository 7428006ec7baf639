/* Requests that were read ahead: one lane for each uid, and how many of its requests are under way.
 *
 * Nothing in here is locked, and nothing touches a descriptor: _turns.c has the lock and the device. */

#ifndef POLICYFS_LANES_H
#define POLICYFS_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lane;

/* Most requests that the kernel may have in the background of the mount (read-ahead, for example), as INIT has it.
 * All apps share them: once they are used up, whoever reads a mediated file waits. The largest number that INIT
 * can have. Those of files that hang wait in the lanes, which leave the last ones to uids that have few. */
#define BACKGROUND_MAX UINT16_MAX

/* most: limit of one uid's requests under way. room: limit of all, besides one of each uid; 0: none. bytes: limit of
 * large requests that wait. */
void lanes_limit(unsigned int most, unsigned int room, size_t bytes);

/* Keep a copy of a request in its lane. False if there is no memory, or no room for one more request of its uid. If
 * there is no room for a WRITE, it is kept without its data. */
bool lanes_put(const unsigned char *message, size_t size);

/* True if the limits let one more request of this request's lane begin. */
bool lanes_admit(const unsigned char *message, size_t size);

/* True if no more requests are to be put in: the others wait in the kernel. */
bool lanes_full(void);

/* Requests in all lanes. */
unsigned int lanes_waiting(void);

/* The lane whose turn it is, NULL if no request can be passed on. Requests without a caller have theirs first,
 * but not two in a row before a request that came before the second one. */
struct lane *lanes_turn(void);

/* Take the first request of that lane. Returns its size; -1 with EIO if it is larger than the buffer. */
ssize_t lanes_take(struct lane *lane, void *buffer, size_t size);

/* Count a request as under way, unless it is urgent or an INTERRUPT. */
void lanes_begin(const unsigned char *message, size_t size);

/* Count a request as under way no more. False if it was not. */
bool lanes_end(uint64_t unique);

/* Requests under way. */
unsigned int lanes_under_way(void);

/* Drop all requests, those under way, and the limits. */
void lanes_reset(void);

#endif
