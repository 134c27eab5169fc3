//! What sandboxes have changed, and what is kept of them, as JSON for programs. Paths that are not
//! UTF-8 have U+FFFD in them.

use serde::Serialize;

use crate::report::VERSION;

/// What a sandbox has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangesReport {
    pub version: u32,
    pub sandbox: String,
    /// In the order of the paths.
    pub changes: Vec<ChangeReport>,
}

impl ChangesReport {
    pub fn new(sandbox: String, changes: Vec<ChangeReport>) -> Self {
        Self { version: VERSION, sandbox, changes }
    }
}

/// One thing that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeReport {
    /// In the sandbox, absolute.
    pub path: String,
    /// `added`, `changed` or `deleted`.
    pub kind: &'static str,
    /// `file`, `directory`, `symbolic link`, `fifo`, `socket` or `device`.
    pub what: String,
}

/// What was carried over to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppliedReport {
    pub version: u32,
    pub sandbox: String,
    pub applied: Vec<ChangeReport>,
    pub refused: Vec<RefusedReport>,
}

impl AppliedReport {
    pub fn new(sandbox: String, applied: Vec<ChangeReport>, refused: Vec<RefusedReport>) -> Self {
        Self { version: VERSION, sandbox, applied, refused }
    }
}

/// Something that was not carried over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedReport {
    /// In the sandbox, absolute.
    pub path: String,
    pub why: String,
}

/// The snapshots that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotsReport {
    pub version: u32,
    /// The oldest first.
    pub snapshots: Vec<SnapshotReport>,
}

impl From<Vec<SnapshotReport>> for SnapshotsReport {
    fn from(snapshots: Vec<SnapshotReport>) -> Self {
        Self { version: VERSION, snapshots }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotReport {
    pub name: String,
    /// Never changes.
    pub id: String,
    pub backend: String,
    /// The sandbox that it was made of, which may be gone.
    pub of: String,
    pub created: String,
    /// The length of its files together, whatever they share with others.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_the_published_form() {
        let change = ChangeReport { path: "/a".into(), kind: "added", what: "file".into() };
        let expected = concat!(
            r#"{"version":1,"sandbox":"web","changes":"#,
            r#"[{"path":"/a","kind":"added","what":"file"}]}"#
        );
        assert_eq!(ChangesReport::new("web".into(), vec![change.clone()]).to_json(), expected);
        let refused = RefusedReport { path: "/b".into(), why: "so".into() };
        let expected = concat!(
            r#"{"version":1,"sandbox":"web","applied":"#,
            r#"[{"path":"/a","kind":"added","what":"file"}],"#,
            r#""refused":[{"path":"/b","why":"so"}]}"#
        );
        let report = AppliedReport::new("web".into(), vec![change], vec![refused]);
        assert_eq!(report.to_json(), expected);
    }

    #[test]
    fn snapshots_have_the_published_form() {
        let snapshot = SnapshotReport {
            name: "base".into(),
            id: "0123456789ab".into(),
            backend: "native".into(),
            of: "web".into(),
            created: "2026-11-25T03:11:12.345Z".into(),
            bytes: 7,
        };
        let expected = concat!(
            r#"{"version":1,"snapshots":[{"name":"base","id":"0123456789ab","backend":"native","#,
            r#""of":"web","created":"2026-11-25T03:11:12.345Z","bytes":7}]}"#
        );
        assert_eq!(SnapshotsReport::from(vec![snapshot]).to_json(), expected);
    }
}
