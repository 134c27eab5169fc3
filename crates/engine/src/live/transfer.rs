//! Files carried into a sandbox and out of it.

use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use agentkernel_core::{ImageFacts, Life, Owners};
use agentkernel_files::{
    Agent, Errand, Inside, Streams, TransferError, TransferOptions, Transferred,
};
use agentkernel_protocol::{Carry, ToAgent};
use agentkernel_store::Record;
use agentkernel_store::audit::Kind;
use agentkernel_sys::descriptor;
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
        let work = |reached: Reached, image: &ImageFacts| {
            let owners = backend.owners(&spec, image)?;
            Ok::<_, EngineError>(match reached {
                Reached::Root(root) => {
                    work(&Inside::Near { root: root.as_fd(), owner: owners.user })
                }
                Reached::Agent(mut dial) => {
                    let owner = inside_of(&owners);
                    work(&Inside::Far(&Carrier { dial: RefCell::new(&mut dial), owner }))
                }
            })
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
        work: impl FnOnce(Reached, &ImageFacts) -> T,
    ) -> Result<T, EngineError> {
        if is_said_to_run(record) {
            return Ok(work(reach(self.dial(record)?)?, &Self::place(record).image()));
        }
        let (record, _lock) = self.lock(record.id.as_str())?;
        way.refuse_fleeting(&record)?;
        self.visit_locked(&record, work)
    }

    /// The same of one that nobody else can change meanwhile.
    pub(super) fn visit_locked<T>(
        &self,
        record: &Record,
        work: impl FnOnce(Reached, &ImageFacts) -> T,
    ) -> Result<T, EngineError> {
        if is_said_to_run(record) {
            return Ok(work(reach(self.dial(record)?)?, &Self::place(record).image()));
        }
        let life = Life {
            name: Some(record.id.to_string()),
            layers: Some(self.make_layers(record)?),
            story: self.story(record),
            ..Life::default()
        };
        let place = self.driver(record)?.boot_live(&self.spec(record)?, life)?;
        let done = greeted(&*place).and_then(reach);
        let done = done.map(|reached| work(reached, &place.image()));
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
        if is_said_to_run(record) {
            return Ok(());
        }
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

/// What leads to a sandbox's files.
pub(super) enum Reached {
    Root(OwnedFd),
    /// Its agent, if that is not on this kernel.
    Agent(Box<Dial>),
}

fn reach(mut dial: Dial) -> Result<Reached, EngineError> {
    let answer = match dial.ask(|command| ToAgent::Root { command }, &[], PATIENCE) {
        Err(DialError::Refused(error)) if error.kind() == io::ErrorKind::Unsupported => {
            return Ok(Reached::Agent(Box::new(dial)));
        }
        asked => asked?,
    };
    answer.descriptor.map(Reached::Root).ok_or_else(|| {
        DialError::Nonsense("it said that it had sent its root, and did not".into()).into()
    })
}

/// The sandbox's own numbers for whom commands run as.
fn inside_of(owners: &Owners) -> (u32, u32) {
    let Owners { outside, inside, user, .. } = *owners;
    let number =
        |user: u32, outside: u32, inside: u32| user.wrapping_sub(outside).wrapping_add(inside);
    (number(user.0, outside.0, inside.0), number(user.1, outside.1, inside.1))
}

/// Has an agent carry files.
pub(super) struct Carrier<'a> {
    dial: RefCell<&'a mut Dial>,
    owner: (u32, u32),
}

impl<'a> Carrier<'a> {
    /// One to whom nothing is brought.
    pub fn of(dial: &'a mut Dial) -> Self {
        Self { dial: RefCell::new(dial), owner: (0, 0) }
    }
}

impl Agent for Carrier<'_> {
    fn run(&self, errand: &Errand<'_>) -> io::Result<Streams> {
        let (inside_input, input) = descriptor::pipe()?;
        let (output, inside_output) = descriptor::pipe()?;
        let (report, inside_report) = descriptor::pipe()?;
        let carry = Carry {
            way: errand.way,
            follow: errand.follow,
            uid: self.owner.0,
            gid: self.owner.1,
            path: CString::new(errand.path.as_os_str().as_bytes())?,
        };
        let theirs = [&inside_input, &inside_output, &inside_report].map(AsFd::as_fd);
        let order = |command| ToAgent::Carry { command, carry };
        match self.dial.borrow_mut().ask(order, &theirs, PATIENCE) {
            Ok(_) => {}
            Err(DialError::Refused(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
        let [input, output, report] = [input, output, report].map(File::from);
        Ok(Streams { input, output, report })
    }
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
            TransferError::Agent { source } if source.kind() == io::ErrorKind::Unsupported => {
                "have a command copy them, as with agentkernel exec NAME -- tar -c PATH"
            }
            TransferError::Failed { .. }
            | TransferError::Output { .. }
            | TransferError::Agent { .. } => {
                "what was copied before is there; see to it, then copy again"
            }
        };
        Self::refused(error.to_string(), hint.into())
    }
}
