//! What is said on the daemon's socket: one line of JSON each way, descriptors beside it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of this protocol. It grows when a message changes its meaning or goes away.
pub const DAEMON_VERSION: u32 = 1;

/// The longest line, in bytes, its end included.
pub const MAX_LINE: usize = 1 << 20;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum DaemonRequest {
    /// A sandbox out of a pool, for one command. The connection is the lease: when it closes, the
    /// sandbox is destroyed.
    Lease {
        version: u32,
        /// Of the spec's pool part, by which both sides know a pool.
        key: String,
    },
    /// End the leased sandbox, and tell what it has used.
    End,
    /// Nothing runs in the leased sandbox any more, so it may be destroyed when there is time. This
    /// has no answer.
    Over,
    /// What the daemon holds and has done.
    Status,
    /// Look at the store's pools again, for they have changed.
    Reload,
    /// Put everything in order and end.
    Stop,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum DaemonReply {
    /// The link to the sandbox's agent comes along.
    Leased {
        pool: String,
        /// The host's number of its first process.
        pid: i32,
        /// A [`PlaceRecord`](crate::PlaceRecord).
        place: String,
    },
    /// There is none, and why.
    NoLease {
        why: String,
    },
    /// The leased sandbox is gone.
    Ended {
        oom_kills: u64,
        user_us: u64,
        system_us: u64,
        max_rss_bytes: u64,
    },
    Status(DaemonStatus),
    Done,
    Failed {
        why: String,
    },
}

/// What a daemon holds and has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub version: u32,
    /// The program's.
    pub program: String,
    pub pid: i32,
    pub uptime_ms: u64,
    /// Leases that are out.
    pub leases: u64,
    pub pools: Vec<PoolStatus>,
}

/// A pool as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub name: String,
    pub backend: String,
    pub size: u64,
    pub ready: u64,
    pub booting: u64,
    pub handed_out: u64,
    /// How often nothing was ready.
    pub empty: u64,
    pub boots: u64,
    /// What the last of them took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_boot_us: Option<u64>,
    pub failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Found dead while they waited.
    pub dead: u64,
    /// Replaced for their age.
    pub aged: u64,
}

/// The pools that there are, and whether a daemon holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolsReport {
    version: u32,
    daemon: bool,
    pools: Vec<PoolStatus>,
}

impl PoolsReport {
    pub fn new(daemon: bool, pools: Vec<PoolStatus>) -> Self {
        Self { version: crate::report::VERSION, daemon, pools }
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        line(self).trim_end().to_owned()
    }
}

impl DaemonStatus {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        line(self).trim_end().to_owned()
    }
}

impl DaemonRequest {
    /// The line with its end.
    pub fn to_line(&self) -> String {
        line(self)
    }

    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }
}

impl DaemonReply {
    /// The line with its end.
    pub fn to_line(&self) -> String {
        line(self)
    }

    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }
}

fn line(message: &impl Serialize) -> String {
    // Strings and numbers always have a JSON form.
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

/// What a daemon asks of a nursery, a process of its own that boots places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum NurseryRequest {
    /// Boot a place from this [`SpecRecord`](crate::SpecRecord).
    Boot { backend: String, spec: String },
    /// Destroy the place with this first process.
    Destroy { pid: i32 },
}

/// What a nursery answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum NurseryReply {
    /// The link to its agent, which has said hello, and a descriptor of its first process come
    /// along.
    Booted {
        pid: i32,
        place: String,
    },
    Destroyed {
        oom_kills: u64,
        user_us: u64,
        system_us: u64,
        max_rss_bytes: u64,
    },
    Failed {
        why: String,
    },
}

impl NurseryRequest {
    pub fn to_line(&self) -> String {
        line(self)
    }

    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }
}

impl NurseryReply {
    pub fn to_line(&self) -> String {
        line(self)
    }

    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }
}

/// A time as messages have it.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_that_come_back_as_they_were() {
        let lease = DaemonRequest::Lease { version: DAEMON_VERSION, key: "k\n".into() };
        let line = lease.to_line();
        assert_eq!(line, "{\"ask\":\"lease\",\"version\":1,\"key\":\"k\\n\"}\n");
        assert_eq!(DaemonRequest::from_line(line.as_bytes()), Ok(lease));
        let reply = DaemonReply::Status(DaemonStatus { pid: 7, ..DaemonStatus::default() });
        assert_eq!(DaemonReply::from_line(reply.to_line().as_bytes()), Ok(reply));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for wrong in ["", "{}", "{\"ask\":\"lease\"}", "{\"ask\":\"go\"}", "[1]"] {
            assert!(DaemonRequest::from_line(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
