//! `agentkernel completions SHELL`

use agentkernel_core::Backend;

use crate::error::CommandError;
use crate::flags::{self, LowArgs};
use crate::output;
use crate::verbs::{SHELLS, Verb};

use super::unexpected;

pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let shell = match low.words.as_slice() {
        [shell] => shell,
        [] => {
            let hint = format!("name one of {}", SHELLS.replace(' ', ", "));
            return Err(CommandError::new("no shell was named", hint));
        }
        [_, word, ..] => return Err(unexpected(Verb::Completions, word)),
    };
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    let script = shell.to_str().and_then(|shell| flags::completions(shell, &names));
    output::text(&script.ok_or_else(|| unexpected(Verb::Completions, shell))?)?;
    Ok(0)
}
