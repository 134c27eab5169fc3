//! What a place that was kept ready lacks to be one of a certain spec.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_core::{
    Access, Attachment, BootError, Identity, Image, Module, Mount, Pristine, Spec, User, c_string,
};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::mount::{self, Detached};
use agentkernel_sys::process::{self, Namespaces};

use crate::identity::Mapping;
use crate::root::{Owners, Sent, accounts, no_copy_of_a_file};
use crate::users::Users;
use crate::{apart, explain, outside};

/// The part of `spec` that a place is made of before it is known for what.
pub fn part(spec: &Spec) -> Spec {
    Spec {
        // The code comes with the command.
        image: match &spec.image {
            Image::Module(_) => Image::Module(Module::Any),
            other => other.clone(),
        },
        mounts: Vec::new(),
        user: match Mapping::for_caller() {
            Mapping::Many => User::Unprivileged,
            // It has no other numbers to become.
            Mapping::Single { .. } => spec.user.clone(),
        },
        ..spec.without_command()
    }
}

/// Whether a place made from the part needs more to be one of `spec`.
pub fn lacks(spec: &Spec) -> bool {
    !spec.mounts.is_empty() || part(spec).user != spec.user
}

/// Adds what it lacks to a place.
pub fn attach(spec: &Spec, place: &mut dyn Pristine) -> Result<(), BootError> {
    let mapping = Mapping::for_caller();
    let identity = Users::find(spec)?.identity(&spec.user)?;
    if part(spec).user != spec.user {
        let other = user(spec, &identity)?;
        place.add(other, None).map_err(not_added("another user"))?;
    }
    for mount in &spec.mounts {
        let tree = match mapping {
            Mapping::Many => {
                let path = c_string(mount.source.as_os_str().as_encoded_bytes())?;
                let sent = Sent { path, owners: Owners::User };
                outside::open_tree(mapping, &identity, None, &sent)
                    .map_err(|error| explain::no_tree(&sent, error))?
                    .into()
            }
            Mapping::Single { .. } => {
                let namespace = place.user_namespace().map_err(not_added("a mount"))?;
                open_inside(mount, namespace.as_fd())?
            }
        };
        place.add(attachment(spec, mount)?, Some(tree)).map_err(not_added("a mount"))?;
    }
    Ok(())
}

fn not_added(what: &str) -> impl FnOnce(io::Error) -> BootError {
    let what = format!("can't add {what} to the sandbox");
    move |source| BootError::Failed { what, source }
}

fn attachment(spec: &Spec, mount: &Mount) -> Result<Attachment, BootError> {
    let directory = mount.source.is_dir();
    if mount.access == Access::CopyOnWrite && !directory {
        return Err(no_copy_of_a_file(&mount.source));
    }
    let target = mount.target.strip_prefix("/").unwrap_or(&mount.target);
    Ok(Attachment::Mount {
        target: c_string(target.as_os_str().as_encoded_bytes())?,
        access: mount.access,
        directory,
        make_place: !mount.lies_in_another(&spec.mounts),
    })
}

fn user(spec: &Spec, identity: &Identity) -> Result<Attachment, BootError> {
    let (passwd, group) = match spec.image {
        Image::Host | Image::Module(_) => accounts(identity),
        Image::Rootfs(_) | Image::Reference(_) => Default::default(),
    };
    Ok(Attachment::User {
        uid: identity.uid,
        gid: identity.gid,
        home: c_string(identity.home.trim_matches('/'))?,
        passwd: c_string(passwd)?,
        group: c_string(group)?,
    })
}

/// Opens a mount's source as an ordinary user can who owns the place: by a process that is in the
/// place's user namespace and sees the host's files.
fn open_inside(mount: &Mount, namespace: BorrowedFd<'_>) -> Result<OwnedFd, BootError> {
    let path = c_string(mount.source.as_os_str().as_encoded_bytes())?;
    let open = || {
        process::join_user_namespace(namespace)?;
        process::unshare(Namespaces::MOUNT)?;
        mount::make_private()?;
        let here = descriptor::current_directory();
        Detached::copy(descriptor::resolve(here, &path, Links::Refuse)?.as_fd(), true)
    };
    apart::open(Namespaces::NONE, open)
        .map_err(|error| explain::at_path(&mount.source.to_string_lossy(), error))
}
