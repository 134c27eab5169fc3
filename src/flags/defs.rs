//! Every flag there is. The order is that of the help.

mod bench;
mod changes;
mod command;
mod life;
mod output;
mod setup;
mod spec;

use std::ffi::OsStr;

use agentkernel_wire::{ValueError, Written};

use super::Flag;
use crate::verbs::Verb;

/// The verbs that make a sandbox.
const SPEC: &[Verb] = &[Verb::Run, Verb::Create, Verb::Pool];

/// The verbs that start a command.
const COMMAND: &[Verb] = &[Verb::Run, Verb::Exec];

/// The verbs that say how commands are started: a sandbox has it for all of its commands.
const BOTH: &[Verb] = &[Verb::Run, Verb::Create, Verb::Exec];

/// Every flag but `--help` and `--version`, which end the parsing where they stand.
fn flags() -> impl Iterator<Item = &'static Flag> {
    let all = [
        spec::FLAGS,
        command::FLAGS,
        life::FLAGS,
        changes::FLAGS,
        setup::FLAGS,
        output::FLAGS,
        bench::FLAGS,
    ];
    all.into_iter().flatten()
}

/// The flags of a verb.
pub(crate) fn flags_of(verb: Verb) -> impl Iterator<Item = &'static Flag> {
    flags().filter(move |flag| flag.verbs.contains(&verb))
}

fn put<T: Written>(slot: &mut Option<T>, text: &OsStr) -> Result<(), ValueError> {
    *slot = Some(T::read(text)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::verbs::VERBS;

    #[test]
    fn no_two_flags_of_a_verb_share_a_name() {
        for info in VERBS {
            let mut seen =
                BTreeSet::from(["help".to_string(), "version".into(), "h".into(), "V".into()]);
            for flag in flags_of(info.verb) {
                let short = flag.short.map(String::from);
                for name in flag.longs().map(String::from).chain(short) {
                    let verb = info.name;
                    assert!(seen.insert(name.clone()), "{name} stands for two flags of {verb}");
                }
            }
        }
    }

    #[test]
    fn every_flag_can_be_written_and_is_described() {
        let is_long = |long: &str| {
            long.len() > 1 && long.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        };
        for flag in flags() {
            assert!(flag.longs().all(is_long), "{}", flag.long);
            assert!(flag.short.is_none_or(|c| c.is_ascii_alphabetic()), "{}", flag.long);
            assert!(!flag.verbs.is_empty(), "{}", flag.long);
            assert!(flag.doc.starts_with(|c: char| c.is_ascii_uppercase()), "{}", flag.long);
            assert!(!flag.doc.ends_with('.') && !flag.doc.contains('\n'), "{}", flag.long);
        }
    }
}
