/* Attempts to use the machine up. Each stops by itself well before a healthy machine suffers:
 * how much it asks for is its first argument. */
#include <linux/aio_abi.h>
#include <pthread.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe.h"

#define MIB (1L << 20)

static long wanted(int argc, char **argv)
{
    long count = argc > 0 ? atol(argv[0]) : 0;
    if (count <= 0)
        stuck("find how much to ask for");
    return count;
}

/* Holds on to everything until whoever started this has seen that the machine is well. */
static void stay_full(long reached, long asked, const char *of)
{
    int error = errno;
    if (reached >= asked)
        got("%ld %s", reached, of);
    else
        told("%s after %ld %s", strerror(error), reached, of);
    say("full");
    await_line();
}

static void fork_bomb(int argc, char **argv)
{
    long asked = wanted(argc, argv), count;
    pid_t *children = calloc(asked, sizeof *children);
    fflush(stdout);
    for (count = 0; count < asked; count++) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0)
            for (;;)
                pause();
        children[count] = child;
    }
    stay_full(count, asked, "processes");
    while (count-- > 0)
        kill(children[count], SIGKILL);
}

static void *wait_forever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void thread_bomb(int argc, char **argv)
{
    long asked = wanted(argc, argv), count;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (count = 0; count < asked; count++) {
        pthread_t thread;
        errno = pthread_create(&thread, &small, wait_forever, NULL);
        if (errno)
            break;
    }
    stay_full(count, asked, "threads");
}

static long touch_memory(long mebibytes)
{
    for (long count = 0; count < mebibytes; count += 16) {
        void *piece = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0);
        if (piece == MAP_FAILED)
            return count;
        memset(piece, 1, 16 * MIB);
    }
    return mebibytes;
}

static void hog_memory(int argc, char **argv)
{
    long asked = wanted(argc, argv), reached = touch_memory(asked);
    stay_full(reached, asked, "MiB");
}

static void hog_memory_by_many(int argc, char **argv)
{
    long asked = wanted(argc, argv), total = 0, reached;
    pid_t children[8];
    int done[2];
    if (pipe(done) < 0)
        stuck("make a pipe");
    fflush(stdout);
    for (int i = 0; i < 8; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            reached = touch_memory(asked / 8);
            (void)!write(done[1], &reached, sizeof reached);
            for (;;)
                pause();
        }
    }
    close(done[1]);
    /* A child that was killed says nothing, and its end of the pipe closes. */
    for (int i = 0; i < 8 && read(done[0], &reached, sizeof reached) == sizeof reached; i++)
        total += reached;
    errno = ENOMEM;
    stay_full(total, asked, "MiB in all");
    for (int i = 0; i < 8; i++)
        if (children[i] > 0)
            kill(children[i], SIGKILL);
}

static void hog_memory_files(int argc, char **argv)
{
    static char piece[MIB];
    long asked = wanted(argc, argv), reached;
    int file = syscall(SYS_memfd_create, "probe", 0);
    if (file < 0)
        stuck("make a memory file");
    signal(SIGXFSZ, SIG_IGN);
    memset(piece, 1, sizeof piece);
    for (reached = 0; reached < asked; reached++)
        if (write(file, piece, sizeof piece) != sizeof piece)
            break;
    stay_full(reached, asked, "MiB");
}

static void hog_shared_memory(int argc, char **argv)
{
    long asked = wanted(argc, argv), reached;
    for (reached = 0; reached < asked; reached += 64) {
        int segment = shmget(IPC_PRIVATE, 64 * MIB, 0600);
        void *at = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);
        if (at == (void *)-1)
            break;
        memset(at, 1, 64 * MIB);
        shmctl(segment, IPC_RMID, NULL);
    }
    stay_full(reached, asked, "MiB");
}

static long fill_folder(const char *folder, long mebibytes)
{
    static char piece[MIB];
    long count = 0;
    char *path = path_in(folder, "filler");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        told("%s: %s", folder, strerror(errno));
        return 0;
    }
    while (count < mebibytes && write(fd, piece, sizeof piece) == sizeof piece)
        count++;
    told("%s: %ld MiB, then %s", folder, count, strerror(errno));
    close(fd);
    return count;
}

/* Fills each folder; all of them together may take no more than the first argument in MiB, and
 * a tenth. */
static void fill_disks(int argc, char **argv)
{
    long allowed = wanted(argc, argv), total = 0;
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 1; i < argc; i++)
        total += fill_folder(argv[i], 3072 - total);
    if (total > allowed + allowed / 10)
        got("%ld MiB of disk", total);
    say("full");
    await_line();
}

static void fill_with_files(int argc, char **argv)
{
    long asked = wanted(argc, argv), count;
    if (argc < 2 || chdir(argv[1]) < 0)
        stuck("enter the folder");
    for (count = 0; count < asked; count++) {
        char name[32];
        snprintf(name, sizeof name, "%ld", count);
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
        close(fd);
    }
    stay_full(count, asked, "files");
}

static void hog_descriptors(int argc, char **argv)
{
    long asked = wanted(argc, argv), count;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (count = 0; count < asked; count++)
        if (open("/dev/null", O_RDONLY) < 0)
            break;
    stay_full(count, asked, "descriptors");
}

static void hog_inotify(int argc, char **argv)
{
    long asked = wanted(argc, argv), count;
    for (count = 0; count < asked; count++)
        if (inotify_init1(IN_CLOEXEC) < 0)
            break;
    stay_full(count, asked, "inotify instances");
}

/* The kernel has a number of these for everyone together, fs.aio-max-nr. */
static void hog_asynchronous_io(int argc, char **argv)
{
    long asked = wanted(argc, argv), count;
    for (count = 0; count < asked; count += 512) {
        aio_context_t context = 0;
        if (syscall(SYS_io_setup, 512, &context) < 0)
            break;
    }
    stay_full(count, asked, "asynchronous requests");
}

static long open_many(long most)
{
    long count;
    for (count = 0; count < most; count++)
        if (open("/dev/null", O_RDONLY) < 0)
            break;
    return count;
}

/* The kernel has a table of open files for everyone together, fs.file-max; one process can't
 * have that many. */
static void hog_the_file_table(int argc, char **argv)
{
    long asked = wanted(argc, argv), total = 0, reached;
    int children = 0;
    pid_t all[40];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    fflush(stdout);
    while (children < (int)COUNT(all) && total < asked) {
        int done[2];
        if (pipe(done) < 0)
            break;
        all[children] = fork();
        if (all[children] == 0) {
            reached = open_many(asked - total);
            (void)!write(done[1], &reached, sizeof reached);
            for (;;)
                pause();
        }
        close(done[1]);
        if (all[children] < 0)
            break;
        children++;
        /* One that is killed closes its end without a word. */
        if (read(done[0], &reached, sizeof reached) != sizeof reached)
            break;
        close(done[0]);
        total += reached;
    }
    errno = EMFILE;
    stay_full(total, asked, "open files in all");
    while (children-- > 0)
        kill(all[children], SIGKILL);
}

enum daemon {
    QUIET,
    LOUD,
    STOPPED,
    HOPPING,
    DAEMONS,
};

static void be_daemon(enum daemon kind)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (kind == QUIET)
        for (int fd = 0; fd < 3; fd++)
            close(fd);
    if (kind == STOPPED)
        raise(SIGSTOP);
    /* Never the same process for long, so that a list of them is out of date at once. */
    for (int hop = 0; kind == HOPPING && hop < 100000; hop++)
        if (fork() > 0)
            _exit(0);
    for (;;)
        pause();
}

/* Leaves daemons behind: they are known to their host by this command line. */
static void leave_daemons(int argc, char **argv)
{
    if (argc < 2)
        stuck("find the word and what to do then");
    fflush(stdout);
    for (enum daemon kind = 0; kind < DAEMONS; kind++) {
        pid_t child = fork();
        if (child == 0) {
            setsid();
            if (fork() == 0)
                be_daemon(kind);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    told("%d daemons are left", DAEMONS);
    if (strcmp(argv[1], "leave") == 0)
        return;
    say("held: they stay");
    for (;;)
        pause();
}

static void crash_here(void *folder)
{
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_CORE, &most) < 0 && getrlimit(RLIMIT_CORE, &most) == 0) {
        most.rlim_cur = most.rlim_max;
        setrlimit(RLIMIT_CORE, &most);
    }
    if (chdir(folder) < 0)
        _exit(1);
    *(volatile int *)8 = 1;
}

/* With no core to be had at all, a pipe to a program of the host's is still served. */
static void crash_without_core(void *folder)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    if (chdir(folder) < 0)
        _exit(1);
    *(volatile int *)8 = 1;
}

static void crash(int argc, char **argv)
{
    static void (*const ways[])(void *) = {crash_here, crash_without_core};
    if (argc < 1)
        stuck("find the folder");
    for (size_t i = 0; i < COUNT(ways); i++) {
        int status = in_child(ways[i], argv[0]);
        if (!WIFSIGNALED(status))
            stuck("crash");
        if (WCOREDUMP(status))
            got("a core was written, way %zu", i);
        else
            told("died of signal %d without a core", WTERMSIG(status));
    }
}

const struct attempt exhaustion_attempts[] = {
    {"fork-bomb", fork_bomb},
    {"thread-bomb", thread_bomb},
    {"hog-memory", hog_memory},
    {"hog-memory-by-many", hog_memory_by_many},
    {"hog-memory-files", hog_memory_files},
    {"hog-shared-memory", hog_shared_memory},
    {"fill-disks", fill_disks},
    {"fill-with-files", fill_with_files},
    {"hog-descriptors", hog_descriptors},
    {"hog-inotify", hog_inotify},
    {"hog-asynchronous-io", hog_asynchronous_io},
    {"hog-the-file-table", hog_the_file_table},
    {"leave-daemons", leave_daemons},
    {"crash", crash},
    {NULL, NULL},
};
