//! What Nomad answers, as far as it matters here (its API, v1.1.2; later ones add to it).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Where Nomad says `null` there is nothing.
fn nothing<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Of a job that was registered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registered {
    #[serde(rename = "EvalID")]
    pub evaluation: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Evaluation {
    pub status: String,
    #[serde(default)]
    pub status_description: String,
    /// By task group.
    #[serde(rename = "FailedTGAllocs", default, deserialize_with = "nothing")]
    pub failed: BTreeMap<String, Metrics>,
    #[serde(default)]
    pub quota_limit_reached: String,
}

/// Why a task group could not be placed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metrics {
    pub nodes_evaluated: u64,
    pub nodes_filtered: u64,
    pub nodes_exhausted: u64,
    #[serde(deserialize_with = "nothing")]
    pub nodes_available: BTreeMap<String, u64>,
    #[serde(deserialize_with = "nothing")]
    pub class_filtered: BTreeMap<String, u64>,
    #[serde(deserialize_with = "nothing")]
    pub constraint_filtered: BTreeMap<String, u64>,
    #[serde(deserialize_with = "nothing")]
    pub class_exhausted: BTreeMap<String, u64>,
    #[serde(deserialize_with = "nothing")]
    pub dimension_exhausted: BTreeMap<String, u64>,
    #[serde(deserialize_with = "nothing")]
    pub quota_exhausted: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Allocation {
    #[serde(rename = "ID")]
    pub id: String,
    pub node_name: String,
    pub desired_status: String,
    #[serde(default)]
    pub desired_description: String,
    pub client_status: String,
    #[serde(default)]
    pub client_description: String,
    #[serde(default, deserialize_with = "nothing")]
    pub task_states: BTreeMap<String, TaskState>,
}

impl Allocation {
    /// Whether nothing of it runs any more, or is to.
    pub fn is_over(&self) -> bool {
        let ended = ["complete", "failed", "lost"].contains(&self.client_status.as_str());
        ended || ["stop", "evict"].contains(&self.desired_status.as_str())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskState {
    pub state: String,
    #[serde(default)]
    pub failed: bool,
    #[serde(default, deserialize_with = "nothing")]
    pub events: Vec<TaskEvent>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskEvent {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(default)]
    pub display_message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    pub name: String,
    pub datacenter: String,
    pub status: String,
    pub scheduling_eligibility: String,
    #[serde(default)]
    pub drain: bool,
    #[serde(default, deserialize_with = "nothing")]
    pub drivers: BTreeMap<String, NodeDriver>,
    #[serde(default)]
    pub node_resources: Option<NodeResources>,
}

impl Node {
    /// Whether it takes allocations.
    pub fn is_ready(&self) -> bool {
        self.status == "ready" && self.scheduling_eligibility == "eligible" && !self.drain
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub struct NodeDriver {
    pub detected: bool,
    pub healthy: bool,
    pub health_description: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeResources {
    pub cpu: NodeCpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeCpu {
    /// In MHz, of all cores.
    pub cpu_shares: u64,
    pub total_cpu_cores: u64,
}

/// A job, as a list has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobStub {
    #[serde(rename = "ID")]
    pub id: String,
}

/// A job, as far as its maker is named in it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobMeta {
    #[serde(default, deserialize_with = "nothing")]
    pub meta: BTreeMap<String, String>,
}

/// A frame of an exec's output.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Frame {
    pub stdout: Option<Piece>,
    pub stderr: Option<Piece>,
    pub exited: bool,
    pub result: Option<ExecResult>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Piece {
    /// In base64.
    #[serde(deserialize_with = "nothing")]
    pub data: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExecResult {
    pub exit_code: i32,
}
