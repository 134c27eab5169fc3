//! What came of a run, as JSON for programs.

use std::borrow::Cow;
use std::ffi::OsString;
use std::time::Duration;

use agentkernel_core::{
    Ended, Image, LimitInForce, LimitKind, Limited, Module, Port, Profile, Remains, Usage, Wall,
};
use serde::Serialize;

use crate::PortRecord;

/// The version of every JSON form. It grows when a field changes its meaning or goes away, not
/// when one is added.
pub(crate) const VERSION: u32 = 1;

/// A run in the core's types, to make a [`Report`] of.
#[derive(Debug)]
pub struct Run<'a> {
    pub backend: &'static str,
    pub route: RouteReport,
    pub profile: Profile,
    /// `None` for a command in a sandbox that had been living, of which `inspect` tells it.
    pub image: Option<ImageReport>,
    pub argv: &'a [OsString],
    pub ended: &'a Ended,
    /// Boot, ready, exec and shutdown.
    pub phases: [Duration; 4],
    pub walls: &'a [Wall],
    pub limits: &'a [LimitInForce],
    pub notes: &'a [String],
    pub ports: &'a [Port],
    pub remains: &'a Remains,
}

/// How a run went, from the first to the last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub version: u32,
    pub backend: &'static str,
    pub route: RouteReport,
    pub profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageReport>,
    /// What is not UTF-8 is replaced by U+FFFD.
    pub command: Vec<String>,
    pub ended: EndingReport,
    pub exit_code: u8,
    pub phases_us: PhasesReport,
    pub walls: Vec<WallReport>,
    pub limits: Vec<LimitReport>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub notes: Vec<String>,
    /// The host's ports that led into the sandbox.
    #[serde(skip_serializing_if = "<[PortRecord]>::is_empty")]
    pub ports: Vec<PortRecord>,
    pub rusage: UsageReport,
    pub oom_kills: u64,
}

impl From<Run<'_>> for Report {
    fn from(run: Run<'_>) -> Self {
        Self {
            version: VERSION,
            backend: run.backend,
            route: run.route,
            profile: run.profile.name(),
            image: run.image,
            command: run.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            ended: run.ended.into(),
            exit_code: run.ended.exit_code(),
            phases_us: run.phases.into(),
            walls: run.walls.iter().map(WallReport::from).collect(),
            limits: run.limits.iter().map(LimitReport::from).collect(),
            notes: run.notes.to_vec(),
            ports: run.ports.iter().map(PortRecord::from).collect(),
            rusage: (&run.remains.usage).into(),
            oom_kills: run.remains.oom_kills,
        }
    }
}

/// What image a sandbox has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// As it is asked for: `host`, `rootfs:DIR`, `module:FILE` or the name of an image.
    pub name: String,
    /// Why it was chosen, to follow "because", unless it was asked for by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ImageReport {
    pub fn new(image: &Image, why: Option<String>) -> Self {
        let name = match image {
            Image::Host => "host".into(),
            Image::Rootfs(folder) => format!("rootfs:{}", folder.display()),
            Image::Reference(name) | Image::Module(Module::Named(name)) => name.clone(),
            Image::Module(Module::Any) => "module:".into(),
            Image::Module(Module::File(file)) => format!("module:{}", file.display()),
        };
        Self { name, why }
    }
}

/// How the command came by its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RouteReport {
    /// It was booted for it, and why nothing faster was taken.
    Cold { why: String },
    /// It was taken out of a pool.
    Pool { name: String },
    /// It had been living.
    Live { name: String },
    /// It was booted for it, and is kept.
    Kept { name: String },
}

/// How the command finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EndingReport {
    Exited { code: u8 },
    Signaled { signal: u8 },
    TimedOut,
    OutOfMemory,
    Killed,
    Lost { why: String },
}

impl From<&Ended> for EndingReport {
    fn from(ended: &Ended) -> Self {
        match ended {
            Ended::Exited(code) => Self::Exited { code: *code },
            Ended::Signaled(signal) => Self::Signaled { signal: *signal },
            Ended::TimedOut => Self::TimedOut,
            Ended::OutOfMemory => Self::OutOfMemory,
            Ended::Killed => Self::Killed,
            Ended::Lost(why) => Self::Lost { why: why.clone() },
        }
    }
}

/// Where the time went, in microseconds. The four add up to the total exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PhasesReport {
    pub boot: u64,
    pub ready: u64,
    pub exec: u64,
    pub shutdown: u64,
    pub total: u64,
}

impl From<[Duration; 4]> for PhasesReport {
    fn from(phases: [Duration; 4]) -> Self {
        // The moments are rounded and then subtracted: rounded spans would not add up.
        let mut clock = Duration::ZERO;
        let mut micros = 0;
        let [boot, ready, exec, shutdown] = phases.map(|phase| {
            clock += phase;
            let now = u64::try_from(clock.as_micros()).unwrap_or(u64::MAX);
            let since = now - micros;
            micros = now;
            since
        });
        Self { boot, ready, exec, shutdown, total: micros }
    }
}

/// A wall of the sandbox, and why it is missing if it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WallReport {
    pub name: Cow<'static, str>,
    pub in_force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<&Wall> for WallReport {
    fn from(wall: &Wall) -> Self {
        Self {
            name: wall.name.clone(),
            in_force: wall.missing.is_none(),
            why: wall.missing.clone(),
        }
    }
}

/// A limit and what enforces it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitReport {
    pub name: &'static str,
    pub value: Amount,
    /// `null` where nothing does.
    pub by: Option<Cow<'static, str>>,
    /// Whether it is the limit that was asked for, on the sandbox as a whole.
    pub exact: bool,
    /// Why it is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How much: bytes and counts are whole, processors may be parts of one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Amount {
    Whole(u64),
    Decimal(f64),
}

impl From<&LimitInForce> for LimitReport {
    fn from(limit: &LimitInForce) -> Self {
        let value = match (limit.kind, limit.value % 1000) {
            (LimitKind::Cpus, 0) => Amount::Whole(limit.value / 1000),
            (LimitKind::Cpus, _) => Amount::Decimal(limit.value as f64 / 1000.0),
            _ => Amount::Whole(limit.value),
        };
        let (by, why) = match &limit.by {
            Limited::Exactly(means) => (Some(means.clone()), None),
            Limited::Nearly { means, why } => (Some(means.clone()), Some(why.clone())),
            Limited::Nowise { why } => (None, Some(why.clone())),
        };
        let exact = matches!(limit.by, Limited::Exactly(_));
        Self { name: limit.kind.name(), value, by, exact, why }
    }
}

/// What all processes of a sandbox used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UsageReport {
    pub user_us: u64,
    pub system_us: u64,
    /// The largest resident set of any one process.
    pub max_rss_bytes: u64,
}

impl From<&Usage> for UsageReport {
    fn from(usage: &Usage) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            user_us: micros(usage.user),
            system_us: micros(usage.system),
            max_rss_bytes: usage.max_resident,
        }
    }
}

/// Why there is no other report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorReport {
    pub version: u32,
    pub error: FailureReport,
}

/// A failure of agentkernel's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureReport {
    pub message: String,
    /// What the user can do about it.
    pub hint: String,
    pub exit_code: u8,
}

impl From<FailureReport> for ErrorReport {
    fn from(error: FailureReport) -> Self {
        Self { version: VERSION, error }
    }
}

/// Gives a report its one-line JSON form.
macro_rules! to_json {
    ($($report:ty),*) => {$(
        impl $report {
            /// The report as one line of JSON, without a line end.
            pub fn to_json(&self) -> String {
                // A type of strings and numbers always has a JSON form.
                serde_json::to_string(self).unwrap_or_default()
            }
        }
    )*};
}

to_json!(
    Report,
    ErrorReport,
    crate::DoctorReport,
    crate::SandboxesReport,
    crate::InspectReport,
    crate::CommandsReport,
    crate::PortsReport,
    crate::VerdictReport,
    crate::ChangesReport,
    crate::AppliedReport,
    crate::SnapshotsReport,
    crate::ImagesReport,
    crate::AdoptableReport
);

#[cfg(test)]
mod tests {
    use super::*;

    fn json(ended: &Ended) -> String {
        serde_json::to_string(&EndingReport::from(ended)).unwrap()
    }

    #[test]
    fn a_report_has_the_published_form() {
        let walls = [
            Wall { name: "seccomp".into(), missing: None },
            Wall { name: "landlock".into(), missing: Some("no kernel".into()) },
        ];
        let limit = |kind, value, by| LimitInForce { kind, value, by };
        let limits = [
            limit(LimitKind::Memory, 1 << 30, Limited::Exactly("cgroup v1".into())),
            limit(LimitKind::Cpus, 1500, Limited::Nowise { why: "no".into() }),
            limit(
                LimitKind::Pids,
                64,
                Limited::Nearly { means: "rlimit".into(), why: "so".into() },
            ),
        ];
        let remains = Remains {
            usage: Usage {
                user: Duration::from_micros(7),
                system: Duration::from_micros(8),
                max_resident: 4096,
            },
            oom_kills: 2,
        };
        let report = Report::from(Run {
            backend: "native",
            route: RouteReport::Live { name: "a".into() },
            profile: Profile::Moderate,
            image: Some(ImageReport::new(&Image::Host, Some("so".into()))),
            argv: &["echo".into(), "a\"b".into()],
            ended: &Ended::Exited(3),
            phases: [1, 2, 3, 4].map(Duration::from_millis),
            walls: &walls,
            limits: &limits,
            notes: &["it is slow".into()],
            ports: &[],
            remains: &remains,
        });
        let expected = concat!(
            r#"{"version":1,"backend":"native","route":{"kind":"live","name":"a"},"#,
            r#""profile":"moderate","image":{"name":"host","why":"so"},"#,
            r#""command":["echo","a\"b"],"#,
            r#""ended":{"kind":"exited","code":3},"exit_code":3,"#,
            r#""phases_us":{"boot":1000,"ready":2000,"exec":3000,"shutdown":4000,"total":10000},"#,
            r#""walls":[{"name":"seccomp","in_force":true},"#,
            r#"{"name":"landlock","in_force":false,"why":"no kernel"}],"#,
            r#""limits":[{"name":"memory","value":1073741824,"by":"cgroup v1","exact":true},"#,
            r#"{"name":"cpus","value":1.5,"by":null,"exact":false,"why":"no"},"#,
            r#"{"name":"pids","value":64,"by":"rlimit","exact":false,"why":"so"}],"#,
            r#""notes":["it is slow"],"#,
            r#""rusage":{"user_us":7,"system_us":8,"max_rss_bytes":4096},"oom_kills":2}"#,
        );
        assert_eq!(report.to_json(), expected);
    }

    #[test]
    fn an_image_is_named_as_it_is_asked_for() {
        for (image, name) in [
            (Image::Host, "host"),
            (Image::Rootfs("/srv/root".into()), "rootfs:/srv/root"),
            (Image::Reference("python:3".into()), "python:3"),
            (Image::Module(Module::File("/srv/app.wasm".into())), "module:/srv/app.wasm"),
            (Image::Module(Module::Named("ghcr.io/x/y:1".into())), "ghcr.io/x/y:1"),
        ] {
            let report = serde_json::to_string(&ImageReport::new(&image, None)).unwrap();
            assert_eq!(report, format!("{{\"name\":\"{name}\"}}"));
        }
    }

    #[test]
    fn every_ending_has_its_own_kind() {
        assert_eq!(json(&Ended::Signaled(9)), r#"{"kind":"signaled","signal":9}"#);
        assert_eq!(json(&Ended::TimedOut), r#"{"kind":"timed_out"}"#);
        assert_eq!(json(&Ended::OutOfMemory), r#"{"kind":"out_of_memory"}"#);
        assert_eq!(json(&Ended::Killed), r#"{"kind":"killed"}"#);
        assert_eq!(json(&Ended::Lost("so".into())), r#"{"kind":"lost","why":"so"}"#);
    }

    #[test]
    fn phases_add_up_though_none_is_whole() {
        let phases = PhasesReport::from([600, 600, 600, 600].map(Duration::from_nanos));
        let PhasesReport { boot, ready, exec, shutdown, total } = phases;
        assert_eq!((boot, ready, exec, shutdown, total), (0, 1, 0, 1, 2));
    }

    #[test]
    fn an_error_has_the_published_form() {
        let error = FailureReport { message: "no".into(), hint: "so".into(), exit_code: 125 };
        let expected = r#"{"version":1,"error":{"message":"no","hint":"so","exit_code":125}}"#;
        assert_eq!(ErrorReport::from(error).to_json(), expected);
    }
}
