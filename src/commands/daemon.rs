//! `agentkernel daemon start [-b] | stop | status [--json] | logs`

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use agentkernel_engine::ask;
use agentkernel_store::Dirs;
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;
use agentkernel_wire::{DaemonReply, DaemonRequest, DaemonStatus};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;
use crate::{home, output};

use super::unexpected;

/// The daemon's program, which is installed beside this one.
const PROGRAM: &str = "agentkerneld";

pub(super) fn run(low: &LowArgs) -> Result<u8, CommandError> {
    let dirs = home::dirs()?;
    let words: Vec<_> = low.words.iter().map(|word| word.to_str()).collect();
    match words.as_slice() {
        [Some("start")] if low.background => start_in_background(&dirs),
        [Some("start")] => Err(failed("start agentkerneld", &program()?.exec())),
        [Some("stop")] => stop(&dirs),
        [Some("status")] => status(&dirs, low.json),
        [Some("logs")] => logs(&dirs),
        [] => Err(CommandError::new(
            "no verb was given",
            "use daemon start, daemon stop, daemon status or daemon logs",
        )),
        [_, ..] => Err(unexpected(Verb::Daemon, &low.words[low.words.len() - 1])),
    }
}

/// The daemon's program, ready to be started.
pub(super) fn program() -> Result<Command, CommandError> {
    let own = env::current_exe().map_err(|error| failed("find this program", &error))?;
    let beside = own.with_file_name(PROGRAM);
    let on_path = || {
        let path = env::var_os("PATH")?;
        env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|path| path.is_file())
    };
    match Some(beside).filter(|path| path.is_file()).or_else(on_path) {
        Some(path) => Ok(Command::new(path)),
        None => Err(CommandError::new(
            format!(
                "{PROGRAM} is not installed: it is neither beside this program nor on the PATH"
            ),
            "build it with cargo build --release -p agentkernel-daemon, or install it with \
             cargo install --path crates/daemon",
        )),
    }
}

fn start_in_background(dirs: &Dirs) -> Result<u8, CommandError> {
    dirs.prepare().map_err(|error| CommandError::new(error.to_string(), error.hint()))?;
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(dirs.daemon_log());
    let log = log.map_err(|error| failed("open the daemon's log", &error))?;
    let end = log.metadata().map_or(0, |log| log.len());
    // In a group of its own, which no key on a terminal ends.
    let mut child = program()?
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .map_err(|error| failed("start agentkerneld", &error))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        // It says that it is ready, or ends.
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if line.trim() == "ready" {
        output::line(&format!("agentkerneld runs as process {}", child.id()))?;
        return Ok(0);
    }
    let text = fs::read_to_string(dirs.daemon_log()).unwrap_or_default();
    let said = text.get(end as usize..).unwrap_or_default().trim();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let (message, hint) = said.split_once("\nhint: ").unwrap_or((said, ""));
    let message = if message.is_empty() { "agentkerneld did not start" } else { message };
    let hint = if hint.is_empty() { "agentkernel daemon logs may tell more" } else { hint };
    Err(CommandError::new(message, hint))
}

fn stop(dirs: &Dirs) -> Result<u8, CommandError> {
    let Some(status) = ask_status(dirs)? else {
        return Err(not_running());
    };
    // Opened before it is told, so that it stays the one that is waited for.
    let process = process::open_pidfd(status.pid);
    let process = process.map_err(|error| failed("find the daemon's process", &error))?;
    let told = ask(&dirs.daemon_socket(), &DaemonRequest::Stop);
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut interests = [Interest::readable(process.as_fd())];
    let gone = descriptor::poll(&mut interests, Some(PATIENCE));
    match (told, gone) {
        (_, Ok(true)) => Ok(0),
        (Err(why), _) => Err(CommandError::new(why, "agentkernel daemon logs may tell more")),
        _ => Err(CommandError::new(
            format!("the daemon, process {}, has not ended for a minute", status.pid),
            "agentkernel daemon logs may tell why",
        )),
    }
}

fn status(dirs: &Dirs, json: bool) -> Result<u8, CommandError> {
    let Some(status) = ask_status(dirs)? else {
        return Err(not_running());
    };
    if json {
        output::line(&status.to_json())?;
        return Ok(0);
    }
    let ready: u64 = status.pools.iter().map(|pool| pool.ready).sum();
    output::text(&format!(
        "agentkerneld {} runs as process {} for {} s\npools {}, sandboxes ready {ready}, leased {}\n",
        status.program,
        status.pid,
        status.uptime_ms / 1000,
        status.pools.len(),
        status.leases,
    ))?;
    Ok(0)
}

fn logs(dirs: &Dirs) -> Result<u8, CommandError> {
    match fs::File::open(dirs.daemon_log()) {
        Ok(mut log) => {
            let copied = io::copy(&mut log, &mut io::stdout().lock());
            match copied {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(failed("show the daemon's log", &error))
                }
                _ => Ok(0),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(failed("open the daemon's log", &error)),
    }
}

fn ask_status(dirs: &Dirs) -> Result<Option<DaemonStatus>, CommandError> {
    let socket: PathBuf = dirs.daemon_socket();
    match ask(&socket, &DaemonRequest::Status) {
        Ok((_, DaemonReply::Status(status))) => Ok(Some(status)),
        Ok((_, other)) => Err(CommandError::new(
            format!("the daemon answered {other:?}"),
            "it may be of another version; restart it",
        )),
        Err(_) => Ok(None),
    }
}

fn not_running() -> CommandError {
    CommandError::new("no daemon is running", "agentkernel daemon start -b starts one")
}

pub(super) fn failed(what: &str, error: &io::Error) -> CommandError {
    CommandError::new(
        format!("can't {what}: {error}"),
        "see what is wrong with that, and try again",
    )
}
