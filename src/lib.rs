//! The command line, as a library: what a verb does is written once, whatever program has it.
//!
//! Arguments are parsed without doing any work, the verb resolves them into an action, the engine
//! carries it out, and only this crate speaks to people.
#![forbid(unsafe_code)]

mod backends;
mod commands;
mod error;
mod flags;
mod home;
mod machine;
mod news;
mod output;
mod settings;
mod verbs;

use std::ffi::OsString;

use agentkernel_core::Backend;
use agentkernel_images::Porter;

pub use backends::BACKENDS;
use flags::{Invocation, LowArgs};

/// What a program can do with besides its own code.
#[derive(Clone, Copy)]
pub struct Hands {
    /// The preferred ones first.
    pub backends: &'static [&'static dyn Backend],
    /// Who brings images in; none where that is left to another program.
    pub porter: Option<&'static dyn Porter>,
}

/// Does what `args` ask for (without the program's own name), and returns the exit status. Whatever
/// goes wrong has been said on standard error by then.
pub fn run(args: impl IntoIterator<Item = OsString>, hands: Hands) -> u8 {
    let mut low = LowArgs::default();
    let done = match flags::parse(args, &mut low) {
        Ok(Invocation::Version) => output::line(&format!("agentkernel {}", version())),
        Ok(Invocation::Help(verb)) => output::text(&flags::help(verb)),
        Ok(Invocation::Verb(verb)) => {
            let json = low.json;
            let done = commands::dispatch(verb, low, hands);
            let done =
                done.map_err(|err| if err.elsewhere { commands::hand_over(err) } else { err });
            return done.unwrap_or_else(|err| output::error(err, json));
        }
        Err(err) => Err(err),
    };
    match done {
        Ok(()) => 0,
        Err(err) => output::error(err, low.json),
    }
}

const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
