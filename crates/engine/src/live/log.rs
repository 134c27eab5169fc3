//! The log of a background command, read while its agent may be writing it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_protocol::{Ending, RECORD_HEADER, RecordHeader, RecordKind};
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

/// A log's two files, and how far they have been read. A place writes them, so what they hold is
/// not trusted: what is no record is the end of a file.
pub struct LogFiles {
    folder: PathBuf,
    files: [File; 2],
    current: usize,
    offset: u64,
    /// When the latest record that was read was written.
    latest: Duration,
}

impl LogFiles {
    pub fn open(folder: &Path) -> io::Result<Self> {
        let open = |name: &str| File::open(folder.join(name));
        let files = [open("log.0")?, open("log.1")?];
        let folder = folder.to_owned();
        let mut log = Self { folder, files, current: 0, offset: 0, latest: Duration::ZERO };
        // The older comes first. One that is empty has not been used yet.
        let starts = [log.header(0, 0)?, log.header(1, 0)?].map(|header| header.map(|h| h.at));
        if let [first, Some(second)] = starts
            && first.is_none_or(|first| second < first)
        {
            log.current = 1;
        }
        Ok(log)
    }

    /// The next record, if there is one yet.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.record()? {
                return Ok(Some(entry));
            }
            // The other file goes on where this one was full.
            let other = 1 - self.current;
            match self.header(other, 0)? {
                Some(header) if header.at >= self.latest && self.offset > 0 => {
                    (self.current, self.offset) = (other, 0);
                }
                _ => return Ok(None),
            }
            if self.record_at()?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Passes over all that is there.
    pub fn skip(&mut self) -> io::Result<()> {
        while let Some(header) = self.record_at()? {
            // An end is not passed over, or it would be waited for in vain.
            if header.kind == RecordKind::Ended {
                break;
            }
            self.pass(&header);
        }
        Ok(())
    }

    fn record(&mut self) -> io::Result<Option<Entry>> {
        let Some(header) = self.record_at()? else { return Ok(None) };
        let mut text = vec![0; header.length];
        let at = self.offset + RECORD_HEADER as u64;
        match self.files[self.current].read_exact_at(&mut text, at) {
            Ok(()) => {}
            // It is still being written.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        self.pass(&header);
        Ok(match header.kind {
            RecordKind::Output => Some(Entry::Output(text)),
            RecordKind::Errors => Some(Entry::Errors(text)),
            RecordKind::Ended => Ending::parse(&text).map(Entry::Ended),
        })
    }

    fn record_at(&self) -> io::Result<Option<RecordHeader>> {
        self.header(self.current, self.offset)
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
        self.offset += (RECORD_HEADER + header.length) as u64;
        self.latest = header.at;
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
        for name in ["log.0", "log.1"] {
            inotify::add_watch(&changes, log.folder.join(name), WatchFlags::MODIFY)?;
        }
        Ok(Self { changes, agent, gone: false })
    }

    /// Whether the agent has gone, so that no more will come.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Waits until there may be more, and returns the signals that have come meanwhile.
    pub fn wait(&mut self, signals: Option<&Signals>) -> io::Result<Vec<u8>> {
        let mut interests = [
            Interest::readable(self.changes.as_fd()),
            self.agent.map_or(Interest::none(), Interest::gone),
            signals.map_or(Interest::none(), |signals| Interest::readable(signals.as_fd())),
        ];
        descriptor::poll(&mut interests, None)?;
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
