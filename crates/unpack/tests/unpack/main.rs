//! Layers are unpacked as images mean them, whoever unpacks them, and whatever they try.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;
mod holes;
mod hostile;
mod links;
mod packing;
mod properties;
mod whiteouts;

#[path = "../everyone/mod.rs"]
mod everyone;
