/* The processors on which threads run. */

#ifndef POLICYFS_PROCESSORS_H
#define POLICYFS_PROCESSORS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory/_proc.h"

/* Return the processor on which a thread ran last; -1 if this is not visible (proc_pid_stat(5), field 39). */
static inline int processor_of(uint32_t pid)
{
	char text[1024], *at;
	ssize_t size = -1;
	int fd;

	proc_name(text, sizeof(text), pid, "stat");
	fd = pid == 0 ? -1 : openat(proc_directory, text, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		size = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (size <= 0)
		return -1;
	text[size] = '\0';
	at = strrchr(text, ')'); /* the program's name, field 2, may have any characters */
	for (int field = 2; at != NULL && field < 39; field++)
		at = strchr(at + 1, ' ');
	return at == NULL ? -1 : atoi(at + 1);
}

#endif
