/* Memory from the heap, or from a mapping of its own. The system gets a freed mapping back at once. The heap keeps most
 * of the memory that was ever in use at the same time. */

#ifndef POLICYFS_MEMORY_H
#define POLICYFS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Return memory from a mapping of its own (mapped) or from the heap. Return NULL if there is none. */
static inline void *memory_new(size_t size, bool mapped)
{
	void *memory;

	if (!mapped)
		return malloc(size);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

static inline void memory_free(void *memory, size_t size, bool mapped)
{
	if (mapped)
		munmap(memory, size);
	else
		free(memory);
}

#endif
