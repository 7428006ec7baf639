/*
 * Readers, queue and event loop on a device that is a socket of packets, without Python and a mount.
 *
 *   readers_race DIRECTORY MILLISECONDS
 *
 * Two clients send repeats, new look-ups, INTERRUPTs (no reply) of requests that may wait or be answered by then,
 * and pairs of RELEASE (no reply) and OPEN. The event loop answers
 * what comes to it, installs and drops the vector, and has the readers begin and rest. Checked: each
 * request is answered once; an OPEN never overtakes the RELEASE that was sent before it; readers and event
 * loop both answer; all end when the device does. Prints the first fault and exits 1.
 */

#define _GNU_SOURCE
#include "table/_avc.h"
#include "queue/_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 2
#define SIZE 8192
#define LEAST_PAIRS 100
#define LONGEST_MS 60000 /* until a machine that is busy has come to all that is to be seen */
#define VAIN_MAX 2000 /* most wake-ups of the event loop in a row without a request for it */

enum { LOOKUP = 1, OPEN = 14, RELEASE = 18, INTERRUPT = 36 };

int given[2];
long last_number;
static int device, clients;
static atomic_bool over;
static atomic_uint_fast64_t next_unique = 2, sent, replied;
static _Atomic uint64_t released, opened; /* highest number of each kind that the event loop saw */
static pthread_mutex_t pair = PTHREAD_MUTEX_INITIALIZER;
static uint64_t pairs;
static atomic_uchar answered[1 << 24];
static atomic_uint looks;

static void fault(const char *what)
{
	printf("%s\n", what);
	exit(1);
}

static void send_one(uint32_t opcode, uint64_t nodeid, const char *name)
{
	unsigned char packet[128] = {0};
	size_t body = name != NULL ? strlen(name) + 1 : 8;
	struct wire_in_header header = {
		.len = (uint32_t)(sizeof(header) + body), .opcode = opcode, .nodeid = nodeid, .uid = 1000,
		.unique = atomic_fetch_add(&next_unique, 2),
	};

	memcpy(packet, &header, sizeof(header));
	if (name != NULL)
		memcpy(packet + sizeof(header), name, body);
	if (opcode != RELEASE)
		atomic_fetch_add(&sent, 1);
	if (write(clients, packet, header.len) != (ssize_t)header.len)
		fault("the device takes no request");
}

static void interrupt(uint64_t target)
{
	struct {
		struct wire_in_header header;
		uint64_t target;
	} packet = {{.len = sizeof(packet), .opcode = INTERRUPT, .unique = target | 1}, target};

	if (write(clients, &packet, sizeof(packet)) != sizeof(packet))
		fault("the device takes no interrupt");
}

static void *client(void *argument)
{
	unsigned seed = (unsigned)(uintptr_t)argument;

	for (;;) {
		while (atomic_load(&sent) - atomic_load(&replied) > 40)
			sched_yield();
		atomic_fetch_add(&sent, 1); /* the device does not end until this is taken back */
		if (atomic_load(&over))
			break;
		switch (rand_r(&seed) % 8) {
		case 0:
			pthread_mutex_lock(&pair); /* one order of pairs in the device */
			pairs++;
			send_one(RELEASE, pairs, NULL);
			send_one(OPEN, pairs, NULL);
			pthread_mutex_unlock(&pair);
			break;
		case 1:
			send_one(LOOKUP, 1, "absent");
			break;
		case 2:
			send_one(LOOKUP, 1, "absent");
			interrupt(atomic_load(&next_unique) - 2);
			break;
		default:
			send_one(LOOKUP, 1, "name");
		}
		atomic_fetch_add(&replied, 1);
	}
	atomic_fetch_add(&replied, 1);
	return NULL;
}

static void *collector(void *unused)
{
	unsigned char packet[SIZE];
	struct wire_out_header header;
	ssize_t got;

	(void)unused;
	while ((got = read(clients, packet, sizeof(packet))) > 0) {
		if (got < (ssize_t)sizeof(header))
			fault("a short reply");
		memcpy(&header, packet, sizeof(header));
		if (answered[header.unique / 2 % sizeof(answered)]++)
			fault("a request was answered twice");
		atomic_fetch_add(&replied, 1);
	}
	return NULL;
}

/* In place of processor_of(): the processor of a request's caller, who must still wait for the answer. */
int look_at_caller(const struct wire_in_header *header);

int look_at_caller(const struct wire_in_header *header)
{
	if (header->opcode == RELEASE || header->opcode == INTERRUPT)
		fault("a reader looks at a caller who does not wait");
	usleep(1000);
	if (answered[header->unique / 2 % sizeof(answered)])
		fault("a reader looks at a caller who has the answer");
	return (int)(looks++ % 2);
}

static void answer(const unsigned char *message, size_t size)
{
	struct wire_out_header reply = {.len = sizeof(reply), .error = -ENOENT};
	struct wire_in_header header;

	memcpy(&header, message, sizeof(header));
	turns_begun(message, size);
	if (header.opcode == INTERRUPT)
		return;
	if (header.opcode == RELEASE) {
		released = header.nodeid > released ? header.nodeid : released;
		return;
	}
	if (header.opcode == OPEN && header.nodeid > released)
		fault("an open has overtaken a release");
	if (header.opcode == OPEN)
		opened = header.nodeid;
	reply.unique = header.unique;
	turns_answered(header.unique);
	if (write(device, &reply, sizeof(reply)) != sizeof(reply))
		fault("a reply is not taken");
}

void work_end(uint64_t unique) /* no memory outlives this program */
{
	(void)unique;
}

static void install(int directory)
{
	struct avc_vector vector = {.id = 7, .parent = 1, .directory = directory, .name = "name", .name_size = 4,
				    .uid = 1000, .grant = AVC_LOOKUP, .format = S_IFREG};
	struct statx now;

	if (statx(directory, "name", 0, STATX_BASIC_STATS | STATX_BTIME, &now) != 0)
		fault("no file");
	vector.device = makedev(now.stx_dev_major, now.stx_dev_minor);
	vector.ino = now.stx_ino;
	vector.birth_ns = now.stx_btime.tv_sec * 1000000000 + now.stx_btime.tv_nsec;
	if (!avc_install(&vector))
		fault("no room");
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/*
 * Reads nothing meanwhile: that would take up what no wake-up was for. A request counts as sent before it is, and a
 * starved machine may leave a thread there, or a reader before its reply, for more than a second.
 */
static void wait_for_wake_up(int epoll)
{
	struct epoll_event event;

	for (int seconds = 0; seconds < 5; seconds++)
		if (epoll_wait(epoll, &event, 1, 1000) != 0 || atomic_load(&sent) == atomic_load(&replied))
			return;
	fault("a wake-up was lost");
}

static bool has_seen_all(uint64_t here, unsigned switches)
{
	struct avc_counts counts;

	avc_count(&counts);
	return here > 0 && counts.lookups > 0 && switches > 2 && opened >= LEAST_PAIRS;
}

/* The event loop, until all that was sent is answered; then until the device ends. */
static uint64_t serve(int epoll, int directory, int64_t until, unsigned *switches)
{
	static unsigned char buffer[SIZE];
	unsigned turn = 0, vain = 0;
	int64_t last = until + LONGEST_MS;
	uint64_t here = 0;
	bool active = false;

	for (;;) {
		ssize_t got = turns_read(device, buffer, SIZE);

		readers_weigh(got >= 0);
		vain = got > 0 ? 0 : vain + 1;
		if (vain > VAIN_MAX)
			fault("the event loop does not sleep");
		if (got > 0) {
			answer(buffer, (size_t)got);
			here++;
		} else if (got == 0 || errno != EAGAIN) {
			return here;
		} else {
			wait_for_wake_up(epoll);
		}
		if (readers_active() != active) {
			active = !active;
			++*switches;
		}
		if (++turn % 64 == 0) { /* all shares, in turn */
			given[0] = turn % 256 < 128 ? 0 : 101;
			given[1] = turn % 256 < 128 ? 0 : 101;
			readers_shares(NULL, NULL);
		}
		if (turn % 7 == 0)
			avc_drop(7);
		else
			install(directory);
		if (now_ms() > until && !atomic_load(&over)) {
			if (now_ms() < last && !has_seen_all(here, *switches))
				until = now_ms();
			else
				atomic_store(&over, true);
		}
		if (now_ms() > until + 500 && atomic_load(&sent) == atomic_load(&replied))
			shutdown(clients, SHUT_WR);
		if (now_ms() > until + 20000)
			fault("a request was never answered");
	}
}

int main(int count, char **words)
{
	pthread_t threads[CLIENTS], collect;
	struct epoll_event event = {.events = EPOLLIN};
	struct avc_counts counts;
	unsigned switches = 0;
	int ends[2], directory, epoll;
	uint64_t here;

	if (count != 3 || (directory = open(words[1], O_RDONLY | O_DIRECTORY)) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0)
		return 2;
	close(openat(directory, "name", O_CREAT | O_WRONLY, 0600));
	device = ends[0];
	clients = ends[1];
	fcntl(device, F_SETFL, O_NONBLOCK);
	given[0] = 32;
	given[1] = 192;
	turns_take(NULL, NULL);
	epoll = epoll_create1(0);
	epoll_ctl(epoll, EPOLL_CTL_ADD, device, &event);
	epoll_ctl(epoll, EPOLL_CTL_ADD, (int)last_number, &event);
	if (!avc_open(64, 4, AVC_SEATS))
		return 2;
	given[0] = device;
	given[1] = epoll;
	readers_start(NULL, NULL);
	pthread_create(&collect, NULL, collector, NULL);
	for (unsigned i = 0; i < CLIENTS; i++)
		pthread_create(&threads[i], NULL, client, (void *)(uintptr_t)(i + 1));
	here = serve(epoll, directory, now_ms() + atoi(words[2]), &switches);
	for (unsigned i = 0; i < CLIENTS; i++)
		pthread_join(threads[i], NULL);
	readers_stop();
	shutdown(device, SHUT_RDWR);
	pthread_join(collect, NULL);
	avc_count(&counts);
	printf("%llu in the event loop, %llu repeats, %u switches, %u looks\n", (unsigned long long)here,
	       (unsigned long long)counts.lookups, switches, looks);
	if (!has_seen_all(here, switches))
		return 1;
	avc_close();
	turns_reset();
	return 0;
}
