//! A clock for calls that have a time limit.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

/// How often a running module looks whether its time is over.
const TICK: Duration = Duration::from_millis(1);

/// Moves an engine's epoch on, by a thread of its own, while anybody wants that.
#[derive(Debug)]
pub(crate) struct Ticker(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    calls: usize,
    is_over: bool,
}

/// The epoch moves on for as long as this is held.
#[derive(Debug)]
pub(crate) struct Ticking<'a>(&'a Shared);

impl Ticker {
    pub fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (own, engine) = (Arc::clone(&shared), engine.clone());
        thread::Builder::new().name("wasm-ticker".into()).spawn(move || own.tick(&engine))?;
        Ok(Self(shared))
    }

    pub fn watch(&self) -> Ticking<'_> {
        let mut wanted = self.0.lock();
        wanted.calls += 1;
        if wanted.calls == 1 {
            self.0.changed.notify_one();
        }
        Ticking(&self.0)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, engine: &Engine) {
        let mut wanted = self.lock();
        while !wanted.is_over {
            wanted = if wanted.calls == 0 {
                self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner)
            } else {
                engine.increment_epoch();
                let waited = self.changed.wait_timeout(wanted, TICK);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.lock().calls -= 1;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_one();
    }
}
