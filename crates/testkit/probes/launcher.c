/* Attempts on the program that starts the sandbox, through what it leaves of itself inside. */
#include <dirent.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "probe.h"

static const int busy[] = {ENOENT, EROFS, ETXTBSY, ESRCH, 0};

static void overwrite(const char *path)
{
    denied_or(open(path, O_WRONLY | O_CLOEXEC), busy, "open %s for writing", path);
    denied_or(open(path, O_RDWR | O_CLOEXEC), busy, "open %s for both", path);
    denied_or(truncate(path, 0), busy, "truncate %s", path);
    denied_or(chmod(path, 0777), busy, "chmod %s", path);
    denied_or(chown(path, geteuid(), getegid()), busy, "chown %s", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        denied_or(fd, busy, "open %s", path);
        return;
    }
    char again[64];
    snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
    denied_or(open(again, O_WRONLY | O_CLOEXEC), busy, "reopen %s for writing", path);
    denied_or(fchmod(fd, 0777), busy, "fchmod %s", path);
    denied_or(chmod(again, 0777), busy, "chmod %s as open", path);
    close(fd);
}

/* Takes the paths that lead to the launcher; nothing else may be at stake in the control. */
static void overwrite_the_launcher(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        overwrite(argv[i]);
}

/* The launcher's file may be out of reach by its name, yet be run by it: then the process that
 * runs it has it as its own `exe`. */
static void attack_a_running_copy(const char *path, char *const *words)
{
    char exe[64], target[256] = "", own[256] = "";
    int held_back[2];
    if (pipe(held_back) < 0)
        stuck("make a pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(held_back[0], 0);
        dup2(held_back[1], 3);
        execv(path, words);
        _exit(127);
    }
    snprintf(exe, sizeof exe, "/proc/%d/exe", child);
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    int status = 0;
    /* Until the child runs the other program or has ended; both take a moment at most. */
    while (waitpid(child, &status, WNOHANG) == 0) {
        ssize_t now = readlink(exe, target, sizeof target - 1);
        if (now > 0 && (now != length || memcmp(target, own, now) != 0)) {
            overwrite(exe);
            break;
        }
    }
    told("%s: run as %s", path, *target ? target : "nothing");
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

static void run_the_launcher_again(int argc, char **argv)
{
    char *const words[] = {"agentkernel", "run", "--", "/bin/cat", NULL};
    for (int i = 0; i < argc; i++)
        attack_a_running_copy(argv[i], words);
}

static int exchange(const char *one, const char *other)
{
    return syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 1 << 1);
}

/* Replaces a file in a shared folder by a link to another, and the folder of a second one by a
 * link to another folder, before the launcher writes to them. Whether that did any harm, only
 * the host can tell. Takes the folder and where the links should lead. */
static void redirect_the_report(int argc, char **argv)
{
    if (argc < 3)
        stuck("find the folder and the victims");
    char *file = path_in(argv[0], "report"), *folder = path_in(argv[0], "reports");
    char *link_to_file = path_in(argv[0], "link"), *link_to_folder = path_in(argv[0], "links");
    if (symlink(argv[1], link_to_file) < 0 || symlink(argv[2], link_to_folder) < 0)
        stuck("plant the links");
    /* The report may not be there yet. */
    if (exchange(link_to_file, file) < 0 && rename(link_to_file, file) < 0)
        told("replace the file: %s", strerror(errno));
    if (exchange(link_to_folder, folder) < 0)
        told("replace the folder: %s", strerror(errno));
    told("the links are in place");
}

/* Of a socket that was made elsewhere the name may show, and lead nowhere. */
static void connect_by_name(char *name)
{
    static const int nowhere[] = {ENOENT, ENOTDIR, ECONNREFUSED, 0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    name[strcspn(name, "\n")] = 0;
    size_t length = strlen(name);
    if (length >= sizeof address.sun_path)
        stuck("take the socket's name");
    memcpy(address.sun_path, name, length);
    if (*name == '@')
        address.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + length + (*name != '@');
    denied_or(connect(fd, (struct sockaddr *)&address, size), nowhere, "connect to %s", name);
    close(fd);
}

static void connect_to_the_agent(int argc, char **argv)
{
    (void)argc, (void)argv;
    FILE *sockets = fopen("/proc/net/unix", "r");
    char line[512];
    int count = 0;
    if (!sockets) {
        denied_or(-1, absent, "read the list of sockets");
        return;
    }
    while (fgets(line, sizeof line, sockets)) {
        char *path = strpbrk(line, "/@");
        count++;
        if (path)
            connect_by_name(path);
    }
    fclose(sockets);
    told("%d sockets: none can be had by a name", count - 1);
}

const struct attempt launcher_attempts[] = {
    {"overwrite-the-launcher", overwrite_the_launcher},
    {"run-the-launcher-again", run_the_launcher_again},
    {"redirect-the-report", redirect_the_report},
    {"connect-to-the-agent", connect_to_the_agent},
    {NULL, NULL},
};
