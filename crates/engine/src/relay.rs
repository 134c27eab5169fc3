//! Bytes from one descriptor to another, held back when the other can't take them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_sys::descriptor::{self, Interest};

use crate::action::Broken;

/// How much is read at once, and the most that is ever held here, in bytes.
const CHUNK: usize = 64 * 1024;

/// Where bytes come from.
pub struct Source {
    fd: OwnedFd,
    end: End,
}

/// Where bytes go.
pub struct Sink {
    fd: OwnedFd,
    end: End,
    /// What it is to the caller, if it is the caller's.
    name: Option<&'static str>,
}

/// What kind of end it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// A stream of the caller's, which is left as it is.
    Caller,
    /// Our end of a pipe.
    Pipe,
    /// The controlling side of a command's terminal.
    Terminal,
}

impl Source {
    pub fn own(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { fd: fd.try_clone_to_owned()?, end: End::Caller })
    }

    pub fn pipe(fd: OwnedFd) -> io::Result<Self> {
        descriptor::set_nonblocking(fd.as_fd())?;
        descriptor::widen(fd.as_fd());
        Ok(Self { fd, end: End::Pipe })
    }

    pub fn terminal(fd: OwnedFd) -> Self {
        Self { fd, end: End::Terminal }
    }
}

impl Sink {
    pub fn own(fd: BorrowedFd<'_>, name: &'static str) -> io::Result<Self> {
        Ok(Self { fd: fd.try_clone_to_owned()?, end: End::Caller, name: Some(name) })
    }

    pub fn pipe(fd: OwnedFd) -> io::Result<Self> {
        descriptor::set_nonblocking(fd.as_fd())?;
        descriptor::widen(fd.as_fd());
        Ok(Self { fd, end: End::Pipe, name: None })
    }

    pub fn terminal(fd: OwnedFd) -> Self {
        Self { fd, end: End::Terminal, name: None }
    }
}

/// Carries bytes from a source to a sink.
pub struct Relay {
    source: Source,
    sink: Sink,
    /// Read and not yet written.
    held: Vec<u8>,
    written: usize,
    /// Whether the kernel can move bytes by itself.
    splice: bool,
    /// Whether the sink, a pipe, took nothing the last time.
    full: bool,
}

impl Relay {
    pub fn new(source: Source, sink: Sink) -> Self {
        let splice = source.end == End::Pipe || sink.end == End::Pipe;
        Self { source, sink, held: Vec::new(), written: 0, splice, full: false }
    }

    /// What it waits for: the end that holds it up.
    pub fn interest(&self) -> Interest<'_> {
        if self.full || self.written < self.held.len() {
            Interest::writable(self.sink.fd.as_fd())
        } else {
            Interest::readable(self.source.fd.as_fd())
        }
    }

    /// Carries what can be carried now. Returns false at the end of the source.
    pub fn carry(&mut self) -> io::Result<bool> {
        if self.written < self.held.len() {
            return self.put();
        }
        self.full = false;
        if self.splice {
            let (source, sink) = (self.source.fd.as_fd(), self.sink.fd.as_fd());
            match descriptor::splice(source, sink, descriptor::LARGEST_PIPE) {
                Ok(moved) => return Ok(moved > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The source had something, so it is the sink that has no room.
                    self.full = self.sink.end == End::Pipe;
                    return Ok(true);
                }
                // Not every file can: one that is appended to, or a terminal.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.splice = false;
                    // Whether there is anything to read is not known any more; a terminal would
                    // make us wait for it.
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        self.take()
    }

    /// Carries what is in the source now, if no more than a pipe can hold.
    pub fn carry_rest(&mut self) -> io::Result<()> {
        let mut left = descriptor::LARGEST_PIPE / CHUNK + 1;
        self.splice = false;
        while left > 0 {
            if self.written < self.held.len() {
                // A sink of the caller's takes it sooner or later, or fails.
                self.put()?;
                continue;
            }
            self.held.clear();
            self.written = 0;
            if !self.take()? || self.held.is_empty() {
                break;
            }
            left -= 1;
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<bool> {
        self.held.resize(CHUNK, 0);
        self.written = 0;
        match descriptor::read(self.source.fd.as_fd(), &mut self.held) {
            Ok(0) => self.end_of_source(),
            Ok(read) => {
                self.held.truncate(read);
                self.put()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.held.clear();
                Ok(true)
            }
            // The last holder of a terminal's other side has gone.
            Err(_) if self.source.end == End::Terminal => self.end_of_source(),
            Err(error) => Err(error),
        }
    }

    fn put(&mut self) -> io::Result<bool> {
        match descriptor::write(self.sink.fd.as_fd(), &self.held[self.written..]) {
            Ok(written) => self.written += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// A terminal's reader is told by the character that means the end when typed.
    fn end_of_source(&mut self) -> io::Result<bool> {
        const END_OF_TRANSMISSION: u8 = 4;
        self.held.clear();
        if self.sink.end == End::Terminal {
            descriptor::write(self.sink.fd.as_fd(), &[END_OF_TRANSMISSION])?;
        }
        Ok(false)
    }

    /// What `error` means to the caller: nothing if it is only that nobody reads any more, which
    /// the command hears by a closed pipe as it would without us.
    pub fn broken(&self, error: io::Error) -> Option<Broken> {
        let stream = self.sink.name.filter(|_| error.kind() != io::ErrorKind::BrokenPipe)?;
        Some(Broken { stream, error })
    }
}
