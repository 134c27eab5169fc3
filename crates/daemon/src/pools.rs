//! The pools of the store, by the key that clients ask with.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agentkernel_engine::{Engine, pool_key};
use agentkernel_pool::{Lease, Pool, Settings};
use agentkernel_store::Store;
use agentkernel_wire::{PoolStatus, SpecRecord, micros};

use crate::DaemonError;
use crate::nursery::{Nurseries, Seat};

/// How long a sandbox waits ready before it is replaced, unless a pool says otherwise.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Every pool that is held.
pub struct Pools {
    engine: &'static Engine,
    nurseries: Arc<Nurseries>,
    held: HashMap<String, Held>,
    /// Those that are emptied, beside everything else.
    leaving: Vec<JoinHandle<()>>,
}

struct Held {
    /// As the store has it.
    record: agentkernel_store::Pool,
    pool: Pool<Seat>,
}

impl Pools {
    /// Starts to fill all pools of the store.
    pub fn load(
        store: &Store,
        engine: &'static Engine,
        nurseries: Arc<Nurseries>,
    ) -> Result<Self, DaemonError> {
        let mut pools = Self { engine, nurseries, held: HashMap::new(), leaving: Vec::new() };
        pools.reload(store)?;
        Ok(pools)
    }

    /// Brings the pools in line with the store: what has changed only in size keeps what is ready.
    /// Those that are not wanted any more are emptied beside, for that takes its time.
    pub fn reload(&mut self, store: &Store) -> Result<(), DaemonError> {
        let wanted = store.list_pools()?;
        let stays = |held: &Held| wanted.iter().any(|w| same_places(w, &held.record));
        let gone: Vec<Held> =
            self.held.extract_if(|_, held| !stays(held)).map(|(_, held)| held).collect();
        self.leaving.retain(|thread| !thread.is_finished());
        for held in gone {
            let empty = move || held.pool.stop();
            self.leaving.push(thread::Builder::new().name("leaving".into()).spawn(empty)?);
        }
        for record in wanted {
            if let Some(held) =
                self.held.values_mut().find(|held| same_places(&record, &held.record))
            {
                held.pool.resize(record.size as usize)?;
                held.record = record;
                continue;
            }
            let Some(key) = self.key(&record) else {
                eprintln!(
                    "agentkerneld: the pool {} can't be held: its spec can't be read",
                    record.name
                );
                continue;
            };
            if let Some(held) = self.held.get(&key) {
                let (other, name) = (&held.record.name, &record.name);
                eprintln!(
                    "agentkerneld: the pool {name} is of the same spec as {other}, and not held"
                );
                continue;
            }
            let pool = self.fill(&record)?;
            self.held.insert(key, Held { record, pool });
        }
        Ok(())
    }

    fn key(&self, record: &agentkernel_store::Pool) -> Option<String> {
        let backend = self.engine.select(Some(&record.backend)).ok()?;
        let spec = SpecRecord::from_json(&record.spec).and_then(TryInto::try_into).ok()?;
        pool_key(backend, &spec)
    }

    fn fill(&self, record: &agentkernel_store::Pool) -> Result<Pool<Seat>, DaemonError> {
        let settings = Settings {
            max_age: record.max_age.unwrap_or(MAX_AGE),
            at_once: self.nurseries.count(),
            ..Settings::new(record.size as usize)
        };
        let (backend, spec) = (record.backend.clone(), record.spec.clone());
        let nurseries = Arc::clone(&self.nurseries);
        Ok(Pool::start(&settings, move || nurseries.boot(&backend, &spec))?)
    }

    /// Takes a place out of the pool with this key. Nothing here waits.
    pub fn lease(&self, key: &str) -> Result<(&str, Lease<Seat>), String> {
        let Some(Held { record, pool }) = self.held.get(key) else {
            return Err("no pool holds sandboxes of this spec".into());
        };
        match pool.acquire() {
            Some(lease) => Ok((record.name.as_str(), lease)),
            None => Err(match pool.status().last_failure {
                Some(why) => format!("the pool {} is empty: {why}", record.name),
                None => format!("the pool {} is empty", record.name),
            }),
        }
    }

    pub fn status(&self) -> Vec<PoolStatus> {
        let mut all: Vec<PoolStatus> = self.held.values().map(Held::status).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Empties all of them, and waits until that is done.
    pub fn stop(&mut self) {
        for (_, held) in self.held.drain() {
            held.pool.stop();
        }
        for thread in self.leaving.drain(..) {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

/// Whether what is ready for one will do for the other.
fn same_places(a: &agentkernel_store::Pool, b: &agentkernel_store::Pool) -> bool {
    (&a.name, &a.backend, &a.spec, &a.max_age) == (&b.name, &b.backend, &b.spec, &b.max_age)
}

impl Held {
    fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            name: self.record.name.to_string(),
            backend: self.record.backend.clone(),
            size: status.size as u64,
            ready: status.ready as u64,
            booting: status.booting as u64,
            handed_out: status.handed_out,
            empty: status.refused_empty,
            boots: status.boots,
            last_boot_us: status.last_boot.map(micros),
            failures: status.failures,
            last_failure: status.last_failure,
            dead: status.dead,
            aged: status.aged,
        }
    }
}
