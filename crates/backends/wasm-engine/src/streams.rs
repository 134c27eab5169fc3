//! A module's standard streams.

mod kept;
mod passed;

pub(crate) use kept::{Given, Kept};
pub use passed::{Input, Sink};
