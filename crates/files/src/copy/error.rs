use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a tree wasn't copied. Names are quoted, since a sandbox chose them.
#[derive(Debug, Error)]
pub enum CopyError {
    #[error("{path:?} exists already")]
    Exists { path: PathBuf },
    #[error("{path:?} is a device, which no sandbox makes")]
    Device { path: PathBuf },
    #[error("something is mounted at {path:?}")]
    Mount { path: PathBuf },
    #[error("the copy would lie in what is copied, at {path:?}")]
    IntoItself { path: PathBuf },
    #[error("can't {action} {path:?}: {source}")]
    Failed {
        /// A verb, such as `open`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl CopyError {
    pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Failed { action, path, source }
    }
}
