//! Whether a pod runs: by its status, and before that by its events.
//!
//! A kubelet looks once a second at what has become of its containers, and writes that into their pods'
//! status. That it has started one it says at once, in an event.

use agentkernel_core::BootError;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::pending::{Verdict, has_started, judge};

/// Waits until the cluster says that a pod runs, or that it never will.
pub async fn await_running(client: &Client, name: &str) -> Result<(), BootError> {
    let only = format!("metadata.name={name}");
    watch(client, client.pods(), "pods", only, |event: WatchEvent<Pod>| match event {
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => judge(&pod),
        WatchEvent::Deleted(_) => Verdict::deleted(),
        WatchEvent::Error(_) | WatchEvent::Bookmark(_) => Verdict::Waits,
    })
    .await
}

/// Waits until a node says that it has started a new pod, or the cluster that it never will.
pub async fn await_start(client: &Client, name: &str) -> Result<(), BootError> {
    let only = format!("involvedObject.name={name}");
    let started =
        watch(client, client.events(), "events", only, |event: WatchEvent<Event>| match event {
            WatchEvent::Added(event) | WatchEvent::Modified(event) if has_started(&event) => {
                Verdict::Runs
            }
            _ => Verdict::Waits,
        });
    let running = await_running(client, name);
    tokio::select! {
        running = running => running,
        // Who can't have the events has to wait for the status.
        Ok(()) = started => Ok(()),
    }
}

/// Has what happens to the things that `only` finds judged, until that is no waiting any more.
async fn watch<T: Clone + DeserializeOwned + std::fmt::Debug + 'static>(
    client: &Client,
    of: Api<T>,
    resource: &str,
    only: String,
    judge: impl Fn(WatchEvent<T>) -> Verdict,
) -> Result<(), BootError> {
    let parameters = WatchParams::default().fields(&only);
    loop {
        // From whatever there is now.
        let watched = of.watch(&parameters, "0").await;
        let watched = watched.map_err(|error| client.refusal("watch", resource, &error))?;
        let mut events = watched.boxed();
        loop {
            let event = match events.try_next().await {
                Ok(Some(WatchEvent::Error(_)) | None) => break,
                Ok(Some(event)) => event,
                // A watch has an end of its own; what has happened meanwhile comes with the next.
                Err(kube::Error::Api(status)) if status.code == 410 => break,
                Err(error) => return Err(client.refusal("watch", resource, &error)),
            };
            match judge(event) {
                Verdict::Runs => return Ok(()),
                Verdict::Never { why, fix } => return Err(BootError::Refused { why, fix }),
                Verdict::Waits => {}
            }
        }
    }
}
