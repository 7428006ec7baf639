/* The benchmark's client: one process, one thread, system calls and nothing else between.
 *
 *   client open  FILE SECONDS         open(O_RDONLY) + close, over and over
 *   client stat  FILE SECONDS         stat by path
 *   client list  DIRECTORY            one pass of getdents64 over a directory
 *   client photo FILE BUFFER SECONDS  open + read to the end + close, BUFFER bytes a read
 *   client walk  DIRECTORY            stat of every name in a directory of directories
 *   client again FILE BUFFER SECONDS  pread from start to end of a file that stays open, over and over
 *   client once  FILE BUFFER          open + read to the end + close, one time; COUNT is bytes
 *   client first DIRECTORY            open + read of one byte + close of every file in a directory
 *
 * Prints "COUNT NANOSECONDS"; for list and walk COUNT is how many names there were.
 */
#include "calls.h"

static void open_close(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail(path);
	close(fd);
}

static void stat_one(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		fail(path);
}

static char *buffer;
static size_t buffer_bytes;

static long bytes_read;

static void read_whole(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		fail(path);
	while ((got = read(fd, buffer, buffer_bytes)) > 0)
		bytes_read += got;
	if (got < 0)
		fail("read");
	close(fd);
}

static int kept = -1;

static void read_again(const char *path)
{
	ssize_t got;
	off_t at = 0;

	if (kept < 0)
		kept = open(path, O_RDONLY | O_CLOEXEC);
	if (kept < 0)
		fail(path);
	while ((got = pread(kept, buffer, buffer_bytes, at)) > 0)
		at += got;
	if (got < 0)
		fail("pread");
}

static void read_first(int directory, const struct linux_dirent64 *entry)
{
	int fd = openat(directory, entry->d_name, O_RDONLY | O_CLOEXEC);
	char byte;

	if (fd < 0 || pread(fd, &byte, 1, 0) != 1)
		fail(entry->d_name);
	close(fd);
}

static void take_buffer(const char *bytes)
{
	buffer_bytes = strtoul(bytes, NULL, 10);
	buffer = malloc(buffer_bytes);
	if (!buffer)
		fail("malloc");
}

static void repeat(void (*act)(const char *), const char *path, double seconds)
{
	int64_t start = now_ns(), end = start + (int64_t)(seconds * 1e9), now;
	long count = 0;

	do {
		for (int i = 0; i < 16; i++)
			act(path);
		count += 16;
		now = now_ns();
	} while (now < end);
	printf("%ld %lld\n", count, (long long)(now - start));
}

/* Calls each for every name but . and .. ; returns how many there were. */
static long names(int fd, void (*each)(int, const struct linux_dirent64 *))
{
	char mine[1 << 16];
	long count = 0, got;

	while ((got = syscall(SYS_getdents64, fd, mine, sizeof(mine))) > 0)
		for (long at = 0; at < got;) {
			struct linux_dirent64 *entry = (void *)(mine + at);

			at += entry->d_reclen;
			if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
				continue;
			count++;
			if (each)
				each(fd, entry);
		}
	if (got < 0)
		fail("getdents64");
	return count;
}

static void stat_name(int fd, const struct linux_dirent64 *entry)
{
	struct stat st;

	if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		fail(entry->d_name);
}

static long walked;

static void walk_directory(int fd, const struct linux_dirent64 *entry)
{
	int inner = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (inner < 0)
		fail(entry->d_name);
	walked += names(inner, stat_name);
	close(inner);
}

int main(int argc, char **argv)
{
	int64_t start;
	int fd;

	if (argc == 4 && !strcmp(argv[1], "open")) {
		repeat(open_close, argv[2], atof(argv[3]));
	} else if (argc == 4 && !strcmp(argv[1], "stat")) {
		repeat(stat_one, argv[2], atof(argv[3]));
	} else if (argc == 5 && !strcmp(argv[1], "photo")) {
		take_buffer(argv[3]);
		repeat(read_whole, argv[2], atof(argv[4]));
	} else if (argc == 5 && !strcmp(argv[1], "again")) {
		take_buffer(argv[3]);
		repeat(read_again, argv[2], atof(argv[4]));
	} else if (argc == 4 && !strcmp(argv[1], "once")) {
		take_buffer(argv[3]);
		start = now_ns();
		read_whole(argv[2]);
		printf("%ld %lld\n", bytes_read, (long long)(now_ns() - start));
	} else if (argc == 3 && !strcmp(argv[1], "first")) {
		fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			fail(argv[2]);
		start = now_ns();
		long count = names(fd, read_first);
		printf("%ld %lld\n", count, (long long)(now_ns() - start));
	} else if (argc == 3 && (!strcmp(argv[1], "list") || !strcmp(argv[1], "walk"))) {
		start = now_ns();
		fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			fail(argv[2]);
		walked = 0;
		long count = names(fd, argv[1][0] == 'w' ? walk_directory : NULL);
		close(fd);
		printf("%ld %lld\n", argv[1][0] == 'w' ? walked : count, (long long)(now_ns() - start));
	} else {
		fprintf(stderr, "usage: see the head of client.c\n");
		return 2;
	}
	return 0;
}
