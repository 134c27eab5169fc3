/* Attempts on processes: those of the host, and the sandbox's own first one, the agent. */
#include <dirent.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "probe.h"

static int holds(const char *path, const char *word)
{
    static char bytes[1 << 18];
    int fd = open(path, O_RDONLY | O_CLOEXEC), found = 0;
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, bytes, sizeof bytes);
    found = length > 0 && memmem(bytes, (size_t)length, word, strlen(word));
    close(fd);
    return found;
}

/* Takes the word in two halves, so that it does not find itself. */
static void find_a_word(int argc, char **argv)
{
    static const char *const files[] = {"environ", "cmdline", "stat", "status", "comm", "maps",
                                        "auxv"};
    char *word = NULL, path[300];
    if (argc < 2 || asprintf(&word, "%s%s", argv[0], argv[1]) < 0)
        stuck("find the word");
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    int count = 0;
    if (!processes)
        stuck("open /proc");
    while ((entry = readdir(processes))) {
        if (*entry->d_name < '0' || *entry->d_name > '9')
            continue;
        count++;
        for (size_t i = 0; i < COUNT(files); i++) {
            snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, files[i]);
            if (holds(path, word))
                got("%s holds the word", path);
        }
    }
    closedir(processes);
    told("%d processes: none shows the word", count);
}

static void find_own_variable(int argc, char **argv)
{
    extern char **environ;
    char *word = NULL;
    if (argc < 2 || asprintf(&word, "%s%s", argv[0], argv[1]) < 0)
        stuck("find the word");
    for (char **variable = environ; *variable; variable++)
        if (strstr(*variable, word))
            got("the variable %s", *variable);
    told("no variable shows the word");
}

/* To a user whose number is the agent's the folder may open, and then tell how many descriptors there
 * are; what they are must stay closed. */
static void read_a_folder_of_the_agent(const char *name)
{
    static const int unread[] = {ENOENT, EINVAL, 0};
    char target[256], *folder = path_in("/proc/1", name);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        denied_or(fd, absent, "open %s", name);
        return;
    }
    DIR *entries = fdopendir(fd);
    if (strcmp(name, "cwd") == 0 || strcmp(name, "root") == 0)
        got("the folder %s", name);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (entry->d_name[0] == '.')
            continue;
        denied_or(readlinkat(fd, entry->d_name, target, sizeof target), unread,
                  "read the link %s/%s", name, entry->d_name);
        denied_or(openat(fd, entry->d_name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), unread,
                  "open %s/%s", name, entry->d_name);
    }
    closedir(entries);
}

static void read_the_agent(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const char *const files[] = {"environ", "auxv", "maps", "smaps", "numa_maps", "mem",
                                        "pagemap", "stack", "syscall", "io", "personality",
                                        "timers", "clear_refs"};
    static const char *const links[] = {"exe", "cwd", "root", "ns/mnt", "ns/user", "ns/net"};
    static const char *const folders[] = {"fd", "fdinfo", "map_files", "task/1/fd", "cwd", "root"};
    char target[256], byte;
    for (size_t i = 0; i < COUNT(files); i++) {
        int fd = open(path_in("/proc/1", files[i]), O_RDONLY | O_CLOEXEC);
        /* Some of them can be opened by everyone, and are refused or empty when read. */
        ssize_t length = fd < 0 ? fd : read(fd, &byte, 1);
        if (fd >= 0 && length == 0)
            told("%s is empty", files[i]);
        else
            denied_or(length, absent, "read %s", files[i]);
        close(fd);
    }
    for (size_t i = 0; i < COUNT(links); i++)
        denied_or(readlink(path_in("/proc/1", links[i]), target, sizeof target), absent,
                  "read the link %s", links[i]);
    for (size_t i = 0; i < COUNT(folders); i++)
        read_a_folder_of_the_agent(folders[i]);
    denied_or(open("/proc/1/mem", O_RDWR), absent, "open mem for writing");
}

static void trace(pid_t process, const int *errors)
{
    char here[8];
    struct iovec local = {here, sizeof here}, remote = {(void *)0x400000, sizeof here};
    denied_or(ptrace(PTRACE_SEIZE, process, NULL, NULL), errors, "seize %d", process);
    denied_or(ptrace(PTRACE_ATTACH, process, NULL, NULL), errors, "attach to %d", process);
    denied_or(process_vm_readv(process, &local, 1, &remote, 1, 0), errors, "read in %d", process);
    denied_or(process_vm_writev(process, &local, 1, &remote, 1, 0), errors, "write in %d",
              process);
    int pidfd = syscall(SYS_pidfd_open, process, 0);
    if (pidfd < 0) {
        denied_or(pidfd, errors, "pidfd_open %d", process);
        return;
    }
    for (int fd = 0; fd < 16; fd++)
        denied_or(syscall(SYS_pidfd_getfd, pidfd, fd, 0), errors, "take descriptor %d of %d", fd,
                  process);
}

static void trace_the_agent(int argc, char **argv)
{
    static const int none[] = {0};
    trace(argc > 0 ? atoi(argv[0]) : 1, none);
}

/* Whether this process is in the first process namespace of the machine, by a number that the
 * kernel never changes (PROC_PID_INIT_INO): there the attempt ends, before it does harm. */
static int is_on_the_host(void)
{
    struct stat file;
    if (stat("/proc/self/ns/pid", &file) < 0 || file.st_ino != 0xEFFFFFFC)
        return 0;
    got("the host's own processes");
    return 1;
}

static void stop_the_agent(int argc, char **argv)
{
    (void)argc, (void)argv;
    if (is_on_the_host())
        return;
    for (int number = SIGRTMAX; number > 0; number--)
        if (kill(1, number) < 0)
            told("signal %d: %s", number, strerror(errno));
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0)
        told("kill by pidfd: %s", strerror(errno));
    told("process 1 got every signal");
}

static void reach_host_processes(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        pid_t process = atoi(argv[i]);
        struct rlimit limit;
        struct sched_param parameters = {0};
        cpu_set_t processors;
        CPU_ZERO(&processors);
        CPU_SET(0, &processors);
        denied_or(kill(process, 0), nobody, "signal %d", process);
        denied_or(kill(-process, 0), nobody, "signal the group %d", process);
        denied_or(syscall(SYS_tgkill, process, process, 0), nobody, "signal the thread %d",
                  process);
        denied_or(getpgid(process), nobody, "group of %d", process);
        denied_or(setpriority(PRIO_PROCESS, process, 19), nobody, "slow down %d", process);
        denied_or(setpriority(PRIO_PGRP, process, 19), nobody, "slow down the group %d", process);
        denied_or(syscall(SYS_ioprio_set, 1, process, 3 << 13), nobody, "idle priority of %d",
                  process);
        denied_or(prlimit(process, RLIMIT_NOFILE, NULL, &limit), nobody, "limits of %d", process);
        denied_or(sched_setaffinity(process, sizeof processors, &processors), nobody,
                  "processors of %d", process);
        denied_or(sched_setscheduler(process, SCHED_IDLE, &parameters), nobody, "scheduler of %d",
                  process);
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/oom_score_adj", process);
        denied_or(open(path, O_WRONLY | O_CLOEXEC), nobody, "open %s", path);
        trace(process, nobody);
    }
}

/* Everything these can hit must be in here; the caller's processes say if they were. The signal
 * is one that ends nobody. */
static void reach_everyone(int argc, char **argv)
{
    (void)argc, (void)argv;
    if (is_on_the_host())
        return;
    signal(SIGURG, SIG_IGN);
    if (kill(-1, SIGURG) < 0)
        told("signal all: %s", strerror(errno));
    if (setpriority(PRIO_USER, 0, 7) < 0)
        told("slow down all of the user's: %s", strerror(errno));
    if (syscall(SYS_ioprio_set, 3, getuid(), 3 << 13) < 0)
        told("idle priority of the user's: %s", strerror(errno));
    told("everyone in reach was signalled and slowed down");
}

static void signal_own_group(int argc, char **argv)
{
    (void)argc, (void)argv;
    signal(SIGURG, SIG_IGN);
    if (kill(0, SIGURG) < 0 || killpg(getpgrp(), SIGURG) < 0)
        told("signal the group: %s", strerror(errno));
    told("group %d of session %d was signalled", getpgrp(), getsid(0));
}

static void reach_host_ipc(int argc, char **argv)
{
    static const int none[] = {ENOENT, EINVAL, EIDRM, 0};
    if (argc < 2)
        stuck("find the key and the name");
    key_t key = (key_t)strtol(argv[0], NULL, 0);
    denied_or(shmget(key, 0, 0), none, "shared memory");
    denied_or(msgget(key, 0), none, "messages");
    denied_or(semget(key, 0, 0), none, "semaphores");
    struct shm_info info;
    int last = shmctl(0, SHM_INFO, (struct shmid_ds *)&info);
    for (int i = 0; i <= last; i++) {
        struct shmid_ds segment;
        denied_or(shmctl(i, SHM_STAT, &segment), none, "shared memory number %d", i);
    }
    denied_or(shm_open(argv[1], O_RDONLY, 0), none, "shared memory by name");
    denied_or(mq_open(argv[1], O_RDONLY), none, "messages by name");
}

const struct attempt process_attempts[] = {
    {"find-a-word", find_a_word},
    {"find-own-variable", find_own_variable},
    {"read-the-agent", read_the_agent},
    {"trace-the-agent", trace_the_agent},
    {"stop-the-agent", stop_the_agent},
    {"reach-host-processes", reach_host_processes},
    {"reach-everyone", reach_everyone},
    {"signal-own-group", signal_own_group},
    {"reach-host-ipc", reach_host_ipc},
    {NULL, NULL},
};
