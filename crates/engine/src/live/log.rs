//! The log of a background command, read while its agent may be writing it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_protocol::{END_FILE, Ending, LOG_FILE, RECORD_HEADER, RecordHeader, RecordKind};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::signal::Signals;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// One thing that a log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Output(Vec<u8>),
    Errors(Vec<u8>),
    Ended(Ending),
}

/// A log's files, and how far they have been read. A place writes them, so what they hold is not
/// trusted: what is no record is the end of a file, and no file is read twice unless it was begun
/// anew meanwhile.
pub struct LogFiles {
    folder: PathBuf,
    files: [File; 2],
    end: File,
    current: usize,
    offset: u64,
    /// What the files began with when their reading began.
    starts: [Option<RecordHeader>; 2],
    /// How many bytes have been read or passed over, in both.
    passed: u64,
}

/// The names of a log's files: the two of the log, and that of the end.
pub const FILES: [&str; 3] = ["log.0", "log.1", "end"];

/// The most bytes that a log holds at a time.
pub const MOST: u64 = 2 * LOG_FILE;

impl LogFiles {
    pub fn open(folder: &Path) -> io::Result<Self> {
        let open = |name: &str| File::open(folder.join(name));
        let [first, second, end] = FILES;
        let files = [open(first)?, open(second)?];
        let (end, folder) = (open(end)?, folder.to_owned());
        let starts = [None; 2];
        let mut log = Self { folder, files, end, current: 0, offset: 0, starts, passed: 0 };
        // The older comes first. One that is empty has not been used yet.
        let (first, second) = (log.header(0, 0)?, log.header(1, 0)?);
        match (first, second) {
            (Some(first), Some(second)) if first.at <= second.at => log.begin(0, Some(first)),
            (_, Some(second)) => log.begin(1, Some(second)),
            (first, None) => log.begin(0, first),
        }
        Ok(log)
    }

    /// How the command ended, if it has; whatever is in the log and whatever is not.
    pub fn ending(&self) -> io::Result<Option<Ending>> {
        let mut bytes = END_FILE;
        let read = self.end.read_at(&mut bytes, 0)?;
        Ok(Ending::parse(&bytes[..read]))
    }

    /// How many bytes have been gone through.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// The next record, if there is one yet.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        self.follow_turns()?;
        loop {
            if let Some(entry) = self.record()? {
                return Ok(Some(entry));
            }
            if !self.go_on_in_other()? {
                return Ok(None);
            }
        }
    }

    /// Passes over all that is there.
    pub fn skip(&mut self) -> io::Result<()> {
        while self.passed <= MOST {
            match self.header(self.current, self.offset)? {
                // An end is not passed over, or it would be waited for in vain.
                Some(header) if header.kind == RecordKind::Ended => break,
                Some(header) => self.pass(&header),
                None if !self.go_on_in_other()? => break,
                None => {}
            }
        }
        Ok(())
    }

    /// Finds out whether the file that is being read was emptied, as happens to a reader who is
    /// slower than the command. Else it would take what stands there now, in the middle of
    /// anything, for records.
    fn follow_turns(&mut self) -> io::Result<()> {
        let now = self.header(self.current, 0)?;
        if now == self.starts[self.current] {
            return Ok(());
        }
        let other = 1 - self.current;
        match self.header(other, 0)? {
            // It was filled meanwhile, and is older.
            Some(begun) if self.starts[other] != Some(begun) && self.offset > 0 => {
                self.begin(other, Some(begun));
            }
            _ => self.begin(self.current, now),
        }
        Ok(())
    }

    /// Goes on in the other file if that was begun since, for this one was full then.
    fn go_on_in_other(&mut self) -> io::Result<bool> {
        let other = 1 - self.current;
        match self.header(other, 0)? {
            Some(begun) if self.starts[other] != Some(begun) => {
                // This one may have got its last record just before that.
                if self.header(self.current, self.offset)?.is_none() {
                    self.begin(other, Some(begun));
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn begin(&mut self, file: usize, start: Option<RecordHeader>) {
        (self.current, self.offset, self.starts[file]) = (file, 0, start);
        // Whoever begins files without end is not followed without end.
        self.passed += RECORD_HEADER as u64;
    }

    fn record(&mut self) -> io::Result<Option<Entry>> {
        let Some(header) = self.header(self.current, self.offset)? else { return Ok(None) };
        let mut text = vec![0; header.length];
        let at = self.offset + RECORD_HEADER as u64;
        match self.files[self.current].read_exact_at(&mut text, at) {
            Ok(()) => {}
            // It is still being written.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let entry = match header.kind {
            RecordKind::Output => Some(Entry::Output(text)),
            RecordKind::Errors => Some(Entry::Errors(text)),
            RecordKind::Ended => Ending::parse(&text).map(Entry::Ended),
        };
        if entry.is_some() {
            self.pass(&header);
        }
        Ok(entry)
    }

    fn header(&self, file: usize, offset: u64) -> io::Result<Option<RecordHeader>> {
        let mut bytes = [0; RECORD_HEADER];
        match self.files[file].read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(RecordHeader::parse(&bytes)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn pass(&mut self, header: &RecordHeader) {
        let length = (RECORD_HEADER + header.length) as u64;
        self.offset += length;
        self.passed += length;
    }
}

/// Waits for more in a log.
pub struct Watch<'a> {
    changes: OwnedFd,
    agent: Option<BorrowedFd<'a>>,
    gone: bool,
}

impl<'a> Watch<'a> {
    /// Watches `log`, and the connection to the agent that writes it.
    pub fn new(log: &LogFiles, agent: Option<BorrowedFd<'a>>) -> io::Result<Self> {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        for name in FILES {
            inotify::add_watch(&changes, log.folder.join(name), WatchFlags::MODIFY)?;
        }
        Ok(Self { changes, agent, gone: false })
    }

    /// Whether the agent has gone, so that no more will come.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Waits until there may be more, at most for `patience`, and returns the signals that have
    /// come meanwhile.
    pub fn wait(
        &mut self,
        signals: Option<&Signals>,
        patience: Option<Duration>,
    ) -> io::Result<Vec<u8>> {
        let mut interests = [
            Interest::readable(self.changes.as_fd()),
            self.agent.map_or(Interest::none(), Interest::gone),
            signals.map_or(Interest::none(), |signals| Interest::readable(signals.as_fd())),
        ];
        descriptor::poll(&mut interests, patience)?;
        let [changed, gone, _] = interests.map(|interest| interest.is_ready());
        self.gone |= gone;
        if changed {
            // What exactly has changed does not matter.
            let mut events = [0; 4096];
            match descriptor::read(self.changes.as_fd(), &mut events) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        let mut taken = Vec::new();
        if let Some(signals) = signals {
            while let Some(signal) = signals.take()? {
                taken.extend(u8::try_from(signal));
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
