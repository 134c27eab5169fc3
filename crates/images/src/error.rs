//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store of images can't do something.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error("neither XDG_DATA_HOME nor HOME names an absolute path")]
    NoHome,
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} can't be understood: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{0:?} is not the name of an image: {1}")]
    Name(String, String),
    #[error("there is no image {0}")]
    NotFound(String),
    #[error("{asked} is the start of several images' digests: {}", found.join(", "))]
    Ambiguous { asked: String, found: Vec<String> },
    #[error("the image {name} is used by {by}")]
    Used { name: String, by: String },
}

impl ImagesError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHome => "set HOME or XDG_DATA_HOME to a folder of yours".into(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room: `agentkernel image prune` removes images that nobody uses".into()
            }
            Self::Io { .. } => "set XDG_DATA_HOME to a folder that you can write in".into(),
            Self::Damaged { path, .. } => {
                format!("remove {} and pull the image again", path.display())
            }
            Self::Name(..) => {
                "name it as in debian:13, or ghcr.io/owner/image@sha256:DIGEST".into()
            }
            Self::NotFound(_) => "`agentkernel image ls` lists those that are there, and \
                                  `agentkernel image pull` fetches one"
                .into(),
            Self::Ambiguous { .. } => "give more of its digest".into(),
            Self::Used { .. } => "remove what uses it first, or pass --force".into(),
        }
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
