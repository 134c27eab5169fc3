//! Many attempts at the same time.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use crate::control::Control;
use crate::process::Stopwatch;
use crate::result::Case;
use crate::turns::{Found, found};

/// Runs a command `count` times, `at_once` of them at the same time, and adds what came of it to
/// the case. It may end early.
pub fn load(
    case: &mut Case,
    count: u64,
    at_once: u64,
    output: &str,
    control: &Control,
    command: &(dyn Fn() -> Command + Sync),
) {
    let next = AtomicU64::new(0);
    let life = || {
        let mut outcomes = Vec::new();
        let mut watch = Stopwatch::new().map_err(|error| format!("can't make a file: {error}"));
        while !control.is_stopped() {
            let number = next.fetch_add(1, Relaxed);
            if number >= count {
                break;
            }
            let timed = match &mut watch {
                Ok(watch) => watch.time(&mut command(), Some(output)).map(found),
                Err(why) => Err(why.clone()),
            };
            outcomes.push((number, timed));
            control.advance();
        }
        outcomes
    };
    let start = Instant::now();
    let mut outcomes: Vec<(u64, Result<Found, String>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once.min(count)).map(|_| scope.spawn(life)).collect();
        // A thread that panics has said so; what it had is missing, which shows.
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    case.wall_ns += start.elapsed().as_nanos() as u64;
    case.at_once = at_once;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().for_each(|(_, outcome)| case.add(outcome));
}
