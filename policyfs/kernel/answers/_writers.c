/*
 * Writers of files in raw directories (_tree.c), as create.py and write_access.py have them: whose a file is, and OPEN for
 * writing. For the event loop's seat only.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LARGE_BYTES (16u << 20) /* as store/freeing.py */
#define OWNER "trusted.policyfs.owner" /* store/owner.py */

/* True if much space becomes free with the file, which takes a while. An app sets the size as it likes: the space that it has
 * reserved beyond the end counts, too. */
bool writers_is_large(const struct statx *now)
{
	return now->stx_blocks > LARGE_BYTES / 512;
}

/* Write the value of the xattr that makes the app the file's owner, and return its size. */
static size_t owner_of(const struct raw *raw, const struct statx *file, char value[64 + AVC_OWNER_MAX])
{
	int size = snprintf(value, 64, "1:%llu:%lld:", (unsigned long long)file->stx_ino, (long long)avc_birth_ns(file));

	memcpy(value + size, raw->excepted + raw->excepted_size, raw->owner_size);
	return (size_t)size + raw->owner_size;
}

bool writers_own(const struct raw *raw, int file, const struct statx *made)
{
	char value[64 + AVC_OWNER_MAX];

	return fsetxattr(file, OWNER, value, owner_of(raw, made, value), 0) == 0;
}

/* True if nothing of the file must be cleared before an app writes to it: set-id bits, capabilities, another owner
 * (opening/write_access.py). */
static bool stays(const struct raw *raw, int file, const struct statx *now)
{
	char value[64 + AVC_OWNER_MAX], owner[64 + AVC_OWNER_MAX];
	ssize_t size;

	if (now->stx_mode & AVC_SET_ID_BITS || raw->owner_size > AVC_OWNER_MAX ||
	    fgetxattr(file, "security.capability", NULL, 0) >= 0 || (errno != ENODATA && errno != EOPNOTSUPP))
		return false;
	size = fgetxattr(file, OWNER, owner, sizeof(owner));
	if (size < 0)
		return errno == ENODATA;
	return (size_t)size == owner_of(raw, now, value) && memcmp(value, owner, (size_t)size) == 0;
}

/* True if another program, perhaps in another mount, may write the file: then no read lease is granted. */
static bool is_written(const struct node *node)
{
	struct statx now;
	const int file = tree_file(node, O_RDONLY, &now);
	const bool written = file < 0 || fcntl(file, F_SETLEASE, F_RDLCK) != 0;

	if (file >= 0)
		close(file); /* this ends the lease; LeaseKeeper blocks the signal of its break */
	return written;
}

int writers_open(const struct node *node, uint32_t uid, bool empties, struct wire_attr *attr)
{
	const struct raw *raw = directories_raw(node->parent, uid, NULL);
	struct statx now;
	int file = -1;

	/* A write locks its file, and may wait for the loop (WriteAccess.empty). */
	if (raw != NULL && !(empties && (node->handles != 0 || is_written(node))))
		file = tree_file(node, O_RDWR, &now);
	if (file >= 0 && stays(raw, file, &now) && !(empties && writers_is_large(&now))) {
		avc_fill(&now, false, attr);
		return file;
	}
	if (file >= 0)
		close(file);
	return -1;
}
