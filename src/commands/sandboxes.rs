//! What the verbs about living sandboxes share.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use agentkernel_core::{Backend, Ended};
use agentkernel_engine::{Background, BackgroundState, Engine, EngineError, Sandboxes};
use agentkernel_store::{Name, Record, State, StoreError, Thing, time};
use agentkernel_wire::{BackgroundReport, PortRecord, SandboxReport, StoppedReport};

use crate::error::{CommandError, FAILED};
use crate::flags::LowArgs;
use crate::verbs::Verb;
use crate::{home, output};

use super::unexpected;

/// The caller's sandboxes. Makes the store where there is none.
pub(super) fn open(engine: &Engine) -> Result<Sandboxes<'_>, CommandError> {
    Ok(Sandboxes::open(engine, home::dirs()?, home::CLIENT)?)
}

/// The same, but makes no files: a user without a store has no sandboxes.
pub(super) fn open_existing(engine: &Engine) -> Result<Option<Sandboxes<'_>>, CommandError> {
    Ok(Sandboxes::open_existing(engine, home::dirs()?, home::CLIENT)?)
}

/// The same, for whoever wants the sandbox `name`.
pub(super) fn open_for<'a>(engine: &'a Engine, name: &Name) -> Result<Sandboxes<'a>, CommandError> {
    open_existing(engine)?.ok_or_else(|| nobody(name))
}

/// The same, for whoever wants to run commands in it.
pub(super) fn open_for_commands<'a>(
    engine: &'a Engine,
    name: &Name,
) -> Result<Sandboxes<'a>, CommandError> {
    let all = Sandboxes::open_for_commands(engine, home::dirs()?, home::CLIENT)?;
    all.ok_or_else(|| nobody(name))
}

/// The error for any name where there are no sandboxes.
fn nobody(name: &Name) -> CommandError {
    let thing = Thing::Sandbox;
    let error = StoreError::NotFound { thing, asked: name.to_string(), names: Vec::new() };
    EngineError::from(error).into()
}

/// A sandbox's name as it was given. An id and the start of one have the form of a name, too.
pub(super) fn name(word: &OsStr) -> Result<Name, CommandError> {
    Name::try_from(word.to_string_lossy().into_owned())
        .map_err(|err| CommandError::new(err.to_string(), err.hint()))
}

/// A verb's one or more names.
fn names(verb: Verb, low: &LowArgs) -> Result<Vec<Name>, CommandError> {
    match low.words.as_slice() {
        [] => Err(missing(verb)),
        words => words.iter().map(|word| name(word)).collect(),
    }
}

/// A verb's one name.
pub(super) fn only_name(verb: Verb, low: &LowArgs) -> Result<Name, CommandError> {
    match low.words.as_slice() {
        [] => Err(missing(verb)),
        [word] => name(word),
        [_, word, ..] => Err(unexpected(verb, word)),
    }
}

/// The error for a verb without a sandbox.
pub(super) fn missing(verb: Verb) -> CommandError {
    let info = verb.info();
    CommandError::new(
        "no sandbox was named",
        format!("the form is agentkernel {} {}", info.name, info.usage),
    )
}

/// A verb's name and the number of a background command after it, if there is one.
pub(super) fn name_and_number(
    verb: Verb,
    low: &LowArgs,
) -> Result<(Name, Option<u32>), CommandError> {
    let (word, number) = match low.words.as_slice() {
        [] => return Err(missing(verb)),
        [word] => (word, None),
        [word, number] => (word, Some(number)),
        [_, _, word, ..] => return Err(unexpected(verb, word)),
    };
    let number = number.map(|word| {
        let number = word.to_str().and_then(|word| word.parse().ok()).filter(|number| *number > 0);
        number.ok_or_else(|| {
            let hint = "they are counted from 1; agentkernel ps NAME shows them";
            CommandError::new(format!("{word:?} is not the number of a background command"), hint)
        })
    });
    Ok((name(word)?, number.transpose()?))
}

/// Does something to each sandbox that was named, and prints the names that `act` returns. Goes on
/// after an error, which the exit status tells.
pub(super) fn each(
    verb: Verb,
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
    act: impl Fn(&Sandboxes<'_>, &str) -> Result<Option<Name>, EngineError>,
) -> Result<u8, CommandError> {
    let names = names(verb, low)?;
    let engine = Engine::new(backends);
    let sandboxes = open_existing(&engine)?;
    if let Some(sandboxes) = &sandboxes {
        sandboxes.expect_drivers(names.iter().map(Name::as_str))?;
    }
    let mut status = 0;
    for name in names {
        let acted = match &sandboxes {
            Some(sandboxes) => act(sandboxes, name.as_str()).map_err(CommandError::from),
            None => Err(nobody(&name)),
        };
        match acted {
            Ok(Some(name)) => output::line(name.as_str())?,
            Ok(None) => {}
            Err(err) => {
                output::error(err, low.json);
                status = FAILED;
            }
        }
    }
    Ok(status)
}

/// A sandbox in short, for programs.
pub(super) fn report(record: &Record) -> SandboxReport {
    let ended = (record.state == State::Stopped)
        .then(|| StoppedReport { at: record.stopped.map(time::to_text), why: record.why.clone() });
    SandboxReport {
        name: record.name.to_string(),
        id: record.id.to_string(),
        backend: record.backend.clone(),
        state: record.state.name(),
        created: time::to_text(record.created),
        labels: record.labels.clone(),
        ended,
        pid: record.process.as_ref().map(|process| process.pid),
        ports: Sandboxes::place(record).ports().iter().map(PortRecord::from).collect(),
    }
}

/// A background command, for programs.
pub(super) fn command_report(command: Background) -> BackgroundReport {
    let Background { number, argv, state } = command;
    let (state, ended) = match &state {
        BackgroundState::Running => ("running", None),
        BackgroundState::Ended(ended) => ("ended", Some(ended.into())),
    };
    BackgroundReport { number, state, command: argv, ended }
}

/// What became of a background command, in few words.
pub(super) fn state(state: &BackgroundState) -> String {
    match state {
        BackgroundState::Running => "running".into(),
        BackgroundState::Ended(Ended::Exited(code)) => format!("exited {code}"),
        BackgroundState::Ended(Ended::Signaled(signal)) => format!("signal {signal}"),
        BackgroundState::Ended(Ended::TimedOut) => "timed out".into(),
        BackgroundState::Ended(Ended::OutOfMemory) => "out of memory".into(),
        BackgroundState::Ended(Ended::Killed) => "killed".into(),
        BackgroundState::Ended(Ended::Lost(_)) => "lost".into(),
    }
}

/// How long ago it was, such as `5s`, `3m`, `2h` or `10d`.
pub(super) fn age(since: SystemTime) -> String {
    let age = SystemTime::now().duration_since(since).unwrap_or_default();
    short(age)
}

fn short(age: Duration) -> String {
    let (minute, hour, day) = (60, 3600, 86400);
    match age.as_secs() {
        seconds if seconds < minute => format!("{seconds}s"),
        seconds if seconds < hour => format!("{}m", seconds / minute),
        seconds if seconds < 2 * day => format!("{}h", seconds / hour),
        seconds => format!("{}d", seconds / day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (172_799, "47h"), (864_000, "10d")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn only_names_are_taken_for_names() {
        let long = "x".repeat(10_000);
        for bad in ["", "..", "a/b", "-x", "a\n", "\u{430}", &long] {
            let err = name(OsStr::new(bad)).unwrap_err();
            assert!(err.message.len() < 200 && err.hint.contains("1 to 64"), "{err:?}");
        }
        assert_eq!(name(OsStr::new("web.1")).map(String::from), Ok("web.1".into()));
    }

    #[test]
    fn a_number_is_one_of_a_background_command() {
        let parse = |words: &[&str]| {
            let words = words.iter().map(Into::into).collect();
            name_and_number(Verb::Logs, &LowArgs { words, ..LowArgs::default() })
        };
        assert_eq!(parse(&["a", "2"]).unwrap().1, Some(2));
        assert_eq!(parse(&["a"]).unwrap().1, None);
        for bad in [&[][..], &["a", "0"], &["a", "-1"], &["a", "x"], &["a", "1", "2"], &["/"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
