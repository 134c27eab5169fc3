//! What a booter has its bridge do, and what comes of it: words in place of a far place's name.

use std::io;

use agentkernel_core::BootError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a bridge is to do before there is a stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The pod, as it is to be made.
    pub pod: Value,
    pub name: String,
    pub owner: String,
    /// What its agent wants to hear.
    pub key: [u8; 16],
    /// Whether it was made before, and has the sandbox's files.
    pub made: bool,
    /// Whether it outlasts its stream.
    pub kept: bool,
    /// Whether a policy is to keep all traffic from it.
    pub closed: bool,
}

/// Why it could not be, as a boot's error crosses from one process to another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    Unavailable { why: String, fix: String },
    Refused { why: String, fix: String },
    Failed { what: String, why: String },
}

impl From<BootError> for Obstacle {
    fn from(error: BootError) -> Self {
        match error {
            BootError::Unavailable { why, fix } => Self::Unavailable { why, fix },
            BootError::Refused { why, fix } => Self::Refused { why, fix },
            BootError::Failed { what, source } => Self::Failed { what, why: source.to_string() },
        }
    }
}

impl From<Obstacle> for BootError {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Unavailable { why, fix } => Self::Unavailable { why, fix },
            Obstacle::Refused { why, fix } => Self::Refused { why, fix },
            Obstacle::Failed { what, why } => Self::Failed { what, source: io::Error::other(why) },
        }
    }
}

/// An error as a bridge says it, and back.
pub fn told(error: BootError) -> String {
    let obstacle = Obstacle::from(error);
    serde_json::to_string(&obstacle).unwrap_or_else(|error| error.to_string())
}

pub fn understood(text: &str) -> BootError {
    serde_json::from_str::<Obstacle>(text).map_or_else(
        |_| BootError::Failed {
            what: "can't reach into the pod".into(),
            source: io::Error::other(text.to_owned()),
        },
        BootError::from,
    )
}
