//! `agentkernel logs [-f] NAME [NUMBER]`

use std::io::{self, ErrorKind};

use agentkernel_core::Backend;
use agentkernel_engine::{Engine, EngineError, Entry, Reading, Since};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output::{self, Stream};
use crate::verbs::Verb;

use super::sandboxes;

/// Shows what a background command wrote: its output on standard output, its errors on standard
/// error.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (name, number) = sandboxes::name_and_number(Verb::Logs, low)?;
    let engine = Engine::new(backends);
    let all = sandboxes::open_for(&engine, &name)?;
    let reading = Reading { since: Since::Beginning, follow: low.follow, signals: None };
    let mut printer = Printer::default();
    let read = all.read_log(name.as_str(), number, reading, &mut |entry| printer.print(&entry));
    printer.finish(read)?;
    Ok(0)
}

/// Passes a command's output on.
#[derive(Debug, Default)]
pub(super) struct Printer {
    /// Why it was stopped: an error, or nothing but a reader that has gone away.
    stopped: Option<Result<(), CommandError>>,
}

impl Printer {
    /// Prints an entry. An error says that there is no use in more.
    pub fn print(&mut self, entry: &Entry) -> io::Result<()> {
        let printed = match entry {
            Entry::Output(bytes) => output::bytes(Stream::Output, bytes),
            Entry::Errors(bytes) => output::bytes(Stream::Errors, bytes),
            Entry::Ended(_) => Ok(true),
        };
        self.stopped = match printed {
            Ok(true) => return Ok(()),
            Ok(false) => Some(Ok(())),
            Err(err) => Some(Err(err)),
        };
        Err(ErrorKind::BrokenPipe.into())
    }

    /// What came of the reading; `None` if the reader went away, which is no error.
    pub fn finish<T>(self, read: Result<T, EngineError>) -> Result<Option<T>, CommandError> {
        match (read, self.stopped) {
            (Ok(read), _) => Ok(Some(read)),
            (Err(_), Some(stopped)) => stopped.map(|()| None),
            (Err(err), None) => Err(err.into()),
        }
    }
}
