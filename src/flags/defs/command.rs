//! The flags of a command.

use agentkernel_engine::Terminal;
use agentkernel_wire::read_variable;

use super::{BOTH, COMMAND, put};
use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

pub(super) static FLAGS: &[Flag] = &[
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
        verbs: BOTH,
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
        verbs: BOTH,
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
        verbs: BOTH,
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
        verbs: BOTH,
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
        verbs: COMMAND,
        doc: "Kill the command after this time, such as 30s or 5m",
    },
    Flag {
        long: "entrypoint",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "PROGRAM",
            words: Words::Any,
            read: |low, value| {
                low.entrypoint = Some(value);
                Ok(())
            },
        },
        verbs: &[Verb::Run],
        doc: "Start this before the words, not what the image says",
    },
    Flag {
        long: "tty",
        short: Some('t'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.terminal = Some(Terminal::Always)),
        verbs: COMMAND,
        doc: "Give a terminal (default: if both ends are one)",
    },
    Flag {
        long: "no-tty",
        short: Some('T'),
        aliases: &[],
        takes: Takes::Nothing(|low| low.terminal = Some(Terminal::Never)),
        verbs: COMMAND,
        doc: "Give no terminal",
    },
    Flag {
        long: "interactive",
        short: Some('i'),
        aliases: &[],
        takes: Takes::Nothing(|_| {}),
        verbs: COMMAND,
        doc: "Nothing: standard input always passes through",
    },
    Flag {
        long: "no-stdin",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.no_stdin = true),
        verbs: COMMAND,
        doc: "Give no standard input",
    },
    Flag {
        long: "invoke",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "FUNCTION",
            words: Words::Any,
            read: |low, value| put(&mut low.function, &value),
        },
        verbs: COMMAND,
        doc: "Call what a module exports, with numbers, and print",
    },
    Flag {
        long: "no-pool",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.no_pool = true),
        verbs: &[Verb::Run],
        doc: "Boot a sandbox even if one is ready in a pool",
    },
    Flag {
        long: "fast",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|_| {}),
        verbs: &[Verb::Run],
        doc: "Nothing: a pool is used wherever one fits",
    },
];
