/* Attempts to use system calls that have no business in a sandbox. Each is made in a form that
 * changes nothing on the machine where it is let through. */
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/quota.h>
#include <linux/random.h>
#include <linux/reboot.h>
#include <sys/acct.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/quota.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#if defined __x86_64__ || defined __i386__
#include <sys/io.h>
#endif

#include "probe.h"

static void load_a_module(int argc, char **argv)
{
    (void)argc, (void)argv;
    denied(syscall(SYS_init_module, "", 0, ""), "init_module");
    denied(syscall(SYS_finit_module, -1, "", 0), "finit_module");
    denied(syscall(SYS_delete_module, "probe_none", O_NONBLOCK), "delete_module");
}

static void boot_another_kernel(int argc, char **argv)
{
    (void)argc, (void)argv;
    /* The wrong magic number, so that nobody's machine restarts. */
    denied(syscall(SYS_reboot, 0, 0, 0, NULL), "reboot");
    denied(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, -1, NULL),
           "reboot by an unknown command");
    denied(syscall(SYS_kexec_load, 0, 1, NULL, 0), "kexec_load");
#ifdef SYS_kexec_file_load
    denied(syscall(SYS_kexec_file_load, -1, -1, 0, "", 0), "kexec_file_load");
#endif
}

static void set_the_clock(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct timeval same = {.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    struct timex impossible = {.modes = ADJ_TICK, .tick = 0};
    denied(clock_settime(CLOCK_REALTIME, &now), "clock_settime");
    denied(syscall(SYS_settimeofday, &same, NULL), "settimeofday");
    denied(adjtimex(&impossible), "adjtimex");
    denied(clock_adjtime(CLOCK_REALTIME, &impossible), "clock_adjtime");
}

static void change_the_host_name(int argc, char **argv)
{
    (void)argc, (void)argv;
    denied(sethostname("escaped", 7), "sethostname");
    denied(setdomainname("escaped", 7), "setdomainname");
}

static void swap_and_account(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct dqblk none = {0};
    denied(swapon("/none", 0), "swapon");
    denied(swapoff("/none"), "swapoff");
    denied(acct("/none"), "acct");
    denied(quotactl(QCMD(Q_SETQUOTA, USRQUOTA), "/none", 0, (char *)&none), "quotactl");
}

static void read_the_kernel_log(int argc, char **argv)
{
    (void)argc, (void)argv;
    char text[256];
    denied(klogctl(3, text, sizeof text), "syslog, read all");
    denied(klogctl(10, NULL, 0), "syslog, its size");
    denied_or(open("/dev/kmsg", O_RDONLY | O_NONBLOCK), absent, "open /dev/kmsg");
    denied_or(open("/dev/kmsg", O_WRONLY), absent, "open /dev/kmsg for writing");
}

static void use_bpf(int argc, char **argv)
{
    (void)argc, (void)argv;
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4,
                          .max_entries = 1};
    struct bpf_insn leave[] = {{.code = 0xb7}, {.code = 0x95}};
    union bpf_attr program = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2,
                              .insns = (unsigned long)leave, .license = (unsigned long)"GPL"};
    denied(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map), "bpf, make a map");
    denied(syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof program), "bpf, load a program");
}

static void open_perf_events(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event,
                                    .config = PERF_COUNT_SW_TASK_CLOCK, .exclude_kernel = 1,
                                    .exclude_hv = 1};
    denied(syscall(SYS_perf_event_open, &event, 0, -1, -1, 0), "perf_event_open of oneself");
    denied(syscall(SYS_perf_event_open, &event, -1, 0, -1, 0), "perf_event_open of a processor");
}

static void use_the_keyring(int argc, char **argv)
{
    (void)argc, (void)argv;
    denied(syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING), "add_key");
    denied(syscall(SYS_request_key, "user", "probe", NULL, KEY_SPEC_PROCESS_KEYRING),
           "request_key");
    denied(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1),
           "keyctl, the session's ring");
    denied(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "probe"), "keyctl, join a session");
}

static void handle_page_faults(int argc, char **argv)
{
    (void)argc, (void)argv;
    denied(syscall(SYS_userfaultfd, O_CLOEXEC), "userfaultfd");
    denied(syscall(SYS_userfaultfd, O_CLOEXEC | 1), "userfaultfd, for user mode only");
}

static void set_up_io_uring(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct io_uring_params parameters = {0};
    denied(syscall(SYS_io_uring_setup, 4, &parameters), "io_uring_setup");
    denied(syscall(SYS_io_uring_enter, -1, 1, 0, 0, NULL, 0), "io_uring_enter");
    denied(syscall(SYS_io_uring_register, -1, 0, NULL, 0), "io_uring_register");
}

static void watch_whole_file_systems(int argc, char **argv)
{
    (void)argc, (void)argv;
    denied(fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY), "fanotify_init, content");
    denied(fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY), "fanotify_init");
    denied(fanotify_init(FAN_REPORT_FID | FAN_CLOEXEC, O_RDONLY), "fanotify_init, by handles");
    denied(fanotify_mark(-1, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, "/"),
           "fanotify_mark");
}

static void use_ports(int argc, char **argv)
{
    (void)argc, (void)argv;
#if defined __x86_64__ || defined __i386__
    denied(ioperm(0x80, 1, 1), "ioperm");
    denied(iopl(3), "iopl");
#else
    skip("this architecture has no ports");
#endif
}

static void map_low_memory(int argc, char **argv)
{
    (void)argc, (void)argv;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    void *lowest = mmap(NULL, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    denied(lowest == MAP_FAILED ? -1 : 0, "mmap at 0");
    denied(personality(MMAP_PAGE_ZERO), "personality, map page zero");
}

static void change_personality(int argc, char **argv)
{
    (void)argc, (void)argv;
    denied(personality(READ_IMPLIES_EXEC), "read implies execute");
    denied(personality(PER_BSD), "BSD");
    denied(syscall(SYS_personality, READ_IMPLIES_EXEC | 1UL << 32), "a high bit besides");
}

static void stir_the_random_pool(int argc, char **argv)
{
    (void)argc, (void)argv;
    int pool = open("/dev/urandom", O_RDWR | O_CLOEXEC), none = 0;
    if (pool < 0)
        stuck("open /dev/urandom");
    denied(ioctl(pool, RNDRESEEDCRNG), "reseed");
    denied(ioctl(pool, RNDADDTOENTCNT, &none), "claim entropy");
    denied(ioctl(pool, RNDZAPENTCNT), "forget entropy");
}

/* None of these has any use in a sandbox, and each has had holes. */
static void use_rare_calls(int argc, char **argv)
{
    (void)argc, (void)argv;
    denied(syscall(SYS_lookup_dcookie, 0, NULL, 0), "lookup_dcookie");
    denied(syscall(SYS_nfsservctl, 0, NULL, NULL), "nfsservctl");
    denied(syscall(SYS_kcmp, 1, getpid(), 0, 0, 0), "kcmp");
    denied(syscall(SYS_move_pages, 1, 0, NULL, NULL, NULL, 0), "move_pages");
    denied(syscall(SYS_migrate_pages, 1, 0, NULL, NULL), "migrate_pages");
    denied(syscall(SYS_process_madvise, -1, NULL, 0, 0, 0), "process_madvise");
#ifdef __x86_64__
    denied(syscall(SYS_uselib, ""), "uselib");
    denied(syscall(SYS_ustat, 0, NULL), "ustat");
    denied(syscall(SYS_sysfs, 3), "sysfs");
    denied(syscall(SYS__sysctl, NULL), "_sysctl");
#endif
}

static void hang_up_alone(void *unused)
{
    (void)unused;
    /* Without a terminal there is nobody whom the control could cut off. */
    _exit(setsid() < 0 || vhangup() < 0 ? errno : 0);
}

static void hang_up(int argc, char **argv)
{
    (void)argc, (void)argv;
    int status = in_child(hang_up_alone, NULL);
    errno = WEXITSTATUS(status);
    denied(status ? -1 : 0, "vhangup");
}

/* A list of what is allowed must refuse what was not invented when it was written. */
static void use_calls_of_the_future(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (long number = 467; number < 1100; number++)
        denied(syscall(number, 0, 0, 0, 0, 0, 0), "system call %ld", number);
}

const struct attempt kernel_attempts[] = {
    {"load-a-module", load_a_module},
    {"boot-another-kernel", boot_another_kernel},
    {"set-the-clock", set_the_clock},
    {"change-the-host-name", change_the_host_name},
    {"swap-and-account", swap_and_account},
    {"read-the-kernel-log", read_the_kernel_log},
    {"load-a-bpf-program", use_bpf},
    {"open-perf-events", open_perf_events},
    {"use-the-keyring", use_the_keyring},
    {"handle-page-faults", handle_page_faults},
    {"set-up-an-io-uring", set_up_io_uring},
    {"watch-whole-file-systems", watch_whole_file_systems},
    {"use-input-and-output-ports", use_ports},
    {"map-low-memory", map_low_memory},
    {"change-personality", change_personality},
    {"stir-the-random-pool", stir_the_random_pool},
    {"use-rare-calls", use_rare_calls},
    {"hang-up", hang_up},
    {"use-calls-of-the-future", use_calls_of_the_future},
    {NULL, NULL},
};
