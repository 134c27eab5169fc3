//! Threads apart from each other, so that those who acquire at the same time do not pass the same
//! cache lines to and fro: from one processor to another, each takes longer than all else they do.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many threads have a lane to themselves, before they share them.
pub const LANES: usize = 8;

thread_local! {
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % LANES
    };
}

/// The calling thread's lane: below [`LANES`], and the same for its whole life.
pub fn own() -> usize {
    OWN.with(|lane| *lane)
}

/// Something on cache lines of its own: two, for processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Apart<T>(T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
