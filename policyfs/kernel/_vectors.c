/* Python's side of the access vector cache (_avc.c). Called on the event loop's thread only. */

#include "_avc.h"
#include "_bridge.h"

#include <pthread.h>

static pthread_t loop;

/* INVARIANT: one thread changes the table. */
static bool is_loop(void)
{
	if (!avc_is_open() || pthread_equal(loop, pthread_self()))
		return true;
	PyErr_SetString(PyExc_RuntimeError, "access vectors are changed on the event loop's thread only");
	return false;
}

PyObject *vectors_open(PyObject *module, PyObject *args)
{
	Py_ssize_t nodes;
	unsigned int directories;

	(void)module;
	if (!PyArg_ParseTuple(args, "nI:open_vectors", &nodes, &directories))
		return NULL;
	if (nodes <= 0 || nodes > (1 << 24) || directories == 0 || directories > 4096) {
		PyErr_SetString(PyExc_ValueError, "no room for access vectors");
		return NULL;
	}
	if (!avc_open((size_t)nodes, directories, AVC_SEATS))
		return PyErr_NoMemory();
	loop = pthread_self();
	Py_RETURN_NONE;
}

PyObject *vectors_install(PyObject *module, PyObject *args)
{
	struct avc_vector vector;
	unsigned long long id, parent, device, ino;
	long long birth_ns;
	Py_ssize_t name_size;
	unsigned int uid, grant, format;

	(void)module;
	if (!PyArg_ParseTuple(args, "KKiy#IIKKLI:install_vector", &id, &parent, &vector.directory,
			      &vector.name, &name_size, &uid, &grant, &device, &ino, &birth_ns, &format))
		return NULL;
	if (!is_loop())
		return NULL;
	vector.id = id;
	vector.parent = parent;
	vector.name_size = (size_t)name_size;
	vector.uid = uid;
	vector.grant = grant & AVC_GRANT_BITS;
	vector.device = device;
	vector.ino = ino;
	vector.birth_ns = birth_ns;
	vector.format = format;
	return PyBool_FromLong(avc_install(&vector));
}

PyObject *vectors_drop(PyObject *module, PyObject *id)
{
	unsigned long long number = PyLong_AsUnsignedLongLong(id);

	(void)module;
	if (PyErr_Occurred() || !is_loop())
		return NULL;
	return PyLong_FromUnsignedLongLong(avc_drop(number));
}

PyObject *vectors_drop_all(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	if (!is_loop())
		return NULL;
	avc_drop_all();
	Py_RETURN_NONE;
}

static void add_to_list(void *context, uint64_t id, uint64_t lookups)
{
	PyObject *pair = Py_BuildValue("KK", (unsigned long long)id, (unsigned long long)lookups);

	if (pair == NULL || PyList_Append(context, pair) < 0)
		Py_FatalError("no memory for the kernel's references");
	Py_DECREF(pair);
}

PyObject *vectors_clear(PyObject *module, PyObject *unused)
{
	PyObject *taken = is_loop() ? PyList_New(0) : NULL;

	(void)module, (void)unused;
	if (taken != NULL)
		avc_clear(add_to_list, taken);
	return taken;
}

uint64_t vectors_answered(uint32_t opcode)
{
	struct avc_counts counts;

	avc_count(&counts);
	return opcode == 1 ? counts.lookups : opcode == 3 ? counts.getattrs : opcode == 34 ? counts.accesses : 0;
}

PyObject *vectors_counts(PyObject *module, PyObject *unused)
{
	struct avc_counts counts;

	(void)module, (void)unused;
	avc_count(&counts);
	return Py_BuildValue("KKKKKKKKK", (unsigned long long)counts.lookups, (unsigned long long)counts.getattrs,
			     (unsigned long long)counts.accesses, (unsigned long long)counts.lost,
			     (unsigned long long)counts.nodes, (unsigned long long)counts.directories,
			     (unsigned long long)counts.installed, (unsigned long long)counts.dropped,
			     (unsigned long long)counts.refused);
}
