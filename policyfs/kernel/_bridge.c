/*
 * The Python module of the bridge: the parts of the FUSE protocol that pyfuse3 and its libfuse lack, and the
 * answers to repeats. It is loaded with RTLD_GLOBAL before pyfuse3 (see _interposition.c). There is no policy in
 * it.
 */

#include "_avc.h"
#include "_bridge.h"

/* bridge.py, vectors.py and _bridge.pyi say what these functions do. */
static PyMethodDef methods[] = {
	{"prepare", device_prepare, METH_VARARGS, NULL},
	{"counters", device_counters, METH_NOARGS, NULL},
	{"attached", device_attached, METH_NOARGS, NULL},
	{"lost_replies", device_lost_replies, METH_NOARGS, NULL},
	{"operations", operations_register, METH_VARARGS, NULL},
	{"end_at_faults", faults_end, METH_NOARGS, NULL},
	{"hear_flushes", operations_hear_flushes, METH_O, NULL},
	{"let_rest", turns_let_rest, METH_O, NULL},
	{"take_turns", turns_take, METH_VARARGS, NULL},
	{"waiting", turns_waiting, METH_NOARGS, NULL},
	{"start_work", work_start, METH_VARARGS, NULL},
	{"start_readers", readers_start, METH_VARARGS, NULL},
	{"reader_shares", readers_shares, METH_VARARGS, NULL},
	{"reader_state", readers_state, METH_NOARGS, NULL},
	{"open_vectors", vectors_open, METH_VARARGS, NULL},
	{"install_vector", vectors_install, METH_VARARGS, NULL},
	{"see_all_vector", vectors_see_all, METH_VARARGS, NULL},
	{"take_opens", vectors_take, METH_VARARGS, NULL},
	{"writer_file", vectors_writer_file, METH_O, NULL},
	{"read_opens", vectors_read_opens, METH_O, NULL},
	{"read_own", vectors_read_own, METH_VARARGS, NULL},
	{"free_taken", vectors_free_taken, METH_O, NULL},
	{"end_opens", vectors_end_opens, METH_O, NULL},
	{"age_opens", vectors_age_opens, METH_O, NULL},
	{"take_events", vectors_take_events, METH_NOARGS, NULL},
	{"events_bell", vectors_events_bell, METH_NOARGS, NULL},
	{"ring_early", vectors_ring_early, METH_O, NULL},
	{"leave_directory", vectors_leave, METH_O, NULL},
	{"drop_vectors", vectors_drop, METH_O, NULL},
	{"drop_all_vectors", vectors_drop_all, METH_NOARGS, NULL},
	{"clear_vectors", vectors_clear, METH_NOARGS, NULL},
	{"allow_directory", vectors_allow, METH_VARARGS, NULL},
	{"is_allowed", vectors_is_allowed, METH_VARARGS, NULL},
	{"register_as", vectors_register_as, METH_O, NULL},
	{"lock_names_in", vectors_lock_names_in, METH_O, NULL},
	{"held_in", vectors_held_in, METH_O, NULL},
	{"name_number", vectors_name_number, METH_VARARGS, NULL},
	{"passes_through", vectors_passes_through, METH_NOARGS, NULL},
	{"know_inode", vectors_know, METH_VARARGS, NULL},
	{"list_file", vectors_list, METH_VARARGS, NULL},
	{"unlist_file", vectors_unlist, METH_O, NULL},
	{"take_nodes", vectors_take_nodes, METH_VARARGS, NULL},
	{"changed", vectors_changed, METH_O, NULL},
	{"own_nodes", vectors_own_nodes, METH_NOARGS, NULL},
	{"own_backed", vectors_own_backed, METH_NOARGS, NULL},
	{"read_proc", vectors_read_proc, METH_O, NULL},
	{"exempt", vectors_exempt, METH_O, NULL},
	{"no_capabilities", vectors_no_capabilities, METH_O, NULL},
	{"vector_counts", vectors_counts, METH_NOARGS, NULL},
	{"DirectoryEntries", listing_new, METH_NOARGS, NULL},
	{"raw_request", device_raw_request, METH_NOARGS, NULL},
	{"notify", device_notify, METH_VARARGS, NULL},
	{"negotiated", device_negotiated, METH_NOARGS, NULL},
	{"init_request", device_init_request, METH_NOARGS, NULL},
	{"adopt", device_adopt, METH_O, NULL},
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
	if (module != NULL && (operations_add_types(module) < 0 || appender_add_type(module) < 0 ||
			       PyModule_AddIntConstant(module, "OPENS_BYTES", vectors_opens_size()) < 0 ||
			       PyModule_AddIntConstant(module, "OPENS_SLOTS", AVC_SEATS * AVC_SLOTS) < 0 ||
			       PyModule_AddIntConstant(module, "OWN_BYTES", vectors_own_size()) < 0 ||
			       PyModule_AddIntConstant(module, "OWN_NODES", (long)AVC_OWN_NODES) < 0 ||
			       PyModule_AddIntConstant(module, "WORK_BYTES", (long)work_size()) < 0))
		Py_CLEAR(module);
	return module;
}
