//! Watching many descriptors at once.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use crate::clock;
use crate::shelves::Tag;

/// The tag of the bell. No spare ever has so many before it.
const BELL: u64 = u64::MAX;

/// How many events are taken at a time.
const BATCH: usize = 64;

/// The longest sleep, a day: the kernel takes milliseconds in 31 bits.
const LONGEST: u64 = 24 * 60 * 60 * 1_000_000_000;

/// Descriptors, and a bell for who waits for them.
#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
    bell: OwnedFd,
}

impl Watch {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self { epoll, bell })
    }

    /// Tells once when the descriptor is readable or hung up. Once, because after a hand-out it
    /// talks to its owner, until whoever leased it has it [forgotten](Self::forget).
    pub fn add(&self, fd: BorrowedFd<'_>, tag: Tag) -> io::Result<()> {
        let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT;
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(tag.number()), interest)?)
    }

    pub fn forget(&self, fd: BorrowedFd<'_>) {
        // It fails only for a descriptor that is not watched, which is what is wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Ends every wait from now on.
    pub fn ring(&self) {
        // It fails only if it rings already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Waits until that time for descriptors to say something. Returns those that did: none at the
    /// end of the time, or when the bell rings, and sometimes for no reason.
    pub fn wait(&self, until: u64) -> Vec<Tag> {
        let left = until.saturating_sub(clock::now()).min(LONGEST);
        // The kernel rounds up, to milliseconds.
        let timeout = Timespec {
            tv_sec: (left / 1_000_000_000) as i64,
            tv_nsec: (left % 1_000_000_000) as _,
        };
        let mut events: Vec<Event> = Vec::with_capacity(BATCH);
        // It fails only when a signal interrupts it.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout));
        events
            .iter()
            .map(|event| event.data.u64())
            .filter(|number| *number != BELL)
            .map(Tag::from_number)
            .collect()
    }
}
