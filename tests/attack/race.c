/* One side of a race for a file's bytes, at C's speed; racing.py starts several of them at once.
 *
 *   race writer MODE COUNTERS LAYOUTS COUNT HEADER PAUSE_US PATH   moves the secret about until told to stop
 *   race toucher COUNTERS SECRETS PATH                             maps the raw file and touches its pages
 *   race bumper COUNTERS PATH                                      gives the file new times when asked to
 *   race reader COUNTERS SECRETS DONOR ENTERED SECONDS LEAKS BUMPED PATH TECHNIQUE...
 *
 * COUNTERS is a file that all of them map. LAYOUTS holds COUNT images of equal size; in each the
 * secret lies elsewhere in the first HEADER bytes. SECRETS: lines of hexadecimal digits. DONOR: a
 * file of the reader's own in the mount, target of copy_file_range ("-": none). The reader ends
 * after ENTERED passes in which the writer was seen to make progress, after SECONDS, or once it has
 * seen LEAKS secrets (0: never), and says in JSON what it saw. BUMPED 1: it asks the bumper for new
 * times before each open.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (4u << 20)
#define PAGE 4096u
#define WAIT_US 4000
#define ASKED_S 0.1
#define VISITED_S 0.03
#define TOUCHES 8
#define SECRETS 64
#define ERRNOS 160

struct counters {
    volatile uint64_t moves, stop, asked, bumped, touched, opened;
};

static struct counters *shared;
static unsigned char *secret[SECRETS];
static size_t secret_size[SECRETS];
static int secrets;
static unsigned char *buffer, *held;
static size_t held_size;
static sigjmp_buf on_bus;
static volatile sig_atomic_t guarded;

static void die(const char *what)
{
    fprintf(stderr, "race: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Until a counter is no longer what it was, for so long at most: no side takes the processor from another
 * by asking. The kernel looks at 32 bits. */
static void wait_for_change(volatile uint64_t *counter, uint64_t was, double seconds)
{
    uint64_t ns = seconds > 0 ? seconds * 1e9 : 0;
    struct timespec limit = {ns / 1000000000, ns % 1000000000};
    syscall(SYS_futex, counter, FUTEX_WAIT, (uint32_t)was, &limit, NULL, 0);
}

static void add_one(volatile uint64_t *counter)
{
    ++*counter;
    syscall(SYS_futex, counter, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void map_counters(const char *path)
{
    int fd = open(path, O_RDWR);
    if (fd < 0)
        die(path);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        die("mmap of the counters");
    close(fd);
}

static void load_secrets(const char *path)
{
    char line[1024];
    FILE *file = fopen(path, "r");
    if (file == NULL)
        die(path);
    while (secrets < SECRETS && fgets(line, sizeof line, file) != NULL) {
        size_t size = strcspn(line, "\n") / 2;
        secret[secrets] = malloc(size);
        for (size_t i = 0; i < size; i++)
            sscanf(line + 2 * i, "%2hhx", &secret[secrets][i]);
        secret_size[secrets++] = size;
    }
    fclose(file);
}

/* The offset of a secret in the bytes, -1 if there is none. */
static long find_secret(const unsigned char *data, size_t size)
{
    for (int i = 0; i < secrets; i++) {
        const unsigned char *at = memmem(data, size, secret[i], secret_size[i]);
        if (at != NULL)
            return at - data;
    }
    return -1;
}

/* Copies mapped bytes into the buffer. EFAULT where touching them is SIGBUS: the file has shrunk,
 * or the daemon gave no bytes. */
static ssize_t touch(const unsigned char *map, size_t size)
{
    if (sigsetjmp(on_bus, 1) != 0) {
        guarded = 0;
        errno = EFAULT;
        return -1;
    }
    guarded = 1;
    memcpy(buffer, map, size);
    guarded = 0;
    return size;
}

/* ------------------------------------------------------------------ writer, toucher, bumper */

static unsigned char *load(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0)
        die(path);
    *size = st.st_size;
    unsigned char *data = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (data == MAP_FAILED)
        die("mmap of the layouts");
    close(fd);
    return data;
}

static int open_patiently(const char *path, int flags)
{
    int fd = open(path, flags, 0644);
    if (fd < 0)
        die(path);
    return fd;
}

static void write_all(int fd, const unsigned char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, data + done, size - done, done);
        if (n < 0)
            die("pwrite");
        done += n;
    }
}

static unsigned char *map_writable(const char *path, size_t size)
{
    int fd = open_patiently(path, O_RDWR);
    unsigned char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        die("mmap for writing");
    close(fd); /* from here on only the mapping is left */
    return map;
}

static int writer(char **arg)
{
    const char *mode = arg[0], *path = arg[6];
    size_t all, count = atoi(arg[3]), header = atoi(arg[4]);
    unsigned pause = atoi(arg[5]);
    map_counters(arg[1]);
    const unsigned char *layouts = load(arg[2], &all), *layout;
    size_t size = all / count;
    int fd = -1;
    unsigned char *map = NULL;
    char other[4096];

    snprintf(other, sizeof other, "%s.new", path);
    if (strcmp(mode, "map") == 0)
        map = map_writable(path, size);
    else if (strcmp(mode, "swap") != 0 && strcmp(mode, "visit") != 0)
        fd = open_patiently(path, O_RDWR);
    for (uint64_t i = 0; !shared->stop; i++) {
        layout = layouts + size * (i % count);
        if (strcmp(mode, "map") == 0) { /* the file is open nowhere; no time stamp changes */
            memcpy(map, layout, header);
        } else if (strcmp(mode, "write") == 0) {
            write_all(fd, layout, header);
        } else if (strcmp(mode, "grow") == 0) { /* each layout with more, or fewer, pages behind it */
            write_all(fd, layout, size);
            if (ftruncate(fd, size + PAGE * (i % 7)) != 0)
                die("ftruncate");
        } else if (strcmp(mode, "swap") == 0) { /* a new file in the place of the old */
            fd = open_patiently(other, O_WRONLY | O_CREAT | O_TRUNC);
            write_all(fd, layout, size);
            close(fd);
            if (rename(other, path) != 0)
                die("rename");
        } else if (strcmp(mode, "visit") == 0) { /* comes, moves it a few times, and goes */
            uint64_t opened = shared->opened; /* soon after the reader got in, or while it tries to */
            wait_for_change(&shared->opened, opened, VISITED_S);
            usleep(pause * (i % 8) / 4);
            map = map_writable(path, size);
            for (int turn = 0; turn < 20; turn++) {
                memcpy(map, layouts + size * ((i + turn) % count), header);
                add_one(&shared->moves);
                usleep(5);
            }
            munmap(map, size);
        }
        add_one(&shared->moves);
        if (strcmp(mode, "visit") != 0)
            usleep(pause);
    }
    printf("{\"moves\": %llu}\n", (unsigned long long)shared->moves);
    return 0;
}

static int toucher(char **arg)
{
    uint64_t seen = 0, opened = 0;
    map_counters(arg[0]);
    load_secrets(arg[1]);
    while (!shared->stop) {
        struct stat st;
        int fd = open(arg[2], O_RDONLY);
        if (fd < 0 && (errno == ENOENT || errno == ESTALE)) {
            usleep(20);
            continue; /* just swapped */
        }
        if (fd < 0 || fstat(fd, &st) != 0)
            die(arg[2]);
        opened++;
        unsigned char *map[2];
        for (int one = 0; one < 2; one++) {
            map[one] = mmap(NULL, st.st_size, PROT_READ, one ? MAP_PRIVATE : MAP_SHARED, fd, 0);
            if (map[one] == MAP_FAILED)
                die("mmap for touching");
        }
        close(fd);
        for (int turn = 0; turn < TOUCHES && !shared->stop; turn++) {
            for (int one = 0; one < 2; one++)
                if (touch(map[one], st.st_size) > 0)
                    seen += find_secret(buffer, st.st_size) >= 0;
            shared->touched = seen;
            usleep(2000);
        }
        for (int one = 0; one < 2; one++)
            munmap(map[one], st.st_size);
    }
    printf("{\"seen\": %llu, \"opened\": %llu}\n", (unsigned long long)seen, (unsigned long long)opened);
    return 0;
}

static int bumper(char **arg)
{
    map_counters(arg[0]);
    while (!shared->stop) {
        uint64_t asked = shared->asked;
        if (asked == shared->bumped) {
            wait_for_change(&shared->asked, asked, ASKED_S);
            continue;
        }
        if (utimensat(AT_FDCWD, arg[1], NULL, 0) != 0 && errno != ENOENT)
            die(arg[1]);
        add_one(&shared->bumped);
    }
    printf("{\"bumped\": %llu}\n", (unsigned long long)shared->bumped);
    return 0;
}

/* ------------------------------------------------------------------------------- reader */

/* In the middle of a pass: until the writer has moved the secret once more, or WAIT_US. */
static void let_writer_work(uint64_t before)
{
    double until = now() + WAIT_US / 1e6;
    for (double left; shared->moves == before && (left = until - now()) > 0;)
        wait_for_change(&shared->moves, before, left);
}

static ssize_t by_read(int fd, size_t size, uint64_t moves)
{
    size_t done = 0;
    lseek(fd, 0, SEEK_SET);
    while (done < size) {
        ssize_t n = read(fd, buffer + done, done ? size - done : PAGE);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        if (done == 0)
            let_writer_work(moves);
        done += n;
    }
    return done;
}

/* Pages from the last to the first. */
static ssize_t by_pread(int fd, size_t size, uint64_t moves)
{
    memset(buffer, 0, size);
    for (size_t at = (size - 1) / PAGE * PAGE;; at -= PAGE) {
        if (pread(fd, buffer + at, at + PAGE <= size ? PAGE : size - at, at) < 0)
            return -1;
        if (at == 0)
            return size;
        if (at <= 2 * PAGE)
            let_writer_work(moves);
    }
}

static ssize_t by_readahead(int fd, size_t size, uint64_t moves)
{
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0 || readahead(fd, 0, size) != 0)
        return -1;
    let_writer_work(moves);
    return pread(fd, buffer, size, 0);
}

static ssize_t by_mmap(int fd, size_t size, uint64_t moves, int flags)
{
    unsigned char *map = mmap(NULL, size, PROT_READ, flags, fd, 0);
    if (map == MAP_FAILED)
        return -1;
    ssize_t n = touch(map, size < PAGE ? size : PAGE);
    if (n > 0) {
        let_writer_work(moves);
        n = touch(map, size);
    }
    munmap(map, size);
    return n;
}

/* A mapping that was made in an earlier pass and has outlived its descriptor. */
static ssize_t by_held(int fd, size_t size, uint64_t moves)
{
    ssize_t n = 0;
    if (held != NULL) {
        let_writer_work(moves);
        n = touch(held, held_size);
        munmap(held, held_size);
    }
    held = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    held_size = size;
    if (held == MAP_FAILED) {
        held = NULL;
        return -1;
    }
    return n;
}

static ssize_t by_splice(int fd, size_t size, uint64_t moves)
{
    int ends[2];
    size_t done = 0;
    off_t at = 0;
    ssize_t n = 0;
    if (pipe(ends) != 0)
        die("pipe");
    while (done < size) {
        n = splice(fd, &at, ends[1], NULL, size - done < 65536 ? size - done : 65536, 0);
        if (n <= 0)
            break;
        if (done == 0)
            let_writer_work(moves); /* the pages are in the pipe, not yet copied */
        for (ssize_t got = 0; got < n;) {
            ssize_t m = read(ends[0], buffer + done, n - got);
            if (m <= 0)
                die("read from the pipe");
            got += m;
            done += m;
        }
    }
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return n < 0 ? -1 : (ssize_t)done;
}

static ssize_t by_sendfile(int fd, size_t size, uint64_t moves)
{
    static int memory = -1;
    off_t at = 0;
    if (memory < 0)
        memory = memfd_create("sink", 0);
    if (ftruncate(memory, 0) != 0 || lseek(memory, 0, SEEK_SET) != 0)
        die("memfd");
    if (sendfile(memory, fd, &at, PAGE) < 0)
        return -1;
    let_writer_work(moves);
    while ((size_t)at < size) {
        ssize_t n = sendfile(memory, fd, &at, size - at);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
    }
    return pread(memory, buffer, at, 0);
}

static ssize_t by_direct(const char *path, size_t size, uint64_t moves)
{
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0)
        return -1;
    size = (size + PAGE - 1) / PAGE * PAGE;
    if (pread(fd, buffer, PAGE, 0) >= 0) {
        let_writer_work(moves);
        n = pread(fd, buffer, size, 0);
    }
    int error = errno;
    close(fd);
    errno = error;
    return n;
}

static ssize_t by_copy_range(int fd, size_t size, uint64_t moves, const char *donor)
{
    static int target = -1;
    off_t from = 0, to = 0;
    if (target < 0)
        target = open_patiently(donor, O_RDWR | O_CREAT | O_TRUNC);
    let_writer_work(moves);
    while ((size_t)from < size) {
        ssize_t n = copy_file_range(fd, &from, target, &to, size - from, 0);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
    }
    return pread(target, buffer, from, 0);
}

static const char *const techniques[] = {
    "read", "pread", "readahead", "mmap-shared", "mmap-private", "held", "splice", "sendfile", "direct",
    "copy_file_range",
};
#define TECHNIQUES (sizeof techniques / sizeof *techniques)

static ssize_t pass(unsigned how, int fd, const char *path, const char *donor, size_t size, uint64_t moves)
{
    switch (how) {
    case 0: return by_read(fd, size, moves);
    case 1: return by_pread(fd, size, moves);
    case 2: return by_readahead(fd, size, moves);
    case 3: return by_mmap(fd, size, moves, MAP_SHARED);
    case 4: return by_mmap(fd, size, moves, MAP_PRIVATE);
    case 5: return by_held(fd, size, moves);
    case 6: return by_splice(fd, size, moves);
    case 7: return by_sendfile(fd, size, moves);
    case 8: return by_direct(path, size, moves);
    default: return by_copy_range(fd, size, moves, donor);
    }
}

/* changed: opens between which and the one before the file was written or got new times. */
struct tally {
    uint64_t passes, changed, entered, leaked, failed[ERRNOS];
};

static void print_errors(const uint64_t *failed)
{
    const char *comma = "";
    printf("{");
    for (int i = 0; i < ERRNOS; i++)
        if (failed[i]) {
            printf("%s\"%s\": %llu", comma, strerrorname_np(i), (unsigned long long)failed[i]);
            comma = ", ";
        }
    printf("}");
}

static void print_tallies(const struct tally *opens, const struct tally *by, const char *wanted)
{
    const char *comma = "";
    printf("{\"opens\": {\"passes\": %llu, \"changed\": %llu, \"failed\": ",
           (unsigned long long)opens->passes, (unsigned long long)opens->changed);
    print_errors(opens->failed);
    printf("}, \"techniques\": {");
    for (unsigned t = 0; t < TECHNIQUES; t++) {
        if (!wanted[t])
            continue;
        printf("%s\"%s\": {\"passes\": %llu, \"entered\": %llu, \"leaked\": %llu, \"failed\": ", comma,
               techniques[t], (unsigned long long)by[t].passes, (unsigned long long)by[t].entered,
               (unsigned long long)by[t].leaked);
        print_errors(by[t].failed);
        printf("}");
        comma = ", ";
    }
    printf("}}\n");
}

/* New times for the file, so that no earlier copy of it is current. */
static void ask_for_new_times(void)
{
    uint64_t before = shared->bumped;
    double until = now() + 10;
    add_one(&shared->asked);
    while (shared->bumped == before) {
        if (now() > until)
            die("waiting for new times");
        wait_for_change(&shared->bumped, before, ASKED_S);
    }
}

static int reader(char **arg)
{
    static struct tally opens, by[TECHNIQUES];
    char wanted[TECHNIQUES] = {0};
    const char *donor = arg[2], *path = arg[7];
    uint64_t target = atoll(arg[3]), leaks = atoll(arg[5]), entered = 0, leaked = 0, opened_at = 0;
    double until = now() + atof(arg[4]);

    map_counters(arg[0]);
    load_secrets(arg[1]);
    for (char **name = arg + 8; *name != NULL; name++)
        for (unsigned t = 0; t < TECHNIQUES; t++)
            wanted[t] |= strcmp(*name, techniques[t]) == 0;
    while (entered < target && now() < until && (leaks == 0 || leaked < leaks)) {
        struct stat st;
        uint64_t before_open = shared->moves;
        if (atoi(arg[6]))
            ask_for_new_times();
        int fd = open(path, O_RDONLY), first = 1;
        if (fd < 0) {
            opens.failed[errno < ERRNOS ? errno : 0]++;
            usleep(20);
            continue;
        }
        opens.passes++;
        add_one(&shared->opened);
        /* Of two moves since, one began after the open before. */
        opens.changed += atoi(arg[6]) || before_open >= opened_at + 2;
        opened_at = shared->moves;
        if (fstat(fd, &st) != 0)
            die("fstat");
        size_t size = (size_t)st.st_size < BUFFER ? (size_t)st.st_size : BUFFER;
        for (unsigned t = 0; t < TECHNIQUES && size > 0; t++) {
            if (!wanted[t])
                continue;
            uint64_t before = shared->moves;
            ssize_t n = pass(t, fd, path, donor, size, before);
            int error = errno;
            /* Entered: the secret was moved while this pass was under way (for the first one of
               an open, while the daemon made ready what is read). */
            int in_window = shared->moves > (first ? before_open : before);
            first = 0;
            by[t].entered += in_window;
            entered += in_window;
            if (n < 0) {
                by[t].failed[error < ERRNOS ? error : 0]++;
                continue;
            }
            by[t].passes++;
            if (find_secret(buffer, n) >= 0) {
                by[t].leaked++;
                leaked++;
            }
        }
        close(fd);
    }
    print_tallies(&opens, by, wanted);
    return 0;
}

static void bus(int number)
{
    if (!guarded)
        _exit(128 + number);
    siglongjmp(on_bus, 1);
}

int main(int argc, char **argv)
{
    signal(SIGBUS, bus);
    if (posix_memalign((void **)&buffer, PAGE, BUFFER + PAGE) != 0)
        die("memory");
    if (argc == 9 && strcmp(argv[1], "writer") == 0)
        return writer(argv + 2);
    if (argc == 5 && strcmp(argv[1], "toucher") == 0)
        return toucher(argv + 2);
    if (argc == 4 && strcmp(argv[1], "bumper") == 0)
        return bumper(argv + 2);
    if (argc >= 11 && strcmp(argv[1], "reader") == 0)
        return reader(argv + 2);
    fprintf(stderr, "race: wrong arguments\n");
    return 2;
}
