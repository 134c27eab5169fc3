//! What a machine is made of, in Firecracker's words (its API's specification, v1.16).

use std::path::{Path, PathBuf};

use agentkernel_containers::Setting;
use agentkernel_firecracker::words::Making;
use serde::{Deserialize, Serialize};

use crate::jail::Kind;

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
    /// Whether its packets are to be carried.
    pub network: bool,
    /// How Firecracker is kept apart.
    pub jail: Kind,
    /// If it is to be one of many that are alike.
    pub golden: Option<Golden>,
}

/// What a machine is a copy of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Golden {
    /// Where it is saved. If it is not yet, it is booted for that.
    pub folder: PathBuf,
    /// And has made its root of this before.
    pub making: Making,
    /// And is ready to begin as one that is set to be this.
    pub setting: Setting,
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
    /// To know later what has been written to since the start, and is worth saving.
    pub track_dirty_pages: bool,
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

/// The state of all of a machine.
#[derive(Debug, Serialize)]
pub struct State {
    pub state: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Save<'a> {
    pub snapshot_type: &'static str,
    pub snapshot_path: &'a Path,
    pub mem_file_path: &'a Path,
}

#[derive(Debug, Serialize)]
pub struct Load<'a> {
    pub snapshot_path: &'a Path,
    pub mem_backend: Memory<'a>,
    pub resume_vm: bool,
}

#[derive(Debug, Serialize)]
pub struct Memory<'a> {
    pub backend_type: &'static str,
    pub backend_path: &'a Path,
}
