//! `agentkernel unpause NAME...`

use agentkernel_core::Backend;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::sandboxes;

/// Lets paused sandboxes go on.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    sandboxes::each(Verb::Unpause, low, backends, |all, name| Ok(Some(all.unpause(name)?.name)))
}
