//! Pools that all clients of a namespace share: a set of pods that the cluster itself keeps at its number.
//!
//! A pool is a `ReplicaSet` whose template is the pod that [`pod`](crate::pod::pod) makes of a spec, but
//! for what a claim adds. Its digest is of all of that, so only equal specs and settings of one version
//! meet. Whoever [claims](crate::claim) a pod takes it away from the set, which makes another one.
//!
//! A set's pods are started again when they have ended, and that can't be changed later. The agent sees
//! that and ends at once, so nothing that has run is ever run in again; and whoever looks removes them.
//!
//! Where the [settings](Pools) say so, a pool is kept by the resources of [others](sandboxes) instead.

use agentkernel_containers::POOLED;
use agentkernel_core::{BootError, Network, Shared, SharedPool, Spec, hex};
use agentkernel_sys::identity;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::boot;
use crate::client::{Client, failed, runtime};
use crate::pod::{self, KEPT_LABEL, MANAGED, MANAGER, NETWORK, Parts};
use crate::sandboxes;
use crate::settings::{Pools, Settings};

/// The label of a pod that nobody has claimed: the digest of what it was made from.
pub const POOL: &str = "agentkernel.dev/pool";
/// The label with the pool's name, which stays.
pub const NAME: &str = "agentkernel.dev/pool-name";

/// What denies all traffic of pods that are to have none, before anybody knows them one by one.
const NO_NETWORK: &str = "agentkernel-no-network";

/// What the pods of a pool are, and the digest of it.
#[derive(Debug)]
pub struct Template {
    pub pod: Value,
    pub digest: String,
}

impl Template {
    /// By the pod that would be made for one client.
    pub fn of(own: &Value, pools: Pools) -> Self {
        let mut spec = own["spec"].clone();
        let by_set = pools == Pools::ReplicaSets;
        if by_set {
            // A set has no others.
            spec["restartPolicy"] = "Always".into();
        }
        if let Some(all) = spec.as_object_mut() {
            all.remove("activeDeadlineSeconds");
        }
        // Whose every container that ends is started again, but those that come first.
        let mut all = spec["containers"].as_array().cloned().unwrap_or_default();
        let sandbox = all.pop().map(|mut sandbox| {
            sandbox["command"][1] = POOLED.into();
            sandbox
        });
        spec["containers"] = sandbox.into_iter().collect();
        spec["initContainers"] = all.into_iter().map(pod::by_itself).collect();
        let network = &own["metadata"]["labels"][NETWORK];
        let all = json!([env!("CARGO_PKG_VERSION"), network, spec]);
        let digest = hex(&Sha256::digest(all.to_string())[..16]);
        let mut labels = json!({ MANAGED: MANAGER, NETWORK: network });
        if by_set {
            labels[KEPT_LABEL] = "false".into();
            labels[POOL] = digest.as_str().into();
        }
        Self { pod: json!({ "metadata": { "labels": labels }, "spec": spec }), digest }
    }

    pub fn made_from(spec: &Spec, settings: &Settings) -> Result<Self, BootError> {
        let parts = Parts {
            name: "",
            owner: "",
            reference: boot::reference(spec)?,
            agent_image: settings.agent_image()?,
            key: "",
            user: pod::user(&spec.user, identity::effective())?,
            kept: false,
            deadline: 0,
        };
        Ok(Self::of(&pod::pod(spec, settings, &parts), settings.pools))
    }

    /// The set that keeps so many of them.
    fn set(&self, name: &str, size: u32) -> Value {
        let mut pod = self.pod.clone();
        pod["metadata"]["labels"][NAME] = name.into();
        json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": called(name),
                "labels": { MANAGED: MANAGER, POOL: self.digest, NAME: name },
            },
            "spec": {
                "replicas": size,
                "selector": { "matchLabels": { POOL: self.digest, NAME: name } },
                "template": pod,
            },
        })
    }
}

/// What the pool `name` is called among others' things.
pub fn called(name: &str) -> String {
    format!("agentkernel-pool-{name}")
}

pub fn share(order: Shared<'_>) -> Result<Vec<SharedPool>, BootError> {
    let settings = Settings::read()?;
    runtime()?.block_on(async {
        let client = Client::find(settings).await?;
        let done = match (order, client.settings.pools) {
            (Shared::List, Pools::ReplicaSets) => return list(&client).await,
            (Shared::List, Pools::Sandboxes) => return sandboxes::list(&client).await,
            (Shared::Set { name, size, spec }, Pools::ReplicaSets) => {
                set(&client, name, size, spec).await
            }
            (Shared::Set { name, size, spec }, Pools::Sandboxes) => {
                sandboxes::set(&client, name, size, spec).await
            }
            (Shared::Remove { name }, Pools::ReplicaSets) => remove(&client, name).await,
            (Shared::Remove { name }, Pools::Sandboxes) => sandboxes::remove(&client, name).await,
        };
        done.map(|()| vec![])
    })
}

fn sets(client: &Client) -> Api<ReplicaSet> {
    Api::namespaced(client.client.clone(), &client.namespace)
}

async fn list(client: &Client) -> Result<Vec<SharedPool>, BootError> {
    let ours = ListParams::default().labels(&format!("{MANAGED}={MANAGER},{POOL}"));
    let found = sets(client).list(&ours).await;
    let found = found.map_err(|error| client.refusal("list", "replicasets", &error))?;
    let count = |count: Option<i32>| count.and_then(|count| count.try_into().ok()).unwrap_or(0);
    let tell = |set: ReplicaSet| SharedPool {
        name: set.metadata.labels.unwrap_or_default().remove(NAME).unwrap_or_default(),
        size: count(set.spec.and_then(|spec| spec.replicas)),
        ready: count(set.status.and_then(|status| status.ready_replicas)),
    };
    Ok(found.into_iter().map(tell).collect())
}

async fn set(client: &Client, name: &str, size: u32, spec: &Spec) -> Result<(), BootError> {
    let template = Template::made_from(spec, &client.settings)?;
    let sets = sets(client);
    let name_there = called(name);
    let found = sets.get_opt(&name_there).await;
    let found = found.map_err(|error| client.refusal("get", "replicasets", &error))?;
    if let Some(found) = found {
        if found.metadata.labels.unwrap_or_default().get(POOL) == Some(&template.digest) {
            let size = Patch::Merge(json!({ "spec": { "replicas": size } }));
            let set = sets.patch(&name_there, &PatchParams::default(), &size).await;
            return set.map(drop).map_err(|error| client.refusal("patch", "replicasets", &error));
        }
        // Of what it is made can't be changed.
        remove(client, name).await?;
    }
    if spec.network == Network::None {
        close_network(client).await?;
    }
    let set = serde_json::from_value(template.set(name, size))
        .map_err(|error| failed("can't say what the pool is", error))?;
    let made = sets.create(&PostParams::default(), &set).await;
    made.map(drop).map_err(|error| client.refusal("create", "replicasets", &error))
}

/// Denies all traffic of pods without a network. It stays, as pods outlast their pool.
pub async fn close_network(client: &Client) -> Result<(), BootError> {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": NO_NETWORK, "labels": { MANAGED: MANAGER } },
        "spec": {
            "podSelector": { "matchLabels": { MANAGED: MANAGER, NETWORK: "none" } },
            "policyTypes": ["Ingress", "Egress"],
        },
    });
    let policy: NetworkPolicy = serde_json::from_value(policy)
        .map_err(|error| failed("can't say what the pool's policy is", error))?;
    let policies: Api<NetworkPolicy> = Api::namespaced(client.client.clone(), &client.namespace);
    match policies.create(&PostParams::default(), &policy).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(client.refusal("create", "networkpolicies", &error)),
    }
}

async fn remove(client: &Client, name: &str) -> Result<(), BootError> {
    match sets(client).delete(&called(name), &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(no_such_pool(client, name)),
        Err(error) => Err(client.refusal("delete", "replicasets", &error)),
    }
}

pub fn no_such_pool(client: &Client, name: &str) -> BootError {
    BootError::Refused {
        why: format!("the namespace {} has no shared pool {name}", client.namespace),
        fix: "agentkernel pool ls --shared shows all of them".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(image: &str, name: &str, deadline: u32, network: &str) -> Value {
        json!({
            "metadata": { "name": name, "labels": { NETWORK: network } },
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": deadline,
                "containers": [
                    { "image": "agent", "command": ["agent", "beside", "/x", "install"],
                      "lifecycle": {} },
                    { "image": image, "command": ["agent", "held"] },
                ],
            },
        })
    }

    #[test]
    fn only_equal_specs_meet() {
        let digest = |pod: &Value| Template::of(pod, Pools::ReplicaSets).digest;
        let one = digest(&own("debian", "a", 60, "none"));
        assert_eq!(one, digest(&own("debian", "b", 600, "none")), "a client is not in it");
        assert_ne!(one, digest(&own("alpine", "a", 60, "none")));
        assert_ne!(one, digest(&own("debian", "a", 60, "full")));
    }

    #[test]
    fn what_others_keep_is_no_sets_and_is_started_once() {
        let own = own("debian", "a", 60, "none");
        let template = Template::of(&own, Pools::Sandboxes);
        assert_ne!(template.digest, Template::of(&own, Pools::ReplicaSets).digest);
        let labels = json!({ MANAGED: MANAGER, NETWORK: "none" });
        assert_eq!(template.pod["metadata"]["labels"], labels, "nobody else may take or sweep it");
        let spec = &template.pod["spec"];
        assert_eq!(
            (&spec["restartPolicy"], &spec["activeDeadlineSeconds"]),
            (&json!("Never"), &Value::Null)
        );
    }

    #[test]
    fn a_set_takes_its_pods() {
        let template = Template::of(&own("debian", "a", 60, "none"), Pools::ReplicaSets);
        let set = template.set("quick", 3);
        let wanted = &set["spec"]["selector"]["matchLabels"];
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&labels[name], value);
        }
        let spec = &set["spec"]["template"]["spec"];
        assert_eq!(
            (&spec["restartPolicy"], &spec["activeDeadlineSeconds"]),
            (&json!("Always"), &Value::Null)
        );
        assert_eq!(
            spec["containers"],
            json!([{ "image": "debian", "command": ["agent", POOLED] }])
        );
        let first = json!([{ "image": "agent", "command": ["agent", "install"] }]);
        assert_eq!(spec["initContainers"], first);
        let _: ReplicaSet = serde_json::from_value(set).unwrap();
    }
}
