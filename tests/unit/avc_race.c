/*
 * Readers of the access vector cache against the one thread that changes it, without a mount.
 *
 *   avc_race DIRECTORY MILLISECONDS
 *
 * The device is a pipe of packets, so that replies and the marks of the changing thread have one order.
 * Checked: after the mark of a drop there is no reply about that node, until the mark of its next
 * installation; a reply has the inode of its node, whatever has its name; a uid without a grant gets none;
 * each look-up is counted once; an open has the backing id of its node's installation, and a number of its
 * own; each handle is released here or taken over, once; each recorded open is one event, which was published
 * before its reply, and those of one reader come in order; the bell rings each time that ENOUGH events wait;
 * extended attributes are absent only where that was decided, and none in user. is; a name is absent only while
 * all names are shown, to the uid that sees them, and if the store does not have it; a handle that is taken over
 * stays in the memory until it is freed there. Prints the first fault and exits 1.
 */

#define _GNU_SOURCE
#include "table/_avc.h"
#include "wire/_wire.h"

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
#define GID 500u
#define FLAGS 0x8000u
#define LISTS(fh) ((fh) >> 57 & 1) /* a handle of an OPENDIR. The cache does not look at the type of the node */
#define HANDLES (1u << 22)
#define RECORDED(node) ((node) % 2 == 1)
#define KEPT_MS(node) ((node) % 2 == 1 ? 500u : 0) /* the files are new: 1 s, and never longer than this */
#define PATIENCE_MS 60000
#define ENOUGH 32 /* events, see _events.c */
#define NOBODY (0x7ffffff0u | ((uint32_t)getpid() & 15)) /* no process has this number; in the place of ours */
#define PARENT 1u
#define MARK 0x4d41524bu
#define ABSENT 0x100u /* the number of a name that the store does not have */

enum kind { LOOKUP = 1, GETATTR = 3, OPEN = 14, RELEASE = 18, GETXATTR = 22, OPENDIR = 27, RELEASEDIR = 29, ACCESS = 34 };
enum mark { DROPPED, INSTALLED, NO_OPENS, ALL_SEEN, NOT_ALL_SEEN, ENDED };

struct mark_message {
	uint32_t magic, mark, node;
	int32_t backing_id;
	size_t events; /* of the node, taken so far */
};

static int directory, device, replies;
static uint64_t inode[NODES], device_number[NODES];
static int64_t birth[NODES];
static atomic_bool over;
static uint64_t seen_lookups[NODES], counted[NODES];
static bool may_answer[NODES], may_be_absent;
static int32_t may_open[NODES]; /* the backing id, 0 if it may not be opened */
static int32_t installed_id[NODES];

/* Handles in the order of their replies: who has one, and what became of it. */
static struct {
	uint64_t fh;
	unsigned node;
	bool released, left; /* here, or left to Python */
	unsigned taken;
} handles[HANDLES];
static size_t handle_count, next_release;
static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t taken_early[HANDLES]; /* before the checker has read their replies */
static size_t taken_count, freed_count; /* of these, the first are not in the memory any more */
static void *outliving;			/* the memory that would outlive this process */
static size_t absent_answers, absences;
static char names[NODES][8];

/* Events in the order in which they were taken, by the changing thread; and recorded opens that were replied. */
static struct {
	uint64_t fh, node;
	int64_t time_ns;
} events[HANDLES];
static size_t event_count, events_of[NODES];
static size_t opens_of[NODES];
static _Atomic size_t recorded_opens;
static char program[AVC_PROGRAM_MAX];

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

/* In unique: the extended attribute is an ACL or a label. */

/* unique: request's kind, uid and node, so that the reply alone says what was answered. */
static uint64_t unique_of(enum kind kind, uint32_t uid, unsigned node)
{
	return (uint64_t)kind << 40 | (uint64_t)(uid == UID_OTHER) << 32 | node;
}

static size_t request(unsigned char *buffer, enum kind kind, uint32_t uid, unsigned node)
{
	struct wire_in_header header = {.opcode = kind, .uid = uid, .gid = GID, .pid = node % 4 == 3 ? NOBODY : (uint32_t)getpid(), .unique = unique_of(kind, uid, node)};
	size_t body = kind == LOOKUP ? strlen(names[node]) + 1 : kind == GETATTR ? 16 : 8;
	uint32_t flags = FLAGS | (node % 2 ? O_CLOEXEC : 0);
	uint32_t mode = 4;

	header.nodeid = kind == LOOKUP ? PARENT : node + 2;
	header.len = (uint32_t)(sizeof(header) + body);
	memset(buffer, 0, header.len);
	memcpy(buffer, &header, sizeof(header));
	if (kind == LOOKUP)
		memcpy(buffer + sizeof(header), names[node], body);
	else if (kind == OPEN || kind == OPENDIR)
		memcpy(buffer + sizeof(header), &flags, sizeof(flags));
	else if (kind == ACCESS)
		memcpy(buffer + sizeof(header), &mode, sizeof(mode));
	return header.len;
}

static void ask(unsigned seat, bool answered, unsigned node, const char *name, size_t name_size)
{
	struct { struct wire_in_header header; struct wire_getxattr_in in; char name[300]; } whole;
	size_t size = sizeof(whole.header) + sizeof(whole.in) + name_size;

	memset(&whole, 0, sizeof(whole));
	whole.header.opcode = GETXATTR;
	whole.header.uid = UID_OTHER;
	whole.header.gid = GID;
	whole.header.nodeid = node + 2;
	whole.header.len = (uint32_t)size;
	whole.header.unique = unique_of(GETXATTR, answered ? UID_GRANTED : UID_OTHER, node);
	whole.in.size = name_size % 2 ? 0 : 512;
	memcpy(whole.name, name, name_size);
	avc_answer(seat, device, (unsigned char *)&whole, size);
}

static void ask_for_absent_name(unsigned seat, uint32_t uid)
{
	struct { struct wire_in_header header; char name[5]; } whole = {.name = "none"};
	size_t size = sizeof(whole.header) + sizeof(whole.name);

	whole.header.opcode = LOOKUP;
	whole.header.uid = uid;
	whole.header.nodeid = PARENT;
	whole.header.len = (uint32_t)size;
	whole.header.unique = unique_of(LOOKUP, uid, ABSENT);
	avc_answer(seat, device, (unsigned char *)&whole, size);
}

/* Ask for the extended attribute of which anyone is told that no file has it, or for another one. */
static void ask_attribute(unsigned seat, unsigned node, unsigned which)
{
	static const char *const names[] = {"security.capabilities", "security.selinux", "user.capability", "x", ""};

	if (which < 5)
		ask(seat, false, node, names[which], strlen(names[which]) + 1);
	else if (which == 5)
		ask(seat, false, node, "security.capability", 19); /* no null byte */
	else
		ask(seat, true, node, "security.capability", 20);
}

/* An open that must not be answered: with another gid, other flags, or a request to drop set-id bits; for a
 * directory with another gid, or cut short. */
static void odd_open(unsigned seat, unsigned node, unsigned which)
{
	unsigned char buffer[128];
	size_t size = request(buffer, which < 3 ? OPEN : OPENDIR, UID_GRANTED, node) - (which == 4 ? 4 : 0);
	struct wire_in_header header;
	uint32_t flags = FLAGS | 0x20;

	memcpy(&header, buffer, sizeof(header));
	header.len = (uint32_t)size;
	if (which == 0 || which == 3)
		header.gid = GID + 1;
	header.unique = unique_of(OPEN, UID_OTHER, node);
	memcpy(buffer, &header, sizeof(header));
	if (which == 1)
		memcpy(buffer + sizeof(header), &flags, sizeof(flags));
	if (which == 2)
		buffer[sizeof(header) + 4] = 1;
	avc_answer(seat, device, buffer, size);
}

/* Release the oldest handle that is not released. */
static void release(unsigned seat)
{
	struct { struct wire_in_header header; uint64_t fh; uint32_t flags, release_flags; uint64_t owner; } in;
	size_t mine;
	bool done;

	memset(&in, 0, sizeof(in));
	pthread_mutex_lock(&handles_lock);
	mine = next_release;
	if (mine < handle_count) {
		next_release++;
		in.fh = handles[mine].fh;
		in.header.nodeid = handles[mine].node + 2;
	}
	pthread_mutex_unlock(&handles_lock);
	if (in.fh == 0)
		return;
	in.header.opcode = LISTS(in.fh) ? RELEASEDIR : RELEASE;
	in.header.len = sizeof(in);
	in.header.unique = unique_of(RELEASE, UID_GRANTED, (unsigned)in.header.nodeid - 2);
	done = avc_answer(seat, device, (unsigned char *)&in, sizeof(in));
	pthread_mutex_lock(&handles_lock);
	handles[mine].released = done;
	handles[mine].left = !done;
	pthread_mutex_unlock(&handles_lock);
}

/* Ask as access(2) does, but with an opcode that nobody knows. */
static void ask_unknown(unsigned seat, unsigned node)
{
	unsigned char buffer[128];
	struct wire_in_header header;
	size_t size = request(buffer, ACCESS, UID_GRANTED, node);

	memcpy(&header, buffer, sizeof(header));
	header.opcode = 99;
	memcpy(buffer, &header, sizeof(header));
	if (avc_answer(seat, device, buffer, size))
		fault("an unknown request is answered", node);
}

static void *reader(void *argument)
{
	static const enum kind kinds[] = {LOOKUP, GETATTR, ACCESS, OPEN, OPENDIR};
	unsigned seat = (unsigned)(uintptr_t)argument, seed = seat;
	unsigned char buffer[128];

	while (!atomic_load(&over)) {
		unsigned node = (unsigned)rand_r(&seed) % NODES;
		uint32_t uid = rand_r(&seed) % 8 == 0 ? UID_OTHER : UID_GRANTED;
		size_t size = request(buffer, kinds[rand_r(&seed) % 5], uid, node);

		avc_answer(seat, device, buffer, size);
		if (rand_r(&seed) % 2)
			release(seat);
		if (rand_r(&seed) % 4 == 0)
			ask_attribute(seat, node, (unsigned)rand_r(&seed) % 9);
		if (rand_r(&seed) % 4 == 0)
			ask_for_absent_name(seat, uid);
		if (rand_r(&seed) % 16 == 0)
			ask_unknown(seat, node);
		if (rand_r(&seed) % 16 == 0)
			odd_open(seat, node, (unsigned)rand_r(&seed) % 5);
	}
	return NULL;
}

static void note_handle(const struct wire_open_out *out, unsigned node, enum kind kind)
{
	if (may_open[node] == 0)
		fault("an open after its end", node);
	if (out->backing_id != (kind == OPEN ? may_open[node] : 0))
		fault("an open with another backing id", node);
	if (out->open_flags != (kind == OPEN ? 1u << 7 | 1u << 5 : 1u << 3 | 1u << 1) || LISTS(out->fh) != (kind == OPENDIR) || !(out->fh >> 55 & 1) || out->fh >> 63)
		fault("a reply that Python would not give", node);
	pthread_mutex_lock(&handles_lock);
	if (handle_count == HANDLES)
		fault("too many handles for this test", node);
	handles[handle_count].fh = out->fh;
	handles[handle_count++].node = node;
	pthread_mutex_unlock(&handles_lock);
	if (RECORDED(node)) {
		opens_of[node]++;
		atomic_fetch_add(&recorded_opens, 1);
	}
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
	if (node == ABSENT) {
		if (!may_be_absent)
			fault("an absence after a drop", node);
		if (header.error != -ENOENT || header.len != sizeof(header))
			fault("another error", node);
		absences++;
		return;
	}
	if (kind != RELEASE && kind != GETXATTR && !may_answer[node])
		fault("an answer after a drop", node);
	if (header.error != (kind == GETXATTR ? -ENODATA : 0))
		fault("another error", node);
	if (kind == GETXATTR) {
		absent_answers++;
		if (header.len != sizeof(header))
			fault("a value of an attribute", node);
	}
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
		if (KEPT_MS(node) == 0 ? attr.attr_valid != 0 || attr.attr_valid_nsec != 0 : !attr.attr_valid_nsec)
			fault("kept for another time", node);
		if (attr.attr_valid * 1000 + attr.attr_valid_nsec / 1000000 > KEPT_MS(node))
			fault("kept for another time", node);
	}
	if (kind == OPEN || kind == OPENDIR) {
		struct wire_open_out out;

		memcpy(&out, packet + sizeof(header), sizeof(out));
		note_handle(&out, node, kind);
	}
	if ((kind == LOOKUP || kind == GETATTR) && ino != inode[node])
		fault("the attributes of another inode", node);
}

static void *checker(void *unused)
{
	unsigned char packet[4096];
	struct mark_message mark;

	(void)unused;
	for (;;) {
		ssize_t got = read(replies, packet, sizeof(packet));

		if (got < (ssize_t)sizeof(struct wire_out_header))
			fault("the pipe ended", 0);
		memcpy(&mark, packet, sizeof(mark));
		if (mark.magic != MARK)
			check_reply(packet);
		else if (mark.mark == ENDED)
			return NULL;
		else if (mark.mark == ALL_SEEN || mark.mark == NOT_ALL_SEEN)
			may_be_absent = mark.mark == ALL_SEEN;
		else if (mark.mark == NO_OPENS) {
			may_open[mark.node] = 0;
			if (mark.events != opens_of[mark.node])
				fault("an event is missing after the end of the opens", mark.node);
		}
		else {
			may_answer[mark.node] = mark.mark == INSTALLED;
			may_open[mark.node] = mark.mark == INSTALLED ? mark.backing_id : 0;
		}
	}
}

static void say(enum mark what, unsigned node)
{
	struct mark_message mark = {MARK, what, node, installed_id[node], events_of[node]};

	if (write(device, &mark, sizeof(mark)) != sizeof(mark))
		fault("the pipe is closed", node);
}

static void install(unsigned node, bool opens)
{
	struct avc_vector vector = {
		.id = node + 2, .parent = PARENT, .directory = directory, .name = names[node],
		.name_size = strlen(names[node]), .uid = UID_GRANTED,
		.grant = AVC_LOOKUP | AVC_GETATTR | AVC_ACCESS(4) | (opens ? AVC_OPEN | AVC_LIST : 0) |
			 (opens && RECORDED(node) ? AVC_RECORDED : 0),
		.device = device_number[node],
		.ino = inode[node], .birth_ns = birth[node], .format = S_IFREG, .kept_ms = KEPT_MS(node), .gid = GID,
		.flags = FLAGS,
	};
	static int32_t last_id;

	if (installed_id[node] == 0 && opens)
		installed_id[node] = ++last_id;
	vector.backing_id = installed_id[node];
	say(INSTALLED, node);
	if (!avc_install(&vector))
		fault("no room", node);
}

static void taken(void *context, uint64_t id, uint64_t lookups)
{
	(void)context;
	counted[id - 2] += lookups;
}

static void taken_over(void *context, const struct avc_opened *opened, int file)
{
	(void)context, (void)file;
	if (opened->uid != UID_GRANTED || opened->gid != GID ||
	    (opened->flags & ~(uint32_t)O_CLOEXEC) != (LISTS(opened->fh) ? 0 : FLAGS) ||
	    opened->attr.ino != inode[opened->node - 2])
		fault("another handle is taken over", (unsigned)opened->node - 2);
	if (taken_count == HANDLES)
		fault("too many handles for this test", 0);
	taken_early[taken_count++] = opened->fh;
}

static void count_saved(void *context, const struct avc_opened *opened, int file)
{
	uint64_t *wanted = context;

	(void)file;
	if (opened->fh == wanted[0] && opened->uid == UID_GRANTED && opened->unique != 0)
		wanted[1]++;
}

/* What Python does with handles that it has taken over: it saves them, and only then they leave the memory. */
static void free_taken(void)
{
	for (; freed_count < taken_count; freed_count++) {
		uint64_t found[2] = {taken_early[freed_count], 0};

#ifndef __SANITIZE_THREAD__ /* in the product no reader runs meanwhile */
		avc_read_opens(outliving, count_saved, found);
		if (found[1] != 1)
			fault("a handle would be lost if the process died", 0);
#endif
		avc_free_taken(found[0]);
	}
}

static void told(void *context, const struct avc_event *event)
{
	unsigned node = (unsigned)event->node - 2;

	(void)context;
	if (node >= NODES || !RECORDED(node) || event->uid != UID_GRANTED || event->gid != GID ||
	    (event->flags & ~(uint32_t)O_CLOEXEC) != (LISTS(event->fh) ? 0 : FLAGS) || event->size != node || event->mtime_ns <= 0 ||
	    event->pid != (node % 4 == 3 ? NOBODY : (uint32_t)getpid()))
		fault("an event of another open", node);
	if (event->program_size != (node % 4 == 3 ? 0 : strlen(program)) ||
	    memcmp(event->program, program, event->program_size) != 0)
		fault("an event with another program", node);
	if (event_count == HANDLES)
		fault("too many events for this test", node);
	events[event_count].fh = event->fh;
	events[event_count].node = event->node;
	events[event_count++].time_ns = event->time_ns;
	events_of[node]++;
}

static void take_events(void)
{
	size_t replied = atomic_load(&recorded_opens);

	avc_take_events(told, NULL);
	if (event_count < replied)
		fault("a reply came before its event", 0);
}

static void unused(void *context, uint64_t id)
{
	bool *found = context;

	found[id - 2] = true;
}

static void no_opens(unsigned node)
{
	size_t taken_before;

	avc_take_handles(node + 2, true, taken_over, NULL);
	taken_before = taken_count;
	avc_take_handles(node + 2, false, taken_over, NULL);
	if (taken_count != taken_before)
		fault("handles are left over", node);
	take_events();
	installed_id[node] = 0;
	say(NO_OPENS, node);
}

static void no_opens_at_all(void)
{
	avc_take_all_handles(true, taken_over, NULL);
	take_events();
	for (unsigned node = 0; node < NODES; node++) {
		installed_id[node] = 0;
		say(NO_OPENS, node);
	}
}

/* What Python does with handles that it looks at, or that are old. */
static void look(unsigned *seed, unsigned node)
{
	bool late[NODES] = {false};
	uint64_t fh = 0;

	switch (rand_r(seed) % 6) {
	case 4:
		take_events();
		break;
	case 0:
		avc_take_all_handles(false, taken_over, NULL);
		break;
	case 1:
		avc_take_handles(node + 2, false, taken_over, NULL);
		break;
	case 2:
		pthread_mutex_lock(&handles_lock);
		if (handle_count > 0)
			fh = handles[(unsigned)rand_r(seed) % handle_count].fh;
		pthread_mutex_unlock(&handles_lock);
		avc_take_handle(fh, taken_over, NULL);
		break;
	case 3:
		no_opens(node);
		break;
	default:
		avc_age_opens(2, taken_over, unused, late);
		for (node = 0; node < NODES; node++)
			if (late[node])
				no_opens(node);
	}
}

static void say_all_dropped(void)
{
	for (unsigned node = 0; node < NODES; node++)
		say(DROPPED, node);
	say(NOT_ALL_SEEN, 0);
}

static void change(unsigned *seed)
{
	unsigned node = (unsigned)rand_r(seed) % NODES, other = (unsigned)rand_r(seed) % NODES;

	free_taken();
	switch (rand_r(seed) % 16) {
	case 0:
		no_opens_at_all();
		avc_drop_all();
		say_all_dropped();
		break;
	case 1:
		no_opens_at_all();
		avc_clear(taken, NULL);
		say_all_dropped();
		break;
	case 14:
		no_opens_at_all();
		avc_leave(PARENT);
		say_all_dropped();
		break;
	case 15:
		say(ALL_SEEN, 0);
		(void)faccessat(directory, "none", F_OK, 0); /* so that the kernel knows that it is absent */
		if (!avc_see_all(PARENT, directory, UID_GRANTED, false))
			fault("no room for a directory", 0);
		break;
	case 2: /* behind the cache's back: two names change their inodes, and back */
		renameat2(directory, names[node], directory, names[other], RENAME_EXCHANGE);
		usleep(500); /* readers look at them */
		renameat2(directory, names[node], directory, names[other], RENAME_EXCHANGE);
		break;
	case 3:
	case 4:
	case 5:
		if (installed_id[node] != 0)
			no_opens(node);
		counted[node] += avc_drop(node + 2);
		say(DROPPED, node);
		break;
	case 6:
	case 7:
	case 8:
		look(seed, node);
		break;
	default:
		install(node, rand_r(seed) % 2);
	}
}

static int by_number(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return a < b ? -1 : a > b;
}

/* Each handle was released here once, or taken over once; and what was left to Python had been taken over. */
static void check_handles(void)
{
	static uint64_t all[HANDLES];
	size_t released = 0;

	qsort(taken_early, taken_count, sizeof(*taken_early), by_number);
	for (size_t i = 0; i < handle_count; i++) {
		bool taken = bsearch(&handles[i].fh, taken_early, taken_count, sizeof(*taken_early), by_number) != NULL;

		all[i] = handles[i].fh;
		released += handles[i].released;
		if (handles[i].released == taken)
			fault(taken ? "a handle is released here and taken over" : "a handle is lost", handles[i].node);
	}
	qsort(all, handle_count, sizeof(*all), by_number);
	for (size_t i = 1; i < handle_count; i++)
		if (all[i] == all[i - 1])
			fault("two handles have one number", 0);
	if (taken_count + released != handle_count)
		fault("a handle is taken over twice", 0);
	printf("%zu opens, %zu released, %zu taken over\n", handle_count, released, taken_count);
	if (released == 0 || taken_count == 0)
		fault("nothing was tested", 0);
}

static void check_events(void)
{
	static int64_t last_ns[AVC_SEATS];
	static uint64_t all[HANDLES];
	size_t recorded = 0;

	for (size_t i = 0; i < event_count; i++) {
		size_t seat = (events[i].fh & 0xffff) / 256;

		if (events[i].time_ns < last_ns[seat])
			fault("events are out of order", (unsigned)events[i].node - 2);
		last_ns[seat] = events[i].time_ns;
		all[i] = events[i].fh;
	}
	qsort(all, event_count, sizeof(*all), by_number);
	for (size_t i = 0; i < handle_count; i++) {
		bool known = bsearch(&handles[i].fh, all, event_count, sizeof(*all), by_number) != NULL;

		recorded += RECORDED(handles[i].node);
		if (known != RECORDED(handles[i].node))
			fault(known ? "an event that nobody asked for" : "an event is lost", handles[i].node);
	}
	if (recorded != event_count)
		fault("two events of one open", 0);
	printf("%zu events\n", event_count);
	if (event_count == 0)
		fault("no event was tested", 0);
}

static void count_one(void *context, const struct avc_event *event)
{
	(void)event;
	++*(size_t *)context;
}

static void forget(void *context, const struct avc_opened *opened, int file)
{
	(void)context, (void)opened, (void)file;
}

/* Without other threads: while the loop rests, the first event rings, also if it came before the rest began. */
static void check_early_bell(void)
{
	unsigned char buffer[128];
	size_t size = request(buffer, OPEN, UID_GRANTED, 1), taken = 0;
	uint64_t rung;

	install(1, true);
	avc_ring_early(true);
	if (read(avc_events_bell(), &rung, sizeof(rung)) == sizeof(rung))
		fault("the bell rings without an event", 1);
	for (int early = 1; early >= 0; early--) {
		avc_ring_early(early);
		if (!avc_answer(1, device, buffer, size))
			fault("an open is not answered", 1);
		if (!early) {
			if (read(avc_events_bell(), &rung, sizeof(rung)) == sizeof(rung))
				fault("the bell rings early while the loop works", 1);
			avc_ring_early(true);
		}
		if (read(avc_events_bell(), &rung, sizeof(rung)) != sizeof(rung))
			fault("an event waits, and the bell does not ring", 1);
		avc_take_events(count_one, &taken);
	}
	if (taken != 2)
		fault("the bell rings, and there are other events", 1);
	avc_ring_early(false);
	avc_take_all_handles(true, forget, NULL);
	avc_clear(NULL, NULL);
}

/* Without other threads: events of one seat, taken when ENOUGH wait, and once in between. */
static void check_bell(void)
{
	static const unsigned takes[] = {ENOUGH, ENOUGH - 1, ENOUGH, 0};
	unsigned char buffer[128];
	size_t size = request(buffer, OPEN, UID_GRANTED, 1), taken;
	uint64_t rung;

	(void)!read(avc_events_bell(), &rung, sizeof(rung));
	install(1, true);
	for (const unsigned *many = takes; *many != 0; many++) {
		for (unsigned i = 1; i <= *many; i++) {
			if (!avc_answer(1, device, buffer, size))
				fault("an open is not answered", 1);
			if ((read(avc_events_bell(), &rung, sizeof(rung)) == sizeof(rung)) != (i == ENOUGH))
				fault("the bell rings at another number of events", 1);
		}
		taken = 0;
		avc_take_events(count_one, &taken);
		if (taken != *many)
			fault("the bell rings, and there are other events", 1);
	}
	avc_take_all_handles(true, forget, NULL);
	avc_clear(NULL, NULL);
}

/* While the first of three events is taken, the caller's next opens are answered: by its reader, then by another. */
static void told_in_turn(void *context, const struct avc_event *event)
{
	static int64_t last_ns;
	unsigned char buffer[128];
	size_t size = request(buffer, OPEN, UID_GRANTED, 1);

	if (event->time_ns < last_ns)
		fault("events of two readers are out of order", 1);
	last_ns = event->time_ns;
	if (++*(size_t *)context == 1 &&
	    (!avc_answer(1, device, buffer, size) || !avc_answer(2, device, buffer, size)))
		fault("an open is not answered", 1);
}

/* Without other threads: the events of one caller whom two readers answer in turn. */
static void check_readers_in_turn(void)
{
	unsigned char buffer[128];
	size_t size = request(buffer, OPEN, UID_GRANTED, 1), taken = 0;

	install(1, true);
	if (!avc_answer(1, device, buffer, size))
		fault("an open is not answered", 1);
	avc_take_events(told_in_turn, &taken);
	avc_take_events(told_in_turn, &taken);
	if (taken != 3)
		fault("an event of two readers is lost", 1);
	avc_take_all_handles(true, forget, NULL);
	avc_clear(NULL, NULL);
}

/* The changing thread has the interpreter, but not while it waits in the cache. Another thread wants it, too. */

static pthread_mutex_t interpreter = PTHREAD_MUTEX_INITIALIZER;
static bool has_interpreter; /* for the changing thread only */

static void *leave_interpreter(void)
{
	if (!has_interpreter)
		return NULL;
	has_interpreter = false;
	pthread_mutex_unlock(&interpreter);
	return &interpreter;
}

static void take_interpreter(void *left)
{
	if (left == NULL)
		return;
	pthread_mutex_lock(&interpreter);
	has_interpreter = true;
}

static void *other_python(void *unused)
{
	(void)unused;
	while (!atomic_load(&over)) {
		pthread_mutex_lock(&interpreter);
		pthread_mutex_unlock(&interpreter);
		usleep(100);
	}
	return NULL;
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
		if (ftruncate(fd, i) != 0)
			fault("no size", i);
		close(fd);
		inode[i] = now.stx_ino;
		birth[i] = now.stx_btime.tv_sec * 1000000000 + now.stx_btime.tv_nsec;
		device_number[i] = makedev(now.stx_dev_major, now.stx_dev_minor);
	}
}

/* True if what was done so far shows nothing: on a busy machine it takes longer than was asked for. */
static bool is_too_little(unsigned changes, unsigned least)
{
	return changes < least || atomic_load(&recorded_opens) < 200;
}

int main(int count, char **words)
{
	pthread_t readers[READERS], check, python;
	unsigned seed = 1, changes = 0, lists;
	uint64_t lookups = 0;
	int64_t until;
	int ends[2];

	if (count != 4 || (directory = open(words[1], O_RDONLY | O_DIRECTORY)) < 0 || pipe2(ends, O_DIRECT) != 0)
		return 2;
	fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
	replies = ends[0];
	device = ends[1];
	find_files();
	if (readlink("/proc/self/exe", program, sizeof(program) - 1) <= 0)
		return 2;
	if (posix_memalign(&outliving, 64, avc_opens_size()) != 0)
		return 2;
	memset(outliving, 0, avc_opens_size());
	avc_save_opens(outliving);
	avc_has_no_capabilities(true);
	if (!avc_open(64, 4, AVC_SEATS))
		return 2;
	take_interpreter(&interpreter);
	avc_around_waits(leave_interpreter, take_interpreter);
	pthread_create(&check, NULL, checker, NULL);
	pthread_create(&python, NULL, other_python, NULL);
	for (unsigned i = 0; i < READERS; i++)
		pthread_create(&readers[i], NULL, reader, (void *)(uintptr_t)(i + 1));
	until = now_ms() + atoi(words[2]);
	while (now_ms() < until || (is_too_little(changes, atoi(words[3])) && now_ms() < until + PATIENCE_MS)) {
		change(&seed);
		if (++changes % 16 == 0)
			sched_yield(); /* the readers' turn, on one processor, too */
	}
	atomic_store(&over, true);
	leave_interpreter();
	pthread_join(python, NULL);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	no_opens_at_all();
	free_taken();
	if (avc_count_handles(&lists) + lists != 0)
		fault("handles are left over", 0);
	avc_clear(taken, NULL);
	say(ENDED, 0);
	pthread_join(check, NULL);
	for (unsigned i = 0; i < NODES; i++) {
		if (counted[i] != seen_lookups[i])
			fault("look-ups are lost or counted twice", i);
		lookups += counted[i];
	}
	check_handles();
	check_events();
	check_bell();
	check_early_bell();
	check_readers_in_turn();
	avc_close();
	printf("%u changes, %llu look-ups\n", changes, (unsigned long long)lookups);
	return lookups > 0 && changes > 0 && absent_answers > 0 && absences > 0 ? 0 : 1;
}
