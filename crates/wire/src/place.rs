//! What is known of a booted place, as it is kept and sent.

use std::borrow::Cow;
use std::path::PathBuf;

use agentkernel_core::{ImageFacts, LimitInForce, LimitKind, Limited, Place, Port, Wall};
use serde::{Deserialize, Serialize};

use crate::PortRecord;

/// A place's walls, limits, notes, ports and control groups, and what its image says of commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    walls: Vec<WallRecord>,
    limits: Vec<LimitRecord>,
    pub notes: Vec<String>,
    /// Whose paths are UTF-8.
    pub groups: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortRecord>,
    #[serde(default, skip_serializing_if = "says_nothing", with = "ImageRecord")]
    image: ImageFacts,
}

fn says_nothing(image: &ImageFacts) -> bool {
    *image == ImageFacts::default()
}

/// How [`ImageFacts`] are written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ImageFacts")]
struct ImageRecord {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entrypoint: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
    environment: Vec<String>,
    directory: Option<PathBuf>,
    user: Option<String>,
    passwd: String,
    group: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hosts_users: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    only_caller: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WallRecord {
    name: Cow<'static, str>,
    missing: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LimitRecord {
    kind: KindRecord,
    value: u64,
    by: ByRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindRecord {
    Cpus,
    Memory,
    Pids,
    Disk,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ByRecord {
    Exactly(Cow<'static, str>),
    Nearly { means: Cow<'static, str>, why: String },
    Nowise { why: String },
}

impl PlaceRecord {
    pub fn of(place: &dyn Place) -> Self {
        Self {
            groups: place.groups(),
            ports: place.ports().iter().map(PortRecord::from).collect(),
            image: place.image(),
            ..Self::new(place.walls(), place.limits(), place.notes())
        }
    }

    fn new(walls: &[Wall], limits: &[LimitInForce], notes: &[String]) -> Self {
        let wall =
            |wall: &Wall| WallRecord { name: wall.name.clone(), missing: wall.missing.clone() };
        Self {
            walls: walls.iter().map(wall).collect(),
            limits: limits.iter().map(LimitRecord::from).collect(),
            notes: notes.to_vec(),
            ..Self::default()
        }
    }

    /// What the place says of its image.
    pub fn image(&self) -> ImageFacts {
        self.image.clone()
    }

    pub fn walls(&self) -> Vec<Wall> {
        let wall =
            |wall: &WallRecord| Wall { name: wall.name.clone(), missing: wall.missing.clone() };
        self.walls.iter().map(wall).collect()
    }

    pub fn limits(&self) -> Vec<LimitInForce> {
        self.limits.iter().map(LimitInForce::from).collect()
    }

    /// The host's ports that lead into it.
    pub fn ports(&self) -> Vec<Port> {
        self.ports.iter().map(Port::from).collect()
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // Paths of control groups are text, and so is all else.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads it back. What is damaged, or of another version, tells nothing.
    pub fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl From<&LimitInForce> for LimitRecord {
    fn from(limit: &LimitInForce) -> Self {
        let kind = match limit.kind {
            LimitKind::Cpus => KindRecord::Cpus,
            LimitKind::Memory => KindRecord::Memory,
            LimitKind::Pids => KindRecord::Pids,
            LimitKind::Disk => KindRecord::Disk,
        };
        let by = match limit.by.clone() {
            Limited::Exactly(means) => ByRecord::Exactly(means),
            Limited::Nearly { means, why } => ByRecord::Nearly { means, why },
            Limited::Nowise { why } => ByRecord::Nowise { why },
        };
        Self { kind, value: limit.value, by }
    }
}

impl From<&LimitRecord> for LimitInForce {
    fn from(record: &LimitRecord) -> Self {
        let kind = match record.kind {
            KindRecord::Cpus => LimitKind::Cpus,
            KindRecord::Memory => LimitKind::Memory,
            KindRecord::Pids => LimitKind::Pids,
            KindRecord::Disk => LimitKind::Disk,
        };
        let by = match record.by.clone() {
            ByRecord::Exactly(means) => Limited::Exactly(means),
            ByRecord::Nearly { means, why } => Limited::Nearly { means, why },
            ByRecord::Nowise { why } => Limited::Nowise { why },
        };
        Self { kind, value: record.value, by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was() {
        let walls = [Wall { name: "landlock".into(), missing: Some("no kernel".into()) }];
        let limit = |kind, by| LimitInForce { kind, value: 7, by };
        let limits = [
            limit(LimitKind::Cpus, Limited::Exactly("cgroup v1".into())),
            limit(LimitKind::Pids, Limited::Nearly { means: "rlimit".into(), why: "so".into() }),
            limit(LimitKind::Memory, Limited::Nowise { why: "no".into() }),
        ];
        let image = ImageFacts {
            entrypoint: vec!["/entry".into()],
            command: vec!["serve".into()],
            environment: vec!["A=b".into()],
            directory: Some("/srv".into()),
            user: Some("web:80".into()),
            passwd: "web:x:7:7::/srv:\n".into(),
            group: String::new(),
            hosts_users: true,
            only_caller: true,
        };
        let place = PlaceRecord {
            groups: vec!["/sys/x".into()],
            image: image.clone(),
            ..PlaceRecord::new(&walls, &limits, &["slow".into()])
        };
        assert_eq!(place.image(), image);
        let back = PlaceRecord::from_json(&place.to_json());
        assert_eq!(back, place);
        assert_eq!(back.walls(), walls);
        assert_eq!(back.limits(), limits);
        assert_eq!(PlaceRecord::from_json("nonsense"), PlaceRecord::default());
    }
}
