//! What a booter has its bridge do: words in place of a far place's name.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a bridge is to do before there is a stream.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Order {
    /// The pod, as it is to be made.
    pub pod: Value,
    pub name: String,
    pub owner: String,
    /// What its agent wants to hear.
    pub key: [u8; 16],
    /// Which holder of it is the caller, if it is kept.
    pub holder: Option<String>,
    /// The digest of the shared pools out of which one may be claimed instead.
    pub pool: Option<String>,
    /// For how many seconds a claimed one may live.
    pub lifetime: i64,
    /// Whether it was made before, and has the sandbox's files.
    pub made: bool,
    /// Whether it outlasts its stream.
    pub kept: bool,
    /// Whether a policy is to keep all traffic from it.
    pub closed: bool,
}
