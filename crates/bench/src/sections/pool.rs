//! A pool that is kept for a measurement.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::result::{Case, POOL, Section};
use crate::world::World;

/// How long a pool may take until it is full.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is asked how full it is, at first: it can't be waited for from outside. Asking takes
/// a process, and those who fill it need the processors.
const PACE: Duration = Duration::from_millis(2);
const SLOWEST_PACE: Duration = Duration::from_millis(50);

/// A daemon with one pool. Dropping it ends both.
pub struct Filled<'w> {
    world: &'w World,
    size: u64,
    /// How long filling it took.
    pub filling: Duration,
}

impl<'w> Filled<'w> {
    pub fn start(world: &'w World, backend: &str, size: u64) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        world.must(&["daemon", "start", "-b"]).map_err(text)?;
        let mut pool = Self { world, size, filling: Duration::ZERO };
        let start = Instant::now();
        world.must(&["pool", "set", "bench", &size.to_string(), "-B", backend]).map_err(text)?;
        pool.await_full()?;
        pool.filling = start.elapsed();
        Ok(pool)
    }

    /// How many runs it takes until it is low, and refilled beside what is measured.
    pub fn batch(&self) -> u64 {
        (self.size / 4).max(1)
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Waits until it is as full as it is to be.
    #[expect(clippy::disallowed_methods, reason = "nobody outside hears when a pool is full")]
    pub fn await_full(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let status = self.status()?;
            if status["ready"].as_u64() >= Some(self.size) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("the pool does not fill: {status}"));
            }
            thread::sleep((start.elapsed() / 20).clamp(PACE, SLOWEST_PACE));
        }
    }

    /// How many it has handed out so far.
    pub fn handed_out(&self) -> Result<u64, String> {
        Ok(self.status()?["handed_out"].as_u64().unwrap_or(0))
    }

    /// What one of its sandboxes takes to be made ready.
    pub fn refill(&self, backend: &str) -> Case {
        let each = self.filling.as_nanos() as f64 / self.size as f64;
        Case {
            attempts: self.size,
            values: [("refill".to_owned(), each)].into(),
            ..Case::ours(Section::Refill, backend, POOL)
        }
    }

    fn status(&self) -> Result<Value, String> {
        let mut all =
            self.world.ask(&["pool", "ls", "--json"]).map_err(|error| error.to_string())?;
        Ok(all["pools"][0].take())
    }
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        // What is left of them ends with the world.
        let _ = self.world.must(&["pool", "rm", "bench"]);
        let _ = self.world.must(&["daemon", "stop"]);
    }
}
