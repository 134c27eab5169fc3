//! What a machine is made of, in Firecracker's words (its API's specification, v1.16).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All that a machine is made of, for the process that starts it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Firecracker's own program.
    pub program: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub processors: u32,
    /// In MiB.
    pub memory: u64,
    /// In the order in which the machine's kernel numbers them.
    pub disks: Vec<Disk>,
}

/// A disk of a machine's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disk {
    pub path: PathBuf,
    pub read_only: bool,
}

#[derive(Debug, Serialize)]
pub struct MachineConfiguration {
    pub vcpu_count: u32,
    pub mem_size_mib: u64,
}

#[derive(Debug, Serialize)]
pub struct BootSource<'a> {
    pub kernel_image_path: &'a PathBuf,
    pub initrd_path: &'a PathBuf,
    pub boot_args: &'a str,
}

#[derive(Debug, Serialize)]
pub struct Drive<'a> {
    pub drive_id: &'a str,
    pub path_on_host: &'a PathBuf,
    pub is_root_device: bool,
    pub is_read_only: bool,
}

#[derive(Debug, Serialize)]
pub struct Vsock<'a> {
    pub guest_cid: u32,
    pub uds_path: &'a str,
}

#[derive(Debug, Serialize)]
pub struct Entropy {}

#[derive(Debug, Serialize)]
pub struct Action {
    pub action_type: &'static str,
}
