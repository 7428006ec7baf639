/* The Python functions of the access vector cache (_avc.h). Called on the event loop's thread only. */

#include "memory/_proc.h"
#include "table/_avc.h"
#include "device/_device.h"
#include "door/_bridge.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define INSTALL_WORDS 14 /* arguments of install_vector that come before the arguments of a version */

static pthread_t loop;

/* INVARIANT: one thread changes the table. */
bool vectors_is_loop(void)
{
	if (!avc_is_open() || pthread_equal(loop, pthread_self()))
		return true;
	PyErr_SetString(PyExc_RuntimeError, "access vectors are changed on the event loop's thread only");
	return false;
}

/* Read a number that is the only argument of a function for the loop. Return false with a Python error. */
bool vectors_read_number(PyObject *argument, unsigned long long *number)
{
	*number = PyLong_AsUnsignedLongLong(argument);
	return !PyErr_Occurred() && vectors_is_loop();
}

long vectors_opens_size(void)
{
	return (long)avc_opens_size();
}

long vectors_own_size(void)
{
	return (long)avc_own_size();
}

bool vectors_has_size(const void *memory, size_t bytes, size_t size)
{
	if (bytes == size && (uintptr_t)memory % 64 == 0)
		return true;
	PyErr_SetString(PyExc_ValueError, "not the memory of opens, counts or nodes");
	return false;
}

/* Return the buffer of a memory of this size that outlives this process; NULL for None, and after an error. */
static void *outliving(PyObject *memory, Py_buffer *kept, size_t size)
{
	PyBuffer_Release(kept);
	if (memory == Py_None || PyObject_GetBuffer(memory, kept, PyBUF_WRITABLE) < 0)
		return NULL;
	return vectors_has_size(kept->buf, (size_t)kept->len, size) ? kept->buf : NULL;
}

PyObject *vectors_open(PyObject *module, PyObject *args)
{
	static Py_buffer slots, numbers, nodes_kept;
	Py_ssize_t nodes;
	unsigned int directories;
	PyObject *memory = Py_None, *counts = Py_None, *own = Py_None;

	(void)module;
	if (!PyArg_ParseTuple(args, "nI|OOO:open_vectors", &nodes, &directories, &memory, &counts, &own))
		return NULL;
	avc_close();
	if (nodes <= 0 || nodes > (1 << 24) || directories == 0 || directories > 4096) {
		PyErr_SetString(PyExc_ValueError, "no room for access vectors");
		return NULL;
	}
	avc_save_opens(outliving(memory, &slots, avc_opens_size()));
	avc_save_counts(PyErr_Occurred() ? NULL : outliving(counts, &numbers, avc_counts_size((size_t)nodes)));
	avc_save_own(PyErr_Occurred() ? NULL : outliving(own, &nodes_kept, avc_own_size()));
	if (PyErr_Occurred()) {
		avc_save_opens(NULL);
		avc_save_counts(NULL);
		return NULL;
	}
	if (!avc_open((size_t)nodes, directories, AVC_SEATS))
		return PyErr_NoMemory();
	loop = pthread_self();
	avc_around_waits(interpreter_leave, interpreter_return);
	Py_RETURN_NONE;
}

PyObject *vectors_install(PyObject *module, PyObject *args)
{
	struct avc_vector vector;
	unsigned long long id, parent, device, ino;
	long long birth_ns;
	Py_ssize_t name_size;
	unsigned int uid, grant, format, kept_ms, gid = 0, flags = 0;
	unsigned long long size = 0;
	long long mtime_ns = 0, ctime_ns = 0;
	int backing_id = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "KKiy#IIKKLII|IIiKLL:install_vector", &id, &parent, &vector.directory,
			      &vector.name, &name_size, &uid, &grant, &device, &ino, &birth_ns, &format,
			      &kept_ms, &gid, &flags, &backing_id, &size, &mtime_ns, &ctime_ns))
		return NULL;
	if (!vectors_is_loop())
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
	vector.kept_ms = kept_ms;
	vector.gid = gid;
	vector.flags = flags;
	vector.backing_id = backing_id;
	vector.of_version = PyTuple_GET_SIZE(args) > INSTALL_WORDS;
	vector.version = (struct avc_version){size, mtime_ns, ctime_ns};
	return PyBool_FromLong(avc_install(&vector));
}

PyObject *vectors_see_all(PyObject *module, PyObject *args)
{
	unsigned long long id;
	unsigned int uid;
	int fd, keeps;

	(void)module;
	if (!PyArg_ParseTuple(args, "KiIp:see_all_vector", &id, &fd, &uid, &keeps) || !vectors_is_loop())
		return NULL;
	return PyBool_FromLong(avc_see_all(id, fd, uid, keeps));
}

/* allow_directory(id, fd, uid, device, bits, entry_s, keeps attributes, excepted names, owner of new files) */
PyObject *vectors_allow(PyObject *module, PyObject *args)
{
	unsigned long long id, device;
	unsigned int uid, bits, entry_s, moves;
	Py_ssize_t excepted_size, owner_size;
	struct avc_raw raw;
	int fd, keeps;

	(void)module;
	if (!PyArg_ParseTuple(args, "KiIKIIpIy#y#:allow_directory", &id, &fd, &uid, &device, &bits, &entry_s, &keeps,
			      &moves, &raw.excepted, &excepted_size, &raw.owner, &owner_size) || !vectors_is_loop())
		return NULL;
	raw.uid = uid;
	raw.device = device;
	raw.bits = bits & AVC_GRANT_BITS;
	raw.entry_s = entry_s;
	raw.moves = moves;
	raw.keeps_attributes = keeps;
	raw.excepted_size = (size_t)excepted_size;
	raw.owner_size = (size_t)owner_size;
	return PyBool_FromLong(avc_allow(id, fd, &raw));
}

/* is_allowed(directory, uid) */
PyObject *vectors_is_allowed(PyObject *module, PyObject *args)
{
	unsigned long long id;
	unsigned int uid;

	(void)module;
	if (!PyArg_ParseTuple(args, "KI:is_allowed", &id, &uid) || !vectors_is_loop())
		return NULL;
	return PyBool_FromLong(avc_is_raw(id, uid));
}

PyObject *vectors_passes_through(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	avc_passes_through();
	Py_RETURN_NONE;
}

PyObject *vectors_know(PyObject *module, PyObject *args)
{
	unsigned long long inode;
	int known;

	(void)module;
	if (!PyArg_ParseTuple(args, "Kp:know_inode", &inode, &known))
		return NULL;
	avc_know(inode, known);
	Py_RETURN_NONE;
}

/* list_file(directory, uid, name, inode) -> attributes, or None. inode: as the directory has it, only to save work */
PyObject *vectors_list(PyObject *module, PyObject *args)
{
	unsigned long long id, ino;
	unsigned int uid;
	const char *name;
	Py_ssize_t size;
	struct wire_entry_out out;
	const struct wire_attr *attr = &out.attr;

	(void)module;
	if (!PyArg_ParseTuple(args, "KIy#K:list_file", &id, &uid, &name, &size, &ino) || !vectors_is_loop())
		return NULL;
	if (!avc_list(id, uid, name, (size_t)size, ino, &out))
		Py_RETURN_NONE;
	return Py_BuildValue(
		"Kkd(KIIIIKKILLL)", (unsigned long long)out.nodeid, (unsigned long)out.entry_valid,
		(double)out.attr_valid + out.attr_valid_nsec / 1e9, (unsigned long long)attr->ino, attr->mode, attr->nlink,
		attr->uid, attr->gid, (unsigned long long)attr->size, (unsigned long long)attr->blocks, attr->blksize,
		(long long)wire_time_ns(attr->atime, attr->atimensec), (long long)wire_time_ns(attr->mtime, attr->mtimensec),
		(long long)wire_time_ns(attr->ctime, attr->ctimensec));
}

PyObject *vectors_drop(PyObject *module, PyObject *id)
{
	unsigned long long number;

	(void)module;
	if (!vectors_read_number(id, &number))
		return NULL;
	return PyLong_FromUnsignedLongLong(avc_drop(number));
}

PyObject *vectors_drop_all(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	if (!vectors_is_loop())
		return NULL;
	avc_drop_all();
	Py_RETURN_NONE;
}

PyObject *vectors_events_bell(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyLong_FromLong(avc_events_bell());
}

/* name_number(device, inode, name) */
PyObject *vectors_name_number(PyObject *module, PyObject *args)
{
	unsigned long long device, inode;
	const char *name;
	Py_ssize_t size;

	(void)module;
	if (!PyArg_ParseTuple(args, "KKy#:name_number", &device, &inode, &name, &size))
		return NULL;
	return PyLong_FromUnsignedLongLong(avc_name_number(device, inode, name, (size_t)size));
}

static void read_proc(int directory)
{
	proc_directory = directory;
}

/* Functions that tell the cache one number (or a truth value), and return None. */
#define TELLS(function, kind, tell) \
	PyObject *function(PyObject *module, PyObject *argument) \
	{ \
		const long long number = PyLong_AsLongLong(argument); \
\
		(void)module; \
		if (PyErr_Occurred()) \
			return NULL; \
		tell((kind)number); \
		Py_RETURN_NONE; \
	}
TELLS(vectors_register_as, uint32_t, avc_register_as)
TELLS(vectors_lock_names_in, int, avc_lock_names_in)
TELLS(vectors_held_in, int, avc_held_in)
TELLS(vectors_read_proc, int, read_proc)
TELLS(vectors_exempt, uint32_t, avc_exempt)
TELLS(vectors_no_capabilities, bool, avc_has_no_capabilities)
TELLS(vectors_ring_early, bool, avc_ring_early)

/* The same about a node. Event loop only. */
#define TELLS_OF_NODE(function, tell) \
	PyObject *function(PyObject *module, PyObject *id) \
	{ \
		unsigned long long number; \
\
		(void)module; \
		if (!vectors_read_number(id, &number)) \
			return NULL; \
		tell(number); \
		Py_RETURN_NONE; \
	}
TELLS_OF_NODE(vectors_unlist, avc_unlist)
TELLS_OF_NODE(vectors_leave, avc_leave)

PyObject *vectors_counts(PyObject *module, PyObject *unused)
{
	struct avc_counts counts;
	unsigned directories, files = avc_count_handles(&directories);

	(void)module, (void)unused;
	avc_count(&counts);
#define FORMAT(kind, opcode) "sK"
#define VALUE(kind, opcode) #kind, (unsigned long long)counts.kind,
	return Py_BuildValue("{" AVC_ANSWERS(FORMAT) "sKsKsKsKsKsKsIsI}", AVC_ANSWERS(VALUE)
			     VALUE(lost, ) VALUE(nodes, ) VALUE(directories, ) VALUE(installed, ) VALUE(dropped, )
			     VALUE(refused, ) "handles", files, "listings", directories);
#undef VALUE
#undef FORMAT
}
