//! Many links to a place's agent, with their descriptors, over one stream of bytes.
//!
//! An agent serves links: local sockets that carry frames, and descriptors beside them. Into a
//! remote engine's container, or a cluster's, leads only one stream of bytes: the standard input and
//! output of an exec that is held open. This room puts a proxy at each end of it, so that neither
//! those who use a link nor the agent has to know. [`Outer`] is where the clients are, and stands
//! for the agent: they connect to its socket, and say what they would say to the agent's. [`Inner`]
//! runs beside the agent, and is a client of it for each client outside.
//!
//! # How a byte travels
//!
//! 1. **A client comes.** The outer side gives the link a number and says `Open`; the inner side
//!    connects to the agent's socket. The agent's hello comes back as a `Word`, and goes to the
//!    client. That costs one round trip, and a start another one; so where clients come by a socket
//!    the next one's link is opened as soon as one leaves, and waits at the hello. It is heard by the
//!    client that comes, with the time that has passed meanwhile added to its own.
//! 2. **An order** is decoded by the outer side only to learn what comes along with it, and is sent
//!    on as it was (`Orders`). The descriptors stay outside. For a `Start` with streams three
//!    *channels* are numbered, and the inner side is told of them (`Streams`): it makes pipes, whose
//!    ends go to the agent beside the order's first byte, as the client's own would have.
//!    Output and errors that go to the same pipe share a channel, so that their order is kept.
//!    The streams of a `Carry` go the same way: to the proxies it is a command in the foreground.
//! 3. **Input** is read from the client's descriptor, sent as `Data`, and written into the
//!    command's pipe. **Output** goes the other way. A message of data is read straight into what
//!    waits to be sent, and written straight out of what has arrived, so that each side copies a
//!    byte only where somebody is slow.
//! 4. **Ends.** The end of a source is told (`End`), and closes the descriptor at the other end once
//!    all before it is delivered. That nobody takes a sink's data any more is told too (`Broken`),
//!    and closes the source's: so a command that writes to nobody gets its SIGPIPE, and whoever
//!    writes to a command that does not read gets his.
//! 5. **A terminal** is one channel both ways. The command has the real one, inside. The client is
//!    given the controlling side of another, made outside, whose own side passes all bytes on as
//!    they are: echo, line editing and signals are the inner terminal's. A size that the client sets
//!    is noticed by a process that leads a session on the outer terminal (`outer::size`), and sent
//!    as `Size`.
//! 6. **A command ends.** What is in its pipes then is sent at once, and the word of its end says
//!    how many bytes of each output come before it. The outer side holds the word until they are in
//!    the client's descriptors. So whoever hears of an end finds all output there, as on a link of
//!    his own; and it may take as long as he takes to read. A place that ends with its command may
//!    be gone by then: all that matters is outside.
//! 7. **A link ends** by `Close`, from either side. When the client has gone, all that it had said
//!    is passed on before that. When the stream ends all links do, but for those with an end to
//!    tell, which [`Outer::serve`] hands back as [`Rest`].
//!
//! # Limits
//!
//! - Of each direction of each channel at most 256 KiB are under way, sent and not taken yet. Who
//!   does not read holds up nobody else, and one channel carries no more than that in a round trip.
//!   At a command's end the inner side may send 1 MiB more, which is all that a pipe can hold.
//! - Of an agent's words 64 KiB are under way on a link, of a client's orders 256 KiB, of which the
//!   outer side holds one frame more. It serves 256 clients at once, as an agent does.
//! - What waits to be sent over the stream is at most 256 KiB, and a message or two; nothing is read
//!   that would add to it.
//!
//! # Who is trusted
//!
//! The inner side is in the place, and may be hostile. What does not decode, exceeds its limits or
//! is out of order ends the stream, and whoever speaks of what is not there is not heard. It
//! reaches a link's descriptors by that link's number only, in the direction that they were given
//! for, and can make the outer side hold no more than the above for each channel that a client has
//! asked for. The outer side checks, and forwards, only words that the protocol knows.
//!
//! # What is refused
//!
//! By `EOPNOTSUPP`, as a `Failed` or `NotStarted` of the order: the root directory, the user
//! namespace and attached trees, which can't be handed over a stream, and background commands,
//! whose logs are files. (To keep those outside, somebody would have to be there as long as they
//! run; a stream may drop before. A log that the agent keeps inside and hands out in pieces needs an
//! order of its own.) A terminal that nobody asked for ends its link.
//!
//! # What is deliberately not done
//!
//! - Input is read ahead of the command, as by every relay: what it leaves unread is lost to whoever
//!   reads the same pipe next.
//! - A process that outlives its command and its client writes to nobody: its output ends with the
//!   link, as on a link of its own it would not.
//! - Nothing is sent to find out whether the other end is still there; the transport has to notice.
//!   Nor is a stream that was cut taken up again: what ran in the foreground is killed, as when a
//!   client goes.
//! - Both sides must ignore SIGPIPE, as every Rust program does.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod channel;
mod error;
mod handle;
mod inner;
mod message;
mod outer;
mod stream;
mod watch;

pub use error::MuxError;
pub use inner::Inner;
pub use outer::{Outer, Rest, SizeWatch};
