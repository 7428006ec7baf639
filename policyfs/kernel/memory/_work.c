/*
 * The requests in work, in memory that outlives this process. If the process is killed, the next one finds here which
 * requests it had begun and not answered (kernel/work.py). A request that has killed several gets EIO from then on.
 *
 * Only the event loop begins requests. Other threads may end them.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "wire/_wire.h"
#include "memory/_work.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define PLACES 256 /* a power of two, and more than may be under way (session.py, IN_ALL) */
#define RESENT ((uint64_t)1 << 63)

struct place {
	_Atomic uint64_t unique; /* 0: free; written last */
	uint64_t nodeid;
	uint32_t opcode, uid, pid, deaths;
};

struct suspect {
	uint64_t unique;
	uint32_t deaths, refused;
};

static struct {
	struct place *places; /* NULL: no other process follows this one */
	unsigned int suspects;
	struct suspect suspect[PLACES];
	PyObject *memory; /* keeps the places */
} work;

static const struct suspect *suspect_of(uint64_t unique)
{
	for (unsigned int i = 0; i < work.suspects; i++)
		if (work.suspect[i].unique == unique)
			return &work.suspect[i];
	return NULL;
}

/* Return true for a request that ends something. Python gets it even if it has killed several processes: the kernel
 * sends it only once, so without an effect it would leave a file or a lock for ever. */
static bool ends_something(uint32_t opcode)
{
	return opcode == OPCODE_FLUSH || opcode == OPCODE_RELEASE || opcode == OPCODE_RELEASEDIR;
}

bool work_begin(int fd, const unsigned char *message, size_t size)
{
	struct wire_in_header header;
	const struct suspect *suspect;

	if (work.places == NULL || size < sizeof(header))
		return true;
	memcpy(&header, message, sizeof(header));
	if (header.opcode == OPCODE_FORGET || header.opcode == OPCODE_BATCH_FORGET ||
	    header.opcode == OPCODE_INTERRUPT || header.opcode == OPCODE_INIT)
		return true; /* they get no answer, or another one */
	suspect = suspect_of(header.unique & ~RESENT);
	if (suspect != NULL && suspect->refused && !ends_something(header.opcode)) {
		struct wire_out_header reply = {.len = sizeof(reply), .error = -EIO, .unique = header.unique};

		(void)!write(fd, &reply, sizeof(reply));
		return false;
	}
	for (unsigned int i = 0; i < PLACES; i++) {
		struct place *place = &work.places[((header.unique >> 1) + i) % PLACES];

		if (atomic_load_explicit(&place->unique, memory_order_relaxed) != 0)
			continue;
		place->nodeid = header.nodeid;
		place->opcode = header.opcode;
		place->uid = header.uid;
		place->pid = header.pid;
		place->deaths = suspect != NULL ? suspect->deaths : 0;
		atomic_store_explicit(&place->unique, header.unique & ~RESENT, memory_order_release);
		break;
	}
	return true;
}

void work_end(uint64_t unique)
{
	if (work.places == NULL)
		return;
	unique &= ~RESENT;
	for (unsigned int i = 0; i < PLACES; i++) {
		struct place *place = &work.places[((unique >> 1) + i) % PLACES];

		if (atomic_load_explicit(&place->unique, memory_order_relaxed) == unique) {
			atomic_store_explicit(&place->unique, 0, memory_order_release);
			return;
		}
	}
}

size_t work_size(void)
{
	return PLACES * sizeof(struct place);
}

void work_reset(void)
{
	work.places = NULL;
	work.suspects = 0;
	Py_CLEAR(work.memory);
}

/* start_work(memory, suspects) */
PyObject *work_start(PyObject *module, PyObject *args)
{
	Py_buffer memory, suspects;
	PyObject *object;

	(void)module;
	if (!PyArg_ParseTuple(args, "Oy*", &object, &suspects))
		return NULL;
	if (PyObject_GetBuffer(object, &memory, PyBUF_WRITABLE) < 0) {
		PyBuffer_Release(&suspects);
		return NULL;
	}
	work_reset();
	if ((size_t)memory.len != work_size() || (size_t)suspects.len > sizeof(work.suspect)) {
		PyErr_SetString(PyExc_ValueError, "memory or suspects of another size");
	} else {
		memcpy(work.suspect, suspects.buf, (size_t)suspects.len);
		work.suspects = (unsigned int)((size_t)suspects.len / sizeof(struct suspect));
		memset(memory.buf, 0, (size_t)memory.len);
		work.places = memory.buf;
		work.memory = Py_NewRef(object); /* a memoryview, which keeps the memory */
	}
	PyBuffer_Release(&memory);
	PyBuffer_Release(&suspects);
	if (work.places == NULL)
		return NULL;
	Py_RETURN_NONE;
}
