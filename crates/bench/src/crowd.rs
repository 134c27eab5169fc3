//! Many attempts, some of them at the same time.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Stopwatch;

/// What came of the attempts, by their numbers, and how long all of them took together.
pub type Over<T> = (BTreeMap<u64, Result<T, String>>, Duration);

/// Makes `count` attempts, of which so many go on at the same time. Each is told its number.
///
/// When `stop` says so none begins any more, those that go on are made to their end, and one that
/// fails then does not count. `progress` is told how many are over; both are called by the calling
/// thread only, after each attempt.
///
/// # Errors
///
/// More at once than this process may have files open for.
pub fn crowd<T: Send>(
    count: u64,
    at_once: u64,
    progress: &dyn Fn(u64),
    stop: &dyn Fn() -> bool,
    attempt: &(dyn Fn(&mut Stopwatch, u64) -> Result<T, String> + Sync),
) -> io::Result<Over<T>> {
    let stopwatches = Stopwatch::many(at_once.min(count))?;
    let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let all = thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for mut stopwatch in stopwatches {
            let (sender, next, stopped) = (sender.clone(), &next, &stopped);
            scope.spawn(move || {
                while !stopped.load(Relaxed) {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= count {
                        break;
                    }
                    // Whoever collects them stays until all senders have gone.
                    let _ = sender.send((number, attempt(&mut stopwatch, number)));
                }
            });
        }
        drop(sender);
        let mut all = BTreeMap::new();
        for (number, outcome) in receiver {
            if !stopped.load(Relaxed) && stop() {
                stopped.store(true, Relaxed);
            }
            // What stops us may have hit those that went on.
            if outcome.is_ok() || !stopped.load(Relaxed) {
                all.insert(number, outcome);
                progress(all.len() as u64);
            }
        }
        all
    });
    Ok((all, start.elapsed()))
}
