//! Which backends can be used on this machine, as JSON for programs.

use agentkernel_core::{Capabilities, Capability, Probe};
use serde::Serialize;

use crate::report::{LimitReport, VERSION, WallReport};

/// Every backend and whether it can be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DoctorReport {
    pub version: u32,
    pub backends: Vec<BackendReport>,
}

/// A backend, and its walls and limits if it is ready, or else why not and what would help.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendReport {
    pub name: &'static str,
    pub ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    pub capabilities: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walls: Option<Vec<WallReport>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<LimitReport>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl BackendReport {
    pub fn new(name: &'static str, capabilities: Capabilities, probe: &Probe) -> Self {
        let mut report = Self {
            name,
            ready: false,
            why: None,
            fix: None,
            capabilities: capabilities.iter().map(Capability::name).collect(),
            walls: None,
            limits: None,
            notes: Vec::new(),
        };
        match probe {
            Probe::Ready { walls, limits, notes } => {
                report.ready = true;
                report.walls = Some(walls.iter().map(WallReport::from).collect());
                report.limits = Some(limits.iter().map(LimitReport::from).collect());
                report.notes.clone_from(notes);
            }
            Probe::Unavailable { why, fix } => {
                report.why = Some(why.clone());
                report.fix = Some(fix.clone());
            }
        }
        report
    }
}

impl From<Vec<BackendReport>> for DoctorReport {
    fn from(backends: Vec<BackendReport>) -> Self {
        Self { version: VERSION, backends }
    }
}

#[cfg(test)]
mod tests {
    use agentkernel_core::{LimitInForce, LimitKind, Limited, Wall};

    use super::*;

    #[test]
    fn a_report_has_the_published_form() {
        let capabilities = Capabilities::new(&[Capability::NetworkNone, Capability::User]);
        let ready = Probe::Ready {
            walls: vec![Wall { name: "seccomp".into(), missing: None }],
            limits: vec![LimitInForce {
                kind: LimitKind::Pids,
                value: 64,
                by: Limited::Exactly("cgroup v2".into()),
            }],
            notes: vec!["it is slow".into()],
        };
        let gone = Probe::Unavailable { why: "no kernel".into(), fix: "build one".into() };
        let none = Capabilities::new(&[]);
        let report = DoctorReport::from(vec![
            BackendReport::new("native", capabilities, &ready),
            BackendReport::new("other", none, &gone),
        ]);
        let expected = concat!(
            r#"{"version":1,"backends":[{"name":"native","ready":true,"#,
            r#""capabilities":["network none","user"],"#,
            r#""walls":[{"name":"seccomp","in_force":true}],"#,
            r#""limits":[{"name":"pids","value":64,"by":"cgroup v2","exact":true}],"#,
            r#""notes":["it is slow"]},"#,
            r#"{"name":"other","ready":false,"why":"no kernel","fix":"build one","#,
            r#""capabilities":[]}]}"#,
        );
        assert_eq!(report.to_json(), expected);
    }
}
