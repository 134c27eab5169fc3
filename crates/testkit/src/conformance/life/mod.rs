//! The life of sandboxes that outlive a command: how they are made, used, kept and ended.

mod audit;
mod background;
mod changes;
mod copies;
mod deaths;
mod exec;
mod pool;
mod ports;
mod snapshots;
mod states;
mod store;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use agentkernel_core::Capability;
use serde_json::Value;

use super::bad_input;
use crate::route::fresh_name;
use crate::{
    Behaviour, Captured, Matter, NotPassed, Route, Running, Scratch, Subject, Verdict, ensure,
};

const SOON: Duration = Duration::from_secs(8);

/// Every behaviour of this part.
pub(super) fn table() -> Vec<Behaviour> {
    let of_the_link = [exec::TABLE, background::TABLE].concat();
    let of_the_program = [store::TABLE, audit::TABLE].concat();
    let of_a_place = [
        states::TABLE,
        ports::TABLE,
        deaths::TABLE,
        changes::TABLE,
        snapshots::TABLE,
        copies::TABLE,
        pool::TABLE,
    ];
    [
        Behaviour::all_of(Matter::Link, &of_the_link),
        Behaviour::all_of(Matter::Program, &of_the_program),
        of_a_place.concat(),
    ]
    .concat()
}

/// A behaviour of sandboxes that live on.
const fn life(
    name: &'static str,
    promise: &'static str,
    test: fn(&Subject) -> Verdict,
) -> Behaviour {
    let behaviour = Behaviour::new(name, promise, &[Capability::Live], test);
    behaviour.only(Route::Live, "it is about sandboxes that live on")
}

/// A behaviour of those whose changes can be told apart.
const fn change(
    name: &'static str,
    promise: &'static str,
    test: fn(&Subject) -> Verdict,
) -> Behaviour {
    let needs = &[Capability::Live, Capability::Changes, Capability::MountCopyOnWrite];
    let behaviour = Behaviour::new(name, promise, needs, test);
    behaviour.only(Route::Live, "it is about sandboxes that live on")
}

/// A behaviour of those of which copies can be made.
const fn copied(
    name: &'static str,
    promise: &'static str,
    test: fn(&Subject) -> Verdict,
) -> Behaviour {
    let behaviour = Behaviour::new(name, promise, &[Capability::Live, Capability::Snapshots], test);
    behaviour.only(Route::Live, "it is about sandboxes that live on")
}

/// A behaviour of those all of whose changes can be told, and copied.
const fn told(
    name: &'static str,
    promise: &'static str,
    test: fn(&Subject) -> Verdict,
) -> Behaviour {
    let needs = &[
        Capability::Live,
        Capability::Changes,
        Capability::RootChanges,
        Capability::Snapshots,
        Capability::MountCopyOnWrite,
    ];
    let behaviour = Behaviour::new(name, promise, needs, test);
    behaviour.only(Route::Live, "it is about sandboxes that live on")
}

/// A caller with sandboxes, which end with it.
struct Home<'a> {
    subject: &'a Subject,
    scratch: Scratch,
}

impl<'a> Home<'a> {
    fn new(subject: &'a Subject) -> Result<Self, NotPassed> {
        Ok(Self { subject, scratch: subject.scratch()? })
    }

    /// `agentkernel ARGUMENTS`
    fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = self.subject.agentkernel(&self.scratch);
        command.args(arguments);
        command
    }

    fn start(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Running, NotPassed> {
        Running::start(self.command(arguments))
    }

    fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Captured, NotPassed> {
        Captured::of(self.command(arguments))
    }

    /// It succeeds in silence; returns what it prints.
    fn does(&self, arguments: &[impl AsRef<OsStr>]) -> Result<String, NotPassed> {
        let got = self.run(arguments)?;
        Ok(got.exits(0)?.complains("")?.text())
    }

    /// It is refused, with these in the message.
    fn refuses(&self, arguments: &[impl AsRef<OsStr>], parts: &[&str]) -> Verdict {
        bad_input::refused(&self.run(arguments)?, parts).map(drop)
    }

    /// Makes a sandbox with these flags; says its name.
    fn created(&self, flags: &[impl AsRef<OsStr>]) -> Result<String, NotPassed> {
        let name = fresh_name();
        let mut command = self.command(&["create", "-B", &self.subject.backend]);
        command.args(flags).arg(&name);
        Captured::of(command)?.exits(0)?.prints(format!("{name}\n"))?.complains("")?;
        Ok(name)
    }

    /// Makes one and starts it.
    fn started(&self, flags: &[impl AsRef<OsStr>]) -> Result<String, NotPassed> {
        let name = self.created(flags)?;
        self.run(&["start", &name])?.exits(0)?.prints(format!("{name}\n"))?.complains("")?;
        Ok(name)
    }

    /// `exec NAME -- sh -c SCRIPT`
    fn script(&self, name: &str, script: &str) -> Command {
        self.command(&["exec", name, "--", "sh", "-c", script])
    }

    /// Runs a script in a sandbox.
    fn shell(&self, name: &str, script: &str) -> Result<Captured, NotPassed> {
        Captured::of(self.script(name, script))
    }

    /// Starts a script in a sandbox and waits for its first line. It can be told to go on by
    /// closing its input.
    fn begun(&self, name: &str, script: &str) -> Result<Running, NotPassed> {
        let mut command = self.script(name, script);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command)?;
        running.line()?;
        Ok(running)
    }

    /// Starts a script in the background; says its number.
    fn background(&self, name: &str, script: &str) -> Result<String, NotPassed> {
        let number = self.does(&["exec", "-d", name, "--", "sh", "-c", script])?;
        let number = number.trim_end().to_owned();
        ensure!(number.parse::<u32>().is_ok(), "exec -d printed {number:?}, not a number");
        Ok(number)
    }

    /// What `arguments` print, as JSON.
    fn json(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Value, NotPassed> {
        let text = self.does(arguments)?;
        serde_json::from_str(&text)
            .map_err(|why| NotPassed::Failed(format!("no JSON ({why}): {text:?}")))
    }

    /// All sandboxes, as `ps -a --json` tells of them.
    fn listed(&self) -> Result<Vec<Value>, NotPassed> {
        let document = self.json(&["ps", "-a", "--json"])?;
        ensure!(document["version"] == 1, "the version is {}", document["version"]);
        let list = document["sandboxes"].as_array().cloned();
        list.ok_or_else(|| NotPassed::Failed(format!("no list of sandboxes: {document}")))
    }

    /// What `ps` tells of one; `Null` if it is not there.
    fn listed_as(&self, name: &str) -> Result<Value, NotPassed> {
        let found = self.listed()?.into_iter().find(|sandbox| sandbox["name"] == name);
        Ok(found.unwrap_or(Value::Null))
    }

    fn is(&self, name: &str, state: &str) -> Verdict {
        let listed = self.listed_as(name)?;
        ensure!(listed["state"] == state, "{name} should be {state}: {listed}");
        Ok(())
    }

    /// The folder of its records and of what its sandboxes wrote.
    fn state(&self) -> PathBuf {
        self.scratch.path().join("state/agentkernel")
    }

    /// The files in a folder of the caller's, none if it is not there.
    fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.scratch.path().join(folder)).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The folders of sandboxes, and their sockets.
    fn traces(&self) -> Vec<String> {
        let folders = ["state/agentkernel/sandboxes", "runtime/agentkernel/sandboxes"];
        folders.iter().flat_map(|folder| self.names_in(folder)).collect()
    }

    /// A project with a few files, to be mounted as cow.
    fn project(&self) -> Result<(PathBuf, String), NotPassed> {
        let path = self.scratch.folder("work/project")?;
        for (name, text) in [("kept", "kept\n"), ("changed", "old\n"), ("deleted", "gone\n")] {
            self.scratch.file(path.join(name), text)?;
        }
        self.scratch.folder("work/project/folder")?;
        self.scratch.file("work/project/folder/file", "in a folder\n")?;
        let flag = format!("--project={}:cow", path.display());
        Ok((path, flag))
    }
}
