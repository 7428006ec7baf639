/*
 * Requests of different uids in round-robin order (turns). The kernel has one queue for the requests of all uids. In
 * the queue's order, every app would wait for all requests of an app with many processes. So requests are read ahead
 * here, sorted by the caller's uid (_lanes.c), and passed on from one uid after the other. Each lane has a limit of
 * requests under way at once, so that slow requests (a slow disk, a lease) do not use up shared resources.
 *
 * Repeats (requests that Python has decided before) do not wait here: the access vector cache answers them at once
 * (_avc.c). To answer a repeat takes little more time than to read it and to put it into a lane. Either the event loop
 * reads the device, or the readers do (_readers.c).
 *
 * INVARIANT: one lock is held from the read of a request until the request has its place in a lane. So two readers
 * never change the order in which the kernel sent requests. Only a request that the cache might have answered may come
 * later. That does no harm: only the request's own caller waits for a look-up or an open. A RELEASE comes later only if
 * its handle belonged to the cache when the RELEASE was read. Then only the OPEN has named that handle before, and the
 * handle has no lock.
 */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "memory/_work.h"
#include "table/_avc.h"
#include "queue/_lanes.h"
#include "queue/_queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ANSWERS_MAX 64 /* most repeats that the event loop answers in a row, since it has other work, too */
#define LINGER_NS 100000 /* an app's usual time between two calls on files, and some more */
#define CREDIT_MAX 8 /* as kernel/readiness.py */
#define CREDIT_WORTH 2
#define TRY_EVERY 16
#define CHANGE_COST 8 /* of these, the repeats that take as long as one change (_changes.c) */

static struct {
	bool on;
	int eventfd;	     /* readable while a request can be passed on; made once, -1 before that */
	bool told;	     /* the eventfd is readable now */
	unsigned char *spare; /* a buffer for a request that has no place yet */
	size_t spare_size;
	bool over;	     /* a reader has found that the session is over */
} turns = {.eventfd = -1};

atomic_bool turns_left;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards `turns` and the lanes */
static pthread_cond_t room = PTHREAD_COND_INITIALIZER;	 /* the lanes are no longer full */

static bool is_left(void)
{
	return atomic_load_explicit(&turns_left, memory_order_relaxed);
}

/* Make the eventfd readable if a request can be passed on, else not readable. */
static void tell(void)
{
	bool ready = turns.over || lanes_turn() != NULL;
	uint64_t one = 1;

	if (ready == turns.told)
		return;
	if ((ready ? write(turns.eventfd, &one, sizeof(one)) : read(turns.eventfd, &one, sizeof(one))) ==
	    (ssize_t)sizeof(one))
		turns.told = ready;
}

static ssize_t hand_on(struct lane *lane, void *buffer, size_t size)
{
	bool full = lanes_full();
	ssize_t got = lanes_take(lane, buffer, size);

	if (full && !lanes_full())
		pthread_cond_broadcast(&room);
	return got;
}

/* Answer ENOMEM to a request for which there is no memory or no room. Otherwise the request would get no answer. */
static void refuse(int fd, const unsigned char *message, size_t size)
{
	struct wire_out_header reply = {.len = sizeof(reply), .error = -ENOMEM};
	struct wire_in_header header;

	if (size < sizeof(header))
		return;
	memcpy(&header, message, sizeof(header));
	reply.unique = header.unique;
	if (header.opcode != OPCODE_FORGET && header.opcode != OPCODE_BATCH_FORGET &&
	    header.opcode != OPCODE_INTERRUPT)
		(void)!write(fd, &reply, sizeof(reply));
}

/* Subtract an answer from those that the event loop may still give in a row. */
static void spend(unsigned *answers, const unsigned char *message)
{
	struct wire_in_header header;
	unsigned cost;

	memcpy(&header, message, sizeof(header));
	cost = header.opcode == OPCODE_BATCH_FORGET ? ANSWERS_MAX : is_change(header.opcode) ? CHANGE_COST : 1;
	*answers -= *answers < cost ? *answers : cost;
}

/* Read again and again for a moment, like read(2). While that finds nothing, since other processes need the processors, it is
 * only tried now and then. Return false if it was not tried. */
static bool spin(int fd, void *buffer, size_t size, ssize_t *got)
{
	static unsigned credit = CREDIT_MAX, skipped;
	int64_t until;

	if (credit < CREDIT_WORTH && ++skipped % TRY_EVERY != 0)
		return false;
	until = avc_clock_ns(CLOCK_MONOTONIC) + LINGER_NS;
	do {
		*got = read(fd, buffer, size);
		if (*got >= 0 || errno != EAGAIN) {
			credit += credit < CREDIT_MAX;
			return true;
		}
	} while (avc_clock_ns(CLOCK_MONOTONIC) < until);
	credit -= credit > 0;
	return true;
}

/* Read a request of the app that got the last answer, if it comes within a moment, like read(2): to go through Python's loop
 * takes as long as to answer, and to wake a sleeping processor several times as long. Not while another request is under way:
 * it may need the loop. */
static ssize_t read_soon(int fd, void *buffer, size_t size)
{
	const struct timespec moment = {.tv_nsec = LINGER_NS};
	static unsigned vain; /* reads that were left out, since the last one found nothing */
	struct pollfd device = {.fd = fd, .events = POLLIN};
	ssize_t got = -1;

	if (lanes_waiting() != 0 || lanes_under_way() != 0)
		return read(fd, buffer, size);
	errno = EAGAIN;
	if (!spin(fd, buffer, size, &got) && vain++ % TRY_EVERY == 0) {
		got = read(fd, buffer, size);
		vain -= got >= 0;
	}
	if (got >= 0 || errno != EAGAIN)
		return got;
	if (ppoll(&device, 1, &moment, NULL) > 0)
		return read(fd, buffer, size);
	errno = EAGAIN;
	return -1;
}

/* Read the next request that is for Python, like read(2). Answer repeats before it, at most *answers: then fail with EAGAIN,
 * so that the loop comes to its other work, and reads on. lingers: false if the caller has a request that must begin. */
static ssize_t read_new(int fd, void *buffer, size_t size, unsigned *answers, bool lingers)
{
	bool answered = false;
	ssize_t got;

	while (*answers > 0) {
		got = answered && lingers ? read_soon(fd, buffer, size) : read(fd, buffer, size);
		if (got <= 0)
			return got;
		/* A FORGET may pass requests that wait: the kernel sends it after the answers that it counts. */
		if (!avc_answer(0, fd, buffer, (size_t)got) && (got = (ssize_t)tree_forget(buffer, (size_t)got)) > 0)
			return got;
		answered = true;
		spend(answers, buffer);
	}
	errno = EAGAIN;
	return -1;
}

/* Read requests from the kernel's queue as long as there is room for them here. */
static void read_ahead(int fd, size_t size, unsigned *answers)
{
	ssize_t got;

	while (!lanes_full() && (got = read_new(fd, turns.spare, size, answers, false)) >= 0)
		if (!lanes_put(turns.spare, (size_t)got))
			refuse(fd, turns.spare, (size_t)got);
}

/* Read the next request. Return true if no other request waits: then the request can go on without a copy. */
static bool read_next(int fd, unsigned char *buffer, size_t size, ssize_t *got)
{
	unsigned answers = ANSWERS_MAX;
	ssize_t second;

	*got = read_new(fd, buffer, size, &answers, true);
	if (*got < 0)
		return false;
	if (lanes_waiting() == 0) {
		second = read_new(fd, turns.spare, size, &answers, false);
		if (second < 0 && lanes_admit(buffer, (size_t)*got))
			return true;
		if (!lanes_put(buffer, (size_t)*got))
			refuse(fd, buffer, (size_t)*got);
		if (second >= 0 && !lanes_put(turns.spare, (size_t)second))
			refuse(fd, turns.spare, (size_t)second);
	} else if (!lanes_put(buffer, (size_t)*got)) {
		refuse(fd, buffer, (size_t)*got);
	}
	read_ahead(fd, size, &answers);
	return false;
}

static ssize_t next(int fd, void *buffer, size_t size)
{
	struct lane *lane;
	ssize_t got;
	int failed = EAGAIN;

	if (turns.spare_size < size) {
		unsigned char *larger = realloc(turns.spare, size);

		if (larger == NULL)
			return read(fd, buffer, size);
		turns.spare = larger;
		turns.spare_size = size;
	}
	if (!lanes_full() && (turns.over || !is_left())) {
		if (read_next(fd, buffer, size, &got))
			return got;
		if (got < 0)
			failed = errno;
	}
	lane = lanes_turn();
	if (lane != NULL)
		return hand_on(lane, buffer, size);
	tell();
	errno = failed;
	return -1;
}

ssize_t turns_read(int fd, void *buffer, size_t size)
{
	unsigned answers = ANSWERS_MAX;
	ssize_t got;
	int error;

	if (!turns.on)
		return read(fd, buffer, size);
	while (answers > 0) { /* a reader leaves first requests of the raw tree (_tree.c) to this seat */
		pthread_mutex_lock(&lock);
		got = next(fd, buffer, size);
		error = errno;
		pthread_mutex_unlock(&lock);
		if (got <= 0 || !is_left() || !avc_answer(0, fd, buffer, (size_t)got)) {
			errno = error;
			return got;
		}
		spend(&answers, buffer);
	}
	errno = EAGAIN; /* the eventfd is readable, or tell() makes it so */
	return -1;
}

void turns_begun(const unsigned char *message, size_t size)
{
	if (!turns.on)
		return;
	pthread_mutex_lock(&lock);
	lanes_begin(message, size);
	tell();
	pthread_mutex_unlock(&lock);
}

void turns_answered(uint64_t unique)
{
	work_end(unique);
	if (!turns.on)
		return;
	pthread_mutex_lock(&lock);
	if (lanes_end(unique))
		tell();
	pthread_mutex_unlock(&lock);
}

/* let_rest(unique) */
PyObject *turns_let_rest(PyObject *module, PyObject *unique)
{
	unsigned long long number = PyLong_AsUnsignedLongLong(unique);

	(void)module;
	if (PyErr_Occurred())
		return NULL;
	turns_answered(number);
	Py_RETURN_NONE;
}

/* ---- For the readers ----------------------------------------------------------------------------- */

static void relay(int fd, const unsigned char *message, size_t size)
{
	if (!lanes_put(message, size))
		refuse(fd, message, size);
	tell();
}

bool turns_relay(unsigned seat, int fd, unsigned char *buffer, size_t size,
		 void (*before)(unsigned, const unsigned char *))
{
	ssize_t got = -1;
	int error = EAGAIN;

	pthread_mutex_lock(&lock);
	while (lanes_full() && is_left())
		pthread_cond_wait(&room, &lock);
	if (is_left()) {
		got = read(fd, buffer, size);
		error = errno;
	}
	if (got >= 0 && avc_takes(buffer, (size_t)got)) {
		pthread_mutex_unlock(&lock);
		before(seat, buffer);
		if (avc_answer(seat, fd, buffer, (size_t)got))
			return true;
		pthread_mutex_lock(&lock);
	}
	if (got >= 0)
		relay(fd, buffer, (size_t)got);
	pthread_mutex_unlock(&lock);
	errno = error;
	return got >= 0;
}

size_t turns_buffer_size(void)
{
	size_t size;

	pthread_mutex_lock(&lock);
	size = turns.spare_size;
	pthread_mutex_unlock(&lock);
	return size;
}

void turns_session_over(void)
{
	pthread_mutex_lock(&lock);
	turns.over = true;
	tell();
	pthread_mutex_unlock(&lock);
}

void turns_make_room(void)
{
	pthread_mutex_lock(&lock);
	pthread_cond_broadcast(&room);
	pthread_mutex_unlock(&lock);
}

void turns_reset(void)
{
	int descriptor = turns.eventfd; /* no lock is needed: no reader runs now */
	uint64_t count;

	lanes_reset();
	free(turns.spare);
	if (turns.told)
		(void)!read(descriptor, &count, sizeof(count));
	memset(&turns, 0, sizeof(turns));
	turns.eventfd = descriptor;
}

/* take_turns(most, room, bytes) -> descriptor */
PyObject *turns_take(PyObject *module, PyObject *args)
{
	unsigned int most, limit;
	Py_ssize_t bytes;

	(void)module;
	if (!PyArg_ParseTuple(args, "IIn:take_turns", &most, &limit, &bytes))
		return NULL;
	if (turns.eventfd < 0)
		turns.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (turns.eventfd < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	pthread_mutex_lock(&lock);
	lanes_limit(most, limit, bytes > 0 ? (size_t)bytes : 0);
	turns.on = most > 0;
	pthread_mutex_unlock(&lock);
	return PyLong_FromLong(turns.eventfd);
}

/* waiting() -> (requests that wait, requests under way) */
PyObject *turns_waiting(PyObject *module, PyObject *unused)
{
	unsigned int count, begun;

	(void)module;
	(void)unused;
	pthread_mutex_lock(&lock);
	count = lanes_waiting();
	begun = lanes_under_way();
	pthread_mutex_unlock(&lock);
	return Py_BuildValue("II", count, begun);
}
