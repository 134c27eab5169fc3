//! Ends calls whose time is over.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hyperlight_host::hypervisor::InterruptHandle;

use crate::machine::lock;

/// A thread that interrupts micro-VMs.
#[derive(Debug)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Watched {
    /// By when they are over, and by a number that nobody else has.
    calls: BTreeMap<(Instant, u64), Arc<dyn InterruptHandle>>,
    next: u64,
    is_over: bool,
}

/// A call that is watched for as long as this is held.
pub(super) struct Call<'a>(&'a Shared, (Instant, u64));

impl Watch {
    pub fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        thread::Builder::new().name("micro-vm-watch".into()).spawn(move || own.watch())?;
        Ok(Self(shared))
    }

    pub fn over(&self, limit: Duration, handle: Arc<dyn InterruptHandle>) -> Call<'_> {
        let mut watched = lock(&self.0.watched);
        let key = (Instant::now() + limit, watched.next);
        watched.next += 1;
        watched.calls.insert(key, handle);
        let is_first = watched.calls.keys().next() == Some(&key);
        drop(watched);
        if is_first {
            self.0.changed.notify_one();
        }
        Call(&self.0, key)
    }
}

impl Shared {
    fn watch(&self) {
        /// How soon a call is interrupted again, which was just not running in the guest.
        const AGAIN: Duration = Duration::from_millis(1);
        let mut watched = lock(&self.watched);
        while !watched.is_over {
            let now = Instant::now();
            let over = watched.calls.range(..=(now, u64::MAX));
            // Under the lock, so that none of them can end meanwhile and its micro-VM serve another.
            let is_any_over = over.fold(false, |_, (_, handle)| {
                handle.kill();
                true
            });
            let next = watched.calls.keys().find(|(when, _)| *when > now);
            let next = next.map(|(when, _)| *when - now);
            let pause = if is_any_over { Some(AGAIN) } else { next };
            watched = match pause {
                Some(pause) => {
                    let waited = self.changed.wait_timeout(watched, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        lock(&self.0.watched).calls.remove(&self.1);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.0.watched).is_over = true;
        self.0.changed.notify_one();
    }
}
