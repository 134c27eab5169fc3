/* Attempts to push input into the terminal of the caller, or to reach it at all. */
#include <dirent.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "probe.h"

/* The filter may look at 64 bits of a request of which the kernel uses 32. */
static const unsigned long high_bits[] = {0, 1UL << 32, 0xdeadbeefUL << 32, 1UL << 63};

static void push(int fd, const char *name, const int *errors)
{
    char byte = 'x', paste = 3;
    for (size_t i = 0; i < COUNT(high_bits); i++) {
        long result = syscall(SYS_ioctl, fd, TIOCSTI | high_bits[i], &byte);
        denied_or(result, errors, "TIOCSTI on %s, high bits %zu", name, i);
        result = syscall(SYS_ioctl, fd, TIOCLINUX | high_bits[i], &paste);
        denied_or(result, errors, "TIOCLINUX on %s, high bits %zu", name, i);
    }
}

/* One terminal is as good as another for the filter: here one of the sandbox's own, on which
 * nothing but the filter refuses TIOCSTI. */
static void push_into_own_terminal(int argc, char **argv)
{
    (void)argc, (void)argv;
    int control = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (control < 0 || unlockpt(control) < 0) {
        denied_or(-1, absent, "open a terminal");
        return;
    }
    int terminal = open(ptsname(control), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0)
        stuck("open the terminal's other side");
    char byte = 'x';
    (void)!setsid();
    (void)!ioctl(terminal, TIOCSCTTY, 0);
    for (size_t i = 0; i < COUNT(high_bits); i++)
        denied(syscall(SYS_ioctl, terminal, TIOCSTI | high_bits[i], &byte),
               "TIOCSTI, high bits %zu", i);
    /* The kernel itself knows no TIOCLINUX here, unlike on a console. */
    char paste = 3;
    for (size_t i = 0; i < COUNT(high_bits); i++)
        denied(syscall(SYS_ioctl, terminal, TIOCLINUX | high_bits[i], &paste),
               "TIOCLINUX, high bits %zu", i);
}

static void steal_the_console(int argc, char **argv)
{
    (void)argc, (void)argv;
    int control = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (control < 0 || unlockpt(control) < 0) {
        denied_or(-1, absent, "open a terminal");
        return;
    }
    int terminal = open(ptsname(control), O_RDWR | O_NOCTTY | O_CLOEXEC);
    denied(ioctl(terminal, TIOCCONS), "TIOCCONS");
    denied(ioctl(terminal, TIOCVHANGUP), "TIOCVHANGUP");
}

static void push_into_terminal(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int no_terminal[] = {ENOTTY, EINVAL, EIO, ENXIO, EBADF, ENOENT, 0};
    static const char *const paths[] = {"/dev/tty", "/dev/console", "/dev/stdin", "/dev/stdout",
                                        "/dev/stderr", "/dev/tty0", "/dev/tty1", "/dev/ttyS0"};
    static const char *const streams[] = {"input", "output", "errors"};
    for (int fd = 0; fd < 3; fd++)
        push(fd, streams[fd], no_terminal);
    for (size_t i = 0; i < COUNT(paths); i++) {
        int fd = open(paths[i], O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
            denied_or(fd, absent, "open %s", paths[i]);
            continue;
        }
        push(fd, paths[i], no_terminal);
        close(fd);
    }
}

static void find_a_terminal(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int no_terminal[] = {ENOTTY, ENXIO, EIO, ENOENT, EBADF, 0};
    /* A session that gives its terminal up is hung up on. */
    signal(SIGHUP, SIG_IGN);
    for (int fd = 0; fd < 3; fd++) {
        if (isatty(fd))
            got("descriptor %d is a terminal", fd);
        denied_or(ioctl(fd, TIOCSCTTY, 1), no_terminal, "take %d as one's own", fd);
        denied_or(ioctl(fd, TIOCNOTTY, 0), no_terminal, "give %d up", fd);
        denied_or(tcgetpgrp(fd), no_terminal, "foreground of %d", fd);
    }
    denied_or(open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC), no_terminal, "open /dev/tty");
    DIR *folder = opendir("/dev/pts");
    struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        if (*entry->d_name >= '0' && *entry->d_name <= '9')
            got("the terminal /dev/pts/%s", entry->d_name);
    if (folder)
        closedir(folder);
}

/* Takes the device and inode numbers of the caller's terminal: the one in here is another. */
static void find_the_callers_terminal(int argc, char **argv)
{
    static const char *const paths[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty",
                                        "/dev/console"};
    if (argc < 2)
        stuck("find the terminal's numbers");
    unsigned long device = strtoul(argv[0], NULL, 10), inode = strtoul(argv[1], NULL, 10);
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct stat file;
        int fd = open(paths[i], O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &file) < 0) {
            told("%s: %s", paths[i], strerror(errno));
            continue;
        }
        if (file.st_dev == device && file.st_ino == inode)
            got("%s is the caller's terminal", paths[i]);
        else
            told("%s is another", paths[i]);
        close(fd);
    }
}

/* Leaves the terminal in a state in which its user could neither read nor write. */
static void spoil_the_terminal(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct winsize size = {.ws_row = 3, .ws_col = 5};
    struct termios mode;
    if (tcgetattr(0, &mode) < 0) {
        told("there is no terminal: %s", strerror(errno));
        return;
    }
    mode.c_lflag = 0;
    mode.c_iflag = IGNCR;
    mode.c_oflag = 0;
    mode.c_cc[VINTR] = 'q';
    if (tcsetattr(0, TCSANOW, &mode) < 0 || ioctl(0, TIOCSWINSZ, &size) < 0)
        stuck("spoil the terminal");
    told("the terminal here is spoilt");
}

const struct attempt terminal_attempts[] = {
    {"push-into-own-terminal", push_into_own_terminal},
    {"push-into-a-terminal", push_into_terminal},
    {"steal-the-console", steal_the_console},
    {"find-a-terminal", find_a_terminal},
    {"find-the-callers-terminal", find_the_callers_terminal},
    {"spoil-the-terminal", spoil_the_terminal},
    {NULL, NULL},
};
