//! `agentkernel ps [FLAGS] [NAME]`

use std::ffi::OsStr;

use agentkernel_core::{Backend, Port};
use agentkernel_engine::{Background, Engine, Sandboxes};
use agentkernel_store::{Record, State};
use agentkernel_wire::{CommandsReport, SandboxesReport};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{sandboxes, unexpected};

/// Lists the sandboxes, or the background commands of one.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let engine = Engine::new(backends);
    match low.words.as_slice() {
        [] => all(low, &engine)?,
        [word] => commands(low, &engine, word)?,
        [_, word, ..] => return Err(unexpected(Verb::Ps, word)),
    }
    Ok(0)
}

fn all(low: &LowArgs, engine: &Engine) -> Result<(), CommandError> {
    let mut records = match sandboxes::open_existing(engine)? {
        Some(sandboxes) => sandboxes.list()?,
        None => Vec::new(),
    };
    records.retain(|record| is_wanted(low, record));
    if low.json {
        let reports: Vec<_> = records.iter().map(sandboxes::report).collect();
        return output::line(&SandboxesReport::from(reports).to_json());
    }
    if low.quiet {
        return output::text(&records.iter().map(|r| format!("{}\n", r.id)).collect::<String>());
    }
    // Most have none.
    let with_ports = records.iter().any(|record| !Sandboxes::place(record).ports().is_empty());
    let header = ["NAME", "ID", "BACKEND", "STATE", "AGE", if with_ports { "PORTS" } else { "" }];
    let header = header.map(String::from);
    let row = |record: &Record| {
        [
            record.name.to_string(),
            record.id.to_string(),
            output::shown(&record.backend),
            record.state.to_string(),
            sandboxes::age(record.created),
            ports(record),
        ]
    };
    let rows: Vec<_> = [header].into_iter().chain(records.iter().map(row)).collect();
    output::table(&rows)
}

fn ports(record: &Record) -> String {
    let ports = Sandboxes::place(record).ports();
    ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ")
}

fn is_wanted(low: &LowArgs, record: &Record) -> bool {
    let runs = matches!(record.state, State::Running | State::Paused);
    (low.all || runs) && low.filters.iter().all(|filter| filter.fits(&record.labels))
}

fn commands(low: &LowArgs, engine: &Engine, word: &OsStr) -> Result<(), CommandError> {
    if !low.filters.is_empty() {
        let hint = "leave out the name to list sandboxes";
        return Err(CommandError::new("--filter is for sandboxes, not for their commands", hint));
    }
    let name = sandboxes::name(word)?;
    let (record, commands) = sandboxes::open_for(engine, &name)?.background(name.as_str())?;
    if low.json {
        let commands = commands.into_iter().map(sandboxes::command_report).collect();
        return output::line(&CommandsReport::new(record.name.into(), commands).to_json());
    }
    if low.quiet {
        let numbers = commands.iter().map(|command| format!("{}\n", command.number));
        return output::text(&numbers.collect::<String>());
    }
    let header = ["NUMBER", "STATE", "COMMAND"].map(String::from);
    let row = |command: &Background| {
        [command.number.to_string(), sandboxes::state(&command.state), line(&command.argv)]
    };
    let rows: Vec<_> = [header].into_iter().chain(commands.iter().map(row)).collect();
    output::table(&rows)
}

/// A command as one would write it, more or less, and no longer than a terminal is wide.
fn line(argv: &[String]) -> String {
    const LONGEST: usize = 60;
    let word = |word: &String| match word.is_empty() || word.contains(char::is_whitespace) {
        true => format!("{word:?}"),
        false => output::shown(word),
    };
    let whole = argv.iter().map(word).collect::<Vec<_>>().join(" ");
    match whole.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &whole[..end]),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_in_one_harmless_line() {
        let line =
            |words: &[&str]| line(&words.iter().map(|word| (*word).into()).collect::<Vec<_>>());
        assert_eq!(line(&["sh", "-c", "echo hi\n", ""]), r#"sh -c "echo hi\n" """#);
        assert_eq!(line(&["\x1b[2J"]), r"\u{1b}[2J");
        assert_eq!(line(&["x".repeat(100).as_str()]), format!("{}...", "x".repeat(60)));
    }
}
