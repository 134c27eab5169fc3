/* What has to happen on the host's side of an attempt, in calls that only C has. */
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>

#include "probe.h"

/* Runs a command and then says whether input was pushed into the terminal meanwhile. */
static void watch_the_terminal(int argc, char **argv)
{
    if (argc < 1)
        stuck("find the command");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[0], argv);
        stuck("run the command");
    }
    waitpid(child, NULL, 0);
    struct termios raw;
    int count = 0;
    if (tcgetattr(0, &raw) < 0)
        stuck("read the terminal's modes");
    cfmakeraw(&raw);
    if (tcsetattr(0, TCSANOW, &raw) < 0 || ioctl(0, FIONREAD, &count) < 0)
        stuck("count the input");
    if (count)
        got("%d bytes were pushed into the terminal", count);
    else
        told("nothing was pushed into the terminal");
}

/* Says which terminal the caller has, as numbers. */
static void name_the_terminal(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct stat file;
    if (fstat(0, &file) < 0)
        stuck("look at the input");
    printf("%lu %lu\n", (unsigned long)file.st_dev, (unsigned long)file.st_ino);
    told("that is it");
}

static void offer_ipc(int argc, char **argv)
{
    if (argc < 2)
        stuck("find the key and the name");
    key_t key = (key_t)strtol(argv[0], NULL, 0);
    int memory = shmget(key, 4096, IPC_CREAT | 0666), messages = msgget(key, IPC_CREAT | 0666);
    int semaphores = semget(key, 1, IPC_CREAT | 0666);
    int named = shm_open(argv[1], O_RDWR | O_CREAT, 0666);
    mqd_t queue = mq_open(argv[1], O_RDWR | O_CREAT, 0666, NULL);
    if (memory < 0 || messages < 0 || semaphores < 0 || named < 0)
        stuck("make what is to be found");
    fchmod(named, 0666);
    say("there");
    await_line();
    shmctl(memory, IPC_RMID, NULL);
    msgctl(messages, IPC_RMID, NULL);
    semctl(semaphores, 0, IPC_RMID);
    shm_unlink(argv[1]);
    if (queue >= 0)
        mq_unlink(argv[1]);
    told("it is gone again");
}

/* Hands the folder over to the first who connects to the socket; does so until its input ends. */
static void hand_a_folder_over(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc < 2)
        stuck("find the socket and the folder");
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), folder = open(argv[1], O_RDONLY | O_DIRECTORY);
    strncpy(address.sun_path, argv[0], sizeof address.sun_path - 1);
    if (folder < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4) < 0 || chmod(argv[0], 0777) < 0)
        stuck("listen");
    say("there");
    int peer = accept(listener, NULL, NULL);
    char byte = 'x', space[CMSG_SPACE(sizeof folder)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof folder);
    memcpy(CMSG_DATA(header), &folder, sizeof folder);
    if (sendmsg(peer, &message, 0) < 0)
        stuck("hand the folder over");
    told("it was handed over");
}

/* Listens at the socket, keeps the descriptors that the first to connect hands over, and lets go
 * of them when its input ends. */
static void keep_descriptors(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc < 1)
        stuck("find the socket");
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, argv[0], sizeof address.sun_path - 1);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4) < 0 || chmod(argv[0], 0777) < 0)
        stuck("listen");
    say("there");
    int peer = accept(listener, NULL, NULL);
    char byte, space[CMSG_SPACE(3 * sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    if (recvmsg(peer, &message, 0) < 0 || write(peer, "x", 1) < 0)
        stuck("receive descriptors");
    say("kept");
    await_line();
    told("they are let go");
}

static void use_inotify(int argc, char **argv)
{
    (void)argc, (void)argv;
    if (inotify_init1(IN_CLOEXEC) < 0)
        got("no inotify instance is left: %s", strerror(errno));
    else
        told("there are inotify instances left");
}

static void use_asynchronous_io(int argc, char **argv)
{
    (void)argc, (void)argv;
    aio_context_t context = 0;
    if (syscall(SYS_io_setup, 16, &context) < 0)
        got("no asynchronous input and output is left: %s", strerror(errno));
    else
        told("there is asynchronous input and output left");
}

/* Says whether any of the files has file capabilities. */
static void look_for_capabilities(int argc, char **argv)
{
    char bytes[64];
    for (int i = 0; i < argc; i++)
        if (getxattr(argv[i], "security.capability", bytes, sizeof bytes) >= 0)
            got("%s has file capabilities", argv[i]);
    told("%d files: none has capabilities", argc);
}

/* Gives a file the capabilities to read everything and to become anyone, as root can. */
static void give_capabilities(int argc, char **argv)
{
    static const unsigned char both[20] = {1, 0, 0, 2, 1 << 2 | 1 << 7};
    if (argc < 1 || setxattr(argv[0], "security.capability", both, sizeof both, 0) < 0)
        stuck("give capabilities");
    told("done");
}

const struct attempt host_roles[] = {
    {"watch-the-terminal", watch_the_terminal},
    {"name-the-terminal", name_the_terminal},
    {"offer-ipc", offer_ipc},
    {"hand-a-folder-over", hand_a_folder_over},
    {"keep-descriptors", keep_descriptors},
    {"use-inotify", use_inotify},
    {"use-asynchronous-io", use_asynchronous_io},
    {"look-for-capabilities", look_for_capabilities},
    {"give-capabilities", give_capabilities},
    {NULL, NULL},
};
