/* Declarations shared by the bridge's C files. */

#ifndef POLICYFS_BRIDGE_H
#define POLICYFS_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* include/uapi/linux/fuse.h, protocol 7.45. Defined here, not included, so that the build does not
 * depend on the age of the headers. */
struct wire_in_header {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid;
	uint16_t extension_words, padding;
};

/* A file handle, as bridge.pack_fh makes it:
 *   bit 63 set:   bit 62 FOPEN_NOFLUSH, bits 61 to 31 the backing id, bits 30 to 0 an index
 *   bit 63 clear: bits 62 to 56 the other FOPEN_* flags, bits 30 to 0 an index
 * The kernel counts backing ids up to 2^31 - 1 before it uses one again, so they need
 * all 31 bits; no other flag means anything together with passthrough. */
#define FH_PASSTHROUGH_BIT 63
#define FH_NOFLUSH_BIT 62
#define FH_FLAGS_SHIFT 56
#define FH_BACKING_SHIFT 31
#define FH_BACKING_MASK 0x7fffffffu

#define FOPEN_NOFLUSH_FLAG (1u << 5)
#define FOPEN_PASSTHROUGH_FLAG (1u << 7)

struct wire_out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

_Static_assert(sizeof(struct wire_in_header) == 40, "fuse_in_header");
_Static_assert(sizeof(struct wire_out_header) == 16, "fuse_out_header");

/* _operations.c */

/* Begin a session (with its device descriptor) or end it (-1): then nothing more is written to it. */
void operations_session(int fd);

/* True if the registered callable takes this request, which is then answered apart from libfuse. */
bool operations_take(const unsigned char *message, size_t size);

/* True if requests for locks are taken: then the kernel must send each FLUSH that may end a lock. */
bool operations_lock(void);

/* True if a byte range was requested since the session began. */
bool operations_ranges_asked(void);

/* Number of the callable's replies that the kernel did not take since the session began. */
uint64_t operations_lost(void);

/* _turns.c */

/* read(2) of the device, but users take turns (once take_turns() was called). */
ssize_t turns_read(int fd, void *buffer, size_t size);

/* Count a request that goes to libfuse or to the callable as under way, until it is answered or rests.
 * Size 0 means no request. Called after each request. */
void turns_begun(const unsigned char *message, size_t size);

/* Count a request as under way no more. Does nothing if it was not. */
void turns_answered(uint64_t unique);

/* Forget the last session. */
void turns_reset(void);

PyObject *turns_take(PyObject *module, PyObject *args);
PyObject *turns_waiting(PyObject *module, PyObject *unused);

PyObject *operations_register(PyObject *module, PyObject *args);
PyObject *operations_hear_flushes(PyObject *module, PyObject *every);
int operations_add_types(PyObject *module);

#endif
