//! Why a kernel can't be put where it belongs.

use std::io;
use std::path::{Path, PathBuf};

use agentkernel_core::BootError;

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{} can't be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} can't be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no kernel for micro-VMs: {why}", path.display())]
    NoKernel { path: PathBuf, why: String },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the kernel {version} lacks what micro-VMs need: {}", what.join(", "))]
    Lacks { version: String, what: Vec<String> },
    #[error("{} is there, and has no vmlinux", .0.display())]
    InTheWay(PathBuf),
    #[error("{} is not what was put there", .0.display())]
    Changed(PathBuf),
    #[error("{0}")]
    Place(BootError),
}

impl SetupError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "name a kernel that you may read, by --kernel".into(),
            Self::Write { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                "make room: a kernel takes about 100 MB, and a package of one up to 1 GB for as \
                 long as it is unpacked"
                    .into()
            }
            Self::Write { .. } => "see that you may write to XDG_DATA_HOME".into(),
            Self::NoKernel { .. } => "name a vmlinux, a vmlinuz, a Debian package of a kernel, or \
                                      a folder such as /lib/modules/VERSION"
                .into(),
            Self::Damaged { .. } => "fetch it again".into(),
            Self::Lacks { .. } => format!("take another kernel: {FETCH}"),
            Self::InTheWay(_) | Self::Changed(_) => "pass --force to replace it".into(),
            Self::Place(BootError::Unavailable { fix, .. } | BootError::Refused { fix, .. }) => {
                fix.clone()
            }
            Self::Place(BootError::Failed { .. }) => "please report this".into(),
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, why: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.to_string() }
    }

    pub(crate) fn no_kernel(path: &Path, why: impl ToString) -> Self {
        Self::NoKernel { path: path.to_owned(), why: why.to_string() }
    }
}

/// How a kernel is had where none is installed.
pub(crate) const FETCH: &str = "on Debian, apt-get install --download-only linux-image-cloud-amd64 as \
                                root, and agentkernel setup firecracker, which finds it; elsewhere \
                                --kernel with a vmlinuz, a vmlinux or a package";
