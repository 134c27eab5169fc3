//! Every verb there is. The order is that of the help.

use super::{SHELLS, Takes, Verb, VerbInfo};

pub(crate) static VERBS: &[VerbInfo] = &[
    VerbInfo {
        verb: Verb::Run,
        name: "run",
        aliases: &[],
        usage: "[FLAGS] [--] COMMAND [ARGUMENT...]",
        doc: "Run a command in a sandbox of its own",
        more: "\
Flags end at the command; what follows it is the command's own.

The exit status is the command's own, or 124 if it ran out of time, 125 if
agentkernel itself failed, 126 if the command is not executable, 127 if it is
not found, 128+N if signal N killed it, 137 if the sandbox ran out of memory.

What no flag says comes from AGENTKERNEL_* variables, then from the project's
agentkernel.toml, then from the user's agentkernel/config.toml.
",
        takes: Takes::Command,
    },
    VerbInfo {
        verb: Verb::Doctor,
        name: "doctor",
        aliases: &[],
        usage: "[--json]",
        doc: "Say which backends work here and what they enforce",
        more: "The exit status is 0 if at least one backend is ready, and 1 if none is.\n",
        takes: Takes::Nothing,
    },
    VerbInfo {
        verb: Verb::Completions,
        name: "completions",
        aliases: &[],
        usage: "bash|zsh|fish",
        doc: "Print a script that completes words in a shell",
        more: "\
The script belongs into
  bash  ~/.local/share/bash-completion/completions/agentkernel
  zsh   _agentkernel in a directory of $fpath
  fish  ~/.config/fish/completions/agentkernel.fish
",
        takes: Takes::OneOf(&SHELLS),
    },
    VerbInfo {
        verb: Verb::Help,
        name: "help",
        aliases: &[],
        usage: "[VERB]",
        doc: "Show all verbs, or one of them with its flags",
        more: "",
        takes: Takes::Verb,
    },
    VerbInfo {
        verb: Verb::Pool,
        name: "pool",
        aliases: &[],
        usage: "ls | set NAME SIZE [FLAGS] | rm NAME...",
        doc: "Have sandboxes held ready for runs of the same spec",
        more: "\
A pool is held by the daemon. A run takes a sandbox out of one whose spec is its
own; variables, directory, user, project and volumes may differ. Each sandbox is
used once. `set` makes a pool, or changes what it holds.
",
        takes: Takes::OneOf(&["ls", "set", "rm"]),
    },
    VerbInfo {
        verb: Verb::Daemon,
        name: "daemon",
        aliases: &[],
        usage: "start [-b] | stop | status [--json] | logs",
        doc: "Start or stop the daemon, or ask how it is",
        more: "\
The daemon holds pools and keeps house. Sandboxes that live don't depend on it.
`start` stays in the foreground unless -b sends it to the background.
",
        takes: Takes::OneOf(&["start", "stop", "status", "logs"]),
    },
];
