//! The pool as others see it.

use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::books::Books;
use crate::clock;
use crate::lease::{Entry, Lease};
use crate::settings::{PoolError, Settings, check_size};
use crate::shared::Shared;
use crate::spare::Spare;

/// Spares that wait to be handed out.
///
/// Dropping it [stops](Self::stop) it.
#[derive(Debug)]
pub struct Pool<S: Spare> {
    shared: Arc<Shared<S>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How a pool is doing. Counts are since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Spares that wait. While somebody acquires one it may still be counted.
    pub ready: usize,
    /// Boots under way.
    pub booting: usize,
    /// Taken out by the pool, and not yet destroyed.
    pub removing: usize,
    /// How many are to be ready.
    pub size: usize,
    pub handed_out: u64,
    /// How often somebody acquired and there was none.
    pub refused_empty: u64,
    /// Boots that succeeded, and those that failed.
    pub boots: u64,
    pub failures: u64,
    /// How long the last boot took that succeeded.
    pub last_boot: Option<Duration>,
    /// Why the last boot failed, if the last one did, or which removal went wrong since.
    pub last_failure: Option<String>,
    /// Spares that were replaced because they were no longer well, and because of their age.
    pub dead: u64,
    pub aged: u64,
}

impl<S: Spare> Pool<S> {
    /// Starts a pool, which begins at once to fill. `boot` is called on the pool's own threads, on
    /// several at the same time; it must come to an end by itself. If it panics, that boot has
    /// failed.
    pub fn start<E: Display>(
        settings: &Settings,
        boot: impl Fn() -> Result<S, E> + Send + Sync + 'static,
    ) -> Result<Self, PoolError> {
        settings.check()?;
        let boot = Box::new(move || boot().map_err(|error| error.to_string()));
        let shared = Arc::new(Shared::new(settings, boot)?);
        // From here on its drop stops those threads that there are.
        let pool = Self { shared, threads: Mutex::default() };
        pool.spawn("pool-watcher", |shared| shared.keep_watch())?;
        for hand in 0..settings.at_once {
            pool.spawn("pool-hand", move |shared| shared.work(hand))?;
        }
        Ok(pool)
    }

    /// Takes the spare that waits longest. None if there is none; the caller boots one itself.
    ///
    /// It is lock-free, and makes no system call as long as half of the pool is left. A spare that
    /// is too old, or of which the pool knows that it is not well, is never handed out. One that
    /// dies at that very moment may be: its owner finds out.
    pub fn acquire(&self) -> Option<Lease<S>> {
        let shared = &*self.shared;
        let Some(entry) = shared.shelves.take(clock::last_tick()) else {
            shared.refused.fetch_add(1, Relaxed);
            return None;
        };
        if shared.level.hand_out(shared.low.load(Relaxed)) {
            shared.sleepers.wake_one();
        }
        Some(Lease::new(entry))
    }

    pub fn status(&self) -> Status {
        self.status_by(&self.shared.books())
    }

    /// Waits until the pool is as wanted, at most for so long; returns whether it is. It looks
    /// whenever the pool itself has changed something, not when somebody acquires.
    pub fn wait_until(&self, limit: Duration, wanted: impl Fn(&Status) -> bool) -> bool {
        let start = Instant::now();
        let mut books = self.shared.books();
        loop {
            if wanted(&self.status_by(&books)) {
                return true;
            }
            let Some(left) = limit.checked_sub(start.elapsed()) else { return false };
            let wait = self.shared.changed.wait_timeout(books, left);
            books = wait.unwrap_or_else(|error| error.into_inner()).0;
        }
    }

    /// Keeps another number ready. Does not wait: what is too much is destroyed, and what is
    /// missing booted, beside. Nothing happens after a stop.
    ///
    /// # Errors
    ///
    /// More than [`MAX_SIZE`](crate::MAX_SIZE).
    pub fn resize(&self, size: usize) -> Result<(), PoolError> {
        check_size(size)?;
        self.shared.resize(size);
        Ok(())
    }

    /// Destroys all that wait, and ends the pool's threads. Returns when boots under way have
    /// ended, and nothing is left but what was handed out. A second call waits for the first.
    ///
    /// It must not be called by `boot` or by a spare.
    pub fn stop(&self) {
        self.shared.begin_to_stop();
        let mut threads = self.threads.lock().unwrap_or_else(|error| error.into_inner());
        for thread in threads.drain(..) {
            // Its panic was caught, or has been told.
            let _ = thread.join();
        }
    }

    fn spawn(
        &self,
        name: &str,
        life: impl FnOnce(&Arc<Shared<S>>) + Send + 'static,
    ) -> Result<(), PoolError> {
        let shared = self.shared.clone();
        let thread = Builder::new().name(name.to_owned()).spawn(move || life(&shared));
        let mut threads = self.threads.lock().unwrap_or_else(|error| error.into_inner());
        threads.push(thread.map_err(PoolError::Thread)?);
        Ok(())
    }

    fn status_by(&self, books: &Books<Entry<S>>) -> Status {
        Status {
            ready: self.shared.level.ready(),
            booting: books.booting,
            removing: books.condemned.len() + books.destroying,
            size: books.size,
            handed_out: self.shared.level.handed_out(),
            refused_empty: self.shared.refused.load(Relaxed),
            boots: books.boots,
            failures: books.failures,
            last_boot: books.last_boot,
            last_failure: books.last_failure.clone(),
            dead: books.dead,
            aged: books.aged,
        }
    }
}

impl<S: Spare> Drop for Pool<S> {
    fn drop(&mut self) {
        self.stop();
    }
}
