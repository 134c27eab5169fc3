//! From a spec to a pod: the one place where policy becomes a cluster's words.
//!
//! Every field of a [`Spec`] is somebody's: the cluster's, by a field of the pod, the agent's, inside, or
//! nobody's, and then refused before anything is made.
//!
//! | of the spec | who enforces it |
//! |---|---|
//! | `image` | the node's runtime; only names are images |
//! | `network: none` | the agent, by the filter of system calls, and a [policy](network_policy) of the cluster's |
//! | `network: full` | the cluster's own network |
//! | `network: allow`, `ports`, `mounts` | refused |
//! | `root: read-only` | the runtime, and memory where something may be written |
//! | `limits.cpus`, `limits.memory` | the kubelet, by control groups |
//! | `limits.pids` | refused if somebody asked: the kubelet has one for all pods, if any |
//! | `limits.disk` | refused: the kubelet only looks now and then |
//! | `user` | the runtime: a pod is one user's, by number, and never root's |
//! | `environment`, `directory` | the agent, for each command |
//! | no new privileges, capabilities, system calls | the runtime for all of the pod, and the agent for each command |

use agentkernel_containers::{AGENT, BESIDE, DONE, DOOR, HELD, INSTALL, KEPT, NAMES};
use agentkernel_core::{BootError, Network, RootAccess, Spec, User};
use serde_json::{Value, json};

use crate::settings::Settings;

/// The container that commands run in, the one that puts the agent there, and the one that adds the pod's
/// user to the image's lists.
pub const CONTAINER: &str = "sandbox";
pub const AGENTS_CONTAINER: &str = "agent";
const NAMES_CONTAINER: &str = "names";

/// The port of the pod's loopback by which the agent's first stream comes: of those that nobody has a name
/// for, and that no connection is given by itself.
pub const PORT: u16 = 61_237;

/// The labels of our objects: that they are ours, whose, and whether they are to be without a network.
pub const MANAGED: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "agentkernel";
pub const OWNER: &str = "agentkernel.dev/owner";
pub const NETWORK: &str = "agentkernel.dev/network";
/// The label by which a policy finds its pod.
pub const POD: &str = "agentkernel.dev/pod";
/// The annotation with what its agent wants to hear of whoever comes. Nobody inside can read it.
pub const KEY: &str = "agentkernel.dev/key";
/// Whether what is written in it is kept.
pub const KEPT_LABEL: &str = "agentkernel.dev/kept";

/// Where the agent's volume is while it is filled, and the file.
const FILLED: &str = "/.agentkernel/volume";
const FILE: &str = "/.agentkernel/volume/agent";

/// Where the volume is that has the home, in whose own folder that is: a volume's own folder is root's.
const HOMES: &str = "/.agentkernel/homes";
const HOMES_OWN: &str = "/.agentkernel/homes/own";
const OWN: &str = "own";

/// The folder inside that the agent's program is in.
const FOLDER: &str = "/.agentkernel";

/// The home of whoever has none of the image's.
pub const HOME: &str = "/home/agent";

/// The name of whoever has none in the image.
pub const AGENTS_NAME: &str = "agent";

/// Who commands are where nobody is named.
const ORDINARY: u32 = 1000;

/// What a node sets aside for a pod, unless that is all it may use: what an agent needs by itself.
const LEAST_CPU: u64 = 10;
const LEAST_MEMORY: u64 = 16 << 20;

/// What a pod is made of, besides the spec.
pub struct Parts<'a> {
    pub name: &'a str,
    pub owner: &'a str,
    pub reference: &'a str,
    pub agent_image: &'a str,
    /// Without which nobody speaks to its agent.
    pub key: &'a str,
    pub user: (u32, u32),
    /// Whether it keeps what is written in it.
    pub kept: bool,
    /// After how many seconds it is ended, whatever it does.
    pub deadline: i64,
}

/// As whom a pod runs for `user`, which has to be known before its image is.
pub fn user(user: &User, caller: (u32, u32)) -> Result<(u32, u32), BootError> {
    let (why, found) = match user {
        User::Unprivileged => return Ok((ORDINARY, ORDINARY)),
        User::Named(name) if name == "agent" => return Ok((ORDINARY, ORDINARY)),
        User::Named(name) => {
            let why = "what numbers an image's names have is not known before a node has it";
            (why, format!("the name {name:?}"))
        }
        User::Caller => {
            ("a pod's processes are never root's", format!("you, who are {}", caller.0))
        }
        User::Ids { uid, .. } => ("a pod's processes are never root's", uid.to_string()),
    };
    let ids = match user {
        User::Ids { uid, gid } => Some((*uid, *gid)),
        User::Caller => Some(caller),
        _ => None,
    };
    ids.filter(|(uid, _)| *uid != 0).ok_or_else(|| BootError::Refused {
        why: format!("commands in a pod can't run as {found}: {why}"),
        fix: "name an ordinary user by number, as in --user 1000:1000".into(),
    })
}

/// The pod, in the words of the cluster.
pub fn pod(spec: &Spec, settings: &Settings, parts: &Parts<'_>) -> Value {
    let (uid, gid) = parts.user;
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": parts.name,
            "labels": labels(spec, parts),
            "annotations": { KEY: parts.key },
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": parts.deadline,
            // The agent ends all at once, and there is nobody else to be asked.
            "terminationGracePeriodSeconds": 0,
            "hostname": "agentkernel",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": uid,
                "runAsGroup": gid,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            // In their order. Of init containers a kubelet only sees at its next look that they have
            // ended, which is once a second; of these it waits for each one's hook.
            "containers": [
                beside(agents_container(parts), FILLED),
                beside(names_container(parts), DOOR),
                container(spec, settings, parts),
            ],
            "volumes": volumes(spec, parts),
        },
    });
    let own = &mut pod["spec"];
    let mut set = |name: &str, value: Option<Value>| {
        value.into_iter().for_each(|value| own[name] = value);
    };
    let some = |value: &Option<String>| value.as_deref().map(Value::from);
    set("runtimeClassName", some(&settings.runtime_class));
    set("serviceAccountName", some(&settings.service_account));
    let selector = &settings.node_selector;
    set("nodeSelector", (!selector.is_empty()).then(|| json!(selector)));
    let tolerations = &settings.tolerations;
    set("tolerations", (!tolerations.is_empty()).then(|| json!(tolerations)));
    let secrets = settings.pull_secrets.iter().map(|name| json!({ "name": name }));
    let secrets: Vec<Value> = secrets.collect();
    set("imagePullSecrets", (!secrets.is_empty()).then(|| secrets.into()));
    pod
}

fn labels(spec: &Spec, parts: &Parts<'_>) -> Value {
    json!({
        MANAGED: MANAGER,
        OWNER: parts.owner,
        POD: parts.name,
        NETWORK: network(spec),
        KEPT_LABEL: if parts.kept { "true" } else { "false" },
    })
}

fn network(spec: &Spec) -> &'static str {
    match spec.network {
        Network::None => "none",
        Network::Full | Network::Allow(_) => "full",
    }
}

/// What no container of ours may do.
fn security(read_only: bool) -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "runAsNonRoot": true,
        "readOnlyRootFilesystem": read_only,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// Puts the agent's program into the pod.
fn agents_container(parts: &Parts<'_>) -> Value {
    json!({
        "name": AGENTS_CONTAINER,
        "image": parts.agent_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [AGENT, INSTALL, FILE, HOMES_OWN],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security(true),
        "resources": fleeting(),
        "volumeMounts": [
            { "name": "agent", "mountPath": FILLED },
            { "name": "home", "mountPath": HOMES },
        ],
    })
}

/// Has a container, which would be enough by itself if it were an init container, hold back those that come
/// after it. It listens for its hook in `folder`.
fn beside(mut container: Value, folder: &str) -> Value {
    let hook = json!([AGENT, DONE, folder]);
    container["lifecycle"] = json!({ "postStart": { "exec": { "command": hook } } });
    if let Some(words) = container["command"].as_array_mut() {
        words.splice(1..1, [BESIDE.into(), folder.into()]);
    }
    container
}

/// The init container that this one would be.
pub fn by_itself(mut container: Value) -> Value {
    if let Some(own) = container.as_object_mut() {
        own.remove("lifecycle");
    }
    if let Some(words) = container["command"].as_array_mut() {
        words.drain(1..3);
    }
    container
}

/// What is set aside for a container that has gone before a command runs.
fn fleeting() -> Value {
    json!({ "requests": { "cpu": "1m", "memory": (1 << 20).to_string() } })
}

/// Makes the lists of users of what the image has, before they are mounted over that.
fn names_container(parts: &Parts<'_>) -> Value {
    json!({
        "name": NAMES_CONTAINER,
        "image": parts.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": [AGENT, NAMES, DOOR, AGENTS_NAME, HOME],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security(true),
        "resources": fleeting(),
        "volumeMounts": [
            { "name": "agent", "mountPath": FOLDER, "readOnly": true },
            { "name": "names", "mountPath": DOOR },
        ],
    })
}

fn container(spec: &Spec, settings: &Settings, parts: &Parts<'_>) -> Value {
    let mounts = private(spec, parts).into_iter().map(|(name, path, _)| match path {
        HOME => json!({ "name": name, "mountPath": path, "subPath": OWN }),
        _ => json!({ "name": name, "mountPath": path }),
    });
    let lists = ["passwd", "group"].map(|list| {
        let path = format!("/etc/{list}");
        json!({ "name": "names", "mountPath": path, "subPath": list, "readOnly": true })
    });
    let agent = json!({ "name": "agent", "mountPath": FOLDER, "readOnly": true });
    let door = json!({ "name": "door", "mountPath": DOOR });
    let mounts: Vec<Value> = [agent, door].into_iter().chain(lists).chain(mounts).collect();
    json!({
        "name": CONTAINER,
        "image": parts.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": [AGENT, if parts.kept { KEPT } else { HELD }, PORT.to_string()],
        // What the agent says, if it can't be served: a line or two.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security(spec.root == RootAccess::ReadOnly),
        "resources": resources(spec, settings),
        "volumeMounts": mounts,
    })
}

/// What is to be forgotten, or can be written where the root can't: the volume, where it is, and whether
/// it is in memory.
fn private(spec: &Spec, parts: &Parts<'_>) -> [(&'static str, &'static str, bool); 4] {
    let forgotten = !parts.kept || spec.root == RootAccess::ReadOnly;
    [
        ("run", "/run", true),
        ("shm", "/dev/shm", true),
        ("tmp", "/tmp", forgotten),
        ("home", HOME, forgotten),
    ]
}

fn volumes(spec: &Spec, parts: &Parts<'_>) -> Vec<Value> {
    // What fills one is told that it is full, before memory has run out for all.
    let memory = spec.limits.memory.map(|asked| (asked.value.get() / 4 * 3).to_string());
    let own = private(spec, parts).into_iter().map(|(name, _, in_memory)| {
        let mut folder = json!({});
        if in_memory {
            folder["medium"] = "Memory".into();
            memory.iter().for_each(|most| folder["sizeLimit"] = most.as_str().into());
        }
        json!({ "name": name, "emptyDir": folder })
    });
    let agent = json!({ "name": "agent", "emptyDir": {} });
    let in_memory = json!({ "medium": "Memory" });
    let [door, names] =
        ["door", "names"].map(|name| json!({ "name": name, "emptyDir": in_memory }));
    [agent, door, names].into_iter().chain(own).collect()
}

fn resources(spec: &Spec, settings: &Settings) -> Value {
    let cpu = spec.limits.cpus.map(|asked| u64::from(asked.value.millis()));
    let memory = spec.limits.memory.map(|asked| asked.value.get());
    let mut resources = json!({ "limits": {}, "requests": {} });
    for (name, limit, least) in [("cpu", cpu, LEAST_CPU), ("memory", memory, LEAST_MEMORY)] {
        let text = |value: u64| match name {
            "cpu" => format!("{value}m"),
            _ => value.to_string(),
        };
        if let Some(limit) = limit {
            resources["limits"][name] = text(limit).into();
        }
        let least = limit.map_or(least, |limit| limit.min(least));
        let request = limit.filter(|_| settings.sets_limits_aside).unwrap_or(least);
        resources["requests"][name] = text(request).into();
    }
    resources
}

/// What denies all traffic to and from the pod `name`, whose number in the cluster is `uid`; it goes
/// with that, in a while: so it is called after both, as the pod may be made again before. Whether anybody
/// enforces it is the cluster's network plugin's.
pub fn network_policy(name: &str, uid: &str, owner: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": format!("{name}.{uid}"),
            "labels": { MANAGED: MANAGER, OWNER: owner },
            "ownerReferences": [
                { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid },
            ],
        },
        "spec": {
            "podSelector": { "matchLabels": { POD: name } },
            "policyTypes": ["Ingress", "Egress"],
        },
    })
}

#[cfg(test)]
mod tests;
