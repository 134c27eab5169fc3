//! How long to wait when boots fail.

use std::time::Duration;

use crate::clock;

/// Which boots belong together: those that started after the same wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round(u64);

/// Waits that double. Times are in nanoseconds of [`clock`].
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    /// The wait that the last failure brought, if the last boot failed.
    wait: Option<Duration>,
    until: u64,
    round: u64,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, wait: None, until: 0, round: 0 }
    }

    pub fn round(&self) -> Round {
        Round(self.round)
    }

    /// Whether the last boot failed, so that one at a time is tried.
    pub fn is_on(&self) -> bool {
        self.wait.is_some()
    }

    /// Until when to wait, if it is still to come.
    pub fn waits_until(&self, now: u64) -> Option<u64> {
        (self.is_on() && now < self.until).then_some(self.until)
    }

    /// Boots that start together fail together: only the first of a round makes the wait longer.
    pub fn failed(&mut self, round: Round, now: u64) {
        if round != self.round() {
            return;
        }
        let wait = self.wait.map_or(self.first, |wait| wait.saturating_mul(2).min(self.most));
        self.wait = Some(wait);
        self.until = clock::after(now, wait);
        self.round += 1;
    }

    pub fn succeeded(&mut self) {
        self.wait = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn waits_double_up_to_the_most_and_a_success_resets_them() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for wait in [100, 200, 350, 350] {
            backoff.failed(backoff.round(), 7);
            assert_eq!(backoff.waits_until(8), Some(7 + wait * MS));
            assert_eq!(backoff.waits_until(7 + wait * MS), None);
        }
        backoff.succeeded();
        assert!(!backoff.is_on());
        backoff.failed(backoff.round(), 0);
        assert_eq!(backoff.waits_until(0), Some(100 * MS));
    }

    #[test]
    fn boots_of_one_round_make_the_wait_longer_once() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let round = backoff.round();
        backoff.failed(round, 0);
        backoff.failed(round, 5);
        assert_eq!(backoff.waits_until(0), Some(100 * MS));
    }
}
