/*
 * A request for a name on which a file system that never answers was mounted after the vector was installed.
 *
 *   avc_mounted DIRECTORY
 *
 * Exits 0 if the request is left to Python, and 1 if the answer waits for that file system.
 */

#define _GNU_SOURCE
#include "table/_avc.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct avc_vector vector = {.id = 7, .parent = 1, .name = "d", .name_size = 1, .uid = 1000,
				    .grant = AVC_GETATTR, .format = S_IFDIR};
	struct {
		struct wire_in_header header;
		unsigned char body[16];
	} request = {.header = {.len = sizeof(request), .opcode = OPCODE_GETATTR, .unique = 2, .nodeid = 7, .uid = 1000}};
	char options[64], name[4096];
	struct statx now;
	bool before, after;
	int ends[2], device;

	if (count != 2 || pipe(ends) != 0 || (vector.directory = open(words[1], O_PATH | O_DIRECTORY)) < 0 ||
	    mkdirat(vector.directory, "d", 0700) != 0 ||
	    statx(vector.directory, "d", 0, STATX_BASIC_STATS | STATX_BTIME, &now) != 0)
		return 2;
	vector.device = makedev(now.stx_dev_major, now.stx_dev_minor);
	vector.ino = now.stx_ino;
	vector.birth_ns = now.stx_btime.tv_sec * 1000000000 + now.stx_btime.tv_nsec;
	if (!avc_open(64, 4, AVC_SEATS) || !avc_install(&vector))
		return 2;
	before = avc_answer(1, ends[1], (unsigned char *)&request, sizeof(request));
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
	snprintf(name, sizeof(name), "%s/d", words[1]);
	if (mount("mute", name, "fuse", 0, options) != 0)
		return 2;
	alarm(3); /* the signal ends the wait, and the process */
	after = avc_answer(1, ends[1], (unsigned char *)&request, sizeof(request));
	umount2(name, MNT_DETACH);
	return before && !after ? 0 : 1;
}
