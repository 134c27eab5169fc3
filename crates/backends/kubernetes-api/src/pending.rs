//! What a pod's status says of whether it will ever run.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use crate::pod::{AGENTS_CONTAINER, CONTAINER};
use crate::settings::AGENT_IMAGE;

/// What is to be expected of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Waits,
    /// Commands' container runs.
    Runs,
    Never {
        why: String,
        fix: String,
    },
}

impl Verdict {
    pub fn deleted() -> Self {
        never("the pod was deleted by somebody else", "find out who deletes pods there")
    }
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Commands' container has been started.
    Started,
    /// The node has failed at what it tries again.
    Failed(String),
    Else,
}

/// What a node tries again and again.
const TRIED: [&str; 5] = [
    "FailedCreatePodSandBox",
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "NetworkNotReady",
];

pub fn told(event: &Event) -> Told {
    let reason = event.reason.as_deref().unwrap_or_default();
    let of = event.involved_object.field_path.as_deref();
    match reason {
        "Started" if of == Some(&*format!("spec.containers{{{CONTAINER}}}")) => Told::Started,
        _ if TRIED.contains(&reason) => {
            Told::Failed(words(reason, event.message.as_deref().unwrap_or_default()))
        }
        _ => Told::Else,
    }
}

/// Judges a pod by its status.
pub fn judge(pod: &Pod) -> Verdict {
    if pod.metadata.deletion_timestamp.is_some() {
        return Verdict::deleted();
    }
    let Some(status) = &pod.status else { return Verdict::Waits };
    let phase = status.phase.as_deref().unwrap_or_default();
    if matches!(phase, "Failed" | "Succeeded") {
        return ended(pod);
    }
    let scheduled = status.conditions.iter().flatten();
    let unscheduled = scheduled
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .find(|condition| condition.reason.as_deref() == Some("Unschedulable"));
    if let Some(condition) = unscheduled {
        let message = condition.message.as_deref().unwrap_or("without a reason");
        return never(
            format!("no node of the cluster can take the pod: {message}"),
            "ask for less with --cpus and --memory, free a node, or look at \
             KUBERNETES_NODE_SELECTOR and KUBERNETES_TOLERATIONS",
        );
    }
    let containers: Vec<&ContainerStatus> = status.container_statuses.iter().flatten().collect();
    if let Some(verdict) = containers.iter().find_map(|container| trouble(container)) {
        return verdict;
    }
    let mut own = containers.iter().filter(|container| container.name == CONTAINER);
    let runs = |container: &&&ContainerStatus| {
        container.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    if own.any(|container| runs(&container)) { Verdict::Runs } else { Verdict::Waits }
}

/// Whether anything of it has ended and was started again: nobody knows what has run in it.
pub fn has_restarted(pod: &Pod) -> bool {
    let status = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    status.into_iter().any(|container| container.restart_count > 0)
}

/// Why a container does not run, if it won't.
fn trouble(container: &ContainerStatus) -> Option<Verdict> {
    let is_agents = container.name == AGENTS_CONTAINER;
    let state = container.state.as_ref()?;
    if let Some(ended) = &state.terminated {
        if container.name != CONTAINER && ended.exit_code == 0 {
            return None;
        }
        let reason = ended.reason.as_deref().unwrap_or("no reason");
        let message = ended.message.as_deref().unwrap_or_default();
        let why = format!(
            "the pod's container {:?} has ended with status {} ({reason}) {message}",
            container.name, ended.exit_code
        );
        return Some(never(why.trim_end().to_owned(), agents_hint(is_agents)));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    let image = &container.image;
    Some(match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "RegistryUnavailable" => never(
            format!("the node can't pull the image {image}: {}", words(reason, message)),
            match is_agents {
                true => format!("set {AGENT_IMAGE} to an image that the cluster can pull"),
                false => {
                    "correct the image's name, or name secrets with which it can be pulled in \
                          KUBERNETES_PULL_SECRETS"
                        .into()
                }
            },
        ),
        "InvalidImageName" => never(
            format!("the node takes {image:?} for no image's name"),
            "correct the image's name",
        ),
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "CrashLoopBackOff"
        | "PreStartHookError"
        | "PostStartHookError" => never(
            format!("the node can't start the pod: {}", words(reason, message)),
            agents_hint(is_agents),
        ),
        _ => return None,
    })
}

fn agents_hint(is_agents: bool) -> String {
    match is_agents {
        true => format!("see that {AGENT_IMAGE} is an image with this version's agent"),
        false => "look at the pod's events: kubectl describe pod".into(),
    }
}

/// What a pod has ended of.
fn ended(pod: &Pod) -> Verdict {
    let status = pod.status.clone().unwrap_or_default();
    let reason = status.reason.unwrap_or_default();
    let message = status.message.unwrap_or_default();
    match &*reason {
        "Evicted" => never(
            format!("the node has evicted the pod: {message}"),
            "use less, or a node with more: the node ran out of something",
        ),
        "DeadlineExceeded" => {
            never("the pod's deadline has passed", "set KUBERNETES_DEADLINE to more seconds")
        }
        _ => {
            let found = status.container_statuses.iter().flatten().find_map(trouble);
            found.unwrap_or_else(|| {
                never(
                    format!("the pod has ended: {}", words(&reason, &message)),
                    agents_hint(false),
                )
            })
        }
    }
}

/// A reason with its message, which may begin with it.
fn words(reason: &str, message: &str) -> String {
    match (reason.is_empty(), message.is_empty()) {
        (_, true) if reason.is_empty() => "without a reason".into(),
        (_, true) => reason.into(),
        (true, false) => message.into(),
        _ => format!("{reason}: {message}"),
    }
}

fn never(why: impl Into<String>, fix: impl Into<String>) -> Verdict {
    Verdict::Never { why: why.into(), fix: fix.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(status: Value) -> Verdict {
        judge(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
    }

    fn why(status: Value) -> String {
        match of(status) {
            Verdict::Never { why, fix } => format!("{why} / {fix}"),
            other => panic!("{other:?}"),
        }
    }

    fn container(name: &str, state: Value) -> Value {
        json!([{ "name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                 "state": state }])
    }

    #[test]
    fn what_is_on_its_way_is_waited_for() {
        assert_eq!(of(json!({ "phase": "Pending" })), Verdict::Waits);
        let creating = json!({ "waiting": { "reason": "PodInitializing" } });
        let status =
            json!({ "phase": "Pending", "containerStatuses": container("sandbox", creating) });
        assert_eq!(of(status), Verdict::Waits);
        let done = json!({ "terminated": { "exitCode": 0, "reason": "Completed" } });
        let status = json!({ "phase": "Pending", "containerStatuses": container("agent", done) });
        assert_eq!(of(status), Verdict::Waits);
        let runs = json!({ "running": {} });
        let status = json!({ "phase": "Running", "containerStatuses": container("sandbox", runs) });
        assert_eq!(of(status), Verdict::Runs);
        let runs = json!({ "running": {} });
        let status = json!({ "phase": "Pending", "containerStatuses": container("agent", runs) });
        assert_eq!(of(status), Verdict::Waits);
    }

    #[test]
    fn a_node_tells_that_it_has_started_commands_container_or_can_t() {
        let event = |reason: &str, path: &str| {
            let event = json!({ "metadata": {}, "reason": reason, "message": "why",
                "involvedObject": { "fieldPath": path } });
            told(&serde_json::from_value(event).unwrap())
        };
        assert_eq!(event("Started", "spec.containers{sandbox}"), Told::Started);
        assert_eq!(event("Started", "spec.containers{agent}"), Told::Else);
        assert_eq!(event("Created", "spec.containers{sandbox}"), Told::Else);
        let failed = event("FailedCreatePodSandBox", "");
        assert_eq!(failed, Told::Failed("FailedCreatePodSandBox: why".into()));
    }

    #[test]
    fn what_will_never_run_says_why() {
        let unschedulable = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled",
            "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: cpu" }] });
        assert!(why(unschedulable).contains("0/1 nodes: cpu"));
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            let waits = json!({ "waiting": { "reason": reason, "message": "not found" } });
            let own =
                json!({ "phase": "Pending", "containerStatuses": container("sandbox", waits) });
            assert!(why(own).contains("KUBERNETES_PULL_SECRETS"));
            let waits = json!({ "waiting": { "reason": reason } });
            let agents =
                json!({ "phase": "Pending", "containerStatuses": container("agent", waits) });
            assert!(why(agents).contains(AGENT_IMAGE));
        }
        let waits =
            json!({ "waiting": { "reason": "CreateContainerConfigError", "message": "root" } });
        let status =
            json!({ "phase": "Pending", "containerStatuses": container("sandbox", waits) });
        assert!(why(status).contains("root"));
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "memory" });
        assert!(why(evicted).contains("evicted"));
        let late = json!({ "phase": "Failed", "reason": "DeadlineExceeded" });
        assert!(why(late).contains("KUBERNETES_DEADLINE"));
        let died = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        let status = json!({ "phase": "Failed", "containerStatuses": container("agent", died) });
        assert!(why(status).contains("status 1"));
    }
}
