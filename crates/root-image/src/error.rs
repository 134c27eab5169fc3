//! Why there is no root image.

use std::io;
use std::path::{Path, PathBuf};

use agentkernel_images::ImagesError;

#[derive(Debug, thiserror::Error)]
pub enum RootImageError {
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A layer in the store is not what its list says.
    #[error("{} can't be understood: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} of a layer can't be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the root image can't be written: {0}")]
    Write(#[source] io::Error),
    #[error("{} in the image {why}", path.display())]
    Member { path: PathBuf, why: &'static str },
    #[error("the image has no layers")]
    Empty,
    #[error("the image has more files than there is memory for to make a root image of them")]
    TooManyFiles,
    #[error("the image's files are more than fit into a root image")]
    TooLarge,
}

impl RootImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        let is_full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::Images(error) => error.hint(),
            Self::Write(source) if is_full(source) => {
                "make room: `agentkernel image prune` removes images that nobody uses".into()
            }
            Self::Write(_) => "see that the folder of images can be written to".into(),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "its owner may not read it, which only root or a user namespace helps against: \
                 `agentkernel doctor` says how those are switched on"
                    .into()
            }
            Self::Read { .. } | Self::Damaged { .. } => {
                "remove the image with `agentkernel image rm` and pull it again".into()
            }
            Self::Member { .. } | Self::Empty => "have the image built without that".into(),
            Self::TooManyFiles | Self::TooLarge => "take an image that holds less".into(),
        }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), why: why.into() }
    }
}
