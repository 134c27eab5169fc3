//! Whose a job is.

use agentkernel_core::hex;
use std::fs;

use sha2::{Digest, Sha256};

/// What all jobs of ours are called by.
pub const PREFIX: &str = "agentkernel-";

/// This start of the machine.
pub fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    hex(&Sha256::digest(format!("agentkernel {}", boot.trim()))[..16])
}
