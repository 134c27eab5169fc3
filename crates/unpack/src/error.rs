//! Why a layer can't be unpacked.

use std::io;
use std::path::PathBuf;

use agentkernel_images::Digest;

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("the archive can't be read: {0}")]
    Archive(#[source] io::Error),
    #[error("the archive is packed with {0}, which can't be unpacked here")]
    Packing(&'static str),
    #[error("{} in the archive {why}", path.display())]
    Member { path: PathBuf, why: String },
    #[error("{} can't be unpacked: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the list of the layer's files can't be written: {0}")]
    Entries(#[source] io::Error),
    #[error("it unpacks to more bytes than an image may have")]
    TooManyBytes,
    #[error("it has more files than an image may have")]
    TooManyEntries,
    #[error("its directories take more memory than there is for them")]
    TooManyDirectories,
    #[error("the layer unpacks to {found}, and the image says {expected}")]
    Diff { expected: Digest, found: Digest },
}

impl UnpackError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        let full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::Write { source, .. } | Self::Entries(source) if full(source) => {
                "make room: `agentkernel image prune` removes images that nobody uses".into()
            }
            Self::Write { .. } | Self::Entries(_) => {
                "see that the file system of XDG_DATA_HOME can hold an image's files".into()
            }
            Self::Packing(_) => "pack it with gzip or zstd, or not at all".into(),
            Self::Archive(_) | Self::Diff { .. } => {
                "fetch it again; if that doesn't help, it was damaged where it was made".into()
            }
            Self::Member { .. }
            | Self::TooManyBytes
            | Self::TooManyEntries
            | Self::TooManyDirectories => "don't trust this image, or have it built again".into(),
        }
    }
}
