//! Every flag there is. The order is that of the help.

use std::ffi::OsStr;

use agentkernel_core::Network;
use agentkernel_engine::Terminal;
use agentkernel_wire::{ProjectRequest, ValueError, Volume, Written, read_variable};

use super::{Flag, Takes, Words};
use crate::verbs::Verb;

const RUN: &[Verb] = &[Verb::Run];

/// Every flag but `--help` and `--version`, which end the parsing where they stand.
pub(crate) static FLAGS: [Flag; 27] = [
    Flag {
        long: "backend",
        short: Some('B'),
        aliases: &[],
        takes: Takes::Value {
            name: "NAME",
            words: Words::Backends,
            read: |low, value| put(&mut low.spec.backend, &value),
        },
        verbs: RUN,
        doc: "Use this backend (default: the first one ready)",
    },
    Flag {
        long: "image",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "REF",
            words: Words::Directories,
            read: |low, value| put(&mut low.spec.image, &value),
        },
        verbs: RUN,
        doc: "Root: host (default) or rootfs:DIR",
    },
    Flag {
        long: "profile",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "PROFILE",
            words: Words::OneOf(&["restrictive", "moderate", "permissive"]),
            read: |low, value| put(&mut low.spec.profile, &value),
        },
        verbs: RUN,
        doc: "Take restrictive, moderate or permissive defaults",
    },
    Flag {
        long: "network",
        short: None,
        aliases: &["net"],
        takes: Takes::Value {
            name: "NETWORK",
            words: Words::OneOf(&["none", "full", "allow="]),
            read: |low, value| put(&mut low.spec.network, &value),
        },
        verbs: RUN,
        doc: "Let it reach none, full or allow=HOST,... only",
    },
    Flag {
        long: "no-network",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.spec.network = Some(Network::None)),
        verbs: RUN,
        doc: "The same as --network none",
    },
    Flag {
        long: "cpus",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "N",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.cpus, &value),
        },
        verbs: RUN,
        doc: "Limit processor time to N processors, such as 0.5",
    },
    Flag {
        long: "memory",
        short: Some('m'),
        aliases: &[],
        takes: Takes::Value {
            name: "SIZE",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.memory, &value),
        },
        verbs: RUN,
        doc: "Limit memory, such as 512m or 2g",
    },
    Flag {
        long: "pids",
        short: None,
        aliases: &["pids-limit"],
        takes: Takes::Value {
            name: "N",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.pids, &value),
        },
        verbs: RUN,
        doc: "Limit processes and threads together",
    },
    Flag {
        long: "disk",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "SIZE",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.disk, &value),
        },
        verbs: RUN,
        doc: "Limit all that is written, rw mounts aside",
    },
    Flag {
        long: "project",
        short: None,
        aliases: &[],
        takes: Takes::Optional {
            name: "[=DIR][:cow|ro|rw]",
            words: Words::Directories,
            read: |low, value| {
                let given = value.as_deref().map(ProjectRequest::read).transpose()?;
                low.spec.project = Some(given.unwrap_or(ProjectRequest::DEFAULT));
                Ok(())
            },
        },
        verbs: RUN,
        doc: "Show the project's folder, cow, and start in it",
    },
    Flag {
        long: "dir",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "DIR",
            words: Words::Directories,
            read: |low, value| put(&mut low.spec.project, &value),
        },
        verbs: RUN,
        doc: "The same as --project=DIR",
    },
    Flag {
        long: "volume",
        short: Some('v'),
        aliases: &[],
        takes: Takes::Value {
            name: "SRC:DST[:ro|rw|cow]",
            words: Words::Files,
            read: |low, value| {
                let volume = Volume::read(&value)?;
                low.spec.volumes.push(volume);
                Ok(())
            },
        },
        verbs: RUN,
        doc: "Show SRC at DST, ro unless said (repeatable)",
    },
    Flag {
        long: "env",
        short: Some('e'),
        aliases: &[],
        takes: Takes::Value {
            name: "NAME[=VALUE]",
            words: Words::Any,
            read: |low, value| {
                let (name, value) = read_variable(&value)?;
                low.spec.env.insert(name, value);
                Ok(())
            },
        },
        verbs: RUN,
        doc: "Set a variable, or copy the caller's (repeatable)",
    },
    Flag {
        long: "env-file",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "FILE",
            words: Words::Files,
            read: |low, value| {
                low.env_files.push(value.into());
                Ok(())
            },
        },
        verbs: RUN,
        doc: "Set the variables of a file (repeatable)",
    },
    Flag {
        long: "workdir",
        short: Some('w'),
        aliases: &["directory"],
        takes: Takes::Value {
            name: "DIR",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.directory, &value),
        },
        verbs: RUN,
        doc: "Start here (default: the project, or the home)",
    },
    Flag {
        long: "user",
        short: Some('u'),
        aliases: &[],
        takes: Takes::Value {
            name: "USER",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.user, &value),
        },
        verbs: RUN,
        doc: "Run as a user of the sandbox: name, UID or UID:GID",
    },
    Flag {
        long: "timeout",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "TIME",
            words: Words::Any,
            read: |low, value| put(&mut low.spec.timeout, &value),
        },
        verbs: RUN,
        doc: "Kill the command after this time, such as 30s or 5m",
    },
    Flag {
        long: "strict",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.spec.strict = Some(true)),
        verbs: RUN,
        doc: "Fail rather than fall short of a profile's limits",
    },
    Flag {
        long: "tty",
        short: Some('t'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.terminal = Some(Terminal::Always)),
        verbs: RUN,
        doc: "Give a terminal (default: if both ends are one)",
    },
    Flag {
        long: "no-tty",
        short: Some('T'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.terminal = Some(Terminal::Never)),
        verbs: RUN,
        doc: "Give no terminal",
    },
    Flag {
        long: "interactive",
        short: Some('i'),
        aliases: &[],
        takes: Takes::Nothing(|_| {}),
        verbs: RUN,
        doc: "Nothing: standard input always passes through",
    },
    Flag {
        long: "no-stdin",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.no_stdin = true),
        verbs: RUN,
        doc: "Give no standard input",
    },
    Flag {
        long: "no-config",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.no_config = true),
        verbs: RUN,
        doc: "Read neither agentkernel.toml nor the user's file",
    },
    Flag {
        long: "trust",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.trust = true),
        verbs: RUN,
        doc: "Let agentkernel.toml open more than its project",
    },
    Flag {
        long: "report",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "FILE",
            words: Words::Files,
            read: |low, value| {
                low.report = Some(value.into());
                Ok(())
            },
        },
        verbs: RUN,
        doc: "Write a JSON report of the run to a file",
    },
    Flag {
        long: "json",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.json = true),
        verbs: &[Verb::Run, Verb::Doctor],
        doc: "Report as a line of JSON (run: on standard error)",
    },
    Flag {
        long: "verbose",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.verbose = true),
        verbs: RUN,
        doc: "Say what was read, enforced and measured",
    },
];

fn put<T: Written>(slot: &mut Option<T>, text: &OsStr) -> Result<(), ValueError> {
    *slot = Some(T::read(text)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_flags_share_a_name() {
        let mut seen =
            BTreeSet::from(["help".to_string(), "version".into(), "h".into(), "V".into()]);
        for flag in &FLAGS {
            let short = flag.short.map(String::from);
            for name in flag.longs().map(String::from).chain(short) {
                assert!(seen.insert(name.clone()), "{name} stands for two flags");
            }
        }
    }

    #[test]
    fn every_flag_can_be_written_and_is_described() {
        let is_long = |long: &str| {
            long.len() > 1 && long.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        };
        for flag in &FLAGS {
            assert!(flag.longs().all(is_long), "{}", flag.long);
            assert!(flag.short.is_none_or(|c| c.is_ascii_alphabetic()), "{}", flag.long);
            assert!(!flag.verbs.is_empty(), "{}", flag.long);
            assert!(flag.doc.starts_with(|c: char| c.is_ascii_uppercase()), "{}", flag.long);
            assert!(!flag.doc.ends_with('.') && !flag.doc.contains('\n'), "{}", flag.long);
        }
    }
}
