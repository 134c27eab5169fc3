//! Reading the log.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::line::{LONGEST, Lines, Place};
use super::{AuditError, Kind, Logged};
use crate::time;

/// Which entries are wanted: those that fit all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this time or later.
    pub since: Option<SystemTime>,
    /// Of one of these kinds; of any if there are none.
    pub kinds: Vec<Kind>,
    /// Of the sandbox that had this id, or this name then.
    pub sandbox: Option<String>,
}

/// The entries of a log, the oldest first. A line that is none is an error, after which the rest
/// still comes; but not one that was torn and that the entry after it explains.
#[derive(Debug)]
pub struct Entries {
    path: PathBuf,
    lines: Option<Lines>,
    wanted: Wanted,
    /// The first line of those that are no entries, if it is not known yet whether one follows
    /// that explains them.
    unexplained: Option<AuditError>,
    ready: VecDeque<Result<Logged, AuditError>>,
}

/// Reads the log that there is now. Hashes are not looked at; [`verify`](super::verify) does that.
/// A log that is not there has no entries.
pub fn read(path: &Path, filter: Filter) -> Result<Entries, AuditError> {
    let lines = match File::open(path) {
        Ok(file) => Some(Lines::new(file)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => return Err(AuditError::read(path, err)),
    };
    Ok(Entries::new(path, lines, filter))
}

impl Iterator for Entries {
    type Item = Result<Logged, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_whole().or_else(|| self.finish())
    }
}

impl Entries {
    pub(super) fn new(path: &Path, lines: Option<Lines>, filter: Filter) -> Self {
        Self {
            path: path.into(),
            lines,
            wanted: Wanted::new(filter),
            unexplained: None,
            ready: VecDeque::new(),
        }
    }

    /// The file that is read.
    pub(super) fn file(&self) -> Option<&File> {
        self.lines.as_ref().map(Lines::file)
    }

    /// Goes on with another file.
    pub(super) fn turn_to(&mut self, file: File) {
        self.lines = Some(Lines::new(file));
    }

    /// The next entry or error, as far as the log is made of whole lines.
    pub(super) fn next_whole(&mut self) -> Option<Result<Logged, AuditError>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let parsed = match self.lines.as_mut()?.next() {
                Ok(Some((place, line))) => parse(&self.path, place, line),
                Ok(None) => return None,
                Err(err) => {
                    // It would fail for ever.
                    self.lines = None;
                    return Some(Err(AuditError::read(&self.path, err)));
                }
            };
            self.sort(parsed);
        }
    }

    fn sort(&mut self, parsed: Result<Logged, AuditError>) {
        match parsed {
            Err(err) => {
                self.unexplained.get_or_insert(err);
            }
            Ok(entry) => {
                let unexplained = self.unexplained.take();
                if entry.kind != Kind::Torn {
                    self.ready.extend(unexplained.map(Err));
                }
                if self.wanted.wants(&entry) {
                    self.ready.push_back(Ok(entry));
                }
            }
        }
    }

    /// What a log that does not grow any more has after its last whole line.
    fn finish(&mut self) -> Option<Result<Logged, AuditError>> {
        if let Some(lines) = self.lines.take()
            && let Some((place, line)) = lines.unfinished()
        {
            let parsed = parse(&self.path, place, line);
            self.sort(parsed);
        }
        self.ready.extend(self.unexplained.take().map(Err));
        self.ready.pop_front()
    }
}

fn parse(path: &Path, place: Place, line: &[u8]) -> Result<Logged, AuditError> {
    let unreadable =
        |why: String| Err(AuditError::Unreadable { path: path.into(), line: place.line, why });
    if line.len() >= LONGEST {
        return unreadable("it is too long".into());
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return unreadable("it is not UTF-8".into());
    };
    match serde_json::from_str::<Logged>(text) {
        Ok(entry) => Ok(Logged { line: text.into(), ..entry }),
        Err(err) => unreadable(err.to_string()),
    }
}

/// A filter, ready to be used.
#[derive(Debug)]
struct Wanted {
    filter: Filter,
    /// As the log has times.
    since: Option<String>,
}

impl Wanted {
    fn new(filter: Filter) -> Self {
        Self { since: filter.since.map(time::to_text), filter }
    }

    fn wants(&self, entry: &Logged) -> bool {
        let Filter { kinds, sandbox, .. } = &self.filter;
        self.since.as_ref().is_none_or(|since| *since <= entry.time)
            && (kinds.is_empty() || kinds.contains(&entry.kind))
            && sandbox.as_ref().is_none_or(|wanted| {
                entry.sandbox.as_ref().is_some_and(|subject| {
                    [subject.id.as_str(), subject.name.as_str()].contains(&wanted.as_str())
                })
            })
    }
}
