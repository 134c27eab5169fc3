//! What is told of a command that has run: to a person on standard error, and to programs.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{Bytes, Command, Ended, LimitInForce, LimitKind, Limited};
use agentkernel_engine::{Outcome, Route};
use agentkernel_wire::ImageReport;

use crate::commands::doctor::{limit_means, wall_state};
use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::output;

use super::reports::Reports;

/// How a command's run is told of once it is over, from flags that its verb took.
#[derive(Debug)]
pub(super) struct Telling {
    reports: Reports,
    verbose: bool,
    json: bool,
    /// Why its backend was taken.
    backend_why: &'static str,
    /// What its sandbox is made of, if that was decided for this command.
    image: Option<ImageReport>,
    time_limit: Option<Duration>,
}

impl Telling {
    /// Opens the report's file, so that one that can't be written stops the command before it
    /// starts.
    pub fn new(
        low: &mut LowArgs,
        command: &Command,
        backend_why: &'static str,
        image: Option<ImageReport>,
    ) -> Result<Self, CommandError> {
        let reports = Reports::open(low.report.take(), low.json, command)?;
        let LowArgs { verbose, json, .. } = *low;
        Ok(Self { reports, verbose, json, backend_why, image, time_limit: command.time_limit })
    }

    /// Tells what came of it, and returns the exit status that stands for that. An error is left to
    /// be told by the caller, as every one.
    pub fn tell(self, outcome: Result<Outcome, CommandError>) -> Result<u8, CommandError> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // It is told by whoever does it.
            Err(err) if err.elsewhere => return Err(err),
            Err(err) => {
                self.reports.failed(&err);
                return Err(err);
            }
        };
        if self.verbose {
            output::note(&describe(&outcome, self.backend_why, self.image.as_ref()));
        }
        if !self.json {
            ending(&outcome, self.time_limit);
            if let Route::Kept(name) = &outcome.route {
                let how = format!("agentkernel diff {name} shows what it changed");
                output::note(&format!("agentkernel: kept as {name} ({how})"));
            }
        }
        self.reports.ended(&outcome, self.image)?;
        // Output that was lost is our failure, whatever the command made of it.
        Ok(if outcome.broken.is_empty() { outcome.ended.exit_code() } else { FAILED })
    }
}

/// Says which settings files were read. They decide what a sandbox may do, so nobody should have
/// to guess.
pub(super) fn read(files: &[PathBuf]) {
    let lines = match files {
        [] => "agentkernel: no settings file was read".into(),
        files => lines(files.iter().map(|path| format!("read {}", path.display()))),
    };
    output::note(&lines);
}

/// Says how the run ended, where the exit status alone doesn't.
fn ending(outcome: &Outcome, time_limit: Option<Duration>) {
    if let Ended::Lost(why) = &outcome.ended {
        lost(why);
    } else if let Some(message) = unusual(outcome, time_limit) {
        output::note(&format!("agentkernel: {message}"));
    }
    for broken in &outcome.broken {
        let message = format!("{} can't be written: {}", broken.stream, broken.error);
        let hint = "make room where it goes, or send it elsewhere";
        output::error(CommandError::new(message, hint), false);
    }
}

/// Says that nobody knows how a command ended.
pub(super) fn lost(why: &str) {
    let hint = "whether its command did its work is not known; look before you run it again";
    output::error(CommandError::new(format!("the sandbox was lost: {why}"), hint), false);
}

fn lines(all: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for line in all {
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing to a string can't fail.
        let _ = write!(text, "{gap}agentkernel: {line}");
    }
    text
}

fn describe(outcome: &Outcome, why: &str, image: Option<&ImageReport>) -> String {
    let phases = outcome.phases;
    let total = phases.boot + phases.ready + phases.exec + phases.shutdown;
    let backend = format!("backend {}, {why}", outcome.backend);
    let image = image.map(|image| match &image.why {
        Some(why) => format!("image {}, because {why}", image.name),
        None => format!("image {}, as asked", image.name),
    });
    let walls =
        outcome.walls.iter().map(|wall| format!("wall {}: {}", wall.name, wall_state(wall)));
    let limit = |limit: &LimitInForce| {
        format!("limit {} {}: {}", limit.kind.name(), amount(limit), limit_means(limit))
    };
    let times = format!(
        "boot {:?}, ready {:?}, exec {:?}, shutdown {:?}: {total:?} in all",
        phases.boot, phases.ready, phases.exec, phases.shutdown
    );
    lines(
        [backend]
            .into_iter()
            .chain(image)
            .chain([route(&outcome.route)])
            .chain(walls)
            .chain(outcome.limits.iter().map(limit))
            .chain(outcome.ports.iter().map(|port| format!("port {port}")))
            .chain(outcome.notes.iter().map(|note| format!("note: {note}")))
            .chain([times, ended(&outcome.ended)]),
    )
}

fn route(route: &Route) -> String {
    match route {
        Route::Cold(why) => format!("route cold: a sandbox was booted for it, since {why}"),
        Route::Pool(name) => format!("route pool: a sandbox of the pool {name} was ready"),
        Route::Live(name) => format!("route live: in the sandbox {name}"),
        Route::Kept(name) => format!("route kept: the sandbox {name} was booted for it"),
    }
}

/// How a command ended, in a sentence.
pub(super) fn ended(ended: &Ended) -> String {
    match ended {
        Ended::Exited(code) => format!("the command exited with {code}"),
        Ended::Signaled(signal) => format!("the command was killed by signal {signal}"),
        Ended::TimedOut => "the command ran out of time".into(),
        Ended::OutOfMemory => "the sandbox ran out of memory".into(),
        Ended::Killed => "the command was killed because somebody asked for it".into(),
        Ended::Lost(why) => format!("the sandbox was lost: {why}"),
    }
}

/// A limit's value as people write it.
fn amount(limit: &LimitInForce) -> String {
    match limit.kind {
        LimitKind::Cpus => (limit.value as f64 / 1000.0).to_string(),
        LimitKind::Pids => limit.value.to_string(),
        LimitKind::Memory | LimitKind::Disk => match limit.value.to_string().parse::<Bytes>() {
            Ok(bytes) => bytes.to_string(),
            // Nobody can ask for no bytes at all, but a backend may report them.
            Err(_) => format!("{} B", limit.value),
        },
    }
}

fn unusual(outcome: &Outcome, time_limit: Option<Duration>) -> Option<String> {
    let in_force = |limit: &&LimitInForce| {
        limit.kind == LimitKind::Memory && !matches!(limit.by, Limited::Nowise { .. })
    };
    match &outcome.ended {
        Ended::OutOfMemory => {
            let limit = outcome.limits.iter().find(in_force);
            let limit = limit.map(|limit| format!(" (limit {})", amount(limit)));
            Some(format!("the sandbox ran out of memory{}", limit.unwrap_or_default()))
        }
        Ended::TimedOut => {
            let limit = time_limit.map(|limit| format!(" of {limit:?}")).unwrap_or_default();
            Some(format!("the command was killed at its time limit{limit}"))
        }
        Ended::Lost(why) => Some(format!("the sandbox was lost: {why}")),
        Ended::Exited(_) | Ended::Signaled(_) | Ended::Killed => None,
    }
}

#[cfg(test)]
mod tests {
    use agentkernel_core::{Profile, Remains, Wall};
    use agentkernel_engine::Phases;

    use super::*;

    fn of(ended: Ended) -> Outcome {
        let limit =
            |kind, value| LimitInForce { kind, value, by: Limited::Exactly("cgroup v2".into()) };
        Outcome {
            backend: "native",
            module: None,
            profile: Profile::Moderate,
            route: Route::Cold("there is no pool".into()),
            ended,
            phases: Phases {
                boot: Duration::from_micros(1500),
                ready: Duration::from_millis(1),
                exec: Duration::from_secs(2),
                shutdown: Duration::from_millis(1),
            },
            walls: vec![
                Wall { name: "seccomp".into(), missing: None },
                Wall { name: "landlock".into(), missing: Some("no kernel".into()) },
            ],
            limits: vec![limit(LimitKind::Memory, 256 << 20), limit(LimitKind::Cpus, 1500)],
            notes: vec!["it is slow".into()],
            ports: vec![],
            remains: Remains::default(),
            broken: vec![],
        }
    }

    #[test]
    fn an_ordinary_end_needs_no_words() {
        for ended in [Ended::Exited(3), Ended::Signaled(9), Ended::Killed] {
            assert_eq!(unusual(&of(ended.clone()), None), None, "{ended:?}");
        }
    }

    #[test]
    fn an_unusual_end_is_told_with_its_limit() {
        let limit = Some(Duration::from_secs(30));
        for (ended, words) in [
            (Ended::OutOfMemory, "the sandbox ran out of memory (limit 256 MiB)"),
            (Ended::TimedOut, "the command was killed at its time limit of 30s"),
            (Ended::Lost("gone".into()), "the sandbox was lost: gone"),
        ] {
            assert_eq!(unusual(&of(ended), limit).as_deref(), Some(words));
        }
    }

    #[test]
    fn verbose_names_the_backend_the_image_all_that_holds_or_is_noted_the_times_and_the_end() {
        let expected = "\
agentkernel: backend native, the first one that is ready
agentkernel: image python:3.13-slim, because the command is python3
agentkernel: route cold: a sandbox was booted for it, since there is no pool
agentkernel: wall seccomp: in force
agentkernel: wall landlock: missing: no kernel
agentkernel: limit memory 256 MiB: by cgroup v2
agentkernel: limit cpus 1.5: by cgroup v2
agentkernel: note: it is slow
agentkernel: boot 1.5ms, ready 1ms, exec 2s, shutdown 1ms: 2.0035s in all
agentkernel: the command exited with 0";
        let name = "python:3.13-slim".into();
        let image = ImageReport { name, why: Some("the command is python3".into()) };
        assert_eq!(
            describe(&of(Ended::Exited(0)), "the first one that is ready", Some(&image)),
            expected
        );
        let asked =
            describe(&of(Ended::Exited(0)), "as asked", Some(&ImageReport { why: None, ..image }));
        assert!(asked.contains("\nagentkernel: image python:3.13-slim, as asked\n"), "{asked}");
        assert!(!describe(&of(Ended::Exited(0)), "as asked", None).contains("image"));
    }
}
