//! `agentkernel stop [-t TIME] NAME...`

use std::time::Duration;

use agentkernel_core::Backend;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::sandboxes;

/// How long commands may take to end, as Docker has it.
const GRACE: Duration = Duration::from_secs(10);

/// Stops sandboxes. One that does not run is as it should be.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let grace = low.grace.unwrap_or(GRACE);
    sandboxes::each(Verb::Stop, low, backends, |all, name| Ok(Some(all.stop(name, grace)?.0.name)))
}
