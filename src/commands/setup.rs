//! `agentkernel setup BACKEND [--kernel PATH] [--force] [--json]`
//!
//! It is in the daemon's program, so that this one stays small.

use std::os::unix::process::CommandExt;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;

use super::{daemon, unexpected};

pub(super) fn run(low: &LowArgs) -> Result<u8, CommandError> {
    let backend = match low.words.as_slice() {
        [backend] => backend,
        [] => {
            return Err(CommandError::new(
                "nothing to set up was named",
                format!("the form is agentkernel setup {}", Verb::Setup.info().usage),
            ));
        }
        [_, word, ..] => return Err(unexpected(Verb::Setup, word)),
    };
    let mut program = daemon::program()?;
    program.arg("setup").arg(backend);
    program.args(low.force.then_some("--force")).args(low.json.then_some("--json"));
    if let Some(kernel) = &low.kernel {
        program.arg("--kernel").arg(kernel);
    }
    // Only a failure returns.
    Err(daemon::failed("start agentkerneld", &program.exec()))
}
