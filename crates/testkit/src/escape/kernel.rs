//! System calls that have no business in a sandbox.

use super::attempt::attempt;
use crate::Behaviour;

/// Of system calls that hardly any machine has.
const NO_SUCH_KERNEL: &str = "few kernels are built with it";

pub(super) const TABLE: &[Behaviour] = &[
    attempt!("load-a-module", "no kernel module is loaded or removed"),
    attempt!("boot-another-kernel", "the machine is not restarted, by kexec or otherwise"),
    attempt!("set-the-clock", "the machine's clock is not set or slewed"),
    attempt!("change-the-host-name", "neither host name nor domain name are changed", throwaway()),
    attempt!("swap-and-account", "swap, process accounting and quotas are out of reach"),
    attempt!("read-the-kernel-log", "the kernel's log is not read or written"),
    attempt!("load-a-bpf-program", "no BPF map or program gets into the kernel"),
    attempt!("open-perf-events", "no performance event is opened"),
    attempt!("use-the-keyring", "the kernel's keyrings are out of reach"),
    attempt!("handle-page-faults", "no page fault is handled by a program"),
    attempt!("set-up-an-io-uring", "no system call goes around the filter by a ring"),
    attempt!("watch-whole-file-systems", "no program watches files by fanotify"),
    attempt!("use-input-and-output-ports", "no input or output port is used"),
    attempt!("map-low-memory", "the lowest page of memory is not mapped"),
    attempt!("change-personality", "no program takes a personality that weakens its memory"),
    attempt!("stir-the-random-pool", "the kernel's random pool is not reset or credited"),
    attempt!("use-rare-calls", "rarely used system calls are refused"),
    attempt!("hang-up", "no terminal is hung up"),
    attempt!("use-calls-of-the-future", "a system call newer than the filter is refused"),
    attempt!("use-i386-system-calls", "the filter is not passed by the 32-bit system calls"),
    attempt!(
        "use-x32-system-calls",
        "the filter is not passed by the x32 system calls",
        uncontrolled(NO_SUCH_KERNEL)
    ),
    attempt!(
        "change-a-call-by-tracing",
        "a tracer can't make a refused system call of an allowed one"
    ),
];
