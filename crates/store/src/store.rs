//! The records in their database.
//!
//! Every process opens the database for itself. A method is one transaction, so what it says was
//! true at one time, and what it wrote stays after it returned, whatever becomes of the process. A
//! power cut may undo the last writes, but whole ones, in order.
//!
//! What is deliberately not done: no file is ever repaired, replaced or deleted here. A database
//! that can't be understood is an error that names it.

mod card;
mod column;
mod error;
mod lock;
mod migrations;
mod open;
mod pools;
mod sandboxes;
mod snapshots;

pub use error::{StoreError, Thing};
pub use lock::SandboxLock;

use std::cell::OnceCell;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, TransactionBehavior};

use crate::{Dirs, Id, Name};

/// The database of one user. A process may open it often, say once in each thread.
#[derive(Debug)]
pub struct Store {
    /// None before it is needed, if it was not to be opened earlier.
    connection: OnceCell<Connection>,
    dirs: Dirs,
}

impl Drop for Store {
    fn drop(&mut self) {
        let Some(connection) = self.connection.get() else { return };
        let log = self.dirs.store().with_extension("db-wal");
        if log.metadata().is_ok_and(|log| log.len() > 0) {
            // What is in the log is carried over, and the log emptied, unless somebody else is
            // using it: they will. Nothing is lost if this fails.
            let _ = connection.busy_timeout(Duration::ZERO);
            let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
        }
    }
}

impl Store {
    /// Does `work` in one transaction that nobody else can write beside. It is kept if `work`
    /// succeeds. Waits for other writers, for 10 seconds at most.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.connection()?;
        self.located(|| {
            let transaction = Transaction::new_unchecked(
                connection,
                // Else two that read before they write would refuse each other.
                TransactionBehavior::Immediate,
            )?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Does `work`, which sees the database as it is at one time and changes nothing.
    fn read<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.connection()?;
        self.located(|| {
            let transaction =
                Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
            work(&transaction)
        })
    }

    /// Says in an error which file it is about.
    fn located<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        work().map_err(|err| err.at(&self.dirs.store()))
    }
}

/// The one row that `sql` finds, or none.
fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    Ok(connection.prepare_cached(sql)?.query_row(params, read).optional()?)
}

/// All rows that `sql` finds, in its order.
fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    Ok(connection.prepare_cached(sql)?.query_map(params, read)?.collect::<Result<_, _>>()?)
}

/// Carries out `sql`; says how many rows it changed.
fn execute(connection: &Connection, sql: &str, params: impl Params) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// Finds one thing of the table `table`, which has the columns `id` and `name`: by its id, else
/// by its name, else by the start of its id that no other has.
fn find_id(connection: &Connection, thing: Thing, asked: &str) -> Result<Id, StoreError> {
    let table = thing.table();
    let exact =
        format!("SELECT id FROM {table} WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1");
    if let Some(id) = one(connection, &exact, [asked], |row| row.get(0))? {
        return Ok(id);
    }
    let mut started: Vec<Id> = Vec::new();
    if asked.len() >= SHORTEST_PREFIX && Id::may_start_with(asked) {
        // What may start an id holds nothing that GLOB takes for more than itself.
        let by_start = format!("SELECT id FROM {table} WHERE id GLOB ?1 || '*' ORDER BY id");
        started = all(connection, &by_start, [asked], |row| row.get(0))?;
    }
    match started.len() {
        1 => Ok(started.remove(0)),
        0 => {
            let names = format!("SELECT name FROM {table} ORDER BY name");
            let names = all(connection, &names, [], |row| row.get(0))?;
            Err(StoreError::NotFound { thing, asked: asked.into(), names })
        }
        _ => Err(StoreError::Ambiguous { thing, asked: asked.into(), ids: started }),
    }
}

/// The fewest digits that stand for an id.
const SHORTEST_PREFIX: usize = 4;

/// Refuses a name that another than `id` has.
fn claim_name(
    connection: &Connection,
    thing: Thing,
    name: &Name,
    id: &Id,
) -> Result<(), StoreError> {
    let sql = format!("SELECT id FROM {} WHERE name = ?1 AND id <> ?2", thing.table());
    match one(connection, &sql, (name, id), |row| row.get(0))? {
        None => Ok(()),
        Some(id) => Err(StoreError::NameTaken { thing, name: name.clone(), id }),
    }
}
