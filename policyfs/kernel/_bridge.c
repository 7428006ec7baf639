/*
 * The parts of the FUSE protocol that pyfuse3 and the libfuse it was built against do not
 * speak: passthrough replies, the INIT flags policyfs needs, inode numbers apart from node ids,
 * and access to the raw request.
 *
 * This module is loaded with RTLD_GLOBAL before pyfuse3. So the dynamic linker binds
 * pyfuse3's calls of the functions below to the ones here. Each of these calls the
 * real one of libfuse, found with RTLD_NEXT. See docs/decisions/0001-symbol-interposition.md.
 *
 * There is no policy here, and no state beyond one session's counters, its INIT exchange and a
 * copy of the request read last.
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
#include <sys/uio.h>
#include <unistd.h>

/* ---- Wire format (include/uapi/linux/fuse.h, protocol 7.45) ----------------------------- */
/* More of it is in _wire.h. */

#define OPCODE_INIT 26
#define OPCODE_WRITE 16
#define OPCODES 64 /* slot 0 counts opcodes this table has no room for */

/* The kernel takes the smaller of this and the device's value, which session.py has set. */
#define MAX_READAHEAD (1 << 20)

#define FUSE_INIT_EXT_BIT 30
#define BIT(n) ((uint64_t)1 << (n))

struct wire_init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
};

struct wire_init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};

_Static_assert(sizeof(struct wire_init_out) == 64, "fuse_init_out");

/* ---- The one session's state ------------------------------------------------------------- */

/* Readahead requests in flight. Readers of one slow file soon use up the kernel's own 12,
 * and then readers of all other files wait. */
#define MAX_BACKGROUND 256

#define LAST_CAPACITY 8192
/* Of a WRITE only the header and fuse_write_in are kept, not the data. */
#define LAST_WRITE_BYTES (sizeof(struct wire_in_header) + 40)

static struct {
	uint64_t want_flags;  /* INIT flags to ask for, as far as the kernel offers them */
	uint32_t want_depth;  /* max_stack_depth, 0 without passthrough */
	bool attached;	      /* a session came through our fuse_session_mount */
	uint64_t init_unique; /* of the INIT request not yet answered, else 0 */
	bool negotiated;
	uint32_t kernel_minor, depth, max_write;
	uint64_t offered, flags;
	uint64_t counts[OPCODES];
	uint64_t lost_replies;
	size_t last_size;
	unsigned char last[LAST_CAPACITY];
} bridge;

static struct {
	struct fuse_session *(*session_new)(struct fuse_args *, const struct fuse_lowlevel_ops *,
					    size_t, void *);
	/* libfuse 3.17 and 3.18 name it differently. */
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

/* ---- Reading requests and writing replies ------------------------------------------------- */

static void note_request(const unsigned char *message, size_t size)
{
	struct wire_in_header header;

	if (size < sizeof(header))
		return;
	memcpy(&header, message, sizeof(header));
	bridge.counts[header.opcode < OPCODES ? header.opcode : 0]++;

	if (header.opcode == OPCODE_INIT && size >= sizeof(header) + 16) {
		struct wire_init_in init = {0};
		size_t body = size - sizeof(header);

		memcpy(&init, message + sizeof(header), body < sizeof(init) ? body : sizeof(init));
		bridge.init_unique = header.unique;
		bridge.kernel_minor = init.minor;
		bridge.offered = init.flags;
		if (init.flags & BIT(FUSE_INIT_EXT_BIT))
			bridge.offered |= (uint64_t)init.flags2 << 32;
	}

	if (header.opcode == OPCODE_WRITE && size > LAST_WRITE_BYTES)
		size = LAST_WRITE_BYTES;
	bridge.last_size = size < LAST_CAPACITY ? size : LAST_CAPACITY;
	memcpy(bridge.last, message, bridge.last_size);
}

static ssize_t device_read(int fd, void *buffer, size_t size, void *userdata)
{
	ssize_t got = turns_read(fd, buffer, size);

	(void)userdata;
	readers_weigh(got >= 0);
	if (got >= 0) {
		note_request(buffer, (size_t)got);
		if (!operations_take(buffer, (size_t)got)) {
			turns_begun(buffer, (size_t)got);
			return got;
		}
		turns_begun(NULL, 0);
		errno = EINTR; /* as if nothing had come */
		return -1;
	}
	/* pyfuse3 ends its loop at any error but EINTR. The fd is non-blocking, and readable
	 * only means that a request was there a moment ago: EAGAIN is as harmless as EINTR. An
	 * aborted connection ends the session in the same way as an unmounted one. */
	if (errno == EAGAIN)
		errno = EINTR;
	else if (errno == ECONNABORTED)
		errno = ENODEV;
	return -1;
}

static ssize_t send_init(int fd, const struct iovec *iov)
{
	struct wire_out_header header;
	struct wire_init_out out = {0};
	struct iovec edited[2] = {{&header, sizeof(header)}, {&out, sizeof(out)}};
	uint64_t flags;
	ssize_t sent;

	memcpy(&header, iov[0].iov_base, sizeof(header));
	memcpy(&out, iov[1].iov_base, iov[1].iov_len < sizeof(out) ? iov[1].iov_len : sizeof(out));
	flags = bridge.want_flags & bridge.offered;
	out.flags = (uint32_t)flags;
	out.flags2 = (uint32_t)(flags >> 32);
	out.max_stack_depth = bridge.want_depth;
	out.max_readahead = MAX_READAHEAD;
	out.max_background = MAX_BACKGROUND;
	out.congestion_threshold = MAX_BACKGROUND / 4 * 3;
	header.len = sizeof(header) + sizeof(out);

	sent = writev(fd, edited, 2);
	if (sent < 0)
		return sent;
	bridge.flags = flags;
	bridge.depth = out.max_stack_depth;
	bridge.max_write = out.max_write;
	bridge.negotiated = true;
	return (ssize_t)(iov[0].iov_len + iov[1].iov_len); /* the size that libfuse wanted to send */
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	ssize_t sent;

	(void)userdata;
	if (bridge.init_unique != 0 && count == 2 && iov[0].iov_len == sizeof(struct wire_out_header)) {
		struct wire_out_header header;

		memcpy(&header, iov[0].iov_base, sizeof(header));
		if (header.unique == bridge.init_unique) {
			bridge.init_unique = 0;
			if (header.error == 0)
				return send_init(fd, iov);
		}
	}
	if (iov[0].iov_len == sizeof(struct wire_out_header)) {
		struct wire_out_header header;

		memcpy(&header, iov[0].iov_base, sizeof(header));
		turns_answered(header.unique);
	}
	sent = writev(fd, iov, count);
	if (sent < 0)
		bridge.lost_replies++;
	return sent;
}

/* ---- Answers to requests that nobody takes (see _operations.c) ----------------------------- */

static void refuse_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			     struct fuse_file_info *fi)
{
	(void)ino, (void)mode, (void)offset, (void)length, (void)fi;
	fuse_reply_err(req, EOPNOTSUPP);
}

/* The kernel then copies by splice, through the READs and WRITEs of the two nodes. */
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
	/* Without a handler libfuse answers ENOSYS, once per mount, and the kernel goes on by
	 * itself: lseek treats a file as one extent of data up to its size, and poll reports regular
	 * files as always ready. Both are right for every view of a file. */
	ops->lseek = NULL;
	ops->poll = NULL;
}

/* ---- libfuse functions that the linker finds here first ------------------------------------ */
/* Defined under other C names: newer headers make some of these inline functions or macros. */

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

/* The mountpoint is "/dev/fd/N": N is a /dev/fuse descriptor that is mounted already. libfuse
 * owns it from here on and closes it with the session. */
int bridge_session_mount(struct fuse_session *session, const char *mountpoint)
{
	static const struct fuse_custom_io io = {.read = device_read, .writev = device_writev};
	int fd, end = 0;

	if (sscanf(mountpoint, "/dev/fd/%d%n", &fd, &end) != 1 || mountpoint[end] != '\0')
		return -1;
	if (fuse_session_custom_io(session, &io, fd) != 0)
		return -1;
	bridge.attached = true;
	operations_session(fd);
	return 0;
}

/* Do nothing: session.py mounted it and unmounts it. */
void bridge_session_unmount(struct fuse_session *session)
{
	(void)session;
}

/* libfuse closes the descriptor here, and its number may soon be reused. */
void bridge_session_destroy(struct fuse_session *session)
{
	readers_stop();
	avc_close();
	operations_session(-1);
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
	if (operations_hear_close(writable))
		out->open_flags &= ~FOPEN_NOFLUSH_FLAG;
}

int bridge_reply_open(fuse_req_t req, const struct fuse_file_info *info)
{
	struct wire_open_out out;

	fill_open(&out, info->fh, (info->flags & O_ACCMODE) != O_RDONLY);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* st_rdev carries the store's inode number, and st_blocks a device's number: it has no blocks. */
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

/* ---- Python functions ----------------------------------------------------------------------- */

static PyObject *py_prepare(PyObject *module, PyObject *args)
{
	unsigned long long flags;
	unsigned int depth;

	(void)module;
	if (!PyArg_ParseTuple(args, "KI", &flags, &depth))
		return NULL;
	memset(&bridge, 0, sizeof(bridge));
	readers_stop();
	avc_close();
	turns_reset();
	bridge.want_flags = flags;
	bridge.want_depth = depth;
	Py_RETURN_NONE;
}

static PyObject *py_counters(PyObject *module, PyObject *unused)
{
	PyObject *result = PyTuple_New(OPCODES);

	(void)module, (void)unused;
	if (result == NULL)
		return NULL;
	for (Py_ssize_t i = 0; i < OPCODES; i++) {
		PyObject *count = PyLong_FromUnsignedLongLong(bridge.counts[i] + vectors_answered((uint32_t)i));

		if (count == NULL) {
			Py_DECREF(result);
			return NULL;
		}
		PyTuple_SET_ITEM(result, i, count);
	}
	return result;
}

static PyObject *py_attached(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyBool_FromLong(bridge.attached);
}

static PyObject *py_lost_replies(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyLong_FromUnsignedLongLong(bridge.lost_replies + operations_lost());
}

static PyObject *py_raw_request(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyBytes_FromStringAndSize((const char *)bridge.last, (Py_ssize_t)bridge.last_size);
}

/* Write notifications, one after the other in one buffer, without the interpreter's lock. */
static PyObject *py_notify(PyObject *module, PyObject *args)
{
	unsigned long sent = 0, absent = 0;
	Py_buffer messages;
	int fd, error = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "iy*", &fd, &messages))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	const char *at = messages.buf, *end = at + messages.len;

	while (error == 0 && at < end) {
		uint32_t length = 0;

		if (end - at >= (ptrdiff_t)sizeof length)
			memcpy(&length, at, sizeof length);
		if (length < sizeof length || (ptrdiff_t)length > end - at)
			error = EINVAL;
		else if (write(fd, at, length) >= 0)
			sent++;
		else if (errno == ENOENT)
			absent++;
		else
			error = errno;
		at += length;
	}
	Py_END_ALLOW_THREADS
	PyBuffer_Release(&messages);
	return Py_BuildValue("kki", sent, absent, error);
}

static PyObject *py_negotiated(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	if (!bridge.negotiated)
		Py_RETURN_NONE;
	return Py_BuildValue("IKKII", bridge.kernel_minor, (unsigned long long)bridge.offered,
			     (unsigned long long)bridge.flags, bridge.depth, bridge.max_write);
}

static PyMethodDef methods[] = {
	{"prepare", py_prepare, METH_VARARGS,
	 "prepare(flags, max_stack_depth): forget the last session; what to ask for at INIT."},
	{"counters", py_counters, METH_NOARGS, "Requests read so far, by opcode; 0 is all others."},
	{"attached", py_attached, METH_NOARGS,
	 "Did pyfuse3 mount through this module, as it does if the symbols are bound as they must."},
	{"lost_replies", py_lost_replies, METH_NOARGS, "Replies that the kernel did not take."},
	{"operations", operations_register, METH_VARARGS,
	 "operations(callable, opcodes): hand requests of these opcodes (one bit each) to it; None."},
	{"hear_flushes", operations_hear_flushes, METH_O,
	 "hear_flushes(every): while locks are taken, is each FLUSH of any handle to be heard."},
	{"take_turns", turns_take, METH_VARARGS,
	 "take_turns(most, room): users take turns, each with so many requests under way at most (0 is\n"
	 "off), and none with more than are left of room for all others (0: any number).\n"
	 "Returns a descriptor that is readable while a request that was read ahead can go on."},
	{"waiting", turns_waiting, METH_NOARGS, "(requests read ahead that wait, requests under way)."},
	{"start_readers", readers_start, METH_VARARGS,
	 "start_readers(groups, device, epoll): a reader thread for each group of processors (16 at most),\n"
	 "which rest at first. epoll: the event loop waits by it, and has the device in it while the readers rest."},
	{"reader_shares", readers_shares, METH_VARARGS,
	 "reader_shares(begin, end): percent of requests answered from the vectors from which the readers\n"
	 "begin to read the device, and below which they rest again."},
	{"reader_state", readers_state, METH_NOARGS, "(threads, are they reading, times they began)."},
	{"open_vectors", vectors_open, METH_VARARGS,
	 "open_vectors(nodes, directories): begin with an empty access vector cache, before the readers."},
	{"install_vector", vectors_install, METH_VARARGS,
	 "install_vector(node, parent, directory_fd, name, uid, grant, device, ino, birth_ns, format, gid=0,\n"
	 "flags=0, backing_id=0): bool. The last three are of opens."},
	{"take_opens", vectors_take, METH_VARARGS,
	 "take_opens(which, number): take handles over from the bridge: 0 the one with a number, 1 those of a\n"
	 "node, 2 all. [(fh, node, uid, gid, pid, flags, attributes)]."},
	{"end_opens", vectors_end_opens, METH_O,
	 "end_opens(node or None): answer no open of a node, or of any; takes their handles over."},
	{"age_opens", vectors_age_opens, METH_NOARGS,
	 "Take over handles that are open since the call before; (handles, nodes not opened since then)."},
	{"take_events", vectors_take_events, METH_NOARGS,
	 "take_events(): the events of opens that the bridge answered and that are to be on the trail."},
	{"leave_directory", vectors_leave, METH_O,
	 "leave_directory(node): close its descriptor. No request in it is answered any more."},
	{"drop_vectors", vectors_drop, METH_O,
	 "drop_vectors(node): no request is answered by them any more. Its look-ups, not yet counted."},
	{"drop_all_vectors", vectors_drop_all, METH_NOARGS, "Drop the vectors of all nodes."},
	{"clear_vectors", vectors_clear, METH_NOARGS, "Empty the cache: [(node, look-ups not yet counted)]."},
	{"vector_counts", vectors_counts, METH_NOARGS,
	 "(look-ups, getattrs, accesses, lost, nodes, directories, installed, dropped, refused, opens,\n"
	 "releases, handles)."},
	{"DirectoryEntries", listing_new, METH_NOARGS, "The names of a directory: none yet."},
	{"raw_request", py_raw_request, METH_NOARGS, "The request read last, header first."},
	{"notify", py_notify, METH_VARARGS,
	 "notify(fd, messages): write notifications, each with its header, until one fails otherwise\n"
	 "than by ENOENT. (taken, unknown to the kernel, errno or 0)."},
	{"negotiated", py_negotiated, METH_NOARGS,
	 "(kernel minor, flags offered, flags set, max_stack_depth, max_write), None before INIT."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, "policyfs.kernel._bridge", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

static bool find_real(void)
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

PyMODINIT_FUNC PyInit__bridge(void)
{
	PyObject *module;

	if (!find_real()) {
		PyErr_SetString(PyExc_ImportError, "libfuse3 lacks functions that policyfs needs");
		return NULL;
	}
	module = PyModule_Create(&definition);
	if (module != NULL && (operations_add_types(module) < 0 || appender_add_type(module) < 0))
		Py_CLEAR(module);
	return module;
}
