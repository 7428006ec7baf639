/* Declarations shared by the bridge's C files. */

#ifndef POLICYFS_BRIDGE_H
#define POLICYFS_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "_handles.h"
#include "_wire.h"

/* _appender.c */

int appender_add_type(PyObject *module);

/* _listing.c: Python's side of _direntries.c */

PyObject *listing_new(PyObject *module, PyObject *unused);

/* _interposition.c */

/* Find libfuse's own functions. Return false if libfuse lacks one of them. */
bool interposition_find_real(void);

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

/* device_attach() begins a session with its descriptor. process() lets libfuse process a request as if it had just been
 * read. device_detach() ends the session: afterwards no thread uses
 * the descriptor. */
void device_attach(int fd, void (*process)(void *message, size_t size));
void device_detach(void);

PyObject *device_prepare(PyObject *module, PyObject *args);
PyObject *device_counters(PyObject *module, PyObject *unused);
PyObject *device_attached(PyObject *module, PyObject *unused);
PyObject *device_lost_replies(PyObject *module, PyObject *unused);
PyObject *device_raw_request(PyObject *module, PyObject *unused);
PyObject *device_notify(PyObject *module, PyObject *args);
PyObject *device_init_request(PyObject *module, PyObject *unused);
PyObject *device_adopt(PyObject *module, PyObject *request);
PyObject *device_negotiated(PyObject *module, PyObject *unused);

/* _operations.c */

/* Begin a session with its device descriptor, or end it (fd: -1). After the end nothing is written to the device. */
void operations_session(int fd);

/* True if this request does not go to libfuse: the registered callable takes it, or the bridge has answered it. */
bool operations_take(const unsigned char *message, size_t size);

/* Number of the callable's replies that the kernel did not take since the session began. */
uint64_t operations_lost(void);

PyObject *operations_register(PyObject *module, PyObject *args);
PyObject *operations_hear_flushes(PyObject *module, PyObject *every);
int operations_add_types(PyObject *module);

/* _turns.c */

/* Read a request from the device like read(2). Once take_turns() was called, the uids follow in round-robin order. */
ssize_t turns_read(int fd, void *buffer, size_t size);

/* Count a request that goes to libfuse or to the callable as under way, until it is answered or Python calls its
 * rests(). Size 0 means no request. Called after each request. */
void turns_begun(const unsigned char *message, size_t size);

/* Keep a request as being in work until it is answered. If it has killed several processes, answer EIO and return
 * false. */
bool work_begin(int fd, const unsigned char *message, size_t size);

/* Drop a request that is in work no more. Thread-safe. */
void work_end(uint64_t unique);

/* Return the size of the memory for start_work(). */
size_t work_size(void);

/* Keep no requests any more. */
void work_reset(void);

PyObject *work_start(PyObject *module, PyObject *args);

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

PyObject *turns_let_rest(PyObject *module, PyObject *unique);
PyObject *turns_take(PyObject *module, PyObject *args);
PyObject *turns_waiting(PyObject *module, PyObject *unused);

/* _faults.c */

/* Fill a set with all signals that a thread may block. INVARIANT: no thread blocks the signals of faults in C. At a
 * fault in a thread that blocks them, the kernel calls no handler, but makes a core dump. */
void signals_except_faults(sigset_t *signals);

PyObject *faults_end(PyObject *module, PyObject *unused);

/* _readers.c */

bool readers_active(void);

/* Count requests for Python. Decide whether the readers or the event loop read the device from now on. Keeps errno. For
 * the event loop only. */
void readers_weigh(unsigned passed);

/* End all readers, and wait for them. */
void readers_stop(void);

PyObject *readers_start(PyObject *module, PyObject *args);
PyObject *readers_shares(PyObject *module, PyObject *args);
PyObject *readers_state(PyObject *module, PyObject *unused);

/* _vectors.c: Python's side of _avc.c */

/* Size of the memory for open_vectors(), in bytes. */
long vectors_opens_size(void);
long vectors_own_size(void);

PyObject *vectors_open(PyObject *module, PyObject *args);
PyObject *vectors_install(PyObject *module, PyObject *args);
PyObject *vectors_see_all(PyObject *module, PyObject *args);
PyObject *vectors_drop(PyObject *module, PyObject *id);
PyObject *vectors_leave(PyObject *module, PyObject *id);
PyObject *vectors_drop_all(PyObject *module, PyObject *unused);
PyObject *vectors_clear(PyObject *module, PyObject *unused);
PyObject *vectors_take(PyObject *module, PyObject *args);
PyObject *vectors_writer_file(PyObject *module, PyObject *fh);
PyObject *vectors_read_opens(PyObject *module, PyObject *memory);
PyObject *vectors_read_own(PyObject *module, PyObject *args);
PyObject *vectors_free_taken(PyObject *module, PyObject *fh);
PyObject *vectors_end_opens(PyObject *module, PyObject *id);
PyObject *vectors_age_opens(PyObject *module, PyObject *ages);
PyObject *vectors_take_events(PyObject *module, PyObject *unused);
PyObject *vectors_events_bell(PyObject *module, PyObject *unused);
PyObject *vectors_ring_early(PyObject *module, PyObject *early);
PyObject *vectors_allow(PyObject *module, PyObject *args);
PyObject *vectors_is_allowed(PyObject *module, PyObject *args);
PyObject *vectors_register_as(PyObject *module, PyObject *uid);
PyObject *vectors_know(PyObject *module, PyObject *args);
PyObject *vectors_list(PyObject *module, PyObject *args);
PyObject *vectors_unlist(PyObject *module, PyObject *id);
PyObject *vectors_take_nodes(PyObject *module, PyObject *args);
/* For _vectors.c and _vectors_taken.c. Each returns false with a Python error. */
bool vectors_is_loop(void);
bool vectors_read_number(PyObject *argument, unsigned long long *number);
bool vectors_has_size(const void *memory, size_t bytes, size_t size);
PyObject *vectors_passes_through(PyObject *module, PyObject *unused);
PyObject *vectors_lock_names_in(PyObject *module, PyObject *file);
PyObject *vectors_held_in(PyObject *module, PyObject *file);
PyObject *vectors_name_number(PyObject *module, PyObject *args);
PyObject *vectors_changed(PyObject *module, PyObject *inode);
PyObject *vectors_own_nodes(PyObject *module, PyObject *unused);
PyObject *vectors_own_backed(PyObject *module, PyObject *unused);
PyObject *vectors_read_proc(PyObject *module, PyObject *directory);
PyObject *vectors_exempt(PyObject *module, PyObject *pid);
PyObject *vectors_no_capabilities(PyObject *module, PyObject *truth);
PyObject *vectors_counts(PyObject *module, PyObject *unused);

#endif
