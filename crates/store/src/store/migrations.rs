//! The shape of the database, and how older ones get it.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{StoreError, one};

/// Marks a SQLite file as ours; the bytes `akst`. See `PRAGMA application_id`.
const APPLICATION_ID: i64 = 0x616b_7374;

/// Step N makes version N + 1 of version N. A step that has been released is never changed.
///
/// Times and spans are milliseconds. What is JSON of the layer above is not looked into, so it
/// has no columns of its own.
const STEPS: [&str; 1] = ["
    CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT UNIQUE NOT NULL,
        backend TEXT NOT NULL,
        spec TEXT NOT NULL,
        labels TEXT NOT NULL,
        state TEXT NOT NULL,
        pid INTEGER,
        start_time INTEGER,
        boot_id TEXT,
        place TEXT,
        created INTEGER NOT NULL,
        started INTEGER,
        stopped INTEGER,
        why TEXT,
        ttl INTEGER,
        idle INTEGER,
        applied TEXT,
        origin TEXT
    ) STRICT;
    CREATE TABLE snapshots (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT UNIQUE NOT NULL,
        made_of TEXT NOT NULL,
        backend TEXT NOT NULL,
        spec TEXT NOT NULL,
        created INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE pools (
        name TEXT PRIMARY KEY NOT NULL,
        size INTEGER NOT NULL,
        backend TEXT NOT NULL,
        spec TEXT NOT NULL,
        max_age INTEGER
    ) STRICT;
"];

/// The version that this program knows.
const KNOWN: i64 = STEPS.len() as i64;

/// Whether the database has the shape that this program knows. One that it can't know, or that
/// is not ours, is an error. Changes nothing.
pub(super) fn is_current(connection: &Connection, path: &Path) -> Result<bool, StoreError> {
    let sql = "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
        FROM pragma_user_version, pragma_application_id";
    let row = one(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (version, application, tables): (i64, i64, i64) = row.unwrap_or_default();
    let path = path.to_path_buf();
    if version == 0 && application == 0 && tables == 0 {
        return Ok(false);
    }
    if application != APPLICATION_ID {
        let why = "it is another program's SQLite database".into();
        return Err(StoreError::NotAStore { path, why });
    }
    if version > KNOWN {
        return Err(StoreError::Newer { path, found: version, known: KNOWN });
    }
    Ok(version == KNOWN)
}

/// Gives the database the shape that this program knows, in one transaction. Only one process at
/// a time may do so. Before that is committed, what was copied from it is removed by `remove_copies`.
pub(super) fn run(
    connection: &Connection,
    remove_copies: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // It stays so for ever, and can't be changed inside a transaction. Readers and a writer don't
    // wait for each other then.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or_default()) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", KNOWN)?;
    remove_copies()?;
    transaction.commit()?;
    Ok(())
}
