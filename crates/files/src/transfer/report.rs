//! What an agent reports of what it has carried. It may be hostile: it reports no more than is bounded, and no words
//! of its own but plain ones.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Located, Refusal, Refused, TransferError, Transferred, Where};

/// The longest report, in bytes.
const LONGEST: u64 = 1 << 20;
/// The longest path or reason in one, in letters. All that is left out fits in.
const LONGEST_TEXT: usize = 1024;

#[derive(Default, Serialize, Deserialize)]
struct Report {
    files: u64,
    directories: u64,
    bytes: u64,
    refused: Vec<(String, Refusal)>,
    refusals: u64,
    failure: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
enum Failure {
    Missing(String),
    NoDirectory(String),
    IsDirectory(String),
    Failed { action: String, path: String, cause: Cause },
    Member { member: String, why: String },
    Archive(Cause),
    Output(Cause),
    Other(Cause),
}

/// An error of the system's, or another.
#[derive(Serialize, Deserialize)]
enum Cause {
    Number(i32),
    Text(String),
}

/// Writes down what came of it.
pub(super) fn report(
    done: Result<Transferred, TransferError>,
    mut to: impl Write,
) -> io::Result<()> {
    let report = match done {
        Ok(done) => Report {
            files: done.files,
            directories: done.directories,
            bytes: done.bytes,
            refused: done.refused.into_iter().map(|one| (shown(&one.path), one.why)).collect(),
            refusals: done.refusals,
            failure: None,
        },
        Err(error) => Report { failure: Some(error.into()), ..Report::default() },
    };
    to.write_all(&serde_json::to_vec(&report)?)
}

/// Reads what came of it.
pub(super) fn read_report(from: File) -> Result<Transferred, TransferError> {
    let mut text = Vec::new();
    let read = from.take(LONGEST).read_to_end(&mut text);
    let agent = |source| TransferError::Agent { source };
    read.map_err(agent)?;
    if text.is_empty() {
        return Err(agent(io::Error::other("it ended before it had done so")));
    }
    let report: Report = serde_json::from_slice(&text)
        .map_err(|_| agent(io::Error::other("what it reports makes no sense")))?;
    if let Some(failure) = report.failure {
        return Err(failure.into());
    }
    let mut done = Transferred {
        files: report.files,
        directories: report.directories,
        bytes: report.bytes,
        ..Transferred::default()
    };
    let refused = report.refused.into_iter();
    let refused = refused.map(|(path, why)| Refused { path: plain(&path).into(), why }).collect();
    done.refuse_all(Transferred { refused, refusals: report.refusals, ..Transferred::default() });
    Ok(done)
}

fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

/// As much of a text as is told, and nothing that a terminal might heed.
fn plain(text: &str) -> String {
    let letters = text.chars().map(|letter| if letter.is_control() { '?' } else { letter });
    letters.take(LONGEST_TEXT).collect()
}

fn at(path: &str) -> Located {
    Located { path: PathBuf::from(plain(path)), place: Where::Sandbox }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Missing { at } => Self::Missing(shown(&at.path)),
            TransferError::NoDirectory { at } => Self::NoDirectory(shown(&at.path)),
            TransferError::IsDirectory { at } => Self::IsDirectory(shown(&at.path)),
            TransferError::Failed { action, at, source } => {
                Self::Failed { action: plain(&action), path: shown(&at.path), cause: source.into() }
            }
            TransferError::Member { member, why } => {
                Self::Member { member: shown(&member), why: plain(&why) }
            }
            TransferError::Archive { source } => Self::Archive(source.into()),
            TransferError::Output { source } => Self::Output(source.into()),
            TransferError::Agent { source } => Self::Other(source.into()),
            // An agent never has both trees.
            error @ TransferError::IntoItself { .. } => {
                Self::Other(Cause::Text(plain(&error.to_string())))
            }
        }
    }
}

impl From<Failure> for TransferError {
    fn from(failure: Failure) -> Self {
        let word = |text: String| Cow::Owned(plain(&text));
        match failure {
            Failure::Missing(path) => Self::Missing { at: at(&path) },
            Failure::NoDirectory(path) => Self::NoDirectory { at: at(&path) },
            Failure::IsDirectory(path) => Self::IsDirectory { at: at(&path) },
            Failure::Failed { action, path, cause } => {
                Self::Failed { action: word(action), at: at(&path), source: cause.into() }
            }
            Failure::Member { member, why } => {
                Self::Member { member: plain(&member).into(), why: word(why) }
            }
            Failure::Archive(cause) => Self::Archive { source: cause.into() },
            Failure::Output(cause) => Self::Output { source: cause.into() },
            Failure::Other(cause) => Self::Agent { source: cause.into() },
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::Number(number),
            None => Self::Text(plain(&error.to_string())),
        }
    }
}

impl From<Cause> for io::Error {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Number(number) => Self::from_raw_os_error(number),
            Cause::Text(text) => Self::other(plain(&text)),
        }
    }
}
