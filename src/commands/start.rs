//! `agentkernel start NAME...`

use agentkernel_core::Backend;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::sandboxes;

/// Starts sandboxes. One that runs already is as it should be.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    sandboxes::each(Verb::Start, low, backends, |all, name| Ok(Some(all.start(name)?.0.name)))
}
