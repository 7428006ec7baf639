/*
 * The Python functions of _direntries.c. There is no policy here: Python says which types of names are shown and which
 * are hidden. Python itself decides on all other names. A name's position is Python's hash of the name as bytes, with a
 * key of this process (docs/decisions/0050-positions-are-names.md).
 */

#include "wire/_wire.h"
#include "door/_bridge.h"
#include "door/_direntries.h"

#include <string.h>

#define KINDS 16 /* DT_* types */
#define REPLY_MOST (128u << 10)
#define ASIDE "policyfs-aside-" /* the prefix of temporary names (store/names/aside_names.py) */
#define KEPT ".policyfs-kept" /* likewise: the directory of what is kept */

struct linux_dirent {
	uint64_t ino;
	int64_t offset;
	uint16_t length;
	uint8_t kind;
	char name[];
};

_Static_assert(offsetof(struct linux_dirent, name) == 19, "linux_dirent64");

struct listing {
	PyObject_HEAD
	struct direntries entries;
};

/* Python's hash of the name as bytes. PyHash_GetFuncDef is the public way to it in all versions from 3.11 on. */
static uint64_t position_of(const char *name, size_t size)
{
	Py_hash_t hash = PyHash_GetFuncDef()->hash(name, (Py_ssize_t)size);

	return DIRENTRIES_FIRST + ((uint64_t)hash & (((uint64_t)1 << DIRENTRIES_POSITION_BITS) - 1));
}

/* ---- Collecting ---------------------------------------------------------------------------------- */

static bool keep(struct listing *self, const char *name, size_t size, uint64_t ino, uint32_t kind)
{
	if (direntries_keep(&self->entries, position_of(name, size), name, size, ino, kind))
		return true;
	PyErr_NoMemory();
	return false;
}

static bool is_collecting(const struct listing *self)
{
	if (direntries_is_collecting(&self->entries))
		return true;
	PyErr_SetString(PyExc_RuntimeError, "the names are sorted already");
	return false;
}

struct wanted {
	unsigned shown, hidden; /* DT_* types, one bit each */
	PyObject *apart;	/* dict from a name to its shown types, with its hidden types from bit 16 on; or NULL */
	PyObject *numbers;	/* inode numbers of names that Python decides on, or NULL */
	PyObject *left;		/* the list of the names that are left to Python */
};

/* Return 1 if Python decides on this inode number, 0 if not, -1 with a Python error. */
static int is_left(const struct wanted *wanted, uint64_t ino)
{
	PyObject *number;
	int left;

	if (wanted->numbers == NULL)
		return 0;
	number = PyLong_FromUnsignedLongLong(ino);
	left = number == NULL ? -1 : PySequence_Contains(wanted->numbers, number);
	Py_XDECREF(number);
	return left;
}

/* Find the types of objects that are shown under a name, and the types that are hidden. Return false with a Python
 * error. */
static bool find_decided(const struct wanted *wanted, const char *name, unsigned *shown, unsigned *hidden)
{
	PyObject *key, *found = NULL;
	unsigned long both;

	*shown = wanted->shown;
	*hidden = wanted->hidden;
	if (wanted->apart == NULL)
		return true;
	key = PyBytes_FromString(name);
	if (key == NULL)
		return false;
	found = PyDict_GetItemWithError(wanted->apart, key); /* borrowed */
	Py_DECREF(key);
	if (found == NULL)
		return PyErr_Occurred() == NULL;
	both = PyLong_AsUnsignedLong(found);
	*shown = both & 0xffff;
	*hidden = both >> KINDS & 0xffff;
	return PyErr_Occurred() == NULL;
}

static bool take_one(struct listing *self, const struct wanted *wanted, const struct linux_dirent *found)
{
	unsigned bit = found->kind < KINDS ? 1u << found->kind : 0, shown, hidden;
	int is_python, failed;
	PyObject *left;

	if (strcmp(found->name, ".") == 0 || strcmp(found->name, "..") == 0)
		return true;
	if (strncmp(found->name, ASIDE, sizeof(ASIDE) - 1) == 0 || strcmp(found->name, KEPT) == 0) /* see store/names/aside_names.py */
		return true;
	is_python = is_left(wanted, found->ino);
	if (is_python < 0 || !find_decided(wanted, found->name, &shown, &hidden))
		return false;
	if (is_python == 0 && hidden & bit)
		return true;
	if (is_python == 0 && shown & bit)
		return keep(self, found->name, strlen(found->name), found->ino, found->kind);
	left = Py_BuildValue("(yKi)", found->name, (unsigned long long)found->ino, (int)found->kind);
	failed = left == NULL ? -1 : PyList_Append(wanted->left, left);
	Py_XDECREF(left);
	return failed == 0;
}

static bool take_all(struct listing *self, const struct wanted *wanted, const char *at, size_t size)
{
	for (const char *end = at + size; at < end;) {
		const struct linux_dirent *found = (const void *)at;
		size_t left = (size_t)(end - at);

		if (left <= offsetof(struct linux_dirent, name) || found->length > left ||
		    found->length <= offsetof(struct linux_dirent, name) || found->length % 8 != 0 ||
		    memchr(found->name, 0, found->length - offsetof(struct linux_dirent, name)) == NULL) {
			PyErr_SetString(PyExc_ValueError, "the bytes are not records of getdents64");
			return false;
		}
		if (!take_one(self, wanted, found))
			return false;
		at += found->length;
	}
	return true;
}

static PyObject *add(struct listing *self, PyObject *args)
{
	struct wanted wanted = {0};
	Py_buffer records;
	Py_ssize_t size;
	bool done;

	if (!PyArg_ParseTuple(args, "y*nIIO!O:add", &records, &size, &wanted.shown, &wanted.hidden,
			      &PyDict_Type, &wanted.apart, &wanted.numbers))
		return NULL;
	if (PyDict_GET_SIZE(wanted.apart) == 0)
		wanted.apart = NULL;
	if (PyObject_Length(wanted.numbers) == 0)
		wanted.numbers = NULL;
	wanted.left = PyErr_Occurred() || !is_collecting(self) ? NULL : PyList_New(0);
	done = wanted.left != NULL;
	if (done && (size < 0 || size > records.len)) {
		PyErr_SetString(PyExc_ValueError, "the records are longer than the buffer");
		done = false;
	}
	done = done && take_all(self, &wanted, records.buf, (size_t)size);
	PyBuffer_Release(&records);
	if (!done)
		Py_CLEAR(wanted.left);
	return wanted.left;
}

static PyObject *put(struct listing *self, PyObject *args)
{
	unsigned long long ino;
	unsigned kind;
	const char *name;
	Py_ssize_t size;

	if (!PyArg_ParseTuple(args, "y#KI:put", &name, &size, &ino, &kind) || !is_collecting(self))
		return NULL;
	if (!keep(self, name, (size_t)size, ino, kind))
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *sort(struct listing *self, PyObject *unused)
{
	int more = direntries_sort(&self->entries);

	(void)unused;
	return more < 0 ? PyErr_NoMemory() : PyBool_FromLong(more);
}

/* ---- Reading ------------------------------------------------------------------------------------- */

static bool is_sorted(const struct listing *self)
{
	if (!self->entries.sorted)
		PyErr_SetString(PyExc_RuntimeError, "the names are not sorted yet");
	return self->entries.sorted;
}

static PyObject *after(struct listing *self, PyObject *number)
{
	unsigned long long position = PyLong_AsUnsignedLongLong(number);

	if (PyErr_Occurred() || !is_sorted(self))
		return NULL;
	return PyLong_FromSize_t(direntries_after(&self->entries, position));
}

static PyObject *item(struct listing *self, Py_ssize_t index)
{
	const struct direntry_place *place;

	if (!is_sorted(self))
		return NULL;
	if (index < 0 || (size_t)index >= self->entries.count) {
		PyErr_SetString(PyExc_IndexError, "no such name");
		return NULL;
	}
	place = &self->entries.places[index];
	return Py_BuildValue("(Ky#KI)", (unsigned long long)place->position, place->entry->name,
			     (Py_ssize_t)place->entry->size, (unsigned long long)place->entry->ino,
			     place->entry->kind);
}

static PyObject *pack(struct listing *self, PyObject *args)
{
	Py_ssize_t index, most;
	unsigned char *buffer;
	PyObject *reply;
	size_t used;
	int plus;

	if (!PyArg_ParseTuple(args, "nnp:pack", &index, &most, &plus) || !is_sorted(self))
		return NULL;
	if (index < 0 || most < 0) {
		PyErr_SetString(PyExc_ValueError, "an index or a size is negative");
		return NULL;
	}
	if (most > (Py_ssize_t)REPLY_MOST)
		most = REPLY_MOST;
	buffer = PyMem_Malloc((size_t)most);
	if (buffer == NULL)
		return PyErr_NoMemory();
	used = direntries_pack(&self->entries, (size_t)index, buffer, (size_t)most,
			       plus ? sizeof(struct wire_entry_out) : 0);
	reply = PyBytes_FromStringAndSize((const char *)buffer, (Py_ssize_t)used);
	PyMem_Free(buffer);
	return reply;
}

static Py_ssize_t length(struct listing *self)
{
	return (Py_ssize_t)self->entries.count;
}

/* ---- Ending -------------------------------------------------------------------------------------- */

static PyObject *drop(struct listing *self, PyObject *unused)
{
	(void)unused;
	return PyBool_FromLong(direntries_free(&self->entries));
}

static void dealloc(struct listing *self)
{
	PyTypeObject *type = Py_TYPE(self);

	while (direntries_free(&self->entries))
		;
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef methods[] = {
	{"add", (PyCFunction)add, METH_VARARGS,
	 "add(records, size, shown, hidden, apart, numbers): keep the names of getdents64 with shown types.\n"
	 "shown, hidden: types, a bit each. apart: both by name, hidden types from bit 16 on. Returns the names\n"
	 "that are neither shown nor hidden, and those whose inode number is in numbers."},
	{"put", (PyCFunction)put, METH_VARARGS, "put(name, ino, kind): keep one name."},
	{"sort", (PyCFunction)sort, METH_NOARGS, "sort(): sort some names. True if there are more to sort."},
	{"after", (PyCFunction)after, METH_O, "after(position): the index of the first name behind it."},
	{"pack", (PyCFunction)pack, METH_VARARGS,
	 "pack(index, size, plus): a reply to READDIR of at most size bytes, or to READDIRPLUS without nodes."},
	{"drop", (PyCFunction)drop, METH_NOARGS, "drop(): free some memory. True if there is more to free."},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
	{Py_tp_doc, "The names of a directory, each with its inode number and type, by position."},
	{Py_tp_methods, methods},
	{Py_tp_dealloc, dealloc},
	{Py_sq_length, length},
	{Py_sq_item, item},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "policyfs.kernel._bridge.DirectoryEntries",
	.basicsize = sizeof(struct listing),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};

PyObject *listing_new(PyObject *module, PyObject *unused)
{
	static PyObject *type;

	(void)module, (void)unused;
	if (type == NULL)
		type = PyType_FromSpec(&spec);
	return type == NULL ? NULL : PyType_GenericAlloc((PyTypeObject *)type, 0);
}
