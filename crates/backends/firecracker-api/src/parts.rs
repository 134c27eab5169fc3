//! What has to be on this machine for machines: Firecracker, a kernel for them, and the agent's program.

use std::env;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agentkernel_core::BootError;

use crate::jail;

/// Where Firecracker's program is, if it is not on the `PATH`.
pub const PROGRAM: &str = "FIRECRACKER_BIN";

/// Where the kernel of machines is: a file that Firecracker starts (an uncompressed `vmlinux`), or a
/// folder with such a file and, in `modules`, what of it is not in it.
pub const KERNEL: &str = "FIRECRACKER_KERNEL";

/// What says where all of that is, and how it is used.
pub const VARIABLES: &[&str] = &[PROGRAM, KERNEL, jail::VARIABLE];

/// All of that.
pub struct Parts {
    pub program: PathBuf,
    pub kernel: PathBuf,
    pub modules: Option<PathBuf>,
    pub agent: PathBuf,
    /// Where what is made of those is kept, which may not be there yet.
    pub folder: PathBuf,
}

impl Parts {
    pub fn find() -> Result<Self, BootError> {
        let program = program()?;
        let folder = folder()?;
        let (kernel, modules) = kernel(&folder)?;
        Ok(Self { program, kernel, modules, agent: agent()?, folder })
    }
}

fn program() -> Result<PathBuf, BootError> {
    let is_program = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if let Some(named) = env::var_os(PROGRAM).map(PathBuf::from) {
        return Some(named.clone()).filter(is_program).ok_or_else(|| BootError::Unavailable {
            why: format!("{PROGRAM} is {}, which is no program", named.display()),
            fix: format!("set {PROGRAM} to the path of firecracker"),
        });
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = env::split_paths(&path).map(|folder| folder.join("firecracker"));
    all.find(is_program).ok_or_else(|| BootError::Unavailable {
        why: "there is no firecracker on the PATH".into(),
        fix: format!("install Firecracker 1.16 or later, or set {PROGRAM} to where it is"),
    })
}

fn kernel(folder: &Path) -> Result<(PathBuf, Option<PathBuf>), BootError> {
    let (named, place) = match env::var_os(KERNEL).map(PathBuf::from) {
        Some(named) => (true, named),
        None => (false, folder.join("kernel")),
    };
    let in_folder = |name: &str| Some(place.join(name)).filter(|path| path.exists());
    let found = match place.is_dir() {
        true => in_folder("vmlinux").map(|kernel| (kernel, in_folder("modules"))),
        false => Some((place.clone(), None)).filter(|(kernel, _)| kernel.is_file()),
    };
    found.ok_or_else(|| BootError::Unavailable {
        why: format!("there is no kernel for micro-VMs at {}", place.display()),
        fix: match named {
            true => format!("set {KERNEL} to a kernel that Firecracker starts, a vmlinux"),
            false => {
                format!("put a vmlinux there, or set {KERNEL} to one: see docs/firecracker.md")
            }
        },
    })
}

/// The caller's folder for all that machines need.
pub fn folder() -> Result<PathBuf, BootError> {
    let absolute =
        |name| env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| BootError::Unavailable {
        why: "neither XDG_DATA_HOME nor HOME names an absolute path".into(),
        fix: "set HOME or XDG_DATA_HOME to a folder of yours".into(),
    })?;
    Ok(data.join("agentkernel/firecracker"))
}

/// The agent's program: the small one, which lies beside this one.
fn agent() -> Result<PathBuf, BootError> {
    let own = env::current_exe().map_err(|source| BootError::Failed {
        what: "can't tell where this program is".into(),
        source,
    })?;
    let beside = own.with_file_name("agentkernel");
    match beside.is_file() {
        true => Ok(beside),
        false => Err(BootError::Unavailable {
            why: format!("there is no {}, beside agentkerneld", beside.display()),
            fix: "install agentkernel beside agentkerneld".into(),
        }),
    }
}

/// Refuses a machine without KVM.
pub fn check_kvm() -> Result<(), BootError> {
    let path = Path::new("/dev/kvm");
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(path);
    let (why, fix) = match opened.map_err(|error| error.kind()) {
        Ok(_) => return Ok(()),
        Err(io::ErrorKind::NotFound) => (
            "there is no /dev/kvm: this machine has no hardware virtualisation, or not for its users",
            "use a machine with KVM, or switch virtualisation on in its firmware; in a virtual \
             machine, nested virtualisation",
        ),
        Err(io::ErrorKind::PermissionDenied) => (
            "you may not use /dev/kvm",
            "add yourself to the group that owns it: usermod -aG kvm YOU, and log in anew",
        ),
        Err(_) => ("/dev/kvm can't be opened", "load the kernel's module kvm_intel or kvm_amd"),
    };
    Err(BootError::Unavailable { why: why.into(), fix: fix.into() })
}
