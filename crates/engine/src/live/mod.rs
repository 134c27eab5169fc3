//! Sandboxes that live: made once, used often, reachable from every process of their owner.
//!
//! The store says which there are, and a lock for each keeps those apart who change it. What is
//! running is never believed from the store alone: [`Sandboxes::settle`] looks at the process.

mod adopt;
mod background;
mod boot;
mod changes;
mod dial;
mod exec;
mod filling;
mod kept;
mod log;
mod prune;
mod settle;
mod snapshots;
mod transfer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{Backend, Capability, Spec};
use agentkernel_store::audit::{Entry as Audited, Kind, Subject};
use agentkernel_store::{Dirs, Name, NewRecord, Record, Snapshot, State, Store};
use agentkernel_wire::{PlaceRecord, SpecRecord};
use serde_json::{Value, json};

pub use adopt::Adoptable;
pub use background::{Attached, Background, BackgroundState, Reading, Since};
pub use dial::{Dial, DialError, PATIENCE};
pub use exec::{Client, Exec, code};
pub use log::Entry;
pub use prune::{Leftover, Pruned};
pub use settle::REBOOTED;

use snapshots::random_id;

use crate::journal::{Journal, spec_digest};
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
    /// The snapshot that it begins with, if not with nothing. Its `spec` is the snapshot's own then,
    /// but for variables and ports.
    pub origin: Option<String>,
}

/// The spec in a record of the `thing` that is called `name`.
fn spec_of(json: &str, thing: &str, name: &Name) -> Result<Spec, EngineError> {
    SpecRecord::from_json(json).and_then(Spec::try_from).map_err(|error| {
        EngineError::refused(
            format!("the record of the {thing} {name} is damaged: {error}"),
            format!("it may be of another version of agentkernel; use that, or remove the {thing}"),
        )
    })
}

/// Refuses a spec by which the snapshot's files would mean something else.
fn refuse_other_spec(
    snapshot: &Snapshot,
    own: &Spec,
    backend: &dyn Backend,
    spec: &Spec,
) -> Result<(), EngineError> {
    let files =
        |spec: &Spec| Spec { environment: BTreeMap::new(), ports: Vec::new(), ..spec.clone() };
    if files(own) == files(spec) && backend.name() == snapshot.backend {
        return Ok(());
    }
    Err(EngineError::refused(
        format!("a sandbox from the snapshot {} is made as the snapshot was", snapshot.name),
        "leave out all that says what it is made of; variables and ports may be given".into(),
    ))
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
        let all = Self::open_for_commands(engine, dirs, client)?;
        all.as_ref().map(|all| all.store.connect()).transpose()?;
        Ok(all)
    }

    /// The same, for who is about to run commands: opens the database only if it takes that.
    pub fn open_for_commands(
        engine: &'a Engine,
        dirs: Dirs,
        client: &str,
    ) -> Result<Option<Self>, EngineError> {
        let store = Store::open_later(&dirs)?;
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
        let name = new.name.clone();
        self.create_new(new).inspect_err(|error| {
            let asked = name.as_ref().map(Name::as_str);
            self.note_refusal(asked, json!({ "what": "create" }), error);
        })
    }

    fn create_new(&self, new: NewSandbox) -> Result<Record, EngineError> {
        let snapshot = new.origin.as_deref().map(|asked| self.snapshot(asked)).transpose()?;
        let asked = new.backend.as_deref().or(snapshot.as_ref().map(|(s, _)| s.backend.as_str()));
        let backend = self.engine.select(asked)?;
        demand::check(backend, &new.spec, false)?;
        if !backend.capabilities().has(Capability::Live) {
            return Err(EngineError::refused(
                format!("the {} backend has no sandboxes that outlive a command", backend.name()),
                "use agentkernel run".into(),
            ));
        }
        backend.check_kept(&new.spec)?;
        let name = match new.name {
            Some(name) => name,
            None => Name::made_up().map_err(|e| EngineError::failed("can't make up a name", &e))?,
        };
        let mut begin = NewRecord {
            id: None,
            name,
            backend: backend.name().into(),
            spec: SpecRecord::from(&new.spec).to_json(),
            labels: new.labels,
            ttl: new.ttl,
            idle: new.idle,
            applied: self.baseline(&new.spec)?,
            origin: None,
        };
        let Some((snapshot, own)) = snapshot else {
            let record = self.store.insert(&begin)?;
            self.note(Kind::Create, &record, Value::Null)?;
            return Ok(record);
        };
        refuse_other_spec(&snapshot, &own, backend, &new.spec)?;
        let id = random_id()?;
        let (filling, applied) = self.fill_from_snapshot(&snapshot, &new.spec, &id)?;
        let from = snapshot.name.to_string();
        begin = NewRecord { id: Some(id), applied, origin: Some(from.clone()), ..begin };
        let record = self.store.insert(&begin)?;
        filling.keep();
        self.note(Kind::Create, &record, json!({ "from": from }))?;
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

    /// The sandbox of this name as a [card](Store::card) has it, if that is as it is. Else the
    /// database is open afterwards.
    fn by_card(&self, asked: &str) -> Result<Option<Record>, EngineError> {
        if let Some(record) = self.store.card(asked)
            && self.is_in_order(&record)?
        {
            return Ok(Some(record));
        }
        self.store.connect()?;
        Ok(None)
    }

    /// The same, which must run.
    pub fn running(&self, asked: &str) -> Result<Record, EngineError> {
        let record = self.find(asked)?;
        match record.state {
            // What is halted has all that it had.
            State::Paused => Ok(record),
            _ => self.expect_running(&record).map(|()| record),
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
        self.note(Kind::Rename, &after, json!({ "from": before.name.as_str() }))?;
        Ok(after)
    }

    /// Its backend.
    pub fn backend(&self, record: &Record) -> Result<&'static dyn Backend, EngineError> {
        self.engine.select(Some(&record.backend))
    }

    /// Its backend, for what takes one that can boot.
    fn driver(&self, record: &Record) -> Result<&'static dyn Backend, EngineError> {
        self.engine.expect_driver(Some(&record.backend))
    }

    /// Says so if something about one of these sandboxes may have to be done by another program.
    pub fn expect_drivers<'n>(
        &self,
        asked: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), EngineError> {
        let found = asked.into_iter().filter_map(|asked| self.store.find(asked).ok());
        found.into_iter().try_for_each(|record| self.driver(&record).map(drop))
    }

    /// The same about one of these snapshots.
    pub fn expect_snapshot_drivers<'n>(
        &self,
        asked: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), EngineError> {
        let mut found = asked.into_iter().filter_map(|asked| self.store.find_snapshot(asked).ok());
        found.try_for_each(|one| self.engine.expect_driver(Some(&one.backend)).map(drop))
    }

    /// Its spec.
    pub fn spec(&self, record: &Record) -> Result<Spec, EngineError> {
        spec_of(&record.spec, "sandbox", &record.name)
    }

    /// The control groups of its place.
    fn groups(record: &Record) -> Vec<PathBuf> {
        Self::place(record).groups
    }

    /// What is known of its place; nothing while there is none.
    pub fn place(record: &Record) -> PlaceRecord {
        record.place.as_deref().map(PlaceRecord::from_json).unwrap_or_default()
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

    /// Writes down what was done to a snapshot.
    fn note_snapshot(&self, snapshot: &Snapshot, detail: Value) -> Result<(), EngineError> {
        let entry = Audited::new(Kind::Snapshot, self.journal.who());
        let backend = Some(snapshot.backend.as_str());
        self.journal.append(Audited { backend, detail, ..entry })
    }

    /// Writes down that something was refused. Whoever asked is told of that, not of a log that
    /// can't be written.
    fn note_refusal(&self, asked: Option<&str>, mut detail: Value, error: &EngineError) {
        if error.elsewhere || error.hint.is_none() || error.exit_code != EngineError::FAILED {
            return;
        }
        detail["asked"] = json!(asked);
        detail["error"] = json!(error.why);
        let entry = Audited::new(Kind::Refusal, self.journal.who());
        let _ = self.journal.append(Audited { detail, ..entry });
    }

    fn note_ended(
        &self,
        kind: Kind,
        record: &Record,
        detail: Value,
        ended: Option<Value>,
    ) -> Result<(), EngineError> {
        let spec = self.spec(record).ok();
        let spec = spec.as_ref().map(spec_digest);
        let entry = Audited { ended, detail, ..Audited::new(kind, self.journal.who()) };
        self.note_of(record, spec.as_deref(), entry)
    }

    /// Writes down an entry about a sandbox. `spec` is its spec's [digest](spec_digest).
    fn note_of(
        &self,
        record: &Record,
        spec: Option<&str>,
        entry: Audited<'_>,
    ) -> Result<(), EngineError> {
        let subject = Subject { id: record.id.clone(), name: record.name.clone() };
        let (sandbox, backend) = (Some(&subject), Some(record.backend.as_str()));
        self.journal.append(Audited { sandbox, backend, spec, ..entry })
    }
}
