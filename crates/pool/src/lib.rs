//! Places booted ahead of time: the one pool of every backend.
//!
//! A [`Spare`] is a booted place that has run nothing. A [`Pool`] keeps so many of them ready, and
//! [`Pool::acquire`] hands one out as a [`Lease`]: to one owner, once. What was handed out never
//! comes back.
//!
//! Three kinds of threads meet here:
//!
//! - those who **acquire**. They take no lock, wait for nobody and, as long as the pool is more
//!   than half full, make no system call;
//! - the **hands**, as many as may boot at the same time. They boot what is missing and destroy
//!   what was taken out, and sleep while there is nothing to do;
//! - the **watcher**, one. It takes out at once what is no longer well and, in time, what is too
//!   old.
//!
//! The last two, and whoever resizes or stops the pool, share the books, under a lock that is held
//! for a moment only: never while something is booted or destroyed.
//!
//! The pool knows no backend, no spec and no store. Who needs pools by name or by spec keeps a map
//! of them.
#![forbid(unsafe_code)]

mod backoff;
mod books;
mod clock;
mod hands;
mod lane;
mod lease;
mod level;
mod pool;
mod settings;
mod shared;
mod shelves;
mod sleepers;
mod spare;
mod watch;

pub use lease::Lease;
pub use pool::{Pool, Status};
pub use settings::{MAX_AT_ONCE, MAX_SIZE, PoolError, Settings};
pub use spare::Spare;
