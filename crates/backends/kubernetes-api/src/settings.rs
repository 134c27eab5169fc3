//! Which cluster it is, and how pods are to be there: what the command line of Kubernetes goes by, and
//! variables of our own.

use std::collections::BTreeMap;

use agentkernel_core::BootError;
use agentkernel_far::Configured;
use serde_json::{Value, json};

/// The context of the kubeconfig, if not its current one.
const CONTEXT: &str = "KUBERNETES_CONTEXT";
/// The namespace, if not the context's or the pod's own.
const NAMESPACE: &str = "KUBERNETES_NAMESPACE";
/// The image with the agent's program.
pub const AGENT_IMAGE: &str = "KUBERNETES_AGENT_IMAGE";
/// `LABEL=VALUE,...` that a node must have.
const NODE_SELECTOR: &str = "KUBERNETES_NODE_SELECTOR";
/// `KEY[=VALUE][:EFFECT],...` of taints that are no hindrance.
const TOLERATIONS: &str = "KUBERNETES_TOLERATIONS";
/// The runtime class, such as one of gVisor's or of Kata's.
const RUNTIME_CLASS: &str = "KUBERNETES_RUNTIME_CLASS";
const SERVICE_ACCOUNT: &str = "KUBERNETES_SERVICE_ACCOUNT";
/// The names of secrets with which images are pulled, parted by commas.
const PULL_SECRETS: &str = "KUBERNETES_PULL_SECRETS";
/// `limits` if a node is to set aside all that a pod may use.
const REQUESTS: &str = "KUBERNETES_REQUESTS";
/// How many seconds a pod lives at most.
const DEADLINE: &str = "KUBERNETES_DEADLINE";
/// By what shared pools are kept: `replicasets`, or `sandboxes`, those of kubernetes-sigs/agent-sandbox.
const POOLS: &str = "KUBERNETES_POOLS";

/// All that says which cluster it is, besides our [own](OWN_VARIABLES).
pub const VARIABLES: &[&str] = &[
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    // A kubeconfig may name a program that has the credentials.
    "HTTPS_PROXY",
    "NO_PROXY",
    "HOME",
    "XDG_CONFIG_HOME",
    "PATH",
];

/// How pods are there. The settings file may say so, too.
pub const OWN_VARIABLES: &[&str] = &[
    CONTEXT,
    NAMESPACE,
    AGENT_IMAGE,
    NODE_SELECTOR,
    TOLERATIONS,
    RUNTIME_CLASS,
    SERVICE_ACCOUNT,
    PULL_SECRETS,
    REQUESTS,
    DEADLINE,
    POOLS,
];

/// How long a pod lives at most if nobody says otherwise, and one of a sandbox that lives on.
const DAY: i64 = 24 * 60 * 60;
const MONTH: i64 = 30 * DAY;

/// By what shared pools are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pools {
    #[default]
    ReplicaSets,
    /// The resources of kubernetes-sigs/agent-sandbox. Only who says so has them: to look whether a cluster
    /// has them would cost each run a request, and pools of both kinds may be there.
    Sandboxes,
}

/// What the variables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub context: Option<String>,
    pub namespace: Option<String>,
    pub agent_image: Option<String>,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Value>,
    pub runtime_class: Option<String>,
    pub service_account: Option<String>,
    pub pull_secrets: Vec<String>,
    pub sets_limits_aside: bool,
    /// After how many seconds pods are ended, if somebody says so.
    pub deadline: Option<i64>,
    pub pools: Pools,
}

impl Settings {
    /// Those of the environment, and of the user's settings file where it says nothing.
    pub fn read() -> Result<Self, BootError> {
        let configured = Configured::read("kubernetes", OWN_VARIABLES)?;
        Self::by(|name| configured.get(name))
    }

    fn by(variable: impl Fn(&str) -> Option<String>) -> Result<Self, BootError> {
        let words = |name: &str| -> Vec<String> {
            let all = variable(name).unwrap_or_default();
            all.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Into::into).collect()
        };
        let label = |word: String| match word.split_once('=') {
            Some((label, value)) => Ok((label.to_owned(), value.to_owned())),
            None => Err(wrong(NODE_SELECTOR, &word, "LABEL=VALUE[,...]")),
        };
        let sets_limits_aside = match variable(REQUESTS).as_deref() {
            None | Some("least") => false,
            Some("limits") => true,
            Some(other) => return Err(wrong(REQUESTS, other, "least or limits")),
        };
        let pools = match variable(POOLS).as_deref() {
            None | Some("replicasets") => Pools::ReplicaSets,
            Some("sandboxes") => Pools::Sandboxes,
            Some(other) => return Err(wrong(POOLS, other, "replicasets or sandboxes")),
        };
        let deadline = |text: String| match text.parse() {
            Ok(seconds @ 60..) => Ok(seconds),
            _ => Err(wrong(DEADLINE, &text, "a number of seconds, 60 at least")),
        };
        Ok(Self {
            context: variable(CONTEXT),
            namespace: variable(NAMESPACE),
            agent_image: variable(AGENT_IMAGE),
            node_selector: words(NODE_SELECTOR).into_iter().map(label).collect::<Result<_, _>>()?,
            tolerations: words(TOLERATIONS).iter().map(|word| toleration(word)).collect(),
            runtime_class: variable(RUNTIME_CLASS),
            service_account: variable(SERVICE_ACCOUNT),
            pull_secrets: words(PULL_SECRETS),
            sets_limits_aside,
            deadline: variable(DEADLINE).map(deadline).transpose()?,
            pools,
        })
    }

    /// How many seconds a pod lives at most.
    pub fn lifetime(&self, kept: bool) -> i64 {
        self.deadline.unwrap_or(if kept { MONTH } else { DAY })
    }

    /// The image with the agent's program.
    pub fn agent_image(&self) -> Result<&str, BootError> {
        self.agent_image.as_deref().ok_or_else(|| BootError::Unavailable {
            why: format!("no image has the agent that goes into pods: {AGENT_IMAGE} is not set"),
            fix: format!(
                "set {AGENT_IMAGE} to one that the cluster can pull; docs/kubernetes.md has the two \
                 lines by which it is made"
            ),
        })
    }
}

/// `KEY[=VALUE][:EFFECT]`, as `kubectl taint` has it.
fn toleration(word: &str) -> Value {
    let (word, effect) = match word.split_once(':') {
        Some((word, effect)) => (word, Some(effect)),
        None => (word, None),
    };
    let mut toleration = match word.split_once('=') {
        Some((key, value)) => json!({ "key": key, "operator": "Equal", "value": value }),
        None => json!({ "key": word, "operator": "Exists" }),
    };
    if let Some(effect) = effect {
        toleration["effect"] = effect.into();
    }
    toleration
}

fn wrong(name: &str, text: &str, form: &str) -> BootError {
    BootError::Refused { why: format!("{name} is {text:?}"), fix: format!("set it to {form}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(all: &[(&str, &str)]) -> Result<Settings, BootError> {
        Settings::by(|name| {
            let found = all.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_the_variables_say_is_understood() {
        let settings = read(&[
            (NODE_SELECTOR, "disk=ssd, zone=a"),
            (TOLERATIONS, "spot=true:NoSchedule,gpu"),
            (PULL_SECRETS, "one,two"),
            (DEADLINE, "600"),
            (POOLS, "sandboxes"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.node_selector["zone"], "a");
        let spot =
            json!({ "key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule" });
        assert_eq!(settings.tolerations, [spot, json!({ "key": "gpu", "operator": "Exists" })]);
        assert_eq!((settings.pull_secrets.len(), settings.lifetime(true)), (2, 600));
        assert_eq!(settings.pools, Pools::Sandboxes);
        assert_eq!(read(&[]).unwrap().lifetime(false), DAY);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, value) in [
            (NODE_SELECTOR, "ssd"),
            (DEADLINE, "5"),
            (DEADLINE, "x"),
            (REQUESTS, "all"),
            (POOLS, "x"),
        ] {
            assert!(
                matches!(read(&[(name, value)]), Err(BootError::Refused { .. })),
                "{name}={value}"
            );
        }
        assert!(matches!(read(&[]).unwrap().agent_image(), Err(BootError::Unavailable { .. })));
    }
}
