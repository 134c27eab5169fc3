//! A run's reports to programs: the file of `--report` and the line of `--json`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agentkernel_core::Command;
use agentkernel_engine::{Outcome, Route};
use agentkernel_wire::{self as wire, ImageReport, Report, RouteReport};

use crate::error::CommandError;
use crate::output;

/// Where a run is reported, and what has to be known of it once it is over.
#[derive(Debug)]
pub(super) struct Reports {
    file: Option<(PathBuf, File)>,
    json: bool,
    /// Without a module that is the program. Empty if there is nothing to report to.
    argv: Vec<OsString>,
}

impl Reports {
    /// Opens the report's file, so that one that can't be written stops the run before it starts.
    pub fn open(
        path: Option<PathBuf>,
        json: bool,
        command: &Command,
    ) -> Result<Self, CommandError> {
        let create = |path: PathBuf| match create(&path) {
            Ok(file) => Ok((path, file)),
            Err(err) => Err(CommandError::new(
                format!("the report can't be written to {}: {err}", path.display()),
                "name a file in a directory that you may write to",
            )),
        };
        let file = path.map(create).transpose()?;
        let argv = match json || file.is_some() {
            true => command.argv.clone(),
            false => Vec::new(),
        };
        Ok(Self { file, json, argv })
    }

    /// Leaves the error in the file. The line on standard error is the caller's to write, as for
    /// every error, and matters more than whether the file could be written.
    pub fn failed(self, err: &CommandError) {
        let _ = self.write(&err.clone().report().to_json());
    }

    /// Reports a run that is over, to the file first.
    pub fn ended(self, outcome: &Outcome, image: Option<ImageReport>) -> Result<(), CommandError> {
        if !self.json && self.file.is_none() {
            return Ok(());
        }
        let phases = outcome.phases;
        let argv: Vec<_> = outcome.module.iter().chain(&self.argv).cloned().collect();
        let report = Report::from(wire::Run {
            backend: outcome.backend,
            route: route(&outcome.route),
            profile: outcome.profile,
            image,
            argv: &argv,
            ended: &outcome.ended,
            phases: [phases.boot, phases.ready, phases.exec, phases.shutdown],
            walls: &outcome.walls,
            limits: &outcome.limits,
            notes: &outcome.notes,
            ports: &outcome.ports,
            remains: &outcome.remains,
        });
        let text = report.to_json();
        self.write(&text).map_err(|err| {
            let path = self.file.map(|(path, _)| path).unwrap_or_default();
            let message = format!("the report can't be written to {}: {err}", path.display());
            let code = outcome.ended.exit_code();
            let hint = format!("the command did run; its exit status would have been {code}");
            CommandError::new(message, hint)
        })?;
        if self.json {
            output::note(&text);
        }
        Ok(())
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match &self.file {
            Some((_, file)) => (&*file).write_all(format!("{text}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

fn route(route: &Route) -> RouteReport {
    match route {
        Route::Cold(why) => RouteReport::Cold { why: why.clone() },
        Route::Pool(name) => RouteReport::Pool { name: name.clone() },
        Route::Live(name) => RouteReport::Live { name: name.clone() },
        Route::Kept(name) => RouteReport::Kept { name: name.clone() },
    }
}

/// Creates a file that the caller has named. A link is not followed, for a command may have put it into a project
/// to have another file of the caller's overwritten; those of the system's own `/dev` are.
pub(super) fn create(path: &Path) -> io::Result<File> {
    if path.is_symlink() && !path.starts_with("/dev") {
        return Err(io::Error::other("it is a symbolic link"));
    }
    File::create(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use agentkernel_core::{Ended, Profile, Remains};
    use agentkernel_engine::Phases;

    use super::*;

    fn reports(path: &str) -> Reports {
        let path = PathBuf::from(path);
        let file = File::create(&path).unwrap();
        let argv = vec!["true".into()];
        Reports { file: Some((path, file)), json: false, argv }
    }

    fn outcome() -> Outcome {
        let phases = Phases { exec: Duration::from_micros(5), ..Phases::default() };
        Outcome {
            backend: "native",
            module: None,
            profile: Profile::Moderate,
            route: Route::Cold("there is no pool".into()),
            ended: Ended::Exited(3),
            phases,
            walls: vec![],
            limits: vec![],
            notes: vec![],
            ports: vec![],
            remains: Remains::default(),
            broken: vec![],
        }
    }

    /// What `write` leaves in a report's file.
    fn written(name: &str, write: impl FnOnce(Reports)) -> String {
        let path = std::env::temp_dir().join(format!("report-{name}-{}", std::process::id()));
        write(reports(path.to_str().unwrap()));
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        text
    }

    #[test]
    fn a_run_that_is_over_is_in_the_file() {
        let image = Some(ImageReport { name: "host".into(), why: None });
        let text = written("ended", |reports| reports.ended(&outcome(), image.clone()).unwrap());
        assert!(text.starts_with(r#"{"version":1,"backend":"native","route":{"kind":"cold","#));
        assert!(text.contains(
            r#""image":{"name":"host"},"command":["true"],"ended":{"kind":"exited","code":3}"#
        ));
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn a_module_stands_before_its_arguments() {
        let outcome = Outcome { module: Some("app.wasm".into()), ..outcome() };
        let text = written("module", |reports| reports.ended(&outcome, None).unwrap());
        assert!(text.contains(r#""command":["app.wasm","true"]"#), "{text}");
    }

    #[test]
    fn a_run_that_never_was_leaves_its_error_in_the_file() {
        let text = written("failed", |reports| reports.failed(&CommandError::new("no", "yes")));
        assert!(text.contains(r#""error":{"message":"no""#), "{text}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_report_that_is_lost_is_an_error_that_tells_how_the_command_ended() {
        let err = reports("/dev/full").ended(&outcome(), None).unwrap_err();
        assert!(err.message.contains("/dev/full: No space left"), "{}", err.message);
        assert_eq!(err.exit_code, 125);
        assert!(err.hint.contains("exit status would have been 3"));
    }
}
