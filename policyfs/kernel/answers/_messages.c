/* Messages of the kernel and to it. */

#include "table/_avc_table.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define NOTIFY_INVAL_INODE 2

bool avc_reply(struct seat *seat, int device, uint64_t unique, int error, void *body, size_t size)
{
	struct wire_out_header header = {
		.len = (uint32_t)(sizeof(header) + size), .error = -error, .unique = unique,
	};
	struct iovec iov[2] = {{&header, sizeof(header)}, {body, size}};

	if (writev(device, iov, size > 0 ? 2 : 1) >= 0)
		return true;
	atomic_fetch_add_explicit(&seat->lost, 1, memory_order_relaxed);
	return false;
}

void avc_forget_attributes(int device, uint64_t id)
{
	struct {
		struct wire_out_header header;
		uint64_t id;
		int64_t offset, size; /* less than 0: no pages */
	} note = {{sizeof(note), NOTIFY_INVAL_INODE, 0}, id, -1, 0};

	(void)!write(device, &note, sizeof(note));
}

bool avc_is_name(const unsigned char *body, size_t size)
{
	return size >= 2 && size - 1 <= NAME_MAX_BYTES && strnlen((const char *)body, size) == size - 1;
}
