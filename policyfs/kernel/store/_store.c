/* Attributes of the store's files, in the kernel's format. None is ever kept: each answer reads them. */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define HIDDEN_SIZE 4096 /* shown for a directory with names that may be hidden (lookup.py, _uncounted) */

/* True if a time is after 1969, and fits into 63 bits as nanoseconds. */
static bool is_usual(const struct statx_timestamp *time)
{
	return time->tv_sec >= 0 && time->tv_sec < INT64_MAX / 1000000000;
}

bool avc_statx(int fd, const char *name, struct statx *now)
{
	/* AT_STATX_DONT_SYNC: a file system that may wait (NFS) can be mounted on the name. Others ignore the flag. */
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | (*name == 0 ? AT_EMPTY_PATH : 0);

	return fd >= 0 && statx(fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, now) == 0;
}

bool avc_is_usual(const struct statx *now, uint64_t device)
{
	return (now->stx_mask & (STATX_BASIC_STATS | STATX_BTIME)) == (STATX_BASIC_STATS | STATX_BTIME) &&
	       !(now->stx_attributes & STATX_ATTR_APPEND) && /* see Passthrough.choose() */
	       makedev(now->stx_dev_major, now->stx_dev_minor) == device && is_usual(&now->stx_atime) &&
	       is_usual(&now->stx_mtime) && is_usual(&now->stx_ctime) && is_usual(&now->stx_btime);
}

int64_t avc_birth_ns(const struct statx *now)
{
	return now->stx_btime.tv_sec * 1000000000 + now->stx_btime.tv_nsec;
}

void avc_fill(const struct statx *now, bool uncounted, struct wire_attr *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->ino = now->stx_ino;
	attr->size = uncounted ? HIDDEN_SIZE : now->stx_size;
	attr->blocks = uncounted ? HIDDEN_SIZE / 512 : now->stx_blocks;
	attr->atime = (uint64_t)now->stx_atime.tv_sec;
	attr->mtime = (uint64_t)now->stx_mtime.tv_sec;
	attr->ctime = (uint64_t)now->stx_ctime.tv_sec;
	attr->atimensec = now->stx_atime.tv_nsec;
	attr->mtimensec = now->stx_mtime.tv_nsec;
	attr->ctimensec = now->stx_ctime.tv_nsec;
	attr->mode = now->stx_mode;
	attr->nlink = uncounted && now->stx_nlink > 1 ? 1 : now->stx_nlink;
	attr->uid = now->stx_uid;
	attr->gid = now->stx_gid;
	attr->blksize = now->stx_blksize;
}

bool avc_ask_store(const struct node *node, bool uncounted, struct wire_attr *attr)
{
	struct statx now;

	if (!avc_statx(avc_directory_of(node), node->name, &now) || !avc_is_usual(&now, node->device) ||
	    now.stx_ino != node->ino || avc_birth_ns(&now) != node->birth_ns ||
	    (now.stx_mode & S_IFMT) != node->format || (node->own && now.stx_nlink != 1))
		return false;
	avc_fill(&now, uncounted, attr);
	return true;
}

void avc_keep(struct node *node, const struct wire_attr *attr, uint64_t *valid_s, uint32_t *valid_ns)
{
	uint64_t changed = attr->mtime > attr->ctime ? attr->mtime : attr->ctime;
	uint64_t now = (uint64_t)time(NULL), most_s = node->kept_ms / 1000;
	uint64_t seconds = now > changed + 2 && attr->nlink == 1 ? now - changed - 1 : 1;

	atomic_store_explicit(&node->told_ns, 0, memory_order_relaxed);
	if (node->kept_ms == 0 || (attr->size > 0 && atomic_load_explicit(&node->writers, memory_order_relaxed) > 0))
		return;
	*valid_s = seconds < most_s ? seconds : most_s;
	*valid_ns = seconds < most_s ? 0 : node->kept_ms % 1000 * 1000000;
}
