//! Whether Apple's containers can be had here.

use agentkernel_containers::ALWAYS;
use agentkernel_core::{BootError, LimitInForce, LimitKind, Limited, Network, Probe, Wall};

use crate::tool::{self, PROGRAM, START};
use crate::{NO_PIDS, program, words};

/// The first version that has all that is asked of it; [`crate`] says by which this was written.
const LEAST: [u32; 3] = [1, 2, 1];

pub fn probe() -> Probe {
    match try_it() {
        Ok(()) => Probe::Ready {
            walls: walls(&Network::None),
            limits: [LimitKind::Cpus, LimitKind::Memory, LimitKind::Pids, LimitKind::Disk]
                .map(|kind| LimitInForce { kind, value: 0, by: means(kind) })
                .into(),
            notes: vec![NOT_RUN.into()],
        },
        Err(BootError::Unavailable { why, fix } | BootError::Refused { why, fix }) => {
            Probe::Unavailable { why, fix }
        }
        Err(error @ BootError::Failed { .. }) => Probe::Unavailable {
            why: error.to_string(),
            fix: "please report this, with the version of container".into(),
        },
    }
}

/// What `doctor` says for as long as it is so.
const NOT_RUN: &str = "this backend was written by the documents of container 1.2.2 and has not yet \
                       been run on macOS";

/// Asks the program what it is, and whether its services run. No container is made for that: it would
/// take an image, and there may be none yet.
fn try_it() -> Result<(), BootError> {
    check_version()?;
    let status = tool::ask(&["system", "status", "--format", "json"], tool::LOOK);
    let status = match status {
        Ok(answer) => serde_json::from_slice(&answer).map_err(tool::ToolError::Garbled),
        // It says so in JSON, with the exit status of a failure.
        Err(tool::ToolError::Refused { words, .. }) if words.contains("\"status\"") => {
            Ok(words::ServiceStatus { status: "not running".into() })
        }
        Err(error) => Err(error),
    };
    let status = status.map_err(|e| e.into_boot_error("can't see whether its services run"))?;
    if status.status != "running" {
        return Err(BootError::Unavailable {
            why: "the services of Apple's containers don't run".into(),
            fix: START.into(),
        });
    }
    program::find().map(drop)
}

/// Refuses a program that is too old.
fn check_version() -> Result<(), BootError> {
    let all = tool::ask_for::<Vec<words::Version>>(&["system", "version", "--format", "json"]);
    let all = all.map_err(|error| error.into_boot_error("can't see which version it is"))?;
    let own = all.iter().find(|one| one.app_name == PROGRAM);
    let own = own.map_or("", |one| one.version.as_str());
    match parse(own) {
        Some(version) if version >= LEAST => Ok(()),
        _ => Err(BootError::Unavailable {
            why: format!("{PROGRAM} is of version {own:?}, which is too old"),
            fix: tool::INSTALL.into(),
        }),
    }
}

/// `1.2.2`, or `1.3.0-dev`.
fn parse(version: &str) -> Option<[u32; 3]> {
    let plain = version.split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(str::parse);
    let found = [parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?];
    parts.next().is_none().then_some(found)
}

/// The walls around a container, which is alone in a virtual machine.
pub fn walls(network: &Network) -> Vec<Wall> {
    let network = match network {
        Network::None => None,
        _ => Some("the spec asks for a network".to_owned()),
    };
    // Of the virtual machine, which has no other users than the container's.
    let others = [Wall::new("network-namespace", network), Wall::new("user-namespace", None)];
    let all = ["virtual-machine"].into_iter().chain(ALWAYS);
    all.map(|name| Wall::new(name, None)).chain(others).collect()
}

/// By what means a limit holds.
pub fn means(kind: LimitKind) -> Limited {
    match kind {
        LimitKind::Cpus | LimitKind::Memory => Limited::Exactly("virtual machine".into()),
        LimitKind::Pids => Limited::Nearly { means: "rlimit".into(), why: NO_PIDS.into() },
        LimitKind::Disk => Limited::Nowise { why: NO_PIDS.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, version) in [
            ("1.2.2", Some([1, 2, 2])),
            ("1.10.0-dev.3", Some([1, 10, 0])),
            ("", None),
            ("1.2", None),
            ("1.2.3.4", None),
            ("one.two.three", None),
        ] {
            assert_eq!(parse(text), version, "{text}");
        }
        assert!(parse("1.10.0") > parse("1.2.1"));
    }
}
