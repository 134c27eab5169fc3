//! Attempts to get out of a sandbox, by theme. Each is real, and each must fail.
//!
//! Most are made by the probe, a C program that is brought into the sandbox and says what the
//! kernel told it; a test passes only if it says in so many words that all was refused. Where it
//! can be done without harm the same attempt is made outside first and must get through, which
//! shows that the test can fail; where not, a line `without control` says why.

mod attempt;
mod descriptors;
mod exhaustion;
mod files;
mod full_network;
mod identity;
mod image;
mod images;
mod kernel;
mod launcher;
mod mounts;
mod network;
mod probe;
mod processes;
mod scene;
mod terminal;

use crate::Behaviour;

pub use probe::Probe;

/// Every attempt of the suite.
pub fn table() -> Vec<Behaviour> {
    [
        files::TABLE,
        processes::TABLE,
        mounts::TABLE,
        kernel::TABLE,
        descriptors::TABLE,
        terminal::TABLE,
        network::TABLE,
        full_network::TABLE,
        identity::TABLE,
        images::TABLE,
        launcher::TABLE,
        exhaustion::TABLE,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bad_names, bad_promises};

    #[test]
    fn every_name_is_unique_and_in_kebab_case() {
        assert_eq!(bad_names(&table()), [""; 0]);
    }

    #[test]
    fn every_promise_is_a_sentence_without_its_full_stop() {
        assert_eq!(bad_promises(&table()), [""; 0]);
    }
}
