/* The kernel's FUSE wire format as far as the bridge uses it: include/uapi/linux/fuse.h, protocol 7.45. The structs are
 * defined here, not included, so that the build does not depend on the age of the headers. */

#ifndef POLICYFS_WIRE_H
#define POLICYFS_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define OPCODE_LOOKUP 1
#define OPCODE_FORGET 2
#define OPCODE_GETATTR 3
#define OPCODE_SETATTR 4
#define OPCODE_SYMLINK 6
#define OPCODE_MKNOD 8
#define OPCODE_MKDIR 9
#define OPCODE_UNLINK 10
#define OPCODE_RMDIR 11
#define OPCODE_RENAME 12
#define OPCODE_LINK 13
#define OPCODE_OPEN 14
#define OPCODE_READ 15
#define OPCODE_WRITE 16
#define OPCODE_RELEASE 18
#define OPCODE_SETXATTR 21
#define OPCODE_GETXATTR 22
#define OPCODE_LISTXATTR 23
#define OPCODE_REMOVEXATTR 24
#define OPCODE_FLUSH 25
#define OPCODE_INIT 26
#define OPCODE_OPENDIR 27
#define OPCODE_READDIR 28
#define OPCODE_RELEASEDIR 29
#define OPCODE_FSYNCDIR 30
#define OPCODE_SETLK 32
#define OPCODE_SETLKW 33
#define OPCODE_ACCESS 34
#define OPCODE_CREATE 35
#define OPCODE_INTERRUPT 36
#define OPCODE_DESTROY 38
#define OPCODE_IOCTL 39
#define OPCODE_BATCH_FORGET 42
#define OPCODE_READDIRPLUS 44
#define OPCODE_RENAME2 45
#define ATTR_SIZE 8 /* in the first word of SETATTR: the request sets the size */
#define OPCODES 64 /* above all numbers that the kernel has given so far */

/* True for the requests that the bridge answers with a change of the store (_changes.c). */
static inline bool is_change(uint32_t opcode)
{
	return opcode == OPCODE_CREATE || opcode == OPCODE_UNLINK || opcode == OPCODE_SETATTR || opcode == OPCODE_RENAME ||
	       opcode == OPCODE_RENAME2;
}

struct wire_in_header {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid;
	uint16_t extension_words, padding;
};

struct wire_out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

struct wire_attr {
	uint64_t ino, size, blocks, atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec;
	uint32_t mode, nlink, uid, gid, rdev, blksize, flags;
};

#define WRITE_CACHE 1 /* write_flags: the kernel writes back a page that was changed through a mapping */

struct wire_open_in {
	uint32_t flags, open_flags;
};

struct wire_release_in {
	uint64_t fh;
	uint32_t flags, release_flags;
	uint64_t lock_owner;
};

/* The data follow. */
struct wire_write_in {
	uint64_t fh, offset;
	uint32_t size, write_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};

static inline int64_t wire_time_ns(uint64_t seconds, uint32_t rest)
{
	return (int64_t)seconds * 1000000000 + rest;
}

/* The name follows, with a null byte. */
struct wire_getxattr_in {
	uint32_t size, padding;
};

/* ioctl(2). The input follows. */
struct wire_ioctl_in {
	uint64_t fh;
	uint32_t flags, command;
	uint64_t argument;
	uint32_t in_size, out_size;
};

struct wire_attr_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, padding;
	struct wire_attr attr;
};

struct wire_entry_out {
	uint64_t nodeid, generation, entry_valid, attr_valid;
	uint32_t entry_valid_nsec, attr_valid_nsec;
	struct wire_attr attr;
};

/* The name follows, up to a multiple of 8 bytes. */
struct wire_direntplus {
	struct wire_entry_out entry;
	uint64_t ino, offset;
	uint32_t name_size, type;
};

/* The old name and the new name follow, each with a null byte. RENAME has only new_parent. */
struct wire_rename_in {
	uint64_t new_parent;
	uint32_t flags, padding; /* of renameat2(2) */
};

struct wire_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

_Static_assert(sizeof(struct wire_in_header) == 40, "fuse_in_header");
_Static_assert(sizeof(struct wire_out_header) == 16, "fuse_out_header");
_Static_assert(sizeof(struct wire_write_in) == 40, "fuse_write_in");
_Static_assert(sizeof(struct wire_getxattr_in) == 8, "fuse_getxattr_in");
_Static_assert(sizeof(struct wire_ioctl_in) == 32, "fuse_ioctl_in");
_Static_assert(sizeof(struct wire_attr_out) == 104, "fuse_attr_out");
_Static_assert(sizeof(struct wire_entry_out) == 128, "fuse_entry_out");
_Static_assert(sizeof(struct wire_open_out) == 16, "fuse_open_out");
_Static_assert(sizeof(struct wire_direntplus) == 152, "fuse_direntplus");
_Static_assert(sizeof(struct wire_rename_in) == 16, "fuse_rename2_in");
_Static_assert(sizeof(struct wire_open_in) == 8, "fuse_open_in");
_Static_assert(sizeof(struct wire_release_in) == 24, "fuse_release_in");

#endif
