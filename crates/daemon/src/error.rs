//! Why the daemon can't do its work.

use std::io;

use agentkernel_engine::EngineError;
use agentkernel_pool::PoolError;
use agentkernel_store::{DirsError, StoreError};

/// An error that ends the daemon, or keeps it from starting.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("agentkerneld takes no arguments")]
    Usage,
    #[error(transparent)]
    Dirs(#[from] DirsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("a pool can't be held: {0}")]
    Pool(#[from] PoolError),
    #[error("a daemon is running already, as process {0}")]
    Running(String),
    #[error("can't {what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error(transparent)]
    Other(#[from] io::Error),
}

impl DaemonError {
    pub fn hint(&self) -> String {
        match self {
            Self::Usage => "start it as it is, or with agentkernel daemon start".into(),
            Self::Dirs(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Engine(error) => error.hint.clone().unwrap_or_default(),
            Self::Pool(_) => "make it smaller with agentkernel pool set".into(),
            Self::Running(_) => "agentkernel daemon status tells about it".into(),
            Self::Io { .. } | Self::Other(_) => "see what is wrong with that, and try again".into(),
        }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
