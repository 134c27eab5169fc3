/* Attempts on files: to read what is hidden, to change what is only lent, to climb out of what
 * is shared. */
#include <linux/fs.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "probe.h"

static void read_file(const char *path)
{
    char bytes[256];
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        denied_or(fd, absent, "open %s", path);
        return;
    }
    ssize_t length = read(fd, bytes, sizeof bytes);
    if (length > 0)
        got("%zd bytes of %s", length, path);
    else
        denied_or(length < 0 ? -1 : 0, absent, "read %s", path);
    close(fd);
}

/* By its name, and by what else may lead to another root directory. */
static void read_files(int argc, char **argv)
{
    static const char *const ways[] = {"", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/..",
                                       "/proc/1/cwd", "/proc/1/root/..",
                                       "../../../../../../../../../..",
                                       "/proc/self/cwd/../../../../../../../../.."};
    for (int i = 0; i < argc; i++)
        for (size_t way = 0; way < COUNT(ways); way++)
            read_file(path_in(ways[way], argv[i]));
}

/* Reads files, which must not be there, from here and from above here. */
static void climb_out(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        char above[256] = "", *path;
        for (int steps = 0; steps < 12; steps++) {
            path = path_in(above[0] ? above : ".", argv[i]);
            read_file(path);
            strcat(above, above[0] ? "/.." : "..");
        }
    }
}

/* Stays in a folder while its host moves that out of what it shared. */
static void climb_out_of_a_moved_folder(int argc, char **argv)
{
    if (argc < 2 || chdir(argv[0]) < 0)
        stuck("enter the folder");
    int held_open = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    say("there");
    await_line();
    climb_out(argc - 1, argv + 1);
    for (int i = 1; i < argc; i++) {
        char *path = path_in("..", argv[i]);
        denied_or(openat(held_open, path, O_RDONLY), absent, "open %s from the folder", path);
    }
}

/* Overwrites what it can; whether that did any harm, only its host can tell. */
static void overwrite_files(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC;
        int fd = open(argv[i], flags, 0666);
        if (fd >= 0 && write(fd, "overwritten", 11) == 11)
            told("%s: written", argv[i]);
        else
            told("%s: %s", argv[i], strerror(errno));
        close(fd);
    }
}

static void change_file(const char *folder, const char *file)
{
    static const int fixed[] = {EROFS, 0};
    struct timespec times[2] = {{0}};
    denied_or(open(file, O_WRONLY), fixed, "open for writing");
    denied_or(open(file, O_RDWR | O_APPEND), fixed, "open for appending");
    denied_or(truncate(file, 0), fixed, "truncate");
    denied_or(chmod(file, 0777), fixed, "chmod");
    denied_or(chown(file, geteuid(), getegid()), fixed, "chown");
    denied_or(utimensat(AT_FDCWD, file, times, 0), fixed, "set times");
    denied_or(setxattr(file, "user.probe", "x", 1, 0), fixed, "set an attribute");
    denied_or(rename(file, path_in(folder, "renamed")), fixed, "rename");
    denied_or(unlink(file), fixed, "unlink");
    denied_or(open(folder, O_TMPFILE | O_RDWR, 0600), fixed, "make a nameless file");
    denied_or(open(path_in(folder, "new"), O_WRONLY | O_CREAT, 0600), fixed, "make a file");
    denied_or(mkdir(path_in(folder, "folder"), 0700), fixed, "make a folder");
    denied_or(symlink("/", path_in(folder, "link")), fixed, "make a link");
    denied_or(link(file, path_in(folder, "second")), fixed, "make a hard link");
    denied_or(mknod(path_in(folder, "pipe"), S_IFIFO | 0600, 0), fixed, "make a pipe");
}

/* Takes a read-only folder that has a file `file`. */
static void change_a_read_only_folder(int argc, char **argv)
{
    static const int fixed[] = {EROFS, EBADF, EINVAL, 0};
    if (argc < 1)
        stuck("find the folder");
    char *file = path_in(argv[0], "file"), again[64];
    int fd = open(file, O_RDONLY | O_CLOEXEC), flags = FS_NODUMP_FL;
    if (fd < 0)
        stuck("open the file for reading");
    change_file(argv[0], file);
    snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
    denied_or(open(again, O_WRONLY), fixed, "reopen for writing");
    denied_or(truncate(again, 0), fixed, "truncate what is open");
    denied_or(chmod(again, 0777), fixed, "chmod what is open");
    denied_or(fchmod(fd, 0777), fixed, "fchmod");
    denied_or(ftruncate(fd, 0), fixed, "ftruncate");
    denied_or(fallocate(fd, 0, 0, 4096), fixed, "fallocate");
    denied_or(ioctl(fd, FS_IOC_SETFLAGS, &flags), fixed, "set flags");
    void *page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    denied_or(page == MAP_FAILED ? -1 : 0, fixed, "map for writing");
}

/* Changes everything about `folder/file` by every way there is, where all of it may work. */
static void change_a_lent_folder(int argc, char **argv)
{
    if (argc < 1)
        stuck("find the folder");
    char *file = path_in(argv[0], "file");
    int fd = open(file, O_RDWR | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED
                        : mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        stuck("map the file");
    memcpy(page, "gone", 4);
    if (msync(page, 4, MS_SYNC) < 0 || ftruncate(fd, 2) < 0 || fchmod(fd, 0600) < 0)
        stuck("change the file");
    if (rename(file, path_in(argv[0], "renamed")) < 0 || mkdir(file, 0700) < 0)
        stuck("replace the file by a folder");
    told("everything was changed, here");
}

static void link_in(int argc, char **argv)
{
    static const int apart[] = {EXDEV, ENOENT, EROFS, 0};
    if (argc < 2)
        stuck("find the folder and a file");
    for (int i = 1; i < argc; i++) {
        char *to = path_in(argv[0], "linked"), through[64];
        int fd = open(argv[i], O_PATH | O_CLOEXEC);
        snprintf(through, sizeof through, "/proc/self/fd/%d", fd);
        denied_or(link(argv[i], to), apart, "link %s", argv[i]);
        denied_or(rename(argv[i], to), apart, "rename %s", argv[i]);
        if (fd < 0)
            continue;
        denied_or(linkat(fd, "", AT_FDCWD, to, AT_EMPTY_PATH), apart, "link %s as open", argv[i]);
        denied_or(linkat(AT_FDCWD, through, AT_FDCWD, to, AT_SYMLINK_FOLLOW), apart,
                  "link %s through /proc", argv[i]);
        close(fd);
    }
}

static void open_planted_devices(int argc, char **argv)
{
    static const int modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
    for (int i = 0; i < argc; i++)
        for (size_t mode = 0; mode < COUNT(modes); mode++) {
            int flags = modes[mode] | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
            denied(open(argv[i], flags), "open %s", argv[i]);
        }
}

/* Puts another program into files that will run as their owner. A write takes the setuid bit away,
 * but one through a mapping may not; whether any is left, only the host can tell. */
static void rewrite_privileged_programs(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        int fd = open(argv[i], O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            told("open %s: %s", argv[i], strerror(errno));
            continue;
        }
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED) {
            told("map %s: %s", argv[i], strerror(errno));
        } else {
            memcpy(page, "overwritten", 11);
            msync(page, 4096, MS_SYNC);
            told("%s: written by a mapping", argv[i]);
        }
        close(fd);
    }
}

/* Takes a folder of the host's and a name: somebody there opens the file of that name. */
static void watch_files(int argc, char **argv)
{
    char bytes[4096];
    int events = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    struct pollfd wait = {.fd = events, .events = POLLIN};
    if (argc < 2)
        stuck("find the folder and the name");
    if (events < 0 || inotify_add_watch(events, argv[0], IN_OPEN | IN_ACCESS) < 0) {
        denied_or(-1, absent, "watch %s", argv[0]);
        say("there");
        await_line();
        return;
    }
    say("there");
    await_line();
    /* What happened before the line is there already. */
    ssize_t length = poll(&wait, 1, 0) > 0 ? read(events, bytes, sizeof bytes) : 0;
    if (length > 0 && memmem(bytes, (size_t)length, argv[1], strlen(argv[1])))
        got("%s was opened on the host", argv[1]);
    else
        told("nothing of %s was seen", argv[1]);
}

/* Marks of the overlay's own that lead a look-up elsewhere. */
static void redirect_an_overlay(int argc, char **argv)
{
    if (argc < 2)
        stuck("find the folder and the secret's name");
    static const char *const marks[] = {"user.overlay.redirect", "trusted.overlay.redirect"};
    static const char *const places[] = {"/", "/..", "..", "/../..", "/proc/1/root"};
    for (size_t mark = 0; mark < COUNT(marks); mark++)
        for (size_t place = 0; place < COUNT(places); place++) {
            char name[32];
            snprintf(name, sizeof name, "redirected-%zu-%zu", mark, place);
            char *folder = path_in(argv[0], name);
            if (mkdir(folder, 0755) < 0)
                stuck("make a folder");
            (void)!setxattr(folder, marks[mark], places[place], strlen(places[place]), 0);
            if (rename(folder, path_in(argv[0], "moved")) == 0)
                folder = path_in(argv[0], "moved");
            read_file(path_in(folder, argv[1]));
            (void)!rename(folder, path_in(argv[0], name));
        }
}

const struct attempt file_attempts[] = {
    {"read-files", read_files},
    {"climb-out", climb_out},
    {"climb-out-of-a-moved-folder", climb_out_of_a_moved_folder},
    {"overwrite-files", overwrite_files},
    {"change-a-read-only-folder", change_a_read_only_folder},
    {"change-a-lent-folder", change_a_lent_folder},
    {"link-files-in", link_in},
    {"open-planted-devices", open_planted_devices},
    {"rewrite-privileged-programs", rewrite_privileged_programs},
    {"watch-files", watch_files},
    {"redirect-an-overlay", redirect_an_overlay},
    {NULL, NULL},
};
