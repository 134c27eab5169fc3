//! The verbs, one file each.

mod completions;
mod daemon;
mod doctor;
mod help;
mod pool;
mod reports;
mod run;
mod tell;

use agentkernel_core::Backend;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

/// Does what a verb says and returns the exit status.
pub(crate) fn dispatch(
    verb: Verb,
    low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    match verb {
        Verb::Run => run::run(low, backends),
        Verb::Doctor => doctor::run(&low, backends),
        Verb::Completions => completions::run(&low, backends),
        Verb::Help => help::run(&low),
        Verb::Pool => pool::run(low, backends),
        Verb::Daemon => daemon::run(&low),
    }
}

/// The error for a word that a verb doesn't take.
fn unexpected(verb: Verb, word: &std::ffi::OsStr) -> CommandError {
    let info = verb.info();
    CommandError::new(
        format!("{} doesn't take {word:?}", info.name),
        format!("the form is agentkernel {} {}", info.name, info.usage),
    )
}
