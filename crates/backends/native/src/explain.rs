//! What the kernel's numbers mean to the user: why a sandbox could not be made, and what to do.

use std::io;

use agentkernel_core::BootError;
use agentkernel_sys::machine;

use crate::doors::step;
use crate::root::{Sent, Step, TreeSource};

/// A setting of the kernel's that keeps users from making sandboxes, while it has this value.
struct Switch {
    setting: &'static str,
    forbidding: &'static str,
    allowing: &'static str,
}

/// The switches that distributions use.
const SWITCHES: [Switch; 3] = [
    Switch { setting: "user/max_user_namespaces", forbidding: "0", allowing: "15000" },
    Switch { setting: "kernel/unprivileged_userns_clone", forbidding: "0", allowing: "1" },
    Switch {
        setting: "kernel/apparmor_restrict_unprivileged_userns",
        forbidding: "1",
        allowing: "0",
    },
];

/// Why no process could be made in a new user namespace.
pub fn no_user_namespace(error: io::Error) -> BootError {
    restricted().unwrap_or_else(|| match error.kind() {
        io::ErrorKind::PermissionDenied => BootError::Unavailable {
            why: format!("new user namespaces are forbidden here: {error}"),
            fix: "inside a container, start that with a seccomp profile that allows clone with \
                  CLONE_NEWUSER (for Docker: --security-opt seccomp=unconfined); inside a chroot \
                  there are none"
                .into(),
        },
        _ => BootError::Failed {
            what: "can't make a process in new namespaces".into(),
            source: error,
        },
    })
}

/// The switch that is set against us, if one is.
fn restricted() -> Option<BootError> {
    let set = |switch: &&Switch| {
        machine::setting(switch.setting).is_some_and(|value| value == switch.forbidding)
    };
    let Switch { setting, forbidding, allowing } = SWITCHES.iter().find(set)?;
    let name = setting.replace('/', ".");
    let mut fix = format!("as root: sysctl -w {name}={allowing}");
    if setting.contains("apparmor") {
        fix += ", or give agentkernel an AppArmor profile with the rule `userns,`";
    }
    Some(BootError::Unavailable {
        why: format!("user namespaces are restricted: {name} is {forbidding}"),
        fix,
    })
}

/// Why the sandbox's numbers could not be mapped.
pub fn no_mapping(error: io::Error) -> BootError {
    if error.kind() == io::ErrorKind::NotFound {
        return BootError::Unavailable {
            why: "the host's /proc is not mounted".into(),
            fix: "as root: mount -t proc proc /proc".into(),
        };
    }
    BootError::Failed { what: "can't map the sandbox's users".into(), source: error }
}

/// Why a tree could not be opened for a sandbox of root's.
pub fn no_tree(sent: &Sent, error: io::Error) -> BootError {
    let path = sent.path.to_string_lossy();
    if error.kind() == io::ErrorKind::InvalidInput {
        return BootError::Refused {
            why: format!("the file system of {path} can't show its files as another user's"),
            fix: "run as the owner of the files instead of root".into(),
        };
    }
    at_path(&path, error)
}

/// Why what is at `path` could not be mounted.
pub fn at_path(path: &str, error: io::Error) -> BootError {
    /// `ELOOP` of Linux, whose kind std does not name on stable.
    const LINK: i32 = 40;
    if error.raw_os_error() == Some(LINK) {
        return BootError::Refused {
            why: format!("a part of {path} has become a symbolic link"),
            fix: "something changes the path while sandboxes start; look who does".into(),
        };
    }
    BootError::Failed { what: format!("can't mount {path}"), source: error }
}

/// Why the agent could not make its place ready.
pub fn unready(steps: &[Step], number: u16, error: io::Error) -> BootError {
    if matches!(error.kind(), io::ErrorKind::PermissionDenied)
        && let Some(restricted) = restricted()
    {
        return restricted;
    }
    let what = match number {
        step::PARENT => "can't tie the sandbox's life to agentkernel's".into(),
        step::NAMESPACES => "can't make the sandbox's namespaces".into(),
        step::COMMAND => "can't make the command's process".into(),
        step::MAPPING => return no_mapping(error),
        step::IDENTITY => "can't become the sandbox's user".into(),
        step::PRIVATE_MOUNTS => "can't part the sandbox's mounts from the host's".into(),
        step::DESCRIPTORS => "can't close the caller's descriptors in the sandbox".into(),
        step::BEHIND => "can't keep the sandbox's scratch space at hand".into(),
        step::LANDLOCK => "can't put Landlock in force".into(),
        step::HOST_NAME => "can't name the sandbox".into(),
        number => match steps.get(usize::from(number)) {
            Some(step) => return at_step(step, error),
            None => format!("the agent failed at a step {number} that nobody planned"),
        },
    };
    BootError::Failed { what, source: error }
}

fn at_step(step: &Step, error: io::Error) -> BootError {
    let what = match step {
        Step::Scratch { .. } => "can't make the sandbox's scratch space".into(),
        Step::Directory { path, .. }
        | Step::Link { path, .. }
        | Step::File { path, .. }
        | Step::GiveToRoot { path } => {
            format!("can't make {} in the sandbox", inside(path))
        }
        Step::Mount { kind, .. } if *kind == c"overlay" => {
            return BootError::Refused {
                why: format!("can't lay a writable layer over a directory: {error}"),
                fix: "it needs Linux 5.11 and its overlay file system; mount it :ro or :rw".into(),
            };
        }
        Step::Mount { kind, .. } if *kind == c"proc" => {
            return BootError::Unavailable {
                why: format!("a new /proc can't be mounted: {error}"),
                fix: "inside a container, start that with its own /proc uncovered (for Docker: \
                      --security-opt systempaths=unconfined)"
                    .into(),
            };
        }
        Step::Mount { path, .. } => format!("can't mount {}", inside(path)),
        Step::Bind { source, .. } => format!("can't show {} in the sandbox", inside(source)),
        Step::Mask { path, .. } => format!("can't cover {}", inside(path)),
        Step::Place { below, .. } => {
            let path = below.last().map(|path| path.to_string_lossy()).unwrap_or_default();
            format!("can't make a place for /{path} in the sandbox")
        }
        Step::Tree { source: TreeSource::Local { path }, .. } if path.to_bytes()[0] == b'/' => {
            return at_path(&path.to_string_lossy(), error);
        }
        Step::Tree { path, .. } => format!("can't mount /{}", path.to_string_lossy()),
        Step::BarRoot => "can't make the root read-only".into(),
        Step::Enter => "can't enter the sandbox's root".into(),
    };
    BootError::Failed { what, source: error }
}

/// A path of the scratch space as the sandbox would see it.
fn inside(path: &std::ffi::CStr) -> String {
    let path = path.to_string_lossy();
    path.strip_prefix("root").map_or_else(|| path.to_string(), str::to_owned)
}
