//! `agentkernel rename NAME NEW-NAME`

use agentkernel_core::Backend;
use agentkernel_engine::Engine;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{sandboxes, unexpected};

/// Gives a sandbox another name, and prints that.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (old, new) = match low.words.as_slice() {
        [old, new] => (sandboxes::name(old)?, sandboxes::name(new)?),
        [] => return Err(sandboxes::missing(Verb::Rename)),
        [_] => {
            let hint = "the form is agentkernel rename NAME NEW-NAME";
            return Err(CommandError::new("no new name was given", hint));
        }
        [_, _, word, ..] => return Err(unexpected(Verb::Rename, word)),
    };
    let engine = Engine::new(backends);
    let renamed = sandboxes::open_for(&engine, &old)?.rename(old.as_str(), &new)?;
    output::line(renamed.name.as_str())?;
    Ok(0)
}
