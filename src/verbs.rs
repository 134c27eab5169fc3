//! The verbs as data.

/// What a user can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Run,
    Doctor,
    Completions,
    Help,
}

/// A verb's names and words for people.
#[derive(Debug)]
pub(crate) struct VerbInfo {
    pub verb: Verb,
    pub name: &'static str,
    /// What follows the name.
    pub usage: &'static str,
    /// One line.
    pub doc: &'static str,
    /// What its own help says besides, in whole lines.
    pub more: &'static str,
    /// The words it takes, for completion; commands of the machine where it is empty and `run`.
    pub words: &'static [&'static str],
}

/// The shells that completions can be made for.
pub(crate) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Every verb, in the order of the help.
pub(crate) static VERBS: [VerbInfo; 4] = [
    VerbInfo {
        verb: Verb::Run,
        name: "run",
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
        words: &[],
    },
    VerbInfo {
        verb: Verb::Doctor,
        name: "doctor",
        usage: "[--json]",
        doc: "Say which backends work here and what they enforce",
        more: "The exit status is 0 if at least one backend is ready, and 1 if none is.\n",
        words: &[],
    },
    VerbInfo {
        verb: Verb::Completions,
        name: "completions",
        usage: "bash|zsh|fish",
        doc: "Print a script that completes words in a shell",
        more: "\
The script belongs into
  bash  ~/.local/share/bash-completion/completions/agentkernel
  zsh   _agentkernel in a directory of $fpath
  fish  ~/.config/fish/completions/agentkernel.fish
",
        words: &SHELLS,
    },
    VerbInfo {
        verb: Verb::Help,
        name: "help",
        usage: "[VERB]",
        doc: "Show all verbs, or one of them with its flags",
        more: "",
        words: &["run", "doctor", "completions"],
    },
];

impl Verb {
    pub fn info(self) -> &'static VerbInfo {
        match self {
            Self::Run => &VERBS[0],
            Self::Doctor => &VERBS[1],
            Self::Completions => &VERBS[2],
            Self::Help => &VERBS[3],
        }
    }

    /// The verb of this name.
    pub fn named(name: &str) -> Option<Self> {
        VERBS.iter().find(|info| info.name == name).map(|info| info.verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_found_by_its_name() {
        for info in &VERBS {
            assert_eq!(info.verb.info().name, info.name);
            assert_eq!(Verb::named(info.name), Some(info.verb));
        }
    }

    #[test]
    fn help_completes_every_other_verb() {
        let others: Vec<_> = VERBS.iter().map(|info| info.name).filter(|n| *n != "help").collect();
        assert_eq!(Verb::Help.info().words, others);
    }
}
