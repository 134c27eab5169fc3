//! Sandboxes that live where others may find them, too, taken over from whoever has them.

use std::mem;
use std::time::{Duration, SystemTime};

use agentkernel_core::{Adopt, Backend, Elsewhere, Image, Spec};
use agentkernel_store::audit::Kind;
use agentkernel_store::{Id, Name, NewRecord, Record, StoreError, time};
use agentkernel_wire::{SpecRecord, StoryError, StoryRecord};
use serde_json::{Value, json};

use super::Sandboxes;
use super::settle::is_said_to_run;
use crate::EngineError;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A sandbox that somebody else has, or had.
#[derive(Debug)]
pub struct Adoptable {
    pub id: String,
    /// Who has it, for people.
    pub holder: String,
    /// What it is, as far as that can be known.
    pub known: Option<Known>,
    /// Why it can't be adopted, if so.
    pub refused: Option<String>,
    seen: String,
}

/// What is known of one.
#[derive(Debug)]
pub struct Known {
    pub name: Name,
    pub image: String,
    pub created: SystemTime,
    story: StoryRecord,
    spec: Spec,
}

impl Sandboxes<'_> {
    /// What others are to know of a sandbox who have no record of it.
    pub(super) fn story(&self, record: &Record) -> Option<String> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut spec = self.spec(record).ok()?;
        let variables = mem::take(&mut spec.environment).into_keys();
        let story = StoryRecord {
            version: VERSION.into(),
            name: record.name.to_string(),
            created: time::to_text(record.created),
            labels: record.labels.clone(),
            ttl: record.ttl.map(millis),
            idle: record.idle.map(millis),
            spec: SpecRecord::from(&spec),
            unsaid: variables.map(|name| name.to_string_lossy().into_owned()).collect(),
        };
        Some(story.to_json())
    }

    /// Those at the backend that do not run here.
    pub fn adoptable(&self, backend: Option<&str>) -> Result<Vec<Adoptable>, EngineError> {
        let backend = self.engine.expect_driver(backend)?;
        let mut all: Vec<_> = backend.adopt(Adopt::List)?.into_iter().map(adoptable).collect();
        // One that was lost meanwhile only shows that when it is looked at.
        let runs_here = |one: &Adoptable| {
            let own = self.find(&one.id);
            own.is_ok_and(|own| own.id.as_str() == one.id && is_said_to_run(&own))
        };
        all.retain(|one| !runs_here(one));
        Ok(all)
    }

    /// Makes the sandbox of this name or id one of these, whoever has it, and starts it on the files that it
    /// has. What runs in it ends. Tells the names of the variables that it was created with and that nobody here
    /// knows. The calling process must have a single thread.
    pub fn adopt(
        &self,
        backend: Option<&str>,
        asked: &str,
    ) -> Result<(Record, Vec<String>), EngineError> {
        self.adopt_new(backend, asked).inspect_err(|error| {
            self.note_refusal(Some(asked), json!({ "what": "adopt" }), error);
        })
    }

    fn adopt_new(
        &self,
        backend: Option<&str>,
        asked: &str,
    ) -> Result<(Record, Vec<String>), EngineError> {
        let driver = self.engine.expect_driver(backend)?;
        let found = pick(self.adoptable(backend)?, asked)?;
        let known = match (&found.known, &found.refused) {
            (Some(known), None) => known,
            (_, why) => return Err(cannot(asked, why.as_deref().unwrap_or("it is not known"))),
        };
        let id: Id = found.id.parse().map_err(|_| cannot(asked, "it has no id of ours"))?;
        let (record, is_new) = match self.store.find(id.as_str()) {
            Ok(record) if record.id == id => (record, false),
            Ok(_) | Err(StoreError::NotFound { .. }) => {
                (self.store.insert(&begin(driver, &id, known))?, true)
            }
            Err(error) => return Err(error.into()),
        };
        match self.take(driver, &found, &record) {
            Ok(()) => {}
            Err(error) if is_new => {
                // The sandbox itself is another's.
                let _ = self.forget_record(&record);
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        self.note(Kind::Create, &record, json!({ "adopted from": found.holder }))?;
        let (record, lock) = self.lock(record.id.as_str())?;
        let record = self.boot(&record, &lock)?;
        self.note(Kind::Start, &record, Value::Null)?;
        let unsaid = if is_new { known.story.unsaid.clone() } else { Vec::new() };
        Ok((record, unsaid))
    }

    fn take(
        &self,
        driver: &dyn Backend,
        found: &Adoptable,
        record: &Record,
    ) -> Result<(), EngineError> {
        let (record, _lock) = self.lock(record.id.as_str())?;
        if is_said_to_run(&record) {
            return Err(cannot(record.name.as_str(), "it was started here meanwhile"));
        }
        let layers = self.make_layers(&record)?;
        driver.adopt(Adopt::Take { name: &found.id, seen: &found.seen, layers: &layers })?;
        Ok(())
    }

    /// Removes a record and its folder, and nothing of the sandbox.
    fn forget_record(&self, record: &Record) -> Result<(), EngineError> {
        let (record, _lock) = self.lock(record.id.as_str())?;
        let removed = agentkernel_files::remove_tree(&self.dirs.sandbox(&record.id));
        removed
            .map_err(|error| EngineError::failed("can't remove the sandbox's folder", &error))?;
        Ok(self.store.remove(&record.id)?)
    }
}

fn adoptable(found: Elsewhere) -> Adoptable {
    let Elsewhere { name: id, story, holder, ended, seen } = found;
    let (known, refused) = match story.as_deref().map(known) {
        Some(Ok(known)) => (Some(known), ended.map(|why| format!("it has ended: {why}"))),
        Some(Err(StoryError::Damaged(why))) => {
            (None, Some(format!("what is written down of it can't be read: {why}")))
        }
        Some(Err(StoryError::Version(other))) => (
            None,
            Some(format!("it was made by version {other} of agentkernel, and this is {VERSION}")),
        ),
        None => (
            None,
            Some(format!(
                "it was made by a version of agentkernel that tells nobody what it has made, and \
                 this is {VERSION}"
            )),
        ),
    };
    Adoptable { id, holder, known, refused, seen }
}

fn known(story: &str) -> Result<Known, StoryError> {
    let damaged = |what: &str| StoryError::Damaged(format!("its {what}"));
    let story = StoryRecord::from_json(story, VERSION)?;
    let spec = Spec::try_from(story.spec.clone())?;
    let image = match &spec.image {
        Image::Reference(name) => name.clone(),
        other => format!("{other:?}"),
    };
    Ok(Known {
        name: Name::try_from(story.name.clone()).map_err(|_| damaged("name"))?,
        created: time::from_text(&story.created).ok_or_else(|| damaged("time of creation"))?,
        image,
        story,
        spec,
    })
}

/// The one that is meant.
fn pick(all: Vec<Adoptable>, asked: &str) -> Result<Adoptable, EngineError> {
    let is_meant = |one: &Adoptable| {
        one.id == asked || one.known.as_ref().is_some_and(|known| known.name.as_str() == asked)
    };
    let mut meant: Vec<_> = all.into_iter().filter(is_meant).collect();
    match (meant.pop(), meant.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(EngineError::refused(
            format!("there is no sandbox {asked} that could be adopted"),
            "agentkernel adopt shows which there are; one that runs here need not be adopted"
                .into(),
        )),
        (Some(_), others) => Err(EngineError::refused(
            format!("{} sandboxes have the name {asked}", others + 1),
            "name one by its id, which agentkernel adopt shows".into(),
        )),
    }
}

fn cannot(asked: &str, why: &str) -> EngineError {
    EngineError::refused(
        format!("the sandbox {asked} can't be adopted: {why}"),
        "agentkernel adopt shows which there are, and who has them".into(),
    )
}

/// Its record here. What is left of its time goes on.
fn begin(backend: &dyn Backend, id: &Id, known: &Known) -> NewRecord {
    let lived = SystemTime::now().duration_since(known.created).unwrap_or_default();
    let story = &known.story;
    let ttl = story.ttl.map(|ttl| Duration::from_millis(ttl).saturating_sub(lived));
    NewRecord {
        id: Some(id.clone()),
        name: known.name.clone(),
        backend: backend.name().into(),
        spec: SpecRecord::from(&known.spec).to_json(),
        labels: story.labels.clone(),
        ttl: ttl.map(|ttl| ttl.max(Duration::from_millis(1))),
        idle: story.idle.map(Duration::from_millis),
        applied: None,
        origin: None,
    }
}
