//! `agentkernel diff [--patch | --json] NAME`

use std::io::{self, BufWriter, IsTerminal};

use agentkernel_core::{Backend, Capability};
use agentkernel_engine::Engine;
use agentkernel_engine::files::{Change, ChangeKind};
use agentkernel_wire::{ChangeReport, ChangesReport};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::sandboxes;

/// Shows what a sandbox has changed.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let name = sandboxes::only_name(Verb::Diff, low)?;
    if low.patch && low.json {
        return Err(CommandError::new("a patch is no JSON", "leave out --patch or --json"));
    }
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    if low.patch {
        let out = BufWriter::new(output::Patient);
        return all.patch(name.as_str(), out).map(|()| 0).map_err(CommandError::from);
    }
    let changes = all.changes(name.as_str())?;
    if low.json {
        let record = all.find(name.as_str())?;
        let changes = changes.iter().map(report).collect();
        output::line(&ChangesReport::new(record.name.into(), changes).to_json())?;
    } else {
        output::text(&lines(&changes))?;
        let record = all.find(name.as_str())?;
        // A program that reads this has read the docs.
        if io::stderr().is_terminal()
            && !all.backend(&record)?.capabilities().has(Capability::RootChanges)
        {
            let backend = &record.backend;
            output::note(&format!(
                "agentkernel: of a {backend} sandbox only what it changed in copy-on-write \
                 folders can be told"
            ));
        }
    }
    Ok(0)
}

/// One line for each change.
pub(super) fn lines(changes: &[Change]) -> String {
    let line = |change: &Change| {
        let letter = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        format!("{letter} {}\n", output::shown(&change.path.to_string_lossy()))
    };
    changes.iter().map(line).collect()
}

/// A change, for programs.
pub(super) fn report(change: &Change) -> ChangeReport {
    ChangeReport {
        path: change.path.to_string_lossy().into_owned(),
        kind: match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Changed => "changed",
            ChangeKind::Deleted => "deleted",
        },
        what: change.what.to_string(),
    }
}
