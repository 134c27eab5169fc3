//! `agentkernel doctor [--json]`

use std::fmt::Write;

use agentkernel_core::{Backend, Capability, LimitInForce, Limited, Probe, Wall};
use agentkernel_engine::{Engine, Probed};
use agentkernel_wire::{BackendReport, DoctorReport};

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::unexpected;

/// Probes every backend. Returns 0 if one is ready, and 1 if none is.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    if let Some(word) = low.words.first() {
        return Err(unexpected(Verb::Doctor, word));
    }
    let all = Engine::new(backends).probe();
    match low.json {
        true => output::line(&report(&all).to_json())?,
        false => output::text(&describe(&all))?,
    }
    let ready = all.iter().any(|backend| matches!(backend.probe, Probe::Ready { .. }));
    Ok(u8::from(!ready))
}

fn report(all: &[Probed]) -> DoctorReport {
    let of = |one: &Probed| BackendReport::new(one.name, one.capabilities, &one.probe);
    all.iter().map(of).collect::<Vec<_>>().into()
}

fn describe(all: &[Probed]) -> String {
    if all.is_empty() {
        return "this agentkernel was built without a backend for this system\n".into();
    }
    all.iter().map(describe_one).collect::<Vec<_>>().join("\n")
}

/// In which writing to a string can't fail.
fn describe_one(backend: &Probed) -> String {
    let capabilities: Vec<_> = backend.capabilities.iter().map(Capability::name).collect();
    let mut text = match &backend.probe {
        Probe::Unavailable { why, fix } => {
            format!("{}: not ready: {why}\n  fix: {fix}\n", backend.name)
        }
        Probe::Ready { walls, limits, notes } => {
            let mut text = format!("{}: ready\n  walls:\n", backend.name);
            for wall in walls {
                row(&mut text, &wall.name, &wall_state(wall));
            }
            text += "  limits:\n";
            for limit in limits {
                row(&mut text, limit.kind.name(), &limit_means(limit));
            }
            for note in notes {
                let _ = writeln!(text, "  note: {note}");
            }
            text
        }
    };
    let _ = writeln!(text, "  can do: {}", capabilities.join(", "));
    text
}

fn row(text: &mut String, name: &str, state: &str) {
    let _ = writeln!(text, "    {name:<20} {state}");
}

/// Whether a wall stands, for people.
pub(super) fn wall_state(wall: &Wall) -> String {
    match &wall.missing {
        None => "in force".into(),
        Some(why) => format!("missing: {why}"),
    }
}

/// What enforces a limit, for people.
pub(super) fn limit_means(limit: &LimitInForce) -> String {
    match &limit.by {
        Limited::Exactly(means) => format!("by {means}"),
        Limited::Nearly { means, why } => format!("only nearly, by {means}: {why}"),
        Limited::Nowise { why } => format!("not enforced: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use agentkernel_core::{Capabilities, LimitKind};

    use super::*;

    fn probed(probe: Probe) -> Probed {
        let capabilities = Capabilities::new(&[Capability::NetworkNone, Capability::User]);
        Probed { name: "native", capabilities, probe }
    }

    #[test]
    fn a_ready_backend_is_described_wall_by_wall() {
        let limit = |kind, by| LimitInForce { kind, value: 1, by };
        let text = describe(&[probed(Probe::Ready {
            walls: vec![
                Wall { name: "seccomp".into(), missing: None },
                Wall { name: "landlock".into(), missing: Some("no kernel".into()) },
            ],
            limits: vec![
                limit(LimitKind::Pids, Limited::Exactly("cgroup v2".into())),
                limit(LimitKind::Cpus, Limited::Nowise { why: "no cgroup".into() }),
            ],
            notes: vec!["it is slow".into()],
        })]);
        let expected = "\
native: ready
  walls:
    seccomp              in force
    landlock             missing: no kernel
  limits:
    pids                 by cgroup v2
    cpus                 not enforced: no cgroup
  note: it is slow
  can do: network none, user
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_unready_backend_is_described_with_its_fix() {
        let text =
            describe(&[probed(Probe::Unavailable { why: "no".into(), fix: "do this".into() })]);
        let expected = "native: not ready: no\n  fix: do this\n  can do: network none, user\n";
        assert_eq!(text, expected);
    }
}
