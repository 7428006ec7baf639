/*
 * Readers of the access vector cache against the one thread that changes it, without a mount.
 *
 *   avc_race DIRECTORY MILLISECONDS
 *
 * The device is a pipe of packets, so that replies and the marks of the changing thread have one order.
 * Checked: after the mark of a drop there is no reply about that node, until the mark of its next
 * installation; a reply has the inode of its node, whatever has its name; a uid without a grant gets none;
 * each look-up is counted once. Prints the first fault and exits 1.
 */

#define _GNU_SOURCE
#include "_avc.h"
#include "_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define NODES 8
#define READERS 3
#define UID_GRANTED 1000u
#define UID_OTHER 1001u
#define PARENT 1u
#define MARK 0x4d41524bu

enum kind { LOOKUP = 1, GETATTR = 3, ACCESS = 34 };
enum mark { DROPPED, INSTALLED, ENDED };

struct mark_message {
	uint32_t magic, mark, node, padding;
};

static int directory, device, replies;
static uint64_t inode[NODES], device_number[NODES];
static int64_t birth[NODES];
static atomic_bool over;
static uint64_t seen_lookups[NODES], counted[NODES];
static bool may_answer[NODES];
static char names[NODES][8];

static void fault(const char *what, unsigned node)
{
	printf("%s: node %u\n", what, node);
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* unique: request's kind, uid and node, so that the reply alone says what was answered. */
static uint64_t unique_of(enum kind kind, uint32_t uid, unsigned node)
{
	return (uint64_t)kind << 40 | (uint64_t)(uid == UID_OTHER) << 32 | node;
}

static size_t request(unsigned char *buffer, enum kind kind, uint32_t uid, unsigned node)
{
	struct wire_in_header header = {.opcode = kind, .uid = uid, .unique = unique_of(kind, uid, node)};
	size_t body = kind == LOOKUP ? strlen(names[node]) + 1 : kind == GETATTR ? 16 : 8;
	uint32_t mode = 4;

	header.nodeid = kind == LOOKUP ? PARENT : node + 2;
	header.len = (uint32_t)(sizeof(header) + body);
	memset(buffer, 0, header.len);
	memcpy(buffer, &header, sizeof(header));
	if (kind == LOOKUP)
		memcpy(buffer + sizeof(header), names[node], body);
	else if (kind == ACCESS)
		memcpy(buffer + sizeof(header), &mode, sizeof(mode));
	return header.len;
}

static void *reader(void *argument)
{
	static const enum kind kinds[] = {LOOKUP, GETATTR, ACCESS};
	unsigned seat = (unsigned)(uintptr_t)argument, seed = seat;
	unsigned char buffer[128];

	while (!atomic_load(&over)) {
		unsigned node = (unsigned)rand_r(&seed) % NODES;
		uint32_t uid = rand_r(&seed) % 8 == 0 ? UID_OTHER : UID_GRANTED;
		size_t size = request(buffer, kinds[rand_r(&seed) % 3], uid, node);

		avc_answer(seat, device, buffer, size);
	}
	return NULL;
}

static void check_reply(const unsigned char *packet)
{
	struct wire_out_header header;
	unsigned node, kind;
	uint64_t ino = 0;

	memcpy(&header, packet, sizeof(header));
	node = (unsigned)(header.unique & 0xffff);
	kind = (unsigned)(header.unique >> 40);
	if (header.unique >> 32 & 1)
		fault("an answer to a uid without a grant", node);
	if (!may_answer[node])
		fault("an answer after a drop", node);
	if (kind == LOOKUP) {
		struct wire_entry_out entry;

		memcpy(&entry, packet + sizeof(header), sizeof(entry));
		if (entry.nodeid != node + 2 || entry.entry_valid != 0 || entry.attr_valid != 0)
			fault("a look-up of another node", node);
		ino = entry.attr.ino;
		seen_lookups[node]++;
	} else if (kind == GETATTR) {
		struct wire_attr_out attr;

		memcpy(&attr, packet + sizeof(header), sizeof(attr));
		ino = attr.attr.ino;
	}
	if (kind != ACCESS && ino != inode[node])
		fault("the attributes of another inode", node);
}

static void *checker(void *unused)
{
	unsigned char packet[4096];
	struct mark_message mark;

	(void)unused;
	for (;;) {
		ssize_t got = read(replies, packet, sizeof(packet));

		if (got < (ssize_t)sizeof(mark))
			fault("the pipe ended", 0);
		memcpy(&mark, packet, sizeof(mark));
		if (mark.magic != MARK)
			check_reply(packet);
		else if (mark.mark == ENDED)
			return NULL;
		else
			may_answer[mark.node] = mark.mark == INSTALLED;
	}
}

static void say(enum mark what, unsigned node)
{
	struct mark_message mark = {MARK, what, node, 0};

	if (write(device, &mark, sizeof(mark)) != sizeof(mark))
		fault("the pipe is closed", node);
}

static void install(unsigned node)
{
	struct avc_vector vector = {
		.id = node + 2, .parent = PARENT, .directory = directory, .name = names[node],
		.name_size = strlen(names[node]), .uid = UID_GRANTED,
		.grant = AVC_LOOKUP | AVC_GETATTR | AVC_ACCESS(4), .device = device_number[node],
		.ino = inode[node], .birth_ns = birth[node], .format = S_IFREG,
	};

	say(INSTALLED, node);
	if (!avc_install(&vector))
		fault("no room", node);
}

static void taken(void *context, uint64_t id, uint64_t lookups)
{
	(void)context;
	counted[id - 2] += lookups;
}

static void change(unsigned *seed)
{
	unsigned node = (unsigned)rand_r(seed) % NODES, other = (unsigned)rand_r(seed) % NODES;

	switch (rand_r(seed) % 10) {
	case 0:
		avc_drop_all();
		for (node = 0; node < NODES; node++)
			say(DROPPED, node);
		break;
	case 1:
		avc_clear(taken, NULL);
		for (node = 0; node < NODES; node++)
			say(DROPPED, node);
		break;
	case 2: /* behind the cache's back: two names change their inodes, and back */
		renameat2(directory, names[node], directory, names[other], RENAME_EXCHANGE);
		sched_yield();
		renameat2(directory, names[node], directory, names[other], RENAME_EXCHANGE);
		break;
	case 3:
	case 4:
	case 5:
		counted[node] += avc_drop(node + 2);
		say(DROPPED, node);
		break;
	default:
		install(node);
	}
}

static void find_files(void)
{
	for (unsigned i = 0; i < NODES; i++) {
		struct statx now;
		int fd;

		snprintf(names[i], sizeof(names[i]), "f%u", i);
		fd = openat(directory, names[i], O_CREAT | O_WRONLY, 0600);
		if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &now) != 0 ||
		    !(now.stx_mask & STATX_BTIME))
			fault("no birth time on this file system", i);
		close(fd);
		inode[i] = now.stx_ino;
		birth[i] = now.stx_btime.tv_sec * 1000000000 + now.stx_btime.tv_nsec;
		device_number[i] = makedev(now.stx_dev_major, now.stx_dev_minor);
	}
}

int main(int count, char **words)
{
	pthread_t readers[READERS], check;
	unsigned seed = 1, changes = 0;
	uint64_t lookups = 0;
	int64_t until;
	int ends[2];

	if (count != 3 || (directory = open(words[1], O_RDONLY | O_DIRECTORY)) < 0 || pipe2(ends, O_DIRECT) != 0)
		return 2;
	replies = ends[0];
	device = ends[1];
	find_files();
	if (!avc_open(64, 4, AVC_SEATS))
		return 2;
	pthread_create(&check, NULL, checker, NULL);
	for (unsigned i = 0; i < READERS; i++)
		pthread_create(&readers[i], NULL, reader, (void *)(uintptr_t)(i + 1));
	for (until = now_ms() + atoi(words[2]); now_ms() < until; changes++) {
		change(&seed);
		sched_yield(); /* the readers' turn, on one processor, too */
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	avc_clear(taken, NULL);
	say(ENDED, 0);
	pthread_join(check, NULL);
	for (unsigned i = 0; i < NODES; i++) {
		if (counted[i] != seen_lookups[i])
			fault("look-ups are lost or counted twice", i);
		lookups += counted[i];
	}
	avc_close();
	printf("%u changes, %llu look-ups\n", changes, (unsigned long long)lookups);
	return lookups > 0 && changes > 0 ? 0 : 1;
}
