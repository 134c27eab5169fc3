//! `agentkernel fork [-n COUNT] [--name PREFIX] NAME`

use agentkernel_core::Backend;
use agentkernel_engine::Engine;
use agentkernel_store::Name;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::sandboxes;

/// Makes sandboxes that go on from another's files, and prints their names.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let name = sandboxes::only_name(Verb::Fork, low)?;
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    let prefix = low.name.as_ref().map(Name::as_str);
    for fork in all.fork(name.as_str(), low.count.unwrap_or(1), prefix)? {
        output::line(fork.name.as_str())?;
    }
    Ok(0)
}
