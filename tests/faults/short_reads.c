/* A read(2) that fails for want of memory at each third read of the device. For LD_PRELOAD. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

ssize_t read(int fd, void *buffer, size_t size)
{
	static ssize_t (*real)(int, void *, size_t);
	static unsigned times;
	char link[32], path[16] = "";

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "read");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (size >= 1 << 17 && readlink(link, path, sizeof(path) - 1) > 0 && strcmp(path, "/dev/fuse") == 0 &&
	    ++times % 3 == 0) {
		errno = ENOMEM;
		return -1;
	}
	return real(fd, buffer, size);
}
