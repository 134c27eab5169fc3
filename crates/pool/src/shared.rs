//! What a pool's threads have in common.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::books::Books;
use crate::clock;
use crate::lease::Entry;
use crate::level::Level;
use crate::settings::{PoolError, Settings};
use crate::shelves::Shelves;
use crate::sleepers::Sleepers;
use crate::spare::Spare;
use crate::watch::Watch;

/// Boots a spare, or says why not.
pub type Boot<S> = Box<dyn Fn() -> Result<S, String> + Send + Sync>;

/// A pool without its threads.
pub struct Shared<S: Spare> {
    pub shelves: Shelves<Entry<S>>,
    pub level: Level,
    pub sleepers: Sleepers,
    pub watch: Watch,
    pub boot: Boot<S>,
    pub max_age: Duration,
    /// Whoever acquires wakes a hand himself only if fewer than this are left; else that waits
    /// until the lease is handed over or dropped.
    pub low: AtomicUsize,
    pub quiet: Duration,
    /// When a lease ended last, by [`crate::clock`].
    pub last_used: AtomicU64,
    /// Whether a hand waits for quiet, so that nobody has to wake one.
    pub waits_for_quiet: AtomicBool,
    /// How often somebody acquired and the pool was empty.
    pub refused: AtomicU64,
    /// Whoever fills or empties a slot, other than by acquiring, holds this. Whoever changes it
    /// says so by `changed`.
    books: Mutex<Books<Entry<S>>>,
    pub changed: Condvar,
}

impl<S: Spare> Shared<S> {
    pub fn new(settings: &Settings, boot: Boot<S>) -> Result<Self, PoolError> {
        let backoff = Backoff::new(settings.first_backoff, settings.most_backoff);
        Ok(Self {
            shelves: Shelves::new(settings.size),
            level: Level::default(),
            sleepers: Sleepers::new(settings.at_once),
            watch: Watch::new().map_err(PoolError::Watch)?,
            boot,
            max_age: settings.max_age,
            low: AtomicUsize::new(low_of(settings.size)),
            quiet: settings.quiet,
            last_used: AtomicU64::new(0),
            waits_for_quiet: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            books: Mutex::new(Books::new(settings.size, backoff)),
            changed: Condvar::new(),
        })
    }

    pub fn books(&self) -> MutexGuard<'_, Books<Entry<S>>> {
        // Nothing that can panic in the middle of a change is called while it is held.
        self.books.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// Puts a spare where it can be acquired, or has it destroyed: if it is not wanted any more,
    /// or can't be watched, which it says.
    pub fn put(self: &Arc<Self>, books: &mut Books<Entry<S>>, spare: S) -> Result<(), String> {
        let entry = Entry::new(spare, self.clone());
        let wanted = !books.stopping && self.level.ready() < books.size;
        let Some(tag) = wanted.then(|| self.shelves.reserve()).flatten() else {
            books.condemned.push(entry);
            return Ok(());
        };
        // It is watched before it can be taken. The watcher waits for the lock, so what it hears
        // from the first moment on finds the spare in its slot.
        if let Err(error) = self.watch.add(entry.spare().as_fd(), tag) {
            books.condemned.push(entry);
            return Err(format!("it can't be watched: {error}"));
        }
        self.level.put();
        self.shelves.fill(tag, clock::after(clock::now(), self.max_age), entry);
        Ok(())
    }

    /// Has a spare destroyed that was taken out.
    pub fn condemn(&self, books: &mut Books<Entry<S>>, entry: Entry<S>) {
        self.level.remove();
        books.condemned.push(entry);
    }

    /// Has all but so many destroyed, the oldest first.
    pub fn shrink(&self, books: &mut Books<Entry<S>>, size: usize) {
        while self.level.ready() > size {
            // None if somebody is just acquiring what is too much.
            let Some(entry) = self.shelves.take(0) else { break };
            self.condemn(books, entry);
        }
    }

    pub fn resize(&self, size: usize) {
        let mut books = self.books();
        if books.stopping {
            return;
        }
        books.size = size;
        self.low.store(low_of(size), Relaxed);
        self.shelves.grow(size);
        self.shrink(&mut books, size);
        drop(books);
        self.changed.notify_all();
        self.sleepers.wake_one();
    }

    /// A lease has ended: there is something to replace, at once or when it has been quiet.
    pub fn miss_one(&self) {
        self.last_used.store(clock::now(), SeqCst);
        if self.level.ready() < self.low.load(Relaxed) || !self.waits_for_quiet.swap(true, SeqCst) {
            self.sleepers.wake_one();
        }
    }

    /// Until when a pool that is not low is left as it is.
    pub fn quiet_from(&self) -> u64 {
        match self.last_used.load(SeqCst) {
            // Nobody has used it yet.
            0 => 0,
            last => clock::after(last, self.quiet),
        }
    }

    /// From now on nothing is booted, and what is left is destroyed.
    pub fn begin_to_stop(&self) {
        let mut books = self.books();
        books.stopping = true;
        books.size = 0;
        self.shrink(&mut books, 0);
        drop(books);
        self.changed.notify_all();
        self.watch.ring();
        self.sleepers.wake_all();
    }

    /// The watcher's life.
    pub fn keep_watch(self: &Arc<Self>) {
        loop {
            // Whatever is put in from now on gets too old later than this, so nobody has to wake
            // the watcher for it.
            let latest = clock::after(clock::now(), self.max_age);
            let until = self.shelves.next_expiry().unwrap_or(latest).min(latest);
            let unwell = self.watch.wait(until);
            let mut books = self.books();
            if books.stopping {
                return;
            }
            for entry in unwell.into_iter().filter_map(|tag| self.shelves.take_tagged(tag)) {
                books.dead += 1;
                self.condemn(&mut books, entry);
            }
            // They get too old at the pace at which they were booted, so their successors keep up.
            let now = clock::now();
            for entry in self.shelves.take_expired(now) {
                books.aged += 1;
                self.condemn(&mut books, entry);
            }
            drop(books);
            self.changed.notify_all();
            self.sleepers.wake_one();
        }
    }
}

/// Half of the size, rounded up, so that a pool of one counts as low when it is empty.
fn low_of(size: usize) -> usize {
    size.div_ceil(2)
}

impl<S: Spare> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("level", &self.level).finish_non_exhaustive()
    }
}
