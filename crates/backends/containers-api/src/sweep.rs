//! What is left of killed makers' containers, and removed.

use std::collections::HashMap;
use std::path::PathBuf;

use agentkernel_containers::{Product, is_orphans, sweep_folders};
use bollard::errors::Error;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use tokio::time::timeout;

use crate::client::{Client, DEATH, status, words};
use crate::config::{FOLDER, LABEL, seal};
use crate::host;

impl Client {
    /// Whether there is a container of this name that the caller has made.
    pub fn is_ours(&self, name: &str) -> Result<bool, String> {
        let label = format!("{LABEL}={}", seal(name));
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        match self.runtime.block_on(self.docker.list_containers(Some(options))) {
            Ok(found) => Ok(!found.is_empty()),
            // Podman has states that the client does not know, and an empty list has none.
            Err(Error::JsonDataError { .. }) => Ok(true),
            Err(error) => Err(words(&error)),
        }
    }

    /// The caller's containers that do not run. Whoever has only copied a label is not among them.
    async fn resting(&self) -> Result<Vec<Resting>, Error> {
        let states = ["created", "exited", "dead"].map(Into::into).into();
        let label = vec![LABEL.to_owned()];
        let filters = HashMap::from([("label".to_owned(), label), ("status".to_owned(), states)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await?;
        let named = listed.into_iter().filter_map(|container| {
            let name = container.names?.first()?.trim_start_matches('/').to_owned();
            let mut labels = container.labels?;
            let never_ran = container.state == Some(ContainerSummaryStateEnum::CREATED);
            let folder = labels.remove(FOLDER).filter(|_| never_ran).map(PathBuf::from);
            (labels.get(LABEL) == Some(&seal(&name))).then_some(Resting { name, folder })
        });
        Ok(named.collect())
    }

    /// Removes what killed makers have left. An engine that is stuck, as with a container that it can't
    /// start, is not waited for: what is left is there the next time.
    fn sweep_containers(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let resting = timeout(DEATH, self.resting()).await;
            let mut removed = Vec::new();
            for Resting { name, .. } in
                resting.into_iter().flatten().flatten().filter(Resting::is_orphan)
            {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                match timeout(DEATH, self.docker.remove_container(&name, Some(options))).await {
                    Ok(Ok(())) => removed.push(name),
                    Ok(Err(_)) => {}
                    Err(_) => break,
                }
            }
            removed
        })
    }

    /// Removes a container, whatever it does.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.runtime.block_on(self.docker.remove_container(name, Some(options))) {
            Ok(()) => Ok(()),
            // It is gone, or somebody else is at it.
            Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(words(&error)),
        }
    }
}

/// A container that does not run.
struct Resting {
    name: String,
    /// Of one that never ran: the folder of its sandbox.
    folder: Option<PathBuf>,
}

impl Resting {
    /// Whether nobody will ever start it. An engine may make one for a maker that was killed when its
    /// sandbox has been removed already; there is nothing in it then.
    fn is_orphan(&self) -> bool {
        is_orphans(&self.name) || self.folder.as_ref().is_some_and(|folder| !folder.exists())
    }
}

/// Removes the containers and folders of killed makers.
pub fn sweep(product: &'static Product) -> Vec<PathBuf> {
    let mut removed = sweep_folders();
    // Only an engine that is in use can have any.
    if !host::is_in_use(product) {
        return removed;
    }
    let Ok(client) = Client::connect(product) else { return removed };
    removed.extend(client.sweep_containers().into_iter().map(PathBuf::from));
    if client.is_far() {
        removed.extend(client.sweep_agents().into_iter().map(PathBuf::from));
    }
    removed
}
