//! `agentkernel inspect NAME`

use std::time::Duration;

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, Sandboxes};
use agentkernel_store::time;
use agentkernel_wire::{InspectReport, Json, SpecRecord};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{sandboxes, unexpected};

/// Prints all that is known of a sandbox.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let name = match low.words.as_slice() {
        [] => return Err(sandboxes::missing(Verb::Inspect)),
        [word] => sandboxes::name(word)?,
        [_, word, ..] => return Err(unexpected(Verb::Inspect, word)),
    };
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    output::line(&report(&all, name.as_str())?.to_json())?;
    Ok(0)
}

fn report(all: &Sandboxes<'_>, name: &str) -> Result<InspectReport, CommandError> {
    let (record, commands) = all.background(name)?;
    let dirs = all.dirs();
    let socket = record.process.as_ref().map(|_| dirs.socket(&record.id).display().to_string());
    let json = |text: &Option<String>| text.as_deref().and_then(Json::read);
    Ok(InspectReport {
        version: InspectReport::VERSION,
        sandbox: sandboxes::report(&record),
        started: record.started.map(time::to_text),
        ttl_s: record.ttl.as_ref().map(Duration::as_secs_f64),
        idle_s: record.idle.as_ref().map(Duration::as_secs_f64),
        origin: record.origin.clone(),
        spec: SpecRecord::from_json(&record.spec).ok(),
        place: json(&record.place),
        applied: json(&record.applied),
        folder: dirs.sandbox(&record.id).display().to_string(),
        socket,
        commands: commands.into_iter().map(sandboxes::command_report).collect(),
    })
}
