/* Searches in the compressed data of a picture: for the next marker, and for a file of boxes behind the picture.
 *
 * One pass for both reads each byte of each photo. They test blocks of 64 bytes for the first two bytes of a match. A
 * search for the first byte alone would stop at one byte of 256 in compressed data. memchr(3) searches the few blocks
 * that remain. The patterns in tests/unit/test_redact_jpeg_scan.py define the same matches. The searches keep the
 * interpreter lock: a chunk of 256 KiB takes microseconds, and a worker has one thread.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Sizes in bytes: the head of a file of boxes, and the part of the head before its word "ftyp". */
#define HEAD 12
#define BEFORE 4

/* Bytes that are tested at once, in vectors that every processor of 64 bits has (extensions of GCC and Clang). */
#define BLOCK 64
#define VECTOR 16
typedef unsigned char vector __attribute__((vector_size(VECTOR)));

static vector load(const unsigned char *at)
{
	vector bytes;

	memcpy(&bytes, at, VECTOR);
	return bytes;
}

static bool any(vector found)
{
	uint64_t parts[VECTOR / 8];

	memcpy(parts, &found, VECTOR);
	return parts[0] | parts[1];
}

/* True if a marker (0xff, and no zero behind it) or "ft", the start of "ftyp", may begin at one of BLOCK bytes. Reads
 * one byte more. */
static inline bool may_begin(const unsigned char *at, bool marks, bool boxes)
{
	vector found = {0};

#pragma GCC unroll 4
	for (int i = 0; i < BLOCK; i += VECTOR) {
		vector first = load(at + i), second = load(at + i + 1);

		if (marks)
			found |= (vector)(first == 0xff) & (vector)(second != 0);
		if (boxes)
			found |= (vector)(first == 'f') & (vector)(second == 't');
	}
	return any(found);
}

/* True for the second byte of a marker. In a scan, 0xff00 is data, and restart markers do not end the scan. */
static bool is_marker(unsigned char code, bool in_scan)
{
	if (code == 0x00 || code == 0xff)
		return false;
	return !in_scan || code < 0xd0 || code > 0xd7;
}

/* The first marker that begins within [at, end); NULL if there is none. Its second byte may be at end. */
static const unsigned char *marker_of(const unsigned char *at, const unsigned char *end, bool in_scan)
{
	while (at < end && (at = memchr(at, 0xff, (size_t)(end - at)))) {
		if (is_marker(at[1], in_scan))
			return at;
		at++;
	}
	return NULL;
}

/* True if the head of a file of boxes is around the "ftyp" at word: a size of 16 to 1,279 bytes, and a brand. */
static bool is_head(const unsigned char *word)
{
	if (word[-4] || word[-3] || word[-2] > 0x04 || memcmp(word, "ftyp", 4))
		return false;
	if (!word[-2] && word[-1] < 0x10)
		return false;
	for (int i = 4; i < HEAD - BEFORE; i++) {
		if (word[i] < 0x20 || word[i] > 0x7e)
			return false;
	}
	return true;
}

/* The first "ftyp" within [at, end) that is in a head of a file of boxes; NULL if there is none. */
static const unsigned char *head_in(const unsigned char *at, const unsigned char *end)
{
	while (at < end && (at = memchr(at, 'f', (size_t)(end - at)))) {
		if (is_head(at))
			return at;
		at++;
	}
	return NULL;
}

/* The offset of the first marker or of the first head of a file of boxes, whatever begins first; -1: neither. */
static inline Py_ssize_t first_in(const unsigned char *data, Py_ssize_t size, bool marks, bool in_scan, bool boxes)
{
	const unsigned char *at = data, *last = data + size - 1, *words, *end, *stop;
	const unsigned char *marker = NULL, *word = NULL;

	boxes = boxes && size >= HEAD;
	words = boxes ? data + BEFORE : data;
	end = boxes ? data + size - (HEAD - BEFORE) + 1 : data; /* of the places where "ftyp" can be */
	for (; !marker && !word && at < last; at = stop) {
		while (last - at > BLOCK && !may_begin(at, marks, boxes))
			at += BLOCK;
		stop = last - at > BLOCK ? at + BLOCK : last;
		if (marks)
			marker = marker_of(at, stop, in_scan);
		if (boxes) { /* a head before the marker may have its word behind it */
			const unsigned char *to = marker ? marker + BEFORE + 1 : stop;

			word = head_in(at < words ? words : at, to < end ? to : end);
		}
	}
	if (word)
		return word - BEFORE - data;
	return marker ? marker - data : -1;
}

static PyObject *find_marker(PyObject *module, PyObject *args)
{
	Py_buffer chunk;
	int in_scan, boxes = 0;
	Py_ssize_t found;

	(void)module;
	if (!PyArg_ParseTuple(args, "y*p|p:find_marker", &chunk, &in_scan, &boxes))
		return NULL;
	if (boxes)
		found = first_in(chunk.buf, chunk.len, true, in_scan, true);
	else
		found = first_in(chunk.buf, chunk.len, true, in_scan, false);
	PyBuffer_Release(&chunk);
	return PyLong_FromSsize_t(found);
}

static PyObject *find_boxes(PyObject *module, PyObject *args)
{
	Py_buffer chunk;
	Py_ssize_t found;

	(void)module;
	if (!PyArg_ParseTuple(args, "y*:find_boxes", &chunk))
		return NULL;
	found = first_in(chunk.buf, chunk.len, false, false, true);
	PyBuffer_Release(&chunk);
	return PyLong_FromSsize_t(found);
}

static PyMethodDef methods[] = {
	{"find_marker", find_marker, METH_VARARGS, NULL},
	{"find_boxes", find_boxes, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, .m_name = "policyfs.redact.jpeg._scan", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__scan(void)
{
	return PyModule_Create(&definition);
}
