/*
 * The Python module of the bridge: the parts of the FUSE protocol that pyfuse3 and its libfuse lack, and the
 * answers to repeats. It is loaded with RTLD_GLOBAL before pyfuse3 (see _interposition.c). There is no policy in
 * it.
 */

#include "memory/_work.h"
#include "table/_avc.h"
#include "device/_device.h"
#include "door/_bridge.h"

#define METHOD(name, function, arguments) {#name, function, METH_##arguments, NULL},

static PyMethodDef methods[] = {
	BRIDGE_FUNCTIONS(METHOD)
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, "policyfs.kernel._bridge", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__bridge(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (module != NULL && (operations_add_types(module) < 0 || appender_add_type(module) < 0 ||
			       PyModule_AddIntConstant(module, "OPENS_BYTES", vectors_opens_size()) < 0 ||
			       PyModule_AddIntConstant(module, "OPENS_SLOTS", AVC_SLOTS) < 0 ||
			       PyModule_AddIntConstant(module, "OWN_BYTES", vectors_own_size()) < 0 ||
			       PyModule_AddIntConstant(module, "OWN_NODES", (long)AVC_OWN_NODES) < 0 ||
			       PyModule_AddIntConstant(module, "WORK_BYTES", (long)work_size()) < 0))
		Py_CLEAR(module);
	return module;
}
