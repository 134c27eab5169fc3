//! The daemon as its clients and its users meet it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that fails ends by a panic")]

mod agent;
mod bench;
mod clients;
mod common;
mod house;
mod killed;
mod leases;
mod troubles;
