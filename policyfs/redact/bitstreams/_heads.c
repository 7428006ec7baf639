/* A search of a film's frames for those that must be cleaned.
 *
 * Nearly all frames hold only slices, parameters and messages with numbers. This search looks at each unit of each
 * frame, and passes over such frames; Python code (frames.py) cleans the others. So the search must never pass over a
 * frame that the Python code would change: tests/unit/test_redact_bitstreams_heads.py compares the two. If a frame has
 * anything odd, the Python code gets it. The bytes come from hostile files: each length is checked against the bytes
 * that are left. The search keeps the interpreter lock: a chunk takes less than a millisecond.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_heads.h"

enum kind { NAL, OBU, MPEG, PICTURES };

static bool frame_is_plain(const uint64_t *rule, bytes at, size_t size)
{
	if (rule[KIND] != PICTURES && is_picture(at, size))
		return picture_is_plain(at, size);
	switch (rule[KIND]) {
	case NAL:
		return nal_is_plain(rule, at, size);
	case OBU:
		return obus_are_plain(rule, at, size);
	case MPEG:
		return mpeg_is_plain(at, size);
	default:
		return picture_is_plain(at, size);
	}
}

/* --- the functions of the module --- */

/* Arrays of the caller: the frames' starts, ends and tracks, the rules of the tracks, the numbers found. */
enum { STARTS, ENDS, TRACKS, RULES, FOUND, ARRAYS };

/* Takes the arrays. codes: the type code of each one. Returns how many were taken; sets an exception if not all. */
static int take(PyObject *const *objects, Py_buffer *views, const char *codes, int count)
{
	for (int i = 0; i < count; i++) {
		if (PyObject_GetBuffer(objects[i], &views[i], PyBUF_ND | PyBUF_FORMAT | PyBUF_WRITABLE))
			return i;
		if (views[i].ndim != 1 || views[i].format[0] != codes[i] || views[i].format[1]) {
			PyBuffer_Release(&views[i]);
			PyErr_SetString(PyExc_TypeError, "not arrays of such numbers");
			return i;
		}
	}
	return count;
}

static void release(Py_buffer *views, int count)
{
	while (count--)
		PyBuffer_Release(&views[count]);
}

static size_t count_of(const Py_buffer *view)
{
	return (size_t)(view->len / view->itemsize);
}

/* A frame behind the bytes that its container stores elsewhere. -1: no memory. */
static int led_frame_is_plain(const uint64_t *rule, PyObject *lead, bytes at, size_t size)
{
	size_t length = (size_t)PyBytes_GET_SIZE(lead);
	unsigned char *whole;
	int plain;

	if (!length)
		return frame_is_plain(rule, at, size);
	whole = PyMem_Malloc(length + size);
	if (!whole)
		return -1;
	memcpy(whole, PyBytes_AS_STRING(lead), length);
	memcpy(whole + length, at, size);
	plain = frame_is_plain(rule, whole, length + size);
	PyMem_Free(whole);
	return plain;
}

/* The number of the first frame behind `first` that does not lie in the data; -1 after an error. */
static Py_ssize_t search(const Py_buffer *views, PyObject *leads, const Py_buffer *data, uint64_t base, size_t first,
			 size_t *found)
{
	const uint64_t *starts = views[STARTS].buf, *ends = views[ENDS].buf, *rules = views[RULES].buf;
	const uint16_t *tracks = views[TRACKS].buf;
	uint32_t *numbers = views[FOUND].buf;
	size_t number = first, count = count_of(&views[STARTS]);

	for (; number < count; number++) {
		uint64_t end = base + (uint64_t)data->len;
		PyObject *lead;
		int plain;

		if (starts[number] < base || ends[number] > end || *found >= count_of(&views[FOUND]))
			break;
		if (starts[number] > ends[number] || tracks[number] >= count_of(&views[RULES]) / RULE_NUMBERS) {
			PyErr_SetString(PyExc_ValueError, "a frame without a form, or with an end before its start");
			return -1;
		}
		lead = PyTuple_GET_ITEM(leads, tracks[number]);
		plain = led_frame_is_plain(rules + tracks[number] * RULE_NUMBERS, lead,
					   (bytes)data->buf + (starts[number] - base),
					   (size_t)(ends[number] - starts[number]));
		if (plain < 0) {
			PyErr_NoMemory();
			return -1;
		}
		if (!plain)
			numbers[(*found)++] = (uint32_t)number;
	}
	return (Py_ssize_t)number;
}

static bool are_leads(PyObject *leads, size_t count)
{
	for (size_t i = 0; i < count && i < (size_t)PyTuple_GET_SIZE(leads); i++) {
		if (!PyBytes_Check(PyTuple_GET_ITEM(leads, i)))
			return false;
	}
	return (size_t)PyTuple_GET_SIZE(leads) == count;
}

static PyObject *suspects(PyObject *module, PyObject *args)
{
	PyObject *objects[ARRAYS], *leads;
	Py_buffer views[ARRAYS], data;
	unsigned long long base;
	Py_ssize_t first, next = -1;
	size_t found = 0, forms;
	int taken;

	(void)module;
	if (!PyArg_ParseTuple(args, "y*KOOOOO!nO:suspects", &data, &base, &objects[STARTS], &objects[ENDS],
			      &objects[TRACKS], &objects[RULES], &PyTuple_Type, &leads, &first, &objects[FOUND]))
		return NULL;
	taken = take(objects, views, "QQHQI", ARRAYS);
	if (taken == ARRAYS) {
		forms = count_of(&views[RULES]) / RULE_NUMBERS;
		if (first < 0 || count_of(&views[ENDS]) != count_of(&views[STARTS]) || !are_leads(leads, forms) ||
		    count_of(&views[TRACKS]) != count_of(&views[STARTS]))
			PyErr_SetString(PyExc_ValueError, "arrays of different lengths");
		else
			next = search(views, leads, &data, base, (size_t)first, &found);
	}
	release(views, taken);
	PyBuffer_Release(&data);
	return next < 0 ? NULL : Py_BuildValue("nn", next, (Py_ssize_t)found);
}

struct frame {
	uint64_t start, end;
	uint16_t track;
};

static int before(const void *left, const void *right)
{
	const struct frame *a = left, *b = right;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	if (a->end != b->end)
		return a->end < b->end ? -1 : 1;
	return a->track < b->track ? -1 : a->track > b->track;
}

/* Sorts frames, and drops empty frames and repetitions. Returns the number of frames left. */
static size_t sorted(struct frame *frames, size_t count)
{
	size_t left = 0;
	bool ordered = true;

	for (size_t i = 1; ordered && i < count; i++)
		ordered = before(&frames[i - 1], &frames[i]) <= 0;
	if (!ordered)
		qsort(frames, count, sizeof(*frames), before);
	for (size_t i = 0; i < count; i++) {
		if (frames[i].start < frames[i].end && (!left || before(&frames[left - 1], &frames[i])))
			frames[left++] = frames[i];
	}
	return left;
}

/* True if frames are in order, and none is empty or a repetition. */
static bool in_order(const uint64_t *starts, const uint64_t *ends, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (starts[i] >= ends[i] || (i && starts[i - 1] >= starts[i]))
			return false;
	}
	return true;
}

static PyObject *order(PyObject *module, PyObject *args)
{
	PyObject *objects[3], *result = NULL;
	Py_buffer views[3];
	int taken;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOO:order", &objects[STARTS], &objects[ENDS], &objects[TRACKS]))
		return NULL;
	taken = take(objects, views, "QQH", 3);
	if (taken == 3) {
		size_t count = count_of(&views[STARTS]);
		uint64_t *starts = views[STARTS].buf, *ends = views[ENDS].buf;
		uint16_t *tracks = views[TRACKS].buf;
		bool fit = count_of(&views[ENDS]) == count && count_of(&views[TRACKS]) == count;
		bool done = fit && in_order(starts, ends, count);
		struct frame *frames = done ? NULL : PyMem_Calloc(count ? count : 1, sizeof(*frames));

		if (!fit) {
			PyErr_SetString(PyExc_ValueError, "arrays of different lengths");
		} else if (done) {
			result = PyLong_FromSize_t(count);
		} else if (!frames) {
			PyErr_NoMemory();
		} else {
			for (size_t i = 0; i < count; i++)
				frames[i] = (struct frame){starts[i], ends[i], tracks[i]};
			count = sorted(frames, count);
			for (size_t i = 0; i < count; i++) {
				starts[i] = frames[i].start;
				ends[i] = frames[i].end;
				tracks[i] = frames[i].track;
			}
			result = PyLong_FromSize_t(count);
		}
		PyMem_Free(frames);
	}
	release(views, taken);
	return result;
}

static PyMethodDef methods[] = {
	{"order", order, METH_VARARGS, NULL},
	{"suspects", suspects, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, .m_name = "policyfs.redact.bitstreams._heads", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__heads(void)
{
	return PyModule_Create(&definition);
}
