//! An exec's streams, at both ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use agentkernel_sys::descriptor;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::unix::pipe::{Receiver, Sender};

/// The longest first line.
const LINE: usize = 64;

/// As much as anybody needs of what comes before it on the other stream.
const EARLY: usize = 4096;

/// Passes on what can be read, to its end.
pub async fn relay(from: &mut Receiver, to: &mut WriteHalf<TokioIo<Upgraded>>) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

/// A pipe, or a terminal's side, that is nobody else's.
pub fn reading(fd: OwnedFd) -> io::Result<Receiver> {
    descriptor::set_nonblocking(fd.as_fd())?;
    Receiver::from_owned_fd_unchecked(fd)
}

pub fn writing(fd: OwnedFd) -> io::Result<Sender> {
    descriptor::set_nonblocking(fd.as_fd())?;
    Sender::from_owned_fd_unchecked(fd)
}

/// An exec's output: as it is from a terminal, else in pieces that say how long they are, and whether
/// they are errors.
pub struct Output {
    from: ReadHalf<TokioIo<Upgraded>>,
    is_plain: bool,
    /// What is left of a piece.
    left: usize,
    is_error: bool,
    /// Errors that came before the first line, such as of a loader.
    pub early: Vec<u8>,
}

impl Output {
    pub fn new(from: ReadHalf<TokioIo<Upgraded>>, is_plain: bool) -> Self {
        Self { from, is_plain, left: 0, is_error: false, early: Vec::new() }
    }

    /// What comes next, as much of it as fits; nothing at the end.
    pub async fn next<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Option<(bool, &'a [u8])>> {
        while self.left == 0 && !self.is_plain {
            let mut head = [0; 8];
            // Nothing begins after the last piece.
            if self.from.read(&mut head[..1]).await? == 0 {
                return Ok(None);
            }
            self.from.read_exact(&mut head[1..]).await?;
            let [kind, _, _, _, length @ ..] = head;
            self.is_error = kind == 2;
            self.left = u32::from_be_bytes(length) as usize;
        }
        let most = if self.is_plain { buffer.len() } else { self.left.min(buffer.len()) };
        let read = self.from.read(&mut buffer[..most]).await?;
        match (read, self.is_plain) {
            (0, true) => Ok(None),
            (0, false) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {
                self.left = self.left.saturating_sub(read);
                Ok(Some((self.is_error, &buffer[..read])))
            }
        }
    }

    /// What comes next up to the end of a line, and no byte more.
    pub async fn line(&mut self) -> io::Result<String> {
        let (mut line, mut buffer) = (Vec::new(), [0]);
        while line.len() < LINE && line.last() != Some(&b'\n') {
            match self.next(&mut buffer).await? {
                Some((true, byte)) if self.early.len() < EARLY => {
                    self.early.extend_from_slice(byte)
                }
                Some((true, _)) => {}
                Some((false, byte)) => line.extend_from_slice(byte),
                None => break,
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}
