//! What can't be had, in the words of the edge.

use std::io;

use agentkernel_core::BootError;

pub fn failed(what: &str, source: io::Error) -> BootError {
    BootError::Failed { what: what.into(), source }
}
