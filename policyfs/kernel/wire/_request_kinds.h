/* The kind of a request, and the uid for which it counts. */

#ifndef POLICYFS_REQUEST_KINDS_H
#define POLICYFS_REQUEST_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire/_wire.h"

/* The uid in the number of a mediated handle (bridge.pack_fh), in bits 54 to 31. Its highest 8 bits are missing. Uids
 * that differ only in these 8 bits share a lane. */
#define FH_UID_SHIFT 31
#define FH_UID(fh) ((uint32_t)((fh) >> FH_UID_SHIFT & 0xffffffu))

/* Size of a WRITE whose data were dropped. Its header still has the whole size. */
#define REFUSED_SIZE (sizeof(struct wire_in_header) + sizeof(struct wire_write_in))

/* LOCKED: until the answer, the kernel holds the lock of a directory, or of all renames (fs/namei.c, fs/readdir.c).
 * NAMES: about names and attributes, without such a lock. WRITE_BACK: the kernel writes back a page that was changed
 * through a mapping. */
enum kind { OTHERS, NAMES, LOCKED, WRITE_BACK, KINDS };

/* True for a WRITE whose data were dropped. */
static inline bool has_lost_data(const struct wire_in_header *header, size_t size)
{
	return header->opcode == OPCODE_WRITE && header->len > size;
}

static inline bool is_urgent(uint32_t opcode)
{
	return opcode == OPCODE_FORGET || opcode == OPCODE_BATCH_FORGET || opcode == OPCODE_RELEASE ||
	       opcode == OPCODE_RELEASEDIR || opcode == OPCODE_INIT || opcode == OPCODE_DESTROY;
}

static inline struct wire_write_in body_of_write(const unsigned char *message, size_t size)
{
	struct wire_write_in body = {0};

	if (size >= REFUSED_SIZE)
		memcpy(&body, message + sizeof(struct wire_in_header), sizeof(body));
	return body;
}

/* Return the kind of a request. Changes of a file's attributes count as LOCKED, too, because changes of a directory's
 * attributes have the same opcodes. They are quick, except truncations, which count as OTHERS. */
static inline enum kind kind_of(const struct wire_in_header *header, const unsigned char *message, size_t size)
{
	uint32_t changed;

	switch (header->opcode) {
	case OPCODE_GETATTR:
	case OPCODE_OPENDIR:
	case OPCODE_ACCESS:
	case OPCODE_IOCTL:
		return NAMES;
	case OPCODE_LOOKUP:
	case OPCODE_SYMLINK:
	case OPCODE_MKNOD:
	case OPCODE_MKDIR:
	case OPCODE_UNLINK:
	case OPCODE_RMDIR:
	case OPCODE_RENAME:
	case OPCODE_LINK:
	case OPCODE_SETXATTR:
	case OPCODE_REMOVEXATTR:
	case OPCODE_READDIR:
	case OPCODE_FSYNCDIR:
	case OPCODE_CREATE:
	case OPCODE_READDIRPLUS:
	case OPCODE_RENAME2:
		return LOCKED;
	case OPCODE_SETATTR:
		if (size < sizeof(*header) + sizeof(changed))
			return OTHERS;
		memcpy(&changed, message + sizeof(*header), sizeof(changed));
		return (changed & ATTR_SIZE) == 0 ? LOCKED : OTHERS;
	case OPCODE_WRITE:
		if (has_lost_data(header, size)) /* the answer to such a WRITE is quick */
			return NAMES;
		return body_of_write(message, size).write_flags & WRITE_CACHE ? WRITE_BACK : OTHERS;
	default:
		return OTHERS;
	}
}

static inline uint32_t uid_of(const struct wire_in_header *header, const unsigned char *message, size_t size)
{
	enum kind kind = kind_of(header, message, size);

	return kind == WRITE_BACK ? FH_UID(body_of_write(message, size).fh) : header->uid;
}

#endif
