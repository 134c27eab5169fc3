//! `agentkernel snapshot create NAME [SNAPSHOT] | ls | rm SNAPSHOT...`

use std::ffi::{OsStr, OsString};

use agentkernel_core::Backend;
use agentkernel_engine::Engine;
use agentkernel_store::{Snapshot, time};
use agentkernel_wire::{SnapshotReport, SnapshotsReport};

use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{sandboxes, unexpected};

pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let engine = Engine::new(backends);
    let [verb, rest @ ..] = low.words.as_slice() else {
        let hint = "use snapshot create, snapshot ls or snapshot rm";
        return Err(CommandError::new("nothing to do with snapshots was named", hint));
    };
    match (verb.to_str(), rest) {
        (Some("create"), [name]) => create(&engine, name, None),
        (Some("create"), [name, snapshot]) => create(&engine, name, Some(snapshot)),
        (Some("create"), []) => Err(sandboxes::missing(Verb::Snapshot)),
        (Some("create"), [_, _, word, ..]) => Err(unexpected(Verb::Snapshot, word)),
        (Some("ls" | "list"), []) => list(&engine, low.json),
        (Some("ls" | "list"), [word, ..]) => Err(unexpected(Verb::Snapshot, word)),
        (Some("rm" | "remove"), []) => Err(CommandError::new(
            "no snapshot was named",
            "agentkernel snapshot ls shows all of them",
        )),
        (Some("rm" | "remove"), names) => remove(&engine, names),
        _ => Err(unexpected(Verb::Snapshot, verb)),
    }
}

fn create(engine: &Engine, name: &OsStr, snapshot: Option<&OsString>) -> Result<u8, CommandError> {
    let name = sandboxes::name(name)?;
    let snapshot = snapshot.map(|word| sandboxes::name(word)).transpose()?;
    let all = sandboxes::open_for(engine, &name)?;
    output::line(all.snapshot_create(name.as_str(), snapshot)?.name.as_str())?;
    Ok(0)
}

fn list(engine: &Engine, json: bool) -> Result<u8, CommandError> {
    let snapshots = match sandboxes::open_existing(engine)? {
        Some(all) => all.snapshots()?,
        None => Vec::new(),
    };
    if json {
        let reports: Vec<_> = snapshots.iter().map(report).collect();
        output::line(&SnapshotsReport::from(reports).to_json())?;
        return Ok(0);
    }
    let header = ["NAME", "ID", "OF", "AGE", "SIZE"].map(String::from);
    let row = |snapshot: &Snapshot| {
        [
            snapshot.name.to_string(),
            snapshot.id.to_string(),
            output::shown(&snapshot.of),
            sandboxes::age(snapshot.created),
            size(snapshot.bytes),
        ]
    };
    let rows: Vec<_> = [header].into_iter().chain(snapshots.iter().map(row)).collect();
    output::table(&rows)?;
    Ok(0)
}

/// Goes on after an error, which the exit status tells.
fn remove(engine: &Engine, names: &[OsString]) -> Result<u8, CommandError> {
    let all = sandboxes::open(engine)?;
    all.expect_snapshot_drivers(names.iter().filter_map(|word| word.to_str()))?;
    let mut status = 0;
    for word in names {
        let removed =
            sandboxes::name(word).and_then(|name| Ok(all.snapshot_remove(name.as_str())?));
        match removed {
            Ok(snapshot) => output::line(snapshot.name.as_str())?,
            Err(err) => {
                output::error(err, false);
                status = FAILED;
            }
        }
    }
    Ok(status)
}

fn report(snapshot: &Snapshot) -> SnapshotReport {
    SnapshotReport {
        name: snapshot.name.to_string(),
        id: snapshot.id.to_string(),
        backend: snapshot.backend.clone(),
        of: snapshot.of.clone(),
        created: time::to_text(snapshot.created),
        bytes: snapshot.bytes,
    }
}

/// To three digits or so.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while size >= 1000.0
        && let Some(next) = units.next()
    {
        size /= 1024.0;
        unit = Some(next);
    }
    let unit = unit.copied().unwrap_or_default();
    if bytes < 1000 || size >= 100.0 {
        format!("{size:.0} {unit}")
    } else {
        format!("{size:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1024, "1.0 KiB"),
            (1_500_000, "1.4 MiB"),
            (500 << 20, "500 MiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
