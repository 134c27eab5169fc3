//! What backends need, put in place, as the small program has been asked to.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};

use agentkernel_firecracker_setup::{Request, setup};
use agentkernel_wire::{ErrorReport, FailureReport};

use crate::DaemonError;

/// Agentkernel's own failure.
const FAILED: u8 = 125;

/// Takes a backend's name and flags. The exit status is 0 if it has all that it needs.
pub fn run(words: &[OsString]) -> u8 {
    let json = words.iter().any(|word| word == "--json");
    let (message, hint) = match read(words) {
        Some(request) => match setup(&request) {
            Ok(report) => {
                let text = if json { report.to_json() + "\n" } else { report.describe() };
                return match io::stdout().write_all(text.as_bytes()) {
                    Err(error) if error.kind() != ErrorKind::BrokenPipe => FAILED,
                    _ => u8::from(!report.is_ready()),
                };
            }
            Err(error) => (error.to_string(), error.hint()),
        },
        None => match words {
            [name, ..] if name != "firecracker" => (
                format!("{name:?} needs nothing that could be set up"),
                "agentkernel doctor says what backends need; firecracker is set up by this".into(),
            ),
            _ => (DaemonError::Usage.to_string(), DaemonError::Usage.hint()),
        },
    };
    let said = match json {
        true => ErrorReport::from(FailureReport { message, hint, exit_code: FAILED }).to_json(),
        false => format!("error: {message}\nhint: {hint}"),
    };
    eprintln!("{said}");
    FAILED
}

fn read(words: &[OsString]) -> Option<Request> {
    let mut words = words.iter();
    words.next().filter(|name| *name == "firecracker")?;
    let mut request = Request::default();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--force" => request.force = true,
            "--json" => {}
            "--kernel" => request.kernel = Some(words.next()?.into()),
            _ => return None,
        }
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_backend_and_its_flags() {
        let read = |words: &str| read(&words.split(' ').map(OsString::from).collect::<Vec<_>>());
        let all = read("firecracker --force --json --kernel /boot/vmlinuz").unwrap();
        assert!(all.force && all.kernel.is_some_and(|path| path.ends_with("vmlinuz")));
        let none = read("firecracker").unwrap();
        assert!(!none.force && none.kernel.is_none());
        for words in ["docker", "firecracker --kernel", "firecracker x"] {
            assert!(read(words).is_none(), "{words}");
        }
    }
}
