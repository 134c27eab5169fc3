//! A sandbox as it is written down where others may find it, who have no record of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::VERSION;
use crate::{SpecRecord, SpecRecordError};

/// What a sandbox is. Of another version of agentkernel nobody knows what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryRecord {
    /// Of the agentkernel that has written it.
    pub version: String,
    pub name: String,
    /// As in RFC 3339.
    pub created: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Milliseconds.
    pub ttl: Option<u64>,
    pub idle: Option<u64>,
    /// Without variables, which may be secrets, and whoever finds a story reads it.
    pub spec: SpecRecord,
    /// The names of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaid: Vec<String>,
}

/// Why a story is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoryError {
    /// It is of this one.
    Version(String),
    Damaged(String),
}

impl StoryRecord {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // As with a spec.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What is written there, if it is of the `version` that can read it.
    pub fn from_json(text: &str, version: &str) -> Result<Self, StoryError> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let damaged = |error: serde_json::Error| StoryError::Damaged(error.to_string());
        let own: Version = serde_json::from_str(text).map_err(damaged)?;
        match own.version == version {
            true => serde_json::from_str(text).map_err(damaged),
            false => Err(StoryError::Version(own.version)),
        }
    }
}

impl From<SpecRecordError> for StoryError {
    fn from(error: SpecRecordError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The sandboxes that can be adopted, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdoptableReport {
    version: u32,
    sandboxes: Vec<AdoptableEntry>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdoptableEntry {
    /// `null` if it can't be known.
    pub name: Option<String>,
    pub id: String,
    pub image: Option<String>,
    pub created: Option<String>,
    /// Who has it.
    pub holder: String,
    /// Why it can't be adopted, if so.
    pub refused: Option<String>,
}

impl AdoptableReport {
    pub fn new(sandboxes: Vec<AdoptableEntry>) -> Self {
        Self { version: VERSION, sandboxes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = r#"{"version":"1","name":"web","created":"2026-11-30T10:00:00Z","ttl":5,"idle":null,"spec":{"profile":"moderate","image":{"reference":"debian"},"network":"none","read_only_root":false,"mounts":[],"directory":null,"user":"unprivileged","environment":[],"cpus":null,"memory":null,"pids":null,"disk":null,"strict":false}}"#;

    #[test]
    fn a_story_comes_back_in_the_version_that_has_told_it() {
        let story = StoryRecord::from_json(STORY, "1").unwrap();
        assert_eq!((story.name.as_str(), story.ttl), ("web", Some(5)));
        assert_eq!(story.to_json(), STORY);
        assert_eq!(StoryRecord::from_json(STORY, "2"), Err(StoryError::Version("1".into())));
        let damaged = STORY.replace("moderate", "lax");
        assert!(matches!(StoryRecord::from_json(&damaged, "1"), Err(StoryError::Damaged(_))));
        assert!(matches!(StoryRecord::from_json("{}", "1"), Err(StoryError::Damaged(_))));
    }
}
