/* Opens the same names in several directories by turns, and prints how long each took.
 *
 *   turns BYTES DIRECTORY UID [DIRECTORY UID ...]
 *
 * Each name of the first directory is opened in every one of them, as that directory's uid, read up to
 * BYTES, 1 MiB a read, and closed. Prints a line of nanoseconds for each name, one number for each directory.
 * The directory that begins is another one for each name. Names are in no order.
 */
#include "calls.h"
#include <linux/securebits.h>
#include <sys/prctl.h>

#define MOST 8
#define NAMES 4096
#define BUFFER (1 << 20)

static char buffer[BUFFER];
static char names[NAMES][256];

/* An app's own mount admits only processes that have its uid and gid in every place. */
static void become(uid_t uid)
{
	if (setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		fail("setresuid");
}

static int64_t one(int directory, uid_t uid, const char *name, long bytes)
{
	int64_t start;
	ssize_t got = 1;
	int fd;

	become(uid);
	start = now_ns();
	fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(name);
	for (long left = bytes; left > 0 && got > 0; left -= got) {
		got = read(fd, buffer, left < BUFFER ? (size_t)left : BUFFER);
		if (got < 0)
			fail(name);
	}
	close(fd);
	return now_ns() - start;
}

static int list(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int count = 0;

	if (!directory)
		fail(path);
	while (count < NAMES && (entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			snprintf(names[count++], sizeof(names[0]), "%s", entry->d_name);
	closedir(directory);
	return count;
}

int main(int argc, char **argv)
{
	int fds[MOST], targets = (argc - 2) / 2, count;
	int64_t took[MOST];

	if (argc < 4 || argc % 2 || targets > MOST) {
		fprintf(stderr, "usage: see the head of turns.c\n");
		return 2;
	}
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP))
		fail("prctl");
	for (int i = 0; i < targets; i++) {
		become((uid_t)atoi(argv[3 + 2 * i]));
		fds[i] = open(argv[2 + 2 * i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fds[i] < 0)
			fail(argv[2 + 2 * i]);
	}
	become((uid_t)atoi(argv[3]));
	count = list(argv[2]);
	for (int i = 0; i < count; i++) {
		for (int j = 0; j < targets; j++) {
			int at = (i + j) % targets;

			took[at] = one(fds[at], (uid_t)atoi(argv[3 + 2 * at]), names[i], atol(argv[1]));
		}
		for (int j = 0; j < targets; j++)
			printf("%lld%c", (long long)took[j], j + 1 < targets ? ' ' : '\n');
	}
	return 0;
}
