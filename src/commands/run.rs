//! `agentkernel run [FLAGS] [--] COMMAND [ARGUMENT...]`

use std::mem;
use std::path::PathBuf;

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, Journal, Route, Run, Terminal};
use agentkernel_wire as wire;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::home;

use super::spec::{FilesPools, Gathered};
use super::tell::{self, Telling};
use super::{pool, sandboxes};

/// Runs a command in a sandbox and returns the exit status that stands for its ending.
pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    if low.name.is_some() && !low.keep {
        return Err(CommandError::new(
            "only a sandbox that is kept has a name",
            "pass --keep, or leave out --name",
        ));
    }
    let (run, files, pools) = resolve(&mut low, backends)?;
    let telling = Telling::new(&mut low, &run.command, run.backend.is_some())?;
    if low.verbose {
        tell::read(&files);
    }
    let engine = Engine::new(backends);
    if low.keep {
        let kept = sandboxes::open(&engine).and_then(|all| Ok(all.run_kept(run, low.name.take())?));
        return telling.tell(kept);
    }
    let journal = home::dirs().ok().map(|dirs| Journal::new(&dirs, home::CLIENT));
    let spec = (!pools.is_empty()).then(|| run.spec.clone());
    let outcome = engine.run(run, journal.as_ref());
    if let (Some(spec), Some(journal), Ok(outcome)) = (spec, &journal, &outcome)
        && matches!(outcome.route, Route::Cold(_))
    {
        let backend = engine.select(Some(outcome.backend))?;
        pool::hold_for_next(journal.dirs(), backend, &spec, pools);
    }
    telling.tell(outcome.map_err(CommandError::from))
}

/// Turns the flags and all that lies under them into an action. Also returns the settings files
/// that were read, and the pools that they want.
fn resolve(
    low: &mut LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<(Run, Vec<PathBuf>, FilesPools), CommandError> {
    let Gathered { resolved, files, pools } = super::spec::resolve(low, backends)?;
    let argv = mem::take(&mut low.words);
    let command = wire::command(argv, resolved.time_limit)?;
    let run = Run {
        backend: resolved.backend,
        spec: resolved.spec,
        command,
        terminal: low.terminal.unwrap_or(Terminal::Auto),
        stdin: !low.no_stdin,
        thorough: low.report.is_some() || low.json || low.verbose,
        pooled: !low.no_pool,
    };
    Ok((run, files, pools))
}
