//! From a job to an allocation that runs, by blocking queries.

use agentkernel_core::BootError;
use serde_json::Value;

use crate::client::{Answer, Client, REGISTER, WATCH, quoted};
use crate::error::ApiError;
use crate::explain;
use crate::job::TASK;
use crate::words::{Allocation, Evaluation, Registered};

/// Registers a job, and waits until its task runs.
pub async fn run(
    client: &mut Client,
    job: &Value,
    id: &str,
    image: &str,
) -> Result<Allocation, BootError> {
    let registered: Answer<Registered> =
        client.put("/v1/jobs", job, REGISTER).await.map_err(ApiError::into_boot_error)?;
    await_placement(client, &registered.body.evaluation).await?;
    await_task(client, id, image).await
}

/// Waits until a job is placed, or not.
async fn await_placement(client: &mut Client, evaluation: &str) -> Result<(), BootError> {
    let path = format!("/v1/evaluation/{}", quoted(evaluation));
    // The servers may not all know of it yet; one that does not waits until it does.
    let mut index = 0;
    loop {
        let found: Answer<Evaluation> =
            client.next(&path, index, WATCH).await.map_err(ApiError::into_boot_error)?;
        if let Some(error) = explain::evaluation(&found.body) {
            return Err(error);
        }
        if found.body.status == "complete" {
            return Ok(());
        }
        index = found.index.max(1);
    }
}

/// Waits until the task of a job runs, or has ended.
async fn await_task(client: &mut Client, id: &str, image: &str) -> Result<Allocation, BootError> {
    let path = format!("/v1/job/{}/allocations", quoted(id));
    let mut index = 0;
    loop {
        let found: Answer<Vec<Allocation>> =
            client.next(&path, index, WATCH).await.map_err(ApiError::into_boot_error)?;
        index = found.index.max(1);
        let Some(allocation) = found.body.into_iter().next() else { continue };
        if let Some(error) = explain::allocation(&allocation, image) {
            return Err(error);
        }
        if allocation.task_states.get(TASK).is_some_and(|state| state.state == "running") {
            return Ok(allocation);
        }
    }
}

/// The allocation of a job that was made before.
pub async fn find(client: &mut Client, id: &str, image: &str) -> Result<Allocation, BootError> {
    let path = format!("/v1/job/{}/allocations", quoted(id));
    let found: Answer<Vec<Allocation>> =
        client.get(&path, &[], WATCH).await.map_err(ApiError::into_boot_error)?;
    let lost = |why: String| BootError::Refused {
        why: format!("what was written in the sandbox is lost: {why}"),
        fix: "remove the sandbox, and make another".into(),
    };
    let allocation = found.body.into_iter().next();
    let allocation = allocation.ok_or_else(|| lost(format!("Nomad has no job {id} any more")))?;
    match allocation.is_over() {
        true => Err(lost(match explain::allocation(&allocation, image) {
            Some(error) => error.to_string(),
            None => "its allocation has ended".into(),
        })),
        false => Ok(allocation),
    }
}

/// Waits until nothing of an allocation runs any more, or nobody knows of it.
pub async fn await_end(client: &mut Client, allocation: &str) -> Result<(), ApiError> {
    let path = format!("/v1/allocation/{}", quoted(allocation));
    let mut index = 0;
    loop {
        let found: Answer<Allocation> = match client.next(&path, index, WATCH).await {
            Err(error) if error.is_absence() => return Ok(()),
            found => found?,
        };
        if ["complete", "failed", "lost"].contains(&found.body.client_status.as_str()) {
            return Ok(());
        }
        index = found.index.max(1);
    }
}
