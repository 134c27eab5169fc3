/* A program that tries to break out of where it runs, one attempt at a time.
 *
 *     probe [--throwaway] ATTEMPT [ARGUMENT...]
 *
 * Its last line of output is `held: WHAT THE KERNEL SAID`, `ESCAPED: WHAT IT GOT` or
 * `skipped: WHY`. Anything else means that the attempt was not made. With --throwaway it first
 * enters namespaces of its own, so that an attempt that succeeds there leaves the machine alone. */
#include <sched.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe.h"

const int absent[] = {ENOENT, ENOTDIR, ELOOP, ENXIO, ENODEV, EROFS, 0};
const int nobody[] = {ESRCH, ENOENT, 0};

static const struct attempt *const themes[] = {
    file_attempts, process_attempts, mount_attempts, namespace_attempts, tree_attempts,
    kernel_attempts, abi_attempts, descriptor_attempts, terminal_attempts, network_attempts,
    full_network_attempts, identity_attempts, exhaustion_attempts, launcher_attempts, host_roles,
};

/* A list of findings in one line, cut where it gets too long to read. */
struct findings {
    char text[4096];
    size_t length;
    int count;
};

static struct findings taken, refusals;

static void add(struct findings *to, const char *format, va_list arguments)
{
    size_t room = sizeof to->text - to->length;
    to->count++;
    if (room < 200)
        return;
    const char *joint = to->length ? "; " : "";
    to->length += snprintf(to->text + to->length, room, "%s", joint);
    int length = vsnprintf(to->text + to->length, 190, format, arguments);
    to->length += length < 190 ? length : 189;
}

void got(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(&taken, format, arguments);
    va_end(arguments);
}

void told(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(&refusals, format, arguments);
    va_end(arguments);
}

static int is_among(int error, const int *errors)
{
    for (; *errors; errors++)
        if (error == *errors)
            return 1;
    return 0;
}

static void judge(long result, int error, const int *errors, const char *what)
{
    static const int wall[] = {EPERM, EACCES, ENOSYS, 0};
    if (result >= 0)
        got("%s: it worked", what);
    else if (is_among(error, wall) || is_among(error, errors))
        told("%s: %s", what, strerror(error));
    else
        got("%s: the kernel got as far as: %s", what, strerror(error));
}

void denied(long result, const char *format, ...)
{
    static const int none[] = {0};
    int error = errno;
    char what[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    judge(result, error, none, what);
}

void denied_or(long result, const int *errors, const char *format, ...)
{
    int error = errno;
    char what[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    judge(result, error, errors, what);
}

void skip(const char *why)
{
    printf("skipped: %s\n", why);
    exit(2);
}

void stuck(const char *step)
{
    printf("stuck: %s: %s\n", step, strerror(errno));
    exit(3);
}

void say(const char *line)
{
    printf("%s\n", line);
    fflush(stdout);
}

void await_line(void)
{
    char byte;
    do {
        if (read(0, &byte, 1) != 1)
            stuck("wait for a line of input");
    } while (byte != '\n');
}

char *path_in(const char *folder, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        stuck("allocate a path");
    return path;
}

char *make_folder(void)
{
    const char *temp = getenv("TMPDIR");
    char *path = path_in(temp ? temp : "/tmp", "probe-XXXXXX");
    if (!mkdtemp(path))
        stuck("make a folder");
    return path;
}

int in_child(void (*part)(void *), void *argument)
{
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        stuck("fork");
    if (child == 0) {
        part(argument);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        stuck("wait for a child");
    return status;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        stuck(path);
    close(fd);
}

static void enter_throwaway_namespaces(void)
{
    int others = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (uid != 0) {
        char map[64];
        if (unshare(CLONE_NEWUSER) < 0)
            stuck("enter a user namespace");
        snprintf(map, sizeof map, "0 %u 1", uid);
        write_file("/proc/self/uid_map", map);
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", gid);
        write_file("/proc/self/gid_map", map);
    }
    if (unshare(others) < 0)
        stuck("enter throwaway namespaces");
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        stuck("make the mounts private");
}

static const struct attempt *find(const char *name)
{
    for (size_t i = 0; i < COUNT(themes); i++)
        for (const struct attempt *attempt = themes[i]; attempt->name; attempt++)
            if (strcmp(attempt->name, name) == 0)
                return attempt;
    errno = EINVAL;
    stuck(name);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--throwaway") == 0) {
        enter_throwaway_namespaces();
        argc--, argv++;
    }
    if (argc < 2)
        stuck("find the name of an attempt");
    find(argv[1])->run(argc - 2, argv + 2);
    if (taken.count) {
        printf("ESCAPED: %s (%d in all)\n", taken.text, taken.count);
        return 1;
    }
    if (!refusals.count)
        stuck("find anything that was refused");
    printf("held: %s (%d in all)\n", refusals.text, refusals.count);
    return 0;
}
