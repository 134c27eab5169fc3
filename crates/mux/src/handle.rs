//! Descriptors that never keep their user waiting, whoever else may share them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use agentkernel_sys::{descriptor, socket, terminal};
use rustix::fs::{OFlags, fcntl_getfl};

/// A descriptor that is read or written.
#[derive(Debug)]
pub enum Handle {
    /// It does not wait, or is of a kind that never does.
    Ready(OwnedFd),
    /// A socket that others share.
    Socket(OwnedFd),
    /// A pipe that others share and that can't be opened anew.
    Shared(OwnedFd),
}

/// What is done with a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Reading,
    Writing,
}

fn is_open_for(fd: BorrowedFd<'_>, r#use: Use) -> io::Result<bool> {
    let access = fcntl_getfl(fd)? & OFlags::RWMODE;
    Ok(match r#use {
        Use::Reading => access != OFlags::WRONLY,
        Use::Writing => access != OFlags::RDONLY,
    })
}

/// Opens the pipe or terminal behind `fd` anew, so that nobody else has to do with whether it waits.
/// Whoever has made it may, and root.
pub fn anew(fd: BorrowedFd<'_>, r#use: Use) -> io::Result<OwnedFd> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(r#use == Use::Reading)
        .write(r#use == Use::Writing)
        .custom_flags(flags.bits().cast_signed())
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map(OwnedFd::from)
}

impl Handle {
    /// One of a pipe, a socket or a terminal's side that nobody else has.
    pub fn own(fd: OwnedFd) -> io::Result<Self> {
        descriptor::set_nonblocking(fd.as_fd())?;
        Ok(Self::Ready(fd))
    }

    /// One that somebody else has, too. That it does not wait would hold for all of them, so a pipe
    /// or terminal is opened anew, and a socket is asked each time.
    pub fn foreign(fd: OwnedFd, r#use: Use) -> io::Result<Self> {
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        let fd = OwnedFd::from(file);
        if kind.is_socket() {
            return Ok(Self::Socket(fd));
        }
        if !kind.is_fifo() && !terminal::is_terminal(fd.as_fd()) {
            return Ok(Self::Ready(fd));
        }
        if !is_open_for(fd.as_fd(), r#use)? {
            // Nothing can be done with it, which whoever tries will hear. Opened anew it would be
            // another end than was given.
            return Ok(Self::Ready(fd));
        }
        match anew(fd.as_fd(), r#use) {
            Ok(anew) => Ok(Self::Ready(anew)),
            Err(_) => Ok(Self::Shared(fd)),
        }
    }

    /// Reads once, when a poll has found it ready.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Ready(fd) | Self::Shared(fd) => descriptor::read(fd.as_fd(), buffer),
            Self::Socket(fd) => socket::receive_now(fd.as_fd(), buffer).map(|(read, _)| read),
        }
    }

    /// Writes once, no more than there is room for.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        /// What a pipe takes at once that a poll has found ready, unless another was faster
        /// (pipe(7), `PIPE_BUF`).
        const SURE: usize = 4096;
        match self {
            Self::Ready(fd) => descriptor::write(fd.as_fd(), bytes),
            Self::Socket(fd) => socket::send_some(fd.as_fd(), bytes, &[]),
            Self::Shared(fd) => {
                let mut ready = [descriptor::Interest::writable(fd.as_fd())];
                if !descriptor::poll(&mut ready, Some(std::time::Duration::ZERO))? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                descriptor::write(fd.as_fd(), &bytes[..bytes.len().min(SURE)])
            }
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let (Self::Ready(fd) | Self::Socket(fd) | Self::Shared(fd)) = self;
        fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_a_pipe_does_not_become_the_other() {
        let (reading, writing) = descriptor::pipe().unwrap();
        descriptor::write(writing.as_fd(), b"secret").unwrap();
        let input = Handle::foreign(writing.try_clone().unwrap(), Use::Reading).unwrap();
        assert!(input.read(&mut [0; 6]).is_err());
        let output = Handle::foreign(reading.try_clone().unwrap(), Use::Writing).unwrap();
        assert!(output.write(b"x").is_err());
        assert_eq!(descriptor::read(reading.as_fd(), &mut [0; 9]).unwrap(), 6);
    }

    fn fill(handle: &Handle) -> usize {
        let mut written = 0;
        loop {
            match handle.write(&[7; 64 * 1024]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return written,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_full_pipe_or_socket() {
        let (reading, writing) = descriptor::pipe().unwrap();
        let copy = writing.try_clone().unwrap();
        let anew = Handle::foreign(copy, Use::Writing).unwrap();
        assert!(matches!(anew, Handle::Ready(_)));
        assert!(fill(&anew) > 0);
        let flags = fcntl_getfl(&writing).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "{flags:?}");
        // As where it can't be opened anew.
        let shared = Handle::Shared(writing);
        assert_eq!(fill(&shared), 0);
        drop(reading);
        assert_eq!(shared.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (ours, _theirs) = socket::pair().unwrap();
        let ours = Handle::foreign(ours, Use::Writing).unwrap();
        assert!(matches!(ours, Handle::Socket(_)));
        assert!(fill(&ours) > 0);
        assert_eq!(ours.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
