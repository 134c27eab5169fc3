//! The help, made from the tables.

use std::fmt::Write;

use super::{Flag, Takes, flags_of};
use crate::verbs::{VERBS, Verb};

/// What stands before the description of a flag, at most; a longer flag gets a line of its own.
const COLUMN: usize = 26;

/// The help with a verb, or with all of them.
pub(crate) fn help(verb: Option<Verb>) -> String {
    match verb {
        None => overview(),
        Some(verb) => of_verb(verb),
    }
}

fn overview() -> String {
    let mut text = String::from(
        "agentkernel runs commands that nobody trusts, in sandboxes\n\n\
         Usage: agentkernel VERB [FLAGS] ...\n\nVerbs:\n",
    );
    for info in VERBS {
        row(&mut text, info.name, info.doc);
    }
    text += "\nFlags:\n";
    general(&mut text);
    text += "\nExample: agentkernel run -- echo hello\n";
    text += "agentkernel help VERB shows a verb's own flags.\n";
    text
}

fn of_verb(verb: Verb) -> String {
    let info = verb.info();
    let mut text =
        format!("{}\n\nUsage: agentkernel {} {}\n\nFlags:\n", info.doc, info.name, info.usage);
    for flag in flags_of(verb) {
        row(&mut text, &synopsis(flag), flag.doc);
    }
    general(&mut text);
    if !info.more.is_empty() {
        text.push('\n');
        text += info.more;
    }
    text
}

fn general(text: &mut String) {
    row(text, "-h, --help", "Show this help");
    row(text, "-V, --version", "Show the version");
}

/// A flag as one writes it, with what it takes.
fn synopsis(flag: &Flag) -> String {
    let short = flag.short.map_or("    ".into(), |short| format!("-{short}, "));
    let (between, value) = match flag.takes {
        Takes::Nothing(_) => ("", ""),
        Takes::Value { name, .. } => (" ", name),
        Takes::Optional { name, .. } => ("", name),
    };
    format!("{short}--{}{between}{value}", flag.long)
}

fn row(text: &mut String, left: &str, right: &str) {
    let gap = match left.len() < COLUMN {
        true => String::new(),
        false => format!("\n  {:COLUMN$}", ""),
    };
    // Writing to a string can't fail.
    let _ = writeln!(text, "  {left:COLUMN$}{gap}{right}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_mentions_every_verb_and_every_flag() {
        for info in VERBS {
            assert!(overview().contains(info.doc), "{}", info.name);
        }
        for verb in VERBS.iter().map(|info| info.verb) {
            let help = of_verb(verb);
            for flag in flags_of(verb) {
                assert!(help.contains(&synopsis(flag)), "{}", flag.long);
                assert!(help.contains(flag.doc), "{}", flag.long);
            }
        }
    }

    #[test]
    fn help_fits_a_terminal() {
        let verbs = VERBS.iter().map(|info| Some(info.verb));
        for text in verbs.chain([None]).map(help) {
            for line in text.lines() {
                assert!(line.len() <= 80, "{line}");
                assert_eq!(line.trim_end(), line);
            }
        }
    }
}
