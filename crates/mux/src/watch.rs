//! What a turn of either side waits for.

use std::io;
use std::time::Duration;

use agentkernel_sys::descriptor::{self, Interest};

use crate::message::{Address, LinkId};

/// What has become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// The stream, to be read.
    Input,
    /// The stream, to be written.
    Output,
    /// A new client.
    Listener,
    /// Somebody wants all this to end.
    Quit,
    /// A link's socket, to be read.
    Frames(LinkId),
    /// A link's socket, to be written.
    Room(LinkId),
    Source(Address),
    Sink(Address),
    /// A terminal of which somebody has set the size.
    Size(Address),
}

impl Spot {
    /// The link that it belongs to, if it belongs to one.
    pub fn link(self) -> Option<LinkId> {
        match self {
            Self::Input | Self::Output | Self::Listener | Self::Quit => None,
            Self::Frames(link) | Self::Room(link) => Some(link),
            Self::Source(at) | Self::Sink(at) | Self::Size(at) => Some(at.link),
        }
    }
}

/// What is waited for.
#[derive(Default)]
pub struct Watch<'a> {
    interests: Vec<Interest<'a>>,
    spots: Vec<Spot>,
}

impl<'a> Watch<'a> {
    pub fn add(&mut self, spot: Spot, interest: Interest<'a>) {
        self.interests.push(interest);
        self.spots.push(spot);
    }

    /// Waits, and returns what is ready, beginning with the one of number `first`, so that nobody
    /// is always the last.
    pub fn wait(self, timeout: Option<Duration>, first: usize) -> io::Result<Vec<Spot>> {
        self.wait_beside(&mut [], timeout, first)
    }

    /// The same, for whoever waits for `others` too.
    pub fn wait_beside(
        self,
        others: &mut [Interest<'_>],
        timeout: Option<Duration>,
        first: usize,
    ) -> io::Result<Vec<Spot>> {
        let mut interests = self.interests;
        interests.extend(others.iter().copied());
        descriptor::poll(&mut interests, timeout)?;
        let (own, copies) = interests.split_at(self.spots.len());
        others.iter_mut().zip(copies).for_each(|(other, copy)| other.found_by(copy));
        let all = own.iter().zip(&self.spots);
        let mut ready: Vec<Spot> =
            all.filter(|(interest, _)| interest.is_ready()).map(|(_, spot)| *spot).collect();
        if !ready.is_empty() {
            let first = first % ready.len();
            ready.rotate_left(first);
        }
        Ok(ready)
    }
}
