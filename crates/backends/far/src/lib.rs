//! Far places: those that only one stream of bytes leads into, because they are on another machine,
//! or behind an engine that shares neither files nor sockets with this one.
//!
//! Somebody has to be at this end of the stream for as long as the place lives, and neither the
//! booter of a sandbox that lives nor its clients are. So there is a process for each far place, its
//! **bridge**. It is to others what the place's process 1 is elsewhere: clients connect to the
//! socket that it listens on, a place is ended by its death, and it ends when the place has.
//!
//! This room knows no engine. What it takes is a [`Stream`]: descriptors for what goes into the
//! place and what comes out, such as the pipes of a child process that is attached to it.
//!
//! # How a backend uses it
//!
//! - **Boot**: [`Bridge::start`] starts a program that calls [`carry`] with a way to open streams, and
//!   [`Bridge::copy`] has a copy of the booter do so. A bridge may be started before there is a place,
//!   since that takes a while.
//! - [`Bridge::open`] opens the stream into a place, which may not run yet. What is to be said
//!   before links are, such as a greeting, the booter says on what it gets, with [`word`]s.
//! - [`Bridge::serve`] returns the place's link. From then on the stream is the bridge's alone, and
//!   carries links (`agentkernel_mux`).
//! - **Ends**: until it is [released](Bridge::release) the place ends with its booter, whatever kills
//!   that. [`Bridge::end`] ends it, and tells its last words. [`FarPlace`] is all of that as a backend
//!   hands it out. A bridge may go on for a while to clear away what is left of its place; whoever lives
//!   on itself need not wait for that ([`wait_for_none`]).
//!
//! In the place, process 1 serves the stream's other end: `agentkernel_mux::Inner::beside`.
//!
//! # Last words
//!
//! What a place says on its standard error, if the stream has one, is kept to its end, in short. Its
//! agent says there why it can't serve, or in a line each how it has ended ([`LastWords`]).
//!
//! # Where they are
//!
//! What variables say of an engine, the user's settings file may say, too: [`Configured`].
//!
//! # What is cut
//!
//! A stream that was cut is not taken up again by this room: what ran may go on for a moment, unseen, and
//! is ended by the agent, who sees the end of the stream, too. A backend whose streams are cut easily has
//! them carry a [`session`], which goes on over the next one.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod bridge;
mod carry;
mod configured;
mod key_file;
mod last;
mod leaving;
mod owner;
pub mod packets;
mod place;
pub mod session;
mod why;
pub mod word;

pub use bridge::{Bridge, FarError, end};
pub use carry::{Stream, carry, carry_noted};
pub use configured::Configured;
pub use key_file::{KeyFile, of_hex, random};
pub use last::{ADOPTED, LastWords};
pub use leaving::{await_beside, wait_for_none};
pub use owner::{owner, user_here};
pub use place::{FarPlace, Told};
pub use why::{told, understood};
