//! Why an image can't be imported.

use std::io;
use std::path::{Path, PathBuf};

use agentkernel_images::ImagesError;

use crate::{BringError, UnpackError};

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Bring(#[from] BringError),
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} can't be imported: {source}", path.display())]
    Packed { path: PathBuf, source: UnpackError },
    #[error("{} can't be imported: {why}", path.display())]
    Wrong { path: PathBuf, why: String },
    #[error("{} has {}", path.display(), several(there))]
    Several { path: PathBuf, there: Vec<String> },
    #[error("{} has no image {name}, but {}", path.display(), several(there))]
    NoSuch { path: PathBuf, name: String, there: Vec<String> },
}

impl ImportError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Bring(BringError::Source(source)) => match source.downcast_ref::<Self>() {
                Some(error) => error.hint(),
                None => "try again".into(),
            },
            Self::Bring(error) => error.hint().unwrap_or_else(|| "try again".into()),
            Self::Images(error) => error.hint(),
            Self::Packed { source, .. } => source.hint(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room: `agentkernel image prune` removes images that nobody uses".into()
            }
            Self::Io { .. } => "give a path that is there and that you can read".into(),
            Self::Wrong { .. } => "give oci:DIR, rootfs:DIR, or an archive that `docker save`, \
                                   `podman save`, `skopeo copy` or `tar` wrote"
                .into(),
            Self::Several { .. } | Self::NoSuch { .. } => {
                "name one of them after a colon, as in oci:DIR:NAME or docker-archive:FILE:NAME"
                    .into()
            }
        }
    }

    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    pub(super) fn wrong(path: &Path, why: impl Into<String>) -> Self {
        Self::Wrong { path: path.into(), why: why.into() }
    }
}

fn several(there: &[String]) -> String {
    match there {
        [] => "images without names".into(),
        there => format!("the images {}", there.join(", ")),
    }
}
