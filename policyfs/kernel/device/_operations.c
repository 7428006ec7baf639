/*
 * Requests that policyfs answers without libfuse and pyfuse3. pyfuse3 has no handlers for most of them, and libfuse
 * 3.14 cannot even parse some of them (TMPFILE, STATX, COPY_FILE_RANGE_64). These requests are taken out of the stream
 * as they are read, and are passed to one Python callable. The callable answers each request through the object that
 * comes with the request.
 *
 * This file knows the kernel's wire format and nothing of libfuse. So it works with every version of libfuse, no matter
 * which of these operations the version knows.
 */

#include "wire/_handles.h"
#include "wire/_request_kinds.h"
#include "table/_avc.h"
#include "queue/_queue.h"
#include "device/_device.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LK_FLOCK_FLAG (1u << 0)

struct wire_lk_in {
	uint64_t fh, owner, start, end;
	uint32_t type, pid, flags, padding;
};

_Static_assert(sizeof(struct wire_lk_in) == 48, "fuse_lk_in");

static struct {
	int fd;			/* the descriptor of the session's device, -1 without a session */
	uint64_t session;	/* counts sessions: a request of an earlier session gets no answer */
	uint64_t taken;		/* one bit for each opcode that the callable takes */
	uint64_t lost_replies;
	PyObject *callable;	/* owned; NULL while nothing is registered */
} door = {.fd = -1};

/* ---- One request ----------------------------------------------------------------------------- */

typedef struct {
	PyObject_HEAD
	PyObject *data;
	uint64_t unique, session;
	bool open; /* not answered yet */
} Pending;

static bool is_of_this_session(const Pending *pending)
{
	return door.fd >= 0 && pending->session == door.session;
}

/* Write a reply. Return false if the kernel did not take it (the caller was killed, or the mount was aborted). */
static bool send_reply(const Pending *pending, int error, const void *body, size_t size)
{
	struct wire_out_header header = {
		.len = (uint32_t)(sizeof(header) + size),
		.error = -error,
		.unique = pending->unique,
	};
	/* The pointers of iovec are not const, but nothing is written through them. */
	struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)body, size}};

	if (!is_of_this_session(pending))
		return false;
	if (writev(door.fd, iov, size > 0 ? 2 : 1) >= 0)
		return true;
	door.lost_replies++;
	return false;
}

static PyObject *pending_answer(PyObject *self, PyObject *args)
{
	Pending *pending = (Pending *)self;
	int error = 0;
	Py_buffer body = {0};
	bool delivered;

	if (!PyArg_ParseTuple(args, "i|y*:answer", &error, &body))
		return NULL;
	if (error < 0 || error >= 512 || (error > 0 && body.len > 0) || body.len > INT32_MAX / 2) {
		PyBuffer_Release(&body);
		PyErr_SetString(PyExc_ValueError, "an answer is an errno or a body");
		return NULL;
	}
	if (!pending->open) {
		PyBuffer_Release(&body);
		PyErr_SetString(PyExc_RuntimeError, "the request has been answered");
		return NULL;
	}
	pending->open = false;
	if (is_of_this_session(pending))
		turns_answered(pending->unique);
	delivered = send_reply(pending, error, body.buf, (size_t)body.len);
	PyBuffer_Release(&body);
	return PyBool_FromLong(delivered);
}

/* Reply from the thread that did the work. The counts of requests under way belong to the event loop, and are not
 * changed here. */
static PyObject *pending_send(PyObject *self, PyObject *args)
{
	Pending *pending = (Pending *)self;
	int error = 0;

	if (!PyArg_ParseTuple(args, "i:send", &error))
		return NULL;
	if (error < 0 || error >= 512 || !pending->open) {
		PyErr_SetString(PyExc_ValueError, "send() takes an errno or 0, and answers only once");
		return NULL;
	}
	pending->open = false;
	return PyBool_FromLong(send_reply(pending, error, NULL, 0));
}

static PyObject *pending_rests(PyObject *self, PyObject *unused)
{
	const Pending *pending = (const Pending *)self;

	(void)unused;
	if (is_of_this_session(pending))
		turns_answered(pending->unique);
	Py_RETURN_NONE;
}

static PyObject *pending_data(PyObject *self, void *closure)
{
	(void)closure;
	return Py_NewRef(((Pending *)self)->data);
}

/* Answer EIO to a request that Python drops without an answer, so that its caller does not wait for ever. */
static void pending_dealloc(PyObject *self)
{
	Pending *pending = (Pending *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (pending->open) {
		if (is_of_this_session(pending))
			turns_answered(pending->unique);
		send_reply(pending, EIO, NULL, 0);
	}
	Py_CLEAR(pending->data);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef pending_methods[] = {
	{"answer", pending_answer, METH_VARARGS,
	 "answer(errno, body=b''): the one reply. False if the kernel no longer waits for it."},
	{"send", pending_send, METH_VARARGS,
	 "send(errno): the one reply, without a body, from any thread. Then call rests() on the loop's thread."},
	{"rests", pending_rests, METH_NOARGS,
	 "Count the request as under way no more: it is over, or only waits for another request."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef pending_attributes[] = {
	{"data", pending_data, NULL, "The whole request, header first.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pending_slots[] = {
	{Py_tp_dealloc, pending_dealloc},
	{Py_tp_methods, pending_methods},
	{Py_tp_getset, pending_attributes},
	{Py_tp_doc, "A request to be answered once; EIO, if it is dropped unanswered."},
	{0, NULL},
};

static PyType_Spec pending_spec = {
	.name = "policyfs.kernel._bridge.Pending",
	.basicsize = sizeof(Pending),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = pending_slots,
};

static PyTypeObject *pending_type;

/* ---- Taking requests ------------------------------------------------------------------------- */

static void call_door(const unsigned char *message, size_t size, const struct wire_in_header *header)
{
	Pending *pending = PyObject_New(Pending, pending_type);
	PyObject *result;

	if (pending != NULL) {
		pending->unique = header->unique;
		pending->session = door.session;
		pending->open = header->opcode != OPCODE_INTERRUPT; /* an INTERRUPT has no answer */
		pending->data = PyBytes_FromStringAndSize((const char *)message, (Py_ssize_t)size);
	}
	if (pending == NULL || pending->data == NULL) {
		/* No memory. The request gets ENOMEM, or EIO if only its bytes have no memory. An interrupt is lost, as
		 * if it had come too late. */
		Pending dropped = {.unique = header->unique, .session = door.session};

		PyErr_Clear();
		if (pending == NULL && header->opcode != OPCODE_INTERRUPT) {
			turns_answered(header->unique);
			send_reply(&dropped, ENOMEM, NULL, 0);
		}
		Py_XDECREF(pending);
		return;
	}
	result = PyObject_CallOneArg(door.callable, (PyObject *)pending);
	if (result == NULL)
		PyErr_WriteUnraisable(door.callable); /* the request then answers EIO */
	Py_XDECREF(result);
	Py_DECREF(pending);
}

static void note_lock(const unsigned char *message, size_t size, const struct wire_in_header *header)
{
	struct wire_lk_in lock;

	if ((header->opcode != OPCODE_SETLK && header->opcode != OPCODE_SETLKW) ||
	    size < sizeof(*header) + sizeof(lock))
		return;
	memcpy(&lock, message + sizeof(*header), sizeof(lock));
	if (!(lock.flags & LK_FLOCK_FLAG))
		closes_lock_range();
}

/* True if the callable takes this request. It takes a WRITE only if the data were dropped (_lanes.h). */
static bool is_taken(const struct wire_in_header *header, bool refused)
{
	return header->opcode < OPCODES && (door.taken & ((uint64_t)1 << header->opcode)) &&
	       (refused || header->opcode != OPCODE_WRITE);
}

bool operations_take(const unsigned char *message, size_t size)
{
	struct wire_in_header header;
	PyGILState_STATE state;
	bool refused;

	if (size < sizeof(header))
		return false;
	memcpy(&header, message, sizeof(header));
	refused = has_lost_data(&header, size);
	if (refused && !is_taken(&header, refused)) {
		Pending pending = {.unique = header.unique, .session = door.session};

		send_reply(&pending, ENOMEM, NULL, 0);
		return true;
	}
	if (door.callable == NULL)
		return false;
	note_lock(message, size, &header);
	if (!is_taken(&header, refused))
		return false;
	if (header.opcode != OPCODE_INTERRUPT) /* turns_begun() comes before the request can be answered */
		turns_begun(message, size);
	state = PyGILState_Ensure();
	call_door(message, size, &header);
	PyGILState_Release(state);
	return true;
}

void operations_session(int fd)
{
	door.fd = fd;
	door.session++;
	closes_reset();
	door.lost_replies = 0;
}

uint64_t operations_lost(void)
{
	return door.lost_replies;
}

PyObject *operations_register(PyObject *module, PyObject *args)
{
	unsigned long long taken;
	PyObject *callable, *before = door.callable;

	(void)module;
	if (!PyArg_ParseTuple(args, "OK:operations", &callable, &taken))
		return NULL;
	if (callable != Py_None && !PyCallable_Check(callable)) {
		PyErr_SetString(PyExc_TypeError, "operations() takes a callable or None");
		return NULL;
	}
	door.callable = callable == Py_None ? NULL : Py_NewRef(callable);
	door.taken = callable == Py_None ? 0 : taken;
	closes_take_locks((door.taken & BIT(OPCODE_SETLK)) != 0);
	Py_XDECREF(before);
	Py_RETURN_NONE;
}

PyObject *operations_hear_flushes(PyObject *module, PyObject *every)
{
	int truth = PyObject_IsTrue(every);

	(void)module;
	if (truth < 0)
		return NULL;
	closes_hear_all(truth != 0);
	Py_RETURN_NONE;
}

int operations_add_types(PyObject *module)
{
	pending_type = (PyTypeObject *)PyType_FromSpec(&pending_spec);
	if (pending_type == NULL)
		return -1;
	return PyModule_AddObjectRef(module, "Pending", (PyObject *)pending_type);
}
