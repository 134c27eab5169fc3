/* Attempts to get past the filter of system calls by another of the processor's doors: the
 * numbers there are others, so that a filter which looks at the number alone lets them through. */
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "probe.h"

#ifdef __x86_64__
enum {
    I386_GETPID = 20,
    I386_MOUNT = 21,
    I386_UNSHARE = 310,
    X32 = 0x40000000,
};

static long by_interrupt(long number, long first)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(first), "c"(0), "d"(0), "S"(0), "D"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
}

struct call {
    const char *name;
    long number, first;
    int interrupt;
};

/* Exits with what the kernel said; 0 is that it did as it was asked. */
static void make_call(void *argument)
{
    const struct call *call = argument;
    long result;
    if (call->interrupt) {
        result = by_interrupt(call->number, call->first);
    } else {
        result = syscall(call->number, call->first, 0, 0, 0, 0);
        result = result < 0 ? -errno : result;
    }
    _exit(result < 0 ? (int)-result : 0);
}

static void try_call(const struct call *call)
{
    int status = in_child(make_call, (void *)call);
    if (WIFSIGNALED(status)) {
        told("%s: killed by signal %d", call->name, WTERMSIG(status));
        return;
    }
    errno = WEXITSTATUS(status);
    denied(errno ? -1 : 0, "%s", call->name);
}

static void use_i386_calls(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const struct call calls[] = {
        {"getpid by int 0x80", I386_GETPID, 0, 1},
        {"unshare by int 0x80", I386_UNSHARE, CLONE_NEWUSER, 1},
        {"mount by int 0x80", I386_MOUNT, 0, 1},
    };
    for (size_t i = 0; i < COUNT(calls); i++)
        try_call(&calls[i]);
}

static void use_x32_calls(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const struct call calls[] = {
        {"getpid by x32", X32 | SYS_getpid, 0, 0},
        {"unshare by x32", X32 | SYS_unshare, CLONE_NEWUSER, 0},
        {"mount by x32", X32 | SYS_mount, 0, 0},
        {"ptrace by x32", X32 | 521, 0, 0},
    };
    for (size_t i = 0; i < COUNT(calls); i++)
        try_call(&calls[i]);
}

/* Stops itself, and then calls what its tracer makes of it. */
static void be_traced(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(1);
    raise(SIGSTOP);
    syscall(SYS_getppid);
    _exit(0);
}

static int resume_until_stopped(pid_t child)
{
    int status;
    return ptrace(PTRACE_SYSCALL, child, NULL, NULL) == 0 &&
           waitpid(child, &status, 0) == child && WIFSTOPPED(status);
}

/* The filter looks at a call when it is made; a tracer can make another of it afterwards. */
static void change_a_call(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct user_regs_struct registers;
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        be_traced();
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
        errno = EPERM;
        denied(-1, "trace a child");
        return;
    }
    if (!resume_until_stopped(child) || ptrace(PTRACE_GETREGS, child, NULL, &registers) < 0)
        stuck("stop the child at its call");
    registers.orig_rax = SYS_unshare;
    registers.rdi = CLONE_NEWUSER;
    if (ptrace(PTRACE_SETREGS, child, NULL, &registers) < 0 || !resume_until_stopped(child) ||
        ptrace(PTRACE_GETREGS, child, NULL, &registers) < 0)
        stuck("change the call");
    long result = (long)registers.rax;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    errno = result < 0 ? (int)-result : 0;
    denied(result < 0 ? -1 : 0, "unshare in a call's stead");
}
#else
static void change_a_call(int argc, char **argv)
{
    (void)argc, (void)argv;
    skip("the attempt is written for x86-64");
}

static void use_i386_calls(int argc, char **argv)
{
    (void)argc, (void)argv;
    skip("this architecture has no int 0x80");
}

static void use_x32_calls(int argc, char **argv)
{
    (void)argc, (void)argv;
    skip("this architecture has no x32");
}
#endif

const struct attempt abi_attempts[] = {
    {"use-i386-system-calls", use_i386_calls},
    {"use-x32-system-calls", use_x32_calls},
    {"change-a-call-by-tracing", change_a_call},
    {NULL, NULL},
};
