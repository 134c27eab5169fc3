//! The records of snapshots.

use rusqlite::{Row, named_params};

use super::column::{Count, Time};
use super::{Store, StoreError, Thing, all, claim_name, execute, find_id, one};
use crate::{Id, Snapshot};

impl Store {
    /// Remembers a snapshot. Its folder is the caller's to make, before this, so that no record
    /// names a snapshot that is half there.
    pub fn insert_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let sql = "INSERT INTO snapshots (id, name, made_of, backend, spec, created, bytes)
            VALUES (:id, :name, :made_of, :backend, :spec, :created, :bytes)";
        self.write(|transaction| {
            claim_name(transaction, Thing::Snapshot, &snapshot.name, &snapshot.id)?;
            let params = named_params! {
                ":id": snapshot.id,
                ":name": snapshot.name,
                ":made_of": snapshot.of,
                ":backend": snapshot.backend,
                ":spec": snapshot.spec,
                ":created": Time(snapshot.created),
                ":bytes": Count(snapshot.bytes),
            };
            execute(transaction, sql, params)?;
            Ok(())
        })
    }

    /// Finds a snapshot as [`find`](Self::find) does a sandbox.
    pub fn find_snapshot(&self, asked: &str) -> Result<Snapshot, StoreError> {
        self.read(|transaction| {
            let id = find_id(transaction, Thing::Snapshot, asked)?;
            let sql = "SELECT * FROM snapshots WHERE id = ?1";
            one(transaction, sql, [&id], snapshot)?.ok_or_else(|| gone(&id))
        })
    }

    /// All snapshots, the oldest first.
    pub fn list_snapshots(&self) -> Result<Vec<Snapshot>, StoreError> {
        let sql = "SELECT * FROM snapshots ORDER BY created, name";
        self.read(|transaction| all(transaction, sql, [], snapshot))
    }

    /// Forgets a snapshot. Its folder is the caller's to remove, afterwards.
    pub fn remove_snapshot(&self, id: &Id) -> Result<(), StoreError> {
        self.write(|transaction| {
            match execute(transaction, "DELETE FROM snapshots WHERE id = ?1", [id])? {
                0 => Err(gone(id)),
                _ => Ok(()),
            }
        })
    }
}

fn gone(id: &Id) -> StoreError {
    StoreError::NotFound { thing: Thing::Snapshot, asked: id.to_string(), names: Vec::new() }
}

fn snapshot(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot {
        id: row.get("id")?,
        name: row.get("name")?,
        of: row.get("made_of")?,
        backend: row.get("backend")?,
        spec: row.get("spec")?,
        created: row.get::<_, Time>("created")?.0,
        bytes: row.get::<_, Count>("bytes")?.0,
    })
}
