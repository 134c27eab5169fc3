//! What pods are called, and whose they are.

use std::fs;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

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
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random)
}

/// Such, as text, and back.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(text: &str) -> Option<[u8; 16]> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(u128::to_be_bytes)
}

/// Who makes pods: this user on this machine, without telling who that is.
pub fn owner() -> String {
    let machine =
        fs::read_to_string("/etc/machine-id").or_else(|_| fs::read_to_string("/etc/hostname"));
    let uid = rustix::process::geteuid().as_raw();
    let digest =
        Sha256::digest(format!("agentkernel {} {uid}", machine.unwrap_or_default().trim()));
    hex(&digest[..10])
}
