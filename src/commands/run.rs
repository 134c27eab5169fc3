//! `agentkernel run [FLAGS] [--] COMMAND [ARGUMENT...]`

use std::mem;
use std::path::PathBuf;

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, Journal, Run, Terminal};
use agentkernel_wire as wire;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::home;

use super::tell::{self, Telling};

/// Runs a command in a sandbox and returns the exit status that stands for its ending.
pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (run, files) = resolve(&mut low, backends)?;
    let telling = Telling::new(&mut low, &run.command, run.backend.is_some())?;
    if low.verbose {
        tell::read(&files);
    }
    let journal = home::dirs().ok().map(|dirs| Journal::new(&dirs, home::CLIENT));
    let outcome = Engine::new(backends).run(run, journal.as_ref());
    telling.tell(outcome.map_err(CommandError::from))
}

/// Turns the flags and all that lies under them into an action. Also returns the settings files
/// that were read.
fn resolve(
    low: &mut LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<(Run, Vec<PathBuf>), CommandError> {
    let (resolved, files) = super::spec::resolve(low, backends)?;
    let argv = mem::take(&mut low.words);
    let command = wire::command(argv, resolved.time_limit)?;
    let run = Run {
        backend: resolved.backend,
        spec: resolved.spec,
        command,
        terminal: low.terminal.unwrap_or(Terminal::Auto),
        stdin: !low.no_stdin,
        thorough: low.report.is_some() || low.json || low.verbose,
    };
    Ok((run, files))
}
