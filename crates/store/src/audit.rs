//! What was done, by whom, and how it ended: one line of JSON for each, in a file that only grows.
//!
//! Each line holds the hash of the line before it and its own, so whoever changes, removes, adds or
//! reorders lines must write anew all that follow, or [`verify`] tells. What a chain alone can't
//! tell: that lines were cut off at the very end, or that all was written anew. Who needs that
//! keeps the last hash somewhere else.
//!
//! A line is `{"seq":N,"time":T,"kind":K,"who":W,...,"prev":P,"hash":H}`. `seq` counts from 1, `time`
//! is UTC as in RFC 3339, P is the H of the line before (64 zeros in the first one), and H is the
//! SHA-256 of the line as it is without `,"hash":H`, in hexadecimal.

mod append;
mod entry;
mod error;
mod follow;
mod line;
mod read;
mod verify;

pub use append::Audit;
pub use entry::{Entry, Kind, Logged, Subject, Who, digest, words};
pub use error::AuditError;
pub use follow::{Follow, follow};
pub use read::{Entries, Filter, read};
pub use verify::{Verdict, verify};
