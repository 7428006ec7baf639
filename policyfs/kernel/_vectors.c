/* The Python functions of the access vector cache (_avc.h). Called on the event loop's thread only. */

#include "_avc.h"
#include "_bridge.h"
#include "_proc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define INSTALL_WORDS 14 /* arguments of install_vector that come before the arguments of a version */

static pthread_t loop;

/* INVARIANT: one thread changes the table. */
static bool is_loop(void)
{
	if (!avc_is_open() || pthread_equal(loop, pthread_self()))
		return true;
	PyErr_SetString(PyExc_RuntimeError, "access vectors are changed on the event loop's thread only");
	return false;
}

long vectors_opens_size(void)
{
	return (long)avc_opens_size();
}

long vectors_own_size(void)
{
	return (long)avc_own_size();
}

static bool has_size(const Py_buffer *memory, size_t size)
{
	if ((size_t)memory->len == size && (uintptr_t)memory->buf % 64 == 0)
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
	return has_size(kept, size) ? kept->buf : NULL;
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
	if (!PyArg_ParseTuple(args, "KiIp:see_all_vector", &id, &fd, &uid, &keeps) || !is_loop())
		return NULL;
	return PyBool_FromLong(avc_see_all(id, fd, uid, keeps));
}

/* allow_directory(id, fd, uid, device, bits, entry_s, keeps attributes, excepted names) */
PyObject *vectors_allow(PyObject *module, PyObject *args)
{
	unsigned long long id, device;
	unsigned int uid, bits, entry_s;
	Py_ssize_t excepted_size;
	struct avc_raw raw;
	int fd, keeps;

	(void)module;
	if (!PyArg_ParseTuple(args, "KiIKIIpy#:allow_directory", &id, &fd, &uid, &device, &bits, &entry_s, &keeps,
			      &raw.excepted, &excepted_size) || !is_loop())
		return NULL;
	raw.uid = uid;
	raw.device = device;
	raw.bits = bits & AVC_GRANT_BITS;
	raw.entry_s = entry_s;
	raw.keeps_attributes = keeps;
	raw.excepted_size = (size_t)excepted_size;
	return PyBool_FromLong(avc_allow(id, fd, &raw));
}

/* is_allowed(directory, uid) */
PyObject *vectors_is_allowed(PyObject *module, PyObject *args)
{
	unsigned long long id;
	unsigned int uid;

	(void)module;
	if (!PyArg_ParseTuple(args, "KI:is_allowed", &id, &uid) || !is_loop())
		return NULL;
	return PyBool_FromLong(avc_is_raw(id, uid));
}

PyObject *vectors_register_as(PyObject *module, PyObject *uid)
{
	unsigned long number = PyLong_AsUnsignedLong(uid);

	(void)module;
	if (PyErr_Occurred())
		return NULL;
	avc_register_as((uint32_t)number);
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
	if (!PyArg_ParseTuple(args, "KIy#K:list_file", &id, &uid, &name, &size, &ino) || !is_loop())
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

PyObject *vectors_unlist(PyObject *module, PyObject *id)
{
	unsigned long long number = PyLong_AsUnsignedLongLong(id);

	(void)module;
	if (PyErr_Occurred() || !is_loop())
		return NULL;
	avc_unlist(number);
	Py_RETURN_NONE;
}

PyObject *vectors_drop(PyObject *module, PyObject *id)
{
	unsigned long long number = PyLong_AsUnsignedLongLong(id);

	(void)module;
	if (PyErr_Occurred() || !is_loop())
		return NULL;
	return PyLong_FromUnsignedLongLong(avc_drop(number));
}

PyObject *vectors_leave(PyObject *module, PyObject *id)
{
	unsigned long long number = PyLong_AsUnsignedLongLong(id);

	(void)module;
	if (PyErr_Occurred() || !is_loop())
		return NULL;
	avc_leave(number);
	Py_RETURN_NONE;
}

PyObject *vectors_drop_all(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	if (!is_loop())
		return NULL;
	avc_drop_all();
	Py_RETURN_NONE;
}

/* Handles, numbers of nodes, the kernel's references, or events, from a call of the cache. Python objects are made
 * only after that call: their allocation may run any code, which may call the cache again. */
struct found {
	struct items {
		char *data;
		size_t count;
	} handles, nodes, references, events, own;
	PyObject *known; /* numbers of nodes */
};

struct reference {
	uint64_t node, lookups;
};

static void add(struct items *items, const void *item, size_t size)
{
	if ((items->count & (items->count - 1)) == 0)
		items->data = realloc(items->data, (items->count == 0 ? 1 : 2 * items->count) * size);
	if (items->data == NULL)
		Py_FatalError("no memory for the results of the access vector cache");
	memcpy(items->data + items->count++ * size, item, size);
}

static void add_handle(void *context, const struct avc_opened *opened)
{
	add(&((struct found *)context)->handles, opened, sizeof(*opened));
}

static void add_node(void *context, uint64_t id)
{
	add(&((struct found *)context)->nodes, &id, sizeof(id));
}

static void add_reference(void *context, uint64_t id, uint64_t lookups)
{
	struct reference one = {id, lookups};

	add(&((struct found *)context)->references, &one, sizeof(one));
}

static void add_event(void *context, const struct avc_event *event)
{
	add(&((struct found *)context)->events, event, sizeof(*event));
}

static void add_own(void *context, const struct avc_own *own)
{
	add(&((struct found *)context)->own, own, sizeof(*own));
}

static PyObject *own_of(const void *items, size_t index)
{
	const struct avc_own *one = &((const struct avc_own *)items)[index];

	return Py_BuildValue("KKy#KLKi", (unsigned long long)one->id, (unsigned long long)one->parent, one->name,
			     (Py_ssize_t)one->name_size, (unsigned long long)one->ino, (long long)one->birth_ns,
			     (unsigned long long)one->lookups, one->backing_id);
}

static PyObject *handle_of(const void *items, size_t index)
{
	const struct avc_opened *one = &((const struct avc_opened *)items)[index];
	const struct wire_attr *attr = &one->attr;

	return Py_BuildValue(
		"KKIIII(KIIIIKKILLL)K", (unsigned long long)one->fh, (unsigned long long)one->node, one->uid, one->gid,
		one->pid, one->flags, (unsigned long long)attr->ino, attr->mode, attr->nlink, attr->uid, attr->gid,
		(unsigned long long)attr->size, (unsigned long long)attr->blocks, attr->blksize,
		(long long)wire_time_ns(attr->atime, attr->atimensec), (long long)wire_time_ns(attr->mtime, attr->mtimensec),
		(long long)wire_time_ns(attr->ctime, attr->ctimensec), (unsigned long long)one->unique);
}

static PyObject *node_of(const void *items, size_t index)
{
	return PyLong_FromUnsignedLongLong(((const uint64_t *)items)[index]);
}

static PyObject *reference_of(const void *items, size_t index)
{
	const struct reference *one = &((const struct reference *)items)[index];

	return Py_BuildValue("KK", (unsigned long long)one->node, (unsigned long long)one->lookups);
}

static PyObject *event_of(const void *items, size_t index)
{
	const struct avc_event *one = &((const struct avc_event *)items)[index];

	return Py_BuildValue("LKKIIIIKLy#Ky#", (long long)one->time_ns, (unsigned long long)one->fh,
			     (unsigned long long)one->node, one->uid, one->gid, one->pid, one->flags,
			     (unsigned long long)one->size, (long long)one->mtime_ns, one->program,
			     (Py_ssize_t)one->program_size, (unsigned long long)one->parent, one->name,
			     (Py_ssize_t)one->name_size);
}

/* Make the list of the found items, and free these. The cache no longer has them. If there is no memory for the list,
 * they would be lost, so the process ends. */
static PyObject *list_of(PyObject *(*one_of)(const void *, size_t), const struct items *items)
{
	PyObject *list = PyList_New((Py_ssize_t)items->count);

	for (size_t i = 0; list == NULL || i < items->count; i++) {
		PyObject *one = list == NULL ? NULL : one_of(items->data, i);

		if (one == NULL)
			Py_FatalError("no memory for the results of the access vector cache");
		PyList_SET_ITEM(list, (Py_ssize_t)i, one);
	}
	free(items->data);
	return list;
}

PyObject *vectors_clear(PyObject *module, PyObject *unused)
{
	struct found found = {0};

	(void)module, (void)unused;
	if (!is_loop())
		return NULL;
	avc_clear(add_reference, &found);
	return list_of(reference_of, &found.references);
}

/* take_nodes(which, number): see enum avc_which. */
PyObject *vectors_take_nodes(PyObject *module, PyObject *args)
{
	unsigned long long number;
	struct found found = {0};
	unsigned int which;

	(void)module;
	if (!PyArg_ParseTuple(args, "IK:take_nodes", &which, &number) || !is_loop())
		return NULL;
	if (which <= AVC_SOME)
		avc_take_nodes((enum avc_which)which, number, add_own, &found);
	return list_of(own_of, &found.own);
}

PyObject *vectors_own_nodes(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyLong_FromSize_t(avc_own_nodes());
}

PyObject *vectors_own_backed(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyLong_FromSize_t(avc_own_backed());
}

/* take_opens(which, number). which: 0 for the handle with this number, 1 for the handles of this node, 2 for all. */
PyObject *vectors_take(PyObject *module, PyObject *args)
{
	unsigned long long number;
	struct found found = {0};
	unsigned int which;

	(void)module;
	if (!PyArg_ParseTuple(args, "IK:take_opens", &which, &number) || !is_loop())
		return NULL;
	if (which == 0 && avc_is_open())
		avc_take_handle(number, add_handle, &found);
	else if (which == 1)
		avc_take_handles(number, false, add_handle, &found);
	else if (which == 2)
		avc_take_all_handles(false, add_handle, &found);
	return list_of(handle_of, &found.handles);
}

/* read_opens(memory) */
PyObject *vectors_read_opens(PyObject *module, PyObject *memory)
{
	struct found found = {0};
	Py_buffer view;

	(void)module;
	if (PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	if (has_size(&view, avc_opens_size()))
		avc_read_opens(view.buf, add_handle, &found);
	PyBuffer_Release(&view);
	return PyErr_Occurred() ? NULL : list_of(handle_of, &found.handles);
}

/* Find a node with a backing id, which Python takes over. */
static bool find_own(void *context, const struct avc_own *own)
{
	PyObject *id = PyLong_FromUnsignedLongLong(own->id);
	int known = id == NULL ? 0 : PyDict_Contains(((struct found *)context)->known, id);

	Py_XDECREF(id);
	if (known == 0 && own->backing_id != 0)
		add_own(context, own);
	return known > 0;
}

/* read_own(memory, known) */
PyObject *vectors_read_own(PyObject *module, PyObject *args)
{
	struct found found = {0};
	Py_buffer view;

	(void)module;
	if (!PyArg_ParseTuple(args, "w*O!:read_own", &view, &PyDict_Type, &found.known))
		return NULL;
	if (has_size(&view, avc_own_size()))
		avc_read_own(view.buf, find_own, &found);
	PyBuffer_Release(&view);
	return PyErr_Occurred() ? NULL : list_of(own_of, &found.own);
}

PyObject *vectors_free_taken(PyObject *module, PyObject *fh)
{
	unsigned long long number = PyLong_AsUnsignedLongLong(fh);

	(void)module;
	if (PyErr_Occurred() || !is_loop())
		return NULL;
	avc_free_taken(number);
	Py_RETURN_NONE;
}

PyObject *vectors_end_opens(PyObject *module, PyObject *id)
{
	struct found found = {0};
	unsigned long long number = id == Py_None ? 0 : PyLong_AsUnsignedLongLong(id);

	(void)module;
	if (PyErr_Occurred() || !is_loop())
		return NULL;
	if (id == Py_None)
		avc_take_all_handles(true, add_handle, &found);
	else
		avc_take_handles(number, true, add_handle, &found);
	return list_of(handle_of, &found.handles);
}

PyObject *vectors_age_opens(PyObject *module, PyObject *ages)
{
	struct found found = {0};
	unsigned long most = PyLong_AsUnsignedLong(ages);
	PyObject *handles, *nodes;

	(void)module;
	if (PyErr_Occurred() || !is_loop())
		return NULL;
	avc_age_opens((unsigned)most, add_handle, add_node, &found);
	handles = list_of(handle_of, &found.handles);
	nodes = list_of(node_of, &found.nodes);
	return Py_BuildValue("NN", handles, nodes);
}

PyObject *vectors_take_events(PyObject *module, PyObject *unused)
{
	struct found found = {0};

	(void)module, (void)unused;
	if (!is_loop())
		return NULL;
	avc_take_events(add_event, &found);
	return list_of(event_of, &found.events);
}

PyObject *vectors_events_bell(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyLong_FromLong(avc_events_bell());
}

PyObject *vectors_ring_early(PyObject *module, PyObject *early)
{
	(void)module;
	avc_ring_early(early == Py_True);
	Py_RETURN_NONE;
}

uint64_t vectors_answered(uint32_t opcode)
{
	struct avc_counts counts;

	avc_count(&counts);
	switch (opcode) {
	case OPCODE_LOOKUP:
		return counts.lookups + counts.absences;
	case OPCODE_GETATTR:
		return counts.getattrs;
	case OPCODE_OPEN:
		return counts.opens;
	case OPCODE_RELEASE:
		return counts.releases;
	case OPCODE_OPENDIR:
		return counts.opendirs;
	case OPCODE_RELEASEDIR:
		return counts.releasedirs;
	case OPCODE_ACCESS:
		return counts.accesses;
	case OPCODE_GETXATTR:
		return counts.getxattrs;
	case OPCODE_IOCTL:
		return counts.ioctls;
	default:
		return 0;
	}
}

/* read_proc(directory) */
PyObject *vectors_read_proc(PyObject *module, PyObject *directory)
{
	long fd = PyLong_AsLong(directory);

	(void)module;
	if (PyErr_Occurred())
		return NULL;
	proc_directory = (int)fd;
	Py_RETURN_NONE;
}

PyObject *vectors_exempt(PyObject *module, PyObject *pid)
{
	unsigned long number = PyLong_AsUnsignedLong(pid);

	(void)module;
	if (PyErr_Occurred())
		return NULL;
	avc_exempt((uint32_t)number);
	Py_RETURN_NONE;
}

PyObject *vectors_no_capabilities(PyObject *module, PyObject *truth)
{
	(void)module;
	avc_has_no_capabilities(truth == Py_True);
	Py_RETURN_NONE;
}

PyObject *vectors_counts(PyObject *module, PyObject *unused)
{
	struct avc_counts counts;

	(void)module, (void)unused;
	avc_count(&counts);
	return Py_BuildValue("KKKKKKKKKKKIKKKKK", (unsigned long long)counts.lookups, (unsigned long long)counts.getattrs,
			     (unsigned long long)counts.accesses, (unsigned long long)counts.lost,
			     (unsigned long long)counts.nodes, (unsigned long long)counts.directories,
			     (unsigned long long)counts.installed, (unsigned long long)counts.dropped,
			     (unsigned long long)counts.refused, (unsigned long long)counts.opens,
			     (unsigned long long)counts.releases, avc_count_handles(),
			     (unsigned long long)counts.getxattrs, (unsigned long long)counts.absences,
			     (unsigned long long)counts.opendirs, (unsigned long long)counts.releasedirs,
			     (unsigned long long)counts.ioctls);
}
