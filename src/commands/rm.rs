//! `agentkernel rm [-f] NAME...`

use agentkernel_core::Backend;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::sandboxes;

/// Removes sandboxes.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    sandboxes::each(Verb::Rm, low, backends, |all, name| {
        Ok(Some(all.remove(name, low.force)?.name))
    })
}
