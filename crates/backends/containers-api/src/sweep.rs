//! What is left of killed makers' containers, and removed.

use std::collections::HashMap;
use std::path::PathBuf;

use agentkernel_containers::{Product, is_orphans, sweep_folders};
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};

use crate::client::{Client, status, words};
use crate::config::{LABEL, seal};

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

    /// The names of the caller's containers that do not run. Whoever has only copied a label is not
    /// among them.
    fn resting(&self) -> Result<Vec<String>, String> {
        let states = ["created", "exited", "dead"].map(Into::into).into();
        let label = vec![LABEL.to_owned()];
        let filters = HashMap::from([("label".to_owned(), label), ("status".to_owned(), states)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options));
        let listed = self.runtime.block_on(listed).map_err(|error| words(&error))?;
        let named = listed.into_iter().filter_map(|container| {
            let name = container.names?.first()?.trim_start_matches('/').to_owned();
            Some((name, container.labels?))
        });
        let ours = named.filter(|(name, labels)| labels.get(LABEL) == Some(&seal(name)));
        Ok(ours.map(|(name, _)| name).collect())
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

/// Removes the containers and folders of killed makers.
pub fn sweep(product: &'static Product) -> Vec<PathBuf> {
    let mut removed = sweep_folders();
    // Only an engine that is in use can have any.
    let Ok(client) = Client::connect(product) else { return removed };
    let ours = client.resting().unwrap_or_default();
    let orphans = ours.into_iter().filter(|name| is_orphans(name));
    removed.extend(orphans.filter(|name| client.remove(name).is_ok()).map(PathBuf::from));
    if client.is_far() {
        removed.extend(client.sweep_agents().into_iter().map(PathBuf::from));
    }
    removed
}
