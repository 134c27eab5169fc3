//! Words over any stream: JSON after its length. Both ends are of one version, so they need none.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No word is longer, and no more has to be held.
const LONGEST: usize = 1 << 20;

/// Says something over a local socket, with descriptors.
pub fn send(
    link: BorrowedFd<'_>,
    word: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    socket::send(link, &encode(word)?, descriptors)
}

/// Hears something from a local socket, and takes the descriptors that come along. No byte after it
/// is taken.
pub fn receive<T: DeserializeOwned>(link: BorrowedFd<'_>) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut descriptors = Vec::new();
    let word = decode(|rest| {
        let (read, received) = socket::receive(link.as_fd(), rest)?;
        descriptors.extend(received.into_iter().flatten());
        Ok(read)
    })?;
    Ok((word, descriptors))
}

/// Waits until a stream is ready, no longer than that, and tells whether it is.
pub type Wait<'a> = dyn FnMut(Interest<'_>, Option<Duration>) -> io::Result<bool> + 'a;

/// Says something over any stream that waits.
pub fn write(to: BorrowedFd<'_>, word: &impl Serialize) -> io::Result<()> {
    write_by(to, word, &mut just_wait)
}

/// Hears something from any stream, all of which takes no longer than `patience`. No byte after it
/// is taken.
pub fn read<T: DeserializeOwned>(from: BorrowedFd<'_>, patience: Duration) -> io::Result<T> {
    read_by(from, patience, &mut just_wait)
}

fn just_wait(interest: Interest<'_>, most: Option<Duration>) -> io::Result<bool> {
    descriptor::poll(&mut [interest], most)
}

/// As [`write`], with something else to do while the stream, which must not wait, takes no more.
pub fn write_by(to: BorrowedFd<'_>, word: &impl Serialize, wait: &mut Wait<'_>) -> io::Result<()> {
    let text = encode(word)?;
    let mut rest = &text[..];
    while !rest.is_empty() {
        match descriptor::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(Interest::writable(to), None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// As [`read`], with something else to do meanwhile.
pub fn read_by<T: DeserializeOwned>(
    from: BorrowedFd<'_>,
    patience: Duration,
    wait: &mut Wait<'_>,
) -> io::Result<T> {
    let until = Instant::now() + patience;
    decode(|rest| {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if wait(Interest::readable(from), Some(left))? {
                match descriptor::read(from, rest) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            } else if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    })
}

/// A stream, byte by byte, which waits for the other end as long as it takes.
pub struct Bytes<'a>(pub BorrowedFd<'a>);

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match descriptor::read(self.0, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    descriptor::poll(&mut [Interest::readable(self.0)], None)?;
                }
                read => return read,
            }
        }
    }
}

impl Write for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match descriptor::write(self.0, bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    descriptor::poll(&mut [Interest::writable(self.0)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written of a word.
pub fn encode(word: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(word).map_err(io::Error::other)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &text].concat())
}

fn decode<T: DeserializeOwned>(
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<T> {
    let mut fill = |mut rest: &mut [u8]| {
        while !rest.is_empty() {
            match read(rest)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                read => rest = &mut rest[read..],
            }
        }
        Ok(())
    };
    let mut length = [0; 4];
    fill(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other(format!("{length} bytes are too many")));
    }
    let mut text = vec![0; length];
    fill(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_nothing_after_it() {
        let (ours, theirs) = socket::pair().unwrap();
        send(ours.as_fd(), &"first", &[ours.as_fd()]).unwrap();
        write(ours.as_fd(), &"second").unwrap();
        socket::send(ours.as_fd(), b"frame", &[]).unwrap();
        let (heard, descriptors) = receive::<String>(theirs.as_fd()).unwrap();
        assert_eq!((&*heard, descriptors.len()), ("first", 1));
        assert_eq!(read::<String>(theirs.as_fd(), Duration::from_secs(9)).unwrap(), "second");
        let mut buffer = [0; 16];
        assert_eq!(socket::receive(theirs.as_fd(), &mut buffer).unwrap().0, 5);
    }

    #[test]
    fn nobody_makes_it_hold_or_wait_for_more_than_it_should() {
        let (ours, theirs) = socket::pair().unwrap();
        socket::send(ours.as_fd(), &u32::MAX.to_le_bytes(), &[]).unwrap();
        assert!(receive::<String>(theirs.as_fd()).is_err());
        let waited = read::<String>(theirs.as_fd(), Duration::from_millis(20));
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(ours);
        assert!(receive::<String>(theirs.as_fd()).is_err());
        let ended = read::<String>(theirs.as_fd(), Duration::from_secs(9));
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
