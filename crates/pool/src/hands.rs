//! The threads that boot and destroy.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::backoff::Round;
use crate::books::{Job, Level};
use crate::clock;
use crate::lease::Entry;
use crate::shared::Shared;
use crate::spare::Spare;

impl<S: Spare> Shared<S> {
    /// The life of the hand with this number.
    pub fn work(self: &Arc<Self>, me: usize) {
        loop {
            match self.next_job(me) {
                Job::Boot(round) => self.boot_one(round),
                Job::Destroy(entry) => self.destroy_one(entry),
                Job::Rest(None) => thread::park(),
                Job::Rest(Some(until)) => {
                    let left = until.saturating_sub(clock::now());
                    thread::park_timeout(Duration::from_nanos(left));
                }
                Job::Leave => return,
            }
        }
    }

    fn next_job(&self, me: usize) -> Job<Entry<S>> {
        self.sleepers.announce(me);
        let mut books = self.books();
        let now = clock::now();
        let low = self.low.load(Relaxed);
        let level = || Level { ready: self.level.ready(), low, quiet_from: self.quiet_from() };
        let job = books.next_job(level(), now);
        let more = books.has_job(level(), now);
        self.waits_for_quiet.store(matches!(job, Job::Rest(Some(_))), SeqCst);
        drop(books);
        if matches!(job, Job::Rest(_)) {
            return job;
        }
        self.changed.notify_all();
        // Each that finds work wakes the next, so that whoever acquires has to wake only one.
        let was_woken = self.sleepers.rise(me);
        if more || was_woken {
            self.sleepers.wake_one();
        }
        job
    }

    fn boot_one(self: &Arc<Self>, round: Round) {
        let began = Instant::now();
        let booted = catch_unwind(AssertUnwindSafe(|| (self.boot)()));
        let took = began.elapsed();
        let booted = booted.unwrap_or_else(|panic| Err(format!("it panicked: {}", said(&*panic))));
        let mut books = self.books();
        books.booting -= 1;
        match booted.and_then(|spare| self.put(&mut books, spare)) {
            Ok(()) => {
                books.boots += 1;
                books.last_boot = Some(took);
                books.last_failure = None;
                books.backoff.succeeded();
            }
            Err(why) => {
                books.failures += 1;
                books.last_failure = Some(why);
                books.backoff.failed(round, clock::now());
            }
        }
        drop(books);
        self.changed.notify_all();
    }

    fn destroy_one(&self, entry: Entry<S>) {
        let spare = entry.release();
        let destroyed = catch_unwind(AssertUnwindSafe(|| spare.destroy()));
        let mut books = self.books();
        books.destroying -= 1;
        if let Err(panic) = destroyed {
            books.last_failure = Some(format!("its removal panicked: {}", said(&*panic)));
        }
        drop(books);
        self.changed.notify_all();
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}
