/* The device of the session, and requests that do not go to libfuse. */

#ifndef POLICYFS_DEVICE_H
#define POLICYFS_DEVICE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* _device.c */

/* interpreter_leave() gives up the interpreter lock, so that other threads run while the caller waits for the store.
 * interpreter_return() takes the lock back, with the result of interpreter_leave(). In a thread without the lock, both
 * do nothing. Both keep errno. */
void *interpreter_leave(void);
void interpreter_return(void *left);

struct iovec;

/* read(2) and writev(2) of the session's device, as libfuse calls them (struct fuse_custom_io). */
ssize_t device_read(int fd, void *buffer, size_t size, void *userdata);
ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata);

/* Begin a session with its descriptor. process() lets libfuse process a request as if it had just been read. */
void device_attach(int fd, void (*process)(void *message, size_t size));

/* _operations.c */

/* Begin a session with its device descriptor, or end it (fd: -1). After the end nothing is written to the device. */
void operations_session(int fd);

/* True if this request does not go to libfuse: the registered callable takes it, or the bridge has answered it. */
bool operations_take(const unsigned char *message, size_t size);

/* Number of the callable's replies that the kernel did not take since the session began. */
uint64_t operations_lost(void);

int operations_add_types(PyObject *module);

#endif
