/* Attempts to leave the namespaces, by joining others or by making new ones. */
#include <dirent.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static const struct {
    const char *name;
    uint64_t flag;
} kinds[] = {{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS},   {"pid", CLONE_NEWPID},
             {"net", CLONE_NEWNET},   {"ipc", CLONE_NEWIPC},  {"uts", CLONE_NEWUTS},
             {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME}};

static void join_namespaces_of(const char *process)
{
    for (size_t i = 0; i < COUNT(kinds); i++) {
        char path[128];
        snprintf(path, sizeof path, "/proc/%s/ns/%s", process, kinds[i].name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            denied_or(fd, absent, "open %s", path);
            continue;
        }
        denied(setns(fd, 0), "setns to %s", path);
        denied(setns(fd, (int)kinds[i].flag), "setns to %s by kind", path);
        close(fd);
    }
}

static void enter_a_namespace(int argc, char **argv)
{
    (void)argc, (void)argv;
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    if (!processes)
        stuck("open /proc");
    while ((entry = readdir(processes)))
        if (*entry->d_name >= '0' && *entry->d_name <= '9')
            join_namespaces_of(entry->d_name);
    closedir(processes);
    join_namespaces_of("self");
    int init = syscall(SYS_pidfd_open, 1, 0);
    denied(setns(init, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET), "setns to process 1");
}

static void unshare_one(void *flag)
{
    _exit(unshare(*(const int *)flag) < 0 ? errno : 0);
}

static void unshare_namespaces(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        int flag = (int)kinds[i].flag, both = flag | CLONE_NEWUSER | CLONE_FS;
        int status = in_child(unshare_one, &flag);
        errno = WEXITSTATUS(status);
        denied(status ? -1 : 0, "unshare %s", kinds[i].name);
        status = in_child(unshare_one, &both);
        errno = WEXITSTATUS(status);
        denied(status ? -1 : 0, "unshare %s with user", kinds[i].name);
    }
}

/* The child has nothing to do: that it exists is what the attempt is about. */
static long child_of(long result)
{
    if (result == 0)
        _exit(0);
    if (result > 0)
        waitpid((pid_t)result, NULL, __WALL);
    return result;
}

static void clone_into_namespaces(int argc, char **argv)
{
    (void)argc, (void)argv;
    fflush(stdout);
    for (size_t i = 0; i < COUNT(kinds); i++) {
        /* The lowest byte of clone's flags is the signal, where CLONE_NEWTIME has no room. */
        if (kinds[i].flag == CLONE_NEWTIME)
            continue;
        unsigned long flags = kinds[i].flag | SIGCHLD, high = flags | 1UL << 32;
        denied(child_of(syscall(SYS_clone, flags, 0, 0, 0, 0)), "clone with %s", kinds[i].name);
        denied(child_of(syscall(SYS_clone, high, 0, 0, 0, 0)), "clone with %s and a high bit",
               kinds[i].name);
    }
}

static void clone3_into_namespaces(int argc, char **argv)
{
    (void)argc, (void)argv;
    fflush(stdout);
    for (size_t i = 0; i < COUNT(kinds); i++) {
        struct clone_args arguments = {.flags = kinds[i].flag, .exit_signal = SIGCHLD};
        long child = child_of(syscall(SYS_clone3, &arguments, sizeof arguments));
        denied(child, "clone3 with %s", kinds[i].name);
    }
}

static void nest_a_user_namespace(int argc, char **argv)
{
    (void)argc, (void)argv;
    char map[64];
    snprintf(map, sizeof map, "0 %u 1", geteuid());
    denied(unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare user and mnt");
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    /* The file can be opened by anyone; only writing it does something. */
    denied_or(fd < 0 ? fd : write(fd, map, strlen(map)), absent, "become root in the map");
    denied(mount("none", make_folder(), "tmpfs", 0, NULL), "mount as the new root");
}

static ino_t inode_of(int fd)
{
    struct stat file;
    return fstat(fd, &file) < 0 ? 0 : file.st_ino;
}

/* Asking for the owner of one's own namespaces is fine as long as that is one's own as well. */
static void ask_for_owner(int fd, const char *path)
{
    int owner = ioctl(fd, NS_GET_USERNS);
    int own = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    if (owner >= 0 && inode_of(owner) == inode_of(own))
        told("owner of %s: one's own", path);
    else
        denied(owner, "owner of %s", path);
}

static void climb_to_parents(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const paths[] = {"/proc/self/ns/user", "/proc/self/ns/pid",
                                        "/proc/self/ns/pid_for_children", "/proc/self/ns/mnt",
                                        "/proc/self/ns/net"};
    static const int other_kind[] = {EINVAL, ENOTTY, 0};
    /* Where this is allowed the parent of pid_for_children is within reach. */
    if (unshare(CLONE_NEWPID) < 0)
        (void)!unshare(CLONE_NEWUSER | CLONE_NEWPID);
    for (size_t i = 0; i < COUNT(paths); i++) {
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            denied_or(fd, absent, "open %s", paths[i]);
            continue;
        }
        char answer[64];
        denied_or(ioctl(fd, NS_GET_PARENT), other_kind, "parent of %s", paths[i]);
        ask_for_owner(fd, paths[i]);
        denied_or(ioctl(fd, _IOR(0xb7, 11, char[16]), answer), other_kind, "mounts after %s",
                  paths[i]);
        denied_or(ioctl(fd, _IOR(0xb7, 12, char[16]), answer), other_kind, "mounts before %s",
                  paths[i]);
        close(fd);
    }
}

const struct attempt namespace_attempts[] = {
    {"enter-a-namespace", enter_a_namespace},
    {"unshare-namespaces", unshare_namespaces},
    {"clone-into-namespaces", clone_into_namespaces},
    {"clone3-into-namespaces", clone3_into_namespaces},
    {"nest-a-user-namespace", nest_a_user_namespace},
    {"climb-to-parent-namespaces", climb_to_parents},
    {NULL, NULL},
};
