/* Attempts to use descriptors that the caller of the sandbox had open. */
#include <arpa/inet.h>
#include <dirent.h>
#include <linux/nsfs.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "probe.h"

/* No test gives a socket to those who ask: one would be agentkernel's own. */
static int is_stream(const struct stat *file)
{
    return S_ISFIFO(file->st_mode) ||
           (S_ISCHR(file->st_mode) && file->st_rdev == makedev(1, 3)) ||
           (S_ISCHR(file->st_mode) && major(file->st_rdev) == 136);
}

static void judge_descriptor(int fd)
{
    struct stat file;
    char path[64], target[256] = "";
    if (fstat(fd, &file) < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    (void)!readlink(path, target, sizeof target - 1);
    if (fd <= 2 && is_stream(&file))
        told("%d is %s", fd, target);
    else
        got("%d is %s", fd, target);
}

/* Without /proc, so that nothing can be missed; the probe itself has no more than three open. */
static void find_open_descriptors(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int fd = 0; fd < 1 << 16; fd++)
        judge_descriptor(fd);
}

/* A pipe can be reopened from its other end; it is not a file that anyone else has. */
static void reopen(int stream, int mode)
{
    char path[64], byte;
    struct stat file;
    snprintf(path, sizeof path, "/proc/self/fd/%d", stream);
    int fd = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        denied_or(fd, absent, "reopen %d", stream);
        return;
    }
    if (fstat(fd, &file) < 0 || !is_stream(&file))
        got("reopened %d, which is no stream", stream);
    else
        told("reopened %d, a stream", stream);
    if (S_ISREG(file.st_mode) && mode != O_RDONLY)
        (void)!pwrite(fd, "overwritten", 11, 0);
    else if (S_ISREG(file.st_mode))
        (void)!read(fd, &byte, 1);
    close(fd);
}

static void reopen_streams(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
    for (int stream = 0; stream <= 2; stream++)
        for (size_t i = 0; i < COUNT(modes); i++)
            reopen(stream, modes[i]);
}

static void read_back_own_output(int argc, char **argv)
{
    (void)argc, (void)argv;
    char bytes[256] = "";
    int fd = open("/proc/self/fd/1", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        denied_or(fd, absent, "reopen the output");
        return;
    }
    ssize_t length = read(fd, bytes, sizeof bytes - 1);
    if (length > 0)
        got("%zd bytes that others wrote", length);
    else
        told("nothing was in the output");
}

/* `1` is the number of the descriptor, the rest are names below it. */
static void use_a_folder_descriptor(int argc, char **argv)
{
    static const int no_folder[] = {ENOTDIR, EBADF, ENOENT, 0};
    int fd = argc > 0 ? atoi(argv[0]) : -1;
    char through[64];
    snprintf(through, sizeof through, "/proc/self/fd/%d/.", fd);
    denied_or(open(through, O_RDONLY), no_folder, "open %s", through);
    for (int i = 1; i < argc; i++) {
        denied_or(openat(fd, argv[i], O_RDONLY), no_folder, "open %s below", argv[i]);
        denied_or(openat(fd, path_in("..", argv[i]), O_RDONLY), no_folder, "open %s above",
                  argv[i]);
    }
    denied_or(openat(fd, ".", O_RDONLY), no_folder, "open the folder");
    denied_or(fchdir(fd), no_folder, "enter the folder");
}

static void join_by_input(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int no_namespace[] = {ENOTTY, 0};
    denied(setns(0, 0), "setns to the input");
    denied_or(ioctl(0, NS_GET_NSTYPE), no_namespace, "ask for the input's kind");
    denied_or(ioctl(0, NS_GET_USERNS), no_namespace, "ask for the input's owner");
}

/* A socket keeps the network in which it was made, whoever has it now. Takes the address and port
 * of someone else in that network. */
static void reconnect_the_input(int argc, char **argv)
{
    static const int no_socket[] = {ENOTSOCK, EBADF, EAFNOSUPPORT, EINVAL, ENETUNREACH,
                                    ECONNREFUSED, EISCONN, EPIPE, 0};
    struct sockaddr nobody_else = {.sa_family = AF_UNSPEC};
    struct sockaddr_in other = {.sin_family = AF_INET};
    if (argc < 2 || inet_pton(AF_INET, argv[0], &other.sin_addr) != 1)
        stuck("find the address and the port");
    other.sin_port = htons(atoi(argv[1]));
    for (int fd = 0; fd < 3; fd++) {
        (void)!connect(fd, &nobody_else, sizeof nobody_else);
        denied_or(connect(fd, (struct sockaddr *)&other, sizeof other), no_socket,
                  "connect %d to %s:%s", fd, argv[0], argv[1]);
        denied_or(sendto(fd, "escaped", 7, MSG_NOSIGNAL, (struct sockaddr *)&other, sizeof other),
                  no_socket, "send from %d", fd);
    }
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        stuck("connect to the socket in the project");
    return fd;
}

/* Someone outside hands a folder over a socket that a shared folder has: what is below it must
 * stay closed. Takes the socket's path and a name in the folder. */
static void open_below_a_handed_folder(int argc, char **argv)
{
    if (argc < 2)
        stuck("find the socket and the name");
    int from = connect_to(argv[0]), folder = -1;
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) < 0)
        stuck("receive a descriptor");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS) {
        told("no descriptor came through");
        return;
    }
    memcpy(&folder, CMSG_DATA(header), sizeof folder);
    denied(openat(folder, argv[1], O_RDONLY), "open %s below", argv[1]);
    denied(openat(folder, ".", O_RDONLY | O_DIRECTORY), "list the folder");
    denied(openat(folder, "new", O_WRONLY | O_CREAT, 0600), "make a file below");
    denied_or(openat(folder, path_in("..", argv[1]), O_RDONLY), absent, "open above");
}

/* Gives its output to someone outside, who keeps it open when everyone in here is dead. */
static void leave_the_output_with_someone(int argc, char **argv)
{
    if (argc < 1)
        stuck("find the socket");
    int to = connect_to(argv[0]), given[3] = {0, 1, 2};
    char byte = 'x', space[CMSG_SPACE(sizeof given)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof given);
    memcpy(CMSG_DATA(header), given, sizeof given);
    if (sendmsg(to, &message, 0) < 0)
        denied(-1, "hand the streams over");
    else
        told("the streams were handed over");
    /* Until they have arrived. */
    (void)!read(to, &byte, 1);
}

const struct attempt descriptor_attempts[] = {
    {"find-open-descriptors", find_open_descriptors},
    {"reopen-streams", reopen_streams},
    {"read-back-own-output", read_back_own_output},
    {"use-a-folder-descriptor", use_a_folder_descriptor},
    {"join-by-input", join_by_input},
    {"reconnect-the-input", reconnect_the_input},
    {"open-below-a-handed-folder", open_below_a_handed_folder},
    {"leave-the-output-with-someone", leave_the_output_with_someone},
    {NULL, NULL},
};
