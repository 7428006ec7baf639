/* Arithmetic over sample tables: the number of samples in each chunk, the ranges of chunks, the gaps between.
 *
 * A film has tens of thousands of chunks, and a plan for the film needs each chunk once. The numbers may come from
 * hostile files. So each index is checked against its table, and each sum against 64 bits. The functions keep no state,
 * and write only into the arrays of the caller. tests/support/models/sample_tables.py does the same in Python. The
 * functions do not give up the interpreter lock: the largest tables take some ten milliseconds, and a worker has one
 * thread.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* An array of the caller. width: bytes of an item. */
struct table {
	Py_buffer buffer;
	Py_ssize_t width;
	size_t count;
};

static uint64_t item(const struct table *table, size_t index)
{
	const char *at = (const char *)table->buffer.buf + index * (size_t)table->width;
	uint64_t eight;
	uint32_t four;
	uint16_t two;

	switch (table->width) {
	case 8:
		memcpy(&eight, at, sizeof(eight));
		return eight;
	case 4:
		memcpy(&four, at, sizeof(four));
		return four;
	case 2:
		memcpy(&two, at, sizeof(two));
		return two;
	default:
		return *(const unsigned char *)at;
	}
}

static void put8(const struct table *table, size_t index, uint64_t value)
{
	memcpy((char *)table->buffer.buf + index * sizeof(value), &value, sizeof(value));
}

/* Takes an array of unsigned numbers. widths: the allowed bytes of a number (a mask of 1, 2, 4, 8). For any other
 * object, returns false with an exception. */
static bool take(PyObject *object, struct table *table, Py_ssize_t widths, bool writable)
{
	int flags = PyBUF_ND | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);

	if (PyObject_GetBuffer(object, &table->buffer, flags))
		return false;
	table->width = table->buffer.itemsize;
	if (table->buffer.ndim != 1 || table->width < 1 || table->width > 8 || !(table->width & widths) ||
	    (table->width & (table->width - 1)) || !strchr("BHILQ", table->buffer.format[0]) ||
	    !table->buffer.format[0]) {
		PyBuffer_Release(&table->buffer);
		PyErr_SetString(PyExc_TypeError, "not an array of such numbers");
		return false;
	}
	table->count = (size_t)(table->buffer.len / table->width);
	return true;
}

static void release(struct table *tables, int count)
{
	while (count--)
		PyBuffer_Release(&tables[count].buffer);
}

/* Rows of a "stsc" table: first chunk, samples in each chunk, description. The last row may be cut off. */
static bool in_order(const struct table *rows)
{
	for (size_t i = 3; i < rows->count; i += 3) {
		if (item(rows, i - 3) > item(rows, i))
			return false;
	}
	return true;
}

static size_t spread_rows(const struct table *rows, const struct table *counts)
{
	size_t done = 0;

	for (size_t i = 0; i + 1 < rows->count && done < counts->count; i += 3) {
		uint64_t first = i ? item(rows, i) : 1;
		uint64_t next = i + 3 < rows->count ? item(rows, i + 3) : (uint64_t)counts->count + 1;
		uint32_t samples = (uint32_t)item(rows, i + 1);

		for (; first < next && done < counts->count; first++, done++)
			memcpy((char *)counts->buffer.buf + done * sizeof(samples), &samples, sizeof(samples));
	}
	return done;
}

static PyObject *spread(PyObject *module, PyObject *args)
{
	PyObject *rows, *counts;
	struct table tables[2];
	Py_ssize_t done;

	(void)module;
	if (!PyArg_ParseTuple(args, "OO:spread", &rows, &counts) || !take(rows, &tables[0], 4, false))
		return NULL;
	if (!take(counts, &tables[1], 4, true)) {
		release(tables, 1);
		return NULL;
	}
	done = in_order(&tables[0]) ? (Py_ssize_t)spread_rows(&tables[0], &tables[1]) : -1;
	release(tables, 2);
	return PyLong_FromSsize_t(done);
}

/* The size of a chunk of samples that all have one size. For plain sound, players compute the size of the chunk by one
 * of the pairs (bytes, samples). The greatest result counts. */
static bool even_bytes(uint64_t samples, uint64_t size, const struct table *sounds, uint64_t *bytes)
{
	bool good = !__builtin_mul_overflow(samples, size, bytes);

	for (size_t i = 0; i + 1 < sounds->count; i += 2) {
		uint64_t each = item(sounds, i + 1), scaled;

		if (!each || __builtin_mul_overflow(samples, item(sounds, i), &scaled) ||
		    __builtin_add_overflow(scaled, each - 1, &scaled))
			return false;
		if (scaled / each > *bytes)
			*bytes = scaled / each;
	}
	return good;
}

/* The sum of the next sizes in a table, one for each sample. *at moves behind these sizes, at most to the table's
 * end. */
static bool table_bytes(uint64_t samples, const struct table *sizes, size_t *at, uint64_t *bytes)
{
	*bytes = 0;
	for (; samples && *at < sizes->count; samples--, (*at)++) {
		if (__builtin_add_overflow(*bytes, item(sizes, *at), bytes))
			return false;
	}
	return true;
}

/* Tables: starts, ends, samples of each chunk, sizes (may be empty), sounds (may be empty). */
enum { STARTS, ENDS, COUNTS, SIZES, SOUNDS, TABLES };

static bool fill_ranges(const struct table *t, bool listed, uint64_t size, uint64_t limit)
{
	size_t at = 0;

	for (size_t i = 0; i < t[STARTS].count; i++) {
		uint64_t start = item(&t[STARTS], i), samples = item(&t[COUNTS], i), bytes, end;

		if (start > limit)
			start = limit;
		if (!(listed ? table_bytes(samples, &t[SIZES], &at, &bytes) :
			       even_bytes(samples, size, &t[SOUNDS], &bytes)) ||
		    __builtin_add_overflow(start, bytes, &end))
			return false;
		put8(&t[STARTS], i, start);
		put8(&t[ENDS], i, end > limit ? limit : end);
	}
	return true;
}

static PyObject *ranges(PyObject *module, PyObject *args)
{
	static const Py_ssize_t widths[TABLES] = {8, 8, 4, 1 | 2 | 4, 8};
	PyObject *objects[TABLES], *result = NULL;
	struct table tables[TABLES];
	unsigned int size;
	long long limit;
	int listed, taken = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOOOOpIL:ranges", &objects[STARTS], &objects[ENDS], &objects[COUNTS],
			      &objects[SIZES], &objects[SOUNDS], &listed, &size, &limit))
		return NULL;
	while (taken < TABLES && take(objects[taken], &tables[taken], widths[taken], taken <= ENDS))
		taken++;
	if (taken == TABLES) {
		if (limit < 0 || tables[ENDS].count != tables[STARTS].count ||
		    tables[COUNTS].count < tables[STARTS].count)
			PyErr_SetString(PyExc_ValueError, "tables of different lengths, or a limit below zero");
		else if (!fill_ranges(tables, listed, size, (uint64_t)limit))
			PyErr_SetString(PyExc_OverflowError, "a range ends beyond 64 bits");
		else
			result = Py_NewRef(Py_None);
	}
	release(tables, taken);
	return result;
}

/* Fills the starts and the ends of samples, chunk by chunk, until the arrays are full. Returns false if an end needs more
 * than 64 bits. */
static bool fill_places(const struct table *t, const struct table *ends, bool listed, uint64_t size, uint64_t limit)
{
	size_t sample = 0;

	for (size_t chunk = 0; chunk < t[ENDS].count && chunk < t[STARTS].count; chunk++) {
		uint64_t at = item(&t[STARTS], chunk);

		for (uint64_t left = item(&t[ENDS], chunk); left && sample < ends->count; left--, sample++) {
			uint64_t start = at;

			if (__builtin_add_overflow(at, listed ? item(&t[SIZES], sample) : size, &at))
				return false;
			put8(&t[COUNTS], sample, start < limit ? start : limit);
			put8(ends, sample, at < limit ? at : limit);
		}
	}
	return true;
}

/* The tables STARTS and ENDS are here: the offsets of the chunks, and the number of samples in each. COUNTS is the
 * array for the starts of samples, and SOUNDS the array for their ends. */
static PyObject *places(PyObject *module, PyObject *args)
{
	static const Py_ssize_t widths[TABLES] = {8, 4, 8, 1 | 2 | 4, 8};
	PyObject *objects[TABLES], *result = NULL;
	struct table tables[TABLES];
	unsigned int size;
	long long limit;
	int listed, taken = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOOOOpIL:places", &objects[STARTS], &objects[ENDS], &objects[SIZES],
			      &objects[COUNTS], &objects[SOUNDS], &listed, &size, &limit))
		return NULL;
	while (taken < TABLES && take(objects[taken], &tables[taken], widths[taken], taken == COUNTS || taken == SOUNDS))
		taken++;
	if (taken == TABLES) {
		if (limit < 0 || tables[COUNTS].count != tables[SOUNDS].count ||
		    (listed && tables[SIZES].count < tables[COUNTS].count))
			PyErr_SetString(PyExc_ValueError, "tables of different lengths, or a limit below zero");
		else if (!fill_places(tables, &tables[SOUNDS], listed, size, (uint64_t)limit))
			PyErr_SetString(PyExc_OverflowError, "a sample ends beyond 64 bits");
		else
			result = Py_NewRef(Py_None);
	}
	release(tables, taken);
	return result;
}

static PyObject *total(PyObject *module, PyObject *object)
{
	struct table counts;
	uint64_t sum = 0;

	(void)module;
	if (!take(object, &counts, 4, false))
		return NULL;
	for (size_t i = 0; i < counts.count; i++)
		sum += item(&counts, i); /* the counts have 32 bits, so no table in memory overflows 64 bits */
	release(&counts, 1);
	return PyLong_FromUnsignedLongLong(sum);
}

/* The end of the ascending run that begins at first. */
static size_t run_end(const uint64_t *values, size_t first, size_t count)
{
	while (++first < count && values[first - 1] <= values[first])
		;
	return first;
}

static void merge(const uint64_t *from, uint64_t *to, size_t first, size_t middle, size_t end)
{
	size_t left = first, right = middle;

	for (size_t i = first; i < end; i++)
		to[i] = left < middle && (right >= end || from[left] <= from[right]) ? from[left++] : from[right++];
}

/* Natural merge sort: the chunks of a film are a few ascending runs, one for each track. */
static bool sort_values(uint64_t *values, size_t count)
{
	uint64_t *from = values, *to, *spare;

	if (count < 2 || run_end(values, 0, count) == count)
		return true;
	to = spare = PyMem_Malloc(count * sizeof(*spare));
	if (!spare)
		return false;
	while (run_end(from, 0, count) < count) {
		for (size_t first = 0, middle, end; first < count; first = end) {
			middle = run_end(from, first, count);
			end = middle < count ? run_end(from, middle, count) : count;
			merge(from, to, first, middle, end);
		}
		uint64_t *other = from;

		from = to;
		to = other;
	}
	if (from != values)
		memcpy(values, from, count * sizeof(*values));
	PyMem_Free(spare);
	return true;
}

static PyObject *sort(PyObject *module, PyObject *object)
{
	struct table values;
	bool done;

	(void)module;
	if (!take(object, &values, 8, true))
		return NULL;
	if (values.count && (uintptr_t)values.buffer.buf % sizeof(uint64_t)) {
		release(&values, 1);
		PyErr_SetString(PyExc_ValueError, "an array in the middle of a number");
		return NULL;
	}
	done = sort_values(values.buffer.buf, values.count);
	release(&values, 1);
	if (!done)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

static PyObject *next_gap(PyObject *module, PyObject *args)
{
	PyObject *starts, *ends;
	struct table tables[2];
	Py_ssize_t at, found = -1;

	(void)module;
	if (!PyArg_ParseTuple(args, "OOn:next_gap", &starts, &ends, &at) || !take(starts, &tables[0], 8, false))
		return NULL;
	if (!take(ends, &tables[1], 8, false)) {
		release(tables, 1);
		return NULL;
	}
	for (size_t i = at < 0 ? 0 : (size_t)at; found < 0 && i + 1 < tables[0].count && i < tables[1].count; i++) {
		if (item(&tables[0], i + 1) > item(&tables[1], i))
			found = (Py_ssize_t)i;
	}
	release(tables, 2);
	return PyLong_FromSsize_t(found);
}

static PyMethodDef methods[] = {
	{"next_gap", next_gap, METH_VARARGS, NULL},
	{"places", places, METH_VARARGS, NULL},
	{"ranges", ranges, METH_VARARGS, NULL},
	{"sort", sort, METH_O, NULL},
	{"spread", spread, METH_VARARGS, NULL},
	{"total", total, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, .m_name = "policyfs.redact.isobmff._stbl", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__stbl(void)
{
	return PyModule_Create(&definition);
}
