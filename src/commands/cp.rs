//! `agentkernel cp [-L] NAME:PATH PATH|-` and `agentkernel cp [-L] PATH|- NAME:PATH`

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentkernel_core::Backend;
use agentkernel_engine::Engine;
use agentkernel_engine::files::{TransferOptions, Transferred};
use agentkernel_store::Name;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::sandboxes;

/// One end of a copy, as it was written.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    /// `-`
    Stream,
    Host(&'a Path),
    Inside(Name, &'a Path),
}

/// Copies files into a sandbox or out of it, and says what was left out.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let [source, target] = low.words.as_slice() else {
        return Err(CommandError::new("cp takes a source and a target", form()));
    };
    let options = TransferOptions { follow: low.follow_links };
    let engine = Engine::new(backends);
    let open = |name: &Name| sandboxes::open_for(&engine, name);
    let copied = match (end(source)?, end(target)?) {
        (End::Inside(name, source), End::Host(target)) => {
            open(&name)?.copy_out(name.as_str(), source, target, options)
        }
        (End::Host(source), End::Inside(name, target)) => {
            open(&name)?.copy_in(name.as_str(), source, target, options)
        }
        (End::Inside(name, source), End::Stream) => {
            refuse_terminal()?;
            open(&name)?.tar_out(name.as_str(), source, options, io::stdout().lock())
        }
        (End::Stream, End::Inside(name, target)) => {
            open(&name)?.tar_in(name.as_str(), target, io::stdin().lock())
        }
        _ => return Err(CommandError::new("one of the two must be in a sandbox", form())),
    };
    Ok(tell(&copied?))
}

fn form() -> String {
    format!("the form is agentkernel cp {}", Verb::Cp.info().usage)
}

fn end(word: &OsStr) -> Result<End<'_>, CommandError> {
    let bytes = word.as_bytes();
    if bytes == b"-" {
        return Ok(End::Stream);
    }
    let colon = bytes.iter().position(|byte| *byte == b':');
    match colon.filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b".")) {
        None => Ok(End::Host(Path::new(word))),
        Some(colon) => {
            let (name, path) = (&bytes[..colon], &bytes[colon + 1..]);
            // Nothing is what a path starts at.
            let path = if path.is_empty() { b"/" } else { path };
            let name = sandboxes::name(OsStr::from_bytes(name))?;
            Ok(End::Inside(name, Path::new(OsStr::from_bytes(path))))
        }
    }
}

/// An archive is nothing to look at.
pub(super) fn refuse_terminal() -> Result<(), CommandError> {
    match io::stdout().is_terminal() {
        false => Ok(()),
        true => Err(CommandError::new(
            "an archive would be written to a terminal",
            "send it to a file or through a pipe",
        )),
    }
}

/// Says what was left out, and returns the exit status that stands for it.
fn tell(copied: &Transferred) -> u8 {
    for refused in &copied.refused {
        let path = output::shown(&refused.path.to_string_lossy());
        output::note(&format!("agentkernel: left out {path}: {}", refused.why));
    }
    match copied.refusals - copied.refused.len() as u64 {
        0 => {}
        more => output::note(&format!("agentkernel: left out {more} more")),
    }
    u8::from(copied.refusals > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_sandbox_begins_with_its_name() {
        let end = |text| end(OsStr::new(text));
        let inside = |name: &str, path| End::Inside(name.parse().unwrap(), Path::new(path));
        assert_eq!(end("web:/a:b"), Ok(inside("web", "/a:b")));
        assert_eq!(end("web:a"), Ok(inside("web", "a")));
        assert_eq!(end("web:"), Ok(inside("web", "/")));
        assert_eq!(end("-"), Ok(End::Stream));
        for host in ["a", "./a:b", "/a:b", "../a:b", "."] {
            assert_eq!(end(host), Ok(End::Host(Path::new(host))));
        }
        for bad in [":a", "a b:c", "-x:y"] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }
}
