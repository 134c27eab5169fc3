//! What can go wrong with a registry.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_images::{Digest, ImagesError};

/// Why a registry's images can't be had. No secret is in it: neither a token, nor a password, nor the
/// address of a place that a registry leads to, which often holds one.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error("can't keep what is fetched: {0}")]
    Keep(#[source] io::Error),
    #[error("can't begin to fetch: {0}")]
    Start(#[source] io::Error),
    #[error("it was interrupted while it was fetched")]
    Interrupted,
    #[error("nobody needs it any more")]
    Needless,
    #[error("{why}")]
    Refused { why: String, fix: String },
    #[error("{registry} has no {what}")]
    Missing { registry: String, what: String },
    #[error("{registry} does not hand out {what}: {}{}", known.words(), said(told))]
    Denied { registry: String, what: String, known: Box<Known>, told: String },
    #[error("{registry} can't be reached: {why}")]
    Unreachable { registry: String, why: String, is_name: bool },
    #[error("{registry} does not prove who it is: {why}")]
    Unproven { registry: String, why: String },
    #[error("{registry} broke off: {why}")]
    Broken { registry: String, why: String },
    #[error("{registry} answers with {status}{}", said(told))]
    Status { registry: String, status: u16, told: String },
    #[error("{registry} asks to be left alone for {} s{}", wait.as_secs(), said(told))]
    Busy { registry: String, wait: Duration, told: String },
    #[error("what {registry} answers is no answer of a registry: {why}")]
    Nonsense { registry: String, why: String },
    #[error("{registry} sends something else than {expected}: its digest is {found}")]
    Mismatch { registry: String, expected: Digest, found: Digest },
    #[error("{source}; it was tried {tries} times")]
    GaveUp { tries: u32, source: Box<RegistryError> },
    #[error("{}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; then "))]
    Everywhere { all: Vec<RegistryError> },
}

/// How the caller stands to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Credentials were found in this file, and were not enough.
    By(PathBuf),
    /// There are none. Where they were looked for, with what stood in the way.
    Unknown { files: Vec<PathBuf>, notes: Vec<String> },
}

impl Known {
    fn words(&self) -> String {
        match self {
            Self::By(file) => format!("the credentials in {} are not enough", file.display()),
            Self::Unknown { files, notes } => {
                let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                let places = match files.is_empty() {
                    true => "neither HOME nor DOCKER_CONFIG says where to look".into(),
                    false => files.join(", "),
                };
                let notes: String = notes.iter().map(|note| format!("; {note}")).collect();
                format!("there are no credentials for it ({places}{notes})")
            }
        }
    }
}

/// A registry's own words, if it had any, to follow a sentence.
fn said(told: &str) -> String {
    if told.is_empty() { String::new() } else { format!(" ({told})") }
}

impl RegistryError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Images(error) => error.hint(),
            Self::Keep(error) if error.kind() == io::ErrorKind::StorageFull => {
                "make room: `agentkernel image prune` removes images that nobody uses".into()
            }
            Self::Keep(_) => "set XDG_DATA_HOME to a folder that you can write in".into(),
            Self::Start(_) => "let this user have more threads and open files".into(),
            Self::Interrupted | Self::Needless => "try again: what has come so far is kept".into(),
            Self::Refused { fix, .. } => fix.clone(),
            Self::Missing { .. } => "check the image's name and its tag".into(),
            Self::Denied { registry, .. } => format!(
                "check the image's name, and log in with `docker login {registry}` or \
                 `skopeo login {registry}`"
            ),
            Self::Unreachable { is_name: true, .. } => {
                "check the registry's name, and whether names can be looked up here".into()
            }
            Self::Unreachable { .. } => {
                "check that the registry runs, and whether a proxy (HTTPS_PROXY) is needed".into()
            }
            Self::Unproven { registry, .. } => format!(
                "name the file of its certificate authority as `ca` under \
                 [registries.\"{registry}\"], or set `insecure = true` there"
            ),
            Self::Broken { .. } | Self::Status { .. } => {
                "try again later: what has come so far is kept".into()
            }
            Self::Busy { registry, .. } => format!(
                "try again later, or log in with `docker login {registry}`, if that allows more"
            ),
            Self::Nonsense { registry, .. } => {
                format!("check that {registry} is a registry of images, and no page for people")
            }
            Self::Mismatch { registry, .. } => {
                format!("do not trust {registry} with this image, and ask who runs it")
            }
            Self::GaveUp { source, .. } => source.hint(),
            // The registry itself is the last.
            Self::Everywhere { all } => all.last().map(Self::hint).unwrap_or_default(),
        }
    }

    /// Whether asking another registry would be no better.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Images(_)
                | Self::Keep(_)
                | Self::Start(_)
                | Self::Interrupted
                | Self::Refused { .. }
        )
    }

    /// Whether the registry has nothing to give at all, and will not have soon.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unproven { .. } | Self::Busy { .. } => true,
            Self::GaveUp { source, .. } => source.is_gone(),
            _ => false,
        }
    }
}

/// What went wrong with one try, and what may be better then.
#[derive(Debug)]
pub struct Trouble {
    pub error: RegistryError,
    pub again: Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It would be the same.
    Never,
    /// After a while, or as long as the registry asks for.
    Later(Option<Duration>),
    /// What has come is of no use; all of it once more may be.
    Afresh,
}

impl Trouble {
    pub fn later(error: RegistryError) -> Self {
        Self { error, again: Again::Later(None) }
    }
}

impl From<RegistryError> for Trouble {
    fn from(error: RegistryError) -> Self {
        Self { error, again: Again::Never }
    }
}
