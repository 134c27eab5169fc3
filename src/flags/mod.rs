//! The command line's flags: one table, read by the parser, the help, the completions and the
//! tests. Parsing does no work; what the flags mean is found out when they are resolved.

mod completions;
mod defs;
mod help;
mod low;
mod parse;

use std::ffi::OsString;

use agentkernel_wire::ValueError;

pub(crate) use completions::completions;
pub(crate) use defs::flags_of;
pub(crate) use help::help;
pub(crate) use low::LowArgs;
pub(crate) use parse::{Invocation, parse};

use crate::verbs::Verb;

/// A flag, with all that anybody needs to know about it.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its name after two dashes.
    pub long: &'static str,
    /// Its name after one.
    pub short: Option<char>,
    /// Other long names, from old habits and other programs; the help leaves them out.
    pub aliases: &'static [&'static str],
    pub takes: Takes,
    /// The verbs that know it.
    pub verbs: &'static [Verb],
    /// One line.
    pub doc: &'static str,
}

/// What follows a flag, and where it goes.
#[derive(Debug)]
pub(crate) enum Takes {
    Nothing(fn(&mut LowArgs)),
    Value {
        /// What stands for it in the help.
        name: &'static str,
        words: Words,
        read: fn(&mut LowArgs, OsString) -> Result<(), ValueError>,
    },
    /// A value only after `=`, as in `--project=DIR`.
    Optional {
        /// What stands for it in the help, the `=` included.
        name: &'static str,
        words: Words,
        read: fn(&mut LowArgs, Option<OsString>) -> Result<(), ValueError>,
    },
}

/// What a shell may offer for a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Words {
    /// Nothing: it is anything.
    Any,
    Files,
    Directories,
    OneOf(&'static [&'static str]),
    /// The names of the backends.
    Backends,
    /// The names of the sandboxes.
    Sandboxes,
}

impl Flag {
    /// Every long name, the proper one first.
    pub fn longs(&self) -> impl Iterator<Item = &'static str> {
        [self.long].into_iter().chain(self.aliases.iter().copied())
    }
}
