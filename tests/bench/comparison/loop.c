/* System calls in a loop, for the comparison of mounts: one process, one thread.
 *
 *   loop OPERATION DIRECTORY FILES SECONDS [UID...]
 *
 * Works on DIRECTORY/name-00000.jpg and so on, FILES of them in turn. With UIDs (as root) each operation is
 * by the next of them. Prints "COUNT NANOSECONDS OPERATIONS"; of list and long COUNT is names. OPERATIONS
 * includes those before the clock ran, which fill the kernel's caches.
 *
 *   open    open(O_RDONLY), close           absent  stat of a name that is not there
 *   read    open, read to the end, close    list    getdents64 over DIRECTORY
 *   stat    stat                            long    list, and lstat of each name
 *   create  create, write, close, unlink    rename  to another name and back
 *   sync    create, write, fsync, close, unlink
 *   append  open(O_WRONLY|O_APPEND), close  mode   chmod, with another mode each time
 *   reopen, reread: open and read, of files that were opened twice before the clock runs
 */
#include "../calls.h"
#include <sys/fsuid.h>

static const char *directory;
static char path[4096];
static char buffer[1 << 16];

static void name_of(const char *format, long number)
{
	size_t used = (size_t)snprintf(path, sizeof(path), "%s/", directory);

	snprintf(path + used, sizeof(path) - used, format, number);
}

static long open_close(long number)
{
	int fd;

	name_of("name-%05ld.jpg", number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	close(fd);
	return 1;
}

static long open_to_append(long number)
{
	int fd;

	name_of("name-%05ld.jpg", number);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	close(fd);
	return 1;
}

static long set_mode(long number)
{
	static unsigned turn;

	name_of("name-%05ld.jpg", number);
	if (chmod(path, turn++ % 2 ? 0666 : 0664) != 0)
		fail(path);
	return 1;
}

static long open_read(long number)
{
	int fd;

	name_of("name-%05ld.jpg", number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
	close(fd);
	return 1;
}

static long stat_one(long number)
{
	struct stat st;

	name_of("name-%05ld.jpg", number);
	if (stat(path, &st) != 0)
		fail(path);
	return 1;
}

static long stat_absent(long number)
{
	struct stat st;

	name_of("absent-%05ld.jpg", number);
	if (stat(path, &st) == 0 || errno != ENOENT)
		fail(path);
	return 1;
}

static long create(long number, int with_sync)
{
	int fd;

	name_of("new-%05ld.jpg", number);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, buffer, 4096) != 4096 || (with_sync && fsync(fd) != 0))
		fail(path);
	close(fd);
	if (unlink(path) != 0)
		fail(path);
	return 1;
}

static long create_one(long number)
{
	return create(number, 0);
}

static long create_and_sync(long number)
{
	return create(number, 1);
}

static long rename_one(long number)
{
	static char other[sizeof(path)];
	static int moved;

	name_of("moved-%05ld.jpg", number);
	strcpy(other, path);
	name_of("name-%05ld.jpg", number);
	if ((moved ? rename(other, path) : rename(path, other)) != 0)
		fail(path);
	moved = !moved;
	return 1;
}

static long list(int with_stat)
{
	static char entries[1 << 15];
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long names = 0, got;
	struct stat st;

	if (fd < 0)
		fail(directory);
	while ((got = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0)
		for (long at = 0; at < got; names++) {
			struct linux_dirent64 *entry = (void *)(entries + at);

			at += entry->d_reclen;
			if (with_stat && fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
				fail(entry->d_name);
		}
	if (got < 0)
		fail("getdents64");
	close(fd);
	return names;
}

static long list_names(long number)
{
	(void)number;
	return list(0);
}

static long list_long(long number)
{
	(void)number;
	return list(1);
}

/* at_once: operations between two looks at the clock. repeats: on one file before the next. warms: passes over
 * the files before the clock runs; ONE_ACT: a single operation. */
#define ONE_ACT -1
static const struct {
	const char *name;
	long (*act)(long);
	int at_once, repeats, warms;
} operations[] = {
	{"open", open_close, 4, 1, 0},	{"read", open_read, 4, 1, 0},	 {"stat", stat_one, 16, 1, 1},
	{"absent", stat_absent, 16, 1, 1}, {"list", list_names, 1, 1, ONE_ACT}, {"long", list_long, 1, 1, ONE_ACT},
	{"create", create_one, 4, 1, 0}, {"sync", create_and_sync, 1, 1, 0}, {"rename", rename_one, 4, 2, 0},
	{"reopen", open_close, 4, 1, 2}, {"reread", open_read, 4, 1, 2},
	{"append", open_to_append, 4, 1, 0}, {"mode", set_mode, 4, 1, 0},
};

int main(int argc, char **argv)
{
	long files, count = 0, turn = 0, warmed = 0, before;
	int64_t start, end, now;

	if (argc < 5)
		return 2;
	directory = argv[2];
	files = atol(argv[3]);
	for (size_t which = 0; which < sizeof(operations) / sizeof(*operations); which++) {
		if (strcmp(operations[which].name, argv[1]) != 0)
			continue;
		/* What the kernel may keep is kept before the clock runs. */
		before = operations[which].warms == ONE_ACT ? 1 : operations[which].warms * files;
		for (long number = 0; number < before; number++) {
			if (argc > 5)
				setfsuid((uid_t)atol(argv[5 + number % (argc - 5)]));
			warmed += operations[which].act(number % files);
		}
		start = now = now_ns();
		end = start + (int64_t)(atof(argv[4]) * 1e9);
		/* An even number of turns, so that the last renamed file has its name again. */
		while (now < end || turn % operations[which].repeats) {
			for (int i = 0; i < operations[which].at_once; i++, turn++) {
				if (argc > 5)
					setfsuid((uid_t)atol(argv[5 + turn % (argc - 5)]));
				count += operations[which].act(turn / operations[which].repeats % files);
			}
			now = now_ns();
		}
		printf("%ld %lld %ld\n", count, (long long)(now - start), warmed + count);
		return 0;
	}
	return 2;
}
