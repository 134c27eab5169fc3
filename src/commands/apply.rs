//! `agentkernel apply [--force] NAME [PATH...]`

use std::path::PathBuf;

use agentkernel_core::Backend;
use agentkernel_engine::Engine;
use agentkernel_engine::files::{NotApplied, Reason, Report};
use agentkernel_wire::{AppliedReport, RefusedReport};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{diff, sandboxes};

/// Carries a sandbox's changes over to the host, and says which and which not.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let [word, paths @ ..] = low.words.as_slice() else {
        return Err(sandboxes::missing(Verb::Apply));
    };
    let name = sandboxes::name(word)?;
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    let report = all.apply(name.as_str(), &paths, low.force)?;
    if low.json {
        let name = all.find(name.as_str())?.name;
        let applied = report.applied.iter().map(diff::report).collect();
        let refused = report.refused.iter().map(refused).collect();
        output::line(&AppliedReport::new(name.into(), applied, refused).to_json())?;
    } else {
        output::text(&diff::lines(&report.applied))?;
        tell_refused(&report);
    }
    Ok(u8::from(!report.refused.is_empty()))
}

fn refused(not: &NotApplied) -> RefusedReport {
    RefusedReport { path: not.path.to_string_lossy().into_owned(), why: not.reason.to_string() }
}

fn tell_refused(report: &Report) {
    for not in &report.refused {
        let path = output::shown(&not.path.to_string_lossy());
        output::note(&format!("agentkernel: not applied {path}: {}", not.reason));
    }
    let by_force =
        |not: &&NotApplied| matches!(not.reason, Reason::HostChanged(_) | Reason::HostRemoved);
    match report.refused.iter().filter(by_force).count() {
        0 => {}
        count => output::note(&format!("agentkernel: --force takes {count} of these, too")),
    }
}
