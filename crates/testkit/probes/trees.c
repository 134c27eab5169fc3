/* Attempts on the trees of files by which the kernel shows itself: /proc, /sys and /dev. */
#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "probe.h"

static long tried;

/* Files of a process change that process; other attempts are about those of the others. */
static int belongs_to_a_process(const char *path)
{
    if (strncmp(path, "/proc/", 6) != 0)
        return 0;
    const char *name = path + 6;
    return (*name >= '0' && *name <= '9') || strncmp(name, "self", 4) == 0 ||
           strncmp(name, "thread-self", 11) == 0;
}

static int try_to_write(const char *path, const struct stat *file, int kind, struct FTW *where)
{
    (void)where;
    if (belongs_to_a_process(path) || kind == FTW_SL || kind == FTW_NS)
        return 0;
    tried++;
    if (S_ISREG(file->st_mode)) {
        int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) {
            got("%s can be opened for writing", path);
            close(fd);
        }
    } else if (S_ISDIR(file->st_mode) && access(path, W_OK) == 0) {
        got("%s can be filled", path);
    }
    return 0;
}

static void write_kernel_settings(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (nftw(argv[i], try_to_write, 32, FTW_PHYS) < 0)
            told("walk %s: %s", argv[i], strerror(errno));
    told("%ld files and folders: none can be written", tried);
}

static int is_harmless(const struct stat *device)
{
    static const int memory[] = {3, 5, 7, 8, 9};
    unsigned kind = major(device->st_rdev), number = minor(device->st_rdev);
    if (!S_ISCHR(device->st_mode))
        return 0;
    for (size_t i = 0; i < COUNT(memory); i++)
        if (kind == 1 && number == (unsigned)memory[i])
            return 1;
    /* /dev/tty, /dev/ptmx, and terminals, whose attempts are elsewhere. */
    return (kind == 5 && (number == 0 || number == 2)) || kind == 136;
}

/* Opening these for writing changes nothing yet, so that the control is harmless as well. */
static void set_a_host_program(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const settings[] = {
        "/proc/sys/kernel/core_pattern",  "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",       "/proc/sys/kernel/poweroff_cmd",
        "/proc/sys/vm/panic_on_oom",      "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",            "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/ksm/run",         "/sys/power/state",
        "/sys/fs/cgroup/release_agent",   "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/rdma/release_agent", "/sys/fs/cgroup/systemd/release_agent",
        "/sys/fs/cgroup/cgroup.procs",
    };
    for (size_t i = 0; i < COUNT(settings); i++) {
        struct stat cover;
        int fd = open(settings[i], O_WRONLY | O_CLOEXEC);
        /* What is covered by /dev/null can be opened, and that is all. */
        if (fd >= 0 && fstat(fd, &cover) == 0 && is_harmless(&cover))
            told("%s is covered", settings[i]);
        else
            denied_or(fd, absent, "open %s", settings[i]);
    }
}

static void read_hidden_kernel_files(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const files[] = {
        "/proc/kcore",       "/proc/kmsg",        "/proc/keys",       "/proc/timer_list",
        "/proc/sched_debug", "/proc/latency_stats", "/proc/timer_stats", "/proc/kpagecount",
        "/proc/kpageflags",  "/proc/kpagecgroup", "/proc/vmallocinfo", "/proc/slabinfo",
        "/proc/pagetypeinfo", "/proc/sys/kernel/cad_pid", "/sys/firmware/acpi/tables/DSDT",
        "/sys/kernel/debug/sleep_time", "/sys/kernel/security/lsm", "/sys/kernel/notes",
    };
    char bytes[256];
    for (size_t i = 0; i < COUNT(files); i++) {
        int fd = open(files[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
            denied_or(fd, absent, "open %s", files[i]);
            continue;
        }
        ssize_t length = read(fd, bytes, sizeof bytes);
        if (length > 0)
            got("%zd bytes of %s", length, files[i]);
        else
            told("%s is empty", files[i]);
        close(fd);
    }
}

static int try_device(const char *path, const struct stat *file, int kind, struct FTW *where)
{
    (void)kind, (void)where;
    static const int modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
    if (!S_ISCHR(file->st_mode) && !S_ISBLK(file->st_mode))
        return 0;
    tried++;
    if (is_harmless(file))
        return 0;
    for (size_t i = 0; i < COUNT(modes); i++)
        denied_or(open(path, modes[i] | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), absent, "open %s",
                  path);
    return 0;
}

static void open_host_devices(int argc, char **argv)
{
    /* Only such that opening them does nothing: a watchdog would wait for its next meal. */
    static const char *const names[] = {"mem", "kmem", "port", "kmsg", "kvm", "fuse", "vda",
                                        "sda", "nvme0n1", "loop0", "loop-control", "vsock",
                                        "mapper/control", "net/tun", "tty0", "tty1", "console",
                                        "userfaultfd", "btrfs-control", "dri/card0"};
    for (int i = 0; i < argc; i++)
        nftw(argv[i], try_device, 32, FTW_PHYS);
    told("%ld devices in all: none but memory's and terminals' opens", tried);
    for (size_t i = 0; i < COUNT(names); i++) {
        char *path = path_in("/dev", names[i]);
        struct stat file;
        if (stat(path, &file) == 0 && is_harmless(&file))
            continue;
        denied_or(open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), absent, "open %s",
                  path);
    }
}

const struct attempt tree_attempts[] = {
    {"write-kernel-settings", write_kernel_settings},
    {"set-a-host-program", set_a_host_program},
    {"read-hidden-kernel-files", read_hidden_kernel_files},
    {"open-host-devices", open_host_devices},
    {NULL, NULL},
};
