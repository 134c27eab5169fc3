//! Why the audit log could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

/// Why the audit log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("can't write the audit log {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("can't read the audit log {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the audit log {path} can't be continued: no entry can be found at its end")]
    NoEnd { path: PathBuf },
    #[error("an entry for the audit log {path} would be too long")]
    TooLong { path: PathBuf },
    #[error("line {line} of the audit log {path} is no entry: {why}")]
    Unreadable { path: PathBuf, line: u64, why: String },
}

impl AuditError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room on its disk".into()
                }
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    "make it writable, or set XDG_STATE_HOME to a folder that is".into()
                }
                _ => "see that it is a file of yours and that its disk is well".into(),
            },
            Self::Read { .. } => "see that it is a file of yours and that its disk is well".into(),
            Self::NoEnd { path } => {
                format!("keep it elsewhere to start a new one: mv {0} {0}.old", path.display())
            }
            Self::TooLong { .. } => "say less in one go".into(),
            Self::Unreadable { .. } => "agentkernel audit verify tells what happened to it".into(),
        }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.into(), source }
    }

    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }
}
