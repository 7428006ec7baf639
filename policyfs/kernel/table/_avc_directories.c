/*
 * The directories of the access vector cache: their descriptors, by which answers read the store, and the uids
 * that see every name in a directory. Readers use this list under the lock of their seat. The event loop alone
 * changes the list, and holds all locks meanwhile (_avc_table.c). If a directory's descriptor is closed, the
 * directory is forgotten, and all nodes in it count as dropped.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct directory {
	uint64_t id, serial;
	int fd; /* owned; -1: this place is free */
	bool keeps; /* the kernel of this mount may keep absent names */
	unsigned next; /* the next directory in its chain: a place in `all`, or NONE */
	unsigned seer_count; /* number of seers added so far; after GRANTS, a new one replaces the oldest */
	uint32_t seers[GRANTS]; /* uids that see every name in this directory, whatever the object is */
	struct raw raws[GRANTS]; /* rights on every regular file in this directory; bits 0: free */
};

#define NONE (~0u)
#define ASIDE "policyfs-aside-" /* see store/names/aside_names.py */
#define KEPT ".policyfs-kept"

static struct {
	struct directory *all;
	unsigned *chains; /* by id: the first place in `all`, or NONE */
	unsigned most, next;
	uint64_t serial; /* the serial number of the descriptor opened last */
} directories;

/* ---- Looking ------------------------------------------------------------------------------------- */

/* Return the chain of a node's number. Numbers are given out one after the other, so chains are short. */
static unsigned *chain_of(uint64_t id)
{
	return &directories.chains[id % directories.most];
}

static struct directory *find(uint64_t id)
{
	for (unsigned i = directories.most == 0 ? NONE : *chain_of(id); i != NONE; i = directories.all[i].next)
		if (directories.all[i].id == id)
			return &directories.all[i];
	return NULL;
}

int avc_directory_of(const struct node *node)
{
	const struct directory *directory = node->own ? find(node->parent) : &directories.all[node->directory];

	if (node->own)
		return directory == NULL ? -1 : directory->fd;
	return directory->fd >= 0 && directory->serial == node->serial ? directory->fd : -1;
}

static bool sees_all(const struct directory *directory, uint32_t uid)
{
	for (unsigned i = 0; i < directory->seer_count && i < GRANTS; i++)
		if (directory->seers[i] == uid)
			return true;
	return false;
}

int directories_all_seen(uint64_t id, uint32_t uid, bool *keeps)
{
	const struct directory *directory = find(id);

	if (directory == NULL || !sees_all(directory, uid))
		return -1;
	*keeps = directory->keeps;
	return directory->fd;
}

const struct raw *directories_raw(uint64_t id, uint32_t uid, int *fd)
{
	const struct directory *directory = find(id);

	for (unsigned i = 0; directory != NULL && i < GRANTS; i++)
		if (directory->raws[i].bits != 0 && directory->raws[i].uid == uid) {
			if (fd != NULL)
				*fd = directory->fd;
			return &directory->raws[i];
		}
	return NULL;
}

bool raw_excepts(const struct raw *raw, const char *name, size_t size)
{
	const char *end = raw->excepted + raw->excepted_size;

	for (const char *one = raw->excepted; one < end; one += strlen(one) + 1)
		if (strlen(one) == size && memcmp(one, name, size) == 0)
			return true;
	return (size >= sizeof(ASIDE) - 1 && memcmp(name, ASIDE, sizeof(ASIDE) - 1) == 0) ||
	       (size == sizeof(KEPT) - 1 && memcmp(name, KEPT, sizeof(KEPT) - 1) == 0);
}

/* ---- Changing: the event loop only, with all locks ---------------------------------------------- */

static void close_one(struct directory *directory)
{
	unsigned place = (unsigned)(directory - directories.all), *at;
	void *begun;

	if (directory->fd < 0)
		return;
	for (at = chain_of(directory->id); *at != place; at = &directories.all[*at].next)
		;
	*at = directory->next;
	for (unsigned i = 0; i < GRANTS; i++)
		free(directory->raws[i].excepted);
	memset(directory->raws, 0, sizeof(directory->raws));
	begun = avc_begin_wait(); /* a removed directory is freed with its last descriptor */
	close(directory->fd);
	avc_end_wait(begun);
	directory->fd = -1;
}

/* Return the place of a directory. A new directory gets the place after the one that was given last, and replaces the
 * directory there. Return NULL if the descriptor cannot be duplicated. */
static struct directory *directory_with(uint64_t id, int fd)
{
	struct directory *directory = find(id);
	unsigned place;

	if (directory != NULL)
		return directory;
	place = directories.next++ % directories.most;
	directory = &directories.all[place];
	close_one(directory);
	directory->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (directory->fd < 0)
		return NULL;
	directory->id = id;
	directory->serial = ++directories.serial;
	directory->seer_count = 0;
	directory->next = *chain_of(id);
	*chain_of(id) = place;
	return directory;
}

bool directories_add(uint64_t id, int fd, uint16_t *number, uint64_t *serial)
{
	const struct directory *directory = directory_with(id, fd);

	if (directory == NULL)
		return false;
	*number = (uint16_t)(directory - directories.all);
	*serial = directory->serial;
	return true;
}

bool directories_see_all(uint64_t id, int fd, uint32_t uid, bool keeps)
{
	struct directory *directory = directory_with(id, fd);

	if (directory == NULL)
		return false;
	directory->seers[directory->seer_count++ % GRANTS] = uid;
	directory->keeps = keeps;
	return true;
}

bool directories_allow(uint64_t id, int fd, const struct avc_raw *given)
{
	struct directory *directory = directory_with(id, fd);
	struct raw *raw = directory == NULL ? NULL : &directory->raws[0], *end = raw + GRANTS;
	struct stat at;
	char *excepted;

	while (raw != NULL && raw < end && raw->bits != 0 && raw->uid != given->uid)
		raw++;
	if (raw == NULL || raw == end || fstat(directory->fd, &at) != 0 ||
	    (excepted = malloc(given->excepted_size + given->owner_size + 1)) == NULL)
		return false;
	memcpy(excepted, given->excepted, given->excepted_size);
	memcpy(excepted + given->excepted_size, given->owner, given->owner_size);
	free(raw->excepted);
	*raw = (struct raw){
		.uid = given->uid, .bits = given->bits, .entry_s = given->entry_s, .moves = given->moves,
		.keeps_attributes = given->keeps_attributes, .device = given->device,
		.directory_device = at.st_dev, .directory_ino = at.st_ino,
		.excepted = excepted, .excepted_size = given->excepted_size, .owner_size = given->owner_size,
	};
	return true;
}

void directories_end_opens(void)
{
	for (unsigned i = 0; i < directories.most; i++)
		for (unsigned j = 0; j < GRANTS; j++)
			directories.all[i].raws[j].bits &= ~(AVC_OPEN | AVC_CHANGE | AVC_WRITE | AVC_REMOVE);
}

void directories_leave(uint64_t id)
{
	struct directory *directory = find(id);

	if (directory != NULL)
		close_one(directory);
}

bool directories_have(uint64_t id)
{
	return find(id) != NULL;
}

void directories_leave_all(void)
{
	void *begun = avc_begin_wait();

	for (unsigned i = 0; i < directories.most; i++)
		close_one(&directories.all[i]);
	avc_end_wait(begun);
}

/* ---- Life ---------------------------------------------------------------------------------------- */

bool directories_begin(unsigned most)
{
	directories.all = calloc(most, sizeof(*directories.all));
	directories.chains = calloc(most, sizeof(*directories.chains));
	if (most == 0 || directories.all == NULL || directories.chains == NULL)
		return false; /* directories_close() frees them */
	directories.most = most;
	for (unsigned i = 0; i < most; i++) {
		directories.all[i].fd = -1;
		directories.chains[i] = NONE;
	}
	return true;
}

void directories_close(void)
{
	directories_leave_all();
	free(directories.all);
	free(directories.chains);
	memset(&directories, 0, sizeof(directories));
}

unsigned directories_count(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < directories.most; i++)
		count += directories.all[i].fd >= 0;
	return count;
}
