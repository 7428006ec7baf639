/*
 * Functions of libfuse that the dynamic linker finds here first, because the bridge is loaded before pyfuse3. With
 * these functions, a session begins with a descriptor that is already mounted. A reply to OPEN and CREATE has all
 * fields of the kernel's wire format. A file's inode number is not its node id. See
 * docs/decisions/0001-symbol-interposition.md.
 */

#include "wire/_handles.h"
#include "table/_avc.h"
#include "device/_device.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- libfuse functions that the linker finds here first ------------------------------------ */
/* In C, the functions have other names here, because newer headers make some of libfuse's functions inline functions or
 * macros. */

#define INTERPOSES(symbol) __asm__(symbol) __attribute__((visibility("default"), used))

int bridge_session_mount(struct fuse_session *, const char *) INTERPOSES("fuse_session_mount");
int bridge_reply_open(fuse_req_t, const struct fuse_file_info *) INTERPOSES("fuse_reply_open");
int bridge_reply_create(fuse_req_t, const struct fuse_entry_param *,
			const struct fuse_file_info *) INTERPOSES("fuse_reply_create");
int bridge_reply_entry(fuse_req_t, const struct fuse_entry_param *) INTERPOSES("fuse_reply_entry");
int bridge_reply_attr(fuse_req_t, const struct stat *, double) INTERPOSES("fuse_reply_attr");
size_t bridge_add_direntry_plus(fuse_req_t, char *, size_t, const char *,
				const struct fuse_entry_param *, off_t)
	INTERPOSES("fuse_add_direntry_plus");

static struct fuse_session *attached;

static void process(void *message, size_t size)
{
	struct fuse_buf buffer = {.size = size, .mem = message};

	fuse_session_process_buf(attached, &buffer);
}

/* The mountpoint is "/dev/fd/N": N is a /dev/fuse descriptor that is mounted already. libfuse owns this descriptor
 * from here on, and closes it with the session. It has no mountpoint to unmount. */
int bridge_session_mount(struct fuse_session *session, const char *mountpoint)
{
	static const struct fuse_custom_io io = {.read = device_read, .writev = device_writev};
	int fd, end = 0;

	if (sscanf(mountpoint, "/dev/fd/%d%n", &fd, &end) != 1 || mountpoint[end] != '\0')
		return -1;
	if (fuse_session_custom_io(session, &io, fd) != 0)
		return -1;
	attached = session;
	device_attach(fd, process);
	return 0;
}

static void fill_open(struct wire_open_out *out, uint64_t fh, bool writable)
{
	out->fh = fh;
	if (fh & BIT(FH_PASSTHROUGH_BIT)) {
		out->open_flags = FOPEN_PASSTHROUGH_FLAG;
		if (fh & BIT(FH_NOFLUSH_BIT))
			out->open_flags |= FOPEN_NOFLUSH_FLAG;
		out->backing_id = (int32_t)((fh >> FH_BACKING_SHIFT) & FH_BACKING_MASK);
	} else {
		out->open_flags = (uint32_t)(fh >> FH_FLAGS_SHIFT);
		out->backing_id = 0;
	}
	if (avc_hears_close(writable))
		out->open_flags &= ~FOPEN_NOFLUSH_FLAG;
}

int bridge_reply_open(fuse_req_t req, const struct fuse_file_info *info)
{
	struct wire_open_out out;

	fill_open(&out, info->fh, (info->flags & O_ACCMODE) != O_RDONLY);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* st_rdev has the store's inode number. For a device, st_blocks has the device number, because a device has no
 * blocks. */
static void place_ino(struct stat *attr)
{
	if (attr->st_rdev != 0)
		attr->st_ino = attr->st_rdev;
	attr->st_rdev = 0;
	if (S_ISCHR(attr->st_mode) || S_ISBLK(attr->st_mode)) {
		attr->st_rdev = (dev_t)attr->st_blocks;
		attr->st_blocks = 0;
	}
}

static void split_seconds(double timeout, uint64_t *seconds, uint32_t *nanoseconds)
{
	if (timeout <= 0) {
		*seconds = 0;
		*nanoseconds = 0;
	} else if (timeout >= (double)INT32_MAX) {
		*seconds = INT32_MAX;
		*nanoseconds = 0;
	} else {
		*seconds = (uint64_t)timeout;
		*nanoseconds = (uint32_t)((timeout - (double)*seconds) * 1e9);
	}
}

static void fill_attr(struct wire_attr *out, struct stat attr)
{
	place_ino(&attr);
	*out = (struct wire_attr){
		.ino = attr.st_ino, .size = (uint64_t)attr.st_size, .blocks = (uint64_t)attr.st_blocks,
		.atime = (uint64_t)attr.st_atim.tv_sec, .mtime = (uint64_t)attr.st_mtim.tv_sec,
		.ctime = (uint64_t)attr.st_ctim.tv_sec, .atimensec = (uint32_t)attr.st_atim.tv_nsec,
		.mtimensec = (uint32_t)attr.st_mtim.tv_nsec, .ctimensec = (uint32_t)attr.st_ctim.tv_nsec,
		.mode = attr.st_mode, .nlink = (uint32_t)attr.st_nlink, .uid = attr.st_uid, .gid = attr.st_gid,
		.rdev = (uint32_t)attr.st_rdev, .blksize = (uint32_t)attr.st_blksize,
	};
}

static void fill_entry(struct wire_entry_out *out, const struct fuse_entry_param *entry)
{
	memset(out, 0, sizeof(*out));
	out->nodeid = entry->ino;
	out->generation = entry->generation;
	split_seconds(entry->entry_timeout, &out->entry_valid, &out->entry_valid_nsec);
	split_seconds(entry->attr_timeout, &out->attr_valid, &out->attr_valid_nsec);
	fill_attr(&out->attr, entry->attr);
}

int bridge_reply_create(fuse_req_t req, const struct fuse_entry_param *entry,
			const struct fuse_file_info *info)
{
	struct {
		struct wire_entry_out entry;
		struct wire_open_out open;
	} out;

	fill_entry(&out.entry, entry);
	fill_open(&out.open, info->fh, true);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

int bridge_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry)
{
	struct wire_entry_out out;

	fill_entry(&out, entry);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

int bridge_reply_attr(fuse_req_t req, const struct stat *attr, double timeout)
{
	struct wire_attr_out out = {0};

	split_seconds(timeout, &out.attr_valid, &out.attr_valid_nsec);
	fill_attr(&out.attr, *attr);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

size_t bridge_add_direntry_plus(fuse_req_t req, char *buffer, size_t size, const char *name,
				const struct fuse_entry_param *entry, off_t offset)
{
	struct wire_direntplus out = {.offset = (uint64_t)offset, .name_size = (uint32_t)strlen(name)};
	const size_t whole = (sizeof(out) + out.name_size + 7) & ~(size_t)7;

	(void)req;
	if (buffer == NULL || whole > size)
		return whole;
	fill_entry(&out.entry, entry);
	out.ino = out.entry.attr.ino;
	out.type = (out.entry.attr.mode & S_IFMT) >> 12;
	memset(buffer, 0, whole);
	memcpy(buffer, &out, sizeof(out));
	memcpy(buffer + sizeof(out), name, out.name_size);
	return whole;
}
