//! Whether the log is as it was written.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use super::line::{Joints, LONGEST, Lines, Link, Place, digest_of_part};
use super::{AuditError, Kind, Logged};

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was changed, removed, added or reordered.
    Verified {
        entries: u64,
        /// How often a line was written only in part and the next entry said so.
        torn: u64,
        /// The number of the last line, if it is cut in its middle and no entry says so yet: by a
        /// crash, or by somebody.
        unfinished: Option<u64>,
        /// The hash of the last entry; 64 zeros if there is none. If it is as it was noted
        /// elsewhere, nothing was cut off at the end either.
        last: String,
    },
    /// The log was tampered with, or its disk is not well.
    Broken {
        /// The first line that is not as it was written, or that others are missing before.
        line: u64,
        why: String,
    },
}

/// Checks the whole chain. A log that is not there has no entries.
pub fn verify(path: &Path) -> Result<Verdict, AuditError> {
    let file = match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return Ok(Chain::new().verdict(None));
        }
        other => other.map_err(|err| AuditError::read(path, err))?,
    };
    check(file).map_err(|err| AuditError::read(path, err))
}

fn check(file: File) -> io::Result<Verdict> {
    // Not while an entry is being written. Those that come later are not waited for.
    retry_on_intr(|| flock(&file, FlockOperation::LockShared))?;
    let size = file.metadata()?.len();
    flock(&file, FlockOperation::Unlock)?;
    let mut chain = Chain::new();
    let bytes = file.try_clone()?;
    let mut lines = Lines::new(file);
    while let Some((place, line)) = lines.next()? {
        if place.start >= size && chain.unexplained.is_none() {
            return Ok(chain.verdict(None));
        }
        if let Err(broken) = chain.join(place, line, &bytes)? {
            return Ok(broken.verdict());
        }
    }
    let Some((place, line)) = lines.unfinished() else {
        return Ok(chain.verdict(None));
    };
    // Only its end may be missing.
    if Joints::of(line).is_some()
        && let Err(broken) = chain.join(place, line, &bytes)?
    {
        return Ok(broken.verdict());
    }
    Ok(chain.verdict(Some(place.line)))
}

/// The first line that is wrong, and what is.
struct Broken {
    place: Place,
    why: &'static str,
}

impl Broken {
    fn verdict(&self) -> Verdict {
        Verdict::Broken { line: self.place.line, why: self.why.into() }
    }
}

/// The chain as far as it was checked.
struct Chain {
    link: Link,
    entries: u64,
    torn: u64,
    /// Where the lines begin that are none, if no entry has said yet that they are torn.
    unexplained: Option<Broken>,
}

impl Chain {
    fn new() -> Self {
        Self { link: Link::first(), entries: 0, torn: 0, unexplained: None }
    }

    /// Checks the next line, of the log `bytes`.
    fn join(&mut self, place: Place, line: &[u8], bytes: &File) -> io::Result<Result<(), Broken>> {
        let joints = if line.len() < LONGEST { Joints::of(line) } else { None };
        let Some(joints) = joints else {
            let why = "it is no entry";
            self.unexplained.get_or_insert(Broken { place, why });
            return Ok(Ok(()));
        };
        if let Some(broken) = self.unexplained.take() {
            if !explains(line, bytes, broken.place.start, place.start)? {
                return Ok(Err(broken));
            }
            self.torn += 1;
        }
        let broken = |why| Ok(Err(Broken { place, why }));
        if !joints.fit(line) {
            return broken("it was changed after it was written");
        }
        if joints.seq != self.link.seq + 1 || joints.prev != self.link.hash {
            return broken(
                "it does not follow the entry before it: one was removed, added or moved",
            );
        }
        self.link = joints.link();
        self.entries += 1;
        Ok(Ok(()))
    }

    fn verdict(self, unfinished: Option<u64>) -> Verdict {
        let unfinished = match (self.unexplained, unfinished) {
            (Some(broken), None) => return broken.verdict(),
            // It was torn twice, and what it ends in begins here.
            (Some(broken), Some(_)) => Some(broken.place.line),
            (None, unfinished) => unfinished,
        };
        Verdict::Verified {
            entries: self.entries,
            torn: self.torn,
            unfinished,
            last: self.link.hash,
        }
    }
}

/// Whether the entry says of the bytes from `start` to `end` that they are a torn line.
fn explains(line: &[u8], bytes: &File, start: u64, end: u64) -> io::Result<bool> {
    let Ok(entry) = serde_json::from_slice::<Logged>(line) else {
        return Ok(false);
    };
    // They got an end when the entry was written.
    let Some(length) = (end - start).checked_sub(1) else {
        return Ok(false);
    };
    Ok(entry.kind == Kind::Torn
        && entry.detail["bytes"] == length
        && entry.detail["sha256"] == digest_of_part(bytes, start, length)?)
}
