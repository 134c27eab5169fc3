//! Where spares wait: numbered slots, and a bit for each that is ready.
//!
//! Clearing a slot's bit claims its spare. Only one thread can be the one that cleared it, so an
//! acquirer and the watcher never get the same spare, and either can take it out of the middle.
//! (A queue would leave a husk behind for each spare that was taken out of its middle.)
//!
//! Slots are filled in a ring and emptied from where the last one was taken: the oldest first, or
//! nearly so when many take at once. With the newest first, those at the bottom would only grow old
//! and be replaced, while every lease is of one that was just booted. Oldest first, a pool that is
//! used at all seldom replaces anything.
//!
//! Threads that take at once would all want the same word. One that finds that another was faster
//! goes to a part of the ring of its own, and on from there.

use std::array;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, OnceLock, TryLockError};

use crate::lane::{self, Apart, LANES};
use crate::settings::MAX_SIZE;

/// Slots to a shelf: the bits of a word.
const SLOTS: usize = 64;

/// One more than is needed for the largest pool: an acquirer occupies a slot until it has the
/// spare in hand.
const SHELVES: usize = MAX_SIZE / SLOTS + 1;

/// Whom an event is about: a slot, and which of the spares that were ever in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u64);

impl Tag {
    const SLOT_BITS: u32 = (SHELVES * SLOTS).next_power_of_two().trailing_zeros();

    fn new(serial: u64, slot: usize) -> Self {
        Self(serial << Self::SLOT_BITS | slot as u64)
    }

    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub fn number(self) -> u64 {
        self.0
    }

    fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }
}

#[derive(Debug)]
struct Slot<T> {
    /// From when on it is too old, in nanoseconds.
    expires: AtomicU64,
    /// What is, or was last, in it.
    tag: AtomicU64,
    /// Set by who fills it, cleared by who has emptied it.
    full: AtomicBool,
    /// Never waited for: who fills it has seen that it is not full, who empties it has its bit.
    content: Mutex<Option<T>>,
}

/// Slots for anything. Functions that fill or grow are called by one thread at a time; all others
/// by any.
#[derive(Debug)]
pub struct Shelves<T> {
    ready: Box<[Apart<AtomicU64>]>,
    /// How many shelves there are so far.
    count: AtomicUsize,
    /// Behind the slot that was taken last in each lane.
    next_taken: [Apart<AtomicUsize>; LANES],
    /// Behind the slot that was filled last.
    next_filled: AtomicUsize,
    serial: AtomicU64,
    shelves: [OnceLock<Box<[Slot<T>]>>; SHELVES],
}

impl<T> Shelves<T> {
    pub fn new(size: usize) -> Self {
        let shelves = Self {
            ready: (0..SHELVES).map(|_| Apart::default()).collect(),
            count: AtomicUsize::new(0),
            next_taken: Default::default(),
            next_filled: AtomicUsize::new(0),
            serial: AtomicU64::new(0),
            shelves: array::from_fn(|_| OnceLock::new()),
        };
        shelves.grow(size.max(1));
        shelves
    }

    /// Makes room for so many. Shelves are never taken down: they are small beside what they hold.
    pub fn grow(&self, size: usize) {
        let wanted = size.div_ceil(SLOTS).min(SHELVES);
        for shelf in self.count.load(Relaxed)..wanted {
            self.shelves[shelf].get_or_init(|| (0..SLOTS).map(|_| Slot::new()).collect());
            self.count.store(shelf + 1, Release);
        }
    }

    /// The slot for what comes next. None if all are taken and no more can be made.
    pub fn reserve(&self) -> Option<Tag> {
        let slot = self.free_slot().or_else(|| {
            let size = self.count.load(Relaxed) * SLOTS;
            self.grow(size + 1);
            (self.count.load(Relaxed) * SLOTS > size).then_some(size)
        })?;
        let serial = self.serial.fetch_add(1, Relaxed);
        Some(Tag::new(serial, slot))
    }

    /// Puts something into a slot that was reserved. From now on it may be taken.
    pub fn fill(&self, tag: Tag, expires: u64, content: T) {
        let index = tag.slot();
        let Some(slot) = self.slot(index) else { return };
        slot.expires.store(expires, Relaxed);
        slot.tag.store(tag.number(), Relaxed);
        *slot.content.lock().unwrap_or_else(|error| error.into_inner()) = Some(content);
        slot.full.store(true, Relaxed);
        self.next_filled.store(index + 1, Relaxed);
        self.ready[index / SLOTS].fetch_or(1 << (index % SLOTS), Release);
    }

    /// Takes the one that waits longest and is not too old, or nearly so while others take.
    ///
    /// Lock-free: a bit that somebody else has cleared meanwhile is somebody else's success. None
    /// means that each slot, when it was looked at, had nothing ready.
    pub fn take(&self, now: u64) -> Option<T> {
        let count = self.count.load(Acquire);
        let lane = lane::own();
        let cursor = &self.next_taken[lane];
        let next = cursor.load(Relaxed) % (count * SLOTS);
        let behind = u64::MAX << (next % SLOTS);
        let mut alone = true;
        // The shelf where it begins comes twice: from there on, and at last up to there.
        for step in 0..=count {
            let shelf = (next / SLOTS + step) % count;
            let mut candidates = match step {
                0 => behind,
                last if last == count => !behind,
                _ => u64::MAX,
            };
            loop {
                let ready = self.ready[shelf].load(Acquire) & candidates;
                if ready == 0 {
                    break;
                }
                let bit = ready.trailing_zeros() as usize;
                candidates &= !(1 << bit);
                let slot = shelf * SLOTS + bit;
                match self.claim(slot, now) {
                    Claim::Won(content) => {
                        let own = lane * count / LANES * SLOTS;
                        cursor.store(if alone { slot + 1 } else { own }, Relaxed);
                        return Some(content);
                    }
                    Claim::Lost => alone = false,
                    Claim::TooOld => {}
                }
            }
        }
        None
    }

    /// Takes that very one, if it is still there.
    pub fn take_tagged(&self, tag: Tag) -> Option<T> {
        let slot = self.slot(tag.slot())?;
        // Nobody fills it meanwhile, so if it has changed hands it is because somebody took it.
        if slot.tag.load(Relaxed) != tag.number() { None } else { self.claim(tag.slot(), 0).won() }
    }

    /// Takes all that are too old.
    pub fn take_expired(&self, now: u64) -> impl Iterator<Item = T> + '_ {
        let expired = self.waiting().filter(move |(_, expires)| *expires <= now);
        expired.filter_map(|(slot, _)| self.claim(slot, 0).won())
    }

    /// When the next one gets too old.
    pub fn next_expiry(&self) -> Option<u64> {
        self.waiting().map(|(_, expires)| expires).min()
    }

    /// Claims a slot and empties it, if it is ready and not too old.
    fn claim(&self, index: usize, now: u64) -> Claim<T> {
        let Some(slot) = self.slot(index) else { return Claim::Lost };
        // Looked at before the claim, which is as good: what might replace it is younger.
        if slot.expires.load(Relaxed) <= now {
            return Claim::TooOld;
        }
        let bit = 1 << (index % SLOTS);
        if self.ready[index / SLOTS].fetch_and(!bit, AcqRel) & bit == 0 {
            return Claim::Lost;
        }
        let content = match slot.content.try_lock() {
            Ok(mut content) => content.take(),
            Err(TryLockError::Poisoned(error)) => error.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        };
        slot.full.store(false, Release);
        content.map_or(Claim::Lost, Claim::Won)
    }

    /// Those that are ready, with the time when each is too old.
    fn waiting(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (0..self.count.load(Acquire) * SLOTS).filter_map(|index| {
            let ready = self.ready[index / SLOTS].load(Acquire) & 1 << (index % SLOTS) != 0;
            let slot = ready.then(|| self.slot(index)).flatten()?;
            Some((index, slot.expires.load(Relaxed)))
        })
    }

    fn free_slot(&self) -> Option<usize> {
        let size = self.count.load(Relaxed) * SLOTS;
        let next = self.next_filled.load(Relaxed);
        (0..size)
            .map(|step| (next + step) % size)
            .find(|index| self.slot(*index).is_some_and(|slot| !slot.full.load(Acquire)))
    }

    fn slot(&self, index: usize) -> Option<&Slot<T>> {
        self.shelves.get(index / SLOTS)?.get()?.get(index % SLOTS)
    }
}

/// What came of reaching for a slot.
enum Claim<T> {
    Won(T),
    /// Somebody else was faster.
    Lost,
    TooOld,
}

impl<T> Claim<T> {
    fn won(self) -> Option<T> {
        match self {
            Self::Won(content) => Some(content),
            Self::Lost | Self::TooOld => None,
        }
    }
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self {
            expires: AtomicU64::new(0),
            tag: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
            content: Mutex::new(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put<T>(shelves: &Shelves<T>, expires: u64, content: T) -> Tag {
        let tag = shelves.reserve().unwrap();
        shelves.fill(tag, expires, content);
        tag
    }

    #[test]
    fn what_is_too_old_is_not_taken_and_the_next_one_is() {
        let shelves = Shelves::new(2);
        put(&shelves, 100, "old");
        put(&shelves, 101, "young");
        assert_eq!(shelves.next_expiry(), Some(100));
        assert_eq!(shelves.take(100), Some("young"));
        assert_eq!(shelves.take(100), None);
        assert_eq!(shelves.take_expired(99).next(), None);
        assert_eq!(shelves.take_expired(100).collect::<Vec<_>>(), ["old"]);
        assert_eq!(shelves.next_expiry(), None);
    }

    #[test]
    fn a_tag_is_good_for_one_spare_though_its_slot_is_used_again() {
        let shelves = Shelves::new(64);
        let first = put(&shelves, 100, 0);
        assert_eq!(shelves.take(0), Some(0));
        // Once round the ring.
        for number in 1..64 {
            put(&shelves, 100, number);
            assert_eq!(shelves.take(0), Some(number));
        }
        let again = put(&shelves, 100, 64);
        assert_eq!(first.slot(), again.slot());
        assert_eq!(shelves.take_tagged(first), None);
        assert_eq!(shelves.take_tagged(again), Some(64));
        assert_eq!(shelves.take_tagged(again), None);
    }

    #[test]
    fn the_order_is_that_of_a_queue_across_shelves_and_round_the_ring() {
        let shelves = Shelves::new(200);
        (0..150).for_each(|number| _ = put(&shelves, 100, number));
        for (oldest, number) in (150..2000).enumerate() {
            assert_eq!(shelves.take(0), Some(oldest));
            put(&shelves, 100, number);
        }
    }

    #[test]
    fn there_is_room_for_the_largest_pool_and_an_end() {
        let shelves = Shelves::new(MAX_SIZE);
        (0..MAX_SIZE).for_each(|number| _ = put(&shelves, 100, number));
        (0..SLOTS).for_each(|number| _ = put(&shelves, 100, number));
        assert_eq!(shelves.reserve(), None);
        assert_eq!(shelves.take(0), Some(0));
        assert!(shelves.reserve().is_some());
    }
}
