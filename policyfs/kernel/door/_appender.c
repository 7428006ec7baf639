/*
 * A thread that appends to a file for the event loop, without the interpreter lock. A Python thread would share
 * that lock with the loop: each system call of one thread would wake the other thread.
 *
 * The thread runs on the loop's processor, which is free while the loop waits for the thread. To wake a thread
 * on another processor takes several times as long as the write. If the loop has moved to another processor,
 * the thread moves itself there after the next write. So the daemon needs no right to move other threads
 * (linux/confinement/seccomp.py).
 *
 * There is one write at a time. begin() gives a write to the thread. wait() waits for a limited time. result() waits
 * until the write is over. The file must be unchanged since the last write. Otherwise the error is ESTALE, and nothing
 * is written. The file is locked during a write, as journal/writing/segment.py requires. After an error it stays locked.
 */

#define _GNU_SOURCE
#include "queue/_queue.h"
#include "door/_bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { IDLE, BEGUN, DONE, ENDS };

struct appender {
	PyObject_HEAD
	pthread_t thread;
	pid_t process;	   /* the process of the thread; 0: no thread runs */
	int processor;	   /* the processor on which the thread runs; -1: any. For the thread only */
	int wanted;	   /* the processor on which the caller of begin() ran */
	uint32_t state;	   /* a futex: the thread waits for BEGUN or ENDS, the callers wait for DONE */
	int fd;
	off_t offset;
	PyObject *data;	   /* bytes; a reference is held until the result is known */
	int error;
	size_t written;
};

static uint32_t state_of(struct appender *self)
{
	return __atomic_load_n(&self->state, __ATOMIC_ACQUIRE);
}

static void become(struct appender *self, uint32_t state)
{
	__atomic_store_n(&self->state, state, __ATOMIC_RELEASE);
	syscall(SYS_futex, &self->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void sleep_while(struct appender *self, uint32_t state, const struct timespec *at_most)
{
	syscall(SYS_futex, &self->state, FUTEX_WAIT_PRIVATE, state, at_most, NULL, 0);
}

static void lock_from(int fd, short type, off_t offset)
{
	struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = offset};

	(void)fcntl(fd, F_OFD_SETLK, &range); /* on a file system without locks, write without a lock */
}

static int append(struct appender *self)
{
	const char *data = PyBytes_AS_STRING(self->data);
	size_t size = (size_t)PyBytes_GET_SIZE(self->data);
	struct stat info;
	ssize_t count;

	if (fstat(self->fd, &info) < 0)
		return errno;
	if (info.st_nlink == 0 || info.st_size != self->offset)
		return ESTALE;
	lock_from(self->fd, F_WRLCK, self->offset);
	while (self->written < size) {
		count = write(self->fd, data + self->written, size - self->written);
		if (count > 0)
			self->written += (size_t)count;
		else if (count == 0)
			return EIO;
		else if (errno != EINTR)
			return errno;
	}
	lock_from(self->fd, F_UNLCK, 0);
	return 0;
}

/* Let this thread run on the processor of the caller of begin(). If that fails, the thread stays where it was. */
static void follow(struct appender *self, int processor)
{
	cpu_set_t set;

	if (processor == self->processor || processor < 0 || processor >= CPU_SETSIZE)
		return;
	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
	self->processor = processor;
}

static void *run(void *argument)
{
	struct appender *self = argument;
	uint32_t state;
	int wanted;

	while ((state = state_of(self)) != ENDS) {
		if (state != BEGUN) {
			sleep_while(self, state, NULL);
			continue;
		}
		self->error = append(self);
		wanted = self->wanted; /* begin() may change it once the state is DONE */
		become(self, DONE);
		follow(self, wanted);
	}
	return NULL;
}

static bool has_thread(struct appender *self)
{
	sigset_t all, before;

	if (self->process == getpid())
		return true;
	self->processor = -1;
	signals_except_faults(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&self->thread, NULL, run, self) == 0)
		self->process = getpid();
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return self->process == getpid();
}

static PyObject *begin(struct appender *self, PyObject *args)
{
	PyObject *data;
	long long offset;
	int fd;

	if (!PyArg_ParseTuple(args, "iLS:begin", &fd, &offset, &data))
		return NULL;
	if (state_of(self) != IDLE) {
		PyErr_SetString(PyExc_RuntimeError, "a write is under way, or the appender is closed");
		return NULL;
	}
	if (!has_thread(self))
		Py_RETURN_FALSE;
	Py_INCREF(data);
	self->data = data;
	self->fd = fd;
	self->offset = (off_t)offset;
	self->written = 0;
	self->wanted = sched_getcpu();
	become(self, BEGUN);
	Py_RETURN_TRUE;
}

static PyObject *wait_for(struct appender *self, PyObject *args)
{
	struct timespec now, left;
	double seconds;
	long long until, ns;

	if (!PyArg_ParseTuple(args, "d:wait", &seconds))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	clock_gettime(CLOCK_MONOTONIC, &now);
	until = now.tv_sec * 1000000000LL + now.tv_nsec + (long long)(seconds * 1e9);
	while (state_of(self) == BEGUN) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		ns = until - (now.tv_sec * 1000000000LL + now.tv_nsec);
		if (ns <= 0)
			break;
		left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
		sleep_while(self, BEGUN, &left);
	}
	Py_END_ALLOW_THREADS
	return PyBool_FromLong(state_of(self) != BEGUN);
}

static PyObject *result(struct appender *self, PyObject *unused)
{
	(void)unused;
	Py_BEGIN_ALLOW_THREADS
	while (state_of(self) == BEGUN)
		sleep_while(self, BEGUN, NULL);
	Py_END_ALLOW_THREADS
	if (state_of(self) != DONE) {
		PyErr_SetString(PyExc_RuntimeError, "no write was begun");
		return NULL;
	}
	Py_CLEAR(self->data);
	__atomic_store_n(&self->state, IDLE, __ATOMIC_RELEASE);
	return Py_BuildValue("(in)", self->error, (Py_ssize_t)self->written);
}

static void end(struct appender *self)
{
	while (state_of(self) == BEGUN && self->process == getpid())
		sleep_while(self, BEGUN, NULL);
	become(self, ENDS);
	if (self->process == getpid())
		pthread_join(self->thread, NULL);
	self->process = 0;
}

static PyObject *close_it(struct appender *self, PyObject *unused)
{
	(void)unused;
	Py_BEGIN_ALLOW_THREADS
	end(self);
	Py_END_ALLOW_THREADS
	Py_CLEAR(self->data);
	Py_RETURN_NONE;
}

static void dealloc(struct appender *self)
{
	PyTypeObject *type = Py_TYPE(self);

	Py_BEGIN_ALLOW_THREADS /* a write may take long; no other code has this object any more */
	end(self);
	Py_END_ALLOW_THREADS
	Py_CLEAR(self->data);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef methods[] = {
	{"begin", (PyCFunction)begin, METH_VARARGS,
	 "begin(fd, offset, data): let the thread append data. False if no thread can start: nothing is begun."},
	{"wait", (PyCFunction)wait_for, METH_VARARGS, "wait(seconds): True if no write is under way any more."},
	{"result", (PyCFunction)result, METH_NOARGS, "(errno, bytes written) of the write, once it is over."},
	{"close", (PyCFunction)close_it, METH_NOARGS, "End the thread, after its write. Idempotent."},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
	{Py_tp_doc, "A thread that appends to files. One user at a time, except wait()."},
	{Py_tp_methods, methods},
	{Py_tp_dealloc, dealloc},
	{Py_tp_new, PyType_GenericNew},
	{0, NULL},
};

static PyType_Spec spec = {
	.name = "policyfs.kernel._bridge.Appender",
	.basicsize = sizeof(struct appender),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};

int appender_add_type(PyObject *module)
{
	PyObject *type = PyType_FromSpec(&spec);

	if (type == NULL)
		return -1;
	if (PyModule_AddObject(module, "Appender", type) < 0) {
		Py_DECREF(type);
		return -1;
	}
	return 0;
}
