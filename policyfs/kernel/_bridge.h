/* What the bridge's two C files share. */

#ifndef POLICYFS_BRIDGE_H
#define POLICYFS_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* include/uapi/linux/fuse.h, protocol 7.45. Defined here, not included, so that the build does not
 * depend on the age of the headers. */
struct wire_in_header {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid;
	uint16_t extension_words, padding;
};

struct wire_out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

_Static_assert(sizeof(struct wire_in_header) == 40, "fuse_in_header");
_Static_assert(sizeof(struct wire_out_header) == 16, "fuse_out_header");

/* _operations.c */

/* A session begins (its device descriptor) or ends (-1): from then on nothing is written to it. */
void operations_session(int fd);

/* Does the registered callable take this request? If so it is answered apart from libfuse. */
bool operations_take(const unsigned char *message, size_t size);

/* How many replies of the callable's the kernel did not take since the session began. */
uint64_t operations_lost(void);

PyObject *operations_register(PyObject *module, PyObject *args);
int operations_add_types(PyObject *module);

#endif
