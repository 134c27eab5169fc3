//! Shared pools by the resources of kubernetes-sigs/agent-sandbox, kept by its controller.
//!
//! A pool is a `SandboxTemplate`, with the pod that a [set](crate::shared) would have, and a
//! `SandboxWarmPool` of it. Whoever takes a pod out of one makes a `SandboxClaim`: the controller gives it a
//! `Sandbox`, whose pod has that one's name, and of several claims each gets another. With the claim all of
//! that goes, and the claim goes when its pod has ended, or its time has come, whoever is still there.

use std::time::Duration;

use agentkernel_core::{BootError, Network, SharedPool, Spec};
use k8s_openapi::jiff::{Timestamp, ToSpan};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Resource};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::arrival::{await_running, follow};
use crate::claim::{Claimed, Note, look};
use crate::client::{Client, PATIENCE};
use crate::order::Order;
use crate::pod::{MANAGED, MANAGER, OWNER};
use crate::settings::Pools;
use crate::shared::{NAME, POOL, Template, called, close_network, no_such_pool};

/// A kind of the extensions' resources, and what all of that kind are called.
struct Kind(&'static str, &'static str);

const TEMPLATES: Kind = Kind("SandboxTemplate", "sandboxtemplates");
const POOLS: Kind = Kind("SandboxWarmPool", "sandboxwarmpools");
const CLAIMS: Kind = Kind("SandboxClaim", "sandboxclaims");

const GROUP: &str = "extensions.agents.x-k8s.io";
/// The first in which a claim names its pool.
const VERSION: &str = "v1beta1";

/// How long the controller may take for a claim, and to take notice of a pool.
const ANSWER: Duration = Duration::from_secs(5);

impl Kind {
    fn resource(&self) -> ApiResource {
        ApiResource {
            group: GROUP.into(),
            version: VERSION.into(),
            api_version: format!("{GROUP}/{VERSION}"),
            kind: self.0.into(),
            plural: self.1.into(),
        }
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        Api::namespaced_with(client.client.clone(), &client.namespace, &self.resource())
    }

    fn object(&self, name: &str, labels: &[(&str, &str)], spec: Value) -> DynamicObject {
        let labels = labels.iter().map(|(label, value)| (label.to_string(), value.to_string()));
        let object = DynamicObject::new(name, &self.resource());
        let metadata = ObjectMeta { labels: Some(labels.collect()), ..object.metadata };
        DynamicObject { metadata, data: json!({ "spec": spec }), ..object }
    }

    async fn make(&self, client: &Client, object: &DynamicObject) -> Result<(), BootError> {
        let made = self.api(client).create(&PostParams::default(), object).await;
        made.map(drop).map_err(|error| self.refusal(client, "create", &error))
    }

    /// Removes one, and tells whether it was there.
    async fn remove(&self, client: &Client, name: &str) -> Result<bool, BootError> {
        match self.api(client).delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(self.refusal(client, "delete", &error)),
        }
    }

    fn refusal(&self, client: &Client, verb: &str, error: &kube::Error) -> BootError {
        let Self(_, plural) = self;
        match error {
            kube::Error::Api(status)
                if status.code == 404 && !status.message.contains("namespaces") =>
            {
                BootError::Unavailable {
                    why: format!(
                        "the cluster at {} serves no {plural}.{GROUP} of version {VERSION}",
                        client.cluster
                    ),
                    fix: "have agent-sandbox of kubernetes-sigs installed there with its \
                          extensions, 0.5 or newer, or leave out KUBERNETES_POOLS"
                        .into(),
                }
            }
            other => client.refusal(verb, &format!("{plural}.{GROUP}"), other),
        }
    }
}

fn label<'a>(object: &'a DynamicObject, name: &str) -> &'a str {
    object.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
}

fn name(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

fn ready(pool: &DynamicObject) -> u64 {
    pool.data["status"]["readyReplicas"].as_u64().unwrap_or(0)
}

pub async fn list(client: &Client) -> Result<Vec<SharedPool>, BootError> {
    let tell = |pool: &DynamicObject| SharedPool {
        name: label(pool, NAME).to_owned(),
        size: pool.data["spec"]["replicas"].as_u64().unwrap_or(0),
        ready: ready(pool),
    };
    Ok(pools(client, POOL).await?.iter().map(tell).collect())
}

async fn pools(client: &Client, which: &str) -> Result<Vec<DynamicObject>, BootError> {
    let ours = ListParams::default().labels(&format!("{MANAGED}={MANAGER},{which}"));
    let found = POOLS.api(client).list(&ours).await;
    found.map(|found| found.items).map_err(|error| POOLS.refusal(client, "list", &error))
}

pub async fn set(
    client: &Client,
    pool_name: &str,
    size: u32,
    spec: &Spec,
) -> Result<(), BootError> {
    let template = Template::made_from(spec, &client.settings)?;
    // Their controller knows pools' pods by the pool's name: those of another digest have another.
    let own = format!("{}-{}", called(pool_name), &template.digest[..8]);
    let mut is_there = false;
    for other in pools(client, &format!("{NAME}={pool_name}")).await? {
        match label(&other, POOL) == template.digest {
            true => is_there = true,
            false => drop(remove_one(client, name(&other)).await?),
        }
    }
    if is_there {
        let size = Patch::Merge(json!({ "spec": { "replicas": size } }));
        let set = POOLS.api(client).patch(&own, &PatchParams::default(), &size).await;
        return set.map(drop).map_err(|error| POOLS.refusal(client, "patch", &error));
    }
    if spec.network == Network::None {
        close_network(client).await?;
    }
    let labels = [(MANAGED, MANAGER), (POOL, &*template.digest), (NAME, pool_name)];
    // Of a removal that was cut short.
    TEMPLATES.remove(client, &own).await?;
    TEMPLATES.make(client, &TEMPLATES.object(&own, &labels, blueprint(&template))).await?;
    let spec = json!({ "replicas": size, "sandboxTemplateRef": { "name": own } });
    POOLS.make(client, &POOLS.object(&own, &labels, spec)).await?;
    if size == 0 {
        return Ok(());
    }
    await_notice(client, &own).await
}

fn blueprint(template: &Template) -> Value {
    json!({
        "podTemplate": template.pod,
        "service": false,
        // Theirs would let pods have the internet, and goes with the template while claimed pods run.
        "networkPolicyManagement": "Unmanaged",
        "envVarsInjectionPolicy": "Disallowed",
        "volumeClaimTemplatesPolicy": "Disallowed",
    })
}

/// Waits until somebody keeps the pool.
async fn await_notice(client: &Client, own: &str) -> Result<(), BootError> {
    let refused = |error| POOLS.refusal(client, "watch", &error);
    let only = format!("metadata.name={own}");
    let is_noticed = |event| match event {
        WatchEvent::Added(pool) | WatchEvent::Modified(pool) => {
            let pool: DynamicObject = pool;
            pool.data["status"].as_object().is_some_and(|status| !status.is_empty())
        }
        _ => false,
    };
    let noticed = async {
        let told = |event| is_noticed(event).then_some(());
        follow(POOLS.api(client), &only, told).await.map_err(refused)
    };
    timeout(ANSWER, noticed).await.unwrap_or_else(|_| {
        Err(BootError::Unavailable {
            why: format!(
                "the pool is there as sandboxwarmpools/{own}, but nobody has taken notice of it in \
                 {} s",
                ANSWER.as_secs()
            ),
            fix: RUNS.into(),
        })
    })
}

/// What to do where nobody answers.
const RUNS: &str = "see that agent-sandbox's controller runs, with --extensions";

pub async fn remove(client: &Client, pool_name: &str) -> Result<(), BootError> {
    let found = pools(client, &format!("{NAME}={pool_name}")).await?;
    if found.is_empty() {
        return Err(no_such_pool(client, pool_name));
    }
    for pool in found {
        remove_one(client, name(&pool)).await?;
    }
    Ok(())
}

/// What was claimed stays.
async fn remove_one(client: &Client, own: &str) -> Result<bool, BootError> {
    POOLS.remove(client, own).await?;
    TEMPLATES.remove(client, own).await
}

/// Claims a pod of a pool with this digest. A claim that comes to nothing is given back.
pub async fn claim(client: &Client, order: &Order, digest: &str) -> Claimed {
    let nothing = |text: String| Claimed::Nothing(Some(Note::made(text)));
    let path = DynamicObject::url_path(&POOLS.resource(), Some(&client.namespace));
    let all = ListParams::default().labels(&format!("{POOL}={digest}")).match_any();
    let (now, pools) = match timeout(PATIENCE, look::<DynamicObject>(client, &path, &all)).await {
        Ok(Ok((Some(now), pools))) => (now, pools),
        Ok(Err(error)) => {
            let why = POOLS.refusal(client, "list", &error);
            return nothing(format!("no pool of the cluster's could be looked for: {why}"));
        }
        Ok(Ok((None, _))) | Err(_) => return Claimed::Nothing(None),
    };
    let Some(pool) = pools.iter().max_by_key(|pool| ready(pool)) else {
        return Claimed::Nothing(None);
    };
    let pool_name = label(pool, NAME);
    if ready(pool) == 0 {
        return nothing(format!("the cluster's pool {pool_name} had no pod ready: one was made"));
    }
    let claim = wanted(order, name(pool), now);
    let made = timeout(PATIENCE, CLAIMS.make(client, &claim)).await;
    let got = match made {
        Ok(Ok(())) => await_sandbox(client, &order.name).await,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the cluster does not answer".into()),
    };
    match got {
        Ok(Got { pod, is_ready }) => {
            let text = match is_ready {
                true => format!("the pod {pod} was ready in the cluster's pool {pool_name}"),
                false => format!("the cluster's pool {pool_name} had no pod ready: it made {pod}"),
            };
            Claimed::Pod { name: pod, note: Note { is_claimed: true, text }, way: None }
        }
        Err(why) => {
            let _ = give_back(client, &order.name).await;
            nothing(format!("no pod of the cluster's pool {pool_name} could be had: {why}"))
        }
    }
}

/// The claim of whoever would call a pod of its own so. A pod that is made for it has its name, and may be
/// there when the claim was given back.
fn claim_of(own: &str) -> String {
    format!("{own}-claim")
}

/// What asks for a pod, for as long as the order's may live.
fn wanted(order: &Order, pool: &str, now: Timestamp) -> DynamicObject {
    let until = now.checked_add(order.lifetime.seconds()).unwrap_or(Timestamp::MAX);
    let spec = json!({
        "warmPoolRef": { "name": pool },
        "lifecycle": {
            "shutdownTime": until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "shutdownPolicy": "Delete",
            // An agent ends when its client has gone.
            "ttlSecondsAfterFinished": 0,
        },
    });
    CLAIMS.object(&claim_of(&order.name), &[(MANAGED, MANAGER), (OWNER, &order.owner)], spec)
}

/// A claim's pod.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    pod: String,
    is_ready: bool,
}

/// Waits until the own claim has a pod that runs. An error says why it will have none.
async fn await_sandbox(client: &Client, own: &str) -> Result<Got, String> {
    let mut last = None;
    let heard = timeout(ANSWER, hear(client, own, &mut last)).await;
    let got = heard.unwrap_or_else(|_| {
        let seconds = ANSWER.as_secs();
        Err(match last {
            Some(why) => format!("the claim has got none in {seconds} s: {why}"),
            None => format!("nobody has answered the claim in {seconds} s; {RUNS}"),
        })
    })?;
    if !got.is_ready {
        let runs = await_running(client, &got.pod).await;
        runs.map_err(|error| error.to_string())?;
    }
    Ok(got)
}

/// Waits until the claim has a pod, and keeps the `last` word that was said of why it has none.
async fn hear(client: &Client, own: &str, last: &mut Option<String>) -> Result<Got, String> {
    let refused = |error| CLAIMS.refusal(client, "watch", &error).to_string();
    let only = format!("metadata.name={}", claim_of(own));
    let told = |event: WatchEvent<DynamicObject>| match event {
        WatchEvent::Added(claim) | WatchEvent::Modified(claim) => match said(&claim.data) {
            Ok(got) => Some(Ok(got)),
            Err(why) => {
                *last = why;
                None
            }
        },
        WatchEvent::Deleted(_) => Some(Err("somebody else has deleted the claim".into())),
        WatchEvent::Error(_) | WatchEvent::Bookmark(_) => None,
    };
    follow(CLAIMS.api(client), &only, told).await.map_err(refused)?
}

/// What a claim's status says: its pod, or why there is none, if that is said.
fn said(claim: &Value) -> Result<Got, Option<String>> {
    let status = &claim["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let condition = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    // A warm one's pod may end before anybody has seen it.
    let is_ready = condition.is_some_and(|condition| condition["status"] == "True");
    match status["sandbox"]["name"].as_str() {
        Some(pod) if !pod.is_empty() => Ok(Got { pod: pod.to_owned(), is_ready }),
        _ => Err(condition.map(|condition| {
            let word = |name: &str| condition[name].as_str().unwrap_or_default();
            format!("{}: {}", word("reason"), word("message"))
        })),
    }
}

/// Removes the claim of whoever would call a pod of its own so, whose pod goes with it, if there is one, and
/// tells that.
pub async fn give_back(client: &Client, own: &str) -> Result<bool, BootError> {
    match client.settings.pools {
        Pools::Sandboxes => CLAIMS.remove(client, &claim_of(own)).await,
        Pools::ReplicaSets => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_by_itself_by_the_clusters_clock() {
        let order = Order { name: "made-up".into(), lifetime: 90, ..Order::default() };
        let now = "2026-11-30T10:00:00Z".parse().unwrap();
        let claim = serde_json::to_value(wanted(&order, "quick-1", now)).unwrap();
        assert_eq!(claim["metadata"]["name"], "made-up-claim");
        assert_eq!(claim["spec"]["warmPoolRef"]["name"], "quick-1");
        assert_eq!(
            claim["spec"]["lifecycle"],
            json!({
                "shutdownTime": "2026-11-30T10:01:30Z",
                "shutdownPolicy": "Delete",
                "ttlSecondsAfterFinished": 0,
            })
        );
    }

    #[test]
    fn a_claims_status_tells_of_its_pod_or_why_there_is_none() {
        assert_eq!(said(&json!({ "spec": {} })), Err(None));
        let claim = |status: &str, name: Option<&str>| {
            let ready = json!({ "type": "Ready", "status": status, "reason": "R", "message": "m" });
            let others = json!({ "type": "Finished", "status": "True" });
            json!({ "status": { "conditions": [others, ready], "sandbox": { "name": name } } })
        };
        assert_eq!(said(&claim("False", None)), Err(Some("R: m".into())));
        let pod = "p".to_owned();
        assert_eq!(said(&claim("True", Some("p"))), Ok(Got { pod: pod.clone(), is_ready: true }));
        assert_eq!(said(&claim("False", Some("p"))), Ok(Got { pod, is_ready: false }));
    }
}
