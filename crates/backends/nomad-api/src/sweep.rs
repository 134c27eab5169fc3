//! What killed makers have left.

use std::path::PathBuf;

use agentkernel_containers::is_orphans;

use crate::bridge::remove;
use crate::client::{Client, LIST, WATCH, quoted};
use crate::error::ApiError;
use crate::job::{BOOT, KEEPS, MAKER, OWNER};
use crate::owner::{self, PREFIX};
use crate::settings::Settings;
use crate::words::{JobMeta, JobStub};

/// Removes the jobs of this user's on this machine whose bridges live no more, but for those that keep a
/// sandbox's files.
pub fn sweep() -> Vec<PathBuf> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), Ok(settings)) = (runtime, Settings::find()) else { return Vec::new() };
    let mut client = Client::new(settings);
    // Only where there is a cluster can there be any.
    let orphans = runtime.block_on(orphans(&mut client)).unwrap_or_default();
    let removed =
        orphans.into_iter().filter(|id| runtime.block_on(remove(&mut client, id)).is_ok());
    removed.map(PathBuf::from).collect()
}

async fn orphans(client: &mut Client) -> Result<Vec<String>, ApiError> {
    let all: Vec<JobStub> = client.get("/v1/jobs", &[("prefix", PREFIX)], LIST).await?.body;
    let (own, boot) = (agentkernel_far::owner(), owner::boot());
    let mut orphans = Vec::new();
    for JobStub { id } in all {
        let path = format!("/v1/job/{}", quoted(&id));
        // It may have been removed meanwhile.
        let Ok(job) = client.get::<JobMeta>(&path, &[], WATCH).await else { continue };
        let meta = job.body.meta;
        let is = |name, value: &str| meta.get(name).is_some_and(|found| found == value);
        let is_ended = !is(BOOT, &boot) || meta.get(MAKER).is_some_and(|maker| is_orphans(maker));
        if is(OWNER, &own) && is_ended && !meta.contains_key(KEEPS) {
            orphans.push(id);
        }
    }
    Ok(orphans)
}
