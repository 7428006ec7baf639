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

/* _faults.c */

/* Fill a set with all signals that a thread may block. INVARIANT: no thread blocks the signals of faults in C. At a
 * fault in a thread that blocks them, the kernel calls no handler, but makes a core dump. */
void signals_except_faults(sigset_t *signals);

/* _readers.c */

bool readers_active(void);

/* Count requests for Python. Decide whether the readers or the event loop read the device from now on. Keeps errno. For
 * the event loop only. */
void readers_weigh(unsigned passed);

/* End all readers, and wait for them. */
void readers_stop(void);

/* _vectors.c: Python's side of _avc.c */

/* Size of the memory for open_vectors(), in bytes. */
long vectors_opens_size(void);
long vectors_own_size(void);

/* For _vectors.c and _vectors_taken.c. Each returns false with a Python error. */
bool vectors_is_loop(void);
bool vectors_read_number(PyObject *argument, unsigned long long *number);
bool vectors_has_size(const void *memory, size_t bytes, size_t size);

/* The functions for Python: their names there and here. bridge.py, vectors.py and _bridge.pyi say what they do. */
#define BRIDGE_FUNCTIONS(of) \
	of(prepare, device_prepare, VARARGS) of(counters, device_counters, NOARGS) of(attached, device_attached, NOARGS) of(detach, device_detach, NOARGS) \
	of(lost_replies, device_lost_replies, NOARGS) of(operations, operations_register, VARARGS) \
	of(end_at_faults, faults_end, NOARGS) of(hear_flushes, operations_hear_flushes, O) of(let_rest, turns_let_rest, O) \
	of(take_turns, turns_take, VARARGS) of(waiting, turns_waiting, NOARGS) of(start_work, work_start, VARARGS) \
	of(start_readers, readers_start, VARARGS) of(reader_shares, readers_shares, VARARGS) \
	of(reader_state, readers_state, NOARGS) of(open_vectors, vectors_open, VARARGS) \
	of(install_vector, vectors_install, VARARGS) of(see_all_vector, vectors_see_all, VARARGS) \
	of(take_opens, vectors_take, VARARGS) of(writer_file, vectors_writer_file, O) of(read_opens, vectors_read_opens, O) \
	of(read_own, vectors_read_own, VARARGS) of(free_taken, vectors_free_taken, O) of(end_opens, vectors_end_opens, O) \
	of(age_opens, vectors_age_opens, O) of(take_events, vectors_take_events, NOARGS) \
	of(events_bell, vectors_events_bell, NOARGS) of(ring_early, vectors_ring_early, O) \
	of(leave_directory, vectors_leave, O) of(drop_vectors, vectors_drop, O) \
	of(drop_all_vectors, vectors_drop_all, NOARGS) of(clear_vectors, vectors_clear, NOARGS) \
	of(allow_directory, vectors_allow, VARARGS) of(is_allowed, vectors_is_allowed, VARARGS) \
	of(register_as, vectors_register_as, O) of(lock_names_in, vectors_lock_names_in, O) of(held_in, vectors_held_in, O) \
	of(name_number, vectors_name_number, VARARGS) of(passes_through, vectors_passes_through, NOARGS) \
	of(know_inode, vectors_know, VARARGS) of(list_file, vectors_list, VARARGS) of(unlist_file, vectors_unlist, O) \
	of(take_nodes, vectors_take_nodes, VARARGS) of(changed, vectors_changed, O) \
	of(own_nodes, vectors_own_nodes, NOARGS) of(own_backed, vectors_own_backed, NOARGS) \
	of(read_proc, vectors_read_proc, O) of(exempt, vectors_exempt, O) of(no_capabilities, vectors_no_capabilities, O) \
	of(vector_counts, vectors_counts, NOARGS) of(DirectoryEntries, listing_new, NOARGS) \
	of(raw_request, device_raw_request, NOARGS) of(notify, device_notify, VARARGS) \
	of(negotiated, device_negotiated, NOARGS) of(init_request, device_init_request, NOARGS) of(adopt, device_adopt, O)

#define DECLARED(name, function, arguments) PyObject *function(PyObject *module, PyObject *argument);
BRIDGE_FUNCTIONS(DECLARED)
#undef DECLARED

#endif
