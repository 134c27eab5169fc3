//! Sandboxes that live: made once, used often, reachable from every process of their owner.
//!
//! The store says which there are, and a lock for each keeps those apart who change it. What is
//! running is never believed from the store alone: [`Sandboxes::settle`] looks at the process.

mod background;
mod boot;
mod dial;
mod exec;
mod log;
mod prune;
mod settle;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{Backend, Capability, Spec};
use agentkernel_store::audit::{Entry as Audited, Kind, Subject, digest};
use agentkernel_store::{Dirs, Name, NewRecord, Record, State, Store};
use agentkernel_wire::SpecRecord;
use serde_json::Value;

pub use background::{Attached, Background, BackgroundState, Reading, Since};
pub use dial::{Dial, DialError, PATIENCE};
pub use exec::{Client, Exec};
pub use log::Entry;
pub use prune::{Leftover, Pruned};

use crate::journal::{Journal, without_values};
use crate::{Engine, EngineError, demand};

/// The sandboxes of one user.
pub struct Sandboxes<'a> {
    engine: &'a Engine,
    store: Store,
    dirs: Dirs,
    journal: Journal,
}

/// A sandbox to be made.
#[derive(Debug)]
pub struct NewSandbox {
    /// Made up if there is none.
    pub name: Option<Name>,
    pub backend: Option<String>,
    pub spec: Spec,
    pub labels: BTreeMap<String, String>,
    pub ttl: Option<Duration>,
    pub idle: Option<Duration>,
    /// What it is made from, if not from nothing.
    pub origin: Option<String>,
}

impl<'a> Sandboxes<'a> {
    /// Opens the store in `dirs`, making it if there is none. `client` is by what the user has
    /// come, for the audit log.
    pub fn open(engine: &'a Engine, dirs: Dirs, client: &str) -> Result<Self, EngineError> {
        let (store, journal) = (Store::open(&dirs)?, Journal::new(&dirs, client));
        Ok(Self { engine, store, dirs, journal })
    }

    /// The same, but makes no store where there is none.
    pub fn open_existing(
        engine: &'a Engine,
        dirs: Dirs,
        client: &str,
    ) -> Result<Option<Self>, EngineError> {
        let store = Store::open_existing(&dirs)?;
        let journal = Journal::new(&dirs, client);
        Ok(store.map(|store| Self { engine, store, dirs, journal }))
    }

    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the record of a sandbox, under a name that nobody else has.
    pub fn create(&self, new: NewSandbox) -> Result<Record, EngineError> {
        let backend = self.engine.select(new.backend.as_deref())?;
        demand::check(backend, &new.spec, false)?;
        if !backend.capabilities().has(Capability::Live) {
            return Err(EngineError::refused(
                format!("the {} backend has no sandboxes that outlive a command", backend.name()),
                "use agentkernel run".into(),
            ));
        }
        let name = match new.name {
            Some(name) => name,
            None => Name::made_up().map_err(|e| EngineError::failed("can't make up a name", &e))?,
        };
        let record = self.store.insert(&NewRecord {
            name,
            backend: backend.name().into(),
            spec: SpecRecord::from(&new.spec).to_json(),
            labels: new.labels,
            ttl: new.ttl,
            idle: new.idle,
            origin: new.origin,
        })?;
        self.note(Kind::Create, &record, Value::Null)?;
        Ok(record)
    }

    /// The sandbox of this name or id, with its state as it is.
    pub fn find(&self, asked: &str) -> Result<Record, EngineError> {
        let record = self.store.find(asked)?;
        match self.settle(record)? {
            Some(record) => Ok(record),
            // It had run out of time; now it is not there, and that is told in the same words.
            None => Ok(self.store.find(asked)?),
        }
    }

    /// All sandboxes, with their states as they are, the oldest first.
    pub fn list(&self) -> Result<Vec<Record>, EngineError> {
        let mut all = Vec::new();
        for record in self.store.list()? {
            all.extend(self.settle(record)?);
        }
        Ok(all)
    }

    pub fn rename(&self, asked: &str, name: &Name) -> Result<Record, EngineError> {
        let before = self.find(asked)?;
        let after = self.store.rename(&before.id, name)?;
        self.note(Kind::Rename, &after, serde_json::json!({ "from": before.name.as_str() }))?;
        Ok(after)
    }

    /// Its backend.
    pub fn backend(&self, record: &Record) -> Result<&'static dyn Backend, EngineError> {
        self.engine.select(Some(&record.backend))
    }

    /// Its spec.
    pub fn spec(&self, record: &Record) -> Result<Spec, EngineError> {
        SpecRecord::from_json(&record.spec).and_then(Spec::try_from).map_err(|error| {
            EngineError::refused(
                format!("the record of {} is damaged: {error}", record.name),
                "it may be of another version of agentkernel; use that, or remove the sandbox"
                    .into(),
            )
        })
    }

    /// The control groups of its place.
    fn groups(record: &Record) -> Vec<PathBuf> {
        let place: Option<Value> =
            record.place.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let groups = place.as_ref().and_then(|place| place["groups"].as_array());
        groups.into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from).collect()
    }

    /// Refuses what needs a running sandbox.
    fn expect_running(&self, record: &Record) -> Result<(), EngineError> {
        let name = &record.name;
        match record.state {
            State::Running => Ok(()),
            State::Paused => Err(EngineError::refused(
                format!("the sandbox {name} is paused"),
                format!("agentkernel unpause {name}"),
            )),
            State::Created => Err(EngineError::refused(
                format!("the sandbox {name} has not been started"),
                format!("agentkernel start {name}"),
            )),
            State::Stopped => Err(EngineError::refused(
                match &record.why {
                    Some(why) => format!("the sandbox {name} is stopped: {why}"),
                    None => format!("the sandbox {name} is stopped"),
                },
                format!("agentkernel start {name}"),
            )),
        }
    }

    /// Writes down what was done to a sandbox.
    pub fn note(&self, kind: Kind, record: &Record, detail: Value) -> Result<(), EngineError> {
        self.note_ended(kind, record, detail, None)
    }

    fn note_ended(
        &self,
        kind: Kind,
        record: &Record,
        detail: Value,
        ended: Option<Value>,
    ) -> Result<(), EngineError> {
        let subject = Subject { id: record.id.clone(), name: record.name.clone() };
        let spec = self.spec(record).ok();
        let spec = spec.map(|spec| digest(SpecRecord::from(&without_values(&spec)).to_json()));
        Ok(self.journal.append(Audited {
            sandbox: Some(&subject),
            backend: Some(&record.backend),
            spec: spec.as_deref(),
            ended,
            detail,
            ..Audited::new(kind, self.journal.who())
        })?)
    }
}
