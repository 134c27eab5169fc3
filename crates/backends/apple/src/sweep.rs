//! What is left of killed makers' containers, and removed; and containers of ours by their name.

use std::path::PathBuf;

use agentkernel_containers::is_orphans;

use crate::config::{LABEL, seal};
use crate::tool::{self, ToolError};
use crate::words::Container;

/// All containers that the caller has made. Whoever has only copied a label is not among them.
fn ours() -> Result<Vec<Container>, ToolError> {
    let all = tool::ask_for::<Vec<Container>>(&["list", "--all", "--format", "json"])?;
    Ok(all.into_iter().filter(is_ours).collect())
}

fn is_ours(container: &Container) -> bool {
    container.configuration.labels.get(LABEL) == Some(&seal(&container.id))
}

/// The caller's container of this name.
pub fn find(name: &str) -> Result<Option<Container>, ToolError> {
    Ok(ours()?.into_iter().find(|one| one.id == name))
}

/// Removes a container, whatever it does.
pub fn remove(name: &str) -> Result<(), ToolError> {
    match tool::ask(&["delete", "--force", name], tool::WORK) {
        Err(error) if error.is_absence() => Ok(()),
        done => done.map(drop),
    }
}

/// Removes the containers and folders of killed makers.
pub fn sweep() -> Vec<PathBuf> {
    // Only where the tool is in use can there be any.
    let ours = ours().unwrap_or_default();
    let orphans = ours.into_iter().map(|one| one.id).filter(|name| is_orphans(name));
    orphans.filter(|name| remove(name).is_ok()).map(PathBuf::from).collect()
}
