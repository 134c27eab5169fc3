//! Whose a place is, where those of others are, too.

use std::fs;

use agentkernel_core::hex;
use sha2::{Digest, Sha256};

/// Who the caller is: the machine, and the user on it, as nobody else can tell them from it.
pub fn owner() -> String {
    let machine = ["/etc/machine-id", "/etc/hostname"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty()));
    let uid = agentkernel_sys::identity::effective().0;
    hex(&Sha256::digest(format!("agentkernel {uid} {}", machine.unwrap_or_default().trim()))[..16])
}
