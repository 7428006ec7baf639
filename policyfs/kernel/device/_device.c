/*
 * The device of the one session. Each request is counted and copied as it is read. The reply to INIT is changed
 * on its way, so that it has the INIT flags that policyfs needs and libfuse never sets.
 *
 * This file knows the kernel's wire format and nothing of libfuse. libfuse calls device_read() and device_writev() in
 * place of read(2) and writev(2).
 */

#include "wire/_handles.h"
#include "memory/_work.h"
#include "table/_avc.h"
#include "queue/_lanes.h"
#include "queue/_queue.h"
#include "device/_device.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kernel takes the smaller one of this value and the device's value, which session.py has set. */
#define MAX_READAHEAD (1 << 20)

#define FUSE_INIT_EXT_BIT 30

struct wire_init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
};

struct wire_init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};

_Static_assert(sizeof(struct wire_init_out) == 64, "fuse_init_out");


#define LAST_CAPACITY 8192
#define INIT_CAPACITY 512 /* fuse_init_in has 104 bytes with the header */
#define NOTIFY_RESEND 7	  /* FUSE_NOTIFY_RESEND, Linux 6.9 */
/* Of a WRITE only the header and fuse_write_in are kept, not the data. */
#define LAST_WRITE_BYTES (sizeof(struct wire_in_header) + sizeof(struct wire_write_in))

static struct {
	uint64_t want_flags;  /* INIT flags to request, as far as the kernel offers them */
	uint32_t want_depth;  /* max_stack_depth to request; 0 without passthrough */
	bool attached;	      /* a session came through bridge_session_mount() */
	uint64_t init_unique; /* the number of the INIT request while it is not answered, else 0 */
	bool negotiated;
	bool adopting; /* the kernel has the answer to INIT: it gave that to the daemon before this one */
	int fd;
	void (*process)(void *message, size_t size); /* by libfuse */
	size_t init_size;
	unsigned char init[INIT_CAPACITY];
	uint32_t kernel_minor, depth, max_write;
	uint64_t offered, flags;
	uint64_t counts[OPCODES]; /* of requests by opcode; the first counts all opcodes that have no place here */
	uint64_t lost_replies;
	size_t last_size;
	unsigned char last[LAST_CAPACITY];
} session;

/* ---- Requests and replies ------------------------------------------------------------------ */

static void note_request(const unsigned char *message, size_t size)
{
	struct wire_in_header header;

	if (size < sizeof(header))
		return;
	memcpy(&header, message, sizeof(header));
	session.counts[header.opcode < OPCODES ? header.opcode : 0]++;

	if (header.opcode == OPCODE_INIT && size >= sizeof(header) + 16) {
		struct wire_init_in init = {0};
		size_t body = size - sizeof(header);

		memcpy(&init, message + sizeof(header), body < sizeof(init) ? body : sizeof(init));
		session.init_unique = header.unique;
		session.init_size = size <= INIT_CAPACITY ? size : 0;
		memcpy(session.init, message, session.init_size);
		session.kernel_minor = init.minor;
		session.offered = init.flags;
		if (init.flags & BIT(FUSE_INIT_EXT_BIT))
			session.offered |= (uint64_t)init.flags2 << 32;
	}

	if (header.opcode == OPCODE_WRITE && size > LAST_WRITE_BYTES)
		size = LAST_WRITE_BYTES;
	session.last_size = size < LAST_CAPACITY ? size : LAST_CAPACITY;
	memcpy(session.last, message, session.last_size);
}

void *interpreter_leave(void)
{
	return PyGILState_Check() ? PyEval_SaveThread() : NULL;
}

void interpreter_return(void *left)
{
	if (left != NULL)
		PyEval_RestoreThread(left);
}

/* INVARIANT: runs without the interpreter lock if repeats are answered, since an answer may wait for the store. If the
 * event loop then waits in a circle of locks, the thread that ends the circle can run (daemon/lock_circle.py). */
static ssize_t read_request(int fd, void *buffer, size_t size)
{
	void *left = avc_is_open() ? interpreter_leave() : NULL;
	ssize_t got = turns_read(fd, buffer, size);

	interpreter_return(left);
	return got;
}

ssize_t device_read(int fd, void *buffer, size_t size, void *userdata)
{
	ssize_t got = read_request(fd, buffer, size);

	(void)userdata;
	readers_weigh(got >= 0);
	if (got > 0 && (got = (ssize_t)tree_forget(buffer, (size_t)got)) == 0) {
		turns_begun(NULL, 0);
		errno = EINTR;
		return -1;
	}
	if (got >= 0) {
		note_request(buffer, (size_t)got);
		if (!work_begin(fd, buffer, (size_t)got)) {
			turns_begun(NULL, 0);
			errno = EINTR; /* as if no request had come */
			return -1;
		}
		if (!operations_take(buffer, (size_t)got)) {
			turns_begun(buffer, (size_t)got);
			return got;
		}
		turns_begun(NULL, 0);
		errno = EINTR; /* as if no request had come */
		return -1;
	}
	/* pyfuse3 ends its loop at any error except EINTR. The descriptor is non-blocking. When it was readable, a
	 * request was there, but another thread may have read the request. So EAGAIN is as harmless as EINTR. If the
	 * kernel has no memory for the copy of a request, it ends this request with EIO, and the next read may succeed.
	 * An aborted connection ends the session in the same way as an unmounted one. */
	if (errno == EAGAIN || errno == ENOMEM)
		errno = EINTR;
	else if (errno == ECONNABORTED)
		errno = ENODEV;
	return -1;
}

static ssize_t send_init(int fd, const struct iovec *iov)
{
	struct wire_out_header header;
	struct wire_init_out out = {0};
	struct iovec edited[2] = {{&header, sizeof(header)}, {&out, sizeof(out)}};
	uint64_t flags;
	ssize_t sent;

	memcpy(&header, iov[0].iov_base, sizeof(header));
	memcpy(&out, iov[1].iov_base, iov[1].iov_len < sizeof(out) ? iov[1].iov_len : sizeof(out));
	flags = session.want_flags & session.offered;
	out.flags = (uint32_t)flags;
	out.flags2 = (uint32_t)(flags >> 32);
	out.max_stack_depth = session.want_depth;
	out.max_readahead = MAX_READAHEAD;
	out.max_background = BACKGROUND_MAX;
	out.congestion_threshold = BACKGROUND_MAX / 4 * 3;
	header.len = sizeof(header) + sizeof(out);

	sent = session.adopting ? 0 : writev(fd, edited, 2);
	if (sent < 0)
		return sent;
	session.flags = flags;
	session.depth = out.max_stack_depth;
	session.max_write = out.max_write;
	session.negotiated = true;
	return (ssize_t)(iov[0].iov_len + iov[1].iov_len); /* the size that libfuse wanted to send */
}

ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	ssize_t sent;

	(void)userdata;
	if (session.init_unique != 0 && count == 2 && iov[0].iov_len == sizeof(struct wire_out_header)) {
		struct wire_out_header header;

		memcpy(&header, iov[0].iov_base, sizeof(header));
		if (header.unique == session.init_unique) {
			session.init_unique = 0;
			if (header.error == 0)
				return send_init(fd, iov);
		}
	}
	if (iov[0].iov_len == sizeof(struct wire_out_header)) {
		struct wire_out_header header;

		memcpy(&header, iov[0].iov_base, sizeof(header));
		turns_answered(header.unique);
	}
	sent = writev(fd, iov, count);
	if (sent < 0)
		session.lost_replies++;
	return sent;
}

void device_attach(int fd, void (*process)(void *, size_t))
{
	session.attached = true;
	session.process = process;
	session.fd = fd;
	operations_session(fd);
}

/* End the readers and their cache, without the interpreter lock, because a reader may wait for the store. */
static void end_readers(void)
{
	void *left = interpreter_leave();

	readers_stop();
	avc_close();
	interpreter_return(left);
}

/* End the session: no thread uses its descriptor any more, which libfuse closes next. */
PyObject *device_detach(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	end_readers();
	operations_session(-1);
	session.process = NULL;
	Py_RETURN_NONE;
}

/* ---- Python functions ----------------------------------------------------------------------- */

PyObject *device_prepare(PyObject *module, PyObject *args)
{
	unsigned long long flags;
	unsigned int depth;

	(void)module;
	if (!PyArg_ParseTuple(args, "KI", &flags, &depth))
		return NULL;
	memset(&session, 0, sizeof(session));
	end_readers();
	turns_reset();
	work_reset();
	session.want_flags = flags;
	session.want_depth = depth;
	Py_RETURN_NONE;
}

PyObject *device_counters(PyObject *module, PyObject *unused)
{
	PyObject *result = PyTuple_New(OPCODES);

	(void)module, (void)unused;
	if (result == NULL)
		return NULL;
	for (Py_ssize_t i = 0; i < OPCODES; i++) {
		PyObject *count = PyLong_FromUnsignedLongLong(session.counts[i] + avc_answered((uint32_t)i));

		if (count == NULL) {
			Py_DECREF(result);
			return NULL;
		}
		PyTuple_SET_ITEM(result, i, count);
	}
	return result;
}

PyObject *device_attached(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyBool_FromLong(session.attached);
}

PyObject *device_lost_replies(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyLong_FromUnsignedLongLong(session.lost_replies + operations_lost());
}

PyObject *device_raw_request(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyBytes_FromStringAndSize((const char *)session.last, (Py_ssize_t)session.last_size);
}

/* Write notifications, one after the other in one buffer, without the interpreter's lock. */
PyObject *device_notify(PyObject *module, PyObject *args)
{
	unsigned long sent = 0, absent = 0;
	Py_buffer messages;
	int fd, error = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "iy*", &fd, &messages))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	const char *at = messages.buf, *end = at + messages.len;

	while (error == 0 && at < end) {
		uint32_t length = 0;

		if (end - at >= (ptrdiff_t)sizeof length)
			memcpy(&length, at, sizeof length);
		if (length < sizeof length || (ptrdiff_t)length > end - at)
			error = EINVAL;
		else if (write(fd, at, length) >= 0)
			sent++;
		else if (errno == ENOENT)
			absent++;
		else
			error = errno;
		at += length;
	}
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&messages);
	return Py_BuildValue("kki", sent, absent, error);
}

PyObject *device_init_request(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyBytes_FromStringAndSize((const char *)session.init, (Py_ssize_t)session.init_size);
}

/* Continue the session of a daemon that has died: libfuse gets its INIT request again, and the kernel sends again what
 * that daemon had read and not answered.
 *
 * INVARIANT: no thread reads the device yet, and the other daemon is dead: each reply to a request that was read before
 * would be refused (fs/fuse/dev.c, fuse_resend). */
PyObject *device_adopt(PyObject *module, PyObject *request)
{
	static const struct wire_out_header resend = {.len = sizeof(resend), .error = NOTIFY_RESEND};
	char *message;
	Py_ssize_t size;

	(void)module;
	if (PyBytes_AsStringAndSize(request, &message, &size) < 0)
		return NULL;
	session.adopting = true;
	note_request((const unsigned char *)message, (size_t)size);
	if (session.init_unique != 0 && session.process != NULL)
		session.process(session.init, session.init_size);
	session.adopting = false;
	if (!session.negotiated) {
		PyErr_SetString(PyExc_ValueError, "this is not the INIT request of a session");
		return NULL;
	}
	if (write(session.fd, &resend, sizeof(resend)) != sizeof(resend))
		return PyErr_SetFromErrno(PyExc_OSError);
	Py_RETURN_NONE;
}

PyObject *device_negotiated(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	if (!session.negotiated)
		Py_RETURN_NONE;
	return Py_BuildValue("IKKII", session.kernel_minor, (unsigned long long)session.offered,
			     (unsigned long long)session.flags, session.depth, session.max_write);
}
