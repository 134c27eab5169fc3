//! `agentkernel help [VERB]`

use crate::error::CommandError;
use crate::flags::{self, LowArgs};
use crate::output;
use crate::verbs::Verb;

use super::unexpected;

pub(super) fn run(low: &LowArgs) -> Result<u8, CommandError> {
    let verb = match low.words.as_slice() {
        [] => None,
        [word] => match word.to_str().and_then(Verb::named) {
            None => return Err(unexpected(Verb::Help, word)),
            verb => verb,
        },
        [_, word, ..] => return Err(unexpected(Verb::Help, word)),
    };
    output::text(&flags::help(verb))?;
    Ok(0)
}
