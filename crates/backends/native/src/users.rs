//! Who commands are, by what their image says of its users.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use agentkernel_core::{
    BootError, Command, Identity, Image, ImageFacts, Process, Spec, User, c_string,
    identity_in_image, process_in_image,
};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity::effective;

use crate::identity;

/// The users of an image.
pub enum Users {
    /// Made up here: root, agent, nobody and the caller. What the image says of commands, if it is a
    /// module of the store's.
    Made(ImageFacts),
    /// Those of its own lists, in a directory that says nothing else of commands.
    Listed { passwd: String, group: String },
    /// Those of an image of the store, which says more.
    Stored(ImageFacts),
}

impl Users {
    /// Those of a spec's image, which is `image` if it is one of the store's.
    pub fn of(spec: &Spec, image: Option<&agentkernel_images::Image>) -> Result<Self, BootError> {
        match (&spec.image, image) {
            (Image::Rootfs(dir), _) => {
                let path = c_string(dir.as_os_str().as_bytes())?;
                let root =
                    descriptor::resolve(descriptor::current_directory(), &path, Links::Refuse);
                let root = root.map_err(|source| BootError::Failed {
                    what: format!("can't open the image {}", dir.display()),
                    source,
                })?;
                let list = |name| identity::read_list(root.as_fd(), name);
                Ok(Self::Listed { passwd: list(c"etc/passwd"), group: list(c"etc/group") })
            }
            (Image::Reference(_), Some(image)) => Ok(Self::Stored(image.record().facts())),
            (_, Some(image)) => {
                let mut facts = image.record().facts();
                // The program is the module, by another name.
                facts.entrypoint.drain(..facts.entrypoint.len().min(1));
                Ok(Self::Made(facts))
            }
            (_, None) => Ok(Self::Made(ImageFacts::default())),
        }
    }

    /// Those of a spec's image, which is looked up.
    pub fn find(spec: &Spec) -> Result<Self, BootError> {
        Self::of(spec, agentkernel_images::open_for(spec)?.as_ref())
    }

    /// The image's lists, in the forms of `/etc/passwd` and `/etc/group`.
    pub fn lists(&self) -> (&str, &str) {
        match self {
            Self::Made(_) => ("", ""),
            Self::Listed { passwd, group } => (passwd, group),
            Self::Stored(facts) => (&facts.passwd, &facts.group),
        }
    }

    /// Who `user` is among them.
    pub fn identity(&self, user: &User) -> Result<Identity, BootError> {
        match self {
            Self::Made(_) => identity::for_host(user),
            Self::Listed { passwd, .. } => Identity::in_image(user, passwd, effective()),
            Self::Stored(facts) => identity_in_image(user, facts, effective()),
        }
    }

    /// What has to be started for `command` in a place made from `spec`.
    pub fn process(&self, spec: &Spec, command: &Command) -> Result<Process, BootError> {
        if let Self::Stored(facts) = self {
            return process_in_image(spec, command, facts, effective());
        }
        let own = self.identity(&spec.user)?;
        let asked = command.user.as_ref().map(|user| self.identity(user)).transpose()?;
        // The place was made for another user, and need not have this one's home.
        let stranger = asked.as_ref().is_some_and(|asked| *asked != own);
        let identity = asked.unwrap_or(own);
        let start = if stranger { "/" } else { &identity.home };
        match (&spec.image, self) {
            (Image::Module(_), Self::Made(facts)) => {
                Process::of_module(spec, command, &identity, facts, start)
            }
            _ => Process::new(spec, command, &identity, &[], start),
        }
    }
}
