//! Pods that vanished makers have left.

use std::path::PathBuf;

use agentkernel_core::BootError;
use kube::api::{DeleteParams, ListParams};

use crate::client::{Client, runtime};
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
        let ended = ListParams::default()
            .labels(&format!("{MANAGED}={MANAGER},{KEPT_LABEL}=false"))
            .fields("status.phase!=Pending,status.phase!=Running");
        let found = client.pods().list(&ended).await;
        let found = found.map_err(|error| client.refusal("list", "pods", &error))?;
        let mut swept = Vec::new();
        for pod in found {
            let name = pod.metadata.name.unwrap_or_default();
            if client.pods().delete(&name, &DeleteParams::default()).await.is_ok() {
                swept.push(PathBuf::from(name));
            }
        }
        Ok(swept)
    })
}
