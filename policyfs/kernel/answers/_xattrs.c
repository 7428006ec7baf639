/*
 * Extended attributes, as fs/namespace/xattr.py: the kernel's question for capabilities, of every object; the attributes
 * user.* of own nodes, and that these have no others.
 */

#define _GNU_SOURCE
#include "table/_avc_table.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTRS_MAX 4096 /* longer values and lists are Python's */

static atomic_bool no_capabilities;

void avc_has_no_capabilities(bool truth)
{
	no_capabilities = truth;
}

/* No file of a mount has capabilities (fs/namespace/xattr.py). The kernel asks for them before the first write to a file.
 * The answer is the same for every caller and every object. */
static bool answer_getxattr(struct seat *seat, int device, const struct wire_in_header *header, const char *name)
{
	if (!no_capabilities || strcmp(name, "security.capability") != 0)
		return false;
	atomic_fetch_add_explicit(&seat->getxattrs, 1, memory_order_relaxed);
	avc_reply(seat, device, header->unique, ENODATA, NULL, 0);
	return true;
}

#define POOL "user.mergerfs." /* as store/tree.py */

static bool is_shown(const char *name)
{
	return strncmp(name, "user.", 5) == 0 && strncmp(name, "user.policyfs.", 14) != 0 &&
	       strncmp(name, POOL, sizeof(POOL) - 1) != 0;
}

/* Return the own node if the caller may read the file and its xattrs, or NULL. */
static const struct node *shown(const struct wire_in_header *header)
{
	const struct node *node = avc_find(header->nodeid);

	return node != NULL && node->own && tree_granted(node, header->uid) & AVC_XATTRS ? node : NULL;
}

/* Answer with a value or a list, as its size if the caller asks for that. */
static bool answer_bytes(struct seat *seat, int device, uint64_t unique, uint32_t asked, void *bytes, size_t size)
{
	struct wire_getxattr_in out = {.size = (uint32_t)size}; /* fuse_getxattr_out is alike */

	if (asked != 0 && asked < size)
		return avc_reply(seat, device, unique, ERANGE, NULL, 0), true;
	return avc_reply(seat, device, unique, 0, asked == 0 ? &out : bytes, asked == 0 ? sizeof(out) : size), true;
}

static bool answer_listxattr(struct seat *seat, int device, const struct wire_in_header *header, uint32_t asked)
{
	const struct node *node = shown(header);
	struct statx now;
	char link[LINK_SIZE], names[XATTRS_MAX];
	ssize_t size = -1, left = 0;
	int file = node == NULL ? -1 : tree_link(node, link, &now);

	if (file < 0)
		return false;
	size = listxattr(link, names, sizeof(names));
	close(file);
	if (size < 0)
		return false;
	for (ssize_t at = 0, next; at < size; at = next) {
		next = at + (ssize_t)strlen(names + at) + 1;
		if (!is_shown(names + at))
			continue;
		memmove(names + left, names + at, (size_t)(next - at));
		left += next - at;
	}
	atomic_fetch_add_explicit(&seat->listxattrs, 1, memory_order_relaxed);
	return answer_bytes(seat, device, header->unique, asked, names, (size_t)left);
}

/* Return the error for an xattr that no object has (xattr.py, absence()). */
static int absence(const char *name)
{
	return strncmp(name, "system.", 7) == 0 || strcmp(name, "security.selinux") == 0 ||
			       strncmp(name, POOL, sizeof(POOL) - 1) == 0 ? EOPNOTSUPP : ENODATA;
}

static bool answer_value(struct seat *seat, int device, const struct wire_in_header *header, uint32_t asked,
			 const char *name)
{
	const struct node *node = shown(header);
	struct statx now;
	char link[LINK_SIZE], value[XATTRS_MAX];
	int file, error = absence(name);
	ssize_t size = -1;

	if (node == NULL)
		return false;
	if (is_shown(name)) {
		if ((file = tree_link(node, link, &now)) < 0)
			return false;
		size = getxattr(link, name, value, sizeof(value));
		error = size < 0 ? errno : 0;
		close(file);
		if (size < 0 && error != ENODATA)
			return false;
	}
	atomic_fetch_add_explicit(&seat->getxattrs, 1, memory_order_relaxed);
	if (size >= 0)
		return answer_bytes(seat, device, header->unique, asked, value, (size_t)size);
	return avc_reply(seat, device, header->unique, error, NULL, 0), true;
}

/* Refuse the change of an ACL, which `cp -a` tries for each file. */
static bool answer_acl(struct seat *seat, int device, const struct wire_in_header *header, const char *name)
{
	const struct node *node = shown(header);

	if (node == NULL || !(tree_granted(node, header->uid) & AVC_CHANGE) || strncmp(name, "system.", 7) != 0)
		return false;
	atomic_fetch_add_explicit(header->opcode == OPCODE_SETXATTR ? &seat->setxattrs : &seat->removexattrs, 1,
				  memory_order_relaxed);
	return avc_reply(seat, device, header->unique, EOPNOTSUPP, NULL, 0), true;
}

bool xattrs_answer(struct seat *seat, int device, const struct wire_in_header *header, const unsigned char *body, size_t size)
{
	struct wire_getxattr_in asked = {0}; /* fuse_setxattr_in, without FUSE_SETXATTR_EXT, is as long */
	const size_t skipped = header->opcode == OPCODE_REMOVEXATTR ? 0 : sizeof(asked);
	const char *name = (const char *)body + skipped;

	if (size < skipped)
		return false;
	memcpy(&asked, body, skipped);
	if (header->opcode == OPCODE_LISTXATTR)
		return size == skipped && answer_listxattr(seat, device, header, asked.size);
	if (header->opcode == OPCODE_SETXATTR) /* the value follows the name */
		return memchr(name, 0, size - skipped) != NULL && answer_acl(seat, device, header, name);
	if (!avc_is_name(body + skipped, size - skipped))
		return false;
	if (header->opcode == OPCODE_REMOVEXATTR)
		return answer_acl(seat, device, header, name);
	return answer_getxattr(seat, device, header, name) || answer_value(seat, device, header, asked.size, name);
}
