/* The requests in work, in memory that outlives this process. */

#ifndef POLICYFS_WORK_H
#define POLICYFS_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keep a request as being in work until it is answered. If it has killed several processes, answer EIO and return
 * false. */
bool work_begin(int fd, const unsigned char *message, size_t size);

/* Drop a request that is in work no more. Thread-safe. */
void work_end(uint64_t unique);

/* Return the size of the memory for start_work(). */
size_t work_size(void);

/* Keep no requests any more. */
void work_reset(void);

#endif
