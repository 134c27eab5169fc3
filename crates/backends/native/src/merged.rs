//! The directories of an image as one, for whoever looks at it from outside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use agentkernel_core::BootError;
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity as ids;
use agentkernel_sys::mount::{self, Detached};
use agentkernel_sys::process::Namespaces;

use crate::apart;
use crate::identity::{Mapping, one};
use crate::root;

/// A mount of these directories over each other, the lowest first, with the owners that they have
/// outside. It is in no namespace, so that nobody else sees it, and goes with its descriptor.
pub fn merge(trees: &[PathBuf]) -> Result<OwnedFd, BootError> {
    let steps = root::merging(trees)?;
    let mapping = Mapping::for_caller();
    let namespaces = match mapping {
        Mapping::Many => Namespaces::MOUNT,
        Mapping::Single { .. } => Namespaces::USER.and(Namespaces::MOUNT),
    };
    let open = || {
        if let Mapping::Single { uid, gid } = mapping {
            ids::map_ids(c"self", one(0, uid), one(0, gid), true)?;
        }
        mount::make_private()?;
        let mut none = || Err(io::ErrorKind::NotConnected.into());
        steps.iter().try_for_each(|step| step.execute(&mut none))?;
        let here = descriptor::current_directory();
        Detached::copy(descriptor::resolve(here, c"root", Links::Refuse)?.as_fd(), false)
    };
    apart::open(namespaces, open).map_err(|source| BootError::Failed {
        what: "can't lay the image's layers over each other".into(),
        source,
    })
}
