//! What pods are called.

use std::fs;
use std::io;

/// The file in a sandbox's folder that says that it has a pod, and what its agent wants to hear.
pub const KEY_FILE: &str = "pod";

/// The pod of the sandbox `name`.
pub fn kept(name: &str) -> String {
    format!("agentkernel-{}", name.to_ascii_lowercase())
}

/// The sandbox whose pod this is.
pub fn sandbox(pod: &str) -> Option<&str> {
    pod.strip_prefix("agentkernel-")
}

/// A name that no other pod has.
pub fn made_up() -> io::Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(format!("agentkernel-{}", uuid.trim()))
}
