//! Completion scripts, made from the tables.

use std::fmt::Write;

use super::{Flag, Takes, Words, flags_of};
use crate::verbs::{self, VERBS, VerbInfo};

/// The script for `shell`, if it is one that is known.
pub(crate) fn completions(shell: &str, backends: &[&str]) -> Option<String> {
    match shell {
        "bash" => Some(bash(backends)),
        "zsh" => Some(zsh(backends)),
        "fish" => Some(fish(backends)),
        _ => None,
    }
}

/// How a shell finds the names of all sandboxes, inside either kind of quotes.
const SANDBOXES: &str = "agentkernel ps -a 2>/dev/null | sed -e 1d -e s/\\ .\\*//";

/// The words of a verb that are known beforehand.
fn known_words(info: &VerbInfo) -> String {
    match info.takes {
        verbs::Takes::Nothing => String::new(),
        // They are asked for when they are needed.
        verbs::Takes::Command | verbs::Takes::Sandboxes | verbs::Takes::SandboxCommand => {
            String::new()
        }
        verbs::Takes::OneOf(all) => all.to_owned(),
        verbs::Takes::Verb => {
            let others = VERBS.iter().filter(|other| other.verb != info.verb);
            others.map(|other| other.name).collect::<Vec<_>>().join(" ")
        }
    }
}

fn words_of(flag: &Flag) -> Option<Words> {
    match flag.takes {
        Takes::Nothing(_) => None,
        Takes::Value { words, .. } | Takes::Optional { words, .. } => Some(words),
    }
}

/// A flag's names as they are written.
fn names(flag: &Flag) -> String {
    let short = flag.short.map(|short| format!("-{short} "));
    format!("{}--{}", short.unwrap_or_default(), flag.long)
}

fn bash(backends: &[&str]) -> String {
    let verbs: Vec<_> = VERBS.iter().map(|info| info.name).collect();
    let mut text = BASH_START.replace("VERBS", &verbs.join(" "));
    for info in VERBS {
        for flag in flags_of(info.verb) {
            let Some(reply) = bash_words(flag, backends) else {
                continue;
            };
            let (verb, long) = (info.name, flag.long);
            let short = flag.short.map(|short| format!("{verb},-{short} | ")).unwrap_or_default();
            let _ = writeln!(text, "        {short}{verb},--{long}) {reply}; return ;;");
        }
    }
    text += "    esac\n    case $verb,$cur in\n";
    for info in VERBS {
        let flags: Vec<_> = flags_of(info.verb).map(names).collect();
        let flags = format!("{} --help --version", flags.join(" "));
        let words = match info.takes {
            // The command, or a file among its arguments.
            verbs::Takes::Command => "-cf".into(),
            verbs::Takes::Sandboxes | verbs::Takes::SandboxCommand => {
                format!("-W \"$({SANDBOXES})\"")
            }
            _ => format!("-W '{}'", known_words(info)),
        };
        for (start, find) in [("-", format!("-W '{flags}'")), ("", words)] {
            let (verb, reply) = (info.name, bash_reply(&find));
            let _ = writeln!(text, "        {verb},{start}*) {reply} ;;");
        }
    }
    text + "    esac\n}\ncomplete -o default -F _agentkernel agentkernel\n"
}

const BASH_START: &str = r#"_agentkernel() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W 'VERBS --help --version' -- "$cur"))
        return
    fi
    case $verb,$prev in
"#;

fn bash_reply(find: &str) -> String {
    format!("COMPREPLY=($(compgen {find} -- \"$cur\"))")
}

/// How bash finds the words that may follow a flag; `None` where nothing does.
fn bash_words(flag: &Flag, backends: &[&str]) -> Option<String> {
    if matches!(flag.takes, Takes::Optional { .. }) {
        return None;
    }
    let find = match words_of(flag)? {
        Words::Any => return Some("COMPREPLY=()".into()),
        Words::Files => "-f".into(),
        Words::Directories => "-d".into(),
        Words::OneOf(all) => format!("-W '{}'", all.join(" ")),
        Words::Backends => format!("-W '{}'", backends.join(" ")),
        Words::Sandboxes => format!("-W \"$({SANDBOXES})\""),
    };
    Some(bash_reply(&find))
}

fn zsh(backends: &[&str]) -> String {
    let mut text = String::from("#compdef agentkernel\n\n_agentkernel() {\n    local -a verbs=(\n");
    for info in VERBS {
        let _ = writeln!(text, "        '{}:{}'", info.name, zsh_doc(info.doc));
    }
    text += ZSH_VERBS;
    for info in VERBS {
        let _ = writeln!(text, "        {})\n            _arguments -s -S \\", info.name);
        for flag in flags_of(info.verb) {
            let _ = writeln!(text, "                {} \\", zsh_flag(flag, backends));
        }
        let rest = match info.takes {
            verbs::Takes::Command => "'*::command:_normal'".into(),
            verbs::Takes::Sandboxes => format!("'*:sandbox:(${{(f)\"$({SANDBOXES})\"}})'"),
            verbs::Takes::SandboxCommand => {
                format!("'1:sandbox:(${{(f)\"$({SANDBOXES})\"}})' '*::command:_normal'")
            }
            _ => format!("'1::word:({})'", known_words(info)),
        };
        text += "                '(-h --help)'{-h,--help}'[Show the help]' \\\n";
        let _ = writeln!(text, "                {rest} ;;");
    }
    text + "    esac\n}\n\n_agentkernel \"$@\"\n"
}

const ZSH_VERBS: &str = r#"    )
    if ((CURRENT == 2)); then
        _describe verb verbs
        return
    fi
    local verb=$words[2]
    shift words
    ((CURRENT--))
    case $verb in
"#;

/// A description inside single quotes and brackets.
fn zsh_doc(doc: &str) -> String {
    let doc = doc.replace('\'', "'\\''").replace(':', "\\:");
    doc.replace('[', "\\[").replace(']', "\\]")
}

fn zsh_flag(flag: &Flag, backends: &[&str]) -> String {
    let doc = zsh_doc(flag.doc);
    let value = words_of(flag).map(|words| match words {
        Words::Any => ":value:".into(),
        Words::Files => ":file:_files".into(),
        Words::Directories => ":directory:_directories".into(),
        Words::OneOf(all) => format!(":value:({})", all.join(" ")),
        Words::Backends => format!(":backend:({})", backends.join(" ")),
        Words::Sandboxes => format!(":sandbox:(${{(f)\"$({SANDBOXES})\"}})"),
    });
    let value = value.unwrap_or_default();
    let long = flag.long;
    match (&flag.takes, flag.short) {
        (Takes::Nothing(_), None) => format!("'*--{long}[{doc}]'"),
        (Takes::Nothing(_), Some(short)) => format!("'*'{{-{short},--{long}}}'[{doc}]'"),
        (Takes::Optional { .. }, _) => format!("'*--{long}=-[{doc}]:{value}'"),
        (Takes::Value { .. }, None) => format!("'*--{long}=[{doc}]{value}'"),
        (Takes::Value { .. }, Some(short)) => {
            format!("'*'{{-{short}+,--{long}=}}'[{doc}]{value}'")
        }
    }
}

fn fish(backends: &[&str]) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut text = String::new();
    for info in VERBS {
        let _ = writeln!(
            text,
            "complete -c agentkernel -n __fish_use_subcommand -f -a {} -d {}",
            info.name,
            quote(info.doc)
        );
    }
    for info in VERBS {
        let here =
            format!("complete -c agentkernel -n '__fish_seen_subcommand_from {}'", info.name);
        for flag in flags_of(info.verb) {
            let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
            let value = match words_of(flag) {
                _ if matches!(flag.takes, Takes::Optional { .. }) => String::new(),
                None => String::new(),
                Some(Words::Any) => " -x".into(),
                Some(Words::Files) => " -r -F".into(),
                Some(Words::Directories) => " -x -a '(__fish_complete_directories)'".into(),
                Some(Words::OneOf(all)) => format!(" -x -a '{}'", all.join(" ")),
                Some(Words::Backends) => format!(" -x -a '{}'", backends.join(" ")),
                Some(Words::Sandboxes) => format!(" -x -a '({SANDBOXES})'"),
            };
            let _ = writeln!(text, "{here} -l {}{short}{value} -d {}", flag.long, quote(flag.doc));
        }
        let _ = match info.takes {
            verbs::Takes::Command => {
                writeln!(text, "{here} -x -a '(__fish_complete_subcommand)'")
            }
            verbs::Takes::Sandboxes | verbs::Takes::SandboxCommand => {
                writeln!(text, "{here} -f -a '({SANDBOXES})'")
            }
            _ => writeln!(text, "{here} -f -a '{}'", known_words(info)),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_offered_every_verb_flag_and_backend() {
        for shell in crate::verbs::SHELLS.split(' ') {
            let script = completions(shell, &["native"]).unwrap();
            let flags = VERBS.iter().flat_map(|info| flags_of(info.verb)).map(|flag| flag.long);
            for word in VERBS.iter().map(|info| info.name).chain(flags).chain(["native"]) {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert_eq!(completions("tcsh", &[]), None);
    }
}
