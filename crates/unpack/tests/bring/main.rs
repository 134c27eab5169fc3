//! Images are brought into the store whole or not at all, whatever a source says.
#![cfg(all(test, target_os = "linux"))]

mod choice;
mod memory;
mod store;
