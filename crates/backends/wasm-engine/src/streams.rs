//! A module's standard streams.

mod kept;
mod passed;

pub(crate) use kept::Given;
pub use kept::Kept;
pub use passed::{Input, Sink};
