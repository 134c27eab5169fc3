//! `agentkernel run [FLAGS] [--] COMMAND [ARGUMENT...]`

use std::mem;
use std::path::PathBuf;

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, Journal, Outcome, Route, Run, Terminal};
use agentkernel_wire::{self as wire, ImageReport};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::{home, news};

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
    let (run, Asked { backend_why, image, files, pools }) = resolve(&mut low, backends)?;
    if !run.spec.ports.is_empty() {
        news::listen(low.json, low.verbose);
    }
    let telling = Telling::new(&mut low, &run.command, backend_why, Some(image))?;
    let engine = Engine::new(backends);
    let outcome = match low.keep {
        true => sandboxes::open(&engine).and_then(|all| Ok(all.run_kept(run, low.name.take())?)),
        false => run_once(&engine, run, pools),
    };
    // Else whoever does it tells of it.
    if low.verbose && !matches!(&outcome, Err(err) if err.elsewhere) {
        tell::read(&files);
    }
    telling.tell(outcome)
}

/// Runs a command in a sandbox that goes with it. If there was no pool for it, those that the
/// settings want are held for the next one.
fn run_once(engine: &Engine, run: Run, pools: FilesPools) -> Result<Outcome, CommandError> {
    let journal = home::dirs().ok().map(|dirs| Journal::new(&dirs, home::CLIENT));
    // A pool would be of no use for the next run either, which has its image made sure of again.
    let spec = (!pools.is_empty() && !run.provision.renews()).then(|| run.spec.clone());
    let outcome = engine.run(run, journal.as_ref())?;
    if let (Some(spec), Some(journal)) = (spec, &journal)
        && matches!(outcome.route, Route::Cold(_))
    {
        let backend = engine.select(Some(outcome.backend))?;
        pool::hold_for_next(journal.dirs(), backend, &spec, pools);
    }
    Ok(outcome)
}

/// What there is to tell of a request besides what is done.
struct Asked {
    /// Why its backend was taken.
    backend_why: &'static str,
    image: ImageReport,
    /// The settings files that were read.
    files: Vec<PathBuf>,
    /// The pools that they want.
    pools: FilesPools,
}

/// Turns the flags and all that lies under them into an action.
fn resolve(
    low: &mut LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<(Run, Asked), CommandError> {
    let mut words = mem::take(&mut low.words);
    let Gathered { resolved, files, pools, by_image } =
        super::spec::resolve(low, Some(&mut words), backends)?;
    let command = wire::command(words, low.function.take(), resolved.time_limit)?;
    let command = wire::with_entrypoint(command, low.entrypoint.take(), &resolved.spec.image)?;
    wire::check_command(&command, &resolved.spec.image)?;
    let backend_why = match &resolved.backend {
        Some(_) if by_image => "the first one for modules",
        Some(_) => "as asked",
        None => "the first one that is ready",
    };
    let image = ImageReport::new(&resolved.spec.image, resolved.image_why);
    let run = Run {
        backend: resolved.backend,
        spec: resolved.spec,
        provision: resolved.provision,
        command,
        terminal: low.terminal.unwrap_or(Terminal::Auto),
        stdin: !low.no_stdin,
        thorough: low.report.is_some() || low.json || low.verbose,
        pooled: !low.no_pool,
    };
    Ok((run, Asked { backend_why, image, files, pools }))
}
