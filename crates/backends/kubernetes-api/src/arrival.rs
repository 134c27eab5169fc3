//! Whether a pod runs: by its status, and before that by its events.
//!
//! A kubelet looks once a second at what has become of its containers, and writes that into their pods'
//! status. That it has started one it says at once, in an event. And that a node fails again and again to
//! make a pod's network, its volumes or its namespaces is in no status at all.

use std::time::Duration;

use agentkernel_core::BootError;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use crate::client::Client;
use crate::pending::{Told, Verdict, judge, told};

/// How long a node may go on trying what it has failed at. Networks, for one, come up late on new nodes.
const TRIES: Duration = Duration::from_secs(45);

/// How long it is between the begins of two watches at least: one may be ended as soon as it has begun, by
/// whatever lies between here and the cluster.
const TURN: Duration = Duration::from_secs(1);

/// Comes at once, and then for every further watch.
fn turns() -> Interval {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// Waits until the cluster says that a pod runs, or that it never will.
pub async fn await_running(client: &Client, name: &str) -> Result<(), BootError> {
    let refused = |error| client.refusal("watch", "pods", &error);
    let only = format!("metadata.name={name}");
    let told = |event| {
        let verdict = match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => judge(&pod),
            WatchEvent::Deleted(_) => Verdict::deleted(),
            WatchEvent::Error(_) | WatchEvent::Bookmark(_) => Verdict::Waits,
        };
        match verdict {
            Verdict::Runs => Some(Ok(())),
            Verdict::Never { why, fix } => Some(Err(BootError::Refused { why, fix })),
            Verdict::Waits => None,
        }
    };
    follow::<Pod, _>(client.pods(), &only, told).await.map_err(refused)?
}

/// Waits until a node says that it has started the new pod of this name and number, or the cluster that it
/// never will.
pub async fn await_start(client: &Client, name: &str, uid: &str) -> Result<(), BootError> {
    tokio::select! {
        running = await_running(client, name) => running,
        // Who can't have the events has to wait for the status.
        Ok(heard) = hear(client, uid) => heard,
    }
}

/// Waits until events say that the pod has been started, or that its node does not get on.
async fn hear(client: &Client, uid: &str) -> Result<Result<(), BootError>, kube::Error> {
    let only = format!("involvedObject.uid={uid}");
    let mut failure: Option<(Instant, String)> = None;
    let mut turns = turns();
    loop {
        turns.tick().await;
        let mut events = watch::<Event>(client.events(), &only).await?;
        loop {
            let event = match &failure {
                None => next(&mut events).await?,
                Some((until, why)) => match timeout_at(*until, next(&mut events)).await {
                    Ok(event) => event?,
                    Err(_) => return Ok(Err(unable(why))),
                },
            };
            match event {
                Some(WatchEvent::Added(event) | WatchEvent::Modified(event)) => {
                    match told(&event) {
                        Told::Started => return Ok(Ok(())),
                        Told::Failed(why) => {
                            let until = failure.map(|(until, _)| until);
                            failure = Some((until.unwrap_or_else(|| Instant::now() + TRIES), why));
                        }
                        Told::Else => {}
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
    }
}

fn unable(why: &str) -> BootError {
    BootError::Refused {
        why: format!("the pod's node can't make it: {why}"),
        fix: "have the node mended, or name others in KUBERNETES_NODE_SELECTOR, or another \
              KUBERNETES_RUNTIME_CLASS"
            .into(),
    }
}

/// The first thing that `told` makes of what happens to those that `only` finds.
pub async fn follow<T, R>(
    of: Api<T>,
    only: &str,
    mut told: impl FnMut(WatchEvent<T>) -> Option<R>,
) -> Result<R, kube::Error>
where
    T: Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut turns = turns();
    loop {
        turns.tick().await;
        let mut events = watch(of.clone(), only).await?;
        while let Some(event) = next(&mut events).await? {
            if let Some(told) = told(event) {
                return Ok(told);
            }
        }
    }
}

type Events<T> = BoxStream<'static, Result<WatchEvent<T>, kube::Error>>;

/// What happens to the things that `only` finds, from whatever there is now.
async fn watch<T>(of: Api<T>, only: &str) -> Result<Events<T>, kube::Error>
where
    T: Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let parameters = WatchParams::default().fields(only);
    Ok(of.watch(&parameters, "0").await?.boxed())
}

/// The next of them. A watch has an end of its own; what has happened meanwhile comes with the next one.
async fn next<T>(events: &mut Events<T>) -> Result<Option<WatchEvent<T>>, kube::Error> {
    match events.try_next().await {
        Ok(Some(WatchEvent::Error(_)) | None) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 410 => Ok(None),
        other => other,
    }
}
