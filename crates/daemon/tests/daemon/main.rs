//! The daemon as its clients and its users meet it.
#![cfg(target_os = "linux")]

mod common;
mod house;
mod killed;
