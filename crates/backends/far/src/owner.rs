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

/// The same for people: their name and the machine's.
pub fn user_here() -> String {
    let uid = agentkernel_sys::identity::effective().0.to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_own = |line: &&str| line.split(':').nth(2) == Some(&uid);
    let name = users.lines().find(is_own).and_then(|line| line.split(':').next());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{}", name.unwrap_or(&uid), host.trim())
}
