//! Pods that vanished makers have left.

use std::path::PathBuf;

use agentkernel_core::BootError;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};

use crate::client::{Client, runtime};
use crate::pending::has_restarted;
use crate::pod::{KEPT_LABEL, MANAGED, MANAGER};
use crate::settings::Settings;

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
        let mut swept = Vec::new();
        for pod in found.into_iter().filter(has_ended) {
            let name = pod.metadata.name.unwrap_or_default();
            if client.pods().delete(&name, &DeleteParams::default()).await.is_ok() {
                swept.push(PathBuf::from(name));
            }
        }
        Ok(swept)
    })
}

/// One out of a shared pool is started again when it has ended, and of no use to anybody.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded")) || has_restarted(pod)
}
