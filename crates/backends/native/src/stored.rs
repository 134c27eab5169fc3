//! Images of the store, as the roots of places.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use agentkernel_core::{BootError, Image, Provision, Pull, Spec};
use agentkernel_images::{self as images, Images, ImagesError, Porter, PorterError};

/// The image that a spec names, held; none if it names none.
pub fn open(spec: &Spec) -> Result<Option<images::Image>, BootError> {
    let Some(name) = spec.image.reference() else { return Ok(None) };
    let found = Images::of_caller().and_then(|images| images.open(name)).map_err(refused)?;
    found.map(Some).ok_or_else(|| missing(name))
}

/// A spec's image by its content, if it is there, and whether it is a module.
pub fn pin(name: &str) -> Result<Option<(String, bool)>, BootError> {
    let found = Images::of_caller().and_then(|images| images.open(name)).map_err(refused)?;
    Ok(found.map(|image| {
        let tagged = name.split_once('@').map_or(name, |(tagged, _)| tagged);
        (format!("{tagged}@{}", image.record().manifest), image.module().is_some())
    }))
}

/// See [`Backend::provide`](agentkernel_core::Backend::provide).
pub fn provide(
    name: &str,
    platform: Option<&str>,
    provision: &Provision,
    porter: Option<&dyn Porter>,
) -> Result<(), BootError> {
    let images = Images::of_caller().map_err(refused)?;
    let brought = match (porter, &provision.build) {
        (Some(porter), Some(folder)) => porter.build(&images, folder, name, provision.pull),
        _ if provision.pull != Pull::Always && pin(name)?.is_some() => return Ok(()),
        (Some(porter), None) if provision.pull != Pull::Never => {
            porter.pull(&images, name, platform, &provision.registries)
        }
        _ => return Err(missing(name)),
    };
    brought.map(drop).map_err(|PorterError { why, fix }| BootError::Refused { why, fix })
}

fn missing(name: &str) -> BootError {
    BootError::Refused {
        why: format!("the image {name} is not here, and is not to be pulled"),
        fix: format!("pull it once with agentkernel image pull {name}, or allow --pull missing"),
    }
}

/// The store's errors in the words of the edge.
pub fn refused(error: ImagesError) -> BootError {
    BootError::Refused { why: error.to_string(), fix: error.hint() }
}

/// Directories that an overlay shows as one, the lowest first, each in the form of an upper one of
/// the others.
pub struct Trees<'a>(pub &'a [PathBuf]);

impl Trees<'_> {
    /// The mode that a directory of all of them together has; that of one which is made if it is not
    /// there, and none if it is something else.
    pub fn mode(&self, name: &str) -> Option<u32> {
        for tree in self.0.iter().rev() {
            let Ok(found) = tree.join(name).symlink_metadata() else { continue };
            let is_whiteout = found.file_type().is_char_device() && found.rdev() == 0;
            return match found.is_dir() {
                true => Some(found.mode() & 0o7777),
                false => is_whiteout.then_some(NEW),
            };
        }
        Some(NEW)
    }
}

/// The mode of directories that are made.
const NEW: u32 = 0o755;

/// The directories of a spec's image, the lowest first.
pub fn trees(spec: &Spec) -> Vec<PathBuf> {
    match &spec.image {
        Image::Rootfs(root) => vec![root.clone()],
        // One that is gone has no layers any more.
        Image::Reference(_) => {
            open(spec).ok().flatten().map_or(Vec::new(), |image| image.layers().into())
        }
        Image::Host | Image::Module(_) => Vec::new(),
    }
}
