/*
 * The Python module of the bridge: the parts of the FUSE protocol that pyfuse3 and the libfuse it was built
 * against do not speak, and the answers to repeats. It is loaded with RTLD_GLOBAL before pyfuse3 (see
 * _interposition.c). There is no policy in it.
 */

#include "_bridge.h"

static PyMethodDef methods[] = {
	{"prepare", device_prepare, METH_VARARGS,
	 "prepare(flags, max_stack_depth): forget the last session; what to ask for at INIT."},
	{"counters", device_counters, METH_NOARGS, "Requests read so far, by opcode; 0 is all others."},
	{"attached", device_attached, METH_NOARGS,
	 "Did pyfuse3 mount through this module, as it does if the symbols are bound as they must."},
	{"lost_replies", device_lost_replies, METH_NOARGS, "Replies that the kernel did not take."},
	{"operations", operations_register, METH_VARARGS,
	 "operations(callable, opcodes): hand requests of these opcodes (one bit each) to it; None."},
	{"hear_flushes", operations_hear_flushes, METH_O,
	 "hear_flushes(every): while locks are taken, is each FLUSH of any handle to be heard."},
	{"take_turns", turns_take, METH_VARARGS,
	 "take_turns(most, room): users take turns, each with so many requests under way at most (0 is\n"
	 "off), and none with more than are left of room for all others (0: any number).\n"
	 "Returns a descriptor that is readable while a request that was read ahead can go on."},
	{"waiting", turns_waiting, METH_NOARGS, "(requests read ahead that wait, requests under way)."},
	{"start_readers", readers_start, METH_VARARGS,
	 "start_readers(groups, device, epoll): a reader thread for each group of processors (16 at most),\n"
	 "which rest at first. epoll: the event loop waits by it, and has the device in it while the readers rest."},
	{"reader_shares", readers_shares, METH_VARARGS,
	 "reader_shares(begin, end): percent of requests answered from the vectors from which the readers\n"
	 "begin to read the device, and below which they rest again."},
	{"reader_state", readers_state, METH_NOARGS, "(threads, are they reading, times they began)."},
	{"open_vectors", vectors_open, METH_VARARGS,
	 "open_vectors(nodes, directories): begin with an empty access vector cache, before the readers."},
	{"install_vector", vectors_install, METH_VARARGS,
	 "install_vector(node, parent, directory_fd, name, uid, grant, device, ino, birth_ns, format, gid=0,\n"
	 "flags=0, backing_id=0): bool. The last three are of opens."},
	{"see_all_vector", vectors_see_all, METH_VARARGS,
	 "see_all_vector(directory, directory_fd, uid): bool. The uid sees each name in it: absent ones are no secret."},
	{"take_opens", vectors_take, METH_VARARGS,
	 "take_opens(which, number): take handles over from the bridge: 0 the one with a number, 1 those of a\n"
	 "node, 2 all. [(fh, node, uid, gid, pid, flags, attributes)]."},
	{"end_opens", vectors_end_opens, METH_O,
	 "end_opens(node or None): answer no open of a node, or of any; takes their handles over."},
	{"age_opens", vectors_age_opens, METH_NOARGS,
	 "Take over handles that are open since the call before; (handles, nodes not opened since then)."},
	{"take_events", vectors_take_events, METH_NOARGS,
	 "take_events(): the events of opens that the bridge answered and that are to be on the trail."},
	{"events_bell", vectors_events_bell, METH_NOARGS,
	 "events_bell(): an eventfd that is readable once many events wait; -1 without vectors."},
	{"leave_directory", vectors_leave, METH_O,
	 "leave_directory(node): close its descriptor. No request in it is answered any more."},
	{"drop_vectors", vectors_drop, METH_O,
	 "drop_vectors(node): no request is answered by them any more. Its look-ups, not yet counted."},
	{"drop_all_vectors", vectors_drop_all, METH_NOARGS, "Drop the vectors of all nodes."},
	{"clear_vectors", vectors_clear, METH_NOARGS, "Empty the cache: [(node, look-ups not yet counted)]."},
	{"vector_counts", vectors_counts, METH_NOARGS,
	 "(look-ups, getattrs, accesses, lost, nodes, directories, installed, dropped, refused, opens,\n"
	 "releases, handles)."},
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
