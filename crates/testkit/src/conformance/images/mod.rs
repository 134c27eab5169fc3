//! Root file systems: what they are made of, how they are had, and what they are like.

mod built;
mod native;
mod pulled;
mod roots;

use crate::Behaviour;

/// Every behaviour of this part.
pub(super) fn table() -> Vec<Behaviour> {
    [native::TABLE, roots::TABLE, pulled::TABLE, built::TABLE].concat()
}

/// Why what is before a sandbox is tried once.
const OF_ITS_OWN: &str = "how an image is had does not depend on who starts it";
