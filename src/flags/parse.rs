//! From words to low-level arguments. Nothing is looked up and nothing is read.

use std::ffi::OsString;

use agentkernel_wire::{ValueError, nearest};
use lexopt::{Arg, Parser};

use super::{Flag, LowArgs, Takes, flags_of};
use crate::error::CommandError;
use crate::verbs::{VERBS, Verb, VerbInfo};

/// What is asked of the program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    Version,
    /// Help with a verb, or with all of them.
    Help(Option<Verb>),
    Verb(Verb),
}

/// Parses the words after the program's name into `low`. After an error `low` holds what came
/// before it, so that the error can be told in the form that was asked for.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    low: &mut LowArgs,
) -> Result<Invocation, CommandError> {
    let mut parser = Parser::from_args(args);
    let verb = match parser.next().map_err(usage)? {
        None => return Err(CommandError::new("no verb was given", ALL_VERBS)),
        Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Invocation::Version),
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Invocation::Help(None)),
        Some(Arg::Value(word)) => find_verb(&word.to_string_lossy())?,
        Some(Arg::Short(name)) => return Err(before_verb(&format!("-{name}"))),
        Some(Arg::Long(name)) => return Err(before_verb(&format!("--{name}"))),
    };
    while let Some(arg) = parser.next().map_err(usage)? {
        let flag = match arg {
            Arg::Short('V') | Arg::Long("version") => return Ok(Invocation::Version),
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::Help(Some(verb))),
            Arg::Short(name) => find_short(verb, name)?,
            Arg::Long(name) => find_long(verb, name)?,
            Arg::Value(word) => {
                low.words.push(word);
                if verb.info().takes.end_flags() {
                    low.words.extend(parser.raw_args().map_err(usage)?);
                }
                continue;
            }
        };
        take(verb, flag, &mut parser, low)?;
    }
    Ok(Invocation::Verb(verb))
}

const ALL_VERBS: &str = "agentkernel help shows all verbs";
const ALL_FLAGS: &str = "agentkernel help VERB shows what each flag takes";

/// Takes a flag's value, if it has one, and notes it.
fn take(
    verb: Verb,
    flag: &Flag,
    parser: &mut Parser,
    low: &mut LowArgs,
) -> Result<(), CommandError> {
    let hint = || format!("agentkernel help {} shows what each flag takes", verb.info().name);
    let wrong = |err: ValueError| CommandError::new(format!("--{}: {err}", flag.long), hint());
    match flag.takes {
        Takes::Nothing(note) => {
            note(low);
            Ok(())
        }
        Takes::Value { name, read, .. } => {
            let missing =
                |_| CommandError::new(format!("--{} needs a value: {name}", flag.long), hint());
            read(low, parser.value().map_err(missing)?).map_err(wrong)
        }
        Takes::Optional { read, .. } => read(low, parser.optional_value()).map_err(wrong),
    }
}

fn find_verb(word: &str) -> Result<Verb, CommandError> {
    Verb::named(word).ok_or_else(|| {
        let hint = match nearest(word, VERBS.iter().flat_map(VerbInfo::names)) {
            Some(name) => format!("did you mean {name:?}?"),
            None => ALL_VERBS.into(),
        };
        CommandError::new(format!("unknown verb {word:?}"), hint)
    })
}

fn find_short(verb: Verb, name: char) -> Result<&'static Flag, CommandError> {
    let flag = flags_of(verb).find(|flag| flag.short == Some(name));
    flag.ok_or_else(|| unknown(verb, &format!("-{name}"), None))
}

fn find_long(verb: Verb, name: &str) -> Result<&'static Flag, CommandError> {
    let flag = flags_of(verb).find(|flag| flag.longs().any(|long| long == name));
    flag.ok_or_else(|| {
        let names = flags_of(verb).flat_map(Flag::longs).chain(["help", "version"]);
        unknown(verb, &format!("--{name}"), nearest(name, names))
    })
}

fn unknown(verb: Verb, flag: &str, meant: Option<&str>) -> CommandError {
    let verb = verb.info().name;
    let hint = match meant {
        Some(name) => format!("did you mean --{name}?"),
        None => format!("agentkernel help {verb} shows all flags"),
    };
    CommandError::new(format!("{verb} has no flag {flag}"), hint)
}

fn before_verb(flag: &str) -> CommandError {
    CommandError::new(
        format!("{flag} stands before the verb"),
        format!("flags follow their verb, as in agentkernel run {flag} ..."),
    )
}

fn usage(err: lexopt::Error) -> CommandError {
    CommandError::new(err.to_string(), ALL_FLAGS)
}

#[cfg(test)]
mod tests;
