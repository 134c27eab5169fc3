//! Why a module could not go on.

use alloc::string::{String, ToString};

use wasmtime::{Error, Trap, WasmBacktrace};

/// The most functions that are told, which is as many as the engine keeps.
const FUNCTIONS: usize = 20;
/// The most bytes that are told of each: a module may give them names of any length.
const NAME: usize = 400;

/// Why a module could not go on, in the same words wherever it ran.
#[derive(Debug)]
pub struct Failure {
    /// What it was, unless that was no trap of WebAssembly's.
    pub trap: Option<Trap>,
    pub reason: String,
    /// The functions that it was in, each on a line, the innermost first.
    pub backtrace: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let trap = error.downcast_ref::<Trap>().copied();
        let reason = match trap {
            Some(trap) => trap.to_string().replace("wasm trap: ", ""),
            None => error.root_cause().to_string(),
        };
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        let backtrace = backtrace.map(|frames| told(&frames.to_string())).unwrap_or_default();
        Self { trap, reason, backtrace }
    }
}

/// wasmtime's list of functions, without its heading.
fn told(list: &str) -> String {
    let mut told = String::new();
    for line in list.lines().filter(|line| line.starts_with(' ')).take(FUNCTIONS) {
        let kept = &line[..line.floor_char_boundary(NAME)];
        told.push_str(kept);
        told.push_str(if kept.len() < line.len() { "...\n" } else { "\n" });
    }
    told
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_heading_is_left_out_and_long_names_are_cut() {
        let long = "ä".repeat(NAME);
        let list = format!("error while executing at:\n    0:  0x20 - a!b\n    1:  0x30 - {long}");
        let told = told(&list);
        let [first, second] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
        assert_eq!(first, "    0:  0x20 - a!b");
        assert!(second.len() <= NAME + 3 && second.ends_with("ä..."), "{second}");
    }

    #[test]
    fn names_of_many_lines_make_no_more_of_them() {
        let list = format!("heading\n    0:  0x20 - {}", " x\n".repeat(1000));
        assert_eq!(told(&list).lines().count(), FUNCTIONS);
    }
}
