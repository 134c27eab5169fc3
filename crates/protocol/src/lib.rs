//! Frames and messages of the link between an engine and the agent in a place.
//!
//! A link is any ordered stream of bytes. A frame on it is a length (4 bytes, little endian: the
//! bytes that follow), a kind (1 byte) and a body. What an agent says is at most [`MAX_FRAME`] bytes,
//! what it hears at most [`MAX_LONG_FRAME`], so neither side ever holds more than that for the
//! other. Descriptors that belong to a message travel beside its frame where the link can carry
//! them, the first of them with its first byte.
//!
//! The agent speaks first, with [`FromAgent::Hello`]. Both sides treat the other as hostile: what
//! does not decode exactly ends the link, and nothing is skipped or guessed.
//!
//! Nothing here does I/O. But for the long frames nothing allocates either, so the agent of a single
//! command may use it between a fork and an exec.
#![forbid(unsafe_code)]

mod body;
mod frame;
mod log;
mod message;
mod order;

pub use frame::{Decoder, Frame, FrameError, LongDecoder, MAX_FRAME, MAX_LONG_FRAME};
pub use log::{END_FILE, Ending, LOG_FILE, MAX_RECORD, RECORD_HEADER, RecordHeader, RecordKind};
pub use message::{CommandId, FromAgent, Stage, Status, VERSION};
pub use order::{Carry, Role, Start, ToAgent, Way};
