//! Sandboxes that live, as JSON for programs. Times are UTC as in RFC 3339.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::report::{EndingReport, VERSION};
use crate::{PortRecord, SpecRecord};

/// The sandboxes that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SandboxesReport {
    pub version: u32,
    /// The oldest first.
    pub sandboxes: Vec<SandboxReport>,
}

impl From<Vec<SandboxReport>> for SandboxesReport {
    fn from(sandboxes: Vec<SandboxReport>) -> Self {
        Self { version: VERSION, sandboxes }
    }
}

/// A sandbox in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SandboxReport {
    pub name: String,
    /// Never changes.
    pub id: String,
    pub backend: String,
    /// `created`, `running`, `paused` or `stopped`.
    pub state: &'static str,
    pub created: String,
    pub labels: BTreeMap<String, String>,
    /// How it came to its end, if it is stopped.
    pub ended: Option<StoppedReport>,
    /// Its first process, as the host sees it, if it runs.
    pub pid: Option<i32>,
    /// The host's ports that lead into it, while it runs.
    pub ports: Vec<PortRecord>,
}

/// When and why a sandbox stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoppedReport {
    pub at: Option<String>,
    pub why: Option<String>,
}

/// All that is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    pub version: u32,
    #[serde(flatten)]
    pub sandbox: SandboxReport,
    /// When it was last started.
    pub started: Option<String>,
    /// How long after its creation it is removed, in seconds.
    pub ttl_s: Option<f64>,
    /// How long after its last use it is removed, in seconds.
    pub idle_s: Option<f64>,
    /// What it was made from.
    pub origin: Option<String>,
    /// `null` if it can't be read.
    pub spec: Option<SpecRecord>,
    /// The walls, limits and control groups of its place, if it runs.
    pub place: Option<Json>,
    /// What was carried to the host.
    pub applied: Option<Json>,
    /// Where its files lie.
    pub folder: String,
    /// Where its agent listens, if it runs.
    pub socket: Option<String>,
    pub commands: Vec<BackgroundReport>,
}

impl InspectReport {
    pub const VERSION: u32 = VERSION;
}

/// Any JSON, as it was written by whoever knows its form.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Json(Value);

impl Json {
    /// Reads it, if it is JSON.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }
}

/// The background commands of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandsReport {
    pub version: u32,
    pub sandbox: String,
    /// In the order of their starts.
    pub commands: Vec<BackgroundReport>,
}

impl CommandsReport {
    pub fn new(sandbox: String, commands: Vec<BackgroundReport>) -> Self {
        Self { version: VERSION, sandbox, commands }
    }
}

/// A background command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackgroundReport {
    pub number: u32,
    /// `running` or `ended`.
    pub state: &'static str,
    /// What is not UTF-8 is replaced by U+FFFD.
    pub command: Vec<String>,
    pub ended: Option<EndingReport>,
}

/// Whether the audit log is as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictReport {
    pub version: u32,
    pub verified: bool,
    #[serde(flatten)]
    pub verdict: VerdictDetail,
}

/// What was found in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum VerdictDetail {
    Verified {
        entries: u64,
        /// How often a line was written only in part and the next entry said so.
        torn: u64,
        /// The number of the last line, if it is cut in its middle.
        unfinished: Option<u64>,
        /// The hash of the last entry.
        last: String,
    },
    Broken {
        /// The first line that is not as it was written.
        line: u64,
        why: String,
    },
}

impl From<VerdictDetail> for VerdictReport {
    fn from(verdict: VerdictDetail) -> Self {
        let verified = matches!(verdict, VerdictDetail::Verified { .. });
        Self { version: VERSION, verified, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandboxes_have_the_published_form() {
        let sandbox = SandboxReport {
            name: "web".into(),
            id: "0123456789ab".into(),
            backend: "native".into(),
            state: "running",
            created: "2026-11-25T03:11:12.345Z".into(),
            labels: [("a".into(), "b".into())].into(),
            ended: None,
            pid: Some(7),
            ports: Vec::new(),
        };
        let stopped = SandboxReport {
            state: "stopped",
            labels: BTreeMap::new(),
            ended: Some(StoppedReport { at: None, why: Some("so".into()) }),
            pid: None,
            ..sandbox.clone()
        };
        let start = r#"{"name":"web","id":"0123456789ab","backend":"native""#;
        let created = r#""created":"2026-11-25T03:11:12.345Z""#;
        let expected = format!(
            concat!(
                r#"{{"version":1,"sandboxes":["#,
                r#"{0},"state":"running",{1},"labels":{{"a":"b"}},"ended":null,"pid":7,"ports":[]}},"#,
                r#"{0},"state":"stopped",{1},"labels":{{}},"#,
                r#""ended":{{"at":null,"why":"so"}},"pid":null,"ports":[]}}]}}"#
            ),
            start, created
        );
        assert_eq!(SandboxesReport::from(vec![sandbox, stopped]).to_json(), expected);
    }

    #[test]
    fn background_commands_have_the_published_form() {
        let command = BackgroundReport {
            number: 2,
            state: "ended",
            command: vec!["sh".into()],
            ended: Some(EndingReport::Exited { code: 3 }),
        };
        let expected = concat!(
            r#"{"version":1,"sandbox":"web","commands":[{"number":2,"state":"ended","#,
            r#""command":["sh"],"ended":{"kind":"exited","code":3}}]}"#
        );
        assert_eq!(CommandsReport::new("web".into(), vec![command]).to_json(), expected);
    }

    #[test]
    fn a_verdict_has_the_published_form() {
        let broken = VerdictDetail::Broken { line: 3, why: "so".into() };
        let expected = r#"{"version":1,"verified":false,"line":3,"why":"so"}"#;
        assert_eq!(VerdictReport::from(broken).to_json(), expected);
        let last = "0".into();
        let good = VerdictDetail::Verified { entries: 2, torn: 0, unfinished: None, last };
        let expected =
            r#"{"version":1,"verified":true,"entries":2,"torn":0,"unfinished":null,"last":"0"}"#;
        assert_eq!(VerdictReport::from(good).to_json(), expected);
    }
}
