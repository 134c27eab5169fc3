//! Pods that vanished makers have left.

use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::BootError;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::client::{Client, runtime};
use crate::pending::has_restarted;
use crate::pod::{KEPT_LABEL, MANAGED, MANAGER};
use crate::settings::Settings;
use crate::shared::{NAME, POOL};
use crate::way::Way;

/// How long a stream is there that is brought to find out whether anybody else has brought one, and how long
/// all of that may take.
const STAY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

/// How many agents are asked at once.
const AT_ONCE: usize = 8;

/// Removes those that have ended, whosever they were: an agent ends with its stream, and whoever still
/// had that would have removed it by itself. Tells what they are called.
pub fn sweep() -> Result<Vec<PathBuf>, BootError> {
    let settings = Settings::read()?;
    // Who has no cluster has left nothing there.
    if settings.agent_image.is_none() {
        return Ok(Vec::new());
    }
    runtime()?.block_on(async {
        let client = Client::find(settings).await?;
        let forgotten =
            ListParams::default().labels(&format!("{MANAGED}={MANAGER},{KEPT_LABEL}=false"));
        let found = client.pods().list(&forgotten).await;
        let found = found.map_err(|error| client.refusal("list", "pods", &error))?;
        let (ended, others): (Vec<Pod>, Vec<Pod>) = found.into_iter().partition(has_ended);
        let mut swept = Vec::new();
        for pod in ended {
            let name = pod.metadata.name.unwrap_or_default();
            if client.pods().delete(&name, &DeleteParams::default()).await.is_ok() {
                swept.push(PathBuf::from(name));
            }
        }
        let claimed = others.iter().filter(|pod| is_claimed(pod));
        stream::iter(claimed).for_each_concurrent(AT_ONCE, |pod| wake(&client, pod)).await;
        Ok(swept)
    })
}

/// One out of a shared pool is started again when it has ended, and of no use to anybody.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded")) || has_restarted(pod)
}

/// Whether somebody has taken it out of a shared pool.
fn is_claimed(pod: &Pod) -> bool {
    let has = |label: &str| pod.metadata.labels.iter().flatten().any(|(own, _)| own == label);
    has(NAME) && !has(POOL)
}

/// Brings the agent a stream on which nothing is said, and takes it away. Nobody who has brought one before
/// notices. An agent to whom none ever came, since its client was killed just when it had claimed it, takes
/// this one for its first, which is cut: so it waits for the next one no longer than any agent does, and ends.
async fn wake(client: &Client, pod: &Pod) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let pods = client.pods();
    let brought = async {
        let mut way = Way::by_exec(&pods, name).await.ok()?;
        // It may end before.
        timeout(STAY, way.output.read(&mut [0; 64])).await.ok()
    };
    // Who can't be reached now is by a later sweep.
    let _ = timeout(PATIENCE, brought).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_those_that_were_claimed_are_woken() {
        let of = |labels| {
            let pod = json!({ "metadata": { "name": "p", "labels": labels } });
            is_claimed(&serde_json::from_value(pod).unwrap())
        };
        assert!(of(json!({ NAME: "quick" })));
        assert!(!of(json!({ NAME: "quick", POOL: "0" })));
        assert!(!of(json!({ KEPT_LABEL: "false" })));
    }
}
