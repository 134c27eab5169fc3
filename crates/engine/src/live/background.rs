//! Commands in the background of a living sandbox: started, listed, signalled, followed.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{Command, Ended};
use agentkernel_protocol::{END_FILE, Ending, Role, Start, Status, ToAgent};
use agentkernel_store::Record;
use agentkernel_store::audit::Kind;
use agentkernel_sys::signal::Signals;
use agentkernel_wire::check_command;
use serde_json::json;

use super::exec::code;
use super::log::{Entry, FILES, LogFiles, MOST, Watch};
use super::settle::is_said_to_run;
use super::{DialError, PATIENCE, Sandboxes};
use crate::command::{Called, FORWARDED, not_started};
use crate::{EngineError, journal};

/// A command that was started in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Background {
    /// Counted from 1 in its sandbox, and never used again there.
    pub number: u32,
    /// What is not UTF-8 is replaced by U+FFFD.
    pub argv: Vec<String>,
    pub state: BackgroundState,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackgroundState {
    Running,
    Ended(Ended),
}

/// Where its output begins to be of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With all that is kept.
    Beginning,
    Now,
}

impl Sandboxes<'_> {
    /// Starts a command that goes on without the caller, and returns its number.
    pub fn exec_background(&self, asked: &str, command: &Command) -> Result<u32, EngineError> {
        self.find(asked)
            .and_then(|record| self.exec_background_in(record, command))
            .inspect_err(|error| self.note_refused_command(asked, command, error))
    }

    fn exec_background_in(&self, record: Record, command: &Command) -> Result<u32, EngineError> {
        self.expect_running(&record)?;
        let (backend, spec) = (self.backend(&record)?, self.spec(&record)?);
        check_command(command, &spec.image)?;
        let process = backend.process(&spec, command, &|| Self::place(&record).image())?;
        let code = code(backend, &spec)?;
        let mut dial = self.dial(&record)?;
        let (number, folder, log) = self.make_log(&record, command.words(&spec.image))?;
        let role = Role::Background { number, time_limit: command.time_limit };
        let start = Box::new(Start { process, terminal: None, role });
        let order = |command| ToAgent::Start { command, start };
        let descriptors: Vec<_> =
            log.iter().map(AsFd::as_fd).chain(code.iter().map(AsFd::as_fd)).collect();
        let started = dial.ask(order, &descriptors, PATIENCE);
        if let Err(error) = started {
            // A log of nothing would be taken for a command that was lost. But where it is not
            // certain that it has not started, it may be just that.
            if matches!(error, DialError::NotStarted { .. } | DialError::Refused(_)) {
                let _ = fs::remove_dir_all(folder);
            }
            return Err(match error {
                DialError::NotStarted { error, .. }
                    if error.kind() == io::ErrorKind::Unsupported =>
                {
                    EngineError::refused(
                        "a command can't go on in the background where the sandbox's engine is \
                         elsewhere: its log would be here"
                            .into(),
                        "run it without --detach, or have a shell in the sandbox start it".into(),
                    )
                }
                DialError::NotStarted { stage, error } => {
                    not_started(&Called::of(&spec, command), stage, &error)
                }
                error => error.into(),
            });
        }
        let mut detail = journal::command(command, &spec.image);
        detail["background"] = json!(number);
        self.note(Kind::Command, &record, detail)?;
        Ok(number)
    }

    /// Makes the folder of a command's log under the next number that is free.
    fn make_log<'a>(
        &self,
        record: &Record,
        words: impl Iterator<Item = &'a OsStr>,
    ) -> Result<(u32, PathBuf, [File; 3]), EngineError> {
        let failed = |error: io::Error| EngineError::failed("can't make the command's log", &error);
        let all = self.dirs.commands(&record.id);
        DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(failed)?;
        let mut number = self.numbers(record)?.last().map_or(1, |last| last + 1);
        let folder = loop {
            let folder = all.join(number.to_string());
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => break folder,
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(failed(error)),
            }
        };
        let make = |name: &str| {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))
        };
        let argv: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        let about = json!({ "version": 1, "argv": argv }).to_string();
        fs::write(folder.join("command.json"), about).map_err(failed)?;
        let [first, second, end] = FILES.map(make);
        let log = [first.map_err(failed)?, second.map_err(failed)?, end.map_err(failed)?];
        log[2].write_all_at(&END_FILE, 0).map_err(failed)?;
        Ok((number, folder, log))
    }

    /// The numbers of all background commands that a sandbox ever had, in order.
    fn numbers(&self, record: &Record) -> Result<Vec<u32>, EngineError> {
        let failed = |error: io::Error| EngineError::failed("can't list the commands", &error);
        let entries = match fs::read_dir(self.dirs.commands(&record.id)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The background commands of a sandbox, in the order of their starts.
    pub fn background(&self, asked: &str) -> Result<(Record, Vec<Background>), EngineError> {
        let record = self.find(asked)?;
        // Those that are there before it is asked which of them run.
        let all = self.numbers(&record)?;
        let running = match is_said_to_run(&record) {
            true => self.dial(&record)?.ask(|command| ToAgent::List { command }, &[], PATIENCE)?,
            false => Default::default(),
        };
        let all = all.into_iter().map(|number| self.describe(&record, number, &running.listed));
        Ok((record.clone(), all.collect::<Result<_, _>>()?))
    }

    fn describe(
        &self,
        record: &Record,
        number: u32,
        running: &[u32],
    ) -> Result<Background, EngineError> {
        let folder = self.dirs.commands(&record.id).join(number.to_string());
        let about = fs::read(folder.join("command.json")).unwrap_or_default();
        let about: serde_json::Value = serde_json::from_slice(&about).unwrap_or_default();
        let argv = about["argv"].as_array().into_iter().flatten();
        let argv = argv.filter_map(|word| word.as_str().map(str::to_owned)).collect();
        let state = match running.contains(&number) {
            true => BackgroundState::Running,
            false => BackgroundState::Ended(self.ending(record, number)?),
        };
        Ok(Background { number, argv, state })
    }

    fn ending(&self, record: &Record, number: u32) -> Result<Ended, EngineError> {
        let ending = self.open_log(record, number)?.ending().map_err(unreadable)?;
        Ok(ending.map_or_else(|| Ended::Lost("its sandbox ended before it".into()), how))
    }

    fn open_log(&self, record: &Record, number: u32) -> Result<LogFiles, EngineError> {
        let folder = self.dirs.commands(&record.id).join(number.to_string());
        match LogFiles::open(&folder) {
            Ok(log) => Ok(log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(EngineError::refused(
                format!("the sandbox {} has no background command {number}", record.name),
                format!("agentkernel ps {} shows those that there are", record.name),
            )),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// Sends a signal to the process group of a background command.
    pub fn signal_background(
        &self,
        asked: &str,
        number: u32,
        signal: u8,
    ) -> Result<Record, EngineError> {
        let record = self.find(asked)?;
        self.expect_running(&record)?;
        let order = |command| ToAgent::Background { command, number, signal };
        match self.dial(&record)?.ask(order, &[], PATIENCE) {
            Ok(_) => {
                let detail = json!({ "signal": signal, "background": number });
                self.note(Kind::Signal, &record, detail)?;
                Ok(record)
            }
            Err(DialError::Refused(_)) => Err(EngineError::refused(
                format!("no background command {number} runs in {}", record.name),
                format!("agentkernel ps {} shows those that there are", record.name),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the output of a background command, the latest one if none is named, to `take`: all
    /// that is there, and what comes if it is to be followed. Returns how it ended, if that has
    /// been seen.
    pub fn read_log(
        &self,
        asked: &str,
        number: Option<u32>,
        reading: Reading<'_>,
        take: &mut dyn FnMut(Entry) -> io::Result<()>,
    ) -> Result<Option<Ended>, EngineError> {
        let record = self.find(asked)?;
        let latest = || self.numbers(&record).map(|numbers| numbers.last().copied());
        let number = number.map_or_else(latest, |number| Ok(Some(number)))?;
        let number = number.ok_or_else(|| never_had_any(&record))?;
        let mut log = self.open_log(&record, number)?;
        if reading.since == Since::Now {
            log.skip().map_err(unreadable)?;
        }
        // Connected before the first look, so that no end is missed.
        let dial = match reading.follow && is_said_to_run(&record) {
            true => self.dial(&record).ok(),
            false => None,
        };
        let mut watch = Watch::new(&log, dial.as_ref().map(AsFd::as_fd)).map_err(unreadable)?;
        let mut over = false;
        loop {
            // Looked at before the log, which tells more.
            let ending = log.ending().map_err(unreadable)?;
            let gone = over || dial.is_none() || watch.is_gone();
            let more = match read_some(&mut log, take)? {
                Read::Ended(ended) => return Ok(Some(ended)),
                Read::All => false,
                // A command that writes all the time could be read for ever.
                Read::Some => reading.follow || log.passed() <= MOST,
            };
            if !more && let Some(ending) = ending {
                return Ok(Some(how(ending)));
            }
            if !more && gone {
                let why =
                    if over { "its end was not written down" } else { "its sandbox has ended" };
                return Ok(reading.follow.then(|| Ended::Lost(why.into())));
            }
            let patience = more.then_some(Duration::ZERO);
            for signal in watch.wait(reading.signals, patience).map_err(unreadable)? {
                over |= !self.pass_on(&record, number, signal)?;
            }
        }
    }
}

impl Sandboxes<'_> {
    /// Follows a background command from now on, the latest one if none is named, and passes the
    /// calling process's signals on to it: those that `run` passes on, too. Gives its output to
    /// `take` and returns how it ended.
    pub fn attach(
        &self,
        asked: &str,
        number: Option<u32>,
        take: &mut dyn FnMut(Entry) -> io::Result<()>,
    ) -> Result<Attached, EngineError> {
        let (record, all) = self.background(asked)?;
        let number = match number {
            Some(number) => number,
            None => all.last().ok_or_else(|| never_had_any(&record))?.number,
        };
        let before = all.into_iter().find(|one| one.number == number).map(|one| one.state);
        if let Some(BackgroundState::Ended(ended)) = before {
            return Ok(Attached { record, number, ended, was_over: true });
        }
        let signals = Signals::receive(&FORWARDED)
            .map_err(|error| EngineError::failed("can't receive signals", &error))?;
        let reading = Reading { since: Since::Now, follow: true, signals: Some(&signals) };
        let ended = self.read_log(record.id.as_str(), Some(number), reading, take)?;
        let ended = ended.unwrap_or_else(|| Ended::Lost("its sandbox has ended".into()));
        Ok(Attached { record, number, ended, was_over: false })
    }

    /// Passes a signal on, unless the command is over: its log tells how, if it ever will.
    fn pass_on(&self, record: &Record, number: u32, signal: u8) -> Result<bool, EngineError> {
        let order = |command| ToAgent::Background { command, number, signal };
        match self.dial(record)?.ask(order, &[], PATIENCE) {
            Ok(_) => Ok(true),
            Err(DialError::Refused(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// What came of reading on.
enum Read {
    /// There is nothing more yet.
    All,
    /// There may be more.
    Some,
    Ended(Ended),
}

/// Reads on for a while, but not so long that signals would have to wait.
fn read_some(
    log: &mut LogFiles,
    take: &mut dyn FnMut(Entry) -> io::Result<()>,
) -> Result<Read, EngineError> {
    const ENTRIES: usize = 64;
    for _ in 0..ENTRIES {
        match log.next().map_err(unreadable)? {
            None => return Ok(Read::All),
            Some(Entry::Ended(ending)) => return Ok(Read::Ended(how(ending))),
            Some(entry) => {
                take(entry).map_err(|error| EngineError::failed("can't pass output on", &error))?
            }
        }
    }
    Ok(Read::Some)
}

/// A background command that was followed to its end.
#[derive(Debug)]
pub struct Attached {
    pub record: Record,
    pub number: u32,
    pub ended: Ended,
    /// Whether it had ended before it could be followed.
    pub was_over: bool,
}

fn never_had_any(record: &Record) -> EngineError {
    EngineError::refused(
        format!("the sandbox {} never had a background command", record.name),
        format!("agentkernel exec -d {} COMMAND starts one", record.name),
    )
}

/// How a log is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    pub since: Since,
    /// Whether to wait for more until the command ends.
    pub follow: bool,
    /// Signals to pass on to the command.
    pub signals: Option<&'a Signals>,
}

fn unreadable(error: io::Error) -> EngineError {
    EngineError::failed("can't read the command's log", &error)
}

fn how(ending: Ending) -> Ended {
    match ending {
        Ending::Died(Status::Exited(code)) => Ended::Exited(code),
        Ending::Died(Status::Signaled(signal)) => Ended::Signaled(signal),
        Ending::TimedOut => Ended::TimedOut,
    }
}
