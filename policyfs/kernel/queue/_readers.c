/*
 * Reader threads, each pinned to its processors. While they are active, they read the device in place of the event
 * loop. A repeat is a request that Python has decided before (_avc.c). The readers answer repeats from the access
 * vector cache without the interpreter, and put all other requests into the queue of _turns.c. While they rest, the
 * event loop reads the device itself, and the readers cost nothing. A request for Python that a reader reads costs a
 * change of threads. So the readers are active only while enough requests are repeats.
 *
 * A request wakes one of the waiting readers (EPOLLEXCLUSIVE): the first reader in the device's queue. To wake a thread
 * on another processor takes several times as long as an answer. So a reader sometimes looks for the caller's
 * processor. If another reader has this processor, the reader goes to the end of the queue.
 *
 * All readers read the one descriptor of the session, because a reply must go to the descriptor that read the
 * request. The event loop alone starts and stops their work.
 */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "memory/_memory.h"
#include "memory/_processors.h"
#include "table/_avc.h"
#include "queue/_queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WEIGHED 64 /* requests between two looks at the shares of repeats */

#define NEAR_EVERY 64 /* requests between two looks at the caller's processor */
#define PAUSE_MS 1 /* after a read that failed because memory is short: each such read loses a request */

#define LOOK_EVERY 16 /* calls of readers_weigh() between two sums of the counters */
#define FIRST_COST 16 /* an answer that a reader leaves to the event loop takes so many times as long as one by the loop alone */

enum mode { RESTING, READING, ENDING };

static struct {
	pthread_mutex_t lock; /* guards mode and ready, and is held for nothing else */
	pthread_cond_t changed;
	atomic_int mode;
	unsigned ready;

	/* The event loop only. */
	pthread_t threads[AVC_SEATS - 1];
	unsigned count;
	unsigned begin_percent, end_percent;
	unsigned calls;
	unsigned passed;	/* requests for Python since the last look at the shares */
	uint64_t answered, firsts; /* requests answered from the cache up to that look; see avc_counts */
	uint64_t began;		/* the number of times that the readers began to read */
	size_t buffer_size;	/* 0 before the readers begin to read for the first time */
	int fd, epoll, bell;	/* bell: readable while the readers must look at their mode */
} readers = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.begin_percent = 50,
	.end_percent = 25,
	.bell = -1,
};

struct place {
	unsigned seat;
	cpu_set_t cpus;
	int epoll;	/* waits for the device and the bell */
	bool listens;	/* epoll has the device */
	unsigned asked; /* requests since the last look at the caller's processor */
	unsigned char *buffer; /* for requests; the event loop makes it before the readers begin to read */
};

static struct place places[AVC_SEATS]; /* place 0, the event loop's, is not used */

/* ---- A reader ------------------------------------------------------------------------------------ */

static int wait_for_work(void)
{
	int mode;

	pthread_mutex_lock(&readers.lock);
	while ((mode = atomic_load(&readers.mode)) == RESTING)
		pthread_cond_wait(&readers.changed, &readers.lock);
	pthread_mutex_unlock(&readers.lock);
	return mode;
}

/* Go to the end of the device's queue: a request wakes this reader last. */
static void listen_last(struct place *place)
{
	struct epoll_event device = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = readers.fd};

	if (place->listens)
		epoll_ctl(place->epoll, EPOLL_CTL_DEL, readers.fd, NULL);
	place->listens = epoll_ctl(place->epoll, EPOLL_CTL_ADD, readers.fd, &device) == 0;
}

static void listen_no_more(struct place *place)
{
	if (place->listens)
		epoll_ctl(place->epoll, EPOLL_CTL_DEL, readers.fd, NULL);
	place->listens = false;
}

/* Wait for a request, or until the readers must rest. Return true if there may be a request. */
static bool wait_for_request(const struct place *place)
{
	struct pollfd either[2] = {{.fd = readers.fd, .events = POLLIN}, {.fd = readers.bell, .events = POLLIN}};
	struct epoll_event event;

	if (!place->listens) /* epoll could not add the device: every request wakes this reader */
		return poll(either, 2, -1) > 0 && either[0].revents != 0;
	return epoll_wait(place->epoll, &event, 1, -1) > 0 && event.data.fd == readers.fd;
}

/* If another reader is nearer to the caller of a request, let requests wake that reader first.
 *
 * INVARIANT: the caller waits for the answer. While the kernel reads PID/stat, it keeps the caller's memory. If the
 * caller ended meanwhile, this thread would unmap the memory, and wait for the changed pages of its mappings to be
 * written: without end, if one of their file systems hangs. */
static void give_way(unsigned seat, const unsigned char *message)
{
	struct place *place = &places[seat];
	struct wire_in_header header;
	int cpu;

	memcpy(&header, message, sizeof(header));
	if (readers.count < 2 || header.opcode == OPCODE_RELEASE || header.opcode == OPCODE_RELEASEDIR ||
	    ++place->asked % NEAR_EVERY != 0)
		return;
	cpu = processor_of(header.pid);
	if (cpu >= 0 && cpu < CPU_SETSIZE && !CPU_ISSET((size_t)cpu, &place->cpus))
		listen_last(place);
}

/* Read until there is no request, or until the readers must rest. Return false if the session is over. */
static bool read_some(struct place *place)
{
	struct pollfd bell = {.fd = readers.bell, .events = POLLIN};

	while (atomic_load(&readers.mode) == READING) {
		if (turns_relay(place->seat, readers.fd, place->buffer, readers.buffer_size, give_way))
			continue;
		if (errno == EAGAIN)
			return true;
		if (errno == ENODEV || errno == ECONNABORTED)
			return false;
		if (errno != EINTR && errno != ENOENT)
			poll(&bell, 1, PAUSE_MS);
	}
	return true;
}

static void serve(struct place *place)
{
	struct pollfd bell = {.fd = readers.bell, .events = POLLIN};
	bool over = false;

	while (wait_for_work() == READING) {
		if (!over)
			listen_last(place);
		while (!over && atomic_load(&readers.mode) == READING)
			if (wait_for_request(place))
				over = !read_some(place);
		listen_no_more(place); /* otherwise each request would look here for a waiting reader */
		if (over) {
			turns_session_over();
			poll(&bell, 1, -1); /* until the event loop has noticed */
		}
	}
}

static void *run(void *argument)
{
	struct place *place = argument;
	sigset_t all;

	signals_except_faults(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_setname_np(pthread_self(), "policyfs-reader");
	(void)sched_setaffinity(0, sizeof(place->cpus), &place->cpus); /* if this fails, the reader runs anywhere */
	pthread_mutex_lock(&readers.lock);
	readers.ready++;
	pthread_cond_broadcast(&readers.changed);
	pthread_mutex_unlock(&readers.lock);
	if (wait_for_work() == READING)
		serve(place);
	close(place->epoll);
	return NULL;
}

/* ---- The event loop ------------------------------------------------------------------------------ */

static void set_mode(enum mode mode)
{
	uint64_t count = 1;

	if (mode == READING)
		(void)!read(readers.bell, &count, sizeof(count));
	else
		(void)!write(readers.bell, &count, sizeof(count));
	pthread_mutex_lock(&readers.lock);
	atomic_store(&turns_left, mode == READING);
	atomic_store(&readers.mode, mode);
	pthread_cond_broadcast(&readers.changed);
	pthread_mutex_unlock(&readers.lock);
	turns_make_room();
}

bool readers_active(void)
{
	return atomic_load_explicit(&turns_left, memory_order_relaxed);
}

/* Give each reader a buffer. Return false if memory is short: the readers then go on resting. */
static bool make_buffers(void)
{
	if (readers.buffer_size == 0)
		readers.buffer_size = turns_buffer_size();
	for (unsigned i = 1; i <= readers.count; i++)
		if (places[i].buffer == NULL &&
		    (places[i].buffer = memory_new(readers.buffer_size, true)) == NULL)
			return false;
	return true;
}

static void begin(void)
{
	if (!make_buffers())
		return;
	epoll_ctl(readers.epoll, EPOLL_CTL_DEL, readers.fd, NULL);
	readers.began++;
	set_mode(READING);
}

static void end(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = readers.fd};

	/* INVARIANT: the readers rest only if a request wakes the event loop. If memory is short, they go on. */
	if (epoll_ctl(readers.epoll, EPOLL_CTL_ADD, readers.fd, &event) == 0)
		set_mode(RESTING);
}

/* Return the number of answered requests. firsts: of these, requests that the readers would have to pass on. */
static uint64_t answered_so_far(uint64_t *firsts)
{
	struct avc_counts counts;

	avc_count(&counts);
#define PLUS(kind, opcode) +counts.kind
	*firsts = counts.firsts;
	return AVC_ANSWERS(PLUS);
#undef PLUS
}

void readers_weigh(unsigned passed)
{
	uint64_t answered, firsts, total;
	unsigned percent;
	int error = errno; /* errno of the read before; the caller needs it to see if the session is over */

	if (readers.count == 0 || turns_buffer_size() == 0)
		return;
	readers.passed += passed;
	if (++readers.calls % LOOK_EVERY != 0 && readers.begin_percent > 0)
		return;
	answered = answered_so_far(&firsts) - readers.answered;
	firsts -= readers.firsts;
	total = answered + (FIRST_COST - 1) * firsts + readers.passed;
	if (total < WEIGHED && readers.begin_percent > 0)
		return;
	percent = total == 0 ? 0 : (unsigned)(100 * (answered - firsts) / total);
	if (!readers_active() && percent >= readers.begin_percent)
		begin();
	else if (readers_active() && percent < readers.end_percent)
		end();
	errno = error;
	readers.passed = 0;
	readers.answered += answered;
	readers.firsts += firsts;
}

void readers_stop(void)
{
	if (readers.bell < 0)
		return;
	set_mode(ENDING);
	for (unsigned i = 0; i < readers.count; i++) {
		pthread_join(readers.threads[i], NULL);
		if (places[i + 1].buffer != NULL)
			memory_free(places[i + 1].buffer, readers.buffer_size, true);
	}
	close(readers.bell);
	readers.bell = -1;
	readers.count = 0;
	readers.buffer_size = 0;
	atomic_store(&readers.mode, RESTING);
}

/* Read the processors of one reader, except processors beyond CPU_SETSIZE. Return false with a Python error. */
static bool read_cpus(PyObject *group, cpu_set_t *cpus)
{
	PyObject *numbers = PySequence_Fast(group, "the processors of a reader are a sequence");

	CPU_ZERO(cpus);
	if (numbers == NULL)
		return false;
	for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(numbers); i++) {
		long cpu = PyLong_AsLong(PySequence_Fast_GET_ITEM(numbers, i));

		if (cpu >= 0 && cpu < CPU_SETSIZE)
			CPU_SET((size_t)cpu, cpus);
	}
	Py_DECREF(numbers);
	return !PyErr_Occurred();
}

static bool start_one(unsigned seat, PyObject *group)
{
	struct place *place = &places[seat];
	struct epoll_event bell = {.events = EPOLLIN, .data.fd = readers.bell};

	memset(place, 0, sizeof(*place));
	place->seat = seat;
	if (!read_cpus(group, &place->cpus))
		return false;
	place->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (place->epoll < 0)
		return false;
	if (epoll_ctl(place->epoll, EPOLL_CTL_ADD, readers.bell, &bell) != 0 ||
	    pthread_create(&readers.threads[readers.count], NULL, run, place) != 0) {
		close(place->epoll);
		return false;
	}
	readers.count++;
	return true;
}

/* start_readers(groups of cpus, device, epoll) -> threads. The readers are pinned before this returns, because seccomp
 * may later refuse the system calls for pinning. */
PyObject *readers_start(PyObject *module, PyObject *args)
{
	PyObject *groups, *each;
	int fd, epoll;
	Py_ssize_t many;

	(void)module;
	if (!PyArg_ParseTuple(args, "Oii:start_readers", &groups, &fd, &epoll))
		return NULL;
	if (readers.count > 0 || !avc_is_open()) {
		PyErr_SetString(PyExc_RuntimeError, "readers need access vectors, and are started once");
		return NULL;
	}
	each = PySequence_Fast(groups, "a sequence of groups of processors");
	if (each == NULL)
		return NULL;
	readers.bell = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (readers.bell < 0) {
		Py_DECREF(each);
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	readers.fd = fd;
	readers.epoll = epoll;
	readers.ready = 0;
	readers.passed = 0;
	readers.answered = readers.firsts = 0;
	readers.began = 0;
	many = PySequence_Fast_GET_SIZE(each);
	for (Py_ssize_t i = 0; i < many && i < AVC_SEATS - 1; i++)
		if (!start_one((unsigned)i + 1, PySequence_Fast_GET_ITEM(each, i)))
			break;
	Py_DECREF(each);
	Py_BEGIN_ALLOW_THREADS
	pthread_mutex_lock(&readers.lock);
	while (readers.ready < readers.count)
		pthread_cond_wait(&readers.changed, &readers.lock);
	pthread_mutex_unlock(&readers.lock);
	Py_END_ALLOW_THREADS
	if (PyErr_Occurred() || readers.count == 0)
		readers_stop();
	return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLong(readers.count);
}

PyObject *readers_shares(PyObject *module, PyObject *args)
{
	unsigned begin_percent, end_percent;

	(void)module;
	if (!PyArg_ParseTuple(args, "II:reader_shares", &begin_percent, &end_percent))
		return NULL;
	readers.begin_percent = begin_percent;
	readers.end_percent = end_percent;
	Py_RETURN_NONE;
}

PyObject *readers_state(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return Py_BuildValue("INK", readers.count, PyBool_FromLong(readers_active()),
			     (unsigned long long)readers.began);
}
