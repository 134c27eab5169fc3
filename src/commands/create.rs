//! `agentkernel create [FLAGS] [NAME]`

use std::mem;

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, NewSandbox, Sandboxes};
use agentkernel_store::Name;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{sandboxes, spec, unexpected};

/// Makes a sandbox and prints its name.
pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let name = asked_name(&mut low)?;
    let resolved = spec::resolve(&mut low, backends)?.resolved;
    let engine = Engine::new(backends);
    let all = sandboxes::open(&engine)?;
    let record = all.create(NewSandbox {
        name,
        backend: resolved.backend,
        spec: resolved.spec,
        labels: mem::take(&mut low.labels),
        ttl: low.ttl,
        idle: low.idle,
        origin: None,
    })?;
    if low.start {
        start(&all, record.id.as_str())?;
    }
    output::line(record.name.as_str())?;
    Ok(0)
}

/// Starts the new sandbox. If that fails there is none.
fn start(all: &Sandboxes<'_>, id: &str) -> Result<(), CommandError> {
    let Err(error) = all.start(id) else { return Ok(()) };
    // Why it could not be started matters more than what else goes wrong.
    let _ = all.remove(id, true);
    Err(error.into())
}

/// The name as a word or by `--name`, which is Docker's way.
fn asked_name(low: &mut LowArgs) -> Result<Option<Name>, CommandError> {
    match (low.words.as_slice(), low.name.take()) {
        ([], name) => Ok(name),
        ([word], None) => sandboxes::name(word).map(Some),
        ([word], Some(_)) | ([_, word, ..], _) => Err(unexpected(Verb::Create, word)),
    }
}
