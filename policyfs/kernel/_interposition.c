/*
 * Functions of libfuse that the dynamic linker finds here first, because the bridge is loaded before pyfuse3. With
 * these functions, a session begins with a descriptor that is already mounted. A reply to OPEN and CREATE has all
 * fields of the kernel's wire format. A file's inode number is not its node id. Most of these functions call libfuse's
 * own function, found with RTLD_NEXT. See docs/decisions/0001-symbol-interposition.md.
 */

#include "_avc.h"
#include "_bridge.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct {
	struct fuse_session *(*session_new)(struct fuse_args *, const struct fuse_lowlevel_ops *,
					    size_t, void *);
	/* libfuse 3.17 and 3.18 have other names for this function. */
	struct fuse_session *(*session_new_317)(struct fuse_args *,
						const struct fuse_lowlevel_ops *, size_t, void *,
						void *);
	struct fuse_session *(*session_new_318)(struct fuse_args *,
						const struct fuse_lowlevel_ops *, size_t, void *,
						void *);
	void (*session_destroy)(struct fuse_session *);
	int (*reply_entry)(fuse_req_t, const struct fuse_entry_param *);
	int (*reply_attr)(fuse_req_t, const struct stat *, double);
	size_t (*add_direntry_plus)(fuse_req_t, char *, size_t, const char *,
				    const struct fuse_entry_param *, off_t);
} real;

bool interposition_find_real(void)
{
	*(void **)&real.session_new = dlsym(RTLD_NEXT, "fuse_session_new");
	*(void **)&real.session_new_317 = dlsym(RTLD_NEXT, "_fuse_session_new");
	*(void **)&real.session_new_318 = dlsym(RTLD_NEXT, "fuse_session_new_versioned");
	*(void **)&real.session_destroy = dlsym(RTLD_NEXT, "fuse_session_destroy");
	*(void **)&real.reply_entry = dlsym(RTLD_NEXT, "fuse_reply_entry");
	*(void **)&real.reply_attr = dlsym(RTLD_NEXT, "fuse_reply_attr");
	*(void **)&real.add_direntry_plus = dlsym(RTLD_NEXT, "fuse_add_direntry_plus");
	return (real.session_new != NULL || real.session_new_317 != NULL ||
		real.session_new_318 != NULL) &&
	       real.session_destroy != NULL && real.reply_entry != NULL && real.reply_attr != NULL &&
	       real.add_direntry_plus != NULL;
}

/* ---- Answers to requests without a handler (see _operations.c) ----------------------------- */

static void refuse_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			     struct fuse_file_info *fi)
{
	(void)ino, (void)mode, (void)offset, (void)length, (void)fi;
	fuse_reply_err(req, EOPNOTSUPP);
}

/* After this refusal the kernel copies by splice, through READs and WRITEs of the two nodes. */
static void refuse_copy(fuse_req_t req, fuse_ino_t in, off_t in_offset, struct fuse_file_info *in_fi,
			fuse_ino_t out, off_t out_offset, struct fuse_file_info *out_fi, size_t size,
			int flags)
{
	(void)in, (void)in_offset, (void)in_fi, (void)out, (void)out_offset, (void)out_fi;
	(void)size, (void)flags;
	fuse_reply_err(req, EOPNOTSUPP);
}

static void refuse_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
			 struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
			 size_t out_size)
{
	(void)ino, (void)cmd, (void)arg, (void)fi, (void)flags, (void)in, (void)in_size;
	(void)out_size;
	fuse_reply_err(req, ENOTTY);
}

static void extend_operations(struct fuse_lowlevel_ops *ops)
{
	ops->fallocate = refuse_fallocate;
	ops->copy_file_range = refuse_copy;
	ops->ioctl = refuse_ioctl;
	/* Without a handler, libfuse answers ENOSYS once for each mount. The kernel then goes on by itself: for
	 * lseek, a file is one extent of data up to its size; for poll, a regular file is always ready. Both
	 * are right for every view of a file. */
	ops->lseek = NULL;
	ops->poll = NULL;
}

/* ---- libfuse functions that the linker finds here first ------------------------------------ */
/* In C, the functions have other names here, because newer headers make some of libfuse's functions inline functions or
 * macros. */

#define INTERPOSES(symbol) __asm__(symbol) __attribute__((visibility("default"), used))

struct fuse_session *bridge_session_new(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t,
					void *) INTERPOSES("fuse_session_new");
struct fuse_session *bridge_session_new_317(struct fuse_args *, const struct fuse_lowlevel_ops *,
					    size_t, void *, void *) INTERPOSES("_fuse_session_new");
struct fuse_session *bridge_session_new_318(struct fuse_args *, const struct fuse_lowlevel_ops *,
					    size_t, void *, void *)
	INTERPOSES("fuse_session_new_versioned");
int bridge_session_mount(struct fuse_session *, const char *) INTERPOSES("fuse_session_mount");
void bridge_session_unmount(struct fuse_session *) INTERPOSES("fuse_session_unmount");
void bridge_session_destroy(struct fuse_session *) INTERPOSES("fuse_session_destroy");
int bridge_reply_open(fuse_req_t, const struct fuse_file_info *) INTERPOSES("fuse_reply_open");
int bridge_reply_create(fuse_req_t, const struct fuse_entry_param *,
			const struct fuse_file_info *) INTERPOSES("fuse_reply_create");
int bridge_reply_entry(fuse_req_t, const struct fuse_entry_param *) INTERPOSES("fuse_reply_entry");
int bridge_reply_attr(fuse_req_t, const struct stat *, double) INTERPOSES("fuse_reply_attr");
size_t bridge_add_direntry_plus(fuse_req_t, char *, size_t, const char *,
				const struct fuse_entry_param *, off_t)
	INTERPOSES("fuse_add_direntry_plus");

static void copy_operations(struct fuse_lowlevel_ops *copy, const struct fuse_lowlevel_ops *ops,
			    size_t size)
{
	memset(copy, 0, sizeof(*copy));
	memcpy(copy, ops, size < sizeof(*copy) ? size : sizeof(*copy));
	extend_operations(copy);
}

struct fuse_session *bridge_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,
					size_t size, void *userdata)
{
	struct fuse_lowlevel_ops copy;

	if (real.session_new == NULL)
		return NULL;
	copy_operations(&copy, ops, size);
	return real.session_new(args, &copy, sizeof(copy), userdata);
}

struct fuse_session *bridge_session_new_317(struct fuse_args *args,
					    const struct fuse_lowlevel_ops *ops, size_t size,
					    void *version, void *userdata)
{
	struct fuse_lowlevel_ops copy;

	if (real.session_new_317 == NULL)
		return NULL;
	copy_operations(&copy, ops, size);
	return real.session_new_317(args, &copy, sizeof(copy), version, userdata);
}

struct fuse_session *bridge_session_new_318(struct fuse_args *args,
					    const struct fuse_lowlevel_ops *ops, size_t size,
					    void *version, void *userdata)
{
	struct fuse_lowlevel_ops copy;

	if (real.session_new_318 == NULL)
		return NULL;
	copy_operations(&copy, ops, size);
	return real.session_new_318(args, &copy, sizeof(copy), version, userdata);
}

static struct fuse_session *attached;

static void process(void *message, size_t size)
{
	struct fuse_buf buffer = {.size = size, .mem = message};

	if (attached != NULL)
		fuse_session_process_buf(attached, &buffer);
}

/* The mountpoint is "/dev/fd/N": N is a /dev/fuse descriptor that is mounted already. libfuse owns this descriptor
 * from here on, and closes it with the session. */
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

/* Do nothing: session.py mounts and unmounts. */
void bridge_session_unmount(struct fuse_session *session)
{
	(void)session;
}

/* Forget the descriptor: libfuse closes it here, and another file may soon get the same number. */
void bridge_session_destroy(struct fuse_session *session)
{
	attached = NULL;
	device_detach();
	real.session_destroy(session);
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

static void fill_entry(struct wire_entry_out *out, const struct fuse_entry_param *entry)
{
	struct stat attr = entry->attr;

	place_ino(&attr);
	memset(out, 0, sizeof(*out));
	out->nodeid = entry->ino;
	out->generation = entry->generation;
	split_seconds(entry->entry_timeout, &out->entry_valid, &out->entry_valid_nsec);
	split_seconds(entry->attr_timeout, &out->attr_valid, &out->attr_valid_nsec);
	out->attr.ino = attr.st_ino;
	out->attr.size = (uint64_t)attr.st_size;
	out->attr.blocks = (uint64_t)attr.st_blocks;
	out->attr.atime = (uint64_t)attr.st_atim.tv_sec;
	out->attr.mtime = (uint64_t)attr.st_mtim.tv_sec;
	out->attr.ctime = (uint64_t)attr.st_ctim.tv_sec;
	out->attr.atimensec = (uint32_t)attr.st_atim.tv_nsec;
	out->attr.mtimensec = (uint32_t)attr.st_mtim.tv_nsec;
	out->attr.ctimensec = (uint32_t)attr.st_ctim.tv_nsec;
	out->attr.mode = attr.st_mode;
	out->attr.nlink = (uint32_t)attr.st_nlink;
	out->attr.uid = attr.st_uid;
	out->attr.gid = attr.st_gid;
	out->attr.blksize = (uint32_t)attr.st_blksize;
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
	struct fuse_entry_param copy = *entry;

	place_ino(&copy.attr);
	return real.reply_entry(req, &copy);
}

int bridge_reply_attr(fuse_req_t req, const struct stat *attr, double timeout)
{
	struct stat copy = *attr;

	place_ino(&copy);
	return real.reply_attr(req, &copy, timeout);
}

size_t bridge_add_direntry_plus(fuse_req_t req, char *buffer, size_t size, const char *name,
				const struct fuse_entry_param *entry, off_t offset)
{
	struct fuse_entry_param copy = *entry;

	place_ino(&copy.attr);
	return real.add_direntry_plus(req, buffer, size, name, &copy, offset);
}
