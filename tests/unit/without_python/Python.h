/* As much of Python's API as the readers and the queue need to be compiled without Python: their arguments
 * come from readers_race.c. */

#ifndef WITHOUT_PYTHON_H
#define WITHOUT_PYTHON_H

#include <stdarg.h>
#include <stddef.h>
#include <string.h>

typedef struct object PyObject;
typedef ptrdiff_t Py_ssize_t;

extern int given[2];	  /* the two numbers of the next call */
extern long last_number; /* that was to be returned */

static inline int PyArg_ParseTuple(PyObject *args, const char *format, ...)
{
	va_list places;

	(void)args;
	va_start(places, format);
	if (format[0] == 'O')
		*va_arg(places, PyObject **) = NULL;
	*va_arg(places, int *) = given[0];
	*va_arg(places, int *) = given[1];
	va_end(places);
	return 1;
}

#define PyErr_SetString(type, text) ((void)0)
#define PyErr_SetFromErrno(type) NULL
#define PyErr_Occurred() 0
#define PySequence_Fast(object, text) ((void)(object), (PyObject *)1)
#define PySequence_Fast_GET_SIZE(object) 2
#define PySequence_Fast_GET_ITEM(object, number) ((void)(object), (PyObject *)NULL)
#define PyLong_AsLong(object) ((void)(object), 0L)
#define PyLong_AsUnsignedLongLong(object) ((void)(object), 0ULL)
#define PyLong_FromLong(number) (last_number = (number), (PyObject *)NULL)
#define PyLong_FromUnsignedLong(number) ((void)(number), (PyObject *)NULL)
#define PyBool_FromLong(number) ((void)(number), (PyObject *)NULL)
static inline PyObject *Py_BuildValue(const char *format, ...)
{
	(void)format;
	return NULL;
}

#define Py_DECREF(object) ((void)(object))
#define Py_RETURN_NONE return NULL
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }

#endif
