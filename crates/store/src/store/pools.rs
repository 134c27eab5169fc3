//! The records of pools.

use rusqlite::{Row, named_params};

use super::column::Span;
use super::{Store, StoreError, Thing, all, execute};
use crate::Pool;

impl Store {
    /// Remembers a pool; in place of the one that had its name, if one had.
    pub fn set_pool(&self, pool: &Pool) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO pools (name, size, backend, spec, max_age)
            VALUES (:name, :size, :backend, :spec, :max_age)";
        self.write(|transaction| {
            let params = named_params! {
                ":name": pool.name,
                ":size": pool.size,
                ":backend": pool.backend,
                ":spec": pool.spec,
                ":max_age": pool.max_age.map(Span),
            };
            execute(transaction, sql, params)?;
            Ok(())
        })
    }

    /// All pools, by name.
    pub fn list_pools(&self) -> Result<Vec<Pool>, StoreError> {
        let sql = "SELECT * FROM pools ORDER BY name";
        self.read(|transaction| all(transaction, sql, [], pool))
    }

    /// Forgets the pool that has this very name.
    pub fn remove_pool(&self, name: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            if execute(transaction, "DELETE FROM pools WHERE name = ?1", [name])? > 0 {
                return Ok(());
            }
            let names =
                all(transaction, "SELECT name FROM pools ORDER BY name", [], |row| row.get(0))?;
            Err(StoreError::NotFound { thing: Thing::Pool, asked: name.into(), names })
        })
    }
}

fn pool(row: &Row<'_>) -> rusqlite::Result<Pool> {
    Ok(Pool {
        name: row.get("name")?,
        size: row.get("size")?,
        backend: row.get("backend")?,
        spec: row.get("spec")?,
        max_age: row.get::<_, Option<Span>>("max_age")?.map(|span| span.0),
    })
}
