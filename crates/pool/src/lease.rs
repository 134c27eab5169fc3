//! What whoever acquires gets.

use std::sync::Arc;

use crate::shared::Shared;
use crate::spare::Spare;

/// A spare in the pool, or on its way out of it.
#[derive(Debug)]
pub struct Entry<S: Spare> {
    spare: S,
    /// Brought along from the start, so that nobody has to count references when acquiring.
    home: Arc<Shared<S>>,
}

impl<S: Spare> Entry<S> {
    pub fn new(spare: S, home: Arc<Shared<S>>) -> Self {
        Self { spare, home }
    }

    pub fn spare(&self) -> &S {
        &self.spare
    }

    pub fn unwatch(&self) {
        self.home.watch.forget(self.spare.as_fd());
    }

    /// Has the pool forget it.
    pub fn release(self) -> S {
        self.unwatch();
        self.spare
    }
}

/// A spare that belongs to its owner alone, to be used once: it never goes back.
///
/// A lease that is dropped destroys the spare, on the thread that drops it.
#[derive(Debug)]
pub struct Lease<S: Spare> {
    /// There until the lease ends.
    entry: Option<Entry<S>>,
}

impl<S: Spare> Lease<S> {
    pub(crate) fn new(entry: Entry<S>) -> Self {
        Self { entry: Some(entry) }
    }

    /// The spare. For what is urgent: it can be used before [`into_inner`](Self::into_inner) makes
    /// its system calls, and before the pool stops [watching](Self::unwatch) it.
    pub fn spare(&self) -> &S {
        match &self.entry {
            Some(entry) => entry.spare(),
            None => unreachable!("only into_inner and drop take it, and both end the lease"),
        }
    }

    /// Has the pool stop watching the spare, so that what it says from now on wakes only its owner.
    pub fn unwatch(&self) {
        if let Some(entry) = &self.entry {
            entry.unwatch();
        }
    }

    /// Hands the spare over. The pool stops watching it, which is a system call, and replaces it
    /// when it is low or has been quiet, for which it may have to wake a thread.
    pub fn into_inner(mut self) -> S {
        match self.end() {
            Some(spare) => spare,
            None => unreachable!("only into_inner and drop take it, and both end the lease"),
        }
    }

    fn end(&mut self) -> Option<S> {
        let entry = self.entry.take()?;
        entry.home.miss_one();
        Some(entry.release())
    }
}

impl<S: Spare> Drop for Lease<S> {
    fn drop(&mut self) {
        if let Some(spare) = self.end() {
            spare.destroy();
        }
    }
}
