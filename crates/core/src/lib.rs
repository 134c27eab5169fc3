//! The words of agentkernel as types, and the traits that backends implement.
//!
//! Nothing here does I/O or knows an engine: a type is what a user asked for, resolved and
//! validated, what came of it, or what there is to be said of it.
#![forbid(unsafe_code)]

mod backend;
mod command;
mod quantity;
mod spec;
mod yardstick;

pub use backend::{
    Backend, BootError, Capabilities, Capability, DestroyError, Launch, Layer, Life, LimitInForce,
    Limited, Owners, Place, Probe, Remains, Remnant, Usage, Wall,
};
pub use command::{Attachment, Command, Ended, Process, Stdio};
pub use quantity::{Bytes, Cpus, ParseQuantityError, parse_duration};
pub use spec::{
    Access, Asked, Image, LimitKind, Limits, Mount, Network, Origin, Profile, RootAccess, Spec,
    User,
};
pub use yardstick::{About, Class, Yardstick, YardstickLife};
