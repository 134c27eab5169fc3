//! Images are brought into the store whole or not at all, whatever a source says.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod broken;
mod choice;
mod compare;
mod import;
mod memory;
mod modules;
mod store;

#[path = "../everyone/mod.rs"]
mod everyone;
