//! What is kept for sandboxes that live: a container each, and an image for one that begins with the
//! files of another.

use std::io;

use agentkernel_containers::Product;
use agentkernel_core::{BootError, DestroyError};
use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptions, KillContainerOptions, RemoveImageOptions, RemoveImageOptionsBuilder,
    TagImageOptions,
};

use crate::client::{Client, failed, status, words};
use crate::door;

/// The name of all our images, whose tags are the names of sandboxes and snapshots.
const REPOSITORY: &str = "localhost/agentkernel-kept";

/// What a container is called that keeps what is written in the sandbox `name`.
pub fn container(name: &str) -> String {
    format!("agentkernel-{name}")
}

/// The image with which the sandbox `name` begins, if it does not with that of its spec.
pub fn image(name: &str) -> String {
    format!("{REPOSITORY}:{name}")
}

/// Keeps a copy of what is kept as `from` as `to`: its container's files, or what it is to begin
/// with if it never ran. There is nothing to copy if it would begin with its spec's image.
pub fn copy(product: &'static Product, from: &str, to: &str) -> Result<(), BootError> {
    let client = Client::connect(product)?;
    let not_copied = |why: String| BootError::Failed {
        what: format!("{} can't copy the sandbox's files", product.title),
        source: io::Error::other(why),
    };
    let source = container(from);
    if client.is_ours(&source).map_err(not_copied)? {
        let options = CommitContainerOptions {
            container: Some(source),
            repo: Some(REPOSITORY.into()),
            tag: Some(to.into()),
            // Whoever copies holds everything inside already, and not every engine can.
            pause: false,
            ..Default::default()
        };
        let committed = client.docker.commit_container(options, ContainerConfig::default());
        return match client.runtime.block_on(committed) {
            Ok(_) => Ok(()),
            Err(error) => Err(not_copied(words(&error))),
        };
    }
    let options = TagImageOptions { repo: Some(REPOSITORY.into()), tag: Some(to.into()) };
    let source = image(from);
    match client.runtime.block_on(client.docker.tag_image(&source, Some(options))) {
        Err(error) if status(&error) != Some(404) => {
            Err(failed(format!("{} can't copy the sandbox's files", product.title), &error))
        }
        _ => Ok(()),
    }
}

/// Kills what runs in the container of what is kept as `name`.
pub fn kill(product: &'static Product, name: &str) -> Result<(), DestroyError> {
    let container = container(name);
    let left = |why: String| DestroyError {
        what: format!("the container {container}"),
        source: io::Error::other(why),
    };
    let client = Client::connect(product).map_err(|error| left(error.to_string()))?;
    let killed = client.docker.kill_container(&container, None::<KillContainerOptions>);
    match client.runtime.block_on(killed) {
        // It is gone, or does not run.
        Err(error) if !matches!(status(&error), Some(404 | 409)) => Err(left(words(&error))),
        _ => Ok(()),
    }
}

/// Removes what is kept as `name`, if there is anything. What only bears its name is somebody else's.
pub fn forget(product: &'static Product, name: &str) -> Result<(), DestroyError> {
    let container = container(name);
    let left = |why: String| DestroyError {
        what: format!("the container {container}"),
        source: io::Error::other(why),
    };
    door::forget(&container);
    let client = Client::connect(product).map_err(|error| left(error.to_string()))?;
    if client.is_ours(&container).map_err(left)? {
        // Podman may stumble over one whose end it has not put down yet. To wait for that first would
        // take a quarter of a second, which is how often it looks.
        let removed = client.remove(&container).or_else(|_| {
            client.await_rest(&container);
            client.remove(&container)
        });
        removed.map_err(left)?;
    }
    // The files stay for as long as they have another name, or a container.
    let options: RemoveImageOptions = RemoveImageOptionsBuilder::new().force(true).build();
    let image = image(name);
    let removed = client.docker.remove_image(&image, Some(options), None);
    match client.runtime.block_on(removed) {
        Err(error) if status(&error) != Some(404) => Err(DestroyError {
            what: format!("the image {image}"),
            source: io::Error::other(words(&error)),
        }),
        _ => Ok(()),
    }
}
