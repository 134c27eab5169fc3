//! Where the time of a run goes.

use std::time::Duration;

use serde_json::Value;

use super::{WARM_UP, group, rest};
use crate::control::Control;
use crate::process::Stopwatch;
use crate::report::section_name;
use crate::result::{COLD, Case, Section};
use crate::sections::pool::Filled;
use crate::turns::{Entrant, Found, take_turns};
use crate::world::World;
use crate::{COMMAND, OUTPUT};

/// Has a run report its phases, so many times, each after a pause. What the whole process takes beyond them is a phase
/// of its own, so that all together are the whole.
///
/// A run with a report takes a little longer: it waits until all of the sandbox is gone.
pub fn phases(
    world: &World,
    backend: &str,
    route: &str,
    rounds: u64,
    pool: Option<&Filled<'_>>,
    pause: Duration,
    control: &Control,
) -> Result<Vec<Case>, String> {
    control.begin(format!("{} {route}", section_name(Section::Phases)), rounds);
    let text = |error: std::io::Error| error.to_string();
    let report = world.directory("phases").map_err(text)?.join("report.json");
    let path = report.to_string_lossy().into_owned();
    let mut words = vec!["run", "-B", backend, "--report", &path];
    if route == COLD {
        words.push("--no-pool");
    }
    words.push("--");
    words.extend(COMMAND);
    let case = Case { group: group(backend, route), ..Case::ours(Section::Phases, backend, route) };
    let mut watch = Stopwatch::new().map_err(text)?;
    let attempt = || {
        rest(pause);
        let timed = watch.time(&mut world.agentkernel(&words), Some(OUTPUT))?;
        let said = std::fs::read(&report).map_err(text)?;
        let said: Value = serde_json::from_slice(&said).map_err(|error| error.to_string())?;
        if said["route"]["kind"] != route {
            return Err(format!("the command came by another route: {}", said["route"]));
        }
        split(timed.total.as_nanos() as u64, &said["phases_us"])
    };
    take_turns(vec![Entrant::new(case, attempt)], rounds, WARM_UP, control, |round| match pool {
        Some(pool) if round % pool.batch() == 0 => pool.await_full(),
        _ => Ok(()),
    })
}

/// The phases of a whole process, from what the run inside it has told.
fn split(total: u64, told: &Value) -> Result<Found, String> {
    let phase = |name: &str| {
        let micros = told[name].as_u64().ok_or(format!("the report has no phase {name}"))?;
        Ok::<u64, String>(micros * 1000)
    };
    let inside = phase("total")?;
    let process =
        total.checked_sub(inside).ok_or("the run claims to have taken longer than its process")?;
    Ok(vec![
        ("process", process),
        ("boot", phase("boot")?),
        ("ready", phase("ready")?),
        ("exec", phase("exec")?),
        ("shutdown", phase("shutdown")?),
        ("total", total),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::split;

    #[test]
    fn the_phases_are_the_whole() {
        let told = json!({"boot": 1, "ready": 2, "exec": 3, "shutdown": 4, "total": 10});
        let found = split(25_000, &told).unwrap();
        let sum: u64 = found.iter().filter(|(name, _)| *name != "total").map(|(_, ns)| ns).sum();
        assert_eq!(sum, 25_000);
        assert!(split(9_999, &told).is_err());
    }
}
