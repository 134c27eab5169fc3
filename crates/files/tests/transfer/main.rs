//! Files carried between the host and a sandbox.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "it is all tests")]

#[path = "../common/mod.rs"]
mod common;

mod archives;
mod far;
mod foreign;
mod kept;
mod links;
mod refused;
mod rules;
mod scene;
