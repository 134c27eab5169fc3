//! What a pool is told, and what it refuses.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// The most spares that a pool can be asked to keep.
pub const MAX_SIZE: usize = 16 * 1024;

/// The most boots at the same time: a bit for each thread.
pub const MAX_AT_ONCE: usize = 64;

/// How a pool is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many spares to keep ready: 0 to [`MAX_SIZE`].
    pub size: usize,
    /// The age, counted from the end of its boot, from which on a spare is not handed out but
    /// replaced. More than nothing; exact to a tick of the kernel's clock, 1 to 10 ms.
    pub max_age: Duration,
    /// How many may be booted at the same time: 1 to [`MAX_AT_ONCE`].
    pub at_once: usize,
    /// How long to wait after the first boot that fails. It doubles with every further one, and a
    /// success resets it. More than nothing.
    pub first_backoff: Duration,
    /// The longest such wait, not less than the first.
    pub most_backoff: Duration,
    /// How long nobody may have handed a lease back before a pool that is at least half full is
    /// filled up: until then its boots would only take the processor from who uses it.
    pub quiet: Duration,
}

impl Settings {
    /// So many spares, an hour old at most, two booted at once, waits of 100 ms to 30 s, and 20 ms of
    /// quiet.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            max_age: Duration::from_secs(60 * 60),
            at_once: 2,
            first_backoff: Duration::from_millis(100),
            most_backoff: Duration::from_secs(30),
            quiet: Duration::from_millis(20),
        }
    }

    pub(crate) fn check(&self) -> Result<(), PoolError> {
        check_size(self.size)?;
        if !(1..=MAX_AT_ONCE).contains(&self.at_once) {
            return Err(PoolError::AtOnce(self.at_once));
        }
        if self.max_age.is_zero() {
            return Err(PoolError::MaxAge);
        }
        if self.first_backoff.is_zero() || self.first_backoff > self.most_backoff {
            return Err(PoolError::Backoff { first: self.first_backoff, most: self.most_backoff });
        }
        Ok(())
    }
}

pub(crate) fn check_size(size: usize) -> Result<(), PoolError> {
    if size > MAX_SIZE { Err(PoolError::Size(size)) } else { Ok(()) }
}

/// Why a pool was not started or resized. Nothing was changed then.
#[derive(Debug, Error)]
pub enum PoolError {
    #[error("a pool can't keep {0} sandboxes: {MAX_SIZE} is the most")]
    Size(usize),
    #[error("a pool boots 1 to {MAX_AT_ONCE} sandboxes at once, not {0}")]
    AtOnce(usize),
    #[error("the maximum age of a pool's sandboxes can't be zero")]
    MaxAge,
    #[error("a pool can't wait {first:?} at first and {most:?} at most after boots that fail")]
    Backoff { first: Duration, most: Duration },
    #[error("can't watch a pool's sandboxes: {0}")]
    Watch(#[source] io::Error),
    #[error("can't start a pool's threads: {0}")]
    Thread(#[source] io::Error),
}
