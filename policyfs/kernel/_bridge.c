/*
 * The Python module of the bridge: the parts of the FUSE protocol that pyfuse3 and its libfuse lack, and the
 * answers to repeats. It is loaded with RTLD_GLOBAL before pyfuse3 (see _interposition.c). There is no policy in
 * it.
 */

#include "_bridge.h"

void *interpreter_leave(void)
{
	return PyGILState_Check() ? PyEval_SaveThread() : NULL;
}

void interpreter_return(void *left)
{
	if (left != NULL)
		PyEval_RestoreThread(left);
}

static PyMethodDef methods[] = {
	{"prepare", device_prepare, METH_VARARGS,
	 "prepare(flags, max_stack_depth): reset the bridge for a new session.\n"
	 "flags, max_stack_depth: values to request at INIT."},
	{"counters", device_counters, METH_NOARGS,
	 "Number of requests read so far, by opcode. Place 0 counts all other opcodes."},
	{"attached", device_attached, METH_NOARGS,
	 "True if pyfuse3 mounted through this module, so that its symbols are bound correctly."},
	{"lost_replies", device_lost_replies, METH_NOARGS, "Replies that the kernel did not take."},
	{"operations", operations_register, METH_VARARGS,
	 "operations(callable or None, opcodes): hand requests of these opcodes (one bit each) to it."},
	{"end_at_faults", faults_end, METH_NOARGS,
	 "end_at_faults(): end this process by SIGKILL at a fault in C, with no core dump."},
	{"hear_flushes", operations_hear_flushes, METH_O,
	 "hear_flushes(every): choose whether Python gets each FLUSH of any handle while it takes locks."},
	{"let_rest", turns_let_rest, METH_O,
	 "let_rest(unique): stop counting a request as under way, so that its uid may begin another."},
	{"take_turns", turns_take, METH_VARARGS,
	 "take_turns(most, room, bytes): uids take turns. A uid has three lanes. most: limit of the requests of one\n"
	 "lane that are under way (0: off). room: limit of the requests of all lanes that are under way (0: no limit);\n"
	 "a lane may have at most as many requests under way as remain for all other lanes.\n"
	 "bytes: limit of large requests that wait.\n"
	 "Returns a descriptor that is readable while a request that was read ahead can go on."},
	{"waiting", turns_waiting, METH_NOARGS, "(requests read ahead that wait, requests under way)."},
	{"start_readers", readers_start, METH_VARARGS,
	 "start_readers(groups, device, epoll): start a reader thread for each group of processors (16 at most).\n"
	 "They rest at first. epoll: the event loop waits by it; the device is in it while the readers rest."},
	{"reader_shares", readers_shares, METH_VARARGS,
	 "reader_shares(begin, end): percentages of requests answered from the vectors. From begin on, the\n"
	 "readers read the device; below end, they rest again."},
	{"reader_state", readers_state, METH_NOARGS, "(threads, True while they read, times they began)."},
	{"open_vectors", vectors_open, METH_VARARGS,
	 "open_vectors(nodes, directories): make an empty access vector cache, before start_readers()."},
	{"install_vector", vectors_install, METH_VARARGS,
	 "install_vector(node, parent, directory_fd, name, uid, grant, device, ino, birth_ns, format, kept_ms, gid=0,\n"
	 "flags=0, backing_id=0, size=0, mtime_ns=0, ctime_ns=0): bool.\n"
	 "gid and the arguments after it are for opens."},
	{"see_all_vector", vectors_see_all, METH_VARARGS,
	 "see_all_vector(directory, directory_fd, uid): bool. The uid sees all names: absent ones are no secret."},
	{"take_opens", vectors_take, METH_VARARGS,
	 "take_opens(which, number): take handles over from the bridge. which: 0 the handle with this number,\n"
	 "1 those of this node, 2 all. [(fh, node, uid, gid, pid, flags, attributes)]."},
	{"end_opens", vectors_end_opens, METH_O,
	 "end_opens(node or None): answer no more opens of a node (None: of any), and take over their handles."},
	{"age_opens", vectors_age_opens, METH_O,
	 "age_opens(ages): take over handles that were open at the previous call; (handles, nodes not opened since\n"
	 "the last so many calls)."},
	{"take_events", vectors_take_events, METH_NOARGS,
	 "take_events(): the events of opens that the bridge answered and that are to be on the trail."},
	{"events_bell", vectors_events_bell, METH_NOARGS,
	 "events_bell(): an eventfd that is readable once many events wait; -1 without vectors."},
	{"ring_early", vectors_ring_early, METH_O,
	 "ring_early(early): with True, the eventfd of events_bell() is readable once any event waits."},
	{"leave_directory", vectors_leave, METH_O,
	 "leave_directory(node): close its descriptor. No request in it is answered any more."},
	{"drop_vectors", vectors_drop, METH_O,
	 "drop_vectors(node): drop the vectors of a node. Returns the number of its look-ups that Python does not\n"
	 "count yet."},
	{"drop_all_vectors", vectors_drop_all, METH_NOARGS, "Drop the vectors of all nodes."},
	{"clear_vectors", vectors_clear, METH_NOARGS,
	 "Empty the cache. Returns [(node, number of its look-ups that Python does not count yet)]."},
	{"read_proc", vectors_read_proc, METH_O,
	 "read_proc(directory): set the directory in which the threads later read a caller's PID/exe and\n"
	 "PID/stat. directory: a descriptor of a procfs, which the caller keeps open; -1: /proc. Call it before\n"
	 "start_readers(). It reads nothing itself, and returns None."},
	{"vector_counts", vectors_counts, METH_NOARGS,
	 "(look-ups, getattrs, accesses, lost, nodes, directories, installed, dropped, refused, opens,\n"
	 "releases, handles, getxattrs, absences, opendirs, releasedirs, ioctls)."},
	{"DirectoryEntries", listing_new, METH_NOARGS, "The names of a directory: none yet."},
	{"raw_request", device_raw_request, METH_NOARGS, "The request read last, header first."},
	{"notify", device_notify, METH_VARARGS,
	 "notify(fd, messages): write notifications, each with its header, until one fails otherwise\n"
	 "than by ENOENT. (taken, unknown to the kernel, errno or 0)."},
	{"negotiated", device_negotiated, METH_NOARGS,
	 "(kernel minor, flags offered, flags set, max_stack_depth, max_write), None before INIT."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, "policyfs.kernel._bridge", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__bridge(void)
{
	PyObject *module;

	if (!interposition_find_real()) {
		PyErr_SetString(PyExc_ImportError, "libfuse3 lacks functions that policyfs needs");
		return NULL;
	}
	module = PyModule_Create(&definition);
	if (module != NULL && (operations_add_types(module) < 0 || appender_add_type(module) < 0))
		Py_CLEAR(module);
	return module;
}
