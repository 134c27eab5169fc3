//! Files carried into a sandbox and out of it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use agentkernel_core::{ImageFacts, Life, Owners};
use agentkernel_files::{Inside, TransferError, TransferOptions, Transferred};
use agentkernel_protocol::ToAgent;
use agentkernel_store::Record;
use agentkernel_store::audit::Kind;
use serde_json::json;

use super::Sandboxes;
use super::boot::greeted;
use super::dial::{Dial, DialError, PATIENCE};
use super::settle::is_said_to_run;
use crate::EngineError;

impl Sandboxes<'_> {
    /// Copies the host's `source` to `target` in the sandbox, by the rules of
    /// [`agentkernel_files::copy_in`]. A sandbox that does not run is booted for that, and counts
    /// as not running all the while.
    pub fn copy_in(
        &self,
        asked: &str,
        source: &Path,
        target: &Path,
        options: TransferOptions,
    ) -> Result<Transferred, EngineError> {
        let way = Way { direction: "in", host: Some(source), inside: target };
        self.carry(asked, way, |inside| agentkernel_files::copy_in(source, inside, target, options))
    }

    /// Copies the sandbox's `source` to `target` on the host, likewise.
    pub fn copy_out(
        &self,
        asked: &str,
        source: &Path,
        target: &Path,
        options: TransferOptions,
    ) -> Result<Transferred, EngineError> {
        let way = Way { direction: "out", host: Some(target), inside: source };
        self.carry(asked, way, |inside| {
            agentkernel_files::copy_out(inside, source, target, options)
        })
    }

    /// Unpacks the tar archive `input` in the sandbox's directory `target`, likewise.
    pub fn tar_in(
        &self,
        asked: &str,
        target: &Path,
        input: impl Read,
    ) -> Result<Transferred, EngineError> {
        let way = Way { direction: "in", host: None, inside: target };
        self.carry(asked, way, |inside| agentkernel_files::tar_in(inside, target, input))
    }

    /// Writes the sandbox's `source` to `out` as a tar archive, likewise.
    pub fn tar_out(
        &self,
        asked: &str,
        source: &Path,
        options: TransferOptions,
        out: impl Write,
    ) -> Result<Transferred, EngineError> {
        let way = Way { direction: "out", host: None, inside: source };
        self.carry(asked, way, |inside| agentkernel_files::tar_out(inside, source, options, out))
    }

    fn carry(
        &self,
        asked: &str,
        way: Way<'_>,
        work: impl FnOnce(&Inside<'_>) -> Result<Transferred, TransferError>,
    ) -> Result<Transferred, EngineError> {
        let record = self.find(asked)?;
        let (backend, spec) = (self.backend(&record)?, self.spec(&record)?);
        let work = |root: OwnedFd, image: &ImageFacts| {
            let Owners { user: owner, .. } = backend.owners(&spec, image)?;
            Ok::<_, EngineError>(work(&Inside { root: root.as_fd(), owner }))
        };
        let carried = self.visit(&record, &way, work)??;
        let mut detail = way.detail();
        match &carried {
            Ok(carried) => {
                detail["files"] = json!(carried.files);
                detail["bytes"] = json!(carried.bytes);
                detail["refused"] = json!(carried.refusals);
            }
            Err(error) => detail["error"] = json!(error.to_string()),
        }
        self.note(Kind::File, &record, detail)?;
        Ok(carried?)
    }

    /// Gives the root directory of a sandbox to `work`. One that is not running is booted for it.
    fn visit<T>(
        &self,
        record: &Record,
        way: &Way<'_>,
        work: impl FnOnce(OwnedFd, &ImageFacts) -> T,
    ) -> Result<T, EngineError> {
        if is_said_to_run(record) {
            return Ok(work(root(&mut self.dial(record)?)?, &Self::place(record).image()));
        }
        let (record, _lock) = self.lock(record.id.as_str())?;
        if is_said_to_run(&record) {
            return Ok(work(root(&mut self.dial(&record)?)?, &Self::place(&record).image()));
        }
        way.refuse_fleeting(&record)?;
        let life = Life {
            name: Some(record.id.to_string()),
            layers: Some(self.make_layers(&record)?),
            ..Life::default()
        };
        let place = self.driver(&record)?.boot_live(&self.spec(&record)?, life)?;
        let done = greeted(&*place).and_then(|mut dial| root(&mut dial));
        let done = done.map(|root| work(root, &place.image()));
        let destroyed = place.destroy();
        let done = done?;
        destroyed.map_err(|error| EngineError::failed("can't end the sandbox", &error))?;
        Ok(done)
    }
}

/// What goes where.
struct Way<'a> {
    /// `in` or `out`.
    direction: &'static str,
    /// The host's path, unless it is a stream.
    host: Option<&'a Path>,
    inside: &'a Path,
}

impl Way<'_> {
    fn detail(&self) -> serde_json::Value {
        json!({
            "direction": self.direction,
            "host": self.host.map(|path| path.to_string_lossy()),
            "sandbox": self.inside.to_string_lossy(),
        })
    }

    /// Refuses to put something into a sandbox that does not run, and is to be gone at once.
    fn refuse_fleeting(&self, record: &Record) -> Result<(), EngineError> {
        let mut parts = self.inside.components().filter(|part| *part != Component::RootDir);
        let top = parts.find_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        let fleeting = matches!(top, Some("run" | "dev" | "proc"));
        if self.direction == "out" || !fleeting {
            return Ok(());
        }
        let name = &record.name;
        Err(EngineError::refused(
            format!("what is in {:?} is kept only while {name} runs", self.inside),
            format!("start it first with agentkernel start {name}, or copy to another place"),
        ))
    }
}

fn root(dial: &mut Dial) -> Result<OwnedFd, EngineError> {
    let answer = match dial.ask(|command| ToAgent::Root { command }, &[], PATIENCE) {
        Err(DialError::Refused(error)) if error.kind() == io::ErrorKind::Unsupported => {
            return Err(EngineError::refused(
                "files can't be copied: the sandbox's engine is elsewhere".into(),
                "have a command copy them, as with agentkernel exec NAME -- tar -c PATH".into(),
            ));
        }
        asked => asked?,
    };
    answer.descriptor.ok_or_else(|| {
        DialError::Nonsense("it said that it had sent its root, and did not".into()).into()
    })
}

impl From<TransferError> for EngineError {
    fn from(error: TransferError) -> Self {
        let hint = match &error {
            TransferError::Missing { .. } => "name a file or directory that is there",
            TransferError::NoDirectory { .. } => "name a directory, or leave out the / at the end",
            TransferError::IsDirectory { .. } => "remove it first, or name a place in it",
            TransferError::IntoItself { .. } => "copy it to a place outside of it",
            TransferError::Member { .. } => "make the archive anew, without that member",
            TransferError::Archive { .. } => "give it a whole tar archive, uncompressed",
            TransferError::Failed { .. } | TransferError::Output { .. } => {
                "what was copied before is there; see to it, then copy again"
            }
        };
        Self::refused(error.to_string(), hint.into())
    }
}
