//! What is left of killed makers' containers, and removed; and containers of ours by their name.

use agentkernel_core::hex;
use std::path::PathBuf;

use agentkernel_containers::is_orphans;
use sha2::{Digest, Sha256};

use crate::tool::{self, ToolError};
use crate::words::Container;

/// The label of our containers, whose value is their [seal].
pub const LABEL: &str = "agentkernel";

/// What a container of this name and the caller's must be labelled with to be known as ours. One that
/// somebody else has made with a label of ours copied has another name, or none of our seals.
pub fn seal(name: &str) -> String {
    let uid = agentkernel_sys::identity::effective().0;
    hex(&Sha256::digest(format!("agentkernel {uid} {name}")))
}

/// All containers that the caller has made. Whoever has only copied a label is not among them.
fn ours() -> Result<Vec<Container>, ToolError> {
    let all = tool::ask_for::<Vec<Container>>(&["list", "--all", "--format", "json"])?;
    Ok(all.into_iter().filter(is_ours).collect())
}

/// Whether it is the caller's.
pub fn is_ours(container: &Container) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_of_one_name_and_one_user() {
        assert_ne!(seal("a"), seal("b"));
        // A value with an equals sign would be no label.
        assert!(seal("a").bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
