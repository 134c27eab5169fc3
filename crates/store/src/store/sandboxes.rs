//! The records of sandboxes.

use std::borrow::Cow;
use std::time::SystemTime;

use rusqlite::{Connection, Row, named_params};

use super::column::{Count, Labels, Span, Time};
use super::{Store, StoreError, Thing, all, claim_name, execute, find_id, one};
use crate::time::{from_millis, to_millis};
use crate::{Id, Name, NewRecord, ProcessRef, Record, State};

impl Store {
    /// Remembers a new sandbox. Of many processes that want one name, one gets it.
    pub fn insert(&self, new: &NewRecord) -> Result<Record, StoreError> {
        self.write(|transaction| self.add(transaction, new))
    }

    /// [`insert`](Self::insert)s all of them, or none.
    pub fn insert_all(&self, all: &[NewRecord]) -> Result<Vec<Record>, StoreError> {
        self.write(|transaction| all.iter().map(|new| self.add(transaction, new)).collect())
    }

    fn add(&self, connection: &Connection, new: &NewRecord) -> Result<Record, StoreError> {
        let id = new.id.clone().map_or_else(|| unused_id(connection, self), Ok)?;
        let record = begin(new, id);
        claim_name(connection, Thing::Sandbox, &record.name, &record.id)?;
        save(connection, &record)?;
        Ok(record)
    }

    /// Finds the sandbox that has the id or the name `asked`, or whose id alone starts so, in at
    /// least 4 characters.
    pub fn find(&self, asked: &str) -> Result<Record, StoreError> {
        self.read(|transaction| {
            let id = find_id(transaction, Thing::Sandbox, asked)?;
            by_id(transaction, &id)
        })
    }

    /// All sandboxes, the oldest first.
    pub fn list(&self) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT * FROM sandboxes ORDER BY created, name";
        self.read(|transaction| all(transaction, sql, [], record))
    }

    /// Changes a record as `change` does, with nobody else's change in between. What `change`
    /// does to the id and the time of creation is ignored. Returns what is now stored.
    pub fn update(&self, id: &Id, change: impl FnOnce(&mut Record)) -> Result<Record, StoreError> {
        self.write(|transaction| {
            let before = by_id(transaction, id)?;
            let mut after = before.clone();
            change(&mut after);
            let after = Record { id: before.id, created: before.created, ..after };
            claim_name(transaction, Thing::Sandbox, &after.name, id)?;
            self.delete(transaction, id)?;
            save(transaction, &after)?;
            by_id(transaction, id)
        })
    }

    pub fn rename(&self, id: &Id, name: &Name) -> Result<Record, StoreError> {
        self.update(id, |record| record.name = name.clone())
    }

    /// Forgets a sandbox, for who holds its [lock](Self::lock). Its folder is the caller's to
    /// remove, afterwards: a crash in between leaves a folder that no record names, which can be
    /// found, and never a record of a sandbox that is half there.
    pub fn remove(&self, id: &Id) -> Result<(), StoreError> {
        self.write(|transaction| self.delete(transaction, id))?;
        self.remove_lock(id);
        Ok(())
    }

    /// Takes away a record, with its card.
    fn delete(&self, connection: &Connection, id: &Id) -> Result<(), StoreError> {
        let sql = "DELETE FROM sandboxes WHERE id = ?1 RETURNING name";
        let name: Option<String> = one(connection, sql, [id], |row| row.get(0))?;
        // What has no name in the form of one has no card.
        match name.ok_or_else(|| gone(id))?.parse() {
            Ok(name) => self.remove_card(&name),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn has(&self, id: &Id) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM sandboxes WHERE id = ?1";
        self.read(|transaction| Ok(one(transaction, sql, [id], |_| Ok(()))?.is_some()))
    }
}

/// The error for an id that has been removed.
pub(super) fn gone(id: &Id) -> StoreError {
    StoreError::NotFound { thing: Thing::Sandbox, asked: id.to_string(), names: Vec::new() }
}

pub(super) fn by_id(connection: &Connection, id: &Id) -> Result<Record, StoreError> {
    let sql = "SELECT * FROM sandboxes WHERE id = ?1";
    one(connection, sql, [id], record)?.ok_or_else(|| gone(id))
}

fn unused_id(connection: &Connection, store: &Store) -> Result<Id, StoreError> {
    loop {
        let id =
            Id::random().map_err(|source| StoreError::Io { path: store.dirs.store(), source })?;
        let sql = "SELECT 1 FROM sandboxes WHERE id = ?1";
        if one(connection, sql, [&id], |_| Ok(()))?.is_none() {
            return Ok(id);
        }
    }
}

/// A sandbox at the start of its life.
fn begin(new: &NewRecord, id: Id) -> Record {
    // To the millisecond, as it will be read.
    let now = SystemTime::now();
    let new = new.clone();
    Record {
        id,
        name: new.name,
        backend: new.backend,
        spec: new.spec,
        labels: new.labels,
        state: State::Created,
        process: None,
        place: None,
        created: from_millis(to_millis(now)).unwrap_or(now),
        started: None,
        stopped: None,
        why: None,
        ttl: new.ttl,
        idle: new.idle,
        applied: new.applied,
        origin: new.origin,
    }
}

/// Writes a record that has no row.
fn save(connection: &Connection, record: &Record) -> Result<(), StoreError> {
    let process = record.process.as_ref();
    let sql = "INSERT INTO sandboxes (id, name, backend, spec, labels, state, pid, start_time,
            boot_id, place, created, started, stopped, why, ttl, idle, applied, origin)
        VALUES (:id, :name, :backend, :spec, :labels, :state, :pid, :start_time,
            :boot_id, :place, :created, :started, :stopped, :why, :ttl, :idle, :applied, :origin)";
    let params = named_params! {
        ":id": record.id,
        ":name": record.name,
        ":backend": record.backend,
        ":spec": record.spec,
        ":labels": Labels(Cow::Borrowed(&record.labels)),
        ":state": record.state,
        ":pid": process.map(|process| process.pid),
        ":start_time": process.map(|process| Count(process.start_time)),
        ":boot_id": process.map(|process| &process.boot_id),
        ":place": record.place,
        ":created": Time(record.created),
        ":started": record.started.map(Time),
        ":stopped": record.stopped.map(Time),
        ":why": record.why,
        ":ttl": record.ttl.map(Span),
        ":idle": record.idle.map(Span),
        ":applied": record.applied,
        ":origin": record.origin,
    };
    execute(connection, sql, params)?;
    Ok(())
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: row.get("id")?,
        name: row.get("name")?,
        backend: row.get("backend")?,
        spec: row.get("spec")?,
        labels: row.get::<_, Labels>("labels")?.0.into_owned(),
        state: row.get("state")?,
        process: process(row)?,
        place: row.get("place")?,
        created: row.get::<_, Time>("created")?.0,
        started: row.get::<_, Option<Time>>("started")?.map(|time| time.0),
        stopped: row.get::<_, Option<Time>>("stopped")?.map(|time| time.0),
        why: row.get("why")?,
        ttl: row.get::<_, Option<Span>>("ttl")?.map(|span| span.0),
        idle: row.get::<_, Option<Span>>("idle")?.map(|span| span.0),
        applied: row.get("applied")?,
        origin: row.get("origin")?,
    })
}

fn process(row: &Row<'_>) -> rusqlite::Result<Option<ProcessRef>> {
    let Some(pid) = row.get("pid")? else {
        return Ok(None);
    };
    let Count(start_time) = row.get("start_time")?;
    Ok(Some(ProcessRef { pid, start_time, boot_id: row.get("boot_id")? }))
}
