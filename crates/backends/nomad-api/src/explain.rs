//! Why an allocation does not come, or does not run, in full.

use agentkernel_core::BootError;

use crate::words::{Allocation, Evaluation, Metrics, TaskState};

/// Why nothing was placed.
pub fn evaluation(found: &Evaluation) -> Option<BootError> {
    if let Some(metrics) = found.failed.values().next() {
        let mut all = metrics_in_words(metrics);
        if !found.quota_limit_reached.is_empty() {
            all.push(format!("the quota {:?} is used up", found.quota_limit_reached));
        }
        return Some(BootError::Unavailable {
            why: format!("Nomad can't place the sandbox: {}", all.join("; ")),
            fix: fix(metrics).into(),
        });
    }
    match found.status.as_str() {
        "failed" | "canceled" | "cancelled" => Some(BootError::Unavailable {
            why: format!(
                "Nomad can't place the sandbox: its evaluation is {}: {}",
                found.status, found.status_description
            ),
            fix: "look at it with nomad eval list, and at the servers' log".into(),
        }),
        _ => None,
    }
}

fn metrics_in_words(metrics: &Metrics) -> Vec<String> {
    let mut all = Vec::new();
    let empty = metrics.nodes_available.iter().filter(|(_, count)| **count == 0);
    all.extend(empty.map(|(name, _)| format!("no node is ready in the datacenter {name:?}")));
    if metrics.nodes_evaluated == 0 && all.is_empty() {
        all.push("no node is ready and eligible".into());
    }
    let of = |count: &u64| format!("{count} of {} nodes", metrics.nodes_evaluated);
    for (name, count) in &metrics.class_filtered {
        all.push(format!("the class {name:?} rules out {}", of(count)));
    }
    for (name, count) in &metrics.constraint_filtered {
        // Nomad's words for more than a constraint.
        all.push(match name.starts_with("missing") {
            true => format!("{name} on {}", of(count)),
            false => format!("the constraint {name:?} rules out {}", of(count)),
        });
    }
    for (name, count) in &metrics.dimension_exhausted {
        all.push(format!("{name} exhausted on {}", of(count)));
    }
    for (name, count) in &metrics.class_exhausted {
        all.push(format!("the class {name:?} is exhausted on {}", of(count)));
    }
    all.extend(metrics.quota_exhausted.iter().map(|name| format!("the quota's {name} is used up")));
    if all.is_empty() {
        all.push(format!("none of {} nodes will do", metrics.nodes_evaluated));
    }
    all
}

fn fix(metrics: &Metrics) -> &'static str {
    if metrics.constraint_filtered.contains_key("missing drivers") {
        "have Docker run on a node, where Nomad's docker driver finds it (nomad node status -self)"
    } else if !metrics.dimension_exhausted.is_empty() || !metrics.class_exhausted.is_empty() {
        "end other jobs, add nodes, or ask for less with --memory and --cpus"
    } else if !metrics.quota_exhausted.is_empty() {
        "end other jobs of the namespace, or have its quota raised"
    } else {
        "look at the nodes with nomad node status, and set NOMAD_DATACENTERS to where \
         they are"
    }
}

/// Why an allocation has ended before its agent was there, or `None` if it may still come.
pub fn allocation(found: &Allocation, image: &str) -> Option<BootError> {
    let states: Vec<&TaskState> = found.task_states.values().collect();
    let failed = states.iter().any(|state| state.failed || state.state == "dead");
    if found.desired_status != "run" {
        return Some(BootError::Unavailable {
            why: format!(
                "the sandbox's allocation was told to {} before it was ready: {}",
                found.desired_status,
                or(&found.desired_description, "Nomad does not say why")
            ),
            fix: "see who has stopped it or drained its node".into(),
        });
    }
    let ended = ["failed", "lost", "complete"].contains(&found.client_status.as_str());
    if !failed && !ended {
        return None;
    }
    let events = states.iter().flat_map(|state| &state.events);
    let told: Vec<&str> = events
        .filter(|event| {
            ["Driver Failure", "Setup Failure", "Failed Validation", "Terminated"]
                .contains(&event.kind.as_str())
                || event.kind.contains("Fail")
        })
        .map(|event| event.display_message.trim())
        .filter(|text| !text.is_empty())
        .collect();
    let told = match told.last() {
        Some(last) => (*last).to_owned(),
        None => or(&found.client_description, "Nomad does not say why").to_owned(),
    };
    Some(task(&told, &found.node_name, image))
}

/// What it means that a task has failed with these words.
fn task(told: &str, node: &str, image: &str) -> BootError {
    let why = format!("the sandbox's task fails on node {node}: {told}");
    let fix = if told.contains("ailed to pull") || told.contains("not found: manifest") {
        format!("see that the image {image} is there by that name, and that the node may pull it")
    } else if told.contains("/bin/sh") {
        "use an image with a shell, or name the agent's program on the nodes by \
         NOMAD_AGENT_PATH (docs/nomad.md)"
            .into()
    } else if told.contains("volumes are not enabled") {
        "have the docker driver of the nodes allow volumes, or unset NOMAD_AGENT_PATH".into()
    } else {
        "look at it with nomad alloc status, and at the node's log".into()
    };
    match told.contains("ailed to pull") || told.contains("/bin/sh") {
        true => BootError::Refused { why, fix },
        false => BootError::Unavailable { why, fix },
    }
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.trim().is_empty() { other } else { text.trim() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> String {
        let found: Evaluation = serde_json::from_str(json).unwrap();
        evaluation(&found).map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_placement_that_fails_is_told_in_full() {
        let told = of(r#"{"Status": "complete", "FailedTGAllocs": {"sandbox": {
            "NodesEvaluated": 3, "NodesFiltered": 2, "NodesExhausted": 1,
            "NodesAvailable": {"dc1": 3, "dc2": 0},
            "ConstraintFiltered": {"missing drivers": 1, "${attr.cpu.arch} = amd64": 1},
            "DimensionExhausted": {"memory": 1}, "ClassFiltered": null}}}"#);
        for words in [
            "no node is ready in the datacenter \"dc2\"",
            "missing drivers on 1 of 3 nodes",
            "the constraint \"${attr.cpu.arch} = amd64\" rules out 1 of 3 nodes",
            "memory exhausted on 1 of 3 nodes",
        ] {
            assert!(told.contains(words), "{told}");
        }
        let none = r#"{"Status": "complete", "FailedTGAllocs": {"sandbox": {}}}"#;
        assert!(of(none).contains("no node is ready and eligible"));
        assert_eq!(of(r#"{"Status": "complete", "FailedTGAllocs": null}"#), "");
        assert!(
            of(r#"{"Status": "failed", "StatusDescription": "it broke"}"#).contains("it broke")
        );
    }
}
