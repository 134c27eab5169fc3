//! `agentkernel run [FLAGS] [--] COMMAND [ARGUMENT...]`

use std::env;
use std::ffi::OsString;
use std::mem;
use std::path::PathBuf;

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, Journal, Run, Terminal};
use agentkernel_wire::{self as wire, Caller, Resolved, SpecRequest, nearest};

use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::settings::ReadFiles;
use crate::{home, machine, settings};

use super::reports::Reports;
use super::tell;

/// Runs a command in a sandbox and returns the exit status that stands for its ending.
pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (run, files) = resolve(&mut low, backends)?;
    let (asked, time_limit) = (run.backend.is_some(), run.command.time_limit);
    let reports = Reports::open(low.report, low.json, &run.command)?;
    if low.verbose {
        tell::read(&files);
    }
    let journal = home::dirs().ok().map(|dirs| Journal::new(&dirs, home::CLIENT));
    let outcome = match Engine::new(backends).run(run, journal.as_ref()).map_err(CommandError::from)
    {
        Ok(outcome) => outcome,
        Err(err) => {
            reports.failed(&err);
            return Err(err);
        }
    };
    if low.verbose {
        tell::outcome(&outcome, asked);
    }
    if !low.json {
        tell::ending(&outcome, time_limit);
    }
    reports.ended(&outcome)?;
    // Output that was lost is our failure, whatever the command made of it.
    Ok(if outcome.broken.is_empty() { outcome.ended.exit_code() } else { FAILED })
}

/// Turns the flags and all that lies under them into an action. Also returns the settings files
/// that were read.
fn resolve(
    low: &mut LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<(Run, Vec<PathBuf>), CommandError> {
    let (resolved, files) = resolve_spec(low, backends)?;
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

/// The spec that the flags and all that lies under them make, and the settings files that were
/// read.
pub(super) fn resolve_spec(
    low: &mut LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<(Resolved, Vec<PathBuf>), CommandError> {
    let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    let flags = mem::take(&mut low.spec);
    let settings = settings::gather(flags, &low.env_files, read_files(low), &variables)?;
    check_backend(&settings.request, backends)?;
    let caller = Caller { variables: &variables, machine: machine::facts() };
    Ok((settings.request.resolve(&caller)?, settings.files))
}

fn read_files(low: &LowArgs) -> ReadFiles {
    match (low.no_config, low.trust) {
        (true, _) => ReadFiles::None,
        (false, false) => ReadFiles::All,
        (false, true) => ReadFiles::Trusted,
    }
}

fn check_backend(
    request: &SpecRequest,
    backends: &'static [&'static dyn Backend],
) -> Result<(), CommandError> {
    let names = || backends.iter().map(|backend| backend.name());
    let asked = match request.backend.as_deref() {
        Some(asked) if !names().any(|name| name == asked) => asked,
        _ => return Ok(()),
    };
    let hint = match nearest(asked, names()) {
        Some(name) => format!("did you mean {name}?"),
        None => "agentkernel doctor shows those that there are".into(),
    };
    Err(CommandError::new(format!("there is no backend {asked:?} here"), hint))
}
