//! A pod out of a [pool that is shared](crate::shared), taken so that nobody else gets it.
//!
//! A claim is one patch that holds only of the version of the pod that was seen: it takes the pod away from
//! its pool and writes down whose it is, what its agent wants to hear, and its deadline. Of several clients
//! the cluster lets one do that. Whoever comes late tries the next.

use agentkernel_core::{BootError, hex};
use http::header::DATE;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822;
use kube::Resource;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::core::{ObjectList, Request, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::{Client, PATIENCE};
use crate::order::Order;
use crate::pending::{Verdict, has_restarted, judge};
use crate::pod::{KEY, OWNER, POD};
use crate::sandboxes;
use crate::settings::Pools;
use crate::shared::{NAME, POOL};
use crate::way::Way;

/// How often it is looked again for pods after others were faster.
const LOOKS: u32 = 3;

/// What the client is to know of how its pod was come by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// Whether it was claimed. Else one was made.
    pub is_claimed: bool,
    pub text: String,
}

impl Note {
    pub fn made(text: String) -> Self {
        Self { is_claimed: false, text }
    }
}

/// What came of it.
pub enum Claimed {
    /// It may have a way into it already.
    Pod {
        name: String,
        note: Note,
        way: Option<Way>,
    },
    Nothing(Option<Note>),
}

/// Claims a pod of the pool with this digest, if there is one that nobody has used. Whatever goes wrong, a
/// pod can be made instead.
pub async fn claim(client: &Client, order: &Order, digest: &str) -> Claimed {
    match client.settings.pools {
        Pools::ReplicaSets => claim_of_set(client, order, digest).await,
        Pools::Sandboxes => sandboxes::claim(client, order, digest).await,
    }
}

async fn claim_of_set(client: &Client, order: &Order, digest: &str) -> Claimed {
    for look in 0..LOOKS {
        let Some((now, pods)) = look_for(client, digest, look == 0).await else { break };
        let Some(name) = pods.first().map(pool_of) else { break };
        let mut others_were_faster = false;
        for pod in shuffled(pods) {
            if has_restarted(&pod) {
                discard(client, &pod).await;
                continue;
            }
            if judge(&pod) != Verdict::Runs {
                continue;
            }
            match take(client, order, &pod, now).await {
                Ok((name_there, way)) => {
                    let text =
                        format!("the pod {name_there} was ready in the cluster's pool {name}");
                    let note = Note { is_claimed: true, text };
                    return Claimed::Pod { name: name_there, note, way };
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    others_were_faster = true;
                }
                Err(error) => {
                    let why = client.refusal("patch", "pods", &error);
                    let note = format!("no pod of the cluster's pool {name} could be had: {why}");
                    return Claimed::Nothing(Some(Note::made(note)));
                }
            }
        }
        if !others_were_faster {
            let note = format!("the cluster's pool {name} had no pod ready: one was made");
            return Claimed::Nothing(Some(Note::made(note)));
        }
    }
    Claimed::Nothing(None)
}

fn pool_of(pod: &Pod) -> String {
    pod.metadata
        .labels
        .iter()
        .flatten()
        .find(|(label, _)| *label == NAME)
        .map_or_else(|| "without a name".to_owned(), |(_, name)| name.clone())
}

/// The pool's pods, and the time. For the `first` look what the cluster knows offhand will do: who is wrong
/// is told by the patch.
async fn look_for(client: &Client, digest: &str, first: bool) -> Option<(Timestamp, Vec<Pod>)> {
    let all = ListParams::default().labels(&format!("{POOL}={digest}"));
    let all = if first { all.match_any() } else { all };
    let path = Pod::url_path(&(), Some(&client.namespace));
    let (now, pods) = timeout(PATIENCE, look(client, &path, &all)).await.ok()?.ok()?;
    Some((now?, pods))
}

/// What there is, and the time by the cluster's clock, if it tells, as ours may be wrong.
pub async fn look<T: Clone + DeserializeOwned>(
    client: &Client,
    path: &str,
    all: &ListParams,
) -> Result<(Option<Timestamp>, Vec<T>), kube::Error> {
    let request = Request::new(path).list(all).map_err(kube::Error::BuildRequest)?;
    let (head, body) = client.client.send(request.map(Body::from)).await?.into_parts();
    let bytes = body.collect_bytes().await?;
    if !head.status.is_success() {
        let status = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Status::default().with_code(head.status.as_u16()));
        return Err(kube::Error::Api(Box::new(status)));
    }
    let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
    let now = date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let found: ObjectList<T> = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
    Ok((now, found.items))
}

/// So that not all who look at the same time begin with the same one.
fn shuffled(mut pods: Vec<Pod>) -> Vec<Pod> {
    let random = agentkernel_far::random().map_or(0, u128::from_be_bytes);
    let count = pods.len().max(1) as u128;
    pods.rotate_left(usize::try_from(random % count).unwrap_or_default());
    pods
}

/// Takes a pod as it was seen. Returns its name, and the way into it, which is made meanwhile: a cluster is
/// busy with another pod right afterwards. Whoever gets no pod says nothing on its way.
async fn take(
    client: &Client,
    order: &Order,
    pod: &Pod,
    now: Timestamp,
) -> Result<(String, Option<Way>), kube::Error> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let (pods, patch) = (client.pods(), Patch::Merge(patch(order, pod, now)));
    let parameters = PatchParams::default();
    let taken = pods.patch(&name, &parameters, &patch);
    let way = async { Ok(Way::by_port(client, &name).await) };
    let (_, way) = tokio::try_join!(taken, way)?;
    Ok((name, way))
}

/// What makes a pool's pod the order's.
fn patch(order: &Order, pod: &Pod, now: Timestamp) -> Value {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let age = started.map_or(0, |at| (now.as_second() - at.0.as_second()).max(0));
    json!({
        "metadata": {
            "resourceVersion": pod.metadata.resource_version,
            "uid": pod.metadata.uid,
            // It is nobody's any more who might take it along.
            "ownerReferences": null,
            "labels": { POOL: null, OWNER: order.owner, POD: order.name },
            "annotations": { KEY: hex(&order.key) },
        },
        // The cluster counts from the pod's start.
        "spec": { "activeDeadlineSeconds": age.saturating_add(order.lifetime) },
    })
}

/// Removes a pod that nobody can use, as it was seen. What can't be removed now is somebody's later.
async fn discard(client: &Client, pod: &Pod) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let _ = client.pods().delete(name, &DeleteParams::default().grace_period(0)).await;
}

/// Removes the pods that were claimed by this name, if there are any.
pub async fn remove_claimed(client: &Client, name: &str) -> Result<(), BootError> {
    if sandboxes::give_back(client, name).await? {
        return Ok(());
    }
    let own = ListParams::default().labels(&format!("{POD}={name}"));
    let pods = client.pods();
    let found = pods.list(&own).await.map_err(|error| client.refusal("list", "pods", &error))?;
    for pod in found {
        let name = pod.metadata.name.unwrap_or_default();
        let removed = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        removed.map_err(|error| client.refusal("delete", "pods", &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_of_what_was_seen_and_counts_by_the_clusters_clock() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "uid": "u", "resourceVersion": "7" },
            "status": { "startTime": "2026-11-30T10:00:00Z" },
        }))
        .unwrap();
        let order = Order { name: "made-up".into(), lifetime: 60, ..Order::default() };
        let now = rfc2822::parse("Mon, 30 Nov 2026 10:01:40 GMT").unwrap().timestamp();
        let patch = patch(&order, &pod, now);
        let metadata = &patch["metadata"];
        assert_eq!((&metadata["resourceVersion"], &metadata["uid"]), (&json!("7"), &json!("u")));
        assert!(metadata["labels"][POOL].is_null() && metadata["ownerReferences"].is_null());
        assert_eq!(patch["spec"]["activeDeadlineSeconds"], 160);
        let earlier = Timestamp::UNIX_EPOCH;
        assert_eq!(super::patch(&order, &pod, earlier)["spec"]["activeDeadlineSeconds"], 60);
    }
}
