//! Why a stream has come to its end.

use std::io;

use crate::message::{MessageError, VERSION};

/// Why a stream is of no more use, other than that it has ended.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    #[error("can't use the stream to the sandbox: {0}")]
    Stream(io::Error),
    #[error("can't wait for the stream to the sandbox: {0}")]
    Poll(io::Error),
    #[error("the other end of the stream is of version {0}, and this agentkernel of {VERSION}")]
    Version(u16),
    #[error("the other end of the stream spoke nonsense: {0}")]
    Message(#[from] MessageError),
    #[error("the other end of the stream broke its rules: {0}")]
    Rules(&'static str),
}
