//! Lines of JSON over a local socket, with descriptors beside them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;
use agentkernel_wire::MAX_LINE;

/// One end of a connection that carries a line at a time.
pub struct Lines {
    socket: OwnedFd,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Lines {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, bytes: Vec::new(), descriptors: Vec::new() }
    }

    /// Sends a line whole, with descriptors.
    pub fn send(&self, line: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        socket::send(self.socket.as_fd(), line.as_bytes(), descriptors)
    }

    /// Sends a line at once, or fails if the other side leaves no room for it.
    pub fn send_now(&self, line: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        socket::send_now(self.socket.as_fd(), line.as_bytes(), descriptors)
    }

    /// Waits for a line until `deadline`, for ever if there is none. `None` is the end of the
    /// connection.
    pub fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let mut interests = [Interest::readable(self.socket.as_fd())];
            if descriptor::poll(&mut interests, left)? {
                if !self.receive_some()? {
                    return Ok(None);
                }
            } else if left.is_some_and(|left| left.is_zero()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Receives what there is. Returns false at the end of the connection.
    pub fn receive_some(&mut self) -> io::Result<bool> {
        /// More descriptors than any message has.
        const MOST_DESCRIPTORS: usize = 16;
        let mut buffer = [0; 4096];
        let (read, descriptors) = match socket::receive(self.socket.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            received => received?,
        };
        self.bytes.extend_from_slice(&buffer[..read]);
        self.descriptors.extend(descriptors.into_iter().flatten());
        if self.bytes.len() > MAX_LINE || self.descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
        }
        Ok(read > 0)
    }

    /// As [`receive_some`](Self::receive_some), but never waits; nothing there is nothing received.
    pub fn receive_now(&mut self) -> io::Result<bool> {
        let mut interests = [Interest::readable(self.socket.as_fd())];
        match descriptor::poll(&mut interests, Some(Duration::ZERO))? {
            true => self.receive_some(),
            false => Ok(true),
        }
    }

    /// The next whole line that was received, without its end.
    pub fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let rest = self.bytes.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.bytes, rest);
        line.truncate(end);
        Some(line)
    }

    /// The descriptors that have come along so far.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
