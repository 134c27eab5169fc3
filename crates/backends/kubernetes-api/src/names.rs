//! What pods are called, and what their agents want to hear.

use std::fs;
use std::io;

use agentkernel_sys::machine;

/// The file in a sandbox's folder that says that it has a pod.
pub const NOTE: &str = "pod";

/// The pod of the sandbox `name`.
pub fn kept(name: &str) -> String {
    format!("agentkernel-{}", name.to_ascii_lowercase())
}

/// A name that no other pod has.
pub fn made_up() -> io::Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(format!("agentkernel-{}", uuid.trim()))
}

/// What nobody can guess.
pub fn random() -> io::Result<[u8; 16]> {
    let mut random = [0; 16];
    machine::random(&mut random)?;
    Ok(random)
}

/// Such, of its [digits](agentkernel_core::hex).
pub fn from_hex(text: &str) -> Option<[u8; 16]> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(u128::to_be_bytes)
}
