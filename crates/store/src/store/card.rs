//! Cards: what the database says of sandboxes that run, each in a small file.
//!
//! A command in a living sandbox needs a single record, and to open the database for it takes
//! longer than all else that such a command has to do. So whoever has opened it for one leaves a
//! card for those who come next.
//!
//! A card says what the database says, or it is not there. It is written by who keeps everybody
//! else from writing to the database meanwhile, and whoever changes a record removes its card
//! before that is committed: so whoever is killed on the way leaves no card, or a true one. And it
//! counts for the database's file as that was then: one that was damaged, or put in its place, is
//! opened and looked at.
//!
//! What is deliberately not done: to say whether the sandbox runs. That is for the reader to see by
//! the process, which tells him of a reboot, too, before which a power cut may have taken back
//! changes that cards know of.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::open::BUSY_TIMEOUT;
use super::sandboxes::by_id;
use super::{Store, StoreError};
use crate::time::{from_millis, to_millis};
use crate::{Id, Name, ProcessRef, Record, State};

/// The form of what follows. A version that writes another one has another word for it.
const FORM: &str = "1";

impl Store {
    /// The record of the sandbox that has the name `asked`, as a card has it. The database is not
    /// opened for it.
    pub fn card(&self, asked: &str) -> Option<Record> {
        // Whatever has it for its id goes before what has it for its name.
        let name = asked.parse::<Name>().ok().filter(|_| asked.parse::<Id>().is_err())?;
        let text = fs::read_to_string(self.dirs.card(&name)).ok()?;
        let (head, record) = text.split_once('\n')?;
        let record = read(record).filter(|record| record.name == name)?;
        (head == head_for(&self.dirs.store()).ok()?).then_some(record)
    }

    /// Leaves a card of a sandbox, if that is said to run. Nobody is kept waiting for it, and
    /// nothing is lost if it can't be left.
    pub fn leave_card(&self, id: &Id) {
        let Ok(connection) = self.connection() else { return };
        let _ = connection.busy_timeout(Duration::ZERO);
        let _ = self.write(|transaction| {
            let record = by_id(transaction, id)?;
            let path = self.dirs.card(&record.name);
            let left = written(&record).map(|text| {
                let head = head_for(&self.dirs.store())?;
                put(&path, &format!("{head}\n{text}"))
            });
            left.transpose().map_err(|source| StoreError::Io { path, source })
        });
        let _ = connection.busy_timeout(BUSY_TIMEOUT);
    }

    /// Removes the card of a sandbox whose record is about to be changed, if there is one.
    pub(super) fn remove_card(&self, name: &Name) -> Result<(), StoreError> {
        remove_if_any(self.dirs.card(name), |path| fs::remove_file(path))
    }

    /// Removes all cards.
    pub(super) fn remove_cards(&self) -> Result<(), StoreError> {
        remove_if_any(self.dirs.cards(), |path| {
            path.read_dir()?.try_for_each(|card| fs::remove_file(card?.path()))
        })
    }
}

/// Does `remove` to `path`, which need not be there.
fn remove_if_any(
    path: PathBuf,
    remove: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), StoreError> {
    match remove(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| StoreError::Io { path, source }),
    }
}

/// What a card begins with that is written now.
fn head_for(database: &Path) -> io::Result<String> {
    let data = database.symlink_metadata()?;
    let (dev, ino, size) = (data.dev(), data.ino(), data.size());
    Ok(format!("{FORM} {dev} {ino} {size} {}.{}", data.mtime(), data.mtime_nsec()))
}

/// Writes a card in the place of the one that may be there, whole or not at all.
fn put(path: &Path, text: &str) -> io::Result<()> {
    // No name starts so, and nobody else puts one now.
    let draft = path.with_file_name(".draft");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&draft)?.write_all(text.as_bytes())?;
    fs::rename(&draft, path)
}

/// A record as lines, in the order of [`read`]; `None` if that would not make the same of them, or
/// if it is not of a sandbox that runs. By serde it would be 22 KB more of the small program.
fn written(record: &Record) -> Option<String> {
    let process = record.process.as_ref().filter(|_| record.state == State::Running)?;
    let time = |time: SystemTime| to_millis(time).to_string();
    let span = |span: Duration| span.as_millis().to_string();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let lines = [
        record.id.to_string(),
        record.name.to_string(),
        record.backend.clone(),
        record.spec.clone(),
        serde_json::to_string(&record.labels).ok()?,
        process.pid.to_string(),
        process.start_time.to_string(),
        process.boot_id.clone(),
        text(&record.place),
        time(record.created),
        record.started.map(time).unwrap_or_default(),
        record.stopped.map(time).unwrap_or_default(),
        text(&record.why),
        record.ttl.map(span).unwrap_or_default(),
        record.idle.map(span).unwrap_or_default(),
        text(&record.applied),
        text(&record.origin),
        String::new(),
    ];
    let lines = lines.join("\n");
    (read(&lines).as_ref() == Some(record)).then_some(lines)
}

fn read(lines: &str) -> Option<Record> {
    let mut lines = lines.split('\n');
    let mut next = || lines.next();
    let record = Record {
        id: next()?.parse().ok()?,
        name: next()?.parse().ok()?,
        backend: next()?.into(),
        spec: next()?.into(),
        labels: serde_json::from_str(next()?).ok()?,
        state: State::Running,
        process: Some(ProcessRef {
            pid: next()?.parse().ok()?,
            start_time: next()?.parse().ok()?,
            boot_id: next()?.into(),
        }),
        place: some(next()?),
        created: from_millis(next()?.parse().ok()?)?,
        started: number(next()?)?.and_then(from_millis),
        stopped: number(next()?)?.and_then(from_millis),
        why: some(next()?),
        ttl: number(next()?)?.map(Duration::from_millis),
        idle: number(next()?)?.map(Duration::from_millis),
        applied: some(next()?),
        origin: some(next()?),
    };
    (lines.next() == Some("") && lines.next().is_none()).then_some(record)
}

/// What an empty line stands for is not there.
fn some(line: &str) -> Option<String> {
    (!line.is_empty()).then(|| line.into())
}

/// The same, where the outer `None` is for what makes no sense.
fn number<T: FromStr>(line: &str) -> Option<Option<T>> {
    match line {
        "" => Some(None),
        line => line.parse().ok().map(Some),
    }
}
