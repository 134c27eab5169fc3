//! Why the store could not do as it was told.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::{DirsError, Id, Name};

/// What has a name in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    Sandbox,
    Snapshot,
    Pool,
}

impl Thing {
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Sandbox => "sandboxes",
            Self::Snapshot => "snapshots",
            Self::Pool => "pools",
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Sandbox => "sandbox",
            Self::Snapshot => "snapshot",
            Self::Pool => "pool",
        })
    }
}

/// Why the store could not do as it was told. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Dirs(#[from] DirsError),
    #[error("there is already a {thing} named {name}")]
    NameTaken {
        thing: Thing,
        name: Name,
        /// Who has it.
        id: Id,
    },
    #[error("there is no {thing} {asked:?}")]
    NotFound {
        thing: Thing,
        asked: String,
        /// The names that there are, to find the nearest of.
        names: Vec<String>,
    },
    #[error("{asked:?} stands for more than one {thing}: {}", listed(ids))]
    Ambiguous { thing: Thing, asked: String, ids: Vec<Id> },
    #[error("{path} was made by a newer agentkernel (version {found}; this one knows {known})")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{path} is not agentkernel's store: {why}")]
    NotAStore { path: PathBuf, why: String },
    #[error("{path} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("{path} can't be changed: its disk or folder is read-only")]
    ReadOnly { path: PathBuf },
    #[error("{path} can't be read on a read-only disk: {why}")]
    Unfinished { path: PathBuf, why: String },
    #[error("{path} can't be changed: its disk is full")]
    Full { path: PathBuf },
    #[error("{path} was kept busy by another process for 10 seconds")]
    Busy { path: PathBuf },
    #[error("can't use {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("can't use {path}: {source}")]
    Database { path: PathBuf, source: rusqlite::Error },
    /// The database's own error before it is said which file it is about. No method returns it.
    #[error(transparent)]
    Unlocated(#[from] rusqlite::Error),
}

impl StoreError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        let move_away = |path: &Path| {
            format!(
                "move it away to start with an empty one; what sandboxes wrote stays in {}",
                path.with_file_name("sandboxes").display()
            )
        };
        match self {
            Self::Dirs(err) => err.hint(),
            Self::NameTaken { thing, .. } => {
                format!("choose another name, or remove that {thing} first")
            }
            Self::NotFound { names, .. } if names.is_empty() => "there are none".into(),
            Self::NotFound { .. } => "name one that there is".into(),
            Self::Ambiguous { .. } => "give more of its id, or its name".into(),
            Self::Newer { .. } => {
                "use that newer agentkernel, or set XDG_STATE_HOME to another folder".into()
            }
            Self::NotAStore { path, .. } | Self::Damaged { path, .. } => move_away(path),
            Self::ReadOnly { .. } => {
                "make it writable, or set XDG_STATE_HOME to a folder that is".into()
            }
            Self::Unfinished { .. } => "make its disk writable once and try again".into(),
            Self::Full { .. } => "make room on that disk".into(),
            Self::Busy { .. } => "see who has it open (fuser tells), and try again".into(),
            Self::Io { .. } | Self::Database { .. } | Self::Unlocated(_) => {
                "see that the folder and the file are yours and that the disk is well".into()
            }
        }
    }

    /// Says which file an error of the database is about, and what it means.
    pub(super) fn at(self, path: &Path) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType,
        };

        let Self::Unlocated(source) = self else {
            return self;
        };
        let path = path.to_path_buf();
        if let FromSqlConversionFailure(_, _, why) = &source {
            return Self::Damaged { path, why: why.to_string() };
        }
        if let InvalidColumnType(..) | IntegralValueOutOfRange(..) = &source {
            return Self::Damaged { path, why: source.to_string() };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => {
                Self::NotAStore { path, why: "it is no SQLite database".into() }
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, why: source.to_string() },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Database { path, source },
        }
    }
}

fn listed(ids: &[Id]) -> String {
    const MOST: usize = 5;
    let mut words: Vec<&str> = ids.iter().take(MOST).map(Id::as_str).collect();
    if ids.len() > MOST {
        words.push("...");
    }
    words.join(", ")
}
