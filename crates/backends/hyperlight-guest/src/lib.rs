//! What is said between a micro-VM's guest and its host. The guest itself is this package's program.
//!
//! The host calls the guest's functions [`PREPARE`], [`LOAD`] and [`RUN`], in this order; while that one runs, the guest calls those of
//! the host that [`host`] names.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod words;

use alloc::string::String;
use alloc::vec::Vec;

use words::{Reader, Writer};

/// Makes ready what every module needs: `() -> String`. What is returned, here and by [`LOAD`], is why that
/// can't be done, or empty.
pub const PREPARE: &str = "prepare";
/// Takes the code of a module: `(address: u64, length: u64, all_at_once: bool) -> String`, the physical
/// address of its pages, which are then there for as long as they are mapped, or at once to be kept in a
/// snapshot.
pub const LOAD: &str = "load";
/// Runs the module: `(request: Vec<u8>) -> Vec<u8>`, a [`Request`] and an [`Answer`].
pub const RUN: &str = "run";
/// Where the host maps code in the guest's physical memory.
pub const CODE: u64 = 4 << 30;
/// The most bytes that go from one to the other at once.
pub const MOST: usize = 16 << 10;

/// The functions that a guest may call. Error numbers are those of WASI, 0 for none.
pub mod host {
    /// `(most: u32) -> Vec<u8>`: the error number, then what was read of standard input.
    pub const READ: &str = "read";
    /// `(stream: u32, bytes: Vec<u8>) -> u32`: writes all of it to standard output (1) or error (2), and
    /// returns the error number.
    pub const WRITE: &str = "write";
    /// `(nanoseconds: u64, is_for_input: bool) -> bool`: waits so long, or until there is input if that is
    /// waited for, and returns whether there is. [`u64::MAX`] is without end.
    pub const WAIT: &str = "wait";
    /// `(clock: u32) -> u64`: nanoseconds, by WASI's number of the clock: 0 or 1.
    pub const CLOCK: &str = "clock";
    /// `(length: u32) -> Vec<u8>`: random bytes.
    pub const RANDOM: &str = "random";
    /// `(stream: u32) -> bool`: whether it is a terminal.
    pub const IS_TERMINAL: &str = "is-terminal";
}

/// One run of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// What it may have of memory, in bytes.
    pub memory: u64,
    /// What of it is called, if it is not to do what it does as a program.
    pub function: Option<String>,
    /// The first is its own name.
    pub arguments: Vec<String>,
    /// `NAME=VALUE`.
    pub variables: Vec<String>,
}

/// How a run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With this status, which may be none that a process can have.
    Exited(u32),
    /// It could not go on. `trap` is wasmtime's number of what it was, if it has one, and `backtrace` the
    /// functions that it was in, each on a line.
    Trapped { trap: Option<u8>, reason: String, backtrace: String, is_refused_memory: bool },
    /// It was not even begun, because of how it was called.
    Misused(String),
}

impl Request {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.number(self.memory);
        to.texts(self.function.as_slice());
        to.texts(&self.arguments);
        to.texts(&self.variables);
        to.into_bytes()
    }

    /// None if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let memory = from.number()?;
        let function = from.texts()?.pop();
        let request = Self { memory, function, arguments: from.texts()?, variables: from.texts()? };
        from.is_at_end().then_some(request)
    }
}

impl Answer {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Exited(status) => {
                to.number(0);
                to.number((*status).into());
            }
            Self::Trapped { trap, reason, backtrace, is_refused_memory } => {
                to.number(1);
                to.number(trap.map_or(u64::MAX, u64::from));
                to.text(reason);
                to.text(backtrace);
                to.number((*is_refused_memory).into());
            }
            Self::Misused(why) => {
                to.number(2);
                to.text(why);
            }
        }
        to.into_bytes()
    }

    /// None if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let answer = match from.number()? {
            0 => Self::Exited(from.number()?.try_into().ok()?),
            1 => Self::Trapped {
                trap: from.number()?.try_into().ok(),
                reason: from.text()?,
                backtrace: from.text()?,
                is_refused_memory: from.number()? != 0,
            },
            2 => Self::Misused(from.text()?),
            _ => return None,
        };
        from.is_at_end().then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn trapped(trap: Option<u8>, reason: &str, backtrace: &str, is_refused_memory: bool) -> Answer {
        let (reason, backtrace) = (reason.into(), backtrace.into());
        Answer::Trapped { trap, reason, backtrace, is_refused_memory }
    }

    #[test]
    fn requests_and_answers_come_back_as_they_were() {
        let request = Request {
            memory: 1 << 40,
            function: Some("add".into()),
            arguments: vec!["".into(), "ä b".into()],
            variables: vec!["A=1".into()],
        };
        for request in [request, Request::default()] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        for answer in [
            Answer::Exited(u32::MAX),
            trapped(Some(3), "why", "  0: here\n  1: there\n", true),
            trapped(None, "", "", false),
            Answer::Misused("no".into()),
        ] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
    }

    #[test]
    fn what_is_none_is_none() {
        let bytes = Answer::Misused("no such function".into()).to_bytes();
        for len in 0..bytes.len() {
            assert_eq!(Answer::from_bytes(&bytes[..len]), None);
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(Answer::from_bytes(&longer), None);
        assert_eq!(Request::from_bytes(&[0xff; 64]), None);
    }
}
