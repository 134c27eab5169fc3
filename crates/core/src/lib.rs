//! The words of agentkernel as types, and the traits that backends implement.
//!
//! Nothing here does I/O or knows an engine: a type is what a user asked for, resolved and
//! validated, what came of it, or what there is to be said of it.
#![forbid(unsafe_code)]

mod backend;
mod command;
mod hex;
mod identity;
mod in_image;
mod port;
mod process;
mod provision;
mod quantity;
mod reference;
mod registries;
mod spec;
mod yardstick;

pub use backend::{
    Adopt, Backend, BootError, Capabilities, Capability, DestroyError, Elsewhere, Launch, Layer,
    Life, LimitInForce, Limited, Owners, Pinned, Place, Pristine, Probe, Remains, Remnant, Shared,
    SharedPool, Usage, Wall, undriven,
};
pub use command::{Attachment, Command, Ended, ImageFacts, Process, Stdio};
pub use hex::hex;
pub use identity::{Identity, NUMBERS, check_caller, no_user};
pub use in_image::{identity as identity_in_image, process as process_in_image};
pub use port::{Port, Transport};
pub use process::c_string;
pub use provision::{News, Progress, Provision, listen, tell};
pub use quantity::{Bytes, Cpus, ParseQuantityError, parse_duration};
pub use reference::Reference;
pub use registries::{Registries, RegistrySettings, check_registry, mirrored};
pub use spec::{
    Access, Asked, Image, LimitKind, Limits, Module, Mount, Network, Origin, Profile, Pull,
    RootAccess, Spec, User,
};
pub use yardstick::{About, Class, Yardstick, YardstickLife};
