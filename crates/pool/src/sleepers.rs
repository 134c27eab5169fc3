//! Waking a thread that has nothing to do, without a lock, and without a call if there is none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::{self, Thread};

/// The threads that may sleep, known by number.
///
/// A thread announces that it is going to sleep, then looks for work, then parks. So a wake that
/// comes in between is not lost: it makes `park` return at once.
#[derive(Debug)]
pub struct Sleepers {
    /// A bit for each thread that has announced it and was not woken since.
    asleep: AtomicU64,
    threads: Box<[OnceLock<Thread>]>,
}

impl Sleepers {
    /// For so many threads, at most 64.
    pub fn new(count: usize) -> Self {
        Self { asleep: AtomicU64::new(0), threads: (0..count).map(|_| OnceLock::new()).collect() }
    }

    /// Says that the calling thread is about to sleep, unless it finds work now.
    pub fn announce(&self, me: usize) {
        self.threads[me].get_or_init(thread::current);
        self.asleep.fetch_or(1 << me, SeqCst);
    }

    /// Takes the announcement back. Returns whether somebody has woken the thread since, who may
    /// have meant other work than what it has found.
    pub fn rise(&self, me: usize) -> bool {
        self.asleep.fetch_and(!(1 << me), SeqCst) & 1 << me == 0
    }

    /// Wakes one of those that sleep.
    pub fn wake_one(&self) {
        loop {
            let asleep = self.asleep.load(SeqCst);
            if asleep == 0 {
                return;
            }
            let bit = asleep & asleep.wrapping_neg();
            if self.asleep.fetch_and(!bit, SeqCst) & bit != 0 {
                self.unpark(bit.trailing_zeros() as usize);
                return;
            }
        }
    }

    /// Wakes all, those too that are just going to sleep.
    pub fn wake_all(&self) {
        (0..self.threads.len()).for_each(|thread| self.unpark(thread));
    }

    fn unpark(&self, thread: usize) {
        // One that was never announced looks for work before it parks for the first time.
        if let Some(thread) = self.threads[thread].get() {
            thread.unpark();
        }
    }
}
