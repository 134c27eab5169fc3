//! The process's own descriptors. What is read or written goes straight to them, with no thread and no
//! buffer in between: the process is the module's alone, and may wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use agentkernel_sys::descriptor::{self, Interest};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// The most that is read or written at once.
const MOST: usize = 64 << 10;

/// Standard input.
#[derive(Debug, Clone, Copy)]
pub struct Input;

/// Standard output or error.
#[derive(Debug, Clone, Copy)]
pub enum Sink {
    Output,
    Errors,
}

impl Input {
    fn now<T>(self, action: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        action(io::stdin().as_fd())
    }

    /// Whether there is something to read, or nothing more to come, before `timeout` is over.
    pub fn is_ready(self, timeout: Duration) -> bool {
        let polled = self.now(|fd| descriptor::poll(&mut [Interest::readable(fd)], Some(timeout)));
        polled.unwrap_or(true)
    }

    /// Reads what there is, however long that takes to come. Nothing is the end.
    pub fn read_some(self, to: &mut [u8]) -> io::Result<usize> {
        self.now(|fd| waiting(fd, Interest::readable, || descriptor::read(fd, to)))
    }

    fn read_once(self, size: usize) -> StreamResult<Bytes> {
        let mut buffer = vec![0; size.min(MOST)];
        match self.read_some(&mut buffer).map_err(failed)? {
            0 if size > 0 => Err(StreamError::Closed),
            n => {
                buffer.truncate(n);
                Ok(buffer.into())
            }
        }
    }
}

impl Sink {
    fn now<T>(self, action: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Output => action(io::stdout().as_fd()),
            Self::Errors => action(io::stderr().as_fd()),
        }
    }

    /// Writes all of it, however long that takes.
    pub fn write_all(self, mut bytes: &[u8]) -> io::Result<()> {
        self.now(|fd| {
            while !bytes.is_empty() {
                let written = waiting(fd, Interest::writable, || descriptor::write(fd, bytes))?;
                bytes = &bytes[written..];
            }
            Ok(())
        })
    }
}

/// Repeats `action` until `fd`, which others may have made non-blocking, is ready for it.
fn waiting<'a>(
    fd: BorrowedFd<'a>,
    interest: impl Fn(BorrowedFd<'a>) -> Interest<'a>,
    mut action: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match action() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                descriptor::poll(&mut [interest(fd)], None)?;
            }
            result => return result,
        }
    }
}

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

#[async_trait]
impl Pollable for Input {
    /// Only who may wait for other things as well comes here, which in this process can only be times.
    async fn ready(&mut self) {
        /// How late those may become.
        const SLICE: Duration = Duration::from_millis(5);
        while !self.is_ready(SLICE) {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.is_ready(Duration::ZERO) { self.read_once(size) } else { Ok(Bytes::new()) }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.read_once(size)
    }
}

#[async_trait]
impl Pollable for Sink {
    /// A write waits by itself.
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_all(&bytes).map_err(failed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MOST)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write(bytes)
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&io::stdin())
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        self.now(|fd| io::IsTerminal::is_terminal(&fd))
    }
}

// The other kind of stream is for a preview of WASI that is not offered.

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(*self)
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}
