//! Signals as people write them.

use std::ffi::OsStr;

use crate::value::{self, ValueError, Written};

/// A signal by its number on Linux, 1 to 64: sandboxes run Linux, whatever their host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

/// The names in the order of their numbers, from 1 on; see signal(7).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The largest number.
const LAST: u8 = 64;

impl Signal {
    pub const KILL: Self = Self(9);

    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Written for Signal {
    const EXPECTED: &'static str = "a signal such as TERM, SIGTERM or 15";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let upper = value::utf8(text)?.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = NAMES.iter().position(|known| *known == name).map(|at| at + 1);
        let number = match named {
            Some(number) => u8::try_from(number).ok(),
            None if upper.bytes().all(|byte| byte.is_ascii_digit()) => upper.parse().ok(),
            None => None,
        };
        match number {
            Some(number @ 1..=LAST) => Ok(Self(number)),
            _ => Err(value::unexpected::<Self>(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_and_a_number() {
        for (text, number) in
            [("TERM", 15), ("sigterm", 15), ("SIGHUP", 1), ("9", 9), ("64", 64), ("SYS", 31)]
        {
            assert_eq!(Signal::read(OsStr::new(text)).map(Signal::get), Ok(number), "{text}");
        }
        for text in ["", "SIG", "0", "65", "+9", "-9", "SIG9", "TERMINATE", "300"] {
            assert!(Signal::read(OsStr::new(text)).is_err(), "{text:?} was taken");
        }
    }
}
