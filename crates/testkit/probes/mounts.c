/* Attempts to change what is mounted, and to reach what the mounts hide. */
#include <mntent.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "probe.h"

/* From <linux/mount.h>, which can't stand beside <sys/mount.h> in every C library. */
struct attributes {
    uint64_t set, clear, propagation, user_namespace;
};
enum {
    READ_ONLY = 1,
    NO_SETUID = 2,
    TREE_COPY = 1,
    TREE_ALL = 0x8000,
    MOVE_FROM_EMPTY = 4,
    CALL_OPEN_TREE_ATTR = 467,
};

static void mount_types(const char *const *types, const char *options)
{
    char *folder = make_folder();
    for (; *types; types++) {
        denied(mount("none", folder, *types, 0, options), "mount %s", *types);
        denied(mount("none", folder, *types, MS_NOSUID | MS_NODEV | MS_RDONLY, options),
               "mount %s read-only", *types);
    }
}

static void mount_proc_again(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const types[] = {"proc", NULL};
    mount_types(types, NULL);
    denied(mount("proc", "/proc", "proc", 0, NULL), "mount proc on /proc");
    denied(mount("/proc", make_folder(), NULL, MS_BIND | MS_REC, NULL), "bind /proc elsewhere");
}

static void mount_sysfs_again(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const types[] = {"sysfs", "debugfs", "tracefs", "securityfs", NULL};
    mount_types(types, NULL);
}

static void mount_cgroups(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const types[] = {"cgroup2", NULL}, *const first[] = {"cgroup", NULL};
    mount_types(types, NULL);
    mount_types(first, "memory");
    mount_types(first, "none,name=probe");
}

static void mount_others(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const types[] = {"tmpfs", "devpts", "devtmpfs", "mqueue", "ramfs",
                                        "binfmt_misc", "ext4", "fuse", NULL};
    mount_types(types, NULL);
}

static void mount_over(int argc, char **argv)
{
    (void)argc, (void)argv;
    char *folder = make_folder(), *upper = path_in(folder, "upper"), *options;
    char *work = path_in(folder, "work"), *merged = path_in(folder, "merged");
    /* Where this is allowed what the overlay leaves goes with it. */
    (void)!mount("none", folder, "tmpfs", 0, NULL);
    if (mkdir(upper, 0700) || mkdir(work, 0700) || mkdir(merged, 0700))
        stuck("make the folders of an overlay");
    if (asprintf(&options, "lowerdir=/usr,upperdir=%s,workdir=%s", upper, work) < 0)
        stuck("allocate the options");
    denied(mount("overlay", merged, "overlay", 0, options), "mount an overlay");
    denied(mount("/", merged, NULL, MS_BIND, NULL), "bind the root elsewhere");
    denied(mount(folder, "/usr", NULL, MS_BIND, NULL), "bind over /usr");
    denied(mount("/usr", folder, NULL, MS_MOVE, NULL), "move /usr");
}

static void remount(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const places[] = {"/", "/usr", "/etc", "/proc", "/proc/sys", "/probe",
                                         "/dev", "/sys", "/tmp"};
    /* There may be nothing at one of these, which is as good. */
    for (size_t i = 0; i < COUNT(places); i++)
        denied_or(mount(NULL, places[i], NULL, MS_REMOUNT | MS_BIND, NULL), absent, "remount %s",
                  places[i]);
    /* Without MS_BIND it is the file system itself, for everyone: only one that is nobody's. */
    denied(mount(NULL, "/tmp", NULL, MS_REMOUNT, NULL), "remount the file system /tmp");
}

static void change_propagation(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const unsigned long flags[] = {MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE};
    for (size_t i = 0; i < COUNT(flags); i++)
        denied(mount(NULL, "/", NULL, MS_REC | flags[i], NULL), "propagation %lx of /", flags[i]);
}

static void unmount_everything(int argc, char **argv)
{
    (void)argc, (void)argv;
    FILE *mounts = setmntent("/proc/self/mounts", "r");
    struct mntent *entry;
    if (!mounts)
        stuck("read the mounts");
    while ((entry = getmntent(mounts))) {
        denied(umount2(entry->mnt_dir, MNT_DETACH), "detach %s", entry->mnt_dir);
        denied(umount2(entry->mnt_dir, 0), "unmount %s", entry->mnt_dir);
    }
    endmntent(mounts);
}

static void use_the_new_calls(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct attributes writable = {.clear = READ_ONLY | NO_SETUID};
    denied(syscall(SYS_fsopen, "proc", 0), "fsopen proc");
    denied(syscall(SYS_fsopen, "tmpfs", 0), "fsopen tmpfs");
    denied(syscall(SYS_fsconfig, -1, 0, NULL, NULL, 0), "fsconfig");
    denied(syscall(SYS_fsmount, -1, 0, 0), "fsmount");
    denied(syscall(SYS_fspick, AT_FDCWD, "/", 0), "fspick /");
    denied(syscall(SYS_open_tree, AT_FDCWD, "/", TREE_COPY), "open_tree a copy of /");
    denied(syscall(SYS_open_tree, AT_FDCWD, "/", TREE_COPY | TREE_ALL),
           "open_tree a copy of all");
    denied(syscall(CALL_OPEN_TREE_ATTR, AT_FDCWD, "/", TREE_COPY, &writable, sizeof writable),
           "open_tree_attr");
    denied(syscall(SYS_move_mount, -1, "", AT_FDCWD, "/", MOVE_FROM_EMPTY), "move_mount");
    denied(syscall(SYS_mount_setattr, AT_FDCWD, "/usr", 0, &writable, sizeof writable),
           "mount_setattr /usr");
}

static void change_the_root(int argc, char **argv)
{
    (void)argc, (void)argv;
    char *folder = make_folder();
    denied(syscall(SYS_pivot_root, ".", "."), "pivot_root to .");
    denied(syscall(SYS_pivot_root, folder, folder), "pivot_root to a folder");
    denied(chroot("/proc/self/cwd"), "chroot to the working directory");
    denied(chroot(folder), "chroot to a folder");
}

static void make_devices(int argc, char **argv)
{
    static const struct {
        const char *name;
        mode_t type;
        int major, minor;
    } devices[] = {{"disk", S_IFBLK, 254, 0}, {"loop", S_IFBLK, 7, 0},  {"mem", S_IFCHR, 1, 1},
                   {"kmsg", S_IFCHR, 1, 11},  {"null", S_IFCHR, 1, 3},  {"tty", S_IFCHR, 4, 1},
                   {"fuse", S_IFCHR, 10, 229}, {"kvm", S_IFCHR, 10, 232}};
    static const int fixed[] = {EROFS, 0};
    for (int at = -1; at < argc; at++) {
        const char *folder = at < 0 ? make_folder() : argv[at];
        for (size_t i = 0; i < COUNT(devices); i++) {
            char *path = path_in(folder, devices[i].name);
            dev_t device = makedev(devices[i].major, devices[i].minor);
            denied_or(mknod(path, devices[i].type | 0666, device), fixed, "mknod %s", path);
            denied_or(mknodat(AT_FDCWD, path, devices[i].type | 04777, device), fixed,
                      "mknodat %s", path);
        }
    }
}

static void open_by_handle(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct {
        struct file_handle head;
        unsigned char bytes[MAX_HANDLE_SZ];
    } handle = {.head = {.handle_bytes = MAX_HANDLE_SZ}};
    int mount_id, folder = open(make_folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        stuck("open a folder");
    /* Without its own handle a forged one does: that of the root of most file systems. */
    if (name_to_handle_at(folder, "", &handle.head, &mount_id, AT_EMPTY_PATH) < 0) {
        handle.head.handle_bytes = 8;
        handle.head.handle_type = 1;
        memcpy(handle.bytes, "\2\0\0\0\0\0\0\0", 8);
    }
    denied(open_by_handle_at(folder, &handle.head, O_RDONLY), "open_by_handle_at here");
    denied(open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY), "open_by_handle_at ahead");
    /* Process and namespace files have handles of their own, behind numbers that are no files. */
    denied(open_by_handle_at(-10002, &handle.head, O_RDONLY), "open_by_handle_at of a process");
    denied(open_by_handle_at(-10003, &handle.head, O_RDONLY), "open_by_handle_at of a namespace");
}

const struct attempt mount_attempts[] = {
    {"mount-proc-again", mount_proc_again},
    {"mount-sysfs-again", mount_sysfs_again},
    {"mount-cgroup-file-systems", mount_cgroups},
    {"mount-other-file-systems", mount_others},
    {"mount-over-what-is-there", mount_over},
    {"remount-writable", remount},
    {"change-mount-propagation", change_propagation},
    {"unmount-the-masks", unmount_everything},
    {"use-the-new-mount-calls", use_the_new_calls},
    {"change-the-root", change_the_root},
    {"make-device-nodes", make_devices},
    {"open-files-by-handle", open_by_handle},
    {NULL, NULL},
};
