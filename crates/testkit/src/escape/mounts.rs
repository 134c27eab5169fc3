//! Mounts, namespaces, and the trees by which the kernel shows itself.

use super::attempt::attempt;
use crate::Behaviour;

pub(super) const TABLE: &[Behaviour] = &[
    attempt!(
        "mount-proc-again",
        "no second proc is mounted, and the one there is not bound elsewhere",
        throwaway()
    ),
    attempt!(
        "mount-sysfs-again",
        "neither sysfs nor the kernel's other windows are mounted",
        throwaway()
    ),
    attempt!(
        "mount-cgroup-file-systems",
        "no control group hierarchy is mounted, so that no release agent can be set",
        throwaway()
    ),
    attempt!(
        "mount-other-file-systems",
        "no file system of any other kind is mounted",
        throwaway()
    ),
    attempt!("mount-over-what-is-there", "nothing is mounted over, bound or moved", throwaway()),
    attempt!("remount-writable", "no mount is made writable", throwaway()),
    attempt!("change-mount-propagation", "mounts are not made to be seen elsewhere", throwaway()),
    attempt!("unmount-the-masks", "nothing that hides something is unmounted", throwaway()),
    attempt!(
        "use-the-new-mount-calls",
        "the newer mount system calls lead no further than the old",
        throwaway()
    ),
    attempt!(
        "change-the-root",
        "the root directory is not changed, by chroot or pivot_root",
        throwaway()
    ),
    attempt!("make-device-nodes", "no device node is made"),
    attempt!(
        "open-files-by-handle",
        "no file is opened by a handle, which knows no mounts",
        throwaway()
    ),
    attempt!("enter-a-namespace", "no namespace is entered by the files in /proc or by a process"),
    attempt!("unshare-namespaces", "no namespace of any kind is made by unshare"),
    attempt!("clone-into-namespaces", "no namespace of any kind is made by clone"),
    attempt!(
        "clone3-into-namespaces",
        "no namespace is made by clone3, whose flags no filter can see"
    ),
    attempt!(
        "nest-a-user-namespace",
        "nobody becomes root in a user namespace of their own, and mounts there"
    ),
    attempt!(
        "climb-to-parent-namespaces",
        "no descriptor leads to the parent of a namespace or to other mounts"
    ),
    attempt!(
        "write-kernel-settings",
        "no file under /proc or /sys that is not a process's own can be written",
        words(&["/proc", "/sys"]),
        control_words(&["/proc/sys/kernel"])
    ),
    attempt!(
        "set-a-host-program",
        "no core pattern, release agent or other program is set for the host to start"
    ),
    attempt!(
        "read-hidden-kernel-files",
        "files that tell of the whole machine's kernel are hidden or empty"
    ),
    attempt!(
        "open-host-devices",
        "no device of the host is opened",
        words(&["/dev"]),
        control_words(&[""; 0])
    ),
];
