//! How many spares are ready, without counting them.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::lane::{self, Apart, LANES};

/// A pool that is low with so many left can hear of it a few hand-outs late. So of a lane's
/// hand-outs only every so manieth looks at what the others have taken.
const LARGE: usize = 512;
const SELDOM: u64 = 16;

/// What was put in, less what was handed out.
///
/// One counter for each side, and for hand-outs one for each lane, so that whoever acquires changes
/// only one. The order is sequential: a hand says that it sleeps and then looks at the level, and
/// who acquires changes the level and then looks for sleepers, so that one of them sees the other.
#[derive(Debug, Default)]
pub struct Level {
    /// Put in and not taken out by the pool itself. Changed under the lock of the books.
    stocked: Apart<AtomicU64>,
    handed_out: [Apart<AtomicU64>; LANES],
}

impl Level {
    /// How many are ready, or a few more while somebody is acquiring them.
    pub fn ready(&self) -> usize {
        // Bounded by the largest size, but for those who are between a spare and its count.
        self.stocked.load(SeqCst).saturating_sub(self.handed_out()) as usize
    }

    pub fn handed_out(&self) -> u64 {
        self.handed_out.iter().map(|lane| lane.load(SeqCst)).sum()
    }

    /// Counts one that was put in.
    pub fn put(&self) {
        self.stocked.fetch_add(1, SeqCst);
    }

    /// Counts one that the pool took out.
    pub fn remove(&self) {
        self.stocked.fetch_sub(1, SeqCst);
    }

    /// Counts one that was handed out. Returns whether fewer than `low` are known to be left.
    pub fn hand_out(&self, low: usize) -> bool {
        let before = self.handed_out[lane::own()].fetch_add(1, SeqCst);
        (low < LARGE || before.is_multiple_of(SELDOM)) && self.ready() < low
    }
}
