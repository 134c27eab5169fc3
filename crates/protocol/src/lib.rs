//! Frames and messages of the link between an engine and the agent in a place.
//!
//! A link is any ordered stream of bytes. A frame on it is a length (4 bytes, little endian: the
//! bytes that follow), a kind (1 byte) and a body. Frames are at most [`MAX_FRAME`] bytes, so
//! neither side ever holds more than that for the other. Descriptors that belong to a message
//! travel beside its frame where the link can carry them.
//!
//! The agent speaks first, with [`FromAgent::Hello`]. Both sides treat the other as hostile: what
//! does not decode exactly ends the link, and nothing is skipped or guessed.
//!
//! Nothing here does I/O or allocates, so an agent may use it between a fork and an exec.
#![forbid(unsafe_code)]

mod frame;
mod message;

pub use frame::{Decoder, Frame, FrameError, MAX_FRAME};
pub use message::{CommandId, FromAgent, Stage, Status, ToAgent, VERSION};
