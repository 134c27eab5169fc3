//! What is said over the link before the agent serves it.
//!
//! Both are the same program, of one version, so the words need none: JSON after its length.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_guest::Nearest;
use agentkernel_sys::socket;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The folder inside that the booter's is mounted at, and the socket in it.
pub const DOOR: &str = "/.agentkernel/door";
pub const LINK: &str = "link";

/// What the agent says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The image's own, as far as it has them.
    pub passwd: String,
    pub group: String,
}

/// What it is told then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Whom commands run as, who need not be in the image.
    pub user: Resident,
    /// Whether a listening socket comes along, and a file for its fate.
    pub listener: bool,
    pub fate: bool,
    /// Limits that no control group holds.
    pub nearest: Vec<Nearest>,
    pub ttl_ms: Option<u64>,
    pub idle_ms: Option<u64>,
}

/// A user of the place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// Empty if it has none.
    pub name: String,
    pub home: String,
    pub uid: u32,
    pub gid: u32,
}

/// No list of users is longer, and no more has to be held.
const LONGEST: usize = 1 << 20;

/// Says something, with descriptors.
pub fn send(
    link: BorrowedFd<'_>,
    word: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(word).map_err(io::Error::other)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    socket::send(link, &[&length.to_le_bytes()[..], &text].concat(), descriptors)
}

/// Hears something, and takes the descriptors that come along. No byte after it is taken.
pub fn receive<T: DeserializeOwned>(link: BorrowedFd<'_>) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut descriptors = Vec::new();
    let mut length = [0; 4];
    fill(link, &mut length, &mut descriptors)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other(format!("{length} bytes are too many")));
    }
    let mut text = vec![0; length];
    fill(link, &mut text, &mut descriptors)?;
    Ok((serde_json::from_slice(&text).map_err(io::Error::other)?, descriptors))
}

fn fill(
    link: BorrowedFd<'_>,
    mut rest: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    while !rest.is_empty() {
        let (read, received) = socket::receive(link.as_fd(), rest)?;
        descriptors.extend(received.into_iter().flatten());
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        rest = &mut rest[read..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_nothing_after_it() {
        let (ours, theirs) = socket::pair().unwrap();
        let setting = Setting { listener: true, ttl_ms: Some(7), ..Setting::default() };
        send(ours.as_fd(), &setting, &[ours.as_fd()]).unwrap();
        socket::send(ours.as_fd(), b"frame", &[]).unwrap();
        let (heard, descriptors) = receive::<Setting>(theirs.as_fd()).unwrap();
        assert_eq!((heard, descriptors.len()), (setting, 1));
        let mut buffer = [0; 16];
        assert_eq!(socket::receive(theirs.as_fd(), &mut buffer).unwrap().0, 5);
    }

    #[test]
    fn nobody_makes_it_hold_more_than_it_should() {
        let (ours, theirs) = socket::pair().unwrap();
        socket::send(ours.as_fd(), &u32::MAX.to_le_bytes(), &[]).unwrap();
        assert!(receive::<About>(theirs.as_fd()).is_err());
        drop(ours);
        assert!(receive::<About>(theirs.as_fd()).is_err());
    }
}
