//! WebAssembly modules as commands, for backends whose images are such.
//!
//! Those of the tests are text, in the folder `modules` of this crate.

mod bad_input;
mod cache;
mod components;
mod endings;
mod files;
mod invoke;
mod life;
mod limits;
mod runs;
mod streams;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use agentkernel_core::Capability;
use serde_json::Value;

use super::report;
use crate::{
    Behaviour, Captured, Commands, NO_FLAGS, NotPassed, Running, Scratch, Subject, Verdict, ensure,
};

/// Every behaviour of this part.
pub(super) fn table() -> Vec<Behaviour> {
    let tables = [
        runs::TABLE,
        streams::TABLE,
        endings::TABLE,
        limits::TABLE,
        files::TABLE,
        invoke::TABLE,
        bad_input::TABLE,
        components::TABLE,
        cache::TABLE,
        life::TABLE,
    ];
    tables.concat()
}

/// A behaviour of modules.
const fn module(
    name: &'static str,
    promise: &'static str,
    test: fn(&Subject) -> Verdict,
) -> Behaviour {
    Behaviour::new(name, promise, &[Capability::ImageModule], test).of(Commands::Modules)
}

/// Why what is about the words on a command line is tried once.
const OF_THE_COMMAND_LINE: &str = "it is about run's own command line";

const HELLO: &str = include_str!("../../../modules/hello.wat");
const MATH: &str = include_str!("../../../modules/math.wat");

/// The tests' own modules.
const MODULES: [(&str, &str); 15] = [
    ("hello", HELLO),
    ("math", MATH),
    ("args", include_str!("../../../modules/args.wat")),
    ("clock", include_str!("../../../modules/clock.wat")),
    ("component", include_str!("../../../modules/component.wat")),
    ("depths", include_str!("../../../modules/depths.wat")),
    ("environ", include_str!("../../../modules/environ.wat")),
    ("exit", include_str!("../../../modules/exit.wat")),
    ("files", include_str!("../../../modules/files.wat")),
    ("flood", include_str!("../../../modules/flood.wat")),
    ("grow", include_str!("../../../modules/grow.wat")),
    ("loop", include_str!("../../../modules/loop.wat")),
    ("streams", include_str!("../../../modules/streams.wat")),
    ("tee", include_str!("../../../modules/tee.wat")),
    ("traps", include_str!("../../../modules/traps.wat")),
];

/// The text of one of the tests' own modules.
fn source(name: &str) -> Result<&'static str, NotPassed> {
    let known = MODULES.iter().find(|(known, _)| *known == name);
    known.map(|(_, text)| *text).ok_or_else(|| NotPassed::Failed(format!("no module {name}")))
}

/// A caller who has modules as files.
struct Shelf<'a> {
    subject: &'a Subject,
    scratch: Scratch,
}

impl<'a> Shelf<'a> {
    fn new(subject: &'a Subject) -> Result<Self, NotPassed> {
        Ok(Self { subject, scratch: subject.scratch()? })
    }

    /// Where one of the tests' own modules is.
    fn file(&self, name: &str) -> Result<PathBuf, NotPassed> {
        let file = format!("{name}.wat");
        let path = self.scratch.path().join(&file);
        // Whoever is about to read it reads it whole.
        if !path.exists() {
            self.scratch.file(&file, source(name)?)?;
        }
        Ok(path)
    }

    /// Runs a module of any content, in a file with this name.
    fn run_content(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        arguments: &[&str],
    ) -> Result<Captured, NotPassed> {
        let file = self.scratch.file(name, content)?;
        Captured::of(self.subject.run_module(&self.scratch, &NO_FLAGS, &file, arguments))
    }

    fn command(
        &self,
        flags: &[impl AsRef<OsStr>],
        name: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Command, NotPassed> {
        Ok(self.subject.run_module(&self.scratch, flags, &self.file(name)?, arguments))
    }

    fn start(
        &self,
        flags: &[impl AsRef<OsStr>],
        name: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Running, NotPassed> {
        Running::start(self.command(flags, name, arguments)?)
    }

    fn run(
        &self,
        flags: &[impl AsRef<OsStr>],
        name: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Captured, NotPassed> {
        self.start(flags, name, arguments)?.finish()
    }

    /// `agentkernel ARGUMENTS`
    fn agentkernel(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Captured, NotPassed> {
        let mut command = self.subject.agentkernel(&self.scratch);
        command.args(arguments);
        Captured::of(command)
    }

    /// Runs a module; returns the report as well.
    fn reported(
        &self,
        flags: &[impl AsRef<OsStr>],
        name: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<(Captured, Value), NotPassed> {
        let file = self.scratch.path().join("work/report.json");
        let _ = std::fs::remove_file(&file);
        let to = [OsStr::new("--report"), file.as_os_str()];
        let flags: Vec<&OsStr> = flags.iter().map(AsRef::as_ref).chain(to).collect();
        let got = self.run(&flags, name, arguments)?;
        let report =
            report::read(&file).map_err(|why| NotPassed::Failed(format!("{why:?}: {got}")))?;
        Ok((got, report))
    }
}

/// The end that a report tells of is this one.
fn ended(report: &Value, expected: &Value) -> Verdict {
    let found = &report["ended"];
    ensure!(found == expected, "expected {expected} in the report, not {found}");
    Ok(())
}
