/* Attempts to become somebody else, or to leave files that make the next one somebody else. */
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "probe.h"

/* An id without a place in the sandbox's map does not exist for it. */
static const int unmapped[] = {EINVAL, EOVERFLOW, 0};

static void become_others(int argc, char **argv)
{
    (void)argc, (void)argv;
    gid_t none[] = {0};
    uid_t ids[] = {0, 1, 65534, 100000, getuid() + 1};
    for (size_t i = 0; i < COUNT(ids); i++) {
        uid_t id = ids[i];
        if (id == getuid() || id == getgid())
            continue;
        denied_or(setuid(id), unmapped, "setuid %u", id);
        denied_or(seteuid(id), unmapped, "seteuid %u", id);
        denied_or(setreuid(id, id), unmapped, "setreuid %u", id);
        denied_or(setresuid(id, id, id), unmapped, "setresuid %u", id);
        denied_or(setgid(id), unmapped, "setgid %u", id);
        denied_or(setresgid(id, id, id), unmapped, "setresgid %u", id);
        /* These report no error; they only may not have any effect. */
        setfsuid(id);
        int now = setfsuid(-1);
        errno = EPERM;
        denied(now == (int)id ? 0 : -1, "setfsuid %u", id);
    }
    denied(setgroups(1, none), "setgroups");
    denied(setgroups(0, NULL), "setgroups to none");
}

static void gain_capabilities(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0U, ~0U, ~0U}, {~0U, ~0U, ~0U}}, held[2];
    denied(syscall(SYS_capset, &header, all), "capset all");
    for (int capability = 0; capability <= 40; capability++) {
        int bound = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        denied_or(bound == 1 ? 0 : (errno = EPERM, -1), unmapped, "bounding set %d", capability);
        denied_or(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), unmapped,
                  "ambient %d", capability);
    }
    if (syscall(SYS_capget, &header, held) < 0)
        stuck("capget");
    if (held[0].effective | held[0].permitted | held[0].inheritable | held[1].effective |
        held[1].permitted | held[1].inheritable)
        got("capabilities %08x%08x", held[1].permitted, held[0].permitted);
    denied(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS, 0, 0, 0), "securebits");
    denied_or(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), unmapped, "clear no_new_privs");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        got("new privileges are allowed");
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2)
        got("there is no filter");
}

/* What a program with a setuid bit or file capabilities got by it. Takes the ids it must keep. */
static void keep_identity(int argc, char **argv)
{
    uid_t uid[3];
    gid_t gid[3];
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct held[2] = {{0}};
    if (argc < 2 || getresuid(&uid[0], &uid[1], &uid[2]) || getresgid(&gid[0], &gid[1], &gid[2]) ||
        syscall(SYS_capget, &header, held) < 0)
        stuck("find who this is");
    for (int i = 0; i < 3; i++) {
        if (uid[i] != (uid_t)atoi(argv[0]))
            got("user id %u", uid[i]);
        if (gid[i] != (gid_t)atoi(argv[1]))
            got("group id %u", gid[i]);
    }
    if (held[0].permitted | held[1].permitted)
        got("capabilities %08x%08x", held[1].permitted, held[0].permitted);
    told("still user %u, group %u", uid[1], gid[1]);
}

/* Starts another program with setuid or file capabilities: copies of this one, planted. */
static void run_privileged_copies(int argc, char **argv)
{
    char user[16], group[16];
    snprintf(user, sizeof user, "%u", getuid());
    snprintf(group, sizeof group, "%u", getgid());
    if (argc < 1)
        stuck("find the copy");
    execl(argv[0], argv[0], "keep-identity", user, group, NULL);
    denied(-1, "run %s", argv[0]);
}

static void write_id_maps(int argc, char **argv)
{
    (void)argc, (void)argv;
    /* Where this is allowed the maps of the new namespace can be written. */
    (void)!unshare(CLONE_NEWUSER);
    static const char *const files[] = {"/proc/self/uid_map", "/proc/self/gid_map",
                                        "/proc/1/uid_map", "/proc/1/gid_map",
                                        "/proc/1/setgroups", "/proc/self/setgroups",
                                        "/proc/self/timens_offsets"};
    for (size_t i = 0; i < COUNT(files); i++) {
        int fd = open(files[i], O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            denied_or(fd, absent, "open %s", files[i]);
        else
            denied_or(write(fd, "0 0 1\n", 6), unmapped, "write %s", files[i]);
        close(fd);
    }
}

static void raise_priorities(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct sched_param real_time = {.sched_priority = 1};
    struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    denied(setpriority(PRIO_PROCESS, 0, -20), "setpriority");
    denied(sched_setscheduler(0, SCHED_FIFO, &real_time), "real-time scheduler");
    denied(syscall(SYS_ioprio_set, 1, 0, 1 << 13), "real-time input and output");
    denied(setrlimit(RLIMIT_MEMLOCK, &more), "lock all memory");
    denied(setrlimit(RLIMIT_NICE, &more), "raise the limit of priorities");
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    denied_or(fd < 0 ? fd : write(fd, "-1000", 5), absent, "be spared when memory runs out");
}

/* How each way of making a file setuid went; its host looks at what came of them. */
static void try_bits(const char *folder, const char *name, int way)
{
    char *path = path_in(folder, name);
    mode_t mode = 06777;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, way == 0 ? mode : 0777);
    long result = fd;
    if (way == 1)
        result = chmod(path, mode);
    else if (way == 2)
        result = fchmod(fd, mode);
    else if (way == 3)
        result = syscall(SYS_fchmodat, AT_FDCWD, path, mode);
    else if (way == 4)
        result = syscall(452, AT_FDCWD, path, mode, 0);
    else if (way == 5)
        result = mknod(path_in(folder, "node"), S_IFREG | mode, 0);
    else if (way == 6)
        result = creat(path_in(folder, "created"), mode);
    told("setuid by way %d: %s", way, result < 0 ? strerror(errno) : "done");
    (void)!write(fd, "#!/bin/sh\n", 10);
    close(fd);
}

/* openat2 takes the mode behind a pointer, where no filter can look. */
static void try_openat2(const char *folder)
{
    struct {
        unsigned long long flags, mode, resolve;
    } how = {O_RDWR | O_CREAT | O_CLOEXEC, 06777, 0};
    long fd = syscall(437, AT_FDCWD, path_in(folder, "opened"), &how, sizeof how);
    told("setuid by openat2: %s", fd < 0 ? strerror(errno) : "done");
}

static void give_away(const char *path)
{
    static const uid_t ids[] = {0, 1, 65534};
    for (size_t i = 0; i < COUNT(ids); i++) {
        denied_or(chown(path, ids[i], -1), unmapped, "chown to %u", ids[i]);
        denied_or(chown(path, -1, ids[i]), unmapped, "chgrp to %u", ids[i]);
    }
}

static void try_attributes(const char *path)
{
    /* Version 2, effective, everything permitted. */
    static const unsigned char capabilities[20] = {1, 0, 0, 2, 255, 255, 255, 255};
    static const int unsupported[] = {EOPNOTSUPP, EINVAL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC), immutable = FS_IMMUTABLE_FL, mutable = 0;
    denied_or(setxattr(path, "security.capability", capabilities, sizeof capabilities, 0),
              unsupported, "file capabilities");
    denied_or(setxattr(path, "trusted.probe", "x", 1, 0), unsupported, "a trusted attribute");
    denied_or(setxattr(path, "security.probe", "x", 1, 0), unsupported, "a security label");
    denied_or(ioctl(fd, FS_IOC_SETFLAGS, &immutable), unsupported, "make it immutable");
    /* Else nobody could remove it. */
    (void)ioctl(fd, FS_IOC_SETFLAGS, &mutable);
    close(fd);
}

static void leave_privileged_files(int argc, char **argv)
{
    if (argc < 1)
        stuck("find the folder");
    umask(0);
    for (int way = 0; way < 7; way++) {
        char name[16];
        snprintf(name, sizeof name, "way-%d", way);
        try_bits(argv[0], name, way);
    }
    try_openat2(argv[0]);
    char *path = path_in(argv[0], "way-1");
    if (access(path, F_OK) < 0)
        stuck("make a file in the folder");
    try_attributes(path);
    give_away(path);
}

/* Waits, so that the host can look at who this is. */
static void stay(int argc, char **argv)
{
    (void)argc, (void)argv;
    say("there");
    await_line();
    told("the host has looked");
}

const struct attempt identity_attempts[] = {
    {"become-others", become_others},
    {"gain-capabilities", gain_capabilities},
    {"keep-identity", keep_identity},
    {"run-privileged-copies", run_privileged_copies},
    {"write-id-maps", write_id_maps},
    {"raise-priorities", raise_priorities},
    {"leave-privileged-files", leave_privileged_files},
    {"stay", stay},
    {NULL, NULL},
};
