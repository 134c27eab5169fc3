//! Writing the log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::retry_on_intr;
use serde_json::json;

use super::line::{Joints, Link, digest_of_part};
use super::{AuditError, Entry, Kind};

/// A log to write to, which need not be there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    path: PathBuf,
}

impl Audit {
    /// Names the log's file. Nothing is done to it before something is appended.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an entry. Any number of processes may do so at once. It is in the file then, but not
    /// yet forced to the disk: a power cut may take the last ones. The file's folder must be there.
    ///
    /// If it fails, nothing was appended.
    pub fn append(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        let failed = |err| AuditError::write(&self.path, err);
        // It is opened anew each time, so a log that somebody moved away is not written to.
        let file = open(&self.path).map_err(failed)?;
        retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| failed(errno.into()))?;
        let appended = self.append_to(&file, entry);
        // To close the file would not do: a child that another thread just forked has it, too.
        let _ = flock(&file, FlockOperation::Unlock);
        appended
    }

    /// Appends an entry to the open file, which nobody else writes to meanwhile.
    fn append_to(&self, file: &File, entry: &Entry<'_>) -> Result<(), AuditError> {
        let failed = |err| AuditError::write(&self.path, err);
        let tail = Tail::read(file)
            .map_err(failed)?
            .ok_or_else(|| AuditError::NoEnd { path: self.path.clone() })?;

        let mut text = Vec::with_capacity(1024);
        if tail.in_a_line {
            text.push(b'\n');
        }
        let torn = tail.torn.map(|(start, length)| {
            let sha256 = digest_of_part(file, start, length)?;
            let detail = json!({ "bytes": length, "sha256": sha256 });
            Ok(Entry { detail, ..Entry::new(Kind::Torn, entry.who) })
        });
        let torn = torn.transpose().map_err(failed)?;
        let mut link = tail.link;
        for entry in torn.iter().chain([entry]) {
            link.add(entry, &mut text)
                .ok_or_else(|| AuditError::TooLong { path: self.path.clone() })?;
        }
        write(file, &text, tail.size).map_err(failed)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// Writes all of `text` at the end of a file of `size` bytes, or nothing.
fn write(file: &File, text: &[u8], size: u64) -> io::Result<()> {
    let error = match retry_on_intr(|| rustix::io::write(file, text)) {
        Ok(written) if written == text.len() => return Ok(()),
        Ok(_) => io::ErrorKind::StorageFull.into(),
        Err(errno) => errno.into(),
    };
    // If even that fails, the next entry finds the line torn and says so.
    let _ = file.set_len(size);
    Err(error)
}

/// What a log ends in.
struct Tail {
    /// The size of the file, in bytes.
    size: u64,
    link: Link,
    /// Whether the last line lacks its end.
    in_a_line: bool,
    /// Start and length of what was written in part, after the last whole line.
    torn: Option<(u64, u64)>,
}

impl Tail {
    /// How much is read first. Most lines are a fraction of it.
    const FIRST_LOOK: u64 = 4 * 1024;
    /// How much is read at most, which is many of the longest lines.
    const LAST_LOOK: u64 = 1024 * 1024;

    /// Looks for the last whole line, as far back as is sensible; `None` if there is none.
    fn read(file: &File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let size = metadata.len();
        let mut length = Self::FIRST_LOOK;
        loop {
            let start = size.saturating_sub(length);
            let mut part = vec![0; usize::try_from(size - start).unwrap_or_default()];
            file.read_exact_at(&mut part, start)?;
            let tail = Self::of(&part, start);
            if tail.is_some() || length >= Self::LAST_LOOK {
                return Ok(tail);
            }
            length *= 4;
        }
    }

    /// Looks at the last part of a log, which begins at `start`.
    fn of(part: &[u8], start: u64) -> Option<Self> {
        let size = start + part.len() as u64;
        let (mut rest, in_a_line) = match part {
            [rest @ .., b'\n'] => (rest, false),
            rest => (rest, !rest.is_empty()),
        };
        let (link, whole) = loop {
            let line = rest.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
            let begins = rest.len() - line.len();
            // It may begin before this part.
            if begins == 0 && start > 0 {
                return None;
            }
            if let Some(joints) = Joints::of(line) {
                break (joints.link(), (rest.len() + 1).min(part.len()));
            }
            if begins == 0 {
                break (Link::first(), 0);
            }
            rest = &rest[..begins - 1];
        };
        // No part of a line ends as lines do. What does was put there by somebody, and is left for
        // `verify` to find.
        let is_torn = in_a_line && whole < part.len();
        let torn = is_torn.then(|| (start + whole as u64, (part.len() - whole) as u64));
        Some(Self { size, link, in_a_line, torn })
    }
}
