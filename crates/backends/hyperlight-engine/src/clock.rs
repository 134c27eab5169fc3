//! The clocks that a module can ask for.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds by WASI's number of the clock: the time of day, or what has passed since whenever.
pub(crate) fn now(clock: u32) -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let time = match clock {
        0 => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        _ => BEGIN.get_or_init(Instant::now).elapsed(),
    };
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
