//! How many spares are ready, without counting them.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What was put in, less what was handed out.
///
/// One counter for each side, so that whoever acquires changes only one, which the status wants
/// anyway. The order is sequential: a hand says that it sleeps and then looks at the level, and who
/// acquires changes the level and then looks for sleepers, so that one of them sees the other.
#[derive(Debug, Default)]
pub struct Level {
    /// Put in and not taken out by the pool itself. Changed under the lock of the books.
    stocked: AtomicU64,
    handed_out: AtomicU64,
}

impl Level {
    /// How many are ready, or a few more while somebody is acquiring them.
    pub fn ready(&self) -> usize {
        difference(self.stocked.load(SeqCst), self.handed_out.load(SeqCst))
    }

    pub fn handed_out(&self) -> u64 {
        self.handed_out.load(SeqCst)
    }

    /// Counts one that was put in.
    pub fn put(&self) {
        self.stocked.fetch_add(1, SeqCst);
    }

    /// Counts one that the pool took out.
    pub fn remove(&self) {
        self.stocked.fetch_sub(1, SeqCst);
    }

    /// Counts one that was handed out, and says how many are left.
    pub fn hand_out(&self) -> usize {
        let out = self.handed_out.fetch_add(1, SeqCst) + 1;
        difference(self.stocked.load(SeqCst), out)
    }
}

fn difference(stocked: u64, out: u64) -> usize {
    // Bounded by the largest size, but for those who are between a spare and its count.
    stocked.saturating_sub(out) as usize
}
