//! Images of the store, as the roots of places.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use agentkernel_core::{BootError, Image, Provision, Pull, Spec, c_string};
use agentkernel_images::{self as images, Images, ImagesError, Porter, PorterError};
use agentkernel_sys::descriptor;

/// The image that a spec names, held; none if its root is another one.
pub fn open(spec: &Spec) -> Result<Option<images::Image>, BootError> {
    let Image::Reference(name) = &spec.image else { return Ok(None) };
    let found = Images::of_caller().and_then(|images| images.open(name)).map_err(refused)?;
    found.map(Some).ok_or_else(|| missing(name))
}

/// Names a spec's image by its content, if it is there.
pub fn pin(name: &str) -> Result<Option<String>, BootError> {
    let images = Images::of_caller().map_err(refused)?;
    let manifest = images.resolve(name).map_err(refused)?;
    let Some(manifest) = manifest else { return Ok(None) };
    let tagged = name.split_once('@').map_or(name, |(tagged, _)| tagged);
    Ok(Some(format!("{tagged}@{manifest}")))
}

/// See [`Backend::provide`](agentkernel_core::Backend::provide).
pub fn provide(
    name: &str,
    provision: &Provision,
    porter: Option<&dyn Porter>,
) -> Result<(), BootError> {
    let images = Images::of_caller().map_err(refused)?;
    let brought = match (porter, &provision.build) {
        (Some(porter), Some(folder)) => porter.build(&images, folder, name),
        _ if provision.pull != Pull::Always && pin(name)?.is_some() => return Ok(()),
        (Some(porter), None) if provision.pull != Pull::Never => porter.pull(&images, name, None),
        _ => return Err(missing(name)),
    };
    brought.map(drop).map_err(|PorterError { why, fix }| BootError::Refused { why, fix })
}

fn missing(name: &str) -> BootError {
    BootError::Refused {
        why: format!("there is no image {name}"),
        fix: format!("fetch it with agentkernel image pull {name}, or leave out --pull never"),
    }
}

/// The store's errors in the words of the edge.
pub fn refused(error: ImagesError) -> BootError {
    BootError::Refused { why: error.to_string(), fix: error.hint() }
}

/// Directories that an overlay shows as one, the lowest first, each in the form of an upper one of
/// the others.
pub struct Trees<'a>(pub &'a [PathBuf]);

/// What a name in a directory comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A link, which leads wherever it likes.
    Link,
    Other,
}

impl Trees<'_> {
    /// What `name` is in the directory `directory` of all of them together; none if it is not there.
    pub fn find(&self, directory: &str, name: &str) -> Option<Entry> {
        for tree in self.0.iter().rev() {
            let directory = tree.join(directory);
            let Ok(found) = directory.symlink_metadata() else { continue };
            if !found.is_dir() {
                // Nothing, or nothing that is told of here: it is a link or a file.
                return None;
            }
            if let Ok(entry) = directory.join(name).symlink_metadata() {
                let kind = entry.file_type();
                let is_whiteout = kind.is_char_device() && entry.rdev() == 0;
                return match is_whiteout {
                    true => None,
                    false if kind.is_symlink() => Some(Entry::Link),
                    false => Some(Entry::Other),
                };
            }
            if is_opaque(&directory) {
                return None;
            }
        }
        None
    }

    /// Whether something may be made in that directory.
    pub fn may_write(&self, directory: &str) -> bool {
        let mut trees = self.0.iter().rev().map(|tree| tree.join(directory));
        trees.find(|path| path.is_dir()).is_none_or(|path| descriptor::may_write(&path).is_ok())
    }
}

/// Whether nothing that lies under a directory of a layer shows.
fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    let path = c_string(directory.as_os_str().as_bytes());
    path.is_ok_and(|path| {
        rustix::fs::lgetxattr(&*path, c"user.overlay.opaque", &mut value[..]) == Ok(1)
            && value == *b"y"
    })
}

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
