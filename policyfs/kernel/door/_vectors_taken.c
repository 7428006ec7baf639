/* The Python functions by which Python takes over what the access vector cache has: handles, nodes and events. Called on
 * the event loop's thread only. */

#include "table/_avc.h"
#include "door/_bridge.h"

#include <stdlib.h>
#include <string.h>

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

struct handle {
	struct avc_opened opened;
	int file;
};

static void add_handle(void *context, const struct avc_opened *opened, int file)
{
	struct handle one = {*opened, file};

	add(&((struct found *)context)->handles, &one, sizeof(one));
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

	return Py_BuildValue("KKy#KLKiKKy#", (unsigned long long)one->id, (unsigned long long)one->parent, one->name,
			     (Py_ssize_t)one->name_size, (unsigned long long)one->ino, (long long)one->birth_ns,
			     (unsigned long long)one->lookups, one->backing_id, (unsigned long long)one->remover,
			     (unsigned long long)one->new_parent, one->new_name, (Py_ssize_t)one->new_name_size);
}

static PyObject *handle_of(const void *items, size_t index)
{
	const struct avc_opened *one = &((const struct handle *)items)[index].opened;
	const struct wire_attr *attr = &one->attr;

	return Py_BuildValue(
		"KKIIII(KIIIIKKILLL)Ki", (unsigned long long)one->fh, (unsigned long long)one->node, one->uid, one->gid,
		one->pid, one->flags, (unsigned long long)attr->ino, attr->mode, attr->nlink, attr->uid, attr->gid,
		(unsigned long long)attr->size, (unsigned long long)attr->blocks, attr->blksize,
		(long long)wire_time_ns(attr->atime, attr->atimensec), (long long)wire_time_ns(attr->mtime, attr->mtimensec),
		(long long)wire_time_ns(attr->ctime, attr->ctimensec), (unsigned long long)one->unique,
		((const struct handle *)items)[index].file);
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

	return Py_BuildValue("LKKIIIIKLy#Ky#iKLKy#", (long long)one->time_ns, (unsigned long long)one->fh,
			     (unsigned long long)one->node, one->uid, one->gid, one->pid, one->flags,
			     (unsigned long long)one->size, (long long)one->mtime_ns, one->program,
			     (Py_ssize_t)one->program_size, (unsigned long long)one->parent, one->name,
			     (Py_ssize_t)one->name_size, one->kind, (unsigned long long)one->size_after,
			     (long long)one->mtime_after_ns, (unsigned long long)one->new_parent, one->new_name,
			     (Py_ssize_t)one->new_name_size);
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
	if (!vectors_is_loop())
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
	if (!PyArg_ParseTuple(args, "IK:take_nodes", &which, &number) || !vectors_is_loop())
		return NULL;
	if (which <= AVC_SOME)
		avc_take_nodes((enum avc_which)which, number, add_own, &found);
	return list_of(own_of, &found.own);
}

/* changed(inode) -> the node about which the kernel must ask again, or 0; None if the inode has no node of the bridge */
PyObject *vectors_changed(PyObject *module, PyObject *inode)
{
	unsigned long long number;
	uint64_t stale;

	(void)module;
	if (!vectors_read_number(inode, &number))
		return NULL;
	if (!avc_changed(number, &stale))
		Py_RETURN_NONE;
	return PyLong_FromUnsignedLongLong(stale);
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

/* take_opens(which, number). which: 0 for the handle with this number, 1 for the handles of this node. */
PyObject *vectors_take(PyObject *module, PyObject *args)
{
	unsigned long long number;
	struct found found = {0};
	unsigned int which;

	(void)module;
	if (!PyArg_ParseTuple(args, "IK:take_opens", &which, &number) || !vectors_is_loop())
		return NULL;
	if (which == 0 && avc_is_open())
		avc_take_handle(number, add_handle, &found);
	else if (which == 1)
		avc_take_handles(number, false, add_handle, &found);
	return list_of(handle_of, &found.handles);
}

/* writer_file(fh) -> descriptor, or -1 */
PyObject *vectors_writer_file(PyObject *module, PyObject *fh)
{
	unsigned long long number;

	(void)module;
	if (!vectors_read_number(fh, &number))
		return NULL;
	return PyLong_FromLong(avc_writer_file(number));
}

/* read_opens(memory) */
PyObject *vectors_read_opens(PyObject *module, PyObject *memory)
{
	struct found found = {0};
	Py_buffer view;

	(void)module;
	if (PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	if (vectors_has_size(view.buf, (size_t)view.len, avc_opens_size()))
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
	if (known == 0 && (own->backing_id != 0 || own->lookups & AVC_MAKING || own->remover != 0))
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
	if (vectors_has_size(view.buf, (size_t)view.len, avc_own_size()))
		avc_read_own(view.buf, find_own, &found);
	PyBuffer_Release(&view);
	return PyErr_Occurred() ? NULL : list_of(own_of, &found.own);
}

PyObject *vectors_free_taken(PyObject *module, PyObject *fh)
{
	unsigned long long number;

	(void)module;
	if (!vectors_read_number(fh, &number))
		return NULL;
	avc_free_taken(number);
	Py_RETURN_NONE;
}

PyObject *vectors_end_opens(PyObject *module, PyObject *id)
{
	struct found found = {0};
	unsigned long long number = id == Py_None ? 0 : PyLong_AsUnsignedLongLong(id);

	(void)module;
	if (PyErr_Occurred() || !vectors_is_loop())
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
	if (PyErr_Occurred() || !vectors_is_loop())
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
	if (!vectors_is_loop())
		return NULL;
	avc_take_events(add_event, &found);
	return list_of(event_of, &found.events);
}
