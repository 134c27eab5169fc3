//! What the hands share: what there is to do, and what has been done.

use std::time::Duration;

use crate::backoff::{Backoff, Round};

/// What a hand does next. Times are in nanoseconds of [`crate::clock`].
#[derive(Debug, PartialEq, Eq)]
pub enum Job<T> {
    Boot(Round),
    Destroy(T),
    /// Nothing, until somebody wakes it or that time comes.
    Rest(Option<u64>),
    /// The pool is stopped.
    Leave,
}

/// How full the pool is.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    pub ready: usize,
    /// With fewer than this it is filled whatever else goes on.
    pub low: usize,
    /// From when on it is filled up.
    pub quiet_from: u64,
}

/// The books of a pool of `T`.
#[derive(Debug)]
pub struct Books<T> {
    /// How many are to be ready.
    pub size: usize,
    /// Boots under way.
    pub booting: usize,
    pub stopping: bool,
    /// Taken out, and to be destroyed by the next hand.
    pub condemned: Vec<T>,
    /// Given out to be destroyed.
    pub destroying: usize,
    pub backoff: Backoff,
    pub boots: u64,
    pub last_boot: Option<Duration>,
    pub failures: u64,
    pub last_failure: Option<String>,
    pub dead: u64,
    pub aged: u64,
}

impl<T> Books<T> {
    pub fn new(size: usize, backoff: Backoff) -> Self {
        Self {
            size,
            booting: 0,
            stopping: false,
            condemned: Vec::new(),
            destroying: 0,
            backoff,
            boots: 0,
            last_boot: None,
            failures: 0,
            last_failure: None,
            dead: 0,
            aged: 0,
        }
    }

    /// Gives out the next job at this level. What is given out is under way.
    pub fn next_job(&mut self, level: Level, now: u64) -> Job<T> {
        // First, so that none is left when the last hand leaves.
        if let Some(condemned) = self.condemned.pop() {
            self.destroying += 1;
            return Job::Destroy(condemned);
        }
        if self.stopping {
            return Job::Leave;
        }
        if !self.lacks(level) {
            return Job::Rest(None);
        }
        if !self.is_due(level, now) {
            return Job::Rest(Some(level.quiet_from));
        }
        if let Some(until) = self.backoff.waits_until(now) {
            return Job::Rest(Some(until));
        }
        // After a failure one of them tries; if it succeeds the others follow.
        if self.backoff.is_on() && self.booting > 0 {
            return Job::Rest(None);
        }
        self.booting += 1;
        Job::Boot(self.backoff.round())
    }

    /// Whether another hand would find something to do at this level.
    pub fn has_job(&self, level: Level, now: u64) -> bool {
        let boots = self.lacks(level) && self.is_due(level, now) && !self.backoff.is_on();
        !self.condemned.is_empty() || boots
    }

    fn lacks(&self, level: Level) -> bool {
        !self.stopping && level.ready + self.booting < self.size
    }

    fn is_due(&self, level: Level, now: u64) -> bool {
        level.ready + self.booting < level.low || level.quiet_from <= now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn books(size: usize) -> Books<&'static str> {
        Books::new(size, Backoff::new(Duration::from_nanos(100), Duration::from_secs(1)))
    }

    fn with(ready: usize) -> Level {
        Level { ready, low: 2, quiet_from: 0 }
    }

    #[test]
    fn fills_up_when_it_is_quiet_and_before_that_only_what_is_low() {
        let mut books = books(4);
        let level = |ready| Level { quiet_from: 50, ..with(ready) };
        assert!(matches!(books.next_job(level(1), 49), Job::Boot(_)));
        assert!(!books.has_job(level(1), 49));
        assert_eq!(books.next_job(level(1), 49), Job::Rest(Some(50)));
        assert!(books.has_job(level(1), 50));
        assert!(matches!(books.next_job(level(1), 50), Job::Boot(_)));
    }

    #[test]
    fn boots_no_more_than_are_missing() {
        let mut books = books(3);
        assert!(matches!(books.next_job(with(1), 0), Job::Boot(_)));
        assert!(books.has_job(with(1), 0));
        assert!(matches!(books.next_job(with(1), 0), Job::Boot(_)));
        assert!(!books.has_job(with(1), 0));
        assert_eq!(books.next_job(with(1), 0), Job::Rest(None));
    }

    #[test]
    fn one_boot_at_a_time_after_a_failure_and_not_before_its_time() {
        let mut books = books(3);
        let round = books.backoff.round();
        books.backoff.failed(round, 0);
        assert_eq!(books.next_job(with(0), 99), Job::Rest(Some(100)));
        assert!(matches!(books.next_job(with(0), 100), Job::Boot(_)));
        assert_eq!(books.next_job(with(0), 100), Job::Rest(None));
    }

    #[test]
    fn destroys_before_it_boots_and_before_it_leaves() {
        let mut books = books(3);
        books.condemned = vec!["first", "second"];
        assert_eq!(books.next_job(with(0), 0), Job::Destroy("second"));
        books.stopping = true;
        assert_eq!(books.next_job(with(0), 0), Job::Destroy("first"));
        assert_eq!(books.next_job(with(0), 0), Job::Leave);
    }
}
