//! `agentkernel wait NAME...`

use agentkernel_core::Backend;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::sandboxes;

/// Returns when all of the sandboxes have stopped.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    sandboxes::each(Verb::Wait, low, backends, |all, name| all.wait(name).map(|()| None))
}
