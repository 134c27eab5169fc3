//! What only a pod's events tell: that its node can't make its network, its volumes or its namespaces.

use std::time::Duration;

use agentkernel_core::BootError;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, WatchEvent, WatchParams};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::Client;

/// How long a pod is waited for before its events are looked at: most run by then.
const CALM: Duration = Duration::from_secs(5);

/// How long a node may go on trying what it has failed at. Networks, for one, come up late on new nodes.
const TRIES: Duration = Duration::from_secs(45);

/// How long it is waited before the next look, if there is none that lasts.
const BREATH: Duration = Duration::from_secs(5);

/// What a node tries again and again.
const TRIED: [&str; 5] = [
    "FailedCreatePodSandBox",
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "NetworkNotReady",
];

/// Returns when a node has tried for long to make the pod with this number. Who may not watch events never
/// hears of that.
pub async fn trouble(client: &Client, uid: Option<String>) -> BootError {
    let Some(uid) = uid else { return std::future::pending().await };
    sleep(CALM).await;
    let mut until = None;
    let mut why = String::new();
    loop {
        tokio::select! {
            told = failure(client, &uid) => match told {
                Some(told) => {
                    why = told;
                    until.get_or_insert_with(|| Instant::now() + TRIES);
                }
                None => sleep(BREATH).await,
            },
            () = until_then(until) => break,
        }
    }
    BootError::Refused {
        why: format!("the pod's node can't make it: {why}"),
        fix: "have the node mended, or name others in KUBERNETES_NODE_SELECTOR, or another \
              KUBERNETES_RUNTIME_CLASS"
            .into(),
    }
}

/// The next failure that an event tells of, or that told of last. None if nothing more is told.
async fn failure(client: &Client, uid: &str) -> Option<String> {
    let events: Api<Event> = Api::namespaced(client.client.clone(), &client.namespace);
    let parameters = WatchParams::default().fields(&format!("involvedObject.uid={uid}"));
    let mut events = events.watch(&parameters, "0").await.ok()?.boxed();
    while let Ok(Some(event)) = events.try_next().await {
        let (WatchEvent::Added(event) | WatchEvent::Modified(event)) = event else { continue };
        let reason = event.reason.unwrap_or_default();
        if TRIED.contains(&&*reason) {
            return Some(format!("{reason}: {}", event.message.unwrap_or_default()));
        }
    }
    None
}

async fn until_then(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
