//! Whose a job is.

use std::fs;

use sha2::{Digest, Sha256};

/// What all jobs of ours are called by.
pub const PREFIX: &str = "agentkernel-";

/// Who the caller is: the machine, and the user on it, as nobody else can tell them from it.
pub fn own() -> String {
    let machine = ["/etc/machine-id", "/etc/hostname"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty()));
    let uid = agentkernel_sys::identity::effective().0;
    hash(&format!("agentkernel {uid} {}", machine.unwrap_or_default().trim()))
}

/// This start of the machine.
pub fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    hash(&format!("agentkernel {}", boot.trim()))
}

fn hash(text: &str) -> String {
    Sha256::digest(text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
