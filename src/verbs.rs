//! The verbs as data.
//!
//! A new verb takes a variant here, a row in the table at the same place, a file under `commands/`
//! and a line in its `dispatch`.

mod table;

pub(crate) use table::VERBS;

/// What a user can ask for, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Run,
    Create,
    Start,
    Stop,
    Rm,
    Pause,
    Unpause,
    Rename,
    Wait,
    Exec,
    Ps,
    Kill,
    Logs,
    Attach,
    Port,
    Inspect,
    Events,
    Audit,
    Prune,
    Cp,
    Diff,
    Apply,
    Export,
    Snapshot,
    Fork,
    Adopt,
    Image,
    Setup,
    Doctor,
    Completions,
    Help,
    Pool,
    Daemon,
    Bench,
}

/// A verb's names and words for people.
#[derive(Debug)]
pub(crate) struct VerbInfo {
    pub verb: Verb,
    pub name: &'static str,
    /// Other names, from old habits, parted by spaces; the help leaves them out.
    pub aliases: &'static str,
    /// What follows the name.
    pub usage: &'static str,
    /// One line.
    pub doc: &'static str,
    /// What its own help says besides, in whole lines.
    pub more: &'static str,
    pub takes: Takes,
}

/// Which words a verb takes, which is what a shell may offer for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    /// Parted by spaces: a table of texts is more to relocate at each start.
    OneOf(&'static str),
    /// A command. Flags end where it begins, for what follows is its own.
    Command,
    /// The name of another verb.
    Verb,
    /// The names of sandboxes, or other words.
    Sandboxes,
    /// The name of a sandbox and a command, and flags end at the first word.
    SandboxCommand,
}

impl Takes {
    /// Whether flags end at the first word.
    pub fn end_flags(self) -> bool {
        matches!(self, Self::Command | Self::SandboxCommand)
    }
}

/// The shells that completions can be made for.
pub(crate) const SHELLS: &str = "bash zsh fish";

impl Verb {
    pub fn info(self) -> &'static VerbInfo {
        &VERBS[self as usize]
    }

    /// The verb of this name.
    pub fn named(name: &str) -> Option<Self> {
        VERBS.iter().find(|info| info.names().any(|own| own == name)).map(|info| info.verb)
    }
}

impl VerbInfo {
    /// Every name, the proper one first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.aliases.split_ascii_whitespace())
    }
}

/// Every row stands at its verb's place.
const _: () = {
    let mut at = 0;
    while at < VERBS.len() {
        assert!(VERBS[at].verb as usize == at, "the table is in another order than the verbs");
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_verb_is_found_by_its_names_and_no_two_share_one() {
        let mut seen = BTreeSet::new();
        for info in VERBS {
            for name in info.names() {
                assert_eq!(Verb::named(name), Some(info.verb));
                assert!(seen.insert(name), "{name} stands for two verbs");
            }
        }
    }
}
