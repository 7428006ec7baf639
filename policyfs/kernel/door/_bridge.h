/* The Python functions of the bridge. */

#ifndef POLICYFS_BRIDGE_H
#define POLICYFS_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>

/* _appender.c */

int appender_add_type(PyObject *module);

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
