//! Root images of what layers hold, as a guest's kernel sees them.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod archive;
mod everyone;
mod extremes;
mod layers;
mod makers;
mod mounted;
mod random;
mod room;
mod seen;
mod store;
